//! Does what the core and the control thread want done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use watchfire_core::counters::Counter;
use watchfire_core::io::{Event, Implausible, Input, Released};
use watchfire_core::node::Node;
use watchfire_core::overrides::Wall;
use watchfire_core::swim::Member;
use watchfire_host::{Effect, Host, Probing, Refusal, Trouble};
use watchfire_probe::{Prober, Report, ReportKind};
use watchfire_table::FileHome;
use watchfire_wire::message::replica::Answer;
use watchfire_wire::{CheckId, NodeId, Reason, Time, Unmeasured};

use super::Ending;
use super::command::Command;
use super::generations::Generations;
use super::glance;
use super::looks::Looking;
use super::observer::Turned;
use super::overrides;
use super::status::{KeysStatus, MemberStatus, Status, Why};
use super::turn::Shell;
use crate::clock;
use crate::limits::{GENERATIONS_LOOK, ORIGIN_SERIES, WALL_WATCH};
use crate::recorder::{self, Happening, Said};

/// Whether the loop goes on; an error is its end.
pub(super) type Flow = Result<(), Ending>;

/// The hands of the loop, and what they count.
pub(super) struct Act {
    started: Time,
    draining: bool,
    datagrams_unsent: u64,
    forged_seen: u64,
    next_complaint: Time,
    /// Reports since the last word that a check found no place, by tenant.
    crowded: BTreeMap<Arc<str>, u64>,
    generations: Generations,
    /// When [`Generations`] look next.
    next_look: Time,
    looking: Looking,
    next_wall: Time,
    wall: Wall,
}

/// When the first word is said: members have had time to answer.
const FIRST_COMPLAINT: Duration = Duration::from_secs(10);

/// Tenants that are named in one word about places.
const CROWDED_NAMED: usize = 10;

/// A wall clock that moved by less was read a moment later.
const WALL_MOVED_MS: u64 = 5;

/// From one word about things that last to the next.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

impl Act {
    pub(super) fn new() -> Self {
        Self {
            started: clock::now(),
            forged_seen: 0,
            next_complaint: clock::now() + FIRST_COMPLAINT,
            next_look: Time::ZERO,
            next_wall: clock::now() + WALL_WATCH,
            wall: clock::wall_at_zero(),
            draining: false,
            generations: Generations::default(),
            looking: Looking::default(),
            datagrams_unsent: 0,
            crowded: BTreeMap::new(),
        }
    }

    /// Remembers whose checks find no place among the probes in flight.
    pub(super) fn note(&mut self, report: &Report, host: &Host<FileHome>) {
        let ReportKind::Unmeasured { reason, .. } = report.kind else {
            return;
        };
        if reason != Unmeasured::InFlightFull {
            return;
        }
        let tenant = host.catalogue().tenant(report.check);
        let tenant = tenant.map_or_else(|| Arc::from("nobody"), Arc::clone);
        if self.crowded.len() < CROWDED_NAMED || self.crowded.contains_key(&tenant) {
            *self.crowded.entry(tenant).or_default() += 1;
        }
    }

