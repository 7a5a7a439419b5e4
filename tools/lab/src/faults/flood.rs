//! Datagrams that agents must not heed: random bytes, frames of a key that the
//! POP does not have, and replays.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use watchfire_wire::frame::{self, FrameBuf, HEADER_BYTES, Seal};
use watchfire_wire::keys::{Key, KeyId};
use watchfire_wire::message::PROTOCOL;

use crate::clock::{self, SECOND};
use crate::net::{self, GOSSIP_PORT};
use crate::scenario::Flood;

/// Different datagrams that are sent in turn.
const KINDS: usize = 500;

/// Longest datagram of a flood, bytes.
const LONGEST: usize = 1_400;

/// Length of the headers before a datagram in an IP packet without options.
const IP_UDP_BYTES: usize = 28;

/// Length of a frame's nonce, bytes.
const NONCE_BYTES: usize = 24;

/// How often a batch is sent.
const BATCH: Duration = Duration::from_millis(10);

/// A flood: what is sent, from where, to whom, how much.
pub(crate) struct Plan<'a> {
    /// The namespace that it comes from.
    pub(crate) namespace: &'a str,
    /// The address that it comes from.
    pub(crate) from: Ipv4Addr,
    /// The agents it goes to.
    pub(crate) agents: Vec<usize>,
    /// Datagrams a second, over all agents.
    pub(crate) per_s: u64,
    /// For how long.
    pub(crate) length: Duration,
}

/// Datagrams of a kind. `seen` are whole IP packets that members sent.
pub(crate) fn datagrams(kind: Flood, seen: &[Vec<u8>], seed: u64) -> Vec<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut random = |least: usize| {
        let mut bytes = vec![0; rng.random_range(least..LONGEST)];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    match kind {
        Flood::Junk => (0..KINDS).map(|_| random(0)).collect(),
        Flood::Key => {
            let key = Key::from_bytes(&[0x5a; 32]);
            let sealed = |_| {
                let mut buffer = FrameBuf::copied(&random(HEADER_BYTES + NONCE_BYTES));
                let mut nonce = [0; NONCE_BYTES];
                nonce.copy_from_slice(&random(NONCE_BYTES)[..NONCE_BYTES]);
                frame::seal(&mut buffer, PROTOCOL, Seal::Keyed(KeyId(1), &key), &nonce);
                buffer.as_slice().to_vec()
            };
            (0..KINDS).map(sealed).collect()
        }
        Flood::Replay => seen
            .iter()
            .filter_map(|packet| packet.get(IP_UDP_BYTES..))
            .map(<[u8]>::to_vec)
            .collect(),
    }
}

/// Sends a flood. Returns how many datagrams went out.
pub(crate) fn send(plan: Plan<'_>, datagrams: Vec<Vec<u8>>) -> Result<thread::JoinHandle<u64>> {
    let namespace = File::open(Path::new("/run/netns").join(plan.namespace))?;
    let (from, agents) = (plan.from, plan.agents);
    let (per_s, length) = (plan.per_s, plan.length);
    let (tell, told) = std::sync::mpsc::channel();
    let thread = thread::spawn(move || {
        // The thread alone moves into the namespace, and ends there.
        let socket = setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(std::io::Error::from)
            .and_then(|()| UdpSocket::bind((from, 0)));
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                // Whoever asked waits for this answer.
                let _ = tell.send(Err(error));
                return 0;
            }
        };
        let _ = tell.send(Ok(()));
        let begun = clock::now();
        let mut sent: u64 = 0;
        while clock::now() < begun + clock::us(length) && !agents.is_empty() {
            let due = (clock::now() - begun) * per_s / SECOND;
            while sent < due {
                let datagram = &datagrams[sent as usize % datagrams.len().max(1)];
                let to = net::agent_address(agents[sent as usize % agents.len()]);
                // What the kernel does not take is not sent.
                let _ = socket.send_to(datagram, (to, GOSSIP_PORT));
                sent += 1;
            }
            thread::sleep(BATCH);
        }
        sent
    });
    told.recv()
        .context("the flood ended at once")?
        .context("cannot send from the spare address")?;
    Ok(thread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_what_was_seen_without_its_headers() {
        let mut packet = vec![0; IP_UDP_BYTES];
        packet.extend([1, 2, 3]);
        let made = datagrams(Flood::Replay, &[packet, vec![0; 5]], 1);
        assert_eq!(made, [vec![1, 2, 3]]);
    }

    #[test]
    fn frames_of_a_wrong_key_look_right() {
        let made = datagrams(Flood::Key, &[], 1);
        assert!(made.iter().all(|bytes| frame::peek(bytes).is_ok()));
    }
}
