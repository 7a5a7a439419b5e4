//! `watchfire bench`: what this machine can do, with the agent's own engine.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use watchfire_origin::{Farm, FarmOptions, Kind as FarmKind};
use watchfire_probe::{BenchOptions, BenchRate, BenchResult, Options as ProbeOptions, bench};
use watchfire_probe_core::keys::Value;
use watchfire_probe_core::{CheckSpec, KIND_KEYS, TlsSpec};

use super::check::BackendName;
use super::target::{Target, read_kind};
use super::{Failure, Format, print_json};
use crate::config::{USER_AGENT, user_agent};

/// Runs before the measurement.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Measure how fast, how cheaply and how punctually this machine probes.
    Probe(ProbeVerb),
    /// Serve test origins until standard input closes; `bench probe` starts
    /// one by itself.
    Origins(OriginsVerb),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  watchfire bench probe --kind tcp --rate max\n  \
                        watchfire bench probe --kind http --targets 10000 --rate 10000\n  \
                        watchfire bench probe --kind https --targets my-origins.txt --rate 100\n\n\
                        CPU is that of the probe threads alone. The built-in origins run in a \
                        process of their own and share this machine's cores. With a rate the \
                        loop is open: probes are due whatever becomes of earlier ones."
)]
pub(super) struct ProbeVerb {
    /// What a probe does
    #[arg(long, default_value = "http", value_parser = PossibleValuesParser::new(KIND_KEYS))]
    kind: String,
    /// How many built-in origins, or a file with one target a line
    #[arg(long, default_value = "1000", value_name = "N|FILE")]
    targets: String,
    /// Probes a second, or max
    #[arg(long, default_value = "max", value_name = "R|max")]
    rate: String,
    /// Probe threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Cores to pin the probe threads to, in turn
    #[arg(long, value_delimiter = ',')]
    pin_cores: Option<Vec<usize>>,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// Connections at once per thread
    #[arg(long, default_value_t = 256)]
    in_flight: u32,
    /// How to talk to the kernel
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    backend: BackendName,
    /// Keep HTTP connections open from one probe to the next
    #[arg(long)]
    reuse: bool,
    /// Accept any certificate
    #[arg(long)]
    no_verify: bool,
    /// Write the latencies as an HdrHistogram percentile file
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

#[derive(Args)]
pub(super) struct OriginsVerb {
    /// What they speak
    #[arg(long, value_enum, default_value_t = FarmSpeaks::Http)]
    kind: FarmSpeaks,
    /// How many, on consecutive loopback addresses
    #[arg(long, default_value_t = 1_000)]
    count: u32,
}

/// What the built-in origins speak.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FarmSpeaks {
    /// SYN, SYN-ACK, RST
    Tcp,
    /// One request
    Http,
}

pub(super) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Probe(options) => probe(options),
        Verb::Origins(options) => origins(options),
    }
}

fn probe(options: &ProbeVerb) -> Result<(), Failure> {
    let rate = match options.rate.as_str() {
        "max" => BenchRate::Max,
        number => BenchRate::PerSecond(number.parse().map_err(|_| {
            format!("--rate {number} is neither a number nor max\n  help: try --rate max")
        })?),
    };
    watchfire_origin::raise_open_files()?;
    // The farm lives as long as this name.
    let (specs, _farm) = match options.targets.parse::<u32>() {
        Ok(count) => {
            let farm = OwnFarm::start(&options.kind, count)?;
            let specs = farm.addresses.iter().map(|addr| spec(options, *addr, None));
            (specs.collect::<Result<_, _>>()?, Some(farm))
        }
        Err(_) => (read_targets(options, Path::new(&options.targets))?, None),
    };
    let bar = progress_bar(options.duration);
    let result = bench(
        BenchOptions {
            specs,
            rate,
            interval: Duration::from_secs(1),
            duration: Duration::from_secs(options.duration),
            warm_up: WARM_UP,
            prober: ProbeOptions {
                threads: options.threads,
                backend: options.backend.into(),
                pin_cores: options.pin_cores.clone(),
                in_flight_max: options.in_flight,
                user_agent: user_agent(USER_AGENT, "bench"),
                ..ProbeOptions::default()
            },
        },
        |progress| {
            bar.set_position(u64::try_from(progress.elapsed.as_millis()).unwrap_or(u64::MAX));
            bar.set_message(format!("{} probes", progress.probes));
        },
    )?;
    bar.finish_and_clear();
    if let Some(path) = &options.hgrm {
        let file = File::create(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        result.write_hgrm(BufWriter::new(file))?;
    }
    if options.format.json {
        print_json(&result)
    } else {
        print_text(&result);
        Ok(())
    }
}

fn spec(
    options: &ProbeVerb,
    addr: SocketAddr,
    target: Option<&Target>,
) -> Result<CheckSpec, String> {
    let text = |text: &str| Value::Text(text.to_owned());
    let host = target.map_or_else(|| addr.to_string(), Target::host_header);
    let path = target.map_or("/", |target| &target.path);
    let connection = if options.reuse { "reuse" } else { "new" };
    let keys = vec![
        ("host", text(&host)),
        ("path", text(path)),
        ("service", text(path.trim_start_matches('/'))),
        ("connection", text(connection)),
    ];
    let (kind, tls) = read_kind(&options.kind, keys, &addr)?;
    let server_name = target.map_or_else(|| addr.ip().to_string(), |target| target.host.clone());
    Ok(CheckSpec {
        kind,
        tls: tls.then_some(TlsSpec {
            server_name,
            verify: !options.no_verify,
            options: None,
        }),
        ..CheckSpec::tcp(addr)
    })
}

fn read_targets(options: &ProbeVerb, path: &Path) -> Result<Vec<CheckSpec>, Failure> {
    let file = File::open(path).map_err(|error| {
        format!(
            "--targets {}: {error}\n  help: name a number of built-in origins, or a file with one \
             target a line",
            path.display()
        )
    })?;
    let mut specs = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = |error: String| format!("{}:{}: {error}", path.display(), index + 1);
        let target = Target::parse(line).map_err(place)?;
        // One without a kind is of the kind that is asked for.
        let matching = target.kind == options.kind || target.kind == KIND_KEYS[0];
        if !matching {
            let error = "this target is of another kind\n  help: correct it, or --kind".to_owned();
            return Err(Failure::Error(place(error)));
        }
        let addr = target.resolve().map_err(place)?;
        let spec = spec(options, addr, Some(&target)).map_err(place)?;
        spec.validate().map_err(|error| place(error.to_string()))?;
        specs.push(spec);
    }
    Ok(specs)
}