    /// Does all that the host has wanted since the last time, in order.
    pub(super) fn effects(&mut self, shell: &mut Shell, registry: &Registry) -> Flow {
        while let Some(effect) = shell.host.poll_effect() {
            match effect {
                Effect::Datagram { to, bytes } => {
                    // A full socket buffer loses the datagram like the network
                    // would; the core's protocols expect that.
                    if shell.udp.send(&bytes, to).is_err() {
                        self.datagrams_unsent += 1;
                    }
                }
                Effect::BulkConnect { conn, to, hello } => {
                    let now = clock::now();
                    if let Err(error) = shell.streams.connect(conn, to, &hello, registry, now) {
                        tracing::debug!(%to, %error, "cannot open a bulk stream");
                        let event = watchfire_core::io::BulkEvent::Closed;
                        shell.host.handle(now, Input::Bulk { conn, event });
                    }
                }
                Effect::BulkSend { conn, bytes } => shell.streams.send(conn, &bytes, registry),
                Effect::BulkClose { conn } => shell.streams.close(conn, registry),
                Effect::Probe(what) => probe(&mut shell.prober, what),
                Effect::Looked { look, said } => {
                    self.looking.over(look, &said, shell.host.node());
                }
                Effect::Published { check, what } => {
                    let now = clock::now();
                    let wall_ms = clock::wall_ms();
                    let turned = shell.observer.published(now, wall_ms, check, what);
                    if let Some(turned) = turned {
                        record(shell, wall_ms, check, turned);
                    }
                }
                Effect::PersistEpoch(epoch) => {
                    shell.epoch.send_replace(epoch);
                }
                Effect::KeepOverrides(kept) => {
                    shell.kept.send_replace(kept);
                }
                Effect::Left => return Err(Ending::Left),
                Effect::Conflict { addr, actor } => {
                    return Err(Ending::Conflict(format!(
                        "another agent named \"{}\" is alive at {addr} (epoch {})",
                        shell.name, actor.epoch
                    )));
                }
                Effect::Event(event) => {
                    shell.observer.event(clock::now(), &event);
                    if event.evicts(&shell.name)
                        && let Event::Decided { decision, .. } = &event
                    {
                        overrides::log_evicted(decision);
                    }
                    if let Event::Opinions(check, said) = event {
                        record_opinions(shell, check, said);
                    } else {
                        log(event, &shell.host);
                    }
                }
                Effect::Trouble(trouble) => log_trouble(trouble),
            }
        }
        Ok(())
    }

    /// Does what the control thread asks.
    pub(super) fn obey(&mut self, command: Command, shell: &mut Shell) {
        let now = clock::now();
        match command {
            Command::Origins(change) => shell.host.configure(now, &change),
            Command::Capacity(capacity) => shell.host.handle(now, Input::Capacity(capacity)),
            Command::Keys(keys) => shell.host.set_keys(keys),
            Command::Trust(trust) => shell.prober.trust(&trust),
            Command::Drain(drain) => {
                self.draining = drain;
                tracing::info!(
                    "{}",
                    if drain {
                        "draining: handing over all checks"
                    } else {
                        "not draining any more"
                    }
                );
                shell.host.handle(now, Input::Drain(drain));
            }
            Command::Decide(request, reply) => {
                let catalogue = shell.host.catalogue();
                let unknown = request.names.iter().filter(|name| {
                    &***name != watchfire_core::overrides::POP
                        && watchfire_core::overrides::member_of(name).is_none()
                        && catalogue.check_of(name).is_none()
                });
                let unknown = unknown.map(ToString::to_string).collect();
                let decided = shell.host.decide(now, request);
                // It is in force, whoever waits.
                drop(reply.send(decided.map(|decided| (decided, unknown))));
            }
            Command::Overrides(ended_too, reply) => {
                drop(reply.send(overrides::list(&shell.host, ended_too)));
            }
            Command::Evictions(reply) => drop(reply.send(overrides::evictions(&shell.host))),
            Command::Names(reply) => {
                let names = shell.host.catalogue().all_names();
                drop(reply.send(names.map(ToString::to_string).collect()));
            }
            Command::Look(name, reply) => self.looking.begin(&name, reply, shell),
            Command::Leave => shell.host.handle(now, Input::Leave),
            Command::Beat(reply) => drop(reply.send(shell.prober.oldest_beat())),
            // Whoever asked may be gone by now; then nobody reads the answer.
            Command::Status(reply) => drop(reply.send(Box::new(self.status(shell)))),
            Command::Why(name, reply) => drop(reply.send(why(&name, shell))),
            Command::Glance(reply) => {
                let uptime_s = now.since(self.started).as_secs();
                drop(reply.send(Box::new(glance::of(shell, uptime_s, self.draining))));
            }
        }
    }

