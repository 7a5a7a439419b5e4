//! What the integration tests share: both backends, probers that are waited
//! for, and questions to them.

#![allow(dead_code, reason = "each test binary uses its part of this")]

pub(crate) mod nginx;
pub(crate) mod openssl;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::Given;
use watchfire_probe::{
    Backend, CheckSpec, Kind, Options, Outcome, Phases, Prober, Report, ReportKind,
};
use watchfire_probe_core::TlsSpec;
use watchfire_probe_core::keys::Value;
use watchfire_probe_core::stream::tls::TlsOptions;
use watchfire_wire::Unmeasured;

/// The backends that this host has. One without io_uring tests epoll alone,
/// and says so; where continuous integration runs, both must be there.
pub(crate) fn backends() -> Vec<Backend> {
    let options = Options {
        backend: Backend::IoUring,
        ..options(Backend::IoUring)
    };
    match Prober::start(options, Arc::new(|| {})) {
        Ok(prober) => {
            prober.shutdown();
            vec![Backend::IoUring, Backend::Epoll]
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("only epoll is tested: {error}");
            vec![Backend::Epoll]
        }
    }
}

/// A check of this kind with these keys. In TLS it trusts `ca_file`, or nobody and
/// verifies nothing.
pub(crate) fn check_of(
    name: &str,
    addr: SocketAddr,
    keys: Vec<(&'static str, Value)>,
) -> CheckSpec {
    let mut keys = Given(keys);
    let read = Kind::read(name, &mut keys, &addr).expect("a kind");
    let (kind, in_tls) = read.expect("good keys");
    let verify = keys.0.iter().any(|(key, _)| *key == "ca_file");
    let options = TlsOptions::read(&mut keys).expect("good keys");
    let spec = CheckSpec {
        kind,
        tls: in_tls.then(|| TlsSpec {
            server_name: "origin.test".to_owned(),
            verify,
            options: options.map(Arc::new),
        }),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        ..CheckSpec::tcp(addr)
    };
    assert_eq!(spec.validate(), Ok(()), "{name}");
    assert!(keys.0.is_empty(), "{name} takes all its keys");
    spec
}

/// Options for tests on loopback: no caps.
pub(crate) fn options(backend: Backend) -> Options {
    Options {
        backend,
        in_flight_max: 1_024,
        rate_per_address: None,
        rate_per_prefix: None,
        ..Options::default()
    }
}

/// How often a question is asked again that we were too late to measure.
const ASK_AGAIN: usize = 5;

/// A prober and a clock to give up by.
pub(crate) struct Bench {
    pub(crate) prober: Prober,
    asked: u64,
}

impl Bench {
    pub(crate) fn new(options: Options) -> Self {
        let prober = Prober::start(options, Arc::new(|| {})).expect("a prober starts");
        Self { prober, asked: 0 }
    }

    /// The next report, within `patience`.
    pub(crate) fn report(&mut self, patience: Duration) -> Option<Report> {
        let until = Instant::now() + patience;
        loop {
            self.prober.flush();
            if let Some(report) = self.prober.poll() {
                return Some(report);
            }
            if Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// All reports of the next `span`.
    pub(crate) fn reports(&mut self, span: Duration) -> Vec<Report> {
        let until = Instant::now() + span;
        let mut reports = Vec::new();
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            reports.extend(self.report(left));
        }
        reports
    }

    /// Probes each spec once, all at the same time; the outcomes in order. On
    /// a machine that is too busy to measure, asks again for a while.
    pub(crate) fn ask_all(&mut self, specs: &[CheckSpec]) -> Vec<(Outcome, Phases)> {
        let mut found = self.ask_once(specs);
        for _ in 0..ASK_AGAIN {
            let late: Vec<usize> = (0..specs.len())
                .filter(|&place| found[place].0 == Outcome::NotMeasured(Unmeasured::Late))
                .collect();
            let again: Vec<CheckSpec> = late.iter().map(|&place| specs[place].clone()).collect();
            for (place, answer) in late.into_iter().zip(self.ask_once(&again)) {
                found[place] = answer;
            }
        }
        found
    }

    fn ask_once(&mut self, specs: &[CheckSpec]) -> Vec<(Outcome, Phases)> {
        let base = self.asked;
        self.asked += specs.len() as u64;
        for (spec, ask) in specs.iter().zip(base..) {
            self.prober.ask(Arc::new(spec.clone()), ask);
        }
        let mut found = vec![None; specs.len()];
        for _ in specs {
            let report = self
                .report(Duration::from_secs(20))
                .expect("every question is answered");
            let ReportKind::Opinion {
                ask,
                outcome,
                phases,
                ..
            } = report.kind
            else {
                panic!("only questions were asked: {report:?}")
            };
            let place = usize::try_from(ask - base).unwrap();
            let before = found[place].replace((outcome, phases));
            assert!(before.is_none(), "answered twice");
        }
        found.into_iter().map(Option::unwrap).collect()
    }

    pub(crate) fn ask(&mut self, spec: &CheckSpec) -> (Outcome, Phases) {
        self.ask_all(std::slice::from_ref(spec))[0]
    }

    /// Waits until every connection is closed.
    pub(crate) fn settle(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.prober.stats().slots > 0 {
            assert!(
                Instant::now() < until,
                "slots leak: {:?}",
                self.prober.stats().slots
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Descriptors that this process holds.
pub(crate) fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
