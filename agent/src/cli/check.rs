//! `watchfire check`: one probe, told phase by phase.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;
use watchfire_probe::{Ability, OnceReport, Options as ProbeOptions, Outcome, Phases, once};
use watchfire_probe_core::keys::Value;
use watchfire_probe_core::tape::Tape;
use watchfire_probe_core::{CheckSpec, HealthRule, TlsSpec};

use super::target::{Target, read_kind};
use super::{Failure, Format, everywhere, print_json, shown};
use crate::config::{AgentConfig, USER_AGENT, refusal, user_agent};
use crate::files::{Files, How};
use crate::names::address_of;

#[derive(Args)]
#[command(
    after_help = "The probe is the agent's own: the same state machine on the same driver. \
                        Exit status 0: it passed, everywhere if all were asked; 1: it failed or \
                        measured nothing; 2: it could not be tried."
)]
pub(super) struct Options {
    /// KIND://HOST:PORT/PATH with any kind of check, like tcp, http, https, h2-tls or
    /// grpc (whose path is the service), or HOST:PORT for TCP; with --config an
    /// origin's name
    target: String,
    /// The agent's configuration file: probe the origin of this name exactly as
    /// that agent would
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["timeout", "expect", "host", "method", "no_verify", "roots", "backend"]
    )]
    config: Option<PathBuf>,
    /// Let every member of the POP probe the origin of this name once, now, and
    /// say what each saw; --config names the agent to ask
    #[arg(
        long,
        conflicts_with_all = ["timeout", "expect", "host", "method", "no_verify", "roots", "backend"]
    )]
    everywhere: bool,
    /// Longest that it may take
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// HTTP statuses that pass
    #[arg(long, default_value = "200-399")]
    expect: String,
    /// HTTP's Host header and TLS's server name, if not the target's
    #[arg(long)]
    host: Option<String>,
    /// HTTP method
    #[arg(long, value_enum, default_value_t = MethodName::Get)]
    method: MethodName,
    /// Accept any certificate
    #[arg(long)]
    no_verify: bool,
    /// Certificates to trust, as one file of PEM, if not the system's
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
    /// How to talk to the kernel
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    backend: BackendName,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum MethodName {
    /// GET
    Get,
    /// HEAD
    Head,
}

/// The drivers by name.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum BackendName {
    /// io_uring where the kernel offers it, epoll elsewhere
    Auto,
    /// io_uring
    #[value(name = "io_uring")]
    IoUring,
    /// epoll
    Epoll,
}

impl From<BackendName> for watchfire_probe::Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Auto => Self::Auto,
            BackendName::IoUring => Self::IoUring,
            BackendName::Epoll => Self::Epoll,
        }
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if options.everywhere {
        let config = options.config.as_deref();
        return everywhere::run(&options.target, config, options.format);
    }
    if let Some(file) = &options.config {
        return run_configured(&options.target, file, options.format);
    }
    let target = Target::parse(&options.target)?;
    let spec = spec(options, &target)?;
    spec.validate()?;
    let probe = ProbeOptions {
        backend: options.backend.into(),
        user_agent: user_agent(USER_AGENT, "check"),
        tls_roots: options.roots.clone(),
        ..ProbeOptions::default()
    };
    tell(&spec, &probe, options.format)
}

/// Probes an origin of a configuration as its agent would, which probes none
/// that it is not to.
fn run_configured(name: &str, file: &Path, format: Format) -> Result<(), Failure> {
    let config = AgentConfig::load(file)?;
    let read = Files::new(&config, None).read(&config, How::Start)?;
    let set = read
        .ok_or("the origins files were not read")?
        .origins
        .origins;
    let Some(id) = set.names.get(name) else {
        return Err(format!(
            "{} names no origin \"{name}\"\n  help: look at its origins files; without --config a \
             target is an address or a URL",
            file.display()
        )
        .into());
    };
    let spec = &mut set.checks[id].as_ref().clone();
    let mut refused = set.refused.get(id).cloned();
    if let Some(host) = &spec.name {
        let known = crate::names::once(&config.resolver, host)?;
        let ability = Ability::new(&config.probe);
        let judge = |spec: &CheckSpec| refusal(&config.policy, &ability, spec);
        match address_of(spec, Some(&known), &judge) {
            Ok(address) => *spec = spec.at(address),
            Err(why) => refused = Some(why),
        }
    }
    let spec = &*spec;
    if let Some(refusal) = refused {
        let words = format!("{}: {}", refusal.reason.words(), refusal.because);
        if format.json {
            let report = OnceReport {
                outcome: Outcome::NotMeasured(refusal.reason),
                phases: Phases::default(),
                backend: config.probe.backend,
                fallback: None,
                tape: Tape::default(),
            };
            let mut answer = as_json(spec, &report);
            answer["because"] = words.into();
            print_json(&answer)?;
        } else {
            say!("{spec}\nnot measured: {words}");
        }
        return Err(Failure::No);
    }
    let probe = ProbeOptions {
        // A running agent has its cores to itself.
        pin_cores: None,
        ..config.probe.clone()
    };
    if !format.json {
        say!("{spec}");
    }
    tell(spec, &probe, format)
}

