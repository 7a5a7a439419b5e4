//! The probe engine against the floor (the same kernel work in a bare loop)
//! and against HAProxy, all on one core and against one farm on another, in
//! turn within one run.

pub(crate) mod farm;
mod haproxy;
pub(crate) mod instructions;
mod kinds;
mod packets;
mod pairs;
mod pop_rate;
mod room;
mod schedule;

use std::error::Error;
use std::net::SocketAddrV4;
use std::time::Duration;

use clap::Parser;
use serde_json::{Map, Value, json};
use watchfire_origin::KernelCounts;
use watchfire_probe::floor::{self, FloorKind, FloorOptions};
use watchfire_probe::{Backend, BenchOptions, BenchRate, CheckSpec};

use farm::FarmProcess;
use haproxy::HaProxy;
use instructions::{Instructions, Watch};
use packets::Packets;
use pairs::{median, ratio, rounded};

/// Benchmarks the probe engine on one core, against a farm on another.
#[derive(Debug, Parser)]
#[command(name = "watchfire-benches probe")]
struct Options {
    /// Compare with HAProxy too
    #[arg(long)]
    peers: bool,
    /// Print one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Origins in the farm; a POP's are tens of thousands, and few fit caches
    /// that many do not
    #[arg(long, default_value_t = 10_000)]
    targets: u32,
    /// Probes in flight
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Length of one run, milliseconds
    #[arg(long, default_value_t = 700)]
    run_ms: u64,
    /// Pairs of runs, of which the medians count
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Measure the schedule too: punctuality at half of the greatest rate, and
    /// many checks against few
    #[arg(long)]
    schedule: bool,
    /// Measure only this: one server's share of a POP's checks, 120 probes a
    /// second, beside HAProxy
    #[arg(long)]
    pop_rate: bool,
    /// Measure only this: what a probe of each kind costs beside a half-open one,
    /// with nginx as the origin
    #[arg(long)]
    kinds: bool,
    /// Leave out the runs under callgrind, which take a minute
    #[arg(long)]
    no_callgrind: bool,
    /// Core of whoever probes; the farm has the next one
    #[arg(long, default_value_t = 0)]
    core: usize,
}

/// Which kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Half-open TCP.
    Tcp,
    /// A new connection, a request, its response.
    Http,
}

/// Who probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The bare loop.
    Floor,
    /// The engine, a new connection for each probe.
    Engine,
    /// The engine on kept connections.
    EngineReuse,
}

/// What a contender is to do.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    targets: Vec<SocketAddrV4>,
    in_flight: usize,
    duration: Duration,
    /// Where threads of the engine's own are pinned to.
    core: Option<usize>,
}

/// What a contender did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    probes: u64,
    failed: u64,
    cpu_us: u64,
    wall_us: u64,
    instructions: Option<Instructions>,
}

/// Runs `probe`.
///
/// # Errors
///
/// If the farm, HAProxy or a ring cannot be had, or if probes of healthy
/// origins fail: such a measurement means nothing.
pub(crate) fn run(args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let name = "watchfire-benches probe".to_owned();
    let options = Options::parse_from(std::iter::once(name).chain(args));
    if room::cores() < 2 {
        return Err("prober and farm need a core each; this machine has one".into());
    }
    watchfire_origin::raise_open_files()?;
    let own_room = room::enter()?;
    let mut farm = FarmProcess::start(options.targets, options.core + 1)?;
    room::pin(options.core)?;
    let mut bench = Bench {
        load: Load {
            targets: (0..options.targets)
                .map(|origin| farm.address(origin))
                .collect(),
            in_flight: options.in_flight,
            duration: Duration::from_millis(options.run_ms),
            core: Some(options.core),
        },
        counts_instructions: Watch::works(),
        verbose: !options.json,
        report: Map::new(),
    };
    bench.note("own_namespace", json!(own_room));
    bench.note("counts_instructions", json!(bench.counts_instructions));
    if options.kinds {
        kinds::measure(&mut bench, options.rounds)?;
        return bench.end(options.json);
    }
    if options.pop_rate {
        pop_rate::measure(&mut bench, options.rounds)?;
        return bench.end(options.json);
    }
    for kind in [Kind::Tcp, Kind::Http] {
        bench.against_floor(kind, &options, &mut farm)?;
    }
    bench.reuse(options.rounds)?;
    if options.schedule {
        bench.schedule(options.rounds)?;
    }
    if own_room {
        bench.packets(&options, &mut farm)?;
    }
    if options.peers {
        for kind in [Kind::Tcp, Kind::Http] {
            bench.against_haproxy(kind, &options, &mut farm)?;
        }
    }
    bench.end(options.json)
}

struct Bench {
    load: Load,
    counts_instructions: bool,
    verbose: bool,
    report: Map<String, Value>,
}

