//! Carrying what one room says to the others until nobody has anything to say.

use core::net::SocketAddr;
use core::time::Duration;

use watchfire_wire::message::replica::Replica;
use watchfire_wire::message::swim::Rumor;
use watchfire_wire::message::{Body, Packet};
use watchfire_wire::{Actor, NodeId, Time};

use super::{Node, Phase};
use crate::budget::{Class, Spare};
use crate::io::{Event, Output};
use crate::limits;
use crate::mutations::Mutation;
use crate::ownership::{Ctx, Duties, Load};
use crate::replica::{Frame, Out, Peer};
use crate::swim;

impl Node {
    /// Tells the node's parts how much may be sent now, and whether this node is late.
    pub(super) fn prepare(&mut self, now: Time) {
        let spare = self.spare(now);
        self.swim.set_spare(spare);
        self.swim.set_late(self.load.level(now));
        self.replicator.set_spare(spare);
        let pop_ms = self.overrides.clock().guess_ms(now);
        let epoch_max = if self.config.mutations.on(Mutation::AnyEpoch) {
            swim::limits::EPOCH_MAX
        } else {
            pop_ms.saturating_add(limits::EPOCH_AHEAD_MS)
        };
        self.swim.set_epoch_max(epoch_max);
        let term_max = pop_ms.saturating_add(limits::TERM_AHEAD_MS);
        self.replicator.set_bounds(now, term_max, epoch_max);
    }

    /// What may be sent now.
    fn spare(&mut self, now: Time) -> Spare {
        if self.config.mutations.on(Mutation::UnboundedDatagrams) {
            return Spare::FULL;
        }
        self.budget.spare(now)
    }

    /// This node's own work was late by so much.
    pub(super) fn note_lateness(&mut self, now: Time, by: Duration) {
        if self.load.note(now, by) {
            self.swim.worsen();
        }
        self.swim.set_late(self.load.level(now));
    }

    /// Runs what is due in every room.
    pub(super) fn pass_time(&mut self, now: Time) {
        if self.swim.next_timeout() <= now {
            self.swim.tick(now, &mut self.swim_out);
        }
        if self.replicator.next_timeout() <= now {
            self.replicator.tick(now, &mut self.replica_out);
        }
        if self.duties.next_timeout() <= now {
            self.with_duties(now, Duties::tick);
        }
        if self.next_keeping <= now {
            self.keep(now);
        }
    }

    /// Carries messages between the node's parts until all are silent.
    pub(super) fn settle(&mut self, now: Time) {
        loop {
            self.step(now);
            self.refresh_peers();
            while !self.swim_out.is_empty() || !self.replica_out.is_empty() {
                for output in core::mem::take(&mut self.swim_out) {
                    self.heed_swim(now, output);
                }
                for out in core::mem::take(&mut self.replica_out) {
                    self.heed_replica(now, out);
                }
                self.prepare(now);
            }
            let changed = self.replicator.store_mut().take_changed();
            if !changed.is_empty() {
                self.with_duties(now, |duties, ctx| duties.changed(ctx, &changed));
            }
            if self.duties.next_timeout() <= now {
                self.with_duties(now, Duties::look_at_members);
            }
            let healthy = self.prober_healthy && !self.duties.is_blind();
            let braked = self.duties.is_braked();
            let checks = self.duties.checks_to_tell(now);
            let said = &self.own.profile;
            let same = healthy == said.prober_healthy && braked == said.braked;
            if !same || checks != said.checks {
                self.present(now);
            }
            let own = self.own.actor;
            let seq = self.replicator.store().claim(own).map_or(0, |(seq, _)| seq);
            if seq != self.own_seq {
                self.own_seq = seq;
                self.replicator.wrote(now);
            }
            if self.replicator.next_timeout() <= now {
                self.replicator.flush(now, &mut self.replica_out);
            }
            if self.swim_out.is_empty() && self.replica_out.is_empty() && changed.is_empty() {
                break;
            }
        }
        self.tend_overrides(now);
        self.send_questions(now);
        self.tend_looks(now);
        self.send_weather(now);
        self.send_set_messages(now);
        self.feed_streams(now);
        self.prepare(now);
        self.swim.set_digest(self.digest());
    }

