//! Origins by name: real agents that ask a DNS server of the test's own.

mod support;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::dns::{Dns, Says};
use support::origin::{Does, Origin};
use support::{Agent, Pop, watchfire};
use watchfire_table::TableVerdict::{Down, Unknown, Up};

const PATIENCE: Duration = Duration::from_secs(30);

/// One origin at two addresses and one port, each with a log of its own.
fn twins(plan: impl FnMut(&str) -> Does + Send + Clone + 'static) -> [(Ipv4Addr, Origin); 2] {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let host = |n: usize| Ipv4Addr::new(127, 60, (std::process::id() % 250) as u8, n as u8);
    let a = host(NEXT.fetch_add(2, Ordering::Relaxed));
    let b = Ipv4Addr::from(u32::from(a) + 1);
    let first = Origin::new(&a.to_string(), plan.clone());
    let second = Origin::on((b, first.addr.port()), plan);
    [(a, first), (b, second)]
}

fn well(_: &str) -> Does {
    Does::Status(200)
}

fn resolve_by(agent: &Agent, dns: &Dns) {
    agent.edit(
        "[table]",
        &format!(
            "[resolver]\nnameservers = [\"{}\"]\nttl_min = \"1s\"\ntimeout = \"1s\"\n\
             missing_after = \"2s\"\n\n[table]",
            dns.addr
        ),
    );
}

fn origins(name: &str, port: u16) -> String {
    format!(
        "[[origin]]\nname = \"shop\"\naddress = \"{name}:{port}\"\npath = \"/health\"\n\
         interval = \"500ms\"\ntimeout = \"300ms\"\n"
    )
}

