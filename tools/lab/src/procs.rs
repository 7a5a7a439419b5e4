//! What processes cost: CPU by thread, memory, descriptors, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// What one process used and holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// CPU since its start by kind of thread, nanoseconds.
    pub(crate) cpu_ns: BTreeMap<String, u64>,
    /// Resident memory, bytes.
    pub(crate) rss_bytes: u64,
    /// Of it anonymous: what a leak would be in.
    pub(crate) heap_bytes: u64,
    /// Open descriptors.
    pub(crate) files: usize,
    /// Threads.
    pub(crate) threads: usize,
}

impl Usage {
    /// Looks at a process; nothing if it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let cpu_ns = cpu(pid)?;
        let threads = kilobytes(&status, "Threads:")? as usize;
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self {
            cpu_ns,
            rss_bytes: kilobytes(&status, "VmRSS:")? * 1024,
            heap_bytes: kilobytes(&status, "RssAnon:")? * 1024,
            files,
            threads,
        })
    }

    /// CPU of all threads since its start, nanoseconds.
    pub(crate) fn cpu_total_ns(&self) -> u64 {
        self.cpu_ns.values().sum()
    }
}

/// CPU by kind of thread, nanoseconds.
fn cpu(pid: u32) -> Option<BTreeMap<String, u64>> {
    let mut by_kind = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let Ok(path) = task.map(|task| task.path()) else {
            continue;
        };
        // A thread that ends meanwhile takes its time with it.
        let Ok(name) = fs::read_to_string(path.join("comm")) else {
            continue;
        };
        let Ok(ran) = fs::read_to_string(path.join("schedstat")) else {
            continue;
        };
        *by_kind.entry(kind(name.trim()).to_owned()).or_insert(0) += ran_ns(&ran);
    }
    Some(by_kind)
}

/// CPU of a whole process so far, nanoseconds: cheaper than [`Usage::of`].
pub(crate) fn cpu_ns(pid: u32) -> Option<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let ran = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        total += ran_ns(&ran);
    }
    Some(total)
}

/// CPU of the calling thread so far, nanoseconds.
pub(crate) fn own_thread_ns() -> u64 {
    let ran = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    ran_ns(&ran)
}

/// CPU of this process so far, nanoseconds.
pub(crate) fn own_ns() -> u64 {
    cpu_ns(std::process::id()).unwrap_or(0)
}

/// What a thread is for, by its name.
fn kind(name: &str) -> &str {
    match name {
        "gossip" => "gossip",
        _ if name.starts_with("probe-") => "probe",
        _ if name.starts_with("tracing") => "log",
        _ => "control",
    }
}

fn ran_ns(schedstat: &str) -> u64 {
    let first = schedstat.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(ran_ns("123456 77 3\n"), 123_456);
        assert_eq!(
            kilobytes("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"),
            Some(2048)
        );
        assert_eq!(kind("probe-0"), "probe");
        assert_eq!(kind("watchfire"), "control");
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let own = Usage::of(std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.files > 0 && own.threads > 0);
    }
}
