//! Less of a processor for one agent: a quota of a cgroup (version 1, where the
//! CPU controller of this kernel is).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cleanup::CGROUPS;

/// The period over which a quota is counted, microseconds.
const PERIOD_US: u64 = 100_000;

/// The cgroups of a run.
pub(crate) struct Throttles {
    top: PathBuf,
}

impl Throttles {
    pub(super) fn new(id: &str) -> Self {
        Self {
            top: Path::new(CGROUPS).join(id),
        }
    }

    /// Gives a process so many percent of one core; 100 or more takes the limit
    /// away.
    pub(crate) fn set(&self, agent: usize, pid: u32, percent: f64) -> Result<()> {
        let group = self.top.join(format!("a{agent}"));
        fs::create_dir_all(&group).with_context(|| {
            format!(
                "cannot make {}: is cgroup v1's cpu controller mounted?",
                group.display()
            )
        })?;
        let quota = if percent >= 100.0 {
            "-1".to_owned()
        } else {
            ((percent / 100.0 * PERIOD_US as f64) as u64)
                .max(1_000)
                .to_string()
        };
        write(&group.join("cpu.cfs_period_us"), &PERIOD_US.to_string())?;
        write(&group.join("cpu.cfs_quota_us"), &quota)?;
        write(&group.join("cgroup.procs"), &pid.to_string())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}