impl Bench {
    fn end(self, json: bool) -> Result<(), Box<dyn Error>> {
        if json {
            println!("{}", Value::Object(self.report));
        }
        Ok(())
    }

    /// Floor, engine, floor, engine...
    fn against_floor(
        &mut self,
        kind: Kind,
        options: &Options,
        farm: &mut FarmProcess,
    ) -> Result<(), Box<dyn Error>> {
        let mut floors = Column::default();
        let mut engines = Column::default();
        // One run of each beforehand warms caches, slabs and the farm.
        self.turn(Contender::Floor, kind)?;
        self.turn(Contender::Engine, kind)?;
        for _ in 0..options.rounds {
            floors.push(self.checked_turn(Contender::Floor, kind, farm)?);
            engines.push(self.checked_turn(Contender::Engine, kind, farm)?);
        }
        let word = kind.word();
        self.figure(
            &format!("{word}_cpu_vs_floor"),
            ratio(&engines.cpu, &floors.cpu),
        );
        self.figure(
            &format!("{word}_instr_vs_floor"),
            ratio(&engines.instructions, &floors.instructions),
        );
        self.figure(&format!("floor_{word}_cpu_us"), median(floors.cpu));
        self.figure(&format!("engine_{word}_cpu_us"), median(engines.cpu));
        self.figure(&format!("floor_{word}_rate_per_s"), median(floors.rate));
        self.figure(&format!("engine_{word}_rate_per_s"), median(engines.rate));
        self.figure(&format!("floor_{word}_instr"), median(floors.instructions));
        let user = match median(engines.user_instructions) {
            Some(counted) => Some(counted),
            None if options.no_callgrind => None,
            None => {
                let counted = |contender| {
                    instructions::by_callgrind(contender, kind, &self.load)
                        .map(|count| count as f64)
                };
                let (of_floor, of_engine) = (counted(Contender::Floor), counted(Contender::Engine));
                self.figure(&format!("floor_{word}_user_instr"), of_floor);
                of_engine
            }
        };
        self.figure(&format!("{word}_user_instr"), user);
        Ok(())
    }

    /// The engine on kept connections against itself on new ones. As many
    /// origins as probes in flight, so that every connection can be kept.
    fn reuse(&mut self, rounds: usize) -> Result<(), Box<dyn Error>> {
        let mut new = Column::default();
        let mut kept = Column::default();
        let all = self.load.targets.clone();
        self.load.targets.truncate(self.load.in_flight);
        for _ in 0..rounds {
            new.push(self.turn(Contender::Engine, Kind::Http)?);
            kept.push(self.turn(Contender::EngineReuse, Kind::Http)?);
        }
        self.load.targets = all;
        self.figure("reuse_vs_new", ratio(&kept.cpu, &new.cpu));
        self.figure("reuse_cpu_us", median(kept.cpu));
        Ok(())
    }

    /// Packets per connection, ours and, with peers, HAProxy's: runs of their own, for
    /// counting is not free.
    fn packets(&mut self, options: &Options, farm: &mut FarmProcess) -> Result<(), Box<dyn Error>> {
        for kind in [Kind::Tcp, Kind::Http] {
            let mut who = vec!["engine"];
            who.extend(options.peers.then_some("haproxy"));
            for who in who {
                let packets = Packets::count(farm.address(0).port())?;
                if who == "engine" {
                    self.turn(Contender::Engine, kind)?;
                } else {
                    watch_haproxy(kind, options, farm, PACKETS_RATE)?;
                }
                let counted = packets.read()?;
                let each = |packets| Some(packets as f64 / counted.connections as f64);
                let word = kind.word();
                self.figure(&format!("{who}_{word}_packets_sent"), each(counted.to_farm));
                self.figure(
                    &format!("{who}_{word}_packets_received"),
                    each(counted.from_farm),
                );
            }
        }
        Ok(())
    }

    /// TCP checks on a schedule.
    fn schedule(&mut self, rounds: usize) -> Result<(), Box<dyn Error>> {
        let greatest = self
            .report
            .get("engine_tcp_rate_per_s")
            .and_then(Value::as_f64);
        let half = (greatest.ok_or("no rate was measured")? / 2.0) as u32;
        let (targets, core) = (self.load.targets.clone(), self.load.core);
        let seen = schedule::at_rate(&targets, core, half, SCHEDULE_FOR)?;
        self.note("schedule_rate_per_s", json!(seen.result.rate_per_s.round()));
        self.note("schedule_late_us_p50", json!(seen.result.late_us_p50));
        self.note("schedule_late_us_p99", json!(seen.result.late_us_p99));
        self.note("schedule_skipped", json!(seen.result.skipped));
        self.note("schedule_not_measured", json!(seen.result.not_measured));
        self.figure("schedule_busiest_vs_mean", seen.busiest_vs_mean);
        let rounds = rounds.min(SCHEDULE_ROUNDS_MAX);
        let seen = schedule::many_against_few(&targets, core, rounds)?;
        self.figure("cpu_100k_checks_vs_1k", ratio(&seen.many, &seen.few));
        self.figure("cpu_us_100k_checks", median(seen.many));
        self.figure("cpu_us_1k_checks", median(seen.few));
        self.note("rss_bytes_100k_checks", json!(seen.rss_bytes));
        Ok(())
    }

