//! The demo is the product's promise: what it reports must hold.

use std::process::Command;

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
