//! What clients see through nginx, HAProxy and the C library while the checks'
//! way to the origins is cut and the clients' is not: every request reaches its
//! origin. And the control: of what really dies, none is used.

mod support;

#[path = "../table/c/tests/library/mod.rs"]
mod library;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::Pop;
use support::origin::{Does, Origin};
use watchfire_table::TableVerdict::{Down, Up};

const ORIGINS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(20);
const CUT: Duration = Duration::from_secs(12);

/// A proxy's process; it ends with the test.
struct Proxy {
    process: Child,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        support::signal(&self.process, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

impl Proxy {
    /// The status of a client's request for this origin.
    fn ask(&self, origin: usize) -> u16 {
        let status = || -> std::io::Result<u16> {
            let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
            write!(
                socket,
                "GET /o{origin} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            let word = answer.split(' ').nth(1).unwrap_or_default();
            Ok(word.parse().unwrap_or(0))
        };
        status().unwrap_or(0)
    }

    /// Waits until so many origins answer, each once.
    fn wait(&self, what: &str, holds: impl Fn(usize, u16) -> bool) {
        let began = Instant::now();
        while !(0..ORIGINS).all(|origin| holds(origin, self.ask(origin))) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}");
            sleep(Duration::from_millis(50));
        }
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn nginx(folder: &Path, table: &Path, origin_port: u16) -> Proxy {
    let port = free_port();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("table/examples/nginx");
    let library = library::folder().join("libwatchfire_table.so");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let user = user.unwrap().map_or("nobody".to_owned(), |user| user.name);
    let configuration = format!(
        "user {user};\nload_module /usr/lib/nginx/modules/ndk_http_module.so;\n\
         load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\ndaemon off;\n\
         worker_processes 1;\npid nginx.pid;\nerror_log error.log warn;\nevents {{}}\n\
         http {{ access_log off; lua_package_path \"{}/?.lua;;\";\n\
         init_worker_by_lua_block {{\n  watchfire = require \"watchfire\"\n  \
         opened = watchfire.open_when_there(\"{}\", \"{}\")\n}}\n\
         server {{ listen 127.0.0.1:{port}; location ~ ^/(o(\\d+))$ {{\n  \
         set $name $1; set $network $2;\n  access_by_lua_block {{\n    \
         if opened.use(ngx.var.name, opened.now_ns()) == watchfire.DO_NOT_USE then\n      \
         return ngx.exit(503)\n    end\n  }}\n  \
         proxy_pass http://127.50.$network.1:{origin_port}/live;\n}} }} }}\n",
        examples.display(),
        table.display(),
        library.display(),
    );
    fs::write(folder.join("nginx.conf"), configuration).unwrap();
    let process = Command::new("nginx")
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Proxy { process, port }
}

fn haproxy(folder: &Path, agent_port: u16, origin_port: u16) -> Proxy {
    let port = free_port();
    let mut configuration = format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 5s\n timeout server 5s\n\
         frontend web\n bind 127.0.0.1:{port}\n use_backend be_%[path,field(2,/)]\n"
    );
    for n in 0..ORIGINS {
        configuration += &format!(
            "backend be_o{n}\n server o{n} 127.50.{n}.1:{origin_port} agent-check agent-addr \
             127.0.0.1 agent-port {agent_port} agent-inter 200ms agent-send \"o{n}\\n\"\n"
        );
    }
    let path = folder.join("haproxy.cfg");
    fs::write(&path, configuration).unwrap();
    let process = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&path)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Proxy { process, port }
}

/// The C program that asks as a proxy does.
fn c_reader(folder: &Path) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("table");
    let program = folder.join("uses");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Werror", "-O2", "-I"])
        .arg(here.join("include"))
        .arg(here.join("c/tests/c/uses.c"))
        .arg("-o")
        .arg(&program)
        .arg(library::folder().join("libwatchfire_table.a"))
        .args(["-lpthread", "-ldl", "-lm"])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    program
}

