//! One change after another, and what each costs until everybody has it:
//! Watchfire's replication beside that of the crate `chitchat`, which spreads
//! key-value maps by Scuttlebutt reconciliation.
//!
//! Both run in virtual time and hold as many values. A change of Watchfire's is
//! an origin that turns, so its second opinions count among its bytes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::transport::ChannelTransport;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion,
    spawn_chitchat,
};
use tokio::time::{Instant, sleep};

use crate::origin::Health;
use crate::stats::Sample;
use crate::trace::Trace;
use crate::workload::{Action, Options, Phase, Plan, SECOND_US};
use crate::world::World;

/// What changes cost.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// From a change to the last replica that has it, milliseconds.
    pub spread_ms: Sample,
    /// What a node sends while nothing changes, bytes per second, headers
    /// counted.
    pub idle_bytes_per_s: f64,
    /// What all nodes send on top of that, per change and replica, bytes.
    pub bytes_per_change: f64,
}

/// Time to form, seconds.
const SETTLE_S: u64 = 20;
/// From one change to the next, seconds; also the length of the idle stretch,
/// as many times as there are changes.
const PACE_S: u64 = 2;
/// After the last change, seconds: an origin's takes three probes.
const LAST_S: u64 = 4;
/// Headers of IP and UDP.
const UDP_HEADER_BYTES: u64 = 28;

/// `changes` origins turn bad, one after the other, among `nodes` nodes with
/// `values` checks.
#[must_use]
pub fn watchfire(nodes: usize, values: usize, changes: usize, seed: u64) -> Changes {
    let options = Options {
        nodes,
        checks: values,
        ..Options::default()
    };
    let run = |turned: usize| {
        let plan = turning(nodes, turned, changes);
        let mut world = World::with_plan(options, plan, seed, Trace::default());
        world.run();
        world
    };
    let (idle, changed) = (run(0), run(changes));
    let sent = |world: &World| world.hosts.iter().map(|host| host.bytes_sent).sum::<u64>();
    let seconds = PACE_S * changes as u64 + LAST_S;
    let replicas = (nodes * changes) as f64;
    Changes {
        spread_ms: changed.measures.spread_ms.clone(),
        idle_bytes_per_s: sent(&idle) as f64 / (nodes as u64 * seconds) as f64,
        bytes_per_change: sent(&changed).saturating_sub(sent(&idle)) as f64 / replicas,
    }
}

/// All nodes start; then the first `turned` origins turn bad, and it goes on as
/// long as if `changes` had. What is sent while the POP forms is forgotten when
/// the mass phase begins, and transitions are watched in the single phase.
fn turning(nodes: usize, turned: usize, changes: usize) -> Plan {
    let mut plan: Plan = vec![(0, Action::Phase(Phase::Settle))];
    plan.extend((0..nodes).map(|host| (1_000 * host as u64, Action::Boot { host })));
    let mut at_us = SETTLE_S * SECOND_US;
    plan.push((at_us, Action::Phase(Phase::Mass)));
    plan.push((at_us, Action::Phase(Phase::Single)));
    for check in 0..changes {
        if check < turned {
            let origins = Action::Origins {
                checks: vec![check as u32],
                health: Health::Refusing,
                why: None,
            };
            plan.push((at_us, origins));
        }
        at_us += PACE_S * SECOND_US;
    }
    plan.push((at_us + LAST_S * SECOND_US, Action::Phase(Phase::Rest)));
    plan
}

/// The same number of changes in as large a map of chitchat's, one gossip round
/// per `period`, over its own in-memory transport (which takes no time).
///
/// # Errors
///
/// If the runtime or a node cannot be started.
pub fn chitchat(
    nodes: usize,
    values: usize,
    changes: usize,
    period: Duration,
) -> anyhow::Result<Changes> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(async {
        let network = ChannelTransport::default();
        let mut peers = Vec::new();
        for node in 0..nodes {
            let own = (node..values).step_by(nodes);
            let values = own.map(|value| (key(value), "up".to_owned())).collect();
            peers.push(spawn_chitchat(config(node, period), values, &network).await?);
        }
        let sent = || {
            let so_far = network.statistics();
            so_far.num_bytes_total + so_far.num_messages_total * UDP_HEADER_BYTES
        };
        sleep(Duration::from_secs(SETTLE_S)).await;
        let stretch = Duration::from_secs(PACE_S * changes as u64);
        let before = sent();
        sleep(stretch).await;
        let idle = sent() - before;
        let mut found = Changes::default();
        let (began, before) = (Instant::now(), sent());
        for change in 0..changes {
            let author = &peers[change % nodes];
            author
                .with_chitchat(|node| node.self_node_state().set(key(change), "down"))
                .await;
            let at = Instant::now();
            until_everywhere(&peers, author.chitchat_id(), &key(change)).await;
            found.spread_ms.push(at.elapsed().as_secs_f64() * 1e3);
            let next = began + Duration::from_secs(PACE_S) * (change as u32 + 1);
            tokio::time::sleep_until(next).await;
        }
        let share = began.elapsed().as_secs_f64() / stretch.as_secs_f64();
        let extra = (sent() - before) as f64 - idle as f64 * share;
        found.idle_bytes_per_s = idle as f64 / stretch.as_secs_f64() / nodes as f64;
        found.bytes_per_change = extra / (nodes * changes) as f64;
        Ok(found)
    })
}

fn config(node: usize, period: Duration) -> ChitchatConfig {
    let addr = |node: usize| SocketAddr::from((Ipv4Addr::LOCALHOST, 1_000 + node as u16));
    ChitchatConfig {
        chitchat_id: ChitchatId::new(format!("edge-{node}"), 0, addr(node)),
        cluster_id: "pop".to_owned(),
        gossip_interval: period,
        listen_addr: addr(node),
        seed_nodes: vec![addr(0).to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(3_600),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}

fn key(value: usize) -> String {
    format!("origin-{value}")
}

async fn until_everywhere(peers: &[ChitchatHandle], author: &ChitchatId, key: &str) {
    for peer in peers {
        let has = || async {
            peer.with_chitchat(|node| {
                let known = node.node_state(author);
                known.is_some_and(|known| known.get(key) == Some("down"))
            })
            .await
        };
        while !has().await {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spread_every_change() {
        let ours = watchfire(8, 40, 3, 1);
        let theirs = chitchat(8, 40, 3, Duration::from_secs(1)).unwrap();
        assert_eq!((ours.spread_ms.len(), theirs.spread_ms.len()), (3, 3));
        assert!(ours.spread_ms.percentile(1.0) < theirs.spread_ms.percentile(1.0));
        assert!(ours.bytes_per_change > 0.0 && theirs.idle_bytes_per_s > 0.0);
    }
}
