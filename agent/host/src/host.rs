//! The host: inputs go to the core, and what the core wants is turned into
//! effects, except for the table, which is written at once.

use std::collections::VecDeque;
use std::sync::Arc;

use watchfire_core::gate::Keys;
use watchfire_core::io::{Event, Input, Output, Report, ReportKind};
use watchfire_core::look::{LOOK, TooManyLooks};
use watchfire_core::node::Node;
use watchfire_core::overrides::{Decided, Decision, Refused, Request};
use watchfire_probe_core::Tenant;
use watchfire_probe_core::check::DEFAULT_TIMEOUT;
use watchfire_probe_core::engine::{self, Inherited};
use watchfire_table::{Home, Writer};
use watchfire_wire::message::replica::Sight;
use watchfire_wire::{CheckId, NodeId, Reason, Time};

use crate::catalogue::Catalogue;
use crate::certificates::Certificates;
use crate::change::{OriginChange, Refusal};
use crate::effect::{Effect, Probing};
use crate::publisher::{Publisher, Tally};

/// One agent without its sockets and threads.
#[derive(Debug)]
pub struct Host<H: Home> {
    node: Box<Node>,
    publisher: Publisher<H>,
    /// The wall clock at the monotonic clock's zero, milliseconds since 1970.
    wall_at_zero_ms: u64,
    /// What the node was last told of its probe threads.
    prober_healthy: bool,
    certificates: Certificates,
    out: VecDeque<Effect>,
}

impl<H: Home> Host<H> {
    /// A host of this node, configured by this name, that writes this table.
    #[must_use]
    pub fn new(node: Node, name: &str, table: Writer<H>, wall_at_zero_ms: u64) -> Self {
        let mut host = Self {
            node: Box::new(node),
            publisher: Publisher::new(table, name),
            wall_at_zero_ms,
            prober_healthy: true,
            certificates: Certificates::default(),
            out: VecDeque::new(),
        };
        host.settle(Time::ZERO);
        host
    }

    /// Takes what happened; see [`Node::handle`].
    pub fn handle(&mut self, now: Time, input: Input<'_>) {
        self.node.handle(now, input);
        self.settle(now);
    }

    /// Takes a report of a probe thread.
    pub fn report(&mut self, now: Time, report: engine::Report) {
        if let engine::ReportKind::Certificate { not_after_s } = report.kind
            && self.node.is_probing(report.check)
        {
            self.certificates.shown(report.check, not_after_s);
        }
        if let Some(report) = translate(report) {
            self.handle(now, Input::Report(report));
        }
    }

    /// Every living member looks at a check once; see [`Node::look`].
    ///
    /// # Errors
    /// Too many are being looked at.
    pub fn look(&mut self, now: Time, check: CheckId) -> Result<u64, TooManyLooks> {
        let spec = self.catalogue().spec(check);
        let timeout = spec.map_or(DEFAULT_TIMEOUT, |spec| spec.timeout);
        let look = self.node.look(now, check, timeout)?;
        self.handle(now, Input::Tick);
        Ok(look)
    }

    /// When the certificate ends that the last full TLS handshake of this check
    /// showed, seconds since 1970; nothing if it is not probed here.
    #[must_use]
    pub fn certificate_of(&self, check: CheckId) -> Option<u64> {
        self.certificates.of(check)
    }

    /// The checks that are probed here whose certificates end first, at most so
    /// many, with the second since 1970; and how many there are in all.
    #[must_use]
    pub fn certificates(&self, most: usize) -> (Vec<(u64, CheckId)>, usize) {
        (self.certificates.soonest(most), self.certificates.count())
    }

