//! What the network says, and what this host says itself: ICMP messages of a
//! firewall beside us and of one far away are the origin's failure, routes of
//! our own that lead nowhere are not. Played in network namespaces of its own,
//! on the real kernel, with real rules.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use common::{Bench, backends, options};
use watchfire_probe::{Backend, CheckSpec, Kind, Outcome};
use watchfire_probe_core::kind::http::Extra;
use watchfire_wire::{Reason, Unmeasured};

/// Says that this process has a namespace of its own already.
const INSIDE: &str = "WATCHFIRE_TEST_NAMESPACE";

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_some() {
        play();
        return ExitCode::SUCCESS;
    }
    let this = std::env::current_exe().expect("this test has a path");
    let status = Command::new("unshare")
        .args(["--net", "--map-root-user"])
        .arg(this)
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("the scenes failed: {status}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("unshare, which these scenes need: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play() {
    run("ip link set lo up");
    let far = FarHost::new();
    let far_v4 = [
        ("net-unreachable", Reason::HostUnreachable),
        ("host-unreachable", Reason::HostUnreachable),
        ("prot-unreachable", Reason::HostUnreachable),
        ("port-unreachable", Reason::ConnectRefused),
        ("net-prohibited", Reason::HostUnreachable),
        ("host-prohibited", Reason::HostUnreachable),
        ("admin-prohibited", Reason::HostUnreachable),
    ];
    let far_v6 = [
        ("no-route", Reason::HostUnreachable),
        ("admin-prohibited", Reason::HostUnreachable),
        ("addr-unreachable", Reason::HostUnreachable),
        ("port-unreachable", Reason::ConnectRefused),
        ("policy-fail", Reason::HostUnreachable),
        ("reject-route", Reason::HostUnreachable),
    ];
    let mut cases = Vec::new();
    let mut far_rules = Vec::new();
    let mut near_rules = Vec::new();
    for (port, (code, reason)) in (8_001..).zip(far_v4) {
        far_rules.push(format!("tcp dport {port} reject with icmp type {code}"));
        cases.push((format!("far {code}"), format!("10.77.0.2:{port}"), reason));
        near_rules.push(format!(
            "ip daddr 127.0.9.1 tcp dport {port} reject with icmp type {code}"
        ));
        cases.push((format!("near {code}"), format!("127.0.9.1:{port}"), reason));
    }
    for (port, (code, reason)) in (8_101..).zip(far_v6) {
        far_rules.push(format!("tcp dport {port} reject with icmpv6 type {code}"));
        cases.push((
            format!("far v6 {code}"),
            format!("[fd77::2]:{port}"),
            reason,
        ));
        near_rules.push(format!(
            "ip6 daddr ::1 tcp dport {port} reject with icmpv6 type {code}"
        ));
        cases.push((format!("near v6 {code}"), format!("[::1]:{port}"), reason));
    }
    nft("", "output", &near_rules);
    nft(&far.enter(), "input", &far_rules);
    for backend in backends() {
        the_network_speaks_of_the_origin(backend, &cases);
    }
    for backend in backends() {
        nothing_lingers(backend);
    }
    for kind in ["unreachable", "prohibit", "blackhole"] {
        run(&format!("ip route add {kind} 10.{}.0.0/16", net_of(kind)));
        run(&format!("ip -6 route add {kind} fd{}::/64", net_of(kind)));
    }
    for backend in backends() {
        our_own_routes_measure_nothing(backend);
    }
    run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    for backend in backends() {
        a_family_without_an_address_is_no_want_of_ports(backend);
    }
}

fn net_of(kind: &str) -> u8 {
    match kind {
        "unreachable" => 81,
        "prohibit" => 82,
        _ => 83,
    }
}

/// Whatever the message, and whether it comes while the connect still runs: it
/// is a fail.
fn the_network_speaks_of_the_origin(backend: Backend, cases: &[(String, String, Reason)]) {
    let mut bench = Bench::new(options(backend));
    let specs: Vec<CheckSpec> = cases
        .iter()
        .flat_map(|(_, addr, _)| both(addr.parse().expect("an address")))
        .collect();
    // A message that finds the connect at work loses its number, or is lost
    // itself: what is told then is that nothing is reached, or the time-out.
    // It is never a pass, and never our fault.
    let found = bench.ask_all(&specs);
    for ((name, _, reason), found) in cases.iter().zip(found.chunks(2)) {
        for (outcome, phases) in found {
            let right = match outcome {
                Outcome::Fail(Reason::HostUnreachable | Reason::ConnectTimeout) => true,
                Outcome::Fail(found) => found == reason,
                _ => false,
            };
            assert!(right, "{backend}: {name}: {outcome:?} {phases:?}");
        }
    }
    bench.settle();
}

/// No route, one that is unreachable, one that prohibits, a black hole.
fn our_own_routes_measure_nothing(backend: Backend) {
    let mut bench = Bench::new(options(backend));
    for (addr, unmeasured) in [
        ("10.81.0.1:80", Unmeasured::NetUnreachable),
        ("10.82.0.1:80", Unmeasured::NotPermitted),
        ("10.83.0.1:80", Unmeasured::NetUnreachable),
        ("192.0.2.1:80", Unmeasured::NetUnreachable),
        ("[fd81::1]:80", Unmeasured::NetUnreachable),
        ("[fd82::1]:80", Unmeasured::NotPermitted),
        ("[fd83::1]:80", Unmeasured::NetUnreachable),
        ("[2001:db8::1]:80", Unmeasured::NetUnreachable),
    ] {
        for (outcome, _) in bench.ask_all(&both(addr.parse().expect("an address"))) {
            assert_eq!(
                outcome,
                Outcome::NotMeasured(unmeasured),
                "{backend}: {addr}"
            );
        }
    }
    bench.settle();
}

/// Where IPv6 is switched off the kernel says the same as where ports run out;
/// taken for that, it would make the whole thread unfit to probe.
fn a_family_without_an_address_is_no_want_of_ports(backend: Backend) {
    let mut bench = Bench::new(options(backend));
    for addr in ["[::1]:80", "[2001:db8::1]:80"] {
        for (outcome, _) in bench.ask_all(&both(addr.parse().expect("an address"))) {
            let wanted = Outcome::NotMeasured(Unmeasured::NetUnreachable);
            assert_eq!(outcome, wanted, "{backend}: {addr}");
        }
    }
    bench.settle();
}

/// Whoever closes first has a TIME_WAIT; a prober that resets after a whole
/// response has none, and leaves none to the origin.
fn nothing_lingers(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // It waits for the client to close.
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let _ = stream.read(&mut [0; 1_024]);
        }
    });
    let mut bench = Bench::new(options(backend));
    let path = |n: u32| CheckSpec::http(addr, &format!("/{n}"));
    let specs: Vec<CheckSpec> = (0..20).map(path).collect();
    let mut lingering = |fin: bool| {
        let specs: Vec<CheckSpec> = specs
            .iter()
            .cloned()
            .map(|mut spec| {
                if let (Kind::Http(http), true) = (&mut spec.kind, fin) {
                    http.extra = Some(Box::new(Extra {
                        close_fin: true,
                        ..Extra::default()
                    }));
                }
                spec
            })
            .collect();
        for (outcome, _) in bench.ask_all(&specs) {
            assert_eq!(outcome, Outcome::Pass, "{backend}");
        }
        bench.settle();
        let table = std::fs::read_to_string("/proc/self/net/tcp").expect("a table");
        let port = format!(":{:04X}", addr.port());
        table
            .lines()
            .filter(|line| line.contains(&port))
            .filter(|line| line.split_whitespace().nth(3) == Some("06"))
            .count()
    };
    assert_eq!(lingering(false), 0, "{backend}");
    // Where the origin minds a reset, the price is paid.
    assert!(lingering(true) > 0, "{backend}");
}

