//! The writer dies at random instructions, again and again: the table always
//! opens, each entry is old or new, and the next writer adopts it.
//!
//! `WATCHFIRE_KILLS=10000` for the long run.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Random, count, entry, folder, is_whole, options};
use watchfire_table::{Entry, Lookup, Reader, Writer, monotonic_ns};
use watchfire_wire::NodeId;

/// Names that are always in the table once the first writer has set them.
const STEADY: u64 = 40;

/// Where the doomed writer finds its table.
const PLACE: &str = "WATCHFIRE_DOOMED_TABLE";

fn steady(n: u64) -> String {
    format!("steady-{}", n % STEADY)
}

/// The doomed writer's life: adopts the table, then writes, grows, removes and
/// moves until it is killed. Run by the test below as another process.
#[test]
fn doomed_writer() {
    let Some(path) = std::env::var_os(PLACE) else {
        return;
    };
    let path = Path::new(&path);
    // The one before may not be buried yet; its lock falls at any moment.
    let mut writer = loop {
        match Writer::open(path, &options(64), monotonic_ns()) {
            Ok(writer) => break writer,
            Err(watchfire_table::TableError::SecondWriter { .. }) => {
                std::thread::sleep(Duration::from_micros(100));
            }
            Err(refusal) => panic!("{refusal}"),
        }
    };
    // What its predecessors had not come to removing; else the table would grow
    // with each death and move ever more rarely.
    for name in writer.names() {
        if name.starts_with(b"passing") {
            writer.remove(&name);
        }
    }
    let start = writer
        .get(steady(0).as_bytes())
        .map_or(0, |e| e.since_ms + STEADY);
    let mut n = start - start % STEADY;
    loop {
        let written = Entry {
            owner: Some(NodeId(n % 300 + 1)),
            ..entry(n)
        };
        writer.set(steady(n).as_bytes(), &written).expect("it fits");
        // Passing names of all lengths fill slots and the arena and make the
        // table move every few dozen writes.
        let passing = |n: u64| format!("passing-{n}-{}", "x".repeat((n % 97) as usize));
        writer
            .set(passing(n).as_bytes(), &written)
            .expect("it fits");
        if n >= start + 20 {
            writer.remove(passing(n - 20).as_bytes());
        }
        writer.heartbeat(monotonic_ns());
        n += 1;
    }
}

fn doom(path: &Path) -> Child {
    let me = std::env::current_exe().expect("this program");
    Command::new(me)
        .args(["--exact", "doomed_writer", "--nocapture"])
        .env(PLACE, path)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process more")
}

#[test]
fn a_writer_killed_anywhere_leaves_a_whole_table() {
    let kills = count("WATCHFIRE_KILLS", 150);
    let folder = folder();
    let path = folder.path().join("table");
    let mut random = Random(count("WATCHFIRE_SEED", 0xdead));
    // All steady names are there before the first death.
    let mut writer = Writer::open(&path, &options(64), monotonic_ns()).expect("writable");
    for n in 0..STEADY {
        writer
            .set(steady(n).as_bytes(), &entry(n))
            .expect("it fits");
    }
    drop(writer);
    let follower = Reader::open(&path).expect("a table");
    let mut highest = vec![0; STEADY as usize];
    let mut moves = 0;
    for kill in 0..kills {
        let writes = || Reader::open(&path).ok()?.stat(0).map(|s| s.writes);
        let before = writes();
        let mut child = doom(&path);
        // From before its first word into the midst of its work.
        let patience = Instant::now();
        while kill % 8 != 0 && writes() <= before && patience.elapsed() < Duration::from_secs(20) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_micros(random.below(1_500)));
        child.kill().expect("it lives until now");
        child.wait().expect("an own child");

        let reader = Reader::open(&path).expect("the table always opens");
        let checked = reader.verify().expect("nobody moves it now");
        assert_eq!(checked.problems, Vec::<String>::new(), "after kill {kill}");
        moves = reader.stat(0).map_or(moves, |s| s.generation);
        for n in 0..STEADY {
            let Lookup::Found { entry: found, .. } = reader.get(steady(n).as_bytes(), 1) else {
                panic!("{} is lost after kill {kill}", steady(n));
            };
            assert!(
                is_whole(&found) && found.since_ms % STEADY == n,
                "{found:?}"
            );
            // Old or new, but never older than what was seen before.
            let seen = &mut highest[n as usize];
            assert!(found.since_ms >= *seen, "{found:?} after {seen}");
            *seen = found.since_ms;
        }
    }
    println!(
        "{kills} kills, {moves} files, {} writes of each name",
        highest[0] / STEADY
    );
    assert!(
        moves > kills / 4 && highest[0] > kills,
        "the writer worked: {moves} {highest:?}"
    );
    // A handle from before the first death is led to the last file.
    follower.refresh().expect("a table");
    assert_eq!(follower.stat(0).map(|s| s.generation), Some(moves));
    let writer = Writer::open(&path, &options(64), monotonic_ns()).expect("the next adopts it");
    assert!(writer.len() >= STEADY as usize);
}
