//! What only this host can tell of a configuration: `run` refuses it before it
//! makes anything, and `config check` by the same words.
//!
//! Every socket that is made here is closed here. What another process may hold
//! at the moment (a port, the table) is no mistake of the configuration.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nix::sched::sched_getaffinity;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, Gid, Group, Pid, eaccess, geteuid, getgroups};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::{AgentConfig, ConfigError};
use crate::control::api::Token;

/// Longest path of a socket that the kernel takes, bytes.
const SOCKET_PATH_BYTES: usize = 107;

/// All that keeps this agent from running here.
pub(crate) fn errors(agent: &AgentConfig) -> Vec<ConfigError> {
    let error = |what: String, hint: String| ConfigError::of_file(&agent.file, what, hint);
    let mut errors = Vec::new();
    let mut complain = |found: Option<(String, String)>| {
        errors.extend(found.map(|(what, hint)| error(what, hint)));
    };
    complain(not_here("gossip.bind", agent.gossip.bind));
    let listens = [
        ("metrics.listen", agent.metrics_listen),
        ("agent_check.listen", agent.agent_check_listen),
        (
            "admin.listen",
            agent.admin_tcp.as_ref().map(|tcp| tcp.listen),
        ),
    ];
    for (key, listen) in listens {
        complain(listen.and_then(|addr| not_here(key, addr)));
    }
    for ip in &agent.probe.source_addrs {
        complain(not_here("probe.source_addresses", (*ip, 0).into()));
    }
    complain(agent.probe.mark.and_then(no_mark));
    complain(agent.probe.pin_cores.as_deref().and_then(no_core));
    complain(no_backend(agent));
    complain(no_tmpfs(&agent.table.path));
    complain(no_group("table.group", agent.table.group.as_deref()));
    if agent.admin_group != agent.table.group {
        complain(no_group("admin.group", agent.admin_group.as_deref()));
    }
    complain(agent.events.as_ref().and_then(|it| no_events(&it.file)));
    complain(no_socket(&agent.admin_socket));
    let token = agent
        .admin_tcp
        .as_ref()
        .map(|tcp| Token::read(&tcp.token_file));
    errors.extend(token.and_then(Result::err));
    errors
}

/// Whether the kernel lets nobody listen on the address.
fn not_here(key: &str, addr: SocketAddr) -> Option<(String, String)> {
    let ip = addr.ip();
    let source = bind_any_port(ip).err()?;
    let what = format!("{key}: this host cannot use {ip}: {source}");
    let hint = if source.kind() == io::ErrorKind::AddrNotAvailable {
        "choose one of the addresses that `ip address` shows".to_owned()
    } else {
        "choose another address".to_owned()
    };
    Some((what, hint))
}

fn bind_any_port(ip: IpAddr) -> io::Result<()> {
    let addr = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
    socket.bind(&SockAddr::from(addr))
}

fn no_mark(mark: u32) -> Option<(String, String)> {
    let set = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|s| s.set_mark(mark));
    let source = set.err()?;
    Some((
        format!("probe.mark = {mark}: this user may not mark packets: {source}"),
        "give the agent CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN), or leave \
         probe.mark out"
            .into(),
    ))
}

fn no_core(cores: &[usize]) -> Option<(String, String)> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let may = |core: &&usize| !allowed.is_set(**core).unwrap_or(false);
    let core = cores.iter().find(may)?;
    Some((
        format!("probe.pin_cores: this process may not run on core {core}"),
        "name cores that `nproc --all` and `taskset -p $$` show".into(),
    ))
}

fn no_backend(agent: &AgentConfig) -> Option<(String, String)> {
    let error = watchfire_probe::Prober::try_backend(&agent.probe).err()?;
    Some((
        format!("probe.backend: {error}"),
        "write backend = \"auto\" to fall back on epoll".into(),
    ))
}

/// A table that is not in memory would make its readers wait for a disk.
fn no_tmpfs(table: &Path) -> Option<(String, String)> {
    let folder = table.ancestors().skip(1).find(|folder| folder.exists())?;
    let found = statfs(folder).ok()?;
    if found.filesystem_type() == TMPFS_MAGIC {
        return None;
    }
    Some((
        format!("table.path: {} is not on a tmpfs", table.display()),
        "choose a path on one, like /run/watchfire/table".into(),
    ))
}

fn no_group(key: &str, name: Option<&str>) -> Option<(String, String)> {
    let name = name?;
    let Ok(Some(group)) = Group::from_name(name) else {
        return Some((
            format!("{key}: there is no group \"{name}\" on this host"),
            "name one of /etc/group, or leave it out".into(),
        ));
    };
    let is_root = geteuid().is_root();
    let is_own = Gid::effective() == group.gid;
    if is_root || is_own || getgroups().is_ok_and(|own| own.contains(&group.gid)) {
        return None;
    }
    Some((
        format!("{key}: the agent's user is not a member of \"{name}\""),
        format!("add it (systemd: SupplementaryGroups={name}), or name a group that it is in"),
    ))
}

/// Events wait in memory for a file that cannot be written: better to know before.
fn no_events(file: &Path) -> Option<(String, String)> {
    let source = if file.exists() {
        std::fs::File::options().append(true).open(file).err()
    } else {
        let folder = file.ancestors().skip(1).find(|folder| folder.exists())?;
        if folder.is_dir() {
            let may = AccessFlags::W_OK | AccessFlags::X_OK;
            eaccess(folder, may).err().map(Into::into)
        } else {
            Some(io::ErrorKind::NotADirectory.into())
        }
    };
    Some((
        format!(
            "events.file: {} cannot be written: {}",
            file.display(),
            source?
        ),
        "choose a file in a folder that the agent's user may write, like \
         /var/log/watchfire/events.jsonl"
            .into(),
    ))
}

fn no_socket(path: &Path) -> Option<(String, String)> {
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES {
        return Some((
            format!(
                "admin.socket: its path has {bytes} bytes, a socket's at most {SOCKET_PATH_BYTES}"
            ),
            "choose a shorter path, like /run/watchfire/admin.sock".into(),
        ));
    }
    let meta = std::fs::symlink_metadata(path).ok()?;
    use std::os::unix::fs::FileTypeExt as _;
    if meta.file_type().is_socket() {
        return None;
    }
    Some((
        format!("admin.socket: {} is there and is no socket", path.display()),
        "choose another path; whose file that is, nobody knows here".into(),
    ))
}
