//! The io_uring driver: one ring per thread, direct descriptors, short links.
//!
//! A connection is opened by one link (socket, options, connect; half-open
//! also the disconnect), used by another (send, receive), and closed by a
//! third. What succeeds within a link says nothing, so each link ends in one
//! completion; a slot is free only after the completion of its close or
//! disconnect. The wheel above owns all deadlines: the ring waits, at most,
//! for the next one.
//!
//! A connect's success is not believed before a look at the socket confirms
//! it (`push_look`).
//!
//! A connection that went well is reset by a connect to nowhere (`AF_UNSPEC`).
//! The kernel sends the same reset as for a close with linger 0, and leaves a
//! socket as good as new, which the slot's next probe of the same manner
//! connects again: making and destroying sockets and their files is a third of
//! what a half-open probe costs.

use core::time::Duration;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use io_uring::squeue::{Entry, Flags};
use io_uring::{CompletionQueue, IoUring};
use watchfire_probe_core::engine::{Action, During, Engine, Event, Slot};
use watchfire_wire::Time;

use super::socket::{Manner, Sockaddr, SocketOption, SocketPlans, can_be_used_again, is_v6};
use super::uring_entries::{self, Life};
use super::uring_queue::Submissions;
use super::uring_slots::{GENERATION_MASK, Known, Memory, Op, SlotState, untag};
use super::ways::Ways;
use super::{Driver, RECEIVE_BYTES, awaited, route};
use crate::clock;
use crate::limits::{GATHER_FOR, GATHERED_MAX, SOCKETS_KEPT};
use crate::wake::Wake;

/// Submission entries that only cancels and closes may take: what is open can
/// always be ended.
const ROOM_TO_END: usize = 64;

/// Entries of the longest way to end a slot: a cancel, an option and a close.
const END_ENTRIES: usize = 3;

/// Entries of the longest way to open one, beside its options: a close, a
/// socket, a bind, a connect, a look at it and a disconnect or close.
const OPEN_ENTRIES: usize = 6;

/// Events told to the engine with one reading of the clock.
const EVENTS_PER_CLOCK: usize = watchfire_probe_core::limits::EVENTS_PER_CLOCK;

/// The driver, on a ring that its thread made.
pub(crate) struct UringDriver<'a> {
    queue: Submissions<'a>,
    completions: CompletionQueue<'a>,
    memory: Memory,
    plans: &'a SocketPlans,
    ways: Ways,
    wake: &'a Wake,
    can_bind: bool,
    /// Operations handed over in this turn that wait for a word of an origin.
    awaited: usize,
    /// What is known without asking the kernel: told with the next harvest.
    pending: Vec<(Slot, Known)>,
    /// Ends that found no room in the queue.
    backlog: Vec<Action>,
    /// Turns through the source addresses.
    turn: usize,
    in_flight: u32,
    /// Free slots that keep a socket.
    kept: usize,
    /// There was no room to listen for the wake-up; the next harvest tries.
    unheard: bool,
}

impl<'a> UringDriver<'a> {
    /// A driver for `slots` connections on `ring`.
    pub(crate) fn new(
        ring: &'a mut IoUring,
        slots: u32,
        plans: &'a SocketPlans,
        wake: &'a Wake,
    ) -> Self {
        let can_bind = super::uring_setup::can_bind(ring);
        let can_gather = ring.params().is_feature_min_timeout();
        let (submitter, queue, completions) = ring.split();
        let mut driver = Self {
            queue: Submissions::new(submitter, queue, can_gather),
            completions,
            memory: Memory {
                slots: (0..slots).map(|_| SlotState::new()).collect(),
                buffers: vec![0; slots as usize * RECEIVE_BYTES],
                reset: Box::new(SocketOption::reset_on_close()),
                nowhere: Box::new(Sockaddr::nowhere()),
                wake: Box::new(0),
            },
            plans,
            ways: Ways::default(),
            wake,
            can_bind,
            awaited: 0,
            pending: Vec::new(),
            backlog: Vec::new(),
            turn: 0,
            in_flight: 0,
            kept: 0,
            unheard: false,
        };
        driver.listen_for_wake();
        driver
    }