    /// Engine and HAProxy in turn, HAProxy at the rate that suits it best.
    fn against_haproxy(
        &mut self,
        kind: Kind,
        options: &Options,
        farm: &mut FarmProcess,
    ) -> Result<(), Box<dyn Error>> {
        let offers = match kind {
            Kind::Tcp => OFFERED_TCP,
            Kind::Http => OFFERED_HTTP,
        };
        let mut best: Option<(u32, Run)> = None;
        for &offered in offers {
            let run = watch_haproxy(kind, options, farm, offered)?;
            self.say(
                &format!("haproxy {} offered {offered}/s", kind.word()),
                &run,
            );
            if best.is_none_or(|(_, so_far)| run.rate() > so_far.rate()) {
                best = Some((offered, run));
            }
        }
        let (offered, _) = best.ok_or("no rate was offered")?;
        let mut engines = Column::default();
        let mut haproxies = Column::default();
        for _ in 0..options.rounds.min(PEER_ROUNDS_MAX) {
            engines.push(self.turn(Contender::Engine, kind)?);
            haproxies.push(watch_haproxy(kind, options, farm, offered)?);
        }
        let word = kind.word();
        self.figure(
            &format!("{word}_cpu_vs_haproxy"),
            ratio(&engines.cpu, &haproxies.cpu),
        );
        self.figure(
            &format!("{word}_rate_vs_haproxy"),
            ratio(&engines.rate, &haproxies.rate),
        );
        self.figure(&format!("haproxy_{word}_cpu_us"), median(haproxies.cpu));
        self.figure(
            &format!("haproxy_{word}_rate_per_s"),
            median(haproxies.rate),
        );
        Ok(())
    }

    /// One run, believed only if the origins' side counted as many probes; it
    /// also counts those before and after the measured time.
    fn checked_turn(
        &self,
        contender: Contender,
        kind: Kind,
        farm: &mut FarmProcess,
    ) -> Result<Run, Box<dyn Error>> {
        let (kernel_before, requests_before) = (KernelCounts::read()?, farm.requests()?);
        let run = self.turn(contender, kind)?;
        let seen = match kind {
            Kind::Tcp => KernelCounts::read()?.since(kernel_before).answered(),
            Kind::Http => farm.requests()? - requests_before,
        };
        if seen * 100 < run.probes * 99 {
            return Err(format!(
                "{contender:?} says {} {} probes, but the origins' side counted {seen}",
                run.probes,
                kind.word()
            )
            .into());
        }
        Ok(run)
    }

    fn turn(&self, contender: Contender, kind: Kind) -> Result<Run, Box<dyn Error>> {
        let watch = if self.counts_instructions {
            Some(Watch::start()?)
        } else {
            None
        };
        let mut run = contender.run(kind, &self.load)?;
        if let Some(watch) = watch {
            run.instructions = watch.read()?;
        }
        if run.failed > 0 || run.probes == 0 {
            return Err(format!(
                "{contender:?} {}: {run:?}; the farm is healthy, so look for room \
                 in ports, files and backlogs",
                kind.word()
            )
            .into());
        }
        self.say(&format!("{contender:?} {}", kind.word()), &run);
        Ok(run)
    }

    fn figure(&mut self, key: &str, figure: Option<f64>) {
        self.note(
            key,
            figure.map_or(Value::Null, |figure| json!(rounded(figure))),
        );
    }

    fn note(&mut self, key: &str, value: Value) {
        if self.verbose {
            println!("{key:>28} {value}");
        }
        self.report.insert(key.to_owned(), value);
    }

    fn say(&self, what: &str, run: &Run) {
        if self.verbose {
            println!(
                "  {what}: {:.0}/s, {:.2} us of CPU each",
                run.rate(),
                run.cpu_us_each()
            );
        }
    }
}

