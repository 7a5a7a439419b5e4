//! The way of a check's packets out of this host: source address, interface,
//! mark and code point, seen by the kernel's own packet filter in a network
//! namespace. A way that this host lacks measures nothing, whatever the origin
//! would have said.

mod common;

use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener};
use std::process::{Command, ExitCode};

use common::{Bench, backends, options};
use watchfire_probe::{Backend, CheckSpec, Outcome};
use watchfire_probe_core::{Egress, Kind, TcpSpec};
use watchfire_wire::{Reason, Unmeasured};

/// Says what this process is to play, in a namespace of its own.
const SCENE: &str = "WATCHFIRE_TEST_SCENE";

fn main() -> ExitCode {
    match std::env::var(SCENE).as_deref() {
        Ok("ways") => ways(),
        Ok("powerless") => backends().into_iter().for_each(without_the_right),
        _ => {
            again("ways", "unshare --net --map-root-user");
            again(
                "powerless",
                "unshare --net --map-root-user setpriv --bounding-set=-net_admin,-net_raw \
                 --inh-caps=-net_admin,-net_raw",
            );
        }
    }
    ExitCode::SUCCESS
}

/// Runs this test again, behind `how`.
fn again(scene: &str, how: &str) {
    let this = std::env::current_exe().expect("this test has a path");
    run(&format!("{SCENE}={scene} {how} {}", this.display()));
}

fn ways() {
    run("ip link set lo up");
    run("ip link add wf0 type veth peer name wf1");
    run("ip addr add 10.79.0.1/24 dev wf0 && ip link set wf0 up && ip link set wf1 up");
    run("ip addr add fe80::76/64 dev wf0 nodad && ip addr add fe80::77/64 dev wf1 nodad");
    let rules = "table inet t {
        counter marked {}
        counter coded {}
        counter coded6 {}
        chain c { type filter hook output priority 0;
            tcp flags & (syn|ack) == syn meta mark 7 counter name marked
            tcp flags & (syn|ack) == syn ip dscp 8 counter name coded
            tcp flags & (syn|ack) == syn ip6 dscp 8 counter name coded6
        }
    }";
    run(&format!("echo '{rules}' | nft -f -"));
    for backend in backends() {
        the_origin_sees_the_source(backend);
        packets_are_marked(backend);
        an_interface_is_the_only_way(backend);
        a_link_local_origin_is_where_its_interface_leads(backend);
        what_this_host_lacks_measures_nothing(backend);
    }
}

fn by(addr: SocketAddr, egress: Egress) -> [CheckSpec; 3] {
    let egress = Some(Box::new(egress));
    let full = TcpSpec { half_open: false };
    [
        CheckSpec::tcp(addr),
        CheckSpec {
            kind: Kind::Tcp(full),
            ..CheckSpec::tcp(addr)
        },
        CheckSpec::http(addr, "/"),
    ]
    .map(|spec| CheckSpec {
        egress: egress.clone(),
        ..spec
    })
}

fn from(source: &str) -> Egress {
    Egress {
        source: Some(source.parse().expect("an address")),
        ..Egress::default()
    }
}

fn the_origin_sees_the_source(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let mut bench = Bench::new(options(backend));
    let plain = TcpSpec { half_open: false };
    let plain = CheckSpec {
        kind: Kind::Tcp(plain),
        ..CheckSpec::tcp(addr)
    };
    let mut seen = |spec: &CheckSpec| -> IpAddr {
        let (outcome, _) = bench.ask(spec);
        assert_eq!(outcome, Outcome::Pass, "{backend}: {spec}");
        listener.accept().expect("it connected").1.ip()
    };
    // By turns, on the same slot: no way is left to the next probe.
    for _ in 0..3 {
        for source in ["127.0.5.1", "127.0.5.2"] {
            let [_, full, _] = by(addr, from(source));
            assert_eq!(seen(&full).to_string(), source, "{backend}");
        }
        assert_eq!(seen(&plain).to_string(), "127.0.0.1", "{backend}");
    }
    bench.settle();
}

