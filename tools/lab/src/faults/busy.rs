//! Processes that do nothing but take processor time.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Busy loops, until dropped.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// Starts so many.
    pub(crate) fn start(loops: usize) -> Result<Self> {
        let mut busy = Self(Vec::new());
        for _ in 0..loops {
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .context("cannot start a busy loop: install the package util-linux")?;
            busy.0.push(child);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that is gone already is as idle.
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}
