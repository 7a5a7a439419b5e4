//! Rise and fall, from the origin to the table: the verdict changes after
//! exactly so many outcomes in a row, whatever kind of fail they are.

mod support;

use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use support::Pop;
use support::origin::{Does, Origin};
use watchfire_table::{Reader, TableVerdict, monotonic_ns};

/// P passes, F fails by its status, X by closing, T by silence.
const PLAN: &str = "PPPFFPFFXPPFTFPPFPFPPPPFFF";

/// The verdicts before each outcome of the plan, and after the last.
fn expected(rise: usize, fall: usize) -> Vec<TableVerdict> {
    let mut verdict = TableVerdict::Unknown;
    let (mut run, mut last) = (0, None);
    let mut shown = vec![verdict];
    for outcome in PLAN.chars() {
        let passes = outcome == 'P';
        run = if last == Some(passes) { run + 1 } else { 1 };
        last = Some(passes);
        if passes && run >= rise {
            verdict = TableVerdict::Up;
        } else if !passes && run >= fall {
            verdict = TableVerdict::Down;
        }
        shown.push(verdict);
    }
    shown
}

/// An origin that follows the plan and, before each step, looks at the table.
fn planned(host: &str, table: std::path::PathBuf, shown: Sender<TableVerdict>) -> Origin {
    let mut step = 0;
    Origin::new(host, move |_| {
        let verdict = Reader::open(&table)
            .ok()
            .and_then(|reader| reader.get(b"o", monotonic_ns()).entry())
            .map_or(TableVerdict::Unknown, |entry| entry.verdict);
        // Nobody listens any more once all was seen.
        let _ = shown.send(verdict);
        let outcome = PLAN.chars().nth(step);
        step += 1;
        match outcome {
            Some('F') => Does::Status(503),
            Some('X') => Does::Close,
            Some('T') => Does::Hang,
            _ => Does::Status(200),
        }
    })
}

#[test]
fn the_verdict_follows_outcomes_in_a_row_and_nothing_else() {
    let rules = [
        (2, 3, ""),
        (3, 2, ""),
        (1, 1, ""),
        (2, 3, "down_interval = \"700ms\"\n"),
    ];
    let runs = ["io_uring", "epoll"].map(|backend| {
        rules
            .iter()
            .enumerate()
            .map(move |(index, &(rise, fall, more))| {
                let mut pop = Pop::new(1);
                let agent = &mut pop.agents[0];
                let text = std::fs::read_to_string(agent.config()).unwrap();
                let told = format!("[probe]\nbackend = \"{backend}\"\njoin_patience = \"100ms\"\n");
                std::fs::write(agent.config(), text.replace("[probe]\n", &told)).unwrap();
                let (sender, shown) = mpsc::channel();
                let host = format!("127.48.{}.{}", backend.len(), index + 1);
                let origin = planned(&host, agent.table(), sender);
                agent.write_origins(&format!(
                    "[[origin]]\nname = \"o\"\naddress = \"{}\"\ninterval = \"500ms\"\n\
                 timeout = \"300ms\"\nrise = {rise}\nfall = {fall}\n{more}",
                    origin.addr
                ));
                agent.start();
                (
                    pop,
                    shown,
                    expected(rise, fall),
                    format!("{backend} {rise} {fall} {more}"),
                )
            })
    });
    let runs: Vec<_> = runs.into_iter().flatten().collect();
    for (pop, shown, expected, what) in runs {
        let shown: Vec<_> = (0..expected.len())
            .map(|_| shown.recv_timeout(Duration::from_secs(20)).unwrap())
            .collect();
        assert_eq!(shown, expected, "{what}\n{}", pop.agents[0].log());
    }
}