fn packets_are_marked(backend: Backend) {
    let v4 = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let v6 = TcpListener::bind("[::1]:0").expect("a listener");
    let egress = Egress {
        mark: Some(7),
        dscp: Some(8),
        ..Egress::default()
    };
    let mut bench = Bench::new(options(backend));
    let mut specs = Vec::new();
    for listener in [&v4, &v6] {
        let addr = listener.local_addr().expect("an address");
        specs.extend(by(addr, egress.clone()).into_iter().take(2));
        // What says nothing of its way has none of this.
        specs.push(CheckSpec::tcp(addr));
    }
    let before = ["marked", "coded", "coded6"].map(counted);
    for (outcome, _) in bench.ask_all(&specs) {
        assert_eq!(outcome, Outcome::Pass, "{backend}");
    }
    let after = ["marked", "coded", "coded6"].map(counted);
    let more: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(more, [4, 2, 2], "{backend}");
    bench.settle();
}

/// Its address is on every link, so the interface alone says which is meant.
fn a_link_local_origin_is_where_its_interface_leads(backend: Backend) {
    let index = nix::net::if_::if_nametoindex("wf1").expect("it was made");
    let here = SocketAddrV6::new("fe80::77".parse().expect("an address"), 0, 0, index);
    let listener = TcpListener::bind(here).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let target = SocketAddrV6::new(*here.ip(), port, 0, 0).into();
    let through = |name: &str| Egress {
        interface: Some(name.to_owned()),
        ..Egress::default()
    };
    let mut bench = Bench::new(options(backend));
    for _ in 0..2 {
        let [half_open, full, _] = by(target, through("wf0"));
        for spec in [&half_open, &full] {
            assert_eq!(spec.validate(), Ok(()));
            assert_eq!(bench.ask(spec).0, Outcome::Pass, "{backend}: {spec}");
        }
        let [elsewhere, ..] = by(target, through("wf7"));
        let lacking = Outcome::NotMeasured(Unmeasured::NoWay);
        assert_eq!(bench.ask(&elsewhere).0, lacking, "{backend}");
    }
    bench.settle();
}

/// SYNs that a counter saw.
fn counted(name: &str) -> u64 {
    let output = Command::new("nft")
        .args(["list", "counter", "inet", "t", name])
        .output()
        .expect("nft");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace();
    words.find(|word| *word == "packets").expect("a counter");
    words.next().and_then(|n| n.parse().ok()).expect("a number")
}

fn an_interface_is_the_only_way(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let by_interface = |name: &str| Egress {
        interface: Some(name.to_owned()),
        ..Egress::default()
    };
    let mut bench = Bench::new(options(backend));
    let [half, full, _] = by(addr, by_interface("lo"));
    for (outcome, _) in bench.ask_all(&[half, full]) {
        assert_eq!(outcome, Outcome::Pass, "{backend}");
    }
    // A cable that leads nowhere: the listener is on another interface.
    let [half, full, _] = by(addr, by_interface("wf0"));
    for (outcome, _) in bench.ask_all(&[half, full]) {
        assert_ne!(outcome, Outcome::Pass, "{backend}");
    }
    bench.settle();
}

fn what_this_host_lacks_measures_nothing(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let mut bench = Bench::new(options(backend));
    let no_interface = Egress {
        interface: Some("nowhere0".to_owned()),
        ..Egress::default()
    };
    for egress in [from("192.0.2.77"), no_interface] {
        for (outcome, _) in bench.ask_all(&by(addr, egress.clone())) {
            let wanted = Outcome::NotMeasured(Unmeasured::NoWay);
            assert_eq!(outcome, wanted, "{backend}: {egress}");
        }
    }
    let (outcome, _) = bench.ask(&CheckSpec::tcp(addr));
    assert_eq!(
        outcome,
        Outcome::Pass,
        "{backend}: the next probe is as ever"
    );
    bench.settle();
}

/// A mark needs a capability that not every agent has.
fn without_the_right(backend: Backend) {
    run_quietly("ip link set lo up");
    let mut bench = Bench::new(options(backend));
    let marked = Egress {
        mark: Some(7),
        ..Egress::default()
    };
    let nobody = "127.0.0.1:9".parse().expect("an address");
    for (outcome, _) in bench.ask_all(&by(nobody, marked)) {
        let wanted = Outcome::NotMeasured(Unmeasured::NoWay);
        assert_eq!(outcome, wanted, "{backend}");
    }
    let (outcome, _) = bench.ask(&CheckSpec::http(nobody, "/"));
    let reached = matches!(
        outcome,
        Outcome::Fail(Reason::ConnectRefused) | Outcome::NotMeasured(Unmeasured::NetUnreachable)
    );
    assert!(reached, "{backend}: {outcome:?}");
    bench.settle();
}

fn run_quietly(line: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("{line} 2>/dev/null")])
        .status();
}

fn run(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status();
    assert!(status.expect("a shell").success(), "{line}");
}
