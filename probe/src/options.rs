//! How a prober is set up.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;
use std::path::PathBuf;

use watchfire_probe_core::limits::SLOTS;

/// How to start a [`Prober`](crate::Prober).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Probe threads, each with a ring or an epoll of its own; at least 1.
    pub threads: usize,
    /// Which driver to run on.
    pub backend: Backend,
    /// Cores to pin the threads to, in turn; none leaves them to the kernel.
    pub pin_cores: Option<Vec<usize>>,
    /// The User-Agent of HTTP checks.
    pub user_agent: String,
    /// Connections at once per thread, those kept open included; at most
    /// [`SLOTS`], and at most what the limit on open files allows. Due checks
    /// beyond it wait in the order in which they fell due.
    pub in_flight_max: u32,
    /// Addresses to probe from, by turns among those of the target's family;
    /// none lets the kernel choose.
    pub source_addrs: Vec<IpAddr>,
    /// Local ports to probe from, both ends included; the host's range if
    /// none.
    pub port_range: Option<(u16, u16)>,
    /// Mark of the probes' packets (`SO_MARK`, needs `CAP_NET_ADMIN`).
    pub mark: Option<u32>,
    /// Differentiated services code point of the probes' packets, 0 to 63.
    pub dscp: Option<u8>,
    /// Let the kernel give up on its own too (`TCP_SYNCNT`,
    /// `TCP_USER_TIMEOUT`), should this process ever fail to close a
    /// connection. Costs two socket options per connection.
    pub backstops: bool,
    /// Probes per second to one address, whatever is configured; none is no
    /// cap.
    pub rate_per_address: Option<u32>,
    /// Probes per second to one prefix; none is no cap.
    pub rate_per_prefix: Option<u32>,
    /// Length of such a prefix for IPv4, bits.
    pub prefix_len_v4: u8,
    /// Length of such a prefix for IPv6, bits.
    pub prefix_len_v6: u8,
    /// Certificates that HTTPS checks trust, as one file of PEM; the system's
    /// if none.
    pub tls_roots: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            backend: Backend::Auto,
            pin_cores: None,
            user_agent: concat!("watchfire/", env!("CARGO_PKG_VERSION")).to_owned(),
            in_flight_max: 8_192,
            source_addrs: Vec::new(),
            port_range: None,
            mark: None,
            dscp: None,
            backstops: false,
            rate_per_address: Some(1_000),
            rate_per_prefix: Some(10_000),
            prefix_len_v4: 24,
            prefix_len_v6: 48,
            tls_roots: None,
        }
    }
}

/// Which driver probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backend {
    /// io_uring where it works, epoll elsewhere.
    #[default]
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// epoll.
    Epoll,
}

impl Backend {
    /// As it is written in a configuration: `auto`, `io_uring` or `epoll`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a backend; write \"auto\", \"io_uring\" or \"epoll\"")]
pub struct UnknownBackend(String);

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::IoUring, Self::Epoll]
            .into_iter()
            .find(|backend| backend.as_str() == text)
            .ok_or_else(|| UnknownBackend(text.to_owned()))
    }
}

/// What is wrong with [`Options`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// No thread, or more than there can be.
    #[error("{0} probe threads; choose 1 to {THREADS_MAX}")]
    Threads(usize),
    /// No connection at all, or more than there can be.
    #[error("{0} connections in flight; choose 1 to {SLOTS}")]
    InFlight(u32),
    /// The range is empty or holds port 0.
    #[error("the port range {0}-{1} is empty; write the lower port first, from 1 on")]
    PortRange(u16, u16),
    /// Not six bits.
    #[error("DSCP {0} does not exist; choose 0 to 63")]
    Dscp(u8),
    /// A cap that would stop everything.
    #[error("a cap of 0 probes per second would measure nothing; leave it out for no cap")]
    RateZero,
    /// Longer than an address.
    #[error("a prefix of {0} bits is longer than the address")]
    PrefixLen(u8),
    /// An empty list of cores.
    #[error("the list of cores to pin to is empty; leave it out to pin to none")]
    NoCores,
}

/// Most probe threads. More are refused.
pub const THREADS_MAX: usize = 1_024;

impl Options {
    /// Whether the options make sense together.
    ///
    /// # Errors
    ///
    /// The first that does not, with what to do about it.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(OptionsError::Threads(self.threads));
        }
        if !(1..=SLOTS).contains(&self.in_flight_max) {
            return Err(OptionsError::InFlight(self.in_flight_max));
        }
        if let Some((low, high)) = self.port_range
            && (low == 0 || high < low)
        {
            return Err(OptionsError::PortRange(low, high));
        }
        if let Some(dscp) = self.dscp.filter(|&dscp| dscp > 63) {
            return Err(OptionsError::Dscp(dscp));
        }
        if self.rate_per_address == Some(0) || self.rate_per_prefix == Some(0) {
            return Err(OptionsError::RateZero);
        }
        if self.prefix_len_v4 > 32 {
            return Err(OptionsError::PrefixLen(self.prefix_len_v4));
        }
        if self.prefix_len_v6 > 128 {
            return Err(OptionsError::PrefixLen(self.prefix_len_v6));
        }
        if self.pin_cores.as_ref().is_some_and(Vec::is_empty) {
            return Err(OptionsError::NoCores);
        }
        Ok(())
    }
}
