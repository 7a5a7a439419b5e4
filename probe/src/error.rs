//! Why a prober cannot start, and the way out.

use std::io;
use std::path::PathBuf;

use crate::options::OptionsError;

/// Why a prober did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The options contradict themselves.
    #[error("bad probe options: {0}")]
    Options(#[from] OptionsError),
    /// io_uring was asked for and does not work here.
    #[error("io_uring does not work here: {0}; or set probe.backend to \"epoll\" or \"auto\"")]
    IoUring(#[from] UringError),
    /// epoll does not work either.
    #[error("cannot set up epoll: {0}; raise the limit on open files (ulimit -n)")]
    Epoll(#[source] io::Error),
    /// A thread could not be started.
    #[error(
        "cannot start a probe thread: {0}; lower probe.threads or raise the limit on processes"
    )]
    Thread(#[source] io::Error),
    /// A thread could not be pinned.
    #[error(
        "cannot pin a probe thread to core {core}: {cause}; name cores that this process may use"
    )]
    Pin {
        /// Which core.
        core: usize,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// An eventfd could not be made.
    #[error("cannot make an eventfd: {0}; raise the limit on open files (ulimit -n)")]
    Wake(#[source] io::Error),
    /// The file of trusted certificates cannot be used.
    #[error(
        "cannot read trusted certificates from {path}: {cause}; name a file of PEM certificates"
    )]
    TlsRoots {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The cryptography refused its own defaults.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

/// Why io_uring does not work on this host, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum UringError {
    /// Switched off for everybody.
    #[error("the sysctl kernel.io_uring_disabled is 2; set it to 0")]
    Disabled,
    /// Switched off for those without privilege.
    #[error(
        "the sysctl kernel.io_uring_disabled is 1 and this process has no CAP_SYS_ADMIN and is not in kernel.io_uring_group; set it to 0, or add the group"
    )]
    DisabledUnprivileged,
    /// Refused though the sysctl allows it.
    #[error(
        "the kernel refuses io_uring_setup ({0}), most likely by the container's seccomp profile; allow io_uring_setup, io_uring_enter and io_uring_register in it"
    )]
    Forbidden(#[source] io::Error),
    /// There is no such system call.
    #[error(
        "the kernel has no io_uring, or the container's seccomp profile hides it (ENOSYS); allow it, or use Linux 6.7 or newer"
    )]
    Missing,
    /// It lacks something that the driver needs.
    #[error("this kernel's io_uring lacks {0}; use Linux 6.7 or newer")]
    TooOld(&'static str),
    /// No memory may be locked or had.
    #[error(
        "no memory for a ring of {entries} entries: {cause}; raise the limit on locked memory (ulimit -l), or lower probe.in_flight_max"
    )]
    Memory {
        /// Entries asked for.
        entries: u32,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Too few files may be open.
    #[error(
        "no room for {slots} connections: {cause}; raise the limit on open files (ulimit -n), or lower probe.in_flight_max"
    )]
    Files {
        /// Slots asked for.
        slots: u32,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A step of the set-up failed for a reason of its own.
    #[error("{step} failed: {cause}")]
    Setup {
        /// Which step.
        step: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
}