    /// Asks to be told when another thread wants attention.
    fn listen_for_wake(&mut self) {
        let fd: RawFd = self.wake.as_fd().as_raw_fd();
        let entry = uring_entries::wake(fd, &mut self.memory.wake);
        self.unheard = !self.queue.reserve(1, 0);
        if !self.unheard {
            self.push(entry);
        }
    }

    fn push(&mut self, entry: Entry) {
        // Every pointer in an entry leads into `self.memory`, into the plans, or to
        // a request that the engine keeps until the exchange's event, also where this
        // thread panics (see `drop`, and for the engine `Worker`, which frees it only
        // after an orderly end).
        // SAFETY: so all that it points to outlives the operation.
        unsafe { self.queue.push(&entry) };
    }

    /// A slot as it lives now.
    fn life(&self, slot: Slot) -> Life {
        let generation = self.memory.slots[slot as usize].generation;
        Life { slot, generation }
    }

    fn open(&mut self, engine: &Engine, slot: Slot) {
        let target = engine.target(slot);
        let v6 = is_v6(&target.addr);
        let manner = Manner::of(&target);
        let way = engine
            .egress(slot)
            .map(|egress| self.ways.plan(self.plans, egress, manner, v6));
        let plan = match &way {
            Some(way) => way,
            None => self.plans.of(manner, v6),
        };
        let entries = plan.options.len() + OPEN_ENTRIES;
        if !self.queue.reserve(entries, ROOM_TO_END) {
            self.refuse(slot, During::Open, libc::EBUSY, target.half_open);
            return;
        }
        let source_at = if plan.sources.is_empty() {
            usize::MAX
        } else if self.can_bind {
            self.turn = self.turn.wrapping_add(1);
            self.turn % plan.sources.len()
        } else {
            self.refuse(slot, During::Open, libc::EOPNOTSUPP, target.half_open);
            return;
        };
        let state = &mut self.memory.slots[slot as usize];
        let had_kept = core::mem::take(&mut state.kept);
        // Kept sockets are those of no way of their own.
        let again = had_kept && state.manner == manner && state.v6 == v6 && way.is_none();
        state.way.clone_from(&way);
        state.addr = Sockaddr::new(target.addr);
        state.manner = manner;
        state.open = true;
        state.failed = false;
        state.busy = true;
        state.v6 = v6;
        state.source = source_at;
        // A bound socket is not bound anew, be it by us or by where it was connected
        // to.
        state.can_be_kept =
            way.is_none() && plan.sources.is_empty() && can_be_used_again(&target.addr);
        state.watching = false;
        state.send_errno = 0;
        state.sends_apart = false;
        let can_be_kept = state.can_be_kept;
        self.kept -= usize::from(had_kept);
        let life = self.life(slot);
        let quiet_link = Flags::IO_LINK | Flags::SKIP_SUCCESS;
        if had_kept && !again {
            self.push(life.close_kept());
        }
        if !again {
            self.push(life.socket(v6, quiet_link));
        }
        for option in &plan.options {
            if !(again && option.survives_disconnect()) {
                self.push(life.option(option, Op::Option, quiet_link));
            }
        }
        if let Some(source) = plan.sources.get(source_at) {
            self.push(life.bind(source, v6, quiet_link));
        }
        let addr = &self.memory.slots[slot as usize].addr;
        if target.half_open {
            // The end comes whether the connect succeeds or not, and its
            // completion alone tells of success.
            let quiet_hardlink = Flags::IO_HARDLINK | Flags::SKIP_SUCCESS;
            let connect = life.connect(addr, v6, quiet_hardlink);
            self.push(connect);
            self.push(life.look(quiet_hardlink));
            self.push(if can_be_kept {
                life.disconnect(&self.memory.nowhere)
            } else {
                life.close()
            });
        } else {
            let connect = life.connect(addr, v6, quiet_link);
            self.push(connect);
            self.push(life.look(Flags::empty()));
        }
        self.in_flight += 1;
    }