fn why(agent: &Agent) -> serde_json::Value {
    let output = agent.ask(&["why", "shop", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}\n{}", agent.log()))
}

fn wait(what: &str, agent: &Agent, holds: impl Fn(&Agent) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds(agent) {
        assert!(
            Instant::now() < until,
            "{what}\n{}\n{}",
            why(agent),
            agent.log()
        );
        sleep(Duration::from_millis(100));
    }
}

/// For so long each table says Up.
fn stays_up(pop: &Pop, span: Duration) {
    let began = Instant::now();
    while began.elapsed() < span {
        for agent in &pop.agents {
            let counts = (agent.count(Up), agent.count(Down), agent.count(Unknown));
            assert_eq!(counts, (1, 0, 0), "{}\n{}", why(agent), agent.log());
        }
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn servers_whose_caches_differ_have_one_owner_and_no_verdict_is_lost() {
    let [(a, first), (b, second)] = twins(well);
    let mut pop = Pop::new(5);
    let began = Instant::now();
    let dns: Vec<_> = (0..5)
        .map(|behind| {
            // Every two seconds the other address, each server 2.5 s more behind.
            Dns::new(move |_| {
                let now = (began.elapsed() + Duration::from_secs(60)).as_secs() - 5 * behind / 2;
                let address = if (now / 2).is_multiple_of(2) { a } else { b };
                Says::Addresses(vec![address], 1)
            })
        })
        .collect();
    for (agent, dns) in pop.agents.iter_mut().zip(&dns) {
        resolve_by(agent, dns);
        agent.write_origins(&origins("shop.example", first.addr.port()));
        agent.start();
    }
    pop.wait_for(Up, 1, PATIENCE);
    sleep(Duration::from_secs(4));
    let owners = |pop: &Pop| {
        let probing = pop
            .agents
            .iter()
            .filter(|agent| why(agent)["probed_here"] == true);
        probing.map(|agent| agent.name.clone()).collect::<Vec<_>>()
    };
    let owner = owners(&pop);
    assert_eq!(owner.len(), 1);
    let started = Instant::now();
    stays_up(&pop, Duration::from_secs(12));
    let span = started.elapsed();
    let (one, other) = (first.asked_within(span), second.asked_within(span));
    let due = (span.as_millis() / 500) as usize;
    assert!(
        (due - 2..=due + 2).contains(&(one + other)),
        "{one} and {other}, not {due}"
    );
    assert!(
        one >= due / 4 && other >= due / 4,
        "{one} and {other}: both are probed"
    );
    assert_eq!(owners(&pop), owner, "a new address is no new owner");
    for (agent, dns) in pop.agents.iter().zip(&dns) {
        let why = why(agent);
        let resolved = &why["resolved"];
        assert_eq!(resolved["name"], "shop.example");
        let address = resolved["address"].as_str().unwrap();
        assert!(
            address == a.to_string() || address == b.to_string(),
            "{why}"
        );
        let since_ms = resolved["since_ms"].as_u64().unwrap();
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        assert!((0..=4_000).contains(&(now_ms + 100 - since_ms)), "{why}");
        // Since it went Up nothing has changed.
        assert!(now_ms - why["since_ms"].as_u64().unwrap() > 12_000, "{why}");
        let asked = dns.asked_within(Duration::from_secs(10));
        assert!((5..=12).contains(&asked), "{asked} questions in 10 s");
        assert!(
            agent.log().contains("shop.example was at"),
            "{}",
            agent.log()
        );
        let text = agent.ask(&["why", "shop"]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("of the name shop.example"), "{text}");
        let status = agent.status();
        assert_eq!(
            (&status["names"]["names"], &status["names"]["failing"]),
            (&1.into(), &0.into())
        );
        assert!(
            status["counters"]["name_changes"].as_u64().unwrap() >= 3,
            "{status}"
        );
    }
    let everywhere = pop.agents[0].ask(&["check", "shop", "--everywhere"]);
    assert!(everywhere.status.success(), "{everywhere:?}");
    let once = pop.agents[0].ask(&["check", "shop"]);
    let text = String::from_utf8_lossy(&once.stdout).into_owned();
    assert!(
        once.status.success() && text.contains("of shop.example"),
        "{once:?}"
    );
}

#[test]
fn a_resolver_that_is_dead_makes_nothing_down_and_nothing_unknown() {
    let [(a, first), (b, second)] = twins(well);
    let (dns, says) = Dns::told(Says::Addresses(vec![a], 2));
    let tell = |what: Says| *says.lock().unwrap() = what;
    let mut pop = Pop::new(2);
    for agent in &mut pop.agents {
        resolve_by(agent, &dns);
        agent.write_origins(&origins("shop.example", first.addr.port()));
        agent.start();
    }
    pop.wait_for(Up, 1, PATIENCE);
    tell(Says::Nothing);
    stays_up(&pop, Duration::from_secs(12));
    // Another answer, from an address that was not asked, is none.
    tell(Says::FromElsewhere(b));
    stays_up(&pop, Duration::from_secs(4));
    tell(Says::ServFail);
    stays_up(&pop, Duration::from_secs(4));
    assert_eq!(second.asked_within(PATIENCE), 0);
    for agent in &pop.agents {
        let why = why(agent);
        assert_eq!(why["resolved"]["address"], a.to_string());
        assert!(why["resolved"]["failing"].is_string(), "{why}");
        assert_eq!(agent.status()["names"]["failing"], 1);
        let said = agent.ask(&["status"]).stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            said.contains("1 that cannot be resolved just now: shop.example"),
            "{said}"
        );
        let log = agent.log();
        assert_eq!(log.matches("cannot be resolved").count(), 1, "{log}");
        assert!(
            !log.contains("ignoring response"),
            "a line for each datagram: {log}"
        );
    }
    // It lives again: within a TTL the new address is probed.
    tell(Says::Addresses(vec![b], 2));
    let alive = Instant::now();
    while second.asked_within(PATIENCE) == 0 {
        assert!(
            alive.elapsed() < Duration::from_secs(5),
            "{}",
            pop.agents[0].log()
        );
        sleep(Duration::from_millis(50));
    }
    stays_up(&pop, Duration::from_secs(2));
    assert!(
        pop.agents[0]
            .log()
            .contains("all names can be resolved again")
    );
}

#[test]
fn a_name_that_is_gone_or_leads_inside_is_not_measured_and_says_why() {
    let [(a, first), _] = twins(well);
    let (dns, says) = Dns::told(Says::NxDomain);
    let tell = |what: Says| *says.lock().unwrap() = what;
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    resolve_by(agent, &dns);
    agent.write_origins(&origins("shop.example", first.addr.port()));
    agent.start();
    let agent = &pop.agents[0];
    let reason = |agent: &Agent, reason: &str| {
        why(agent)["reason"] == reason && (agent.count(Down), agent.count(Up)) == (0, 0)
    };
    wait("it answers", agent, |agent| {
        agent.ask(&["status"]).status.success()
    });
    wait("no such name", agent, |agent| {
        reason(agent, "name_not_found")
    });
    tell(Says::Addresses(vec![a], 1));
    wait("it is there", agent, |agent| agent.count(Up) == 1);
    // Gone for a moment: it stays what it was.
    tell(Says::NxDomain);
    sleep(Duration::from_millis(1_200));
    assert_eq!(agent.count(Up), 1);
    // Gone for longer: nobody probes what may be another's address by now.
    wait("it is gone", agent, |agent| {
        why(agent)["because"]
            .as_str()
            .unwrap()
            .contains("knows no address of shop.example")
    });
    assert_eq!(agent.count(Down), 0);
    tell(Says::Addresses(vec![a], 1));
    wait("it is back", agent, |agent| {
        agent.count(Up) == 1 && why(agent)["resolved"]["address"] == a.to_string()
    });
    // What is inside is refused after each resolution, whatever was allowed before.
    for inside in [[169, 254, 169, 254], [0, 0, 0, 0], [224, 0, 0, 1]] {
        tell(Says::Addresses(vec![inside.into()], 1));
        wait("it is refused", agent, |agent| {
            let why = why(agent);
            let at = format!("shop.example is at {}", Ipv4Addr::from(inside));
            why["resolved"]["address"].is_null() && why["because"].as_str().unwrap().contains(&at)
        });
        let asked = first.asked_within(Duration::from_millis(700));
        sleep(Duration::from_millis(700));
        assert!(asked <= 2 && first.asked_within(Duration::from_millis(600)) == 0);
        assert_eq!(agent.count(Down), 0);
    }
    // Beside one that may be probed, it is passed over.
    tell(Says::Addresses(
        vec![[127, 0, 0, 0].into(), a, [169, 254, 169, 254].into()],
        1,
    ));
    agent.edit("allow = [\"127.0.0.0/8\"]", "allow = [\"127.60.0.0/16\"]");
    agent.ask(&["reload"]);
    wait("the other one", agent, |agent| {
        why(agent)["resolved"]["address"] == a.to_string()
    });
}

#[test]
fn a_reload_keeps_what_is_known_of_names() {
    let [(a, first), _] = twins(well);
    let (dns, says) = Dns::told(Says::Addresses(vec![a], 300));
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    resolve_by(agent, &dns);
    let text = origins("shop.example", first.addr.port());
    agent.write_origins(&text);
    agent.start();
    pop.wait_for(Up, 1, PATIENCE);
    *says.lock().unwrap() = Says::Nothing;
    let agent = &pop.agents[0];
    let asked = dns.asked_within(PATIENCE);
    let more = text.replace("\"shop\"", "\"also\"");
    agent.write_origins(&format!("{text}\n{more}"));
    let done = agent.ask(&["reload"]);
    assert!(done.status.success(), "{done:?}");
    pop.wait_for(Up, 2, PATIENCE);
    assert_eq!(
        dns.asked_within(PATIENCE),
        asked,
        "one question for one name"
    );
}

#[test]
fn names_are_taken_and_what_is_none_is_refused_with_what_to_write() {
    let pop = Pop::new(1);
    let agent = &pop.agents[0];
    let config = agent.config().display().to_string();
    let check = |address: &str| {
        agent.write_origins(&format!(
            "[[origin]]\nname = \"shop\"\naddress = \"{address}\"\nkind = \"https\"\n"
        ));
        let output = watchfire(&["config", "check", &config]);
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (taken, text) = check("Shop.Example:443");
    assert!(taken && text.contains("1 names among them"), "{text}");
    assert!(text.contains("resolved at run time"), "{text}");
    let long = "a".repeat(64);
    for (address, what) in [
        ("shop.example", "is not an address and port"),
        ("shop.example:", "does not end with a port"),
        ("shop.example:0", "port 0"),
        ("shop.example:65536", "does not end with a port"),
        ("shop_1.example:443", "underscore"),
        ("shop.example.:443", "ends with a dot"),
        ("bücher.example:443", "punycode"),
        ("1.2.3:443", "neither an address nor a name"),
        (&format!("{long}.example:443"), "64 bytes"),
        ("::1:443", "is not an address and port"),
    ] {
        let (taken, text) = check(address);
        assert!(
            !taken && text.contains(what) && text.contains("help: "),
            "{address}: {text}"
        );
        assert!(text.contains("origins.toml:3"), "{address}: {text}");
    }
}
