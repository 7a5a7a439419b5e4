//! Trouble of our own, as real as it gets: too few open files, no local port
//! left, a process that is stopped for three seconds. Not one origin may turn
//! Down. Each scene runs in a process of its own, as limits and stops are a
//! process's own.

#![allow(unsafe_code, reason = "a system call filter is set by a raw call")]

mod common;

use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Bench, backends, options};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use watchfire_origin::{Farm, FarmOptions, Fault};
use watchfire_probe::{
    Backend, CheckSpec, Inherited, Options, Outcome, Prober, Report, ReportKind, Stats,
};
use watchfire_probe_core::HealthRule;
use watchfire_wire::{First, Unmeasured, Verdict};

/// Names the scene that a child process plays.
const SCENE: &str = "WATCHFIRE_TEST_SCENE";
const BACKEND: &str = "WATCHFIRE_TEST_BACKEND";

fn main() -> ExitCode {
    if let (Ok(scene), Ok(backend)) = (std::env::var(SCENE), std::env::var(BACKEND)) {
        play(&scene, backend.parse().expect("a backend"));
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for backend in backends() {
        for scene in ["few_files", "files_run_out", "no_ports", "stopped"] {
            let passed = run(scene, backend);
            println!(
                "{scene} on {backend}: {}",
                if passed { "ok" } else { "FAILED" }
            );
            failed |= !passed;
        }
    }
    let passed = run("no_io_uring", Backend::Auto);
    println!("no_io_uring: {}", if passed { "ok" } else { "FAILED" });
    failed |= !passed;
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Plays a scene in a child process, and stops that for a while if the scene
/// says so.
fn run(scene: &str, backend: Backend) -> bool {
    let this = std::env::current_exe().expect("this test has a path");
    let mut child = Command::new(this)
        .env(SCENE, scene)
        .env(BACKEND, backend.as_str())
        .stdout(Stdio::null())
        .spawn()
        .expect("a child process starts");
    if scene == "stopped" {
        let pid = Pid::from_raw(child.id() as i32);
        for (signal, pause_ms) in [(Signal::SIGSTOP, 1_500), (Signal::SIGCONT, 3_000)] {
            std::thread::sleep(Duration::from_millis(pause_ms));
            kill(pid, signal).expect("the child still plays");
        }
    }
    child.wait().is_ok_and(|status| status.success())
}

fn play(scene: &str, backend: Backend) {
    match scene {
        "few_files" => few_files(backend),
        "files_run_out" => files_run_out(backend),
        "no_ports" => no_ports(backend),
        "stopped" => stopped(backend),
        "no_io_uring" => no_io_uring(),
        other => panic!("no scene is called {other}"),
    }
}

/// A healthy farm of HTTP origins.
fn farm(count: u32) -> Farm {
    Farm::start(FarmOptions {
        count,
        ..FarmOptions::default()
    })
    .expect("a farm starts")
}

/// Checks that a single fail would turn Down.
fn watch(bench: &mut Bench, specs: impl Iterator<Item = CheckSpec>) {
    for spec in specs {
        let spec = CheckSpec {
            interval: Duration::from_millis(500),
            timeout: Duration::from_millis(400),
            rule: HealthRule::RiseFall { rise: 1, fall: 1 },
            ..spec
        };
        let up = Inherited {
            verdict: Verdict::Up,
            contrary: 0,
        };
        bench
            .prober
            .start_check(Arc::new(spec), 1, Some(up), First::PHASE);
    }
}

fn none_is_down(reports: &[Report], stats: &Stats) {
    for report in reports {
        let down = matches!(
            report.kind,
            ReportKind::Measured {
                verdict: Verdict::Down,
                ..
            }
        );
        assert!(!down, "{report:?}");
    }
    assert_eq!(stats.failed(), 0, "{:?}", stats.by_reason);
    assert!(stats.passed() > 0, "nothing was measured at all");
}

/// The limit on open files is far too small from the start.
fn few_files(backend: Backend) {
    let farm = farm(100);
    let held = common::open_files() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, held + 24, held + 24).expect("a lower limit");
    let mut bench = Bench::new(options(backend));
    watch(
        &mut bench,
        (0..100).map(|origin| CheckSpec::http(farm.address(origin), "/")),
    );
    let reports = bench.reports(Duration::from_secs(3));
    none_is_down(&reports, &bench.prober.stats());
}

/// The rest of the process takes all descriptors while the prober runs.
fn files_run_out(backend: Backend) {
    // The farm's connections come out of the same purse; half-open checks
    // need none there.
    let farm = farm(50);
    let mut bench = Bench::new(options(backend));
    watch(
        &mut bench,
        (0..50).map(|origin| CheckSpec::tcp(farm.address(origin))),
    );
    let mut reports = bench.reports(Duration::from_secs(1));
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    // What is open stays open; not one descriptor more can be had.
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("a lower limit");
    reports.extend(bench.reports(Duration::from_secs(2)));
    let stats = bench.prober.stats();
    none_is_down(&reports, &stats);
    if backend == Backend::Epoll {
        assert!(
            stats.unmeasured(Unmeasured::OutOfFiles) > 0,
            "{:?}",
            stats.by_unmeasured
        );
        assert!(!bench.prober.healthy(), "out of files and healthy");
    }
}

/// Two local ports for forty checks of one slow origin.
fn no_ports(backend: Backend) {
    let farm = farm(1);
    farm.set_fault(0..1, Fault::SlowFirstByte(150))
        .expect("a fault");
    let mut bench = Bench::new(Options {
        port_range: Some((42_000, 42_001)),
        ..options(backend)
    });
    let (outcome, phases) = bench.ask(&CheckSpec::http(farm.address(0), "/first"));
    assert_eq!(outcome, Outcome::Pass, "{phases:?}");
    let path = |n: u32| format!("/{n}");
    watch(
        &mut bench,
        (0..40).map(|n| CheckSpec::http(farm.address(0), &path(n))),
    );
    let reports = bench.reports(Duration::from_secs(3));
    let stats = bench.prober.stats();
    none_is_down(&reports, &stats);
    assert!(
        stats.unmeasured(Unmeasured::OutOfPorts) > 0,
        "{:?}",
        stats.by_unmeasured
    );
}

/// The whole process is stopped for three seconds, from outside; its farm is
/// stopped with it, so that whatever is silent is silent by our fault.
fn stopped(backend: Backend) {
    let farm = farm(300);
    let mut bench = Bench::new(options(backend));
    watch(
        &mut bench,
        (0..150).map(|origin| CheckSpec::http(farm.address(origin), "/")),
    );
    watch(
        &mut bench,
        (150..300).map(|origin| CheckSpec::tcp(farm.address(origin))),
    );
    let began = watchfire_probe::now();
    let mut reports = bench.reports(Duration::from_secs(1));
    while watchfire_probe::now().since(began) < Duration::from_secs(6) {
        reports.extend(bench.reports(Duration::from_millis(100)));
    }
    let stats = bench.prober.stats();
    none_is_down(&reports, &stats);
    assert!(
        stats.skipped >= 300,
        "it was not stopped: {} skipped",
        stats.skipped
    );
}

/// A container whose seccomp profile refuses io_uring: `auto` falls back and
/// says why, `io_uring` refuses and names the way out.
fn no_io_uring() {
    forbid_io_uring();
    let farm = farm(1);
    let mut bench = Bench::new(options(Backend::Auto));
    assert_eq!(bench.prober.backend(), Backend::Epoll);
    let line = bench.prober.fallback().expect("a cause").to_owned();
    assert!(line.contains("seccomp") && !line.contains('\n'), "{line}");
    let (outcome, _) = bench.ask(&CheckSpec::http(farm.address(0), "/"));
    assert_eq!(outcome, Outcome::Pass);
    let refused = Prober::start(options(Backend::IoUring), Arc::new(|| {}));
    let words = refused.expect_err("io_uring is forbidden").to_string();
    assert!(
        words.contains("allow io_uring_setup") && words.contains("epoll"),
        "{words}"
    );
}

/// Lets `io_uring_setup` fail with EPERM in this process, as container
/// runtimes do.
fn forbid_io_uring() {
    let statement = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let number = libc::SYS_io_uring_setup as u32;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // The call's number is the first word of what the filter reads.
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: these calls take numbers, and one pointer to a program that
    // lives through them.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
