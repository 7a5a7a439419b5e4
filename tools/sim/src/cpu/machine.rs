//! Cores and the threads that share them: round robin, in slices. It knows no
//! thread's work, only how much of it is left.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use super::costs::Nanos;

/// Names a thread: two per host, then those that belong to no node.
pub(crate) type Task = usize;

/// Who shares which cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cores {
    /// Each node has one of its own.
    Own,
    /// All nodes share so many.
    Shared(usize),
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Shared(cores) => write!(f, "{cores}"),
        }
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "own" {
            return Ok(Self::Own);
        }
        match text.parse() {
            Ok(cores @ 1..) => Ok(Self::Shared(cores)),
            _ => Err("`own`, or how many cores all nodes share".to_owned()),
        }
    }
}

/// All cores, and what waits for them.
#[derive(Debug)]
pub(crate) struct Machines {
    cores: Vec<Core>,
    /// Threads that could run, of each machine.
    ready: Vec<VecDeque<Task>>,
    tasks: Vec<Thread>,
    slice_us: u64,
}

#[derive(Debug)]
struct Core {
    machine: usize,
    running: Option<Task>,
    slice_left_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    machine: usize,
    asleep: bool,
    /// What is left of the work that it is at.
    left: Nanos,
    used: Nanos,
}

/// What a core does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Its thread is at work; come back so many microseconds later.
    Busy(u64),
    /// This thread has nothing left of its work: it takes up more
    /// ([`Machines::work`]) or goes to [sleep](Machines::sleep).
    Free(Task),
    /// Nobody wants it.
    Idle,
}

impl Machines {
    /// Cores for so many hosts, and for so many threads beside theirs.
    pub(crate) fn new(cores: Cores, hosts: usize, others: usize, slice_us: u64) -> Self {
        let (machines, each) = match cores {
            Cores::Own => (hosts, 1),
            Cores::Shared(each) => (1, each),
        };
        let machine_of = |task: Task| {
            if machines == 1 {
                0
            } else {
                task / 2 % machines
            }
        };
        Self {
            cores: (0..machines * each)
                .map(|core| Core {
                    machine: core / each,
                    running: None,
                    slice_left_us: 0,
                })
                .collect(),
            ready: vec![VecDeque::new(); machines],
            tasks: (0..2 * hosts + others)
                .map(|task| Thread {
                    machine: machine_of(task),
                    asleep: true,
                    left: 0,
                    used: 0,
                })
                .collect(),
            slice_us,
        }
    }

    /// A thread has something to do. Gives a core to be
    /// [asked](Self::next), if one was idle.
    pub(crate) fn wake(&mut self, task: Task) -> Option<usize> {
        let thread = &mut self.tasks[task];
        if !std::mem::take(&mut thread.asleep) {
            return None;
        }
        let machine = thread.machine;
        let idle = |core: &Core| core.machine == machine && core.running.is_none();
        let core = self.cores.iter().position(idle);
        match core {
            Some(core) => {
                self.cores[core].running = Some(task);
                self.cores[core].slice_left_us = self.slice_us;
            }
            None => self.ready[machine].push_back(task),
        }
        core
    }

    /// A thread took up work that costs so much.
    pub(crate) fn work(&mut self, task: Task, cost: Nanos) {
        let thread = &mut self.tasks[task];
        thread.left += cost;
        thread.used += cost;
    }

    /// A thread waits for something to happen.
    pub(crate) fn sleep(&mut self, core: usize, task: Task) {
        self.tasks[task].asleep = true;
        self.cores[core].running = None;
    }

    /// What a thread was at is gone with its process.
    pub(crate) fn forget(&mut self, task: Task) {
        self.tasks[task].left = 0;
    }

    /// What a core does from now on.
    pub(crate) fn next(&mut self, core: usize) -> Next {
        loop {
            let it = &mut self.cores[core];
            let ready = &mut self.ready[it.machine];
            let Some(task) = it.running.or_else(|| {
                it.slice_left_us = self.slice_us;
                ready.pop_front()
            }) else {
                return Next::Idle;
            };
            it.running = Some(task);
            if it.slice_left_us == 0 {
                it.slice_left_us = self.slice_us;
                if !ready.is_empty() {
                    ready.push_back(task);
                    it.running = None;
                    continue;
                }
            }
            let thread = &mut self.tasks[task];
            // Less than a microsecond is carried into the next piece of work.
            let run_us = (thread.left / 1_000).min(it.slice_left_us);
            if run_us == 0 {
                return Next::Free(task);
            }
            thread.left -= run_us * 1_000;
            it.slice_left_us -= run_us;
            return Next::Busy(run_us);
        }
    }

    /// CPU time that a thread has taken up so far.
    pub(crate) fn used(&self, task: Task) -> Nanos {
        self.tasks[task].used
    }

    /// How many cores there are.
    pub(crate) fn cores(&self) -> usize {
        self.cores.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one core until all work is done; who ran when, in slices.
    fn history(machines: &mut Machines, core: usize) -> Vec<(u64, Task)> {
        let mut now_us = 0;
        let mut ran = Vec::new();
        loop {
            let running = machines.cores[core].running;
            match machines.next(core) {
                Next::Busy(us) => {
                    let task = machines.cores[core].running.or(running).unwrap();
                    ran.push((now_us, task));
                    now_us += us;
                }
                Next::Free(task) => machines.sleep(core, task),
                Next::Idle => return ran,
            }
        }
    }

    #[test]
    fn threads_of_one_core_take_turns_in_slices() {
        let mut machines = Machines::new(Cores::Shared(1), 1, 1, 3_000);
        assert_eq!(machines.wake(0), Some(0));
        assert_eq!(machines.wake(2), None, "the core is taken");
        machines.work(0, 7_000_000);
        machines.work(2, 1_000_000);
        let ran = history(&mut machines, 0);
        assert_eq!(ran, [(0, 0), (3_000, 2), (4_000, 0), (7_000, 0)]);
        assert_eq!(machines.used(0), 7_000_000);
    }

    #[test]
    fn whoever_has_a_core_of_its_own_waits_for_nobody() {
        let mut machines = Machines::new(Cores::Own, 3, 0, 3_000);
        assert_eq!(machines.wake(0), Some(0));
        assert_eq!(machines.wake(2), Some(1));
        assert_eq!(machines.wake(4), Some(2));
        assert_eq!(machines.wake(5), None, "one node's threads share");
        assert_eq!(machines.wake(5), None, "it waits already");
    }

    #[test]
    fn parts_of_a_microsecond_add_up() {
        let mut machines = Machines::new(Cores::Own, 1, 0, 3_000);
        let core = machines.wake(0).unwrap();
        machines.work(0, 600);
        assert_eq!(machines.next(core), Next::Free(0));
        machines.work(0, 600);
        assert_eq!(machines.next(core), Next::Busy(1));
    }
}