    /// Tells of a failure, once it is known whether the network or this host's
    /// own routing is its cause.
    fn tell_failed(
        &self,
        engine: &mut Engine,
        now: Time,
        slot: Slot,
        (during, errno): (During, i32),
    ) {
        let state = &self.memory.slots[slot as usize];
        let plan = state.plan(self.plans);
        let source = plan.sources.get(state.source);
        let (during, errno) = route::judge(during, errno, &state.addr, state.v6, plan, source);
        engine.on_event(now, slot, Event::Failed { during, errno });
    }

    fn exchange(&mut self, engine: &Engine, slot: Slot) {
        if !self.queue.reserve(2, ROOM_TO_END) {
            self.refuse(slot, During::Send, libc::EBUSY, false);
            return;
        }
        let bytes = engine.outgoing(slot);
        let life = self.life(slot);
        let state = &mut self.memory.slots[slot as usize];
        // A receive that is in progress already takes the answer.
        let watched = state.watching && state.busy;
        state.sends_apart |= watched;
        let link = if watched {
            Flags::empty()
        } else {
            Flags::IO_LINK
        };
        self.push(life.send(bytes, link | Flags::SKIP_SUCCESS));
        if !watched {
            self.push_receive(slot);
        }
    }

    fn watch(&mut self, slot: Slot) {
        self.receive(slot);
        self.memory.slots[slot as usize].watching = true;
    }

    fn receive(&mut self, slot: Slot) {
        if !self.queue.reserve(1, ROOM_TO_END) {
            self.refuse(slot, During::Receive, libc::EBUSY, false);
            return;
        }
        self.push_receive(slot);
    }

    fn push_receive(&mut self, slot: Slot) {
        self.memory.slots[slot as usize].busy = true;
        let from = slot as usize * RECEIVE_BYTES;
        let life = self.life(slot);
        let buffer = &mut self.memory.buffers[from..from + RECEIVE_BYTES];
        let entry = life.receive(buffer);
        self.push(entry);
    }

    fn cancel(&mut self, slot: Slot) {
        let state = &self.memory.slots[slot as usize];
        if !state.busy {
            // It ended by itself while this waited for its turn.
            return;
        }
        if !self.queue.reserve(1, 0) {
            self.backlog.push(Action::Cancel(slot));
            return;
        }
        self.push(self.life(slot).cancel());
    }

    fn close(&mut self, slot: Slot, reset: bool) {
        let state = &self.memory.slots[slot as usize];
        if !state.open {
            self.pending.push((slot, Known::Closed));
            return;
        }
        let sends_apart = state.sends_apart;
        let well = !state.failed && !sends_apart;
        let keep = reset && well && state.can_be_kept && self.kept < SOCKETS_KEPT;
        if !self.queue.reserve(END_ENTRIES, 0) {
            self.backlog.push(Action::Close { slot, reset });
            return;
        }
        let life = self.life(slot);
        if keep {
            return self.push(life.disconnect(&self.memory.nowhere));
        }
        let quiet_hardlink = Flags::IO_HARDLINK | Flags::SKIP_SUCCESS;
        if sends_apart {
            // The kernel must not read a request that is gone with its check.
            self.push(life.cancel_send(quiet_hardlink));
        }
        if reset {
            // A socket that takes no option is closed all the same.
            self.push(life.option(&self.memory.reset, Op::Reset, quiet_hardlink));
        }
        self.push(life.close());
    }

    /// An operation found no room, or cannot be done at all.
    fn refuse(&mut self, slot: Slot, during: During, errno: i32, half_open: bool) {
        self.pending.push((slot, Known::Failed(during, errno)));
        if during == During::Open {
            self.memory.slots[slot as usize].open = false;
            self.in_flight += 1;
            if half_open {
                self.pending.push((slot, Known::Closed));
            }
        }
    }

    /// Tells what was known without the kernel.
    fn tell_pending(&mut self, engine: &mut Engine, now: Time) {
        for (slot, known) in core::mem::take(&mut self.pending) {
            match known {
                Known::Failed(during, errno) => {
                    engine.on_event(now, slot, Event::Failed { during, errno });
                }
                Known::Closed => self.tell_closed(engine, slot, now),
            }
        }
    }

