//! A network namespace of our own: nobody else's packets are counted, and the
//! machine's settings stay as they are.

use std::fs;
use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;

/// Moves the calling thread, and all that it will start, into a fresh network
/// namespace with a loopback device and room for backlogs. False if that is
/// not permitted; the host's namespace is then measured in.
pub(super) fn enter() -> io::Result<bool> {
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        return Ok(false);
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    if !up.success() {
        return Err(io::Error::other(
            "cannot bring the loopback device up (ip link set lo up)",
        ));
    }
    // The same for everybody who is measured: a backlog that no burst fills,
    // and a range of ports that many addresses share.
    fs::write("/proc/sys/net/core/somaxconn", "65535")?;
    fs::write("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535")?;
    fs::write("/proc/sys/net/ipv4/tcp_syncookies", "0")?;
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")?;
    Ok(true)
}

/// Ties the calling thread to a core.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores)?;
    Ok(())
}

/// How many cores there are to use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
