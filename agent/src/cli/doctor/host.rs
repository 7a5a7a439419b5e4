//! What this host gives an agent.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use watchfire_probe::{Backend, FILES_BESIDE, Options as ProbeOptions, Prober};

use super::Finding;
use crate::config::AgentConfig;
use crate::control::sources::Sources;
use crate::gossip::status::Status;

/// The first kernel with all that the io_uring driver asks for.
const URING_KERNEL: (u32, u32) = (6, 1);

/// Kernels before this count a ring's memory against the limit of locked memory.
const UNCOUNTED_KERNEL: (u32, u32) = (5, 12);

/// Locked memory that rings want there, bytes.
const RING_BYTES: u64 = 8 << 20;

/// What stands before a datagram: an IPv6 header and UDP's.
const HEADERS_BYTES: u32 = 48;

/// Free memory on the table's filesystem below which it may not move, bytes.
const TABLE_ROOM_BYTES: u64 = 32 << 20;

/// Looks at all of it. `running` is what this host's agent says.
pub(super) fn look(config: Option<&Path>, running: Option<&Status>) -> Vec<Finding> {
    let release = read("/proc/sys/kernel/osrelease");
    let version = version(&release);
    let mut findings = vec![kernel(&release, version)];
    let Some(file) = config else {
        let probe = ProbeOptions::default();
        findings.extend([uring(&probe), files(&probe), memlock(version), clock()]);
        findings.push(Finding::advice(
            "configuration",
            "not looked at",
            "name the agent's file: watchfire doctor --config FILE",
        ));
        return findings;
    };
    match Sources::start(file, |_| None) {
        Ok((_, reading)) if reading.read.as_ref().is_none_or(|it| it.held.is_empty()) => {
            let names = reading.read.map_or(0, |it| it.origins.origins.names.len());
            findings.push(Finding::ok(
                "configuration",
                format!("{}: {names} origins", file.display()),
            ));
        }
        Ok((_, reading)) => {
            let held = reading.read.into_iter().flat_map(|read| read.held);
            let errors = held.flat_map(|held| held.errors);
            findings.extend(errors.map(|error| refused(&error.to_string())));
        }
        Err(errors) => {
            findings.extend(errors.0.iter().map(|error| refused(&error.to_string())));
        }
    }
    let agent = AgentConfig::load(file);
    let default = ProbeOptions::default();
    let probe = agent.as_ref().map_or(&default, |agent| &agent.probe);
    findings.extend([uring(probe), files(probe), memlock(version), clock()]);
    if let Ok(agent) = &agent {
        findings.push(table(&agent.table.path));
        findings.push(mtu(agent));
        findings.push(join(agent));
        if running.is_none() {
            findings.extend(ports(agent));
        }
    }
    findings
}

fn refused(error: &str) -> Finding {
    let (found, next) = error
        .split_once("help: ")
        .unwrap_or((error, "see `watchfire config check`"));
    Finding::wrong("configuration", found.trim_end(), next)
}

fn kernel(release: &str, version: (u32, u32)) -> Finding {
    if version >= URING_KERNEL {
        Finding::ok("kernel", release)
    } else {
        Finding::advice(
            "kernel",
            format!("{release} is too old for the io_uring driver"),
            "6.1 or later probes for less CPU time; epoll does the same work meanwhile",
        )
    }
}

fn uring(probe: &ProbeOptions) -> Finding {
    if probe.backend == Backend::Epoll {
        return Finding::ok("io_uring", "not asked for: probe.backend is epoll");
    }
    let wanted = ProbeOptions {
        backend: Backend::IoUring,
        ..probe.clone()
    };
    let Err(error) = Prober::try_backend(&wanted) else {
        return Finding::ok("io_uring", "works");
    };
    let next = match read("/proc/sys/kernel/io_uring_disabled").as_str() {
        "1" | "2" => "sysctl kernel.io_uring_disabled=0 allows it; epoll costs more CPU time",
        _ => "a container's seccomp profile may forbid it; epoll costs more CPU time",
    };
    let found = error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned();
    if probe.backend == Backend::IoUring {
        Finding::wrong("io_uring", found, "write backend = \"auto\", or allow it")
    } else {
        Finding::advice("io_uring", found, next)
    }
}

fn files(probe: &ProbeOptions) -> Finding {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Finding::advice("open files", "the limit cannot be read", "see `ulimit -Hn`");
    };
    let wanted = u64::from(probe.in_flight_max) * probe.threads as u64 + FILES_BESIDE;
    if hard >= wanted {
        return Finding::ok(
            "open files",
            format!("at most {hard}, of which {wanted} are wanted"),
        );
    }
    Finding::advice(
        "open files",
        format!("at most {hard}; so many probes in flight as configured want {wanted}"),
        "raise it (systemd: LimitNOFILE=), or lower probe.in_flight_max: with fewer, probes wait \
         for each other",
    )
}

fn memlock(version: (u32, u32)) -> Finding {
    if version >= UNCOUNTED_KERNEL {
        return Finding::ok(
            "locked memory",
            "this kernel does not count rings against it",
        );
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((_, hard)) if hard < RING_BYTES => Finding::advice(
            "locked memory",
            format!("at most {hard} bytes"),
            "raise it for io_uring (systemd: LimitMEMLOCK=8M)",
        ),
        _ => Finding::ok("locked memory", "enough"),
    }
}

fn clock() -> Finding {
    if watchfire_probe::is_synchronised() {
        return Finding::ok("clock", "synchronised, says the kernel");
    }
    Finding::advice(
        "clock",
        "the kernel says that nothing keeps it right",
        "run chrony or systemd-timesyncd: certificates, times of transitions and the end of \
         overrides go by it",
    )
}