    fn tell_closed(&mut self, engine: &mut Engine, slot: Slot, now: Time) {
        let state = &mut self.memory.slots[slot as usize];
        state.open = false;
        state.generation = state.generation.wrapping_add(1) & GENERATION_MASK;
        self.in_flight -= 1;
        engine.on_event(now, slot, Event::Closed);
    }

    /// Tells what one completion means. Returns whether it was a wake-up.
    fn complete(&mut self, engine: &mut Engine, now: Time, user_data: u64, result: i32) -> bool {
        let (op, generation, slot) = untag(user_data);
        if op == Op::Wake {
            return true;
        }
        let Some(state) = self.memory.slots.get_mut(slot as usize) else {
            return false;
        };
        // A cancel that came too late may speak of a slot's former life.
        if state.generation != generation {
            return false;
        }
        if op == Op::Cancel {
            // One that found nothing came too late, or too early: the links of
            // a chain are begun one by one, and the next one was not yet.
            if state.busy {
                self.backlog.push(Action::Cancel(slot));
            }
            return false;
        }
        if op != Op::Reset {
            state.busy = false;
        }
        let errno = -result;
        match op {
            Op::Socket => {
                state.open = false;
                let half_open = state.manner.is_half_open();
                let during = During::Open;
                engine.on_event(now, slot, Event::Failed { during, errno });
                if half_open {
                    self.tell_closed(engine, slot, now);
                }
            }
            Op::Option => {
                let half_open = state.manner.is_half_open();
                state.failed = true;
                let during = During::Open;
                engine.on_event(now, slot, Event::Failed { during, errno });
                if half_open {
                    // The link is broken, its end with it.
                    self.close(slot, false);
                }
            }
            Op::Connect if result < 0 => {
                state.failed = true;
                self.tell_failed(engine, now, slot, (During::Connect, errno));
            }
            // Silent when it succeeds: the look behind it tells.
            Op::Connect => {}
            // The connect itself told why.
            Op::Look if state.failed => {}
            Op::Look if result < 0 => {
                state.failed = true;
                // An ICMP message, of which the number is lost.
                self.tell_failed(engine, now, slot, (During::Connect, libc::EHOSTUNREACH));
            }
            Op::Look => engine.on_event(now, slot, Event::Connected),
            Op::Send => {
                // Short: the origin stopped reading for good.
                let errno = if result < 0 { errno } else { libc::EPIPE };
                state.failed = true;
                if state.watching {
                    // The receive is told apart from it and must end first.
                    state.busy = true;
                    state.send_errno = errno;
                    self.cancel(slot);
                } else {
                    self.tell_failed(engine, now, slot, (During::Send, errno));
                }
            }
            Op::Receive if state.send_errno != 0 => {
                let errno = core::mem::take(&mut state.send_errno);
                state.watching = false;
                self.tell_failed(engine, now, slot, (During::Send, errno));
            }
            Op::Receive if result > 0 => {
                state.watching = false;
                let from = slot as usize * RECEIVE_BYTES;
                let until = from + (result as usize).min(RECEIVE_BYTES);
                engine.on_event(
                    now,
                    slot,
                    Event::Received(&self.memory.buffers[from..until]),
                );
            }
            Op::Receive if result == 0 => {
                state.watching = false;
                engine.on_event(now, slot, Event::Eof);
            }
            Op::Receive => {
                state.failed = true;
                self.tell_failed(engine, now, slot, (During::Receive, errno));
            }
            Op::Close => {
                if state.manner.is_half_open() && !state.failed {
                    engine.on_event(now, slot, Event::Connected);
                }
                self.tell_closed(engine, slot, now);
            }
            Op::Disconnect => {
                let failed = core::mem::replace(&mut state.failed, true);
                // A socket that saw trouble is not trusted with another probe.
                let keep = result >= 0 && !failed && self.kept < SOCKETS_KEPT;
                state.kept = keep;
                self.kept += usize::from(keep);
                if state.manner.is_half_open() && !failed {
                    // Told now and not when it is closed: its deadline may pass
                    // before that.
                    engine.on_event(now, slot, Event::Connected);
                }
                if keep {
                    self.tell_closed(engine, slot, now);
                } else {
                    self.close(slot, true);
                }
            }
            Op::Cancel | Op::Wake | Op::Reset => {}
        }
        false
    }
}

