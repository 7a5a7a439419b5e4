//! The order in which a gossip thread works: the one of `gossip::turn` in the
//! agent. Whoever changes it there changes it here, and sees what it does.

/// Datagrams that one turn reads.
pub const DATAGRAMS: usize = 256;
/// Probe reports that one turn takes.
pub const REPORTS: usize = 4_096;
/// CPU time of datagrams or reports in one turn, microseconds.
pub const CPU_US: u64 = 2_000;
/// While datagrams are unread the node is told the time no more often,
/// microseconds.
pub const TICK_US: u64 = 10_000;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    stage: Stage,
    left: usize,
    /// What the thread had used when the stage began, microseconds.
    used_us: u64,
    /// When the node was last told the time.
    ticked_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Datagrams,
    Tick,
    Reports,
    Streams,
    Commands,
    Heartbeat,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            stage: Stage::Waiting,
            left: 0,
            used_us: 0,
            ticked_us: 0,
        }
    }
}

impl Turn {
    /// What to do next, given what lies ready, what CPU time the thread has
    /// used and the time, microseconds; nothing if the thread sleeps.
    pub fn next(&mut self, ready: Ready, used_us: u64, now_us: u64) -> Option<Work> {
        loop {
            let in_time = used_us - self.used_us < CPU_US;
            let (work, after, left) = match self.stage {
                Stage::Waiting if !ready.is_any() => return None,
                Stage::Waiting => {
                    self.enter(Stage::Datagrams, DATAGRAMS, used_us);
                    return Some(Work::Look);
                }
                Stage::Datagrams => {
                    let any = ready.datagrams > 0 && in_time;
                    (any.then_some(Work::Datagram), Stage::Tick, 1)
                }
                Stage::Tick => {
                    let calm = ready.datagrams == 0 || now_us - self.ticked_us >= TICK_US;
                    let due = ready.tick && calm;
                    if due && self.left > 0 {
                        self.ticked_us = now_us;
                    }
                    (due.then_some(Work::Tick), Stage::Reports, REPORTS)
                }
                Stage::Reports => {
                    let any = ready.reports > 0 && in_time;
                    (any.then_some(Work::Report), Stage::Streams, ready.streams)
                }
                Stage::Streams => {
                    let any = ready.streams > 0;
                    (any.then_some(Work::Stream), Stage::Commands, ready.commands)
                }
                Stage::Commands => {
                    let any = ready.commands > 0;
                    (any.then_some(Work::Command), Stage::Heartbeat, 1)
                }
                Stage::Heartbeat => (
                    ready.heartbeat.then_some(Work::Heartbeat),
                    Stage::Waiting,
                    0,
                ),
            };
            if self.left > 0
                && let Some(work) = work
            {
                self.left -= 1;
                return Some(work);
            }
            self.enter(after, left, used_us);
        }
    }

    /// Whether one turn has ended and the next has not begun.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Waiting
    }

    fn enter(&mut self, stage: Stage, left: usize, used_us: u64) {
        self.stage = stage;
        self.left = left;
        self.used_us = used_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_its_datagrams_and_then_looks_at_the_rest() {
        let mut turn = Turn::default();
        assert_eq!(turn.next(Ready::default(), 0, 0), None);
        let mut ready = Ready {
            datagrams: DATAGRAMS + 7,
            reports: 2,
            tick: true,
            ..Ready::default()
        };
        let mut done = Vec::new();
        while let Some(work) = turn.next(ready, 0, TICK_US) {
            match work {
                Work::Datagram => ready.datagrams -= 1,
                Work::Report => ready.reports -= 1,
                Work::Tick => ready.tick = false,
                _ => {}
            }
            done.push(work);
        }
        let first = &done[1..=DATAGRAMS];
        assert!(first.iter().all(|work| *work == Work::Datagram));
        let rest = [Work::Tick, Work::Report, Work::Report, Work::Look];
        assert_eq!(done[DATAGRAMS + 1..DATAGRAMS + 5], rest);
        assert_eq!(done.len(), 1 + DATAGRAMS + 4 + 7);
    }

    #[test]
    fn what_is_dear_ends_the_stage_and_not_the_turn() {
        let mut turn = Turn::default();
        let ready = Ready {
            datagrams: 100,
            reports: 100,
            ..Ready::default()
        };
        let mut used_us = 0;
        let mut done = Vec::new();
        for _ in 0..13 {
            done.push(turn.next(ready, used_us, 0));
            used_us += 500;
        }
        let datagrams = done.iter().filter(|w| **w == Some(Work::Datagram)).count();
        let reports = done.iter().filter(|w| **w == Some(Work::Report)).count();
        assert!((3..=9).contains(&datagrams), "{done:?}");
        assert!((3..=9).contains(&reports), "{done:?}");
    }
}