fn table(path: &Path) -> Finding {
    // What is no tmpfs is refused with the configuration.
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    let Some(Ok(found)) = folder.map(statvfs) else {
        return Finding::wrong(
            "table",
            format!("nothing of {} is there", path.display()),
            "make its folder on a tmpfs, like /run/watchfire",
        );
    };
    let free = found
        .blocks_available()
        .saturating_mul(found.fragment_size());
    let found = format!("{}: {} MB are free there", path.display(), free >> 20);
    if free >= TABLE_ROOM_BYTES {
        return Finding::ok("table", found);
    }
    Finding::advice(
        "table",
        found,
        "make room: a table that grows is written anew beside the old",
    )
}

/// Whether datagrams of the configured size leave the gossip's interface whole.
fn mtu(agent: &AgentConfig) -> Finding {
    let needed = u32::try_from(agent.gossip.datagram_bytes).unwrap_or(u32::MAX) + HEADERS_BYTES;
    let Some((interface, mtu)) = interface(agent.gossip.advertise) else {
        return Finding::advice(
            "mtu",
            format!("no interface has {}", agent.gossip.advertise.ip()),
            "is gossip.advertise translated? see that the way carries whole datagrams",
        );
    };
    if mtu >= needed {
        return Finding::ok(
            "mtu",
            format!("{mtu} on {interface}, datagrams take {needed}"),
        );
    }
    Finding::wrong(
        "mtu",
        format!("{mtu} on {interface}, and datagrams of gossip take {needed}"),
        format!(
            "write datagram_bytes = {} in [gossip] on all members",
            mtu.saturating_sub(HEADERS_BYTES)
        ),
    )
}

/// The interface that has an address, and its MTU.
fn interface(addr: SocketAddr) -> Option<(String, u32)> {
    let has = |it: &nix::ifaddrs::InterfaceAddress| {
        let storage = it.address.as_ref()?;
        let v4 = storage.as_sockaddr_in().map(|it| it.ip().into());
        let ip = v4.or_else(|| storage.as_sockaddr_in6().map(|it| it.ip().into()));
        (ip == Some(addr.ip())).then(|| it.interface_name.clone())
    };
    // All of 127.0.0.0/8 is the loopback's.
    let local = addr.ip().is_loopback().then(|| "lo".to_owned());
    let name = getifaddrs().ok()?.find_map(|it| has(&it)).or(local)?;
    let mtu = read(&format!("/sys/class/net/{name}/mtu")).parse().ok()?;
    Some((name, mtu))
}

/// Whether there is anybody to join, and a way there. Nothing is sent.
fn join(agent: &AgentConfig) -> Finding {
    let gossip = &agent.gossip;
    let others: Vec<_> = gossip
        .join
        .iter()
        .filter(|it| **it != gossip.advertise)
        .collect();
    if others.is_empty() {
        return Finding::advice(
            "join",
            "gossip.join names nobody else",
            "name a few members, the same on all servers, or this agent probes alone",
        );
    }
    let no_way = others.iter().find_map(|seed| {
        let socket = UdpSocket::bind((gossip.bind.ip(), 0)).ok()?;
        Some((seed, socket.connect(seed).err()?))
    });
    match no_way {
        None => Finding::ok(
            "join",
            format!("{} others are named, with a way to each", others.len()),
        ),
        Some((seed, error)) => Finding::wrong(
            "join",
            format!("no way to {seed} from {}: {error}", gossip.bind.ip()),
            "see `ip route get` for it",
        ),
    }
}

/// Whether somebody else has a port that the agent would take.
fn ports(agent: &AgentConfig) -> Vec<Finding> {
    let udp = |addr| UdpSocket::bind(addr).map(drop);
    let tcp = |addr| TcpListener::bind(addr).map(drop);
    let gossip = agent.gossip.bind;
    let listens = [
        (
            "gossip.bind",
            "ss -ulnp",
            Some(udp(gossip).and_then(|()| tcp(gossip))),
            Some(gossip),
        ),
        (
            "metrics.listen",
            "ss -ltnp",
            agent.metrics_listen.map(tcp),
            agent.metrics_listen,
        ),
        (
            "agent_check.listen",
            "ss -ltnp",
            agent.agent_check_listen.map(tcp),
            agent.agent_check_listen,
        ),
    ];
    let all = listens.into_iter().filter_map(|(key, tool, bound, addr)| {
        let addr = addr?;
        Some(match bound? {
            Ok(()) => Finding::ok("port", format!("{key} {addr} is free")),
            Err(error) => Finding::wrong(
                "port",
                format!("{key}: {addr} cannot be had: {error}"),
                format!("find who has it with `{tool}`"),
            ),
        })
    });
    all.collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Major and minor of `6.1.0-13-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || parts.next().and_then(Result::ok).unwrap_or(0);
    (next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Weight;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.1.0-13-amd64"), (6, 1));
        assert_eq!(version("5.15"), (5, 15));
        assert_eq!(version(""), (0, 0));
        assert_eq!(kernel("6.12.3", version("6.12.3")).weight, Weight::Ok);
        assert_eq!(kernel("5.15", version("5.15")).weight, Weight::Advice);
    }

    #[test]
    fn the_loopback_has_an_mtu_for_all_its_addresses() {
        let (name, mtu) = interface("127.9.9.9:1".parse().unwrap()).unwrap();
        assert!(name == "lo" && mtu >= 1_280, "{name} {mtu}");
        assert_eq!(interface("192.0.2.1:1".parse().unwrap()), None);
    }

    #[test]
    fn an_error_is_split_into_what_and_what_next() {
        let finding = refused("a.toml:1: what\n  help: do that");
        assert_eq!(finding.found, "a.toml:1: what");
        assert_eq!(finding.next.as_deref(), Some("do that"));
    }
}