/// Probes once, and says what came of it.
fn tell(spec: &CheckSpec, probe: &ProbeOptions, format: Format) -> Result<(), Failure> {
    let report = once(spec.clone(), probe)?;
    if format.json {
        print_json(&as_json(spec, &report))?;
    } else {
        print_text(spec, &report);
    }
    match report.outcome {
        Outcome::Pass => Ok(()),
        Outcome::Fail(_) | Outcome::NotMeasured(_) => Err(Failure::No),
    }
}

fn spec(options: &Options, target: &Target) -> Result<CheckSpec, Failure> {
    let addr = target.resolve()?;
    let text = |text: &str| Value::Text(text.to_owned());
    let method = match options.method {
        MethodName::Get => "GET",
        MethodName::Head => "HEAD",
    };
    let mut keys = vec![
        ("method", text(method)),
        ("path", text(&target.path)),
        ("expect", text(&options.expect)),
        ("service", text(target.path.trim_start_matches('/'))),
    ];
    // As the agent's own checks have it: of an address, its port too.
    match &options.host {
        Some(host) => keys.push(("host", text(host))),
        None if target.is_address() => {}
        None => keys.push(("host", text(&target.host_header()))),
    }
    let (kind, tls) = read_kind(target.kind, keys, &addr)?;
    let name = options.host.as_ref().and(kind.server_name());
    let tls = tls.then(|| TlsSpec {
        server_name: name.unwrap_or(&target.host).to_owned(),
        verify: !options.no_verify,
        options: None,
    });
    Ok(CheckSpec {
        target: addr,
        name: None,
        kind,
        tls,
        proxy: None,
        egress: None,
        interval: options.timeout,
        timeout: options.timeout,
        fast_interval: None,
        down_interval: None,
        rule: HealthRule::RiseFall { rise: 1, fall: 1 },
    })
}

fn print_text(spec: &CheckSpec, report: &OnceReport) {
    match &spec.name {
        Some(name) => say!("{} {} of {name}", spec.kind_key(), spec.target),
        None => say!("{} {}", spec.kind_key(), spec.target),
    }
    let phases = [
        ("connect", report.phases.connect_us),
        ("tls", report.phases.tls_us),
        ("first byte", report.phases.first_byte_us),
        ("total", Some(report.phases.total_us)),
    ];
    for (name, us) in phases {
        if let Some(us) = us {
            say!("  {name:<11} {:>9.3} ms", f64::from(us) / 1_000.0);
        }
    }
    if let Some(status) = report.phases.status {
        say!("  status      {status}");
    }
    if report.phases.degraded {
        say!("  degraded    by the signs that the check names");
    }
    shown::say(&report.tape, &spec.kind);
    let verdict = match report.outcome {
        Outcome::Pass => "passed",
        Outcome::Fail(_) => "failed",
        Outcome::NotMeasured(_) => "not measured",
    };
    say!("{verdict}: {}", report.outcome.words());
}

fn as_json(spec: &CheckSpec, report: &OnceReport) -> serde_json::Value {
    let outcome = match report.outcome {
        Outcome::Pass => "pass",
        Outcome::Fail(_) => "fail",
        Outcome::NotMeasured(_) => "not_measured",
    };
    json!({
        "target": spec.target.to_string(),
        "name": spec.name.as_ref().map(ToString::to_string),
        "check": spec.id().to_string(),
        "outcome": outcome,
        "reason": report.outcome.key(),
        "because": report.outcome.words(),
        "status": report.phases.status,
        "connect_us": report.phases.connect_us,
        "tls_us": report.phases.tls_us,
        "first_byte_us": report.phases.first_byte_us,
        "total_us": report.phases.total_us,
        "degraded": report.phases.degraded,
        "tape": shown::as_json(&report.tape, &spec.kind),
    })
}