fn progress_bar(seconds: u64) -> ProgressBar {
    let total = Duration::from_secs(seconds) + WARM_UP;
    let bar = ProgressBar::new(u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    let style = ProgressStyle::with_template("{elapsed:>4} [{bar:32}] {msg}")
        .expect("the template is fixed and right")
        .progress_chars("=> ");
    bar.set_style(style);
    bar
}

fn print_text(result: &BenchResult) {
    say!(
        "{} probes of {} {} targets in {} thread(s) by {}",
        result.probes,
        result.targets,
        result.kind,
        result.threads,
        result.backend
    );
    say!(
        "  outcome   {} ok, {} failed, {} not measured, {} skipped",
        result.ok,
        result.failed,
        result.not_measured,
        result.skipped
    );
    say!("  rate      {:.0} probes a second", result.rate_per_s);
    say!("  CPU       {:.1} us per probe", result.cpu_us_per_probe);
    say!(
        "  latency   {} us (median), {} us (p99)",
        result.latency_us_p50,
        result.latency_us_p99
    );
    say!(
        "  lateness  {} us (median), {} us (p99)",
        result.late_us_p50,
        result.late_us_p99
    );
    say!("  memory    {} MiB", result.rss_bytes >> 20);
}

/// A farm in a process of its own, so that its CPU and memory are not ours.
struct OwnFarm {
    process: Child,
    addresses: Vec<SocketAddr>,
}

impl OwnFarm {
    fn start(kind: &str, count: u32) -> Result<Self, Failure> {
        if FarmSpeaks::from_str(kind, false).is_err() {
            return Err(Failure::Error(format!(
                "the built-in origins speak no {kind}\n  help: name your own in a file: \
                 --targets FILE"
            )));
        }
        let mut process = Command::new(std::env::current_exe()?)
            .args([
                "bench",
                "origins",
                "--kind",
                kind,
                "--count",
                &count.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let mut farm = Self {
            process,
            addresses: Vec::new(),
        };
        let first: SocketAddr = line
            .trim()
            .parse()
            .map_err(|_| "the built-in origins did not start; their error is above")?;
        let SocketAddr::V4(first) = first else {
            return Err("the built-in origins are not on IPv4".into());
        };
        farm.addresses = (0..count)
            .map(|index| {
                let ip = Ipv4Addr::from(u32::from(*first.ip()) + index);
                SocketAddr::from((ip, first.port()))
            })
            .collect();
        Ok(farm)
    }
}

impl Drop for OwnFarm {
    fn drop(&mut self) {
        // Its standard input closes with the child's handle, and it ends.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn origins(options: &OriginsVerb) -> Result<(), Failure> {
    watchfire_origin::raise_open_files()?;
    let farm = Farm::start(FarmOptions {
        count: options.count,
        kind: match options.kind {
            FarmSpeaks::Tcp => FarmKind::Tcp,
            FarmSpeaks::Http => FarmKind::Http,
        },
        ..FarmOptions::default()
    })?;
    say!("{}", farm.address(0));
    // Whatever is said there means nothing; its end is ours.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    farm.stop();
    Ok(())
}
