//! End to end: an origin fails, and nginx on another server, which reads its
//! own agent's table, stops using it.

#[path = "../table/c/tests/library/mod.rs"]
mod library;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::Pop;
use watchfire_origin::{Farm, FarmOptions, Fault, Hit, now_us};
use watchfire_table::TableVerdict::{Down, Up};

const ORIGINS: u32 = 60;

/// Origins that fail, fewer than half: the pool must not panic.
const FAILING: u32 = 20;

const PATIENCE: Duration = Duration::from_secs(30);

/// From the failing probe that completes fall to the last request that is
/// still routed to the origin.
const ROUTED_AWAY_WITHIN: Duration = Duration::from_millis(250);

const FALL: usize = 3;

/// Who asks through the proxy; probes call themselves watchfire.
const CLIENT: &str = "a-client";

#[test]
fn nginx_on_another_server_stops_using_an_origin_that_fails() {
    if !Path::new("/usr/lib/nginx/modules/ngx_http_lua_module.so").exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "nginx's Lua module is not installed, and this test must run in CI"
        );
        eprintln!("skipped: no Lua in nginx (Debian: apt-get install libnginx-mod-http-lua)");
        return;
    }
    let farm = Farm::start(FarmOptions {
        count: ORIGINS,
        record: true,
        ..FarmOptions::default()
    })
    .unwrap();
    let mut pop = Pop::new(3);
    let mut origins = String::new();
    for index in 0..ORIGINS {
        let address = farm.address(index);
        writeln!(
            origins,
            "[[origin]]\nname = \"o{index}\"\naddress = \"{address}\""
        )
        .unwrap();
    }
    for agent in &mut pop.agents {
        agent.write_origins(&origins);
        agent.start();
    }
    pop.wait_for(Up, ORIGINS as usize, PATIENCE);
    let nginx = Nginx::start(pop.path(), &pop.agents[0].table(), &farm);

    // One client asks all the time; which origin answers, the farm's log says.
    let stop = AtomicBool::new(false);
    let failed_us = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                nginx.ask();
            }
        });
        std::thread::sleep(Duration::from_secs(2));
        farm.set_fault(0..FAILING, Fault::Status(503)).unwrap();
        let failed_us = now_us();
        pop.wait_for(Down, FAILING as usize, PATIENCE);
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        failed_us
    });

    let mut hits = Vec::new();
    farm.take_hits(&mut hits);
    let from_client = |hit: &Hit| farm.who(hit.who) == CLIENT;
    let mut delays_us = Vec::new();
    let mut elsewhere = 0;
    for origin in 0..FAILING {
        let hits: Vec<_> = hits.iter().filter(|hit| hit.origin == origin).collect();
        let mut probes = hits
            .iter()
            .filter(|hit| !from_client(hit) && hit.at_us >= failed_us);
        let first = probes.next().expect("it was probed");
        elsewhere += usize::from(!farm.who(first.who).contains("(node-0)"));
        let fatal_us = probes.nth(FALL - 2).expect("it was probed").ended_us;
        let before = hits
            .iter()
            .filter(|hit| from_client(hit) && hit.at_us < fatal_us);
        assert!(
            before.count() > 0,
            "origin {origin} had no requests before it failed"
        );
        let last_us = hits
            .iter()
            .filter(|hit| from_client(hit))
            .map(|hit| hit.at_us)
            .max();
        delays_us.push(last_us.unwrap_or(0).saturating_sub(fatal_us));
    }
    delays_us.sort_unstable();
    let served = hits.iter().filter(|hit| from_client(hit)).count();
    eprintln!(
        "routed away after {} us (median), {} us (worst) of {FAILING} origins, {elsewhere} of \
         them probed by another server; {served} requests",
        delays_us[delays_us.len() / 2],
        delays_us[delays_us.len() - 1]
    );
    assert!(served > 1_000, "only {served} requests: too few to tell");
    assert!(elsewhere > 0, "this server's own agent probed all of them");
    let limit_us = u64::try_from(ROUTED_AWAY_WITHIN.as_micros()).unwrap();
    assert!(
        delays_us.iter().all(|delay| *delay <= limit_us),
        "{delays_us:?}"
    );
    farm.stop();
}

/// nginx with the example's Lua files in front of the farm.
struct Nginx {
    process: Child,
    port: u16,
}

impl Nginx {
    fn start(dir: &Path, table: &Path, farm: &Farm) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let home = dir.join("nginx");
        fs::create_dir(&home).unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("table/examples/nginx");
        for file in ["watchfire.lua", "pool.lua"] {
            fs::copy(example.join(file), home.join(file)).unwrap();
        }
        fs::write(home.join("nginx.conf"), configuration(port, table, farm)).unwrap();
        let process = Command::new("/usr/sbin/nginx")
            .arg("-p")
            .arg(&home)
            .args(["-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(home.join("error.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "nginx did not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }

    fn ask(&self) {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(socket, "GET / HTTP/1.0\r\nUser-Agent: {CLIENT}\r\n\r\n").unwrap();
        // What the answer says is the origin's business; that it came is ours.
        socket.read_to_end(&mut Vec::new()).unwrap();
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        support::signal(&self.process, nix::sys::signal::Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

fn configuration(port: u16, table: &Path, farm: &Farm) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let user = user
        .ok()
        .flatten()
        .map_or("nobody".into(), |user| user.name);
    let library = library::folder().join("libwatchfire_table.so");
    let mut servers = String::new();
    for index in 0..ORIGINS {
        let address = farm.address(index);
        writeln!(
            servers,
            "{{ name = \"o{index}\", host = \"{}\", port = {} }},",
            address.ip(),
            address.port()
        )
        .unwrap();
    }
    format!(
        "user {user};\n\
         load_module /usr/lib/nginx/modules/ndk_http_module.so;\n\
         load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;\n\
         daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log error.log warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n  access_log off;\n  lua_package_path \"$prefix/?.lua;;\";\n  \
         init_worker_by_lua_block {{\n    local table_, problem = \
         require(\"watchfire\").open(\"{table}\", \"{library}\")\n    \
         if not table_ then error(problem) end\n    \
         pool = require(\"pool\").new(table_, {{ {servers} }}, \
         {{ panic_below = 0.5, when_stale = \"static\" }})\n  }}\n  \
         upstream by_the_table {{\n    server 0.0.0.1;\n    balancer_by_lua_block {{\n      \
         local server = pool:pick()\n      \
         require(\"ngx.balancer\").set_current_peer(server.host, server.port)\n    }}\n  }}\n  \
         server {{\n    listen 127.0.0.1:{port};\n    \
         location / {{ proxy_pass http://by_the_table; \
         proxy_set_header User-Agent $http_user_agent; }}\n  }}\n}}\n",
        table = table.display(),
        library = library.display(),
    )
}