    /// Takes a changed set of origins: first the table, then the core, which
    /// knows of no check that is denied, and takes no part in one for which this
    /// server lacks something.
    pub fn configure(&mut self, now: Time, change: &OriginChange) {
        let wall_ms = self.wall_ms(now);
        let catalogue = self.catalogue();
        let follows = |id: &CheckId| catalogue.refusal(*id).is_none_or(Refusal::follows);
        let taken = |id: &CheckId| catalogue.spec(*id).is_some() && follows(id);
        let refused = change.refused.iter().map(|(id, _)| id);
        let leaving = change.checks_removed.iter().chain(refused);
        // Whoever becomes able to begins anew.
        let leaving = leaving.chain(&change.accepted);
        let remove: Vec<_> = leaving.filter(|id| taken(id)).copied().collect();
        self.publisher.configure(change, wall_ms);
        let added = change.checks_added.iter().map(|(id, _)| id);
        let add: Vec<_> = added
            .chain(&change.accepted)
            .chain(change.refused.iter().map(|(id, _)| id))
            .filter_map(|id| {
                let spec = self.catalogue().spec(*id)?;
                let refusal = self.catalogue().refusal(*id);
                let able = refusal.is_none();
                let carried = self.publisher.carries(*id);
                let reference = change.references.contains(id);
                let meta = Catalogue::meta(spec, carried, reference, able);
                refusal.is_none_or(Refusal::follows).then_some((*id, meta))
            })
            .collect();
        let remove = &remove;
        self.handle(now, Input::Checks { add: &add, remove });
        // Whoever probes it goes on: nothing of it is the core's business.
        for (id, spec) in &change.retargeted {
            if self.node.is_probing(*id) && spec.has_address() {
                self.out.push_back(Effect::Probe(Probing::Retarget {
                    spec: Arc::clone(spec),
                    tenant: self.tenant(*id),
                }));
            }
        }
    }

    /// Takes whether the probe threads as a whole can measure. Gives whether
    /// that is news.
    pub fn prober_healthy(&mut self, now: Time, healthy: bool) -> bool {
        let is_news = std::mem::replace(&mut self.prober_healthy, healthy) != healthy;
        if is_news {
            self.handle(now, Input::ProberHealthy(healthy));
        }
        is_news
    }

    /// An operator decides; see [`Node::decide`].
    ///
    /// # Errors
    /// What cannot be decided; then nothing changed.
    pub fn decide(&mut self, now: Time, request: Request) -> Result<Decided, Refused> {
        let decided = self.node.decide(now, request);
        self.settle(now);
        decided
    }

    /// The override of a name that is in force.
    #[must_use]
    pub fn override_of(&self, name: &str) -> Option<&Arc<Decision>> {
        self.publisher.override_of(name)
    }

    /// The freeze of the POP, if it is frozen.
    #[must_use]
    pub const fn frozen(&self) -> Option<&Arc<Decision>> {
        self.publisher.frozen()
    }

    /// Keeps the table alive; call it a few times per the table's
    /// [`stale_after_ms`](watchfire_table::WriterOptions::stale_after_ms).
    pub fn heartbeat(&mut self, now_ns: u64) {
        self.publisher.heartbeat(now_ns);
        self.tell_troubles();
    }

    /// Other keys from now on.
    pub fn set_keys(&mut self, keys: Keys) {
        self.node.set_keys(keys);
    }

