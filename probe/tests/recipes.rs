//! Every recipe against the real server, on both drivers: it passes where the
//! server runs, and fails where another one answers. Servers that are not
//! installed are left out with a word, and must be there where continuous
//! integration runs.

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Bench, backends, options};
use watchfire_probe::{CheckSpec, Kind, Outcome};
use watchfire_probe_core::keys::{Keys, Value};

/// Probes of one server in a row: more than the vanished clients after which
/// MySQL would block a host as it is started here.
const PROBES: usize = 30;

/// The same for OpenSMTPD, which was seen to greet no more after seventeen
/// connections within a second.
const SMTP_PROBES: usize = 6;

struct Recipe(Option<&'static str>);

impl Keys for Recipe {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let name = (key == "recipe").then(|| self.0.take()).flatten()?;
        Some(Value::Text(name.to_owned()))
    }
}

fn check(name: &'static str, addr: SocketAddr) -> CheckSpec {
    let read = Kind::read("send-expect", &mut Recipe(Some(name)), &addr);
    let (kind, _) = read.expect("a kind").expect("a recipe");
    let spec = CheckSpec {
        kind,
        interval: Duration::from_secs(3),
        timeout: Duration::from_secs(3),
        ..CheckSpec::tcp(addr)
    };
    assert_eq!(spec.validate(), Ok(()), "{name}");
    spec
}

/// A server in a folder of its own.
struct Server {
    child: Child,
    addr: SocketAddr,
    _home: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// Starts a server by a shell line, in which HOME and PORT stand for its own.
fn start(program: &str, line: &str) -> Option<Server> {
    if !Path::new(program).exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("not tested: {program} is not installed");
        return None;
    }
    let home = tempfile::tempdir().expect("a folder");
    // Servers that drop root's rights must get there too.
    let _ = Command::new("chmod").arg("777").arg(home.path()).status();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = free.local_addr().expect("an address");
    drop(free);
    let line = line
        .replace("HOME", &home.path().display().to_string())
        .replace("PORT", &addr.port().to_string())
        .replace("PROGRAM", program);
    let child = Command::new("sh")
        .args(["-c", &line])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let server = Server {
        child,
        addr,
        _home: home,
    };
    let until = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < until, "{program} does not listen");
        std::thread::sleep(Duration::from_millis(100));
    }
    Some(server)
}

fn passes(name: &'static str, server: Option<Server>) {
    let probes = if name == "smtp" { SMTP_PROBES } else { PROBES };
    let Some(server) = server else { return };
    let spec = check(name, server.addr);
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for n in 0..probes {
            let (outcome, phases) = bench.ask(&spec);
            assert_eq!(
                outcome,
                Outcome::Pass,
                "{backend}: {name}, probe {n}, {phases:?}"
            );
        }
    }
}

#[test]
fn redis() {
    let line = "exec PROGRAM --port PORT --dir HOME --save '' --appendonly no";
    passes("redis", start("/usr/bin/redis-server", line));
}

#[test]
fn memcached() {
    let line = "exec PROGRAM -u nobody -l 127.0.0.1 -p PORT";
    passes("memcached", start("/usr/bin/memcached", line));
}

#[test]
fn ldap() {
    let line = "printf 'include /etc/ldap/schema/core.schema\\ndatabase ldif\\nsuffix \"dc=t\"\\n\
                directory HOME\\n' > HOME/conf && \
                exec PROGRAM -d 0 -f HOME/conf -h ldap://127.0.0.1:PORT";
    passes("ldap", start("/usr/sbin/slapd", line));
}

#[test]
fn imap() {
    let line = "printf 'base_dir = HOME/run\\nlog_path = HOME/log\\nprotocols = imap\\n\
                ssl = no\\nservice imap-login {\\n inet_listener imap {\\n port = PORT\\n }\\n\
                inet_listener imaps {\\n port = 0\\n }\\n}\\n\
                passdb {\\n driver = static\\n}\\nuserdb {\\n driver = static\\n}\\n' \
                > HOME/conf && exec PROGRAM -F -c HOME/conf";
    passes("imap", start("/usr/sbin/dovecot", line));
}

#[test]
fn smtp() {
    let line = "printf 'listen on 127.0.0.1 port PORT\\naction a relay\\nmatch from any for any \
                reject\\n' > HOME/conf && exec PROGRAM -d -f HOME/conf";
    passes("smtp", start("/usr/sbin/smtpd", line));
}

#[test]
fn mysql() {
    let line = "mysql_install_db --no-defaults --datadir=HOME/data --user=nobody \
                --auth-root-authentication-method=normal >/dev/null 2>&1; \
                exec PROGRAM --no-defaults --datadir=HOME/data --user=nobody --port=PORT \
                --bind-address=127.0.0.1 --socket=HOME/sock --pid-file=HOME/pid \
                --max-connect-errors=10";
    passes("mysql", start("/usr/sbin/mariadbd", line));
}

#[test]
fn postgresql() {
    let found = std::fs::read_dir("/usr/lib/postgresql")
        .ok()
        .and_then(|mut versions| versions.next()?.ok())
        .map(|version| version.path().join("bin/postgres"));
    let program = found.unwrap_or_else(|| "/usr/lib/postgresql/bin/postgres".into());
    let program = program.display().to_string();
    let bin = program.trim_end_matches("/postgres").to_owned();
    let line = format!(
        "chown postgres HOME && setpriv --reuid postgres --regid postgres --clear-groups \
         {bin}/initdb -D HOME/data >/dev/null 2>&1 && exec setpriv --reuid postgres \
         --regid postgres --clear-groups PROGRAM -D HOME/data -p PORT -k HOME \
         -c listen_addresses=127.0.0.1"
    );
    passes("postgresql", start(&program, &line));
}

#[test]
fn a_recipe_fails_where_another_server_answers() {
    let line = "exec PROGRAM --port PORT --dir HOME --save '' --appendonly no";
    let Some(server) = start("/usr/bin/redis-server", line) else {
        return;
    };
    for backend in backends() {
        let mut bench = Bench::new(options(backend));
        for name in ["memcached", "smtp", "imap", "ldap", "mysql", "postgresql"] {
            let mut spec = check(name, server.addr);
            (spec.interval, spec.timeout) =
                (Duration::from_millis(500), Duration::from_millis(500));
            let (outcome, _) = bench.ask(&spec);
            assert!(
                matches!(outcome, Outcome::Fail(_)),
                "{backend}: {name}: {outcome:?}"
            );
        }
    }
}
