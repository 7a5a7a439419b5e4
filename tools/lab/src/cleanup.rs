//! Cleaning up, whatever happened.
//!
//! Every process of a run dies with the lab (`PR_SET_PDEATHSIG`). Namespaces,
//! cgroups, mounts and files do not, so a second process, the reaper, waits for
//! the end of the lab on a pipe and then removes what is left. It is in a
//! process group of its own: an interrupt from the keyboard does not reach it.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::faults::fakes;
use crate::lab::ROOM;
use crate::{net, shell};

/// The cgroup of throttled agents, under the CPU controller of cgroup v1.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup/cpu";

/// How long processes may take to be gone once they were killed.
const DYING: Duration = Duration::from_millis(200);

/// The process that cleans up after this one. Dropping it lets it begin.
pub(crate) struct Reaper(Child);

impl Reaper {
    /// Starts it for the run of this name.
    pub(crate) fn start(id: &str) -> Result<Self> {
        // Not by its path: another build may lie there by now.
        let child = Command::new("/proc/self/exe")
            .args(["reap", id])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start the process that cleans up")?;
        Ok(Self(child))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It says itself what it could not do.
        let _ = self.0.wait();
    }
}

/// What the reaper does: waits for the end of its standard input, which is the
/// end of the lab, and removes everything of the run.
pub(crate) fn reap(id: &str) {
    let mut nothing = Vec::new();
    // An error is an end as well.
    let _ = std::io::stdin().read_to_end(&mut nothing);
    thread::sleep(DYING);
    remove(id);
}

/// Removes everything of a run.
pub(crate) fn remove(id: &str) {
    remove_cgroups(id);
    net::Net::remove(id);
    let dir = Path::new(ROOM).join(id);
    for mount in mounts_under(&dir) {
        let mount = mount.display().to_string();
        if let Err(error) = shell::run(&["umount", "-l", &mount]) {
            eprintln!("cannot unmount {mount}: {error:#}");
        }
    }
    fakes::remove(&dir);
    if dir.exists()
        && let Err(error) = fs::remove_dir_all(&dir)
    {
        eprintln!("cannot remove {}: {error}", dir.display());
    }
}

/// Runs of labs that are no more, as far as anything of them is left.
pub(crate) fn left_over() -> Vec<String> {
    let files = fs::read_dir(ROOM).into_iter().flatten().flatten();
    let files = files.filter_map(|entry| entry.file_name().into_string().ok());
    let spaces = net::all_names().into_iter();
    let mut ids: Vec<String> = files
        .chain(spaces)
        .filter_map(|name| Some(name.split('-').next()?.to_owned()))
        .filter(|id| lab_of(id).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
        .collect();
    ids.sort();
    ids.dedup();
    ids
}

/// The process id of the lab that made a run of this name.
fn lab_of(id: &str) -> Option<u32> {
    let (pid, run) = id.strip_prefix(net::PREFIX)?.split_once('x')?;
    run.parse::<usize>().ok()?;
    pid.parse().ok()
}

fn remove_cgroups(id: &str) {
    let top = Path::new(CGROUPS).join(id);
    let inner = fs::read_dir(&top).into_iter().flatten().flatten();
    for group in inner.filter(|entry| entry.path().is_dir()) {
        // A group whose processes are not gone yet stays; `clean` finds it.
        let _ = fs::remove_dir(group.path());
    }
    let _ = fs::remove_dir(top);
}

fn mounts_under(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    places
        .map(PathBuf::from)
        .filter(|place| place.starts_with(dir))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_its_lab() {
        assert_eq!(lab_of("wflab123x4"), Some(123));
        assert_eq!(lab_of("wflabel"), None);
        assert_eq!(lab_of("other123x4"), None);
    }
}
