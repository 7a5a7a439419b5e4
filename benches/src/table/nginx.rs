//! nginx's shared dictionary against the table, in one nginx worker: LuaJIT
//! against LuaJIT, the same names in the same order.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long nginx may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a look costs in the worker, without the loop around it and the fetching
/// of the name.
pub(crate) struct Peer {
    /// A pool's few names again and again, each with its hash at hand: the
    /// cost of looking itself.
    pub(crate) repeated: Cost,
    /// Uniform random names: the cost of cold memory too.
    pub(crate) random: Cost,
}

/// One kind of look on both sides.
pub(crate) struct Cost {
    /// In the table, nanoseconds.
    pub(crate) table_ns: f64,
    /// In the shared dictionary, nanoseconds.
    pub(crate) dict_ns: f64,
    /// The dictionary's over the table's: the median of paired rounds.
    pub(crate) ratio: f64,
}

/// The worker's program. Both sides get the same loop, which is also measured
/// alone; what differs is the one call. The dictionary's values are numbers, which are its cheapest.
const WORKER: &str = r#"
local names, order, dict = {}, {}, ngx.shared.verdicts
for n = 0, NAMES - 1 do
    names[n + 1] = string.format("origin-%07d.tenant-42", n)
    assert(dict:set(names[n + 1], 1))
end
math.randomseed(42)
local watchfire = require "watchfire"
local opened = assert(watchfire.open("TABLE", "LIBRARY"))
local now_ns = opened.now_ns()

-- Servers as a pool keeps them, and bare names.
local servers, repeated, random = {}, {}, {}
for i = 1, 8 do
    servers[i] = { name = names[i] }
end
for i = 1, TURNS do
    repeated[i] = servers[i % 8 + 1]
    random[i] = names[math.random(NAMES)]
end

local function loop_repeated()
    local found = 0
    for i = 1, TURNS do
        local server = repeated[i]
        found = found + #server.name
    end
    return found
end

local function loop_random()
    local found = 0
    for i = 1, TURNS do
        found = found + #random[i]
    end
    return found
end

local function table_repeated()
    local found = 0
    for i = 1, TURNS do
        local server = repeated[i]
        found = found + opened.lookup(server.name, now_ns)
    end
    return found
end

local function dict_repeated()
    local found = 0
    for i = 1, TURNS do
        local server = repeated[i]
        found = found + dict:get(server.name)
    end
    return found
end

local function table_random()
    local found = 0
    for i = 1, TURNS do
        found = found + opened.lookup(random[i], now_ns)
    end
    return found
end

local function dict_random()
    local found = 0
    for i = 1, TURNS do
        found = found + dict:get(random[i])
    end
    return found
end

local function time(work)
    local start = os.clock()
    local found = work()
    assert(found >= TURNS)
    return (os.clock() - start) / TURNS * 1e9
end

time(table_random)
time(dict_random)
for round = 1, 9 do
    ngx.say(time(loop_repeated), " ", time(table_repeated), " ", time(dict_repeated), " ",
        time(loop_random), " ", time(table_random), " ", time(dict_random))
end
"#;

/// Measures in a worker of its own; `table` holds `names` names.
pub(crate) fn shared_dict(
    folder: &Path,
    table: &Path,
    names: usize,
) -> Result<Peer, Box<dyn Error>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let worker = WORKER
        .replace("NAMES", &names.to_string())
        .replace("TURNS", "200000")
        .replace("TABLE", &table.display().to_string())
        .replace("LIBRARY", &library()?.display().to_string());
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/table/examples/nginx");
    let configuration = format!(
        "load_module /usr/lib/nginx/modules/ndk_http_module.so;
        load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
        user root;
        daemon off;
        worker_processes 1;
        pid nginx.pid;
        error_log error.log warn;
        events {{}}
        http {{
            access_log off;
            lua_package_path '{}/?.lua;;';
            lua_shared_dict verdicts 128m;
            server {{
                listen 127.0.0.1:{port};
                location / {{ content_by_lua_block {{ {worker} }} }}
            }}
        }}",
        example.display()
    );
    fs::write(folder.join("nginx.conf"), configuration)?;
    let process = Command::new("nginx")
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf"])
        .spawn()
        .map_err(|e| format!("cannot start nginx (libnginx-mod-http-lua is needed too): {e}"))?;
    let _nginx = Nginx(process);
    let answer = ask(port).map_err(|error| {
        let log = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        format!("nginx does not answer: {error}\n{log}")
    })?;
    let rounds: Vec<Vec<f64>> = answer
        .lines()
        .map(|line| line.split(' ').filter_map(|n| n.parse().ok()).collect())
        .filter(|round: &Vec<f64>| round.len() == 6)
        .collect();
    if rounds.is_empty() {
        let log = fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        return Err(format!("nginx measured nothing: {answer}\n{log}").into());
    }
    // Each kind is three columns: the loop alone, over the table, over the
    // dictionary.
    let cost = |first: usize| {
        let net = |round: &[f64], side: usize| round[first + side] - round[first];
        Cost {
            table_ns: super::median(rounds.iter().map(|round| net(round, 1))),
            dict_ns: super::median(rounds.iter().map(|round| net(round, 2))),
            ratio: super::median(rounds.iter().map(|round| net(round, 2) / net(round, 1))),
        }
    };
    Ok(Peer {
        repeated: cost(0),
        random: cost(3),
    })
}

/// A running nginx; ended with its worker on drop.
struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            // One that has ended by itself needs no signal.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

/// One request, once nginx listens: the body.
fn ask(port: u16) -> std::io::Result<String> {
    let start = Instant::now();
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.to_owned())
}

/// The C library, built as this program was.
fn library() -> Result<PathBuf, Box<dyn Error>> {
    // TARGET/PROFILE/THIS
    let me = std::env::current_exe()?;
    let profile = me.parent().ok_or("this program lies nowhere")?;
    let target = profile.parent().ok_or("this program lies nowhere")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "watchfire-table-c"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if !status.success() {
        return Err("the C library does not build".into());
    }
    Ok(profile.join("libwatchfire_table.so"))
}