impl Driver for UringDriver<'_> {
    fn carry_out(&mut self, engine: &Engine, actions: &[Action]) {
        for action in core::mem::take(&mut self.backlog) {
            self.act(engine, action);
        }
        for &action in actions {
            self.act(engine, action);
        }
        self.awaited = awaited(actions);
    }

    fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = if self.pending.is_empty() && self.backlog.is_empty() {
            timeout
        } else {
            Duration::ZERO
        };
        self.completions.sync();
        if !self.completions.is_empty() || timeout.is_zero() {
            return self.queue.enter(0, timeout, None);
        }
        // One word is waited for as long as it takes; of several those that are soon.
        if self.awaited > 1 && timeout > GATHER_FOR {
            let want = self.awaited.min(GATHERED_MAX);
            self.queue.enter(want, timeout, Some(GATHER_FOR))
        } else {
            self.queue.enter(1, timeout, None)
        }
    }

    fn harvest(&mut self, engine: &mut Engine, now: Time) -> io::Result<bool> {
        let mut now = now;
        let mut woken = false;
        let mut told = 0;
        let mut asked = false;
        self.tell_pending(engine, now);
        loop {
            let told_before = told;
            self.completions.sync();
            while let Some(entry) = self.completions.next() {
                woken |= self.complete(engine, now, entry.user_data(), entry.result());
                told += 1;
                if told % EVENTS_PER_CLOCK == 0 {
                    now = clock::now();
                }
            }
            self.completions.sync();
            // The kernel hands over a few at a time; whatever had happened is
            // to be told before any deadline passes. Its word that there is
            // more may be stale, for it is written beside the list and not
            // with it: a pass that found nothing is the last one.
            let more = self.queue.more_may_come();
            if !more || (asked && told == told_before) {
                break;
            }
            asked = true;
            // One completion, at once: the kernel then works until it has one
            // or has nothing left to do. Asked for none it would stop after a
            // few steps, which may all have been silent.
            self.queue.enter(1, Duration::ZERO, None)?;
        }
        if woken || self.unheard {
            self.listen_for_wake();
        }
        Ok(woken)
    }
}

impl UringDriver<'_> {
    fn act(&mut self, engine: &Engine, action: Action) {
        match action {
            Action::Open(slot) => self.open(engine, slot),
            Action::Exchange(slot) => self.exchange(engine, slot),
            Action::Receive(slot) => self.receive(slot),
            Action::Watch(slot) => self.watch(slot),
            Action::Cancel(slot) => self.cancel(slot),
            Action::Close { slot, reset } => self.close(slot, reset),
        }
    }
}

impl Drop for UringDriver<'_> {
    fn drop(&mut self) {
        // The kernel may still write into the buffers of what is in flight,
        // and into the wake-up's word. An orderly end leaves only the latter;
        // it is cancelled here and its end waited for. After anything else
        // the memory is left to the kernel: a leak, but no corruption. While a
        // panic unwinds nothing that was counted is believed.
        let quiet =
            !std::thread::panicking() && self.in_flight == 0 && self.queue.cancel_all(LAST_WAIT);
        if !quiet {
            let blank = Memory {
                slots: Vec::new(),
                buffers: Vec::new(),
                reset: Box::new(SocketOption::reset_on_close()),
                nowhere: Box::new(Sockaddr::nowhere()),
                wake: Box::new(0),
            };
            core::mem::forget(core::mem::replace(&mut self.memory, blank));
        }
    }
}

/// How long the end of the last operation is waited for.
const LAST_WAIT: Duration = Duration::from_millis(500);
