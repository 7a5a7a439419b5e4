//! HAProxy as the prober: its CPU time from `/proc`, its checks as the kernel
//! and the farm counted them.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use watchfire_origin::KernelCounts;

use super::farm::FarmProcess;
use super::{Kind, Run};

/// A running HAProxy; it ends with this value.
pub(super) struct HaProxy {
    child: Child,
    _folder: tempfile::TempDir,
}

impl HaProxy {
    /// Starts one thread of it on the calling thread's core, with a check of
    /// every origin of the farm, `rate_per_s` in all.
    pub(super) fn start(
        kind: Kind,
        farm: &FarmProcess,
        origins: u32,
        rate_per_s: u32,
    ) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("haproxy.cfg");
        let stats = folder.path().join("stats");
        let interval_ms = u64::from(origins) * 1_000 / u64::from(rate_per_s);
        let mut config = format!(
            "global\n nbthread 1\n no strict-limits\n spread-checks 20\n \
             stats socket {}\ndefaults\n mode tcp\n timeout connect 5s\n timeout server 5s\n \
             timeout client 5s\n timeout check 2s\nbackend farm\n",
            stats.display()
        );
        if kind == Kind::Http {
            config.push_str(" option httpchk GET /health\n");
        }
        for origin in 0..origins {
            let address = farm.address(origin);
            writeln!(
                config,
                " server s{origin} {address} check inter {interval_ms}ms"
            )?;
        }
        fs::write(&path, config)?;
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-q")
            .arg("-f")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start haproxy ({error}); install Debian's package"))?;
        Ok(Self {
            child,
            _folder: folder,
        })
    }

    /// Watches it for `window`.
    pub(super) fn watch(
        &mut self,
        kind: Kind,
        farm: &mut FarmProcess,
        window: Duration,
    ) -> Result<Run, Box<dyn Error>> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("haproxy ended at once: {status}").into());
        }
        let cpu_before = self.cpu_us()?;
        let (kernel_before, requests_before) = (KernelCounts::read()?, farm.requests()?);
        let began = Instant::now();
        std::thread::sleep(window);
        let cpu_us = self.cpu_us()? - cpu_before;
        let kernel = KernelCounts::read()?.since(kernel_before);
        let requests = farm.requests()? - requests_before;
        let wall_us = began.elapsed().as_micros() as u64;
        let probes = match kind {
            Kind::Tcp => kernel.answered(),
            Kind::Http => requests,
        };
        Ok(Run {
            probes,
            failed: 0,
            cpu_us,
            wall_us,
            instructions: None,
        })
    }

    /// CPU time of all of its threads so far: nanoseconds, unlike the ticks in
    /// `stat`.
    fn cpu_us(&self) -> Result<u64, Box<dyn Error>> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let mut sum_ns = 0;
        for task in fs::read_dir(tasks)? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text
                .split_ascii_whitespace()
                .next()
                .ok_or("an empty schedstat")?;
            sum_ns += on_cpu.parse::<u64>()?;
        }
        Ok(sum_ns / 1_000)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
