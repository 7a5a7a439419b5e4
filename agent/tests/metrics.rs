//! Metrics by the conventions, and the alerts and pages that rest on them.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Agent, Pop, free_addresses};
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_table::TableVerdict::{Down, Up};
use watchfire_wire::{Reason, Unmeasured};

const PATIENCE: Duration = Duration::from_secs(30);

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn promtool(args: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("promtool")
        .args(args)
        .current_dir(docs().join("monitoring"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there (Debian's package prometheus)");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn scrape(addr: &str, accept: &str) -> String {
    let output = Command::new("curl")
        .args(["-sSf", "-H", &format!("Accept: {accept}")])
        .arg(format!("http://{addr}/metrics"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The value of the one series that begins with this.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| {
        let rest = line.strip_prefix(series);
        rest.is_some_and(|rest| rest.starts_with(' '))
    });
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn metrics_of(agent: &Agent, more: &str) -> String {
    let listen = free_addresses(1)[0].to_string();
    agent.edit(
        "[origins]",
        &format!("[metrics]\nlisten = \"{listen}\"\n{more}\n[origins]"),
    );
    listen
}

#[test]
fn a_page_is_clean_complete_and_agrees_with_the_origins() {
    let farm = Farm::start(FarmOptions {
        count: 20,
        ..FarmOptions::default()
    })
    .unwrap();
    let origins: String = (0..20)
        .map(|n| {
            let address = farm.address(n);
            format!(
                "[[origin]]\nname = \"origin-{n}\"\naddress = \"{address}\"\npath = \"/health\"\n"
            )
        })
        .collect();
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    agent.write_origins(&origins);
    let listen = metrics_of(agent, "origins = [\"origin-1\"]\n");
    agent.start();
    pop.wait_for(Up, 20, PATIENCE);
    farm.set_fault(3..4, Fault::Status(503)).unwrap();
    pop.wait_for(Down, 1, PATIENCE);

    let page = scrape(&listen, "text/plain");
    let (clean, said) = promtool(&["check", "metrics"], &page);
    assert!(clean && said.trim().is_empty(), "{said}");
    let open = scrape(&listen, "application/openmetrics-text");
    assert!(open.ends_with("# EOF\n"));

    // Each counter that `status` knows is on the page.
    let status = pop.agents[0].status();
    for name in status["counters"].as_object().unwrap().keys() {
        let by_label = ["probes_", "datagrams_withheld_"];
        let label = by_label.iter().find_map(|prefix| name.strip_prefix(prefix));
        let label = label.map(|it| it.strip_prefix("not_measured_").unwrap_or(it));
        let shown = page.contains(&format!("watchfire_{name}_total "))
            || label.is_some_and(|label| page.contains(&format!("=\"{label}\"}} ")));
        assert!(shown, "{name} is not on\n{page}");
    }

    // What is Down has a series, what was chosen has one, and nothing else.
    let names: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("watchfire_origin_verdict{origin=\""))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["origin-1", "origin-3"]));
    assert!(
        page.contains("verdict=\"down\",reason=\"bad_status\"} 1"),
        "{page}"
    );
    assert!((value(&page, "watchfire_members{state=\"alive\"}") - 1.0).abs() < 0.1);
    assert!(value(&page, "watchfire_table_heartbeat_age_seconds") < 5.0);

    // Stopped, so that both have counted to the end.
    pop.agents[0]
        .write_origins("[[origin]]\nname = \"other\"\naddress = \"127.0.0.1:1\"\nkind = \"tcp\"\n");
    let reload = pop.agents[0].ask(&["reload", "--allow-removals"]);
    assert!(reload.status.success(), "{reload:?}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = scrape(&listen, "text/plain");
        let passed = value(
            &page,
            "watchfire_probes_total{result=\"pass\",outcome=\"passed\"}",
        );
        let bad = value(
            &page,
            "watchfire_probes_total{result=\"fail\",outcome=\"bad_status\"}",
        );
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let served = farm.counts().requests as f64;
        if (passed + bad - served).abs() <= (served * 0.005).max(1.0) {
            let times = "watchfire_probe_duration_seconds_count{kind=\"http\",phase=\"total\"}";
            assert!((value(&page, times) - passed - bad).abs() < 1.0, "{page}");
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{passed} + {bad}, and {served} were served"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn each_alert_fires_in_its_test_and_not_in_a_calm_pop() {
    let (good, said) = promtool(&["check", "rules", "alerts.yml"], "");
    assert!(good, "{said}");
    let (good, said) = promtool(&["test", "rules", "alerts_test.yml"], "");
    assert!(good, "{said}");
    let tests = fs::read_to_string(docs().join("monitoring/alerts_test.yml")).unwrap();
    for alert in alerts() {
        // Once calm, once as a test of its own.
        assert!(
            tests.contains(&format!("- name: {alert}\n")),
            "no test of {alert}"
        );
        assert!(
            tests.contains(&format!("alertname: {alert}, exp_alerts: []")),
            "{alert}"
        );
    }
}

#[test]
fn each_reason_and_each_alert_has_its_page() {
    let runbook = fs::read_to_string(docs().join("runbook.md")).unwrap();
    let told: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_owned)
        .collect();
    let reasons = Reason::ALL.iter().map(|reason| reason.key());
    let ours = Unmeasured::ALL.iter().map(|reason| reason.key());
    let all: BTreeSet<String> = reasons
        .chain(ours)
        .map(str::to_owned)
        .chain(alerts())
        .collect();
    assert_eq!(told, all);
}

fn alerts() -> Vec<String> {
    let rules = fs::read_to_string(docs().join("monitoring/alerts.yml")).unwrap();
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}