/// A half-open check and one that carries bytes.
fn both(addr: SocketAddr) -> [CheckSpec; 2] {
    [CheckSpec::tcp(addr), CheckSpec::http(addr, "/")]
}

/// A host at the other end of a cable.
struct FarHost(Child);

impl FarHost {
    fn new() -> Self {
        let sleeper = Command::new("unshare")
            .args(["--net", "sleep", "120"])
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare");
        // It has its namespace once it is no longer called unshare.
        let comm = format!("/proc/{}/comm", sleeper.id());
        while std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() != "sleep") {
            std::thread::sleep(Duration::from_millis(5));
        }
        let far = Self(sleeper);
        let (pid, enter) = (far.0.id(), far.enter());
        run(&format!(
            "ip link add va type veth peer name vo netns {pid}"
        ));
        for line in [
            "ip addr add 10.77.0.1/24 dev va".to_owned(),
            "ip -6 addr add fd77::1/64 dev va nodad".to_owned(),
            "ip link set va up".to_owned(),
            format!("{enter} ip addr add 10.77.0.2/24 dev vo"),
            format!("{enter} ip -6 addr add fd77::2/64 dev vo nodad"),
            format!("{enter} ip link set vo up"),
            format!("{enter} ip link set lo up"),
            format!("{enter} sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0"),
        ] {
            run(&line);
        }
        far
    }

    /// What a command starts with to be run there.
    fn enter(&self) -> String {
        format!("nsenter -t {} -n", self.0.id())
    }
}

impl Drop for FarHost {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nft(enter: &str, hook: &str, rules: &[String]) {
    let rules = rules.join("\n");
    let table = format!(
        "table inet t {{ chain c {{ type filter hook {hook} priority 0;\n{rules}\n}}\n}}\n"
    );
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), table).expect("a rule set");
    run(&format!("{enter} nft -f {}", file.path().display()));
}

fn run(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status();
    assert!(status.expect("a shell").success(), "{line}");
}
