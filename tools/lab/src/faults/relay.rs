//! A relay on the agents' wires: delays, repeats and reorders gossip datagrams,
//! and remembers some of them for replays.
//!
//! Datagrams are routed through a TUN device in the hub, whose other end socat
//! turns into datagrams of a socket here. Needs no kernel module that shapes
//! traffic, and nothing of the agents knows of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::canary;
use crate::clock::{self, SECOND, Us};
use crate::net::{self, GOSSIP_PORT, Net};
use crate::packets::RELAY;
use crate::shell;

/// The relay's priority among real-time threads: what it adds to a delay should
/// not depend on what else runs.
const PRIORITY: &str = "7";

/// Longest packet on the wires.
const PACKET_BYTES: usize = 2_048;

/// Packets that are held at once; more are lost, as in any router.
const HELD: usize = 50_000;

/// Packets that are remembered for replays.
const REMEMBERED: usize = 2_000;

/// Longest wait for a packet.
const IDLE: Duration = Duration::from_millis(50);

/// What the relay does to a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// Added to every datagram's way.
    pub(crate) delay: Duration,
    /// Up to so much more, at random: it reorders.
    pub(crate) jitter: Duration,
    /// So many of a hundred go out twice.
    pub(crate) repeat_percent: f64,
}

/// A relay that runs, until dropped.
pub(crate) struct Relay {
    manner: Arc<Mutex<Manner>>,
    shared: Arc<Shared>,
    socat: Child,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the run share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    relayed: AtomicU64,
    lost: AtomicU64,
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Relay {
    /// Puts the relay on all wires of layout "apart".
    pub(crate) fn start(net: &Net, dir: &Path, manner: Manner, seed: u64) -> Result<Self> {
        let (own, other) = (dir.join("relay.sock"), dir.join("tun.sock"));
        let socket = UnixDatagram::bind(&own).context("cannot bind the relay's socket")?;
        let mut command = net::inside(&net.hub());
        let tun = format!("TUN,tun-name={RELAY},iff-no-pi,iff-up");
        let peer = format!("UNIX-SENDTO:{},bind={}", own.display(), other.display());
        command.args(["chrt", "-f", PRIORITY, "socat", "-b", "2048", &tun, &peer]);
        let socat = command
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("socat.log"))?)
            .spawn()
            .context("cannot start socat: install the package socat")?;
        let mut relay = Self {
            manner: Arc::new(Mutex::new(manner)),
            shared: Arc::default(),
            socat,
            thread: None,
        };
        relay.wait_for(&other)?;
        let (manner, shared) = (relay.manner.clone(), relay.shared.clone());
        relay.thread = Some(thread::spawn(move || {
            carry(&socket, &other, &manner, &shared, seed);
        }));
        route(net)?;
        Ok(relay)
    }

    fn wait_for(&mut self, path: &Path) -> Result<()> {
        let until = clock::now() + 5 * SECOND;
        while !path.exists() {
            if clock::now() > until || self.socat.try_wait()?.is_some() {
                bail!("socat made no TUN device: is /dev/net/tun there?");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Changes what it does.
    pub(crate) fn set(&self, manner: Manner) {
        *self.manner.lock().expect("the relay does not panic") = manner;
    }

    /// Datagrams that were seen some time ago: whole IP packets.
    pub(crate) fn remembered(&self) -> Vec<Vec<u8>> {
        let memory = self.shared.memory.lock();
        memory.expect("the relay does not panic").clone()
    }

    /// Datagrams carried and lost so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.relayed), count(&self.shared.lost))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
        // One that is gone already is as dead.
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

/// Sends gossip datagrams that come from an agent into the TUN device; what
/// comes out of it takes the ordinary way.
fn route(net: &Net) -> Result<()> {
    let hub = net.hub();
    let namespace = format!("--net=/run/netns/{hub}");
    let rules = format!(
        "table inet relay {{\nchain divert {{\ntype filter hook prerouting priority -150; policy accept;\n\
         iifname != \"{RELAY}\" udp dport {GOSSIP_PORT} meta mark set 7\n}}\n}}\n"
    );
    shell::feed(&["nsenter", &namespace, "nft", "-f", "-"], &rules)?;
    net::batch(
        &hub,
        &format!("rule add fwmark 7 lookup 100\nroute add default dev {RELAY} table 100\n"),
    )
}

/// A packet that waits: when it is due, its number (for order), its bytes.
type Held = Reverse<(Us, u64, Vec<u8>)>;

fn carry(socket: &UnixDatagram, other: &Path, manner: &Mutex<Manner>, shared: &Shared, seed: u64) {
    canary::hurry(PRIORITY);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut held: BinaryHeap<Held> = BinaryHeap::new();
    let mut buffer = vec![0; PACKET_BYTES];
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let now = clock::now();
        while held.peek().is_some_and(|Reverse((due, _, _))| *due <= now) {
            if let Some(Reverse((_, _, packet))) = held.pop() {
                // A full socket loses it, as a router's queue would.
                let sent = socket.send_to(&packet, other);
                let counter = if sent.is_ok() {
                    &shared.relayed
                } else {
                    &shared.lost
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        let pause = held.peek().map_or(IDLE, |Reverse((due, _, _))| {
            Duration::from_micros(due.saturating_sub(clock::now()).max(50)).min(IDLE)
        });
        if socket.set_read_timeout(Some(pause)).is_err() {
            return;
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            continue;
        };
        let packet = &buffer[..length];
        remember(shared, packet, &mut rng);
        let manner = *manner.lock().expect("no holder panics");
        let twice = rng.random_range(0.0..100.0) < manner.repeat_percent;
        for _ in 0..=u32::from(twice) {
            if held.len() >= HELD {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let jitter = rng.random_range(0..=clock::us(manner.jitter));
            number += 1;
            let due = clock::now() + clock::us(manner.delay) + jitter;
            held.push(Reverse((due, number, packet.to_vec())));
        }
    }
}

/// Keeps a sample of what went by.
fn remember(shared: &Shared, packet: &[u8], rng: &mut ChaCha8Rng) {
    let mut memory = shared.memory.lock().expect("no holder panics");
    if memory.len() < REMEMBERED {
        memory.push(packet.to_vec());
    } else if rng.random_range(0..20) == 0 {
        let place = rng.random_range(0..REMEMBERED);
        memory[place] = packet.to_vec();
    }
}
