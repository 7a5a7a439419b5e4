//! When an origin's certificate ends, told where its check is probed: by
//! `why`, by `status` and in the metrics.

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::{Pop, free_addresses};
use watchfire_table::TableVerdict::Up;

const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_end_of_a_certificate_is_told_by_who_probes_it() {
    let mut pop = Pop::new(2);
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "9",
        ])
        .args(["-subj", "/CN=origin.test", "-keyout", "key", "-out", "cert"])
        .current_dir(pop.path())
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(made.success());
    let port = free_addresses(1)[0].port();
    let server = Command::new("openssl")
        .args(["s_server", "-www", "-quiet", "-cert", "cert", "-key", "key"])
        .args(["-accept", &port.to_string()])
        .current_dir(pop.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let listens: Vec<_> = free_addresses(2).iter().map(ToString::to_string).collect();
    for (agent, listen) in pop.agents.iter_mut().zip(&listens) {
        agent.write_origins(&format!(
            "[[origin]]\nname = \"shop\"\nkind = \"https\"\nverify = false\n\
             address = \"127.0.0.1:{port}\"\n"
        ));
        agent.edit(
            "[origins]",
            &format!("[metrics]\nlisten = \"{listen}\"\n\n[origins]"),
        );
        agent.start();
    }
    pop.wait_for(Up, 1, PATIENCE);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let wanted_s = now.as_secs() + 9 * 86_400;
    let near = |end_s: u64| end_s.abs_diff(wanted_s) < 3_600;

    let deadline = Instant::now() + PATIENCE;
    let tellers = loop {
        let whys = pop.agents.iter().map(|agent| {
            let output = agent.ask(&["why", "shop", "--json"]);
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
        });
        let whys: Vec<_> = whys.collect();
        let agrees =
            |why: &serde_json::Value| why["probed_here"] == why["certificate_ends_ms"].is_u64();
        let tellers: Vec<_> = whys
            .iter()
            .enumerate()
            .filter_map(|(place, why)| Some((place, why["certificate_ends_ms"].as_u64()?)))
            .collect();
        if whys.iter().all(agrees) && tellers.len() == 1 {
            break tellers;
        }
        assert!(Instant::now() < deadline, "{whys:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    let (owner, ends_ms) = tellers[0];
    assert!(near(ends_ms / 1_000), "{ends_ms}");
    let status = pop.agents[owner].status();
    assert_eq!(status["certificates"]["shop"], ends_ms);
    let said = pop.agents[owner].ask(&["why", "shop"]).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("certificate   ends 20"), "{said}");
    for (place, listen) in listens.iter().enumerate() {
        let output = Command::new("curl")
            .args(["-sSf", &format!("http://{listen}/metrics")])
            .output()
            .unwrap();
        let page = String::from_utf8(output.stdout).unwrap();
        let series = "watchfire_origin_certificate_expiry_timestamp_seconds{origin=\"shop\"} ";
        let value = page.lines().find_map(|line| line.strip_prefix(series));
        let end_s = value.map(|value| value.parse::<f64>().unwrap());
        match end_s {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a time of this century"
            )]
            Some(end_s) => assert!(place == owner && near(end_s as u64), "{page}"),
            None => assert_ne!(place, owner, "{page}"),
        }
    }
}
