//! The order in which a gossip thread works: the one of `gossip::turn` in the
//! agent. Whoever changes it there changes it here, and sees what it does.

/// Datagrams that one turn reads.
pub const DATAGRAMS: usize = 256;
/// Probe reports that one turn takes.
pub const REPORTS: usize = 4_096;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Datagrams,
    Streams,
    Reports,
    Commands,
    Tick,
    Heartbeat,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            stage: Stage::Waiting,
            left: 0,
        }
    }
}

impl Turn {
    /// What to do next, given what lies ready; nothing if the thread sleeps.
    pub fn next(&mut self, ready: Ready) -> Option<Work> {
        loop {
            let (work, after, left) = match self.stage {
                Stage::Waiting if !ready.is_any() => return None,
                Stage::Waiting => {
                    self.enter(Stage::Datagrams, DATAGRAMS);
                    return Some(Work::Look);
                }
                Stage::Datagrams => {
                    let any = ready.datagrams > 0;
                    (any.then_some(Work::Datagram), Stage::Streams, ready.streams)
                }
                Stage::Streams => {
                    let any = ready.streams > 0;
                    (any.then_some(Work::Stream), Stage::Reports, REPORTS)
                }
                Stage::Reports => {
                    let any = ready.reports > 0;
                    (any.then_some(Work::Report), Stage::Commands, ready.commands)
                }
                Stage::Commands => {
                    let any = ready.commands > 0;
                    (any.then_some(Work::Command), Stage::Tick, 1)
                }
                Stage::Tick => (ready.tick.then_some(Work::Tick), Stage::Heartbeat, 1),
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
            self.enter(after, left);
        }
    }

    /// Whether one turn has ended and the next has not begun.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Waiting
    }

    fn enter(&mut self, stage: Stage, left: usize) {
        self.stage = stage;
        self.left = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_its_datagrams_and_then_looks_at_the_rest() {
        let mut turn = Turn::default();
        assert_eq!(turn.next(Ready::default()), None);
        let mut ready = Ready {
            datagrams: DATAGRAMS + 7,
            reports: 2,
            tick: true,
            ..Ready::default()
        };
        let mut done = Vec::new();
        while let Some(work) = turn.next(ready) {
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
        let rest = [Work::Report, Work::Report, Work::Tick, Work::Look];
        assert_eq!(done[DATAGRAMS + 1..DATAGRAMS + 5], rest);
        assert_eq!(done.len(), 1 + DATAGRAMS + 4 + 7);
    }
}
