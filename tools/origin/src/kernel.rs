//! What the kernel alone sees: connections that never reach the application.
//!
//! A half-open check (SYN, SYN-ACK, RST) is ended before anybody can accept
//! it, so no origin's log has it. The kernel counts it, for the whole network
//! namespace and without a packet filter in the way: take the difference of
//! two readings, in a namespace where nothing else talks.

use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The kernel's TCP counters of this thread's network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KernelCounts {
    /// Connections that were asked for from here (`Tcp ActiveOpens`): SYNs,
    /// without repeated ones.
    pub asked: u64,
    /// Connections that were asked for here and completed (`Tcp PassiveOpens`).
    pub completed: u64,
    /// Connections that were asked for here, answered, and then reset before
    /// they were complete (`TcpExt EmbryonicRsts`): half-open checks.
    pub half_open: u64,
    /// Connections from here that were refused or reset before they were
    /// complete, and the half-open ones (`Tcp AttemptFails`).
    pub failed: u64,
    /// Segments sent again, among them repeated SYNs (`Tcp RetransSegs`).
    pub repeated: u64,
}

impl KernelCounts {
    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// If `/proc` is not there, or holds something else than a kernel's counters.
    pub fn read() -> io::Result<Self> {
        let snmp = fs::read_to_string("/proc/thread-self/net/snmp")?;
        let netstat = fs::read_to_string("/proc/thread-self/net/netstat")?;
        Self::parse(&snmp, &netstat).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "/proc/thread-self/net does not list the TCP counters; is this Linux's /proc?",
            )
        })
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            asked: self.asked.wrapping_sub(earlier.asked),
            completed: self.completed.wrapping_sub(earlier.completed),
            half_open: self.half_open.wrapping_sub(earlier.half_open),
            failed: self.failed.wrapping_sub(earlier.failed),
            repeated: self.repeated.wrapping_sub(earlier.repeated),
        }
    }

    /// Connections that listeners here answered, whatever became of them: the
    /// checks that arrived.
    #[must_use]
    pub const fn answered(self) -> u64 {
        self.completed + self.half_open
    }

    fn parse(snmp: &str, netstat: &str) -> Option<Self> {
        Some(Self {
            asked: field(snmp, "Tcp:", "ActiveOpens")?,
            completed: field(snmp, "Tcp:", "PassiveOpens")?,
            half_open: field(netstat, "TcpExt:", "EmbryonicRsts")?,
            failed: field(snmp, "Tcp:", "AttemptFails")?,
            repeated: field(snmp, "Tcp:", "RetransSegs")?,
        })
    }
}

/// Raises this process's limit of open files as far as it goes, and returns it.
///
/// # Errors
///
/// If the kernel will not tell or set the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// The value of `name`: each table is a line of names and a line of values.
fn field(text: &str, table: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(table));
    let names = lines.next()?.split_ascii_whitespace();
    let values = lines.next()?.split_ascii_whitespace();
    names
        .zip(values)
        .find(|(have, _)| *have == name)?
        .1
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_kernel_is_understood() {
        let earlier = KernelCounts::read().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let since = KernelCounts::read().unwrap().since(earlier);
        assert!(since.asked >= 1 && since.completed >= 1, "{since:?}");
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: Max ActiveOpens\nTcp: -1 7\n";
        assert_eq!(field(text, "Tcp:", "ActiveOpens"), Some(7));
        assert_eq!(field(text, "Tcp:", "Missing"), None);
    }
}