    /// The next moment at which the node itself, not one of its parts, has to
    /// act.
    pub(super) fn next_step(&self) -> Time {
        match self.phase {
            Phase::Joining {
                started,
                calm_since,
                next_sync,
            } => {
                let patience = started + self.config.join_patience;
                if !self.swim.is_admitted() {
                    patience
                } else if self.replicator.is_synced() || self.swim.living() == 0 {
                    patience.min(calm_since + self.config.join_calm)
                } else {
                    patience.min(next_sync)
                }
            }
            Phase::HandingOver { until } => until,
            Phase::Ready | Phase::Leaving | Phase::Gone => Time::NEVER,
        }
    }

    /// Goes on in life if its time has come.
    fn step(&mut self, now: Time) {
        match self.phase {
            Phase::Joining {
                started,
                calm_since,
                next_sync,
            } => {
                let alone = self.swim.living() == 0;
                let synced = self.replicator.is_synced() || alone;
                if self.swim.is_admitted() && !synced && next_sync <= now {
                    self.sync(now, started, calm_since);
                }
                let calm = now.since(calm_since) >= self.config.join_calm;
                let joined = self.swim.is_admitted() && synced && calm;
                if joined || now.since(started) >= self.config.join_patience {
                    self.phase = Phase::Ready;
                    self.with_duties(now, Duties::set_ready);
                }
            }
            Phase::HandingOver { until } => {
                let nobody = self.duties.ranks().eligible() == 0;
                if self.duties.probing() == 0 || nobody || until <= now {
                    self.with_duties(now, Duties::release_all);
                    self.phase = Phase::Leaving;
                    // What was released goes out before the goodbye does: after
                    // it nobody listens to this node any more.
                    self.replicator.wrote(now);
                    self.replicator.flush(now, &mut self.replica_out);
                    self.swim.leave(now, &mut self.swim_out);
                }
            }
            Phase::Ready | Phase::Leaving | Phase::Gone => {}
        }
    }

    fn sync(&mut self, now: Time, started: Time, calm_since: Time) {
        let peers = self.peers();
        if let Some(&peer) = peers.get(self.rng.below(peers.len())) {
            self.replicator.start_sync(now, peer, &mut self.replica_out);
        }
        self.phase = Phase::Joining {
            started,
            calm_since,
            next_sync: now + self.config.swim.period,
        };
    }

    pub(super) fn begin_to_leave(&mut self, now: Time) {
        if matches!(self.phase, Phase::Joining { .. } | Phase::Ready) {
            self.draining = true;
            self.phase = Phase::HandingOver {
                until: now + self.config.ownership.handover_bound,
            };
            self.present(now);
        }
    }

    /// Says of this node what is now true, to others and to its own parts.
    pub(super) fn present(&mut self, now: Time) {
        let mut profile = self.own.profile.clone();
        profile.capacity = self.config.capacity;
        profile.draining = self.draining;
        profile.prober_healthy = self.prober_healthy && !self.duties.is_blind();
        profile.braked = self.duties.is_braked();
        profile.checks = self.duties.checks_to_tell(now);
        self.swim
            .set_profile(now, profile.clone(), &mut self.swim_out);
        self.own.profile = profile;
        let view = Self::view_of(&self.own);
        let me = self.own.actor.node;
        self.with_duties(now, |duties, ctx| duties.set_member(ctx, me, Some(view)));
    }