    /// Looks, at every heartbeat, for what nobody reports.
    pub(super) fn watch(&mut self, now: Time, shell: &mut Shell) -> Flow {
        if shell.prober.has_ended() {
            // Others take its checks; whoever started it starts it anew, and
            // then all of them are probed again.
            return Err(Ending::Failed(
                "a probe thread ended; see the lines before this".to_owned(),
            ));
        }
        let late = shell.prober.take_lateness();
        if late >= watchfire_core::limits::LATE {
            shell.host.handle(now, Input::Late(late));
        }
        Self::watch_prober(now, shell);
        if now >= self.next_look {
            self.next_look = now + GENERATIONS_LOOK;
            let living = living(shell.host.node());
            self.generations
                .look(now, living.map(|it| (it.actor.node, it.profile.checks)));
        }
        if now >= self.next_wall {
            self.next_wall = now + WALL_WATCH;
            self.watch_wall(now, shell);
        }
        if now >= self.next_complaint {
            self.next_complaint = now + COMPLAIN_EVERY;
            self.complain(shell);
        }
        Ok(())
    }

    /// Says, now and then, what a person should look into: frames that fail to
    /// authenticate, and an agent that nobody has answered.
    fn complain(&mut self, shell: &Shell) {
        let node = shell.host.node();
        let forged = node.forged();
        if forged > self.forged_seen {
            tracing::warn!(
                frames = forged - self.forged_seen,
                "frames do not authenticate though their key id is known: does a member have \
                 another key under the same id? every agent of a POP needs the same key file"
            );
            self.forged_seen = forged;
        }
        let crowded = std::mem::take(&mut self.crowded);
        if !crowded.is_empty() {
            let tenants: Vec<_> = crowded.keys().map(|name| format!("\"{name}\"")).collect();
            tracing::warn!(
                tenants = tenants.join(", "),
                "probes found no place in time and measured nothing: these tenants hold all \
                 that they may of probe.in_flight_max; fewer or shorter timeouts, or more \
                 places, would help"
            );
        }
        if let Some(decision) = node.evicted() {
            overrides::log_evicted(decision);
            return;
        }
        let alone = node
            .members()
            .filter(|member| member.state.is_living())
            .count()
            <= 1;
        if alone && shell.expects_peers {
            tracing::warn!(
                "no other member answers: this agent probes alone; look at gossip.join, the key \
                 file and firewalls (UDP and TCP)"
            );
        }
    }

    /// Tells the core when this server's wall clock was set.
    fn watch_wall(&mut self, now: Time, shell: &mut Shell) {
        let wall = clock::wall_at_zero();
        let moved = wall.at_zero_ms.abs_diff(self.wall.at_zero_ms) >= WALL_MOVED_MS;
        if moved || wall.synchronised != self.wall.synchronised {
            self.wall = wall;
            shell.host.handle(now, Input::Wall(wall));
        }
    }

    /// Tells the core when the probe threads can no longer measure, or can
    /// again.
    fn watch_prober(now: Time, shell: &mut Shell) {
        let ailment = shell.prober.ailment();
        if shell.host.prober_healthy(now, ailment.is_none()) {
            match ailment {
                None => tracing::info!("this agent can probe again"),
                Some(why) => tracing::warn!(
                    because = %why,
                    "this agent cannot probe; other agents take its checks"
                ),
            }
        }
    }

