//! The lab: real POPs in network namespaces, judged from outside.
//!
//! It runs the built `watchfire` program, up to 168 of them, each at an address
//! of its own, against one nginx that is all origins. What it judges by are the
//! origins' log (who probed what when), the tables (what proxies are told),
//! nftables' counters and /proc; the agents' own text is a side record.
//!
//! | module | idea |
//! | --- | --- |
//! | `scenario` | what is played, and the bounds |
//! | `runner`, `lab`, `steps` | playing it |
//! | `net`, `packets`, `agents`, `origins` | the world |
//! | `observe`, `journal`, `sampler`, `canary`, `procs` | what is written down |
//! | `analysis` | what follows from it, as pure functions |
//! | `faults` | what is done on purpose |
//! | `report` | what is told |
//! | `cleanup` | what is left behind: nothing |

mod agents;
mod analysis;
mod canary;
mod cleanup;
mod cli;
mod clock;
mod faults;
mod journal;
mod lab;
mod net;
mod observe;
mod origins;
mod packets;
mod procs;
mod report;
mod runner;
mod sampler;
mod scenario;
mod serf;
mod shell;
mod soak;
mod steps;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
