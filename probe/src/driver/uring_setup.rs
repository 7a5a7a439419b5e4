//! Makes a ring that the io_uring driver can run on, or says in words why this
//! host has none.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use io_uring::{IoUring, Probe, opcode, squeue, types};

use super::socket::SocketOption;
use crate::error::UringError;

/// Entries of the submission queue. A batch that is larger is submitted in
/// parts.
pub(crate) const SUBMISSIONS: u32 = 4_096;

/// Completions that one slot can have outstanding at once: of a failed connect
/// and the look at it (or of one other operation), of its close, and of a
/// cancel that came too late. With [`COMPLETIONS_MAX`] not all slots can have
/// all of them at once; the kernel keeps what finds no room (`FEAT_NODROP`).
const COMPLETIONS_PER_SLOT: u32 = 3;

/// Completions beside those of the slots: the wake-up's.
const COMPLETIONS_BESIDE: u32 = 64;

/// Completions that the kernel holds at most.
const COMPLETIONS_MAX: u32 = 65_536;

const _: () = assert!(
    watchfire_probe_core::limits::SLOTS * COMPLETIONS_PER_SLOT + COMPLETIONS_BESIDE
        <= COMPLETIONS_MAX
);

/// A ring for `slots` connections, made on the calling thread, which alone may
/// use it.
pub(crate) fn ring(slots: u32) -> Result<IoUring, UringError> {
    let completions = (slots * COMPLETIONS_PER_SLOT + COMPLETIONS_BESIDE)
        .max(2 * SUBMISSIONS)
        .next_power_of_two();
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(SUBMISSIONS)
        .map_err(|cause| {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
            refused(cause, completions, sysctl.unwrap_or_default().trim())
        })?;
    for (present, name) in [
        (ring.params().is_feature_nodrop(), "IORING_FEAT_NODROP"),
        (
            ring.params().is_feature_ext_arg(),
            "waiting with a timeout (IORING_FEAT_EXT_ARG)",
        ),
        (
            ring.params().is_feature_skip_cqe_on_success(),
            "silent success (IORING_FEAT_CQE_SKIP)",
        ),
        (
            ring.params().is_feature_linked_file(),
            "linked files (IORING_FEAT_LINKED_FILE)",
        ),
    ] {
        if !present {
            return Err(UringError::TooOld(name));
        }
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|_| UringError::TooOld("the list of its operations"))?;
    for (code, name) in [
        (opcode::Socket::CODE, "IORING_OP_SOCKET"),
        (opcode::Connect::CODE, "IORING_OP_CONNECT"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
        (opcode::Read::CODE, "IORING_OP_READ"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::SetSockOpt::CODE, "IORING_OP_URING_CMD"),
    ] {
        if !probe.is_supported(code) {
            return Err(UringError::TooOld(name));
        }
    }
    ring.submitter()
        .register_files_sparse(slots)
        .map_err(|cause| match cause.raw_os_error() {
            Some(libc::EMFILE) => UringError::Files { slots, cause },
            Some(libc::ENOMEM) => UringError::Memory {
                entries: slots,
                cause,
            },
            _ => UringError::Setup {
                step: "making room for direct descriptors",
                cause,
            },
        })?;
    Ok(ring)
}

/// Whether sources can be bound through the ring.
pub(crate) fn can_bind(ring: &IoUring) -> bool {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).is_ok() && probe.is_supported(opcode::Bind::CODE)
}

/// Sets an option on a socket through the ring: a command that the list of
/// operations does not tell apart.
pub(crate) fn try_socket_option(ring: &mut IoUring) -> Result<(), UringError> {
    let setup = |step, cause| UringError::Setup { step, cause };
    // SAFETY: `socket` takes no pointer; its result is checked before use.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(setup("making a socket", io::Error::last_os_error()));
    }
    // SAFETY: the descriptor was just made and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let option = SocketOption::reset_on_close();
    let (value, length) = option.value();
    let (level, name) = (option.level as u32, option.name as u32);
    let entry: squeue::Entry =
        opcode::SetSockOpt::new(types::Fd(socket.as_raw_fd()), level, name, value, length).build();
    // SAFETY: `option` and `socket` outlive the operation, whose end is waited
    // for below; a failed wait leaves nothing queued, as the ring is dropped.
    unsafe { ring.submission().push(&entry) }.map_err(|_| {
        setup(
            "queueing an operation",
            io::Error::from_raw_os_error(libc::EBUSY),
        )
    })?;
    ring.submit_and_wait(1)
        .map_err(|cause| setup("entering the ring", cause))?;
    match ring.completion().next().map(|entry| entry.result()) {
        Some(result) if result >= 0 => Ok(()),
        _ => Err(UringError::TooOld(
            "socket options (SOCKET_URING_OP_SETSOCKOPT)",
        )),
    }
}

/// Why `io_uring_setup` was refused, in words, where the sysctl
/// `kernel.io_uring_disabled` reads so.
fn refused(cause: io::Error, entries: u32, sysctl: &str) -> UringError {
    match cause.raw_os_error() {
        Some(libc::ENOSYS) => UringError::Missing,
        Some(libc::EINVAL) => UringError::TooOld("DEFER_TASKRUN (Linux 6.1)"),
        Some(libc::ENOMEM) => UringError::Memory { entries, cause },
        Some(libc::EPERM | libc::EACCES) => match sysctl {
            "2" => UringError::Disabled,
            "1" => UringError::DisabledUnprivileged,
            _ => UringError::Forbidden(cause),
        },
        _ => UringError::Setup {
            step: "io_uring_setup",
            cause,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_cause_and_the_way_out() {
        let words =
            |errno, sysctl| refused(io::Error::from_raw_os_error(errno), 64, sysctl).to_string();
        for (errno, sysctl, cause, way_out) in [
            (
                libc::EPERM,
                "2",
                "kernel.io_uring_disabled is 2",
                "set it to 0",
            ),
            (
                libc::EPERM,
                "1",
                "kernel.io_uring_disabled is 1",
                "add the group",
            ),
            (libc::EPERM, "0", "seccomp", "allow io_uring_setup"),
            (libc::EACCES, "", "seccomp", "allow io_uring_setup"),
            (libc::ENOSYS, "", "no io_uring", "Linux 6.7 or newer"),
            (
                libc::EINVAL,
                "0",
                "lacks DEFER_TASKRUN",
                "Linux 6.7 or newer",
            ),
            (libc::ENOMEM, "0", "no memory", "ulimit -l"),
            (
                libc::EMFILE,
                "0",
                "io_uring_setup failed",
                "Too many open files",
            ),
        ] {
            let words = words(errno, sysctl);
            assert!(words.contains(cause) && words.contains(way_out), "{words}");
        }
    }
}