    fn status(&self, shell: &mut Shell) -> Status {
        let node = shell.host.node();
        let tally = shell.host.tally();
        let mut counted = node.counted();
        counted.extend([
            Counter::new(
                "datagrams_unsent",
                "Datagrams that the socket did not take.",
                self.datagrams_unsent,
            ),
            Counter::new(
                "bulk_refused",
                "Bulk streams closed because there were too many.",
                shell.streams.refused,
            ),
            Counter::new(
                "table_writes_failed",
                "Writes that the table refused; what it said before stands.",
                shell.host.failed_writes(),
            ),
        ]);
        let counters = counted.iter();
        let counters = counters.map(|counter| (counter.name.to_owned(), counter.count));
        let stats = shell.prober.stats();
        let (certificates, certificates_left_out) = certificates(&shell.host);
        Status {
            version: crate::VERSION.to_owned(),
            node: shell.name.clone(),
            node_id: NodeId::of_name(&shell.name).to_string(),
            epoch: node.actor().epoch,
            uptime_s: clock::now().since(self.started).as_secs(),
            draining: self.draining,
            braked: node
                .braked(clock::now())
                .map(|(lasts, held)| super::status::Braked {
                    for_s: lasts.as_secs(),
                    held,
                }),
            members: members(node),
            origins: shell.host.catalogue().names(),
            checks: shell.host.catalogue().checks(),
            checks_refused: shell.host.catalogue().refused(),
            checks_probed: node.checks_owned().count(),
            up: tally.up,
            down: tally.down,
            unknown: tally.unknown,
            origins_draining: tally.draining,
            origins_forced: tally.forced,
            overrides: overrides::in_short(&shell.host),
            evictions: overrides::evictions(&shell.host),
            evicted: overrides::own_eviction(&shell.host),
            digest: format!("{:016x}", node.digest()),
            places_used: stats.slots,
            places_waiting: stats.waiting,
            backend: shell.prober.backend().to_string(),
            table: String::new(),
            config_loaded_ms: 0,
            config_error: None,
            files_held: Vec::new(),
            counters: counters.collect(),
            latencies: BTreeMap::new(),
            generations: self.generations.tell(
                clock::now(),
                &living(node)
                    .map(|it| (it.profile.name.clone(), it.profile.checks))
                    .collect::<Vec<_>>(),
            ),
            keys: KeysStatus::of(node.keys()),
            certificates,
            certificates_left_out,
            names: Default::default(),
            prober_ailment: shell.prober.ailment().map(|why| why.key().to_owned()),
            counted,
        }
    }
}

/// Hands a change of verdict to the recorder.
fn record(shell: &Shell, at_ms: u64, check: CheckId, Turned { from, what }: Turned) {
    let node = shell.host.node();
    shell
        .recorder
        .tell(Happening::Turned(Box::new(recorder::Turned {
            at_ms,
            check,
            origins: shell.host.catalogue().names_of(check).to_vec(),
            from,
            to: what.verdict,
            reason: what.reason,
            since_ms: what.since_ms,
            latency_us: what.latency_us,
            owner: name_of(node, what.owner),
            mine: what.owner == node.actor().node,
        })));
}

/// Hands what others said of a Down to the recorder.
fn record_opinions(shell: &Shell, check: CheckId, said: Vec<(NodeId, Option<Answer>)>) {
    let node = shell.host.node();
    let said = said.into_iter().map(|(peer, answer)| Said {
        node: name_of(node, peer),
        said: match answer {
            Some(Answer::Pass) => "pass",
            Some(Answer::Fail) => "fail",
            Some(Answer::Silent) | None => "silent",
        }
        .to_owned(),
    });
    shell
        .recorder
        .tell(Happening::Opinions(Box::new((check, said.collect()))));
}

