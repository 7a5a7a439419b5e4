//! The order and the length of a gossip thread's turn: those of `gossip::turn`
//! in the agent. Whoever changes them there changes them here, and sees what
//! that does.

/// Datagrams that one turn reads.
pub const DATAGRAMS: usize = 256;
/// Probe reports that one turn takes.
pub const REPORTS: usize = 4_096;
/// Time that datagrams or reports may take in one turn, each for itself, whoever
/// had the processor, microseconds.
pub const TIME_PER_TURN_US: u64 = 2_000;
/// Pieces of work from one look at that time to the next.
const LOOK_EVERY: usize = 8;
/// While datagrams are left unread timers are looked at no more often,
/// microseconds.
pub const TICK_WHILE_UNREAD_US: u64 = 10_000;

/// What comes first in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What keeps members alive, within bounds: datagrams and timers.
    #[default]
    LivenessFirst,
    /// Whatever lies in the sockets, however long that takes: the order that
    /// made storms worse, kept to show it.
    SocketsFirst,
}

/// What lies ready for a gossip thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Datagrams in the socket.
    pub datagrams: usize,
    /// Frames and ends of bulk streams.
    pub streams: usize,
    /// Reports of the probe threads.
    pub reports: usize,
    /// Commands of the control thread.
    pub commands: usize,
    /// The node's time has come.
    pub tick: bool,
    /// The table's heartbeat is due.
    pub heartbeat: bool,
    /// Now, microseconds.
    pub now_us: u64,
}

impl Ready {
    fn is_any(&self) -> bool {
        self.datagrams + self.streams + self.reports + self.commands > 0
            || self.tick
            || self.heartbeat
    }
}

/// The next piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A new turn: look at everything.
    Look,
    /// Read and handle one datagram.
    Datagram,
    /// Handle what came on a bulk stream.
    Stream,
    /// Handle one report.
    Report,
    /// Do what the control thread asks.
    Command,
    /// Tell the node the time.
    Tick,
    /// The table's heartbeat.
    Heartbeat,
}

/// Where a turn is.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    order: Order,
    /// Index into the order's stages; beyond them the turn is over.
    at: usize,
    done: usize,
    most: usize,
    entered_us: u64,
    ticked_us: u64,
}

const LIVENESS_FIRST: [Work; 6] = [
    Work::Datagram,
    Work::Tick,
    Work::Report,
    Work::Stream,
    Work::Command,
    Work::Heartbeat,
];
const SOCKETS_FIRST: [Work; 6] = [
    Work::Datagram,
    Work::Stream,
    Work::Report,
    Work::Command,
    Work::Tick,
    Work::Heartbeat,
];

impl Turn {
    /// Before the first turn.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            order,
            at: LIVENESS_FIRST.len(),
            done: 0,
            most: 0,
            entered_us: 0,
            ticked_us: 0,
        }
    }

    /// What to do next, given what lies ready; nothing if the thread sleeps.
    pub fn next(&mut self, ready: Ready) -> Option<Work> {
        let stages = match self.order {
            Order::LivenessFirst => LIVENESS_FIRST,
            Order::SocketsFirst => SOCKETS_FIRST,
        };
        loop {
            let Some(&work) = stages.get(self.at) else {
                if !ready.is_any() {
                    return None;
                }
                self.enter(0, stages[0], ready);
                return Some(Work::Look);
            };
            if self.done < self.most && self.wants(work, ready) && !self.is_used_up(work, ready) {
                self.done += 1;
                if work == Work::Tick {
                    self.ticked_us = ready.now_us;
                }
                return Some(work);
            }
            let after = self.at + 1;
            let next = stages.get(after).copied().unwrap_or(Work::Look);
            self.enter(after, next, ready);
        }
    }

    fn wants(&self, work: Work, ready: Ready) -> bool {
        match work {
            Work::Datagram => ready.datagrams > 0,
            Work::Stream => ready.streams > 0,
            Work::Report => ready.reports > 0,
            Work::Command => ready.commands > 0,
            Work::Heartbeat => ready.heartbeat,
            Work::Tick => {
                let often = self.ticked_us + TICK_WHILE_UNREAD_US > ready.now_us;
                let unread = ready.datagrams > 0 && self.order == Order::LivenessFirst;
                ready.tick && !(unread && often)
            }
            Work::Look => false,
        }
    }

    fn is_used_up(&self, work: Work, ready: Ready) -> bool {
        let bounded = matches!(work, Work::Datagram | Work::Report);
        bounded
            && self.order == Order::LivenessFirst
            && self.done > 0
            && self.done.is_multiple_of(LOOK_EVERY)
            && ready.now_us - self.entered_us >= TIME_PER_TURN_US
    }

    fn enter(&mut self, at: usize, work: Work, ready: Ready) {
        self.at = at;
        self.done = 0;
        self.entered_us = ready.now_us;
        self.most = match work {
            Work::Datagram => DATAGRAMS,
            Work::Report => REPORTS,
            Work::Stream => ready.streams,
            Work::Command => ready.commands,
            Work::Tick | Work::Heartbeat => 1,
            Work::Look => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works off what lies ready, each piece for `cost_us`.
    fn history(order: Order, mut ready: Ready, cost_us: u64) -> Vec<Work> {
        let mut turn = Turn::new(order);
        let mut done = Vec::new();
        while let Some(work) = turn.next(ready) {
            match work {
                Work::Datagram => ready.datagrams -= 1,
                Work::Report => ready.reports -= 1,
                Work::Stream => ready.streams -= 1,
                Work::Tick => ready.tick = false,
                _ => {}
            }
            ready.now_us += cost_us;
            done.push(work);
        }
        done
    }

    fn full() -> Ready {
        Ready {
            datagrams: DATAGRAMS + 7,
            reports: 2,
            streams: 1,
            tick: true,
            now_us: 1_000_000,
            ..Ready::default()
        }
    }

    #[test]
    fn nothing_ready_is_sleep() {
        assert!(history(Order::LivenessFirst, Ready::default(), 1).is_empty());
    }

    #[test]
    fn a_turn_is_bounded_and_bulk_comes_after_timers() {
        let done = history(Order::LivenessFirst, full(), 100);
        let first_tick = done.iter().position(|work| *work == Work::Tick).unwrap();
        // Two milliseconds of datagrams, looked at every eighth.
        assert_eq!(first_tick, 1 + 24);
        let stream = done.iter().position(|work| *work == Work::Stream).unwrap();
        assert_eq!(stream, first_tick + 3);
    }

    #[test]
    fn sockets_first_reads_all_that_it_may_before_it_looks_elsewhere() {
        let done = history(Order::SocketsFirst, full(), 100);
        let first = &done[1..=DATAGRAMS];
        assert!(first.iter().all(|work| *work == Work::Datagram));
        let rest = [Work::Stream, Work::Report, Work::Report, Work::Tick];
        assert_eq!(done[DATAGRAMS + 1..DATAGRAMS + 5], rest);
    }

    #[test]
    fn while_datagrams_are_unread_timers_are_looked_at_less_often() {
        let mut turn = Turn::new(Order::LivenessFirst);
        let mut ready = Ready {
            datagrams: 10_000,
            tick: true,
            now_us: 1_000_000,
            ..Ready::default()
        };
        let mut ticks = 0;
        for _ in 0..1_000 {
            ready.now_us += 100;
            ticks += usize::from(turn.next(ready) == Some(Work::Tick));
        }
        assert!((8..=10).contains(&ticks), "{ticks} in 100 ms");
    }
}