/// Starts it: its two numbers are how often it asked, and was refused.
fn asks_for(program: &Path, table: &Path, span: Duration) -> Child {
    Command::new(program)
        .arg(table)
        .args([ORIGINS.to_string(), span.as_millis().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn asked(child: Child) -> (u64, u64) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = said.split_whitespace().map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn has_proxies() -> bool {
    let lua = Path::new("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists();
    let has = lua && Command::new("haproxy").arg("-v").output().is_ok();
    if !has {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no proxies");
        eprintln!("skipped: no nginx with its Lua module, or no haproxy");
    }
    has
}

#[test]
fn while_the_checks_way_is_cut_every_request_reaches_its_origin() {
    if !has_proxies() {
        return;
    }
    let silent = Arc::new(AtomicU64::new(0));
    let mask = Arc::clone(&silent);
    // Probes ask for /0, /1 ...; clients for anything else, which always works.
    let origin = Origin::new("0.0.0.0", move |path| {
        let probed = path.trim_start_matches('/').parse::<u32>();
        match probed {
            Ok(index) if mask.load(Ordering::Relaxed) & (1 << index) != 0 => Does::Hang,
            _ => Does::Status(200),
        }
    });
    let port = origin.addr.port();
    let mut toml = String::new();
    for n in 0..ORIGINS {
        toml += &format!(
            "[[origin]]\nname = \"o{n}\"\naddress = \"127.50.{n}.1:{port}\"\npath = \"/{n}\"\n\
             interval = \"500ms\"\ntimeout = \"250ms\"\n\n"
        );
    }
    let mut pop = Pop::new(3);
    let agent_port = free_port();
    let listen = format!("[agent_check]\nlisten = \"127.0.0.1:{agent_port}\"\n\n[admin]\n");
    pop.agents[0].edit("[admin]\n", &listen);
    for agent in &mut pop.agents {
        agent.write_origins(&toml);
        agent.start();
    }
    pop.wait_for(Up, ORIGINS, PATIENCE);
    let table = pop.agents[0].table();
    let proxies = [
        ("nginx", nginx(pop.path(), &table, port)),
        ("HAProxy", haproxy(pop.path(), agent_port, port)),
    ];
    for (name, proxy) in &proxies {
        proxy.wait(name, |_, status| status == 200);
    }
    let program = c_reader(pop.path());

    let reader = asks_for(&program, &table, CUT);
    silent.store((1 << ORIGINS) - 1, Ordering::Relaxed);
    let began = Instant::now();
    let mut requests = [0_u32; 2];
    while began.elapsed() < CUT {
        for n in 0..ORIGINS {
            for (at, (name, proxy)) in proxies.iter().enumerate() {
                assert_eq!(
                    proxy.ask(n),
                    200,
                    "{name} after {:?} for o{n}",
                    began.elapsed()
                );
                requests[at] += 1;
            }
        }
    }
    let (c_asked, c_refused) = asked(reader);
    println!(
        "while the checks' way was cut for {CUT:?}: nginx {} of {} requests, HAProxy {} of {}, \
         the C reader {} of {c_asked} answers to use",
        requests[0],
        requests[0],
        requests[1],
        requests[1],
        c_asked - c_refused
    );
    assert_eq!(c_refused, 0, "of {c_asked}");
    assert!(requests[0] > 100 && c_asked > 10_000);
    for agent in &pop.agents {
        assert!(!agent.status()["braked"].is_null(), "{}", agent.log());
        let stat = agent.ask(&["table", "stat", "--json"]);
        let stat: serde_json::Value = serde_json::from_slice(&stat.stdout).unwrap();
        assert_eq!(stat["pop"], "braked", "the table's header says so");
    }

    // The control: what dies alone is used by nobody.
    silent.store(0b111, Ordering::Relaxed);
    pop.wait_for(Down, 3, Duration::from_secs(40));
    for (name, proxy) in &proxies {
        proxy.wait(name, |origin, status| (origin < 3) == (status == 503));
    }
    let (c_asked, c_refused) = asked(asks_for(&program, &table, Duration::from_millis(200)));
    assert_eq!(c_refused * ORIGINS as u64, c_asked * 3);
}