/// Says what the core tells of.
fn log(event: Event, host: &Host<FileHome>) {
    let node = host.node();
    match event {
        Event::Joined(actor, addr) => {
            let name = name_of(node, actor.node);
            tracing::info!(member = name, %addr, epoch = actor.epoch, "joined");
        }
        Event::Suspected(actor) => {
            tracing::info!(member = name_of(node, actor.node), "suspected");
        }
        Event::Refuted(actor) => {
            tracing::info!(member = name_of(node, actor.node), "refuted a suspicion");
        }
        Event::Died(actor) => tracing::warn!(member = name_of(node, actor.node), "died"),
        Event::Left(actor) => tracing::info!(member = name_of(node, actor.node), "left"),
        Event::EpochTaken(epoch) => tracing::info!(epoch, "took an epoch"),
        Event::Implausible(actor, what) => tracing::warn!(
            member = name_of(node, actor.node),
            epoch = actor.epoch,
            says = match what {
                Implausible::Term => "terms far ahead of the time",
                Implausible::Foreign => "far more checks than anybody configures",
            },
            "says what no honest member can have come to: nothing of it is believed for now; if \
             it goes on, put it out by `watchfire member evict`, or by rotating the key"
        ),
        Event::Repaired(actor) => {
            tracing::warn!(member = name_of(node, actor.node), "repaired unequal state");
        }
        // The recorder's.
        Event::Transition(..) | Event::Opinions(..) => {}
        Event::Dissent(check) => {
            let origins = host.catalogue().names_of(check).join(", ");
            tracing::warn!(origins, "not declared Down: other agents reach this origin");
        }
        Event::Blind(true) => tracing::error!(
            "many origins fail here that others reach: our own path is in doubt, verdicts \
             are frozen and the others take our checks"
        ),
        Event::Blind(false) => tracing::info!("our path to the origins is back"),
        Event::Braked { held, networks } => tracing::warn!(
            held,
            networks,
            "so much fails at once, or no reference answers, that the POP's own uplink may be \
             at fault: no further origin is declared Down, tables keep what they say, probing \
             goes on"
        ),
        Event::Released(why) => tracing::warn!(
            because = match why {
                Released::Passing => "most origins answer again",
                Released::References => "the references answer, so the origins do fail",
                Released::Blind => "other agents reach them, so they take our checks",
                Released::Bound => "it has lasted for as long as it may",
            },
            "origins are declared Down again"
        ),
        Event::Decided { decision, names } => overrides::log_decided(&decision, &names, node),
        Event::DecisionEnded { decision, names } => overrides::log_ended(&decision, &names),
        Event::UnknownKey(id) => tracing::warn!(
            key = id,
            "a member seals with a key that this agent does not have: were keys rotated \
             while it was down?"
        ),
    }
}

/// Says what a person should look into.
fn log_trouble(trouble: Trouble) {
    match trouble {
        Trouble::Write { origin, error } => {
            tracing::error!(%origin, %error, "the table refused a write");
        }
        Trouble::Name { node, error } => {
            tracing::warn!(node, %error, "the table cannot name this node");
        }
        Trouble::Table(notice) => tracing::warn!("{notice}"),
    }
}

/// Tells the probe threads.
fn probe(prober: &mut Prober, what: Probing) {
    match what {
        Probing::Start {
            check: _,
            spec,
            tenant,
            generation,
            inherited,
            first,
        } => prober.start_check_for(tenant, spec, generation, inherited, first),
        Probing::Retarget { spec, tenant } => prober.retarget_for(tenant, spec),
        Probing::Stop(check) => prober.stop_check(check),
        Probing::Attend(check) => prober.attend(check),
        Probing::Hurry(hurry) => prober.set_hurry(hurry),
        Probing::Ask {
            check: _,
            spec,
            tenant,
            ask,
        } => prober.ask_for(tenant, spec, ask),
    }
}

fn living(node: &Node) -> impl Iterator<Item = &Member> {
    node.members().filter(|member| member.state.is_living())
}