    /// What to do next, in order; nothing if all is done. Poll until then after
    /// every call that takes `&mut self`.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    /// When to come back with [`Input::Tick`] if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Time {
        self.node.next_timeout()
    }

    /// The core, to look at.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// What is configured.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        self.publisher.catalogue()
    }

    /// Verdicts by number of origins.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.publisher.tally()
    }

    /// Writes that the table refused.
    #[must_use]
    pub const fn failed_writes(&self) -> u64 {
        self.publisher.failed_writes()
    }

    /// Turns what the core wants into effects.
    fn settle(&mut self, now: Time) {
        let wall_ms = self.wall_ms(now);
        while let Some(output) = self.node.poll_output() {
            if let Some(effect) = self.effect_of(output, wall_ms) {
                self.out.push_back(effect);
            }
        }
        self.tell_troubles();
    }

    /// What a shell has to do about an output; nothing for a check that is not
    /// configured any more.
    fn effect_of(&mut self, output: Output, wall_ms: u64) -> Option<Effect> {
        Some(match output {
            Output::Datagram { to, bytes } => Effect::Datagram { to, bytes },
            Output::BulkConnect { conn, to, hello } => Effect::BulkConnect { conn, to, hello },
            Output::BulkSend { conn, bytes } => Effect::BulkSend { conn, bytes },
            Output::BulkClose { conn } => Effect::BulkClose { conn },
            Output::Start {
                check,
                generation,
                inherit,
                first,
            } => Effect::Probe(Probing::Start {
                check,
                spec: self.catalogue().spec(check)?.clone(),
                tenant: self.tenant(check),
                generation,
                inherited: inherit.map(|known| Inherited {
                    verdict: known.verdict,
                    contrary: known.contrary,
                }),
                first,
            }),
            Output::Stop { check } => {
                self.certificates.forget(check);
                Effect::Probe(Probing::Stop(check))
            }
            Output::Attend { check } => Effect::Probe(Probing::Attend(check)),
            Output::Hurry(hurry) => Effect::Probe(Probing::Hurry(hurry)),
            Output::Looked { look, said } => Effect::Looked { look, said },
            Output::Ask { check, ask } => Effect::Probe(Probing::Ask {
                check,
                spec: self.catalogue().spec(check)?.clone(),
                tenant: self.tenant(check),
                ask,
            }),
            Output::Publish { check, what } => {
                self.publisher.publish(check, what, wall_ms);
                Effect::Published { check, what }
            }
            Output::Override { name, what } => {
                self.publisher.decide(&name, what, wall_ms);
                return None;
            }
            Output::OverridesSettled => {
                self.publisher.settle_decisions(wall_ms);
                return None;
            }
            Output::KeepOverrides(kept) => Effect::KeepOverrides(kept),
            Output::PersistEpoch(epoch) => Effect::PersistEpoch(epoch),
            Output::Left => Effect::Left,
            Output::Conflict { addr, actor } => Effect::Conflict { addr, actor },
            Output::Event(event) => {
                match event {
                    Event::Joined(actor, _) => self.name_node(actor.node),
                    Event::Braked { .. } => self.publisher.braked(Some(wall_ms)),
                    Event::Released(_) => self.publisher.braked(None),
                    _ => {}
                }
                Effect::Event(event)
            }
        })
    }

    fn tenant(&self, check: CheckId) -> Tenant {
        let name = self.catalogue().tenant(check);
        name.map_or(Tenant::NOBODY, |name| Tenant::of(name))
    }

    /// Lets readers of the table print a member's name.
    fn name_node(&mut self, id: NodeId) {
        if let Some(member) = self.node.member(id) {
            self.publisher.name_node(id, &member.profile.name);
        }
    }

    fn tell_troubles(&mut self) {
        let troubles = self.publisher.take_troubles().map(Effect::Trouble);
        self.out.extend(troubles);
    }

    const fn wall_ms(&self, now: Time) -> u64 {
        self.wall_at_zero_ms.saturating_add(now.as_millis())
    }
}

