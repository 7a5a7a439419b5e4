//! The demo is the product's promise: what it reports must hold.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn the_demo_keeps_its_promises() {
    let output = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["demo", "--json", "--origins", "300"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stdout.lines().last().unwrap_or_default();
    let report: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {stdout}\n{stderr}"));
    let number = |key: &str| {
        report[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{key} in {report}"))
    };
    assert_eq!(number("uncovered_checks"), 0.0, "{report}\n{stderr}");
    assert_eq!(number("wrong_verdicts"), 0.0, "{report}\n{stderr}");
    assert_eq!(report["tables_agree"], true, "{report}");
    assert_eq!(number("probes_per_check_interval_p50"), 1.0, "{report}");
    // Second opinions, and those who probe beside a member that died or came
    // until their words have met.
    assert!(
        number("duplicate_probes") < number("probes") / 50.0,
        "{report}"
    );
    assert!(
        number("handover_probes") <= 2.0 * number("moved_checks"),
        "{report}"
    );
    assert!(number("moved_checks") > 0.0, "nothing moved: {report}");
    assert!(number("takeover_gap_ms_p99") < 2_500.0, "{report}");
    assert!(number("flip_to_all_tables_ms_p99") < 250.0, "{report}");
    assert_eq!(number("flips"), 4.0, "{report}");
}

/// Agents that say that they end with this process.
fn agents_of(parent: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|one| std::fs::read(one.path().join("cmdline")).ok());
    let word = format!("--end-with\0{parent}\0").into_bytes();
    lines
        .filter(|line| line.windows(word.len()).any(|part| part == word))
        .count()
}

#[test]
fn a_demo_says_what_it_does_without_a_terminal_and_takes_its_agents_along() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_watchfire"))
        .args(["demo", "--origins", "100"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap()).lines();
    let steady = said.find(|line| {
        line.as_ref()
            .is_ok_and(|line| line.contains("steady state"))
    });
    assert!(steady.is_some(), "it said nothing");
    assert!(agents_of(demo.id()) > 1);
    demo.kill().unwrap();
    demo.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while agents_of(demo.id()) > 0 {
        assert!(Instant::now() < deadline, "agents go on without their demo");
        std::thread::sleep(Duration::from_millis(20));
    }
}