    pub(super) fn with_duties(&mut self, now: Time, act: impl FnOnce(&mut Duties, &mut Ctx<'_>)) {
        let mut ctx = Ctx {
            now,
            wall_ms: self.wall_ms(now),
            silence: self.swim.silence(now),
            load: Load {
                late: self.load.is_late(now),
            },
            store: self.replicator.store_mut(),
            out: &mut self.out,
        };
        act(&mut self.duties, &mut ctx);
    }

    pub(super) fn wall_ms(&self, now: Time) -> u64 {
        self.config.wall_at_zero_ms.saturating_add(now.as_millis())
    }

    fn heed_swim(&mut self, now: Time, output: swim::Output) {
        match output {
            swim::Output::Send {
                class,
                to,
                body,
                rumors,
            } => self.send(now, class, to, Body::Swim(body), rumors),
            swim::Output::Admitted => {}
            swim::Output::Joined(actor) => {
                if let Phase::Joining {
                    started, next_sync, ..
                } = self.phase
                {
                    self.phase = Phase::Joining {
                        started,
                        calm_since: now,
                        next_sync,
                    };
                }
                self.member_changed(now, actor.node);
                if let Some(member) = self.swim.member(actor.node) {
                    let event = Event::Joined(actor, member.addr);
                    self.out.push_back(Output::Event(event));
                }
            }
            swim::Output::Suspected(actor) => {
                self.member_changed(now, actor.node);
                self.out.push_back(Output::Event(Event::Suspected(actor)));
            }
            swim::Output::Refuted(actor) => {
                self.member_changed(now, actor.node);
                self.out.push_back(Output::Event(Event::Refuted(actor)));
            }
            swim::Output::Died(actor) => {
                self.member_changed(now, actor.node);
                self.out.push_back(Output::Event(Event::Died(actor)));
            }
            swim::Output::Left(actor) => {
                self.member_changed(now, actor.node);
                self.out.push_back(Output::Event(Event::Left(actor)));
            }
            swim::Output::ProfileChanged(actor) => self.member_changed(now, actor.node),
            swim::Output::PeerDigest {
                actor,
                digest,
                addr,
            } => {
                let peer = Peer { actor, addr };
                self.overrides
                    .peer_digest(now, peer, digest == self.digest());
                // What is left of it if our decisions are theirs.
                let digest = digest ^ self.overrides.digest();
                self.replicator.peer_digest(now, peer, digest);
            }
            swim::Output::PeerClock {
                node,
                wall_ms,
                synchronised,
            } => {
                let clock = self.overrides.clock_mut();
                clock.hear(now, node, wall_ms, synchronised);
            }
            swim::Output::EpochNeeded(epoch) => self.take_epoch(now, epoch),
            swim::Output::Conflict { addr, actor } => {
                self.out.push_back(Output::Conflict { addr, actor });
            }
            swim::Output::Departed => {
                if self.phase == Phase::Leaving {
                    self.phase = Phase::Gone;
                    self.out.push_back(Output::Left);
                }
            }
        }
    }

    fn heed_replica(&mut self, now: Time, out: Out) {
        match out {
            Out::Send { class, to, body } => {
                self.send(now, class, to, Body::Replica(body), Vec::new());
            }
            Out::BulkConnect { conn, to, hello } => {
                if let Some(hello) = self.seal_bulk(hello) {
                    self.budget.spend_bulk(now, hello.len());
                    self.out.push_back(Output::BulkConnect { conn, to, hello });
                }
            }
            Out::BulkClose { conn } => self.out.push_back(Output::BulkClose { conn }),
            Out::EpochNeeded(epoch) => self.take_epoch(now, epoch),
            Out::Implausible(actor, what) => {
                let event = Event::Implausible(actor, what);
                self.out.push_back(Output::Event(event));
            }
            Out::Repaired(actor) => self.out.push_back(Output::Event(Event::Repaired(actor))),
        }
    }

    /// Somebody remembers more of this node's name than this life of it.
    fn take_epoch(&mut self, now: Time, epoch: u64) {
        if epoch <= self.own.actor.epoch
            || epoch > swim::limits::EPOCH_MAX
            || self.config.mutations.on(Mutation::EpochBelowFloorIgnored)
        {
            return;
        }
        let old = self.own.actor;
        let epoch = epoch.max(self.wall_ms(now));
        self.swim.take_epoch(now, epoch, &mut self.swim_out);
        self.own.actor = self.swim.actor();
        self.own.incarnation = self.swim.incarnation();
        let me = self.own.actor;
        self.replicator.store_mut().become_actor(me);
        self.departed.insert(old, now);
        self.own_seq = 0;
        self.marks.clear();
        self.counters.epochs_taken += 1;
        self.out.push_back(Output::PersistEpoch(me.epoch));
        self.out
            .push_back(Output::Event(Event::EpochTaken(me.epoch)));
        let view = Self::view_of(&self.own);
        self.with_duties(now, |duties, ctx| {
            duties.set_member(ctx, me.node, Some(view));
        });
    }

    /// Something of a member changed: tells the node's parts.
    fn member_changed(&mut self, now: Time, node: NodeId) {
        if node == self.own.actor.node {
            return;
        }
        self.peers_changed = true;
        let view = self.swim.member(node).map(Self::view_of);
        self.with_duties(now, |duties, ctx| duties.set_member(ctx, node, view));
    }

    /// Tells replication who there is, once for all that changed.
    fn refresh_peers(&mut self) {
        if core::mem::take(&mut self.peers_changed) {
            let peers = self.peers();
            self.overrides.set_peers(peers.clone());
            self.replicator.set_peers(peers);
            self.gate.set_protocol(self.swim.protocol());
        }
    }

    /// Sends frames of bulk answers as fast as the budget allows.
    fn feed_streams(&mut self, now: Time) {
        while self.replicator.has_frames() && self.budget.grant_bulk(now) {
            let Some(Frame { conn, body, last }) = self.replicator.next_frame() else {
                return;
            };
            if let Some(bytes) = self.seal_bulk(body) {
                self.budget.spend_bulk(now, bytes.len());
                self.out.push_back(Output::BulkSend { conn, bytes });
            }
            if last {
                self.out.push_back(Output::BulkClose { conn });
            }
        }
    }

    /// The living members in order of their ids, this node not among them.
    pub(super) fn peers(&self) -> Vec<Peer> {
        self.swim
            .members()
            .filter(|member| member.state.is_living())
            .map(|member| Peer {
                actor: member.actor,
                addr: member.addr,
            })
            .collect()
    }

    /// Sends questions and answers for second opinions: the first at once, what
    /// comes soon after together.
    fn send_questions(&mut self, now: Time) {
        if now < self.next_questions || !self.duties.has_questions() {
            return;
        }
        let spare = self.spare(now);
        let missing = 10_u32.saturating_sub(spare.tenths());
        self.next_questions = now + limits::QUESTION_GAP * (1 + 2 * missing);
        if !spare.has(Class::Opinion) {
            return;
        }
        let most = limits::questions_per_datagram(self.config.datagram_bytes);
        for (peer, questions) in self.duties.take_questions() {
            let Some(to) = self.living_addr(peer) else {
                continue;
            };
            for questions in questions.chunks(most) {
                let questions = questions.to_vec();
                let body = Body::Replica(Replica::Ask { questions });
                self.send(now, Class::Opinion, to, body, Vec::new());
            }
        }
        for (Actor { node, .. }, opinions) in self.duties.take_answers() {
            let Some(to) = self.living_addr(node) else {
                continue;
            };
            for opinions in opinions.chunks(most) {
                let opinions = opinions.to_vec();
                let body = Body::Replica(Replica::Opinion { opinions });
                self.send(now, Class::Opinion, to, body, Vec::new());
            }
        }
    }

    /// Tells a few members how this node's probes fare.
    fn send_weather(&mut self, now: Time) {
        let Some(weather) = self.duties.take_weather() else {
            return;
        };
        let peers = self.peers();
        let most = self.duties.weather_peers().min(peers.len());
        let first = self.rng.below(peers.len().max(1));
        for peer in peers.iter().cycle().skip(first).take(most) {
            let to = peer.addr;
            let body = Body::Replica(Replica::Weather { weather });
            self.send(now, Class::Opinion, to, body, Vec::new());
        }
    }

    fn send_set_messages(&mut self, now: Time) {
        for (node, body) in self.duties.take_set_messages() {
            if let Some(to) = self.living_addr(node) {
                self.send(now, Class::Pull, to, Body::Replica(body), Vec::new());
            }
        }
    }

    pub(super) fn living_addr(&self, node: NodeId) -> Option<SocketAddr> {
        let member = self.swim.member(node)?;
        member.state.is_living().then_some(member.addr)
    }

    /// Sends a datagram, if what its class may send is not used up.
    pub(super) fn send(
        &mut self,
        now: Time,
        class: Class,
        to: SocketAddr,
        body: Body,
        rumors: Vec<Rumor>,
    ) {
        if !self.spare(now).has(class) {
            return self.budget.withhold(class);
        }
        if class == Class::Ack && !self.budget.may_ack(now, to) {
            return;
        }
        let is_swim = matches!(body, Body::Swim(_));
        let packet = Packet {
            from: self.own.actor,
            body,
            rumors,
        };
        let Ok(bytes) = self.gate.seal(&packet, self.config.datagram_bytes) else {
            self.counters.unsendable += 1;
            return;
        };
        self.budget.spend(now, bytes.len());
        self.counters.datagrams_out += 1;
        let counter = if is_swim {
            &mut self.counters.bytes_out_swim
        } else {
            &mut self.counters.bytes_out_replica
        };
        *counter += bytes.len() as u64;
        self.out.push_back(Output::Datagram { to, bytes });
    }

    fn seal_bulk(&mut self, body: Replica) -> Option<Vec<u8>> {
        let packet = Packet {
            from: self.own.actor,
            body: Body::Replica(body),
            rumors: Vec::new(),
        };
        match self.gate.seal(&packet, limits::BULK_FRAME_BYTES) {
            Ok(bytes) => {
                self.counters.bytes_out_bulk += bytes.len() as u64;
                Some(bytes)
            }
            Err(_) => {
                self.counters.unsendable += 1;
                None
            }
        }
    }
}
