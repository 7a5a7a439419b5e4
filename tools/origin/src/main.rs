//! `watchfire-origin`: an origin farm on the command line, controlled by lines
//! on standard input or on a unix socket.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use watchfire_origin::{Command, Farm, FarmOptions, Kind, Listen, limits, raise_open_files};

/// An origin farm on loopback addresses, with faults that change while it runs.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Options {
    /// Address of the first origin; the others follow it, all in 127.0.0.0/8
    #[arg(long, default_value = "127.20.0.1")]
    first: Ipv4Addr,
    /// How many origins
    #[arg(long, default_value_t = 1_000)]
    count: u32,
    /// Port of all origins; 0 chooses one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What they speak
    #[arg(long, value_enum, default_value_t = KindName::Http)]
    kind: KindName,
    /// Threads that serve them
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Pin thread n to core N + n
    #[arg(long, value_name = "N")]
    first_core: Option<usize>,
    /// A socket per origin (needed to refuse), or one for all (cheapest)
    #[arg(long, value_enum, default_value_t = ListenName::Auto)]
    listen: ListenName,
    /// Append an access log: origin, microseconds of begin and end on
    /// CLOCK_MONOTONIC, user agent
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Take control lines on this unix socket too
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Log and answer in JSON, a line each
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Control, a line each, on standard input or the unix socket:
  fault 0-99 reset-body    origins 0 to 99 reset every response in its body
  fault 7 slow=300         origin 7 takes 300 ms to the first byte
  clear 0-49               these are healthy again
  clear all                all are
  stats                    counters of the farm and of the kernel, as JSON
  quit                     end

Faults:
  refuse         the kernel answers with a reset   blackhole      SYNs are dropped
  hang           never answers                     half-close     ends its direction, no answer
  reset-PHASE    resets: accept, request, head, body
  close-PHASE    closes in order: accept, request, head, body
  slow=MS        first byte late                   drip=MS        a byte per MS
  status=CODE    a whole response with this status
  big-head=BYTES a head of this size               big-body=BYTES a body of this size
  junk           no HTTP                           1xx            103 first, then 200
  chunked        proper chunks                     bad-chunked    broken ones
  close-after=N  closes a kept connection after N responses, without a word

Examples:
  watchfire-origin --count 10000 --log hits.log
  echo 'fault all hang' | nc -U farm.sock          (with --control farm.sock)

Half-open checks (SYN, SYN-ACK, RST) never reach an application: the kernel
counts them as half_open in stats, for the whole network namespace.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    Http,
    Tcp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ListenName {
    Auto,
    Each,
    Wildcard,
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watchfire-origin: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    raise_open_files()?;
    let farm = Arc::new(Farm::start(FarmOptions {
        first: options.first,
        count: options.count,
        port: options.port,
        kind: match options.kind {
            KindName::Http => Kind::Http,
            KindName::Tcp => Kind::Tcp,
        },
        threads: options.threads,
        record: options.log.is_some(),
        listen: match options.listen {
            ListenName::Auto => Listen::Auto,
            ListenName::Each => Listen::Each,
            ListenName::Wildcard => Listen::Wildcard,
        },
        first_core: options.first_core,
    })?);
    let stop = Arc::new(AtomicBool::new(false));
    // What is announced is ready, its control too.
    let listener = options.control.as_deref().map(control_socket).transpose()?;
    announce(&farm, options.json);
    // The threads that wait for lines end with the process.
    let (of_stdin, stopped) = (Arc::clone(&farm), Arc::clone(&stop));
    let json = options.json;
    std::thread::spawn(move || obey(&of_stdin, &stopped, json, io::stdin(), io::stdout()));
    if let Some(listener) = listener {
        let (of_socket, stopped) = (Arc::clone(&farm), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                obey(&of_socket, &stopped, json, &stream, &stream);
            }
        });
    }
    let mut log = match &options.log {
        Some(path) => Some(BufWriter::new(
            File::options().append(true).create(true).open(path)?,
        )),
        None => None,
    };
    let mut hits = Vec::new();
    loop {
        // Read first, so that what was hit before the stop is still written.
        let last = stop.load(Ordering::Acquire);
        if let Some(log) = &mut log {
            farm.take_hits(&mut hits);
            for hit in hits.drain(..) {
                let who = farm.who(hit.who);
                write_hit(log, hit, &who, options.json)?;
            }
            log.flush()?;
        }
        if last {
            break;
        }
        std::thread::sleep(LOG_INTERVAL);
    }
    if let Some(path) = &options.control {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// How often the log is written. Its [limit](limits::HITS_MAX) is what 100,000
/// hits a second fill in fifty of these.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

fn announce(farm: &Farm, json: bool) {
    let (first, last) = (farm.address(0), farm.address(farm.count() - 1));
    if json {
        println!(
            "{}",
            serde_json::json!({ "first": first, "last": last, "count": farm.count() })
        );
    } else {
        println!("{} origins, {first} to {last}", farm.count());
    }
}

/// Runs each line and answers it with one, until the lines end. Reaching the
/// end of standard input leaves the farm running.
fn obey(farm: &Farm, stop: &AtomicBool, json: bool, from: impl Read, mut to: impl Write) {
    let mut from = BufReader::new(from);
    let mut line = String::new();
    loop {
        line.clear();
        match from
            .by_ref()
            .take(limits::CONTROL_LINE_MAX as u64)
            .read_line(&mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => continue,
            Ok(_) => {}
        }
        let command = line.parse::<Command>();
        let quits = matches!(command, Ok(Command::Quit));
        let said = command.and_then(|command| command.run(farm));
        let answer = match said {
            Ok(text) if json && !text.starts_with('{') => {
                serde_json::json!({ "ok": text }).to_string()
            }
            Ok(text) => text,
            Err(error) if json => serde_json::json!({ "error": error.to_string() }).to_string(),
            Err(error) => format!("error: {error}"),
        };
        if writeln!(to, "{answer}").and_then(|()| to.flush()).is_err() {
            return;
        }
        if quits {
            stop.store(true, Ordering::Release);
            return;
        }
    }
}

/// Listens on a unix socket, in place of one that a dead farm left behind.
fn control_socket(path: &Path) -> io::Result<UnixListener> {
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot take control on {}: {error}", path.display()),
        )
    })
}

fn write_hit(
    log: &mut impl Write,
    hit: watchfire_origin::Hit,
    who: &str,
    json: bool,
) -> io::Result<()> {
    if json {
        let line = serde_json::json!({
            "origin": hit.origin, "at_us": hit.at_us, "ended_us": hit.ended_us, "who": who,
        });
        writeln!(log, "{line}")
    } else {
        writeln!(log, "{} {} {} {who}", hit.origin, hit.at_us, hit.ended_us)
    }
}
