//! What the service manager is told: that the agent is ready, that it ends, and,
//! while the gossip thread and every probe thread turn, that it is alive.
//!
//! It is systemd's protocol: one datagram to the socket that `NOTIFY_SOCKET`
//! names. Without one nobody is told.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::config::AgentConfig;
use crate::gossip::command::CommandSender;

/// How often it is looked whether the agent is ready.
const READY_LOOK: Duration = Duration::from_millis(100);

/// The gossip thread answers within this or does not turn; the next question is
/// another chance.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// A probe thread that has not looked at its clock for so long does not turn. It
/// looks several times a second, and a processor that others have does not take
/// that long.
const BEAT_AGE: Duration = Duration::from_secs(15);

/// Times that the watchdog is fed within its patience.
const FEEDS: u32 = 6;

/// The service manager's ear.
#[derive(Debug)]
pub(super) struct Supervisor {
    socket: UnixDatagram,
    to: SocketAddr,
    /// How long it waits for a sign of life.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that started us, if it wants to know.
    pub(super) fn from_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        let number = |key| std::env::var(key).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|us| *us > 0 && ours);
        Self::new(&name, watchdog.map(Duration::from_micros))
            .inspect_err(|error| tracing::warn!(%error, "cannot reach the service manager"))
            .ok()
    }

    fn new(name: &OsString, watchdog: Option<Duration>) -> io::Result<Self> {
        let to = match name.as_bytes().split_first() {
            Some((b'@', rest)) => SocketAddr::from_abstract_name(rest)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            to,
            watchdog,
        })
    }

    fn tell(&self, state: &str) {
        // It looks again, or gives up on us: nothing here mends that.
        let _ = self.socket.send_to_addr(state.as_bytes(), &self.to);
    }

    /// The agent hands over and ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the agent is ready when the origins are in the table and the POP
    /// was joined, or waited for as long as the agent itself waits.
    pub(super) async fn watch_over(&self, gossip: &CommandSender, config: &AgentConfig) {
        let started = Instant::now();
        let expects_peers = expects_peers(config);
        loop {
            // The origins were sent before this question, and the answer comes
            // after them.
            let Some(status) = gossip.status().await else {
                return;
            };
            let alive = status.members.iter().filter(|one| one.state == "alive");
            if alive.count() > 1 || !expects_peers || started.elapsed() >= config.join_patience {
                break;
            }
            sleep(READY_LOOK).await;
        }
        self.tell("READY=1");
        tracing::info!("ready");
        let Some(watchdog) = self.watchdog else {
            return;
        };
        loop {
            sleep(watchdog / FEEDS).await;
            match timeout(TURN_PATIENCE, gossip.oldest_beat()).await {
                Ok(Some(age)) if age < BEAT_AGE => self.tell("WATCHDOG=1"),
                Ok(Some(age)) => tracing::error!(?age, "a probe thread does not turn"),
                Ok(None) => return,
                Err(_) => tracing::error!("the gossip thread does not turn"),
            }
        }
    }
}

fn expects_peers(config: &AgentConfig) -> bool {
    let own = config.gossip.advertise;
    config.gossip.join.iter().any(|seed| *seed != own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_socket_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("watchfire-test-{}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(&name).unwrap();
        for (ear, name) in [
            (UnixDatagram::bind(&path), path.into_os_string()),
            (UnixDatagram::bind_addr(&hidden), format!("@{name}").into()),
        ] {
            let ear = ear.unwrap();
            Supervisor::new(&name, None).unwrap().stopping();
            let mut heard = [0; 32];
            let count = ear.recv(&mut heard).unwrap();
            assert_eq!(&heard[..count], b"STOPPING=1");
        }
    }
}