/// For how long the schedule is watched.
const SCHEDULE_FOR: Duration = Duration::from_secs(4);
/// Pairs of runs with many checks and with few: each takes seconds.
const SCHEDULE_ROUNDS_MAX: usize = 5;
/// Checks per second of HAProxy while its packets are counted.
const PACKETS_RATE: u32 = 5_000;
/// Checks per second offered to HAProxy, to find what suits it best.
const OFFERED_TCP: &[u32] = &[15_000, 20_000, 25_000, 30_000, 40_000];
const OFFERED_HTTP: &[u32] = &[8_000, 11_000, 14_000, 17_000, 20_000];
/// Pairs of runs with HAProxy: each takes seconds.
const PEER_ROUNDS_MAX: usize = 5;
/// From its start until HAProxy's checks are spread.
const HAPROXY_WARMUP: Duration = Duration::from_millis(1_500);
const HAPROXY_WINDOW: Duration = Duration::from_millis(1_500);

fn watch_haproxy(
    kind: Kind,
    options: &Options,
    farm: &mut FarmProcess,
    offered: u32,
) -> Result<Run, Box<dyn Error>> {
    let mut haproxy = HaProxy::start(kind, farm, options.targets, offered)?;
    std::thread::sleep(HAPROXY_WARMUP);
    haproxy.watch(kind, farm, HAPROXY_WINDOW)
}

impl Contender {
    fn run(self, kind: Kind, load: &Load) -> Result<Run, Box<dyn Error>> {
        match self {
            Self::Floor => {
                let report = floor::run(&FloorOptions {
                    kind: match kind {
                        Kind::Tcp => FloorKind::TcpHalfOpen,
                        Kind::Http => FloorKind::Http,
                    },
                    targets: &load.targets,
                    in_flight: load.in_flight,
                    duration: load.duration,
                    request: REQUEST,
                })?;
                Ok(Run {
                    probes: report.probes,
                    failed: report.failed,
                    cpu_us: report.cpu_us,
                    wall_us: report.wall_us,
                    instructions: None,
                })
            }
            Self::Engine => engine(kind, false, load),
            Self::EngineReuse => engine(kind, true, load),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Engine => "engine",
            Self::EngineReuse => "engine-reuse",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Floor, Self::Engine, Self::EngineReuse]
            .into_iter()
            .find(|one| one.word() == word)
    }
}

/// The engine as it runs in production, in a closed loop.
fn engine(kind: Kind, reuse: bool, load: &Load) -> Result<Run, Box<dyn Error>> {
    let result = watchfire_probe::bench(
        BenchOptions {
            specs: (load.targets.iter())
                .map(|&target| kind.spec(target, reuse))
                .collect(),
            rate: BenchRate::Max,
            interval: Duration::from_secs(1),
            duration: load.duration,
            warm_up: ENGINE_WARM_UP,
            prober: watchfire_probe::Options {
                backend: Backend::IoUring,
                pin_cores: load.core.map(|core| vec![core]),
                in_flight_max: load.in_flight as u32,
                ..watchfire_probe::Options::default()
            },
        },
        |_| {},
    )?;
    Ok(Run {
        probes: result.probes,
        failed: result.failed + result.not_measured,
        cpu_us: (result.cpu_us_per_probe * result.probes as f64) as u64,
        wall_us: (result.probes as f64 * 1e6 / result.rate_per_s) as u64,
        instructions: None,
    })
}

/// Until every check of the engine has been started.
const ENGINE_WARM_UP: Duration = Duration::from_millis(100);

/// What the floor asks: about as long as what the engine sends.
const REQUEST: &[u8] =
    b"GET /health HTTP/1.1\r\nHost: 127.40.0.1:40000\r\nUser-Agent: watchfire/0.1.0\r\n\
    Accept: */*\r\nConnection: close\r\n\r\n";

impl Kind {
    fn spec(self, target: SocketAddrV4, reuse: bool) -> CheckSpec {
        match self {
            Self::Tcp => CheckSpec::tcp(target.into()),
            Self::Http => {
                let mut spec = CheckSpec::http(target.into(), "/health");
                if let watchfire_probe::Kind::Http(http) = &mut spec.kind {
                    http.reuse = reuse;
                }
                spec
            }
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
        }
    }
}

impl Run {
    fn cpu_us_each(&self) -> f64 {
        self.cpu_us as f64 / self.probes as f64
    }

    fn rate(&self) -> f64 {
        self.probes as f64 * 1e6 / self.wall_us as f64
    }
}

/// One contender's runs, a figure per probe for each.
#[derive(Default)]
struct Column {
    cpu: Vec<f64>,
    rate: Vec<f64>,
    instructions: Vec<f64>,
    user_instructions: Vec<f64>,
}

impl Column {
    fn push(&mut self, run: Run) {
        self.cpu.push(run.cpu_us_each());
        self.rate.push(run.rate());
        if let Some(counted) = run.instructions {
            let probes = run.probes as f64;
            self.instructions
                .push((counted.user + counted.kernel) as f64 / probes);
            self.user_instructions.push(counted.user as f64 / probes);
        }
    }
}