/// A probe thread's report in the core's words; nothing if the core is not told.
fn translate(report: engine::Report) -> Option<Report> {
    let kind = match report.kind {
        engine::ReportKind::Measured {
            verdict,
            reason,
            contrary,
            latency_us,
        } => ReportKind::Measured {
            verdict,
            reason: match reason {
                Reason::Passed if report.degraded => Reason::Degraded.code(),
                reason => reason.code(),
            },
            contrary,
            latency_us,
        },
        engine::ReportKind::Unmeasured { reason, in_a_row } => ReportKind::Unmeasured {
            reason: reason.code(),
            in_a_row,
        },
        engine::ReportKind::Opinion {
            ask,
            outcome,
            phases,
            ..
        } if ask & LOOK != 0 => ReportKind::Sight {
            ask,
            sight: Sight {
                code: outcome.code(),
                degraded: phases.degraded,
                status: phases.status.unwrap_or(0),
                connect_us: phases.connect_us,
                tls_us: phases.tls_us,
                first_byte_us: phases.first_byte_us,
                total_us: phases.total_us,
            },
        },
        engine::ReportKind::Opinion { ask, answer, .. } => ReportKind::Opinion { ask, answer },
        // Nothing that a verdict depends on.
        engine::ReportKind::Certificate { .. } => return None,
    };
    Some(Report {
        check: report.check,
        generation: report.generation,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use watchfire_core::node::NodeConfig;
    use watchfire_probe_core::check::CheckSpec;
    use watchfire_table::{HeapHome, HeapReader, TableVerdict, WriterOptions};
    use watchfire_wire::Verdict;

    use super::*;
    use crate::change::Origins;

    /// An agent that is alone: from its configuration to its table.
    #[test]
    fn a_lone_host_probes_what_it_is_given_and_shows_what_was_found() {
        let node = Node::new(
            NodeConfig::new("me".into(), ([127, 0, 0, 1], 7_946).into()),
            Time::ZERO,
        );
        let home = HeapHome::new();
        let options = WriterOptions::new(node.actor(), "me");
        let table = Writer::open_in(home.clone(), &options, 1).unwrap();
        let mut host = Host::new(node, "me", table, 1_800_000_000_000);
        let spec = CheckSpec::tcp(([127, 0, 0, 1], 80).into());
        let mut origins = Origins::default();
        origins.names.insert("shop".into(), spec.id());
        origins.checks.insert(spec.id(), Arc::new(spec.clone()));
        host.configure(Time::ZERO, &OriginChange::between(None, &origins));
        let mut now = Time::ZERO;
        let generation = loop {
            match host.poll_effect() {
                Some(Effect::Probe(Probing::Start {
                    spec: given,
                    generation,
                    ..
                })) => {
                    assert_eq!(*given, spec);
                    break generation;
                }
                Some(_) => {}
                None => {
                    now = host.next_timeout().max(now);
                    assert!(now < Time::from_millis(10_000), "it never began");
                    host.handle(now, Input::Tick);
                }
            }
        };
        let report = engine::Report {
            degraded: false,
            check: spec.id(),
            generation,
            kind: engine::ReportKind::Measured {
                verdict: Verdict::Up,
                reason: Reason::Passed,
                contrary: 0,
                latency_us: 300,
            },
        };
        host.report(now, report);
        let mut reader = HeapReader::open(&home).unwrap();
        let entry = reader.get(b"shop", 1).entry().expect("it is configured");
        assert_eq!(entry.verdict, TableVerdict::Up);
        assert_eq!(host.tally().up, 1);
        let certificate = |check| engine::Report {
            check,
            kind: engine::ReportKind::Certificate { not_after_s: 7 },
            ..report
        };
        host.report(now, certificate(spec.id()));
        host.report(now, certificate(CheckId([9; 16])));
        assert_eq!(host.certificates(9), (vec![(7, spec.id())], 1));
        let none = OriginChange::between(Some(&origins), &Origins::default());
        host.configure(now, &none);
        while host.poll_effect().is_some() {}
        assert_eq!(host.certificates(9), (vec![], 0), "it is probed no more");
    }

    #[test]
    fn only_news_of_the_probe_threads_reaches_the_core() {
        let node = Node::new(
            NodeConfig::new("me".into(), ([127, 0, 0, 1], 7_946).into()),
            Time::ZERO,
        );
        let options = WriterOptions::new(node.actor(), "me");
        let table = Writer::open_in(HeapHome::new(), &options, 1).unwrap();
        let mut host = Host::new(node, "me", table, 0);
        assert!(!host.prober_healthy(Time::ZERO, true));
        assert!(host.prober_healthy(Time::ZERO, false));
        assert!(!host.prober_healthy(Time::ZERO, false));
    }
}
