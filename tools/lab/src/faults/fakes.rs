//! Wrong clocks: libfaketime, preloaded.
//!
//! Not by its wrapper program, which stays between the lab and the agent, so
//! that a kill would hit the wrapper only. The library keeps a file in shared
//! memory per process, which a killed process leaves behind; the processes are
//! noted, so that cleaning up finds them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::lab::ROOM;

/// Where the processes with wrong clocks are noted, in a run's folder.
const NOTES: &str = "wrong-clocks";

/// Words before a command that let it live at another time ("+2h"). Only the
/// wall clock is wrong: no machine's monotonic clock is.
pub(crate) fn environment(offset: &str) -> Result<Vec<String>> {
    let library = library().context("libfaketime is not there: install the package faketime")?;
    Ok(vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME={offset}"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ])
}

/// The library for programs with threads, in the folder of any architecture.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten();
    let files = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    files.into_iter().find(|file| file.is_file())
}

/// Notes a process with a wrong clock.
pub(crate) fn note(dir: &Path, pid: u32) -> Result<()> {
    let mut notes = File::options()
        .create(true)
        .append(true)
        .open(dir.join(NOTES))?;
    Ok(writeln!(notes, "{pid}")?)
}

/// Removes what the library keeps of the processes that were noted.
pub(crate) fn remove(dir: &Path) {
    let notes = fs::read_to_string(dir.join(NOTES)).unwrap_or_default();
    for pid in notes.lines() {
        for file in [
            format!("faketime_shm_{pid}"),
            format!("sem.faketime_sem_{pid}"),
        ] {
            // A process that ended by itself has removed its own.
            let _ = fs::remove_file(Path::new(ROOM).join(file));
        }
    }
}