pub(super) fn members(node: &Node) -> Vec<MemberStatus> {
    let clock = node.overrides().clock();
    let now = clock::now();
    let own = node.actor().node;
    let heard = |id| clock.error_ms_of(id);
    let mut members: Vec<_> = node
        .members()
        .map(|member| MemberStatus {
            name: member.profile.name.clone(),
            addr: member.profile.addr.to_string(),
            state: member.state.as_str().to_owned(),
            capacity: member.profile.capacity,
            draining: member.profile.draining,
            braked: member.profile.braked,
            prober_healthy: member.profile.prober_healthy,
            epoch: member.actor.epoch,
            clock_off_ms: match heard(member.actor.node) {
                _ if member.actor.node == own => Some(clock.own_error_ms()),
                heard => heard.map(|(off, _)| off),
            },
            answered_ms_ago: heard(member.actor.node)
                .map(|(_, at)| now.since(at).as_millis() as u64),
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

/// When the certificates of origins end that are probed here, milliseconds since
/// 1970, those that end first; and how many checks are left out.
fn certificates(host: &Host<FileHome>) -> (BTreeMap<String, u64>, usize) {
    let (soonest, all) = host.certificates(ORIGIN_SERIES);
    let left_out = all - soonest.len();
    let names = soonest.into_iter().flat_map(|(end_s, check)| {
        let names = host.catalogue().names_of(check).iter();
        names.map(move |name| (name.to_string(), end_s * 1_000))
    });
    (names.take(ORIGIN_SERIES).collect(), left_out)
}

fn why(name: &str, shell: &Shell) -> Option<Why> {
    let node = shell.host.node();
    let catalogue = shell.host.catalogue();
    let check = catalogue.check_of(name)?;
    let spec = catalogue.spec(check)?;
    let winner = node.winner(check);
    let refusal = catalogue.refusal(check);
    // What others say of it is nothing that this agent goes by.
    let winner = winner.filter(|_| refusal.is_none_or(Refusal::follows));
    let reason = match (refusal, winner) {
        (_, Some(winner)) => winner.reason,
        (Some(refusal), None) => refusal.reason.code(),
        (None, None) => Unmeasured::NotYet.code(),
    };
    Some(Why {
        origin: name.to_owned(),
        check: check.to_string(),
        definition: spec.to_string(),
        verdict: winner
            .map_or("unknown", |winner| winner.verdict.as_str())
            .to_owned(),
        reason: reason_key(reason).to_owned(),
        because: match refusal {
            Some(refusal) if winner.is_some() => format!(
                "{}; this server takes no part: {}",
                reason_words(reason),
                refusal.because
            ),
            Some(refusal) => format!("{}: {}", reason_words(reason), refusal.because),
            None => reason_words(reason).to_owned(),
        },
        since_ms: winner.map_or(0, |winner| winner.since_ms),
        owner: winner.map_or_else(String::new, |winner| name_of(node, winner.owner)),
        probed_here: node.is_probing(check),
        certificate_ends_ms: shell.host.certificate_of(check).map(|end_s| end_s * 1_000),
        ranks: node
            .ranks(check)
            .into_iter()
            .map(|id| name_of(node, id))
            .collect(),
        operator: shell
            .host
            .override_of(name)
            .map(|it| overrides::OverrideStatus::of(name, it, true, &shell.host)),
        frozen: shell
            .host
            .frozen()
            .map(|it| overrides::OverrideStatus::of("", it, true, &shell.host)),
        shared_with: catalogue
            .names_of(check)
            .iter()
            .filter(|other| &***other != name)
            .map(ToString::to_string)
            .collect(),
        resolved: None,
        sent: None,
        probes: Vec::new(),
        answers: Vec::new(),
        spec: Some(Arc::clone(spec)),
        history: Vec::new(),
    })
}

pub(super) fn name_of(node: &Node, id: NodeId) -> String {
    node.member(id)
        .map_or_else(|| id.to_string(), |member| member.profile.name.clone())
}

/// A reason's code in words, whoever's fault it is.
pub(crate) fn reason_words(code: u8) -> &'static str {
    Reason::from_code(code)
        .map(Reason::words)
        .or_else(|| Unmeasured::from_code(code).map(Unmeasured::words))
        .unwrap_or("a reason that this version does not know")
}

/// A reason's stable name, whoever's fault it is.
pub(crate) fn reason_key(code: u8) -> &'static str {
    Reason::from_code(code)
        .map(Reason::key)
        .or_else(|| Unmeasured::from_code(code).map(Unmeasured::key))
        .unwrap_or("unknown_reason")
}
