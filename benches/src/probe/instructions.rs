//! Instructions per probe: by `perf stat` where the machine counts them, and
//! those of user space by callgrind elsewhere. What cannot be counted is
//! nothing, never a guess.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};

use super::{Contender, Kind, Load};

/// Instructions of a thread, user space and kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions {
    pub(super) user: u64,
    pub(super) kernel: u64,
}

/// A `perf stat` that watches threads until it is read.
pub(super) struct Watch {
    perf: Child,
}

impl Watch {
    /// Whether this machine counts instructions at all.
    pub(super) fn works() -> bool {
        let output = Command::new("perf")
            .args(["stat", "-x,", "-e", EVENTS, "true"])
            .stdin(Stdio::null())
            .output();
        output.is_ok_and(|output| parse(&String::from_utf8_lossy(&output.stderr)).is_some())
    }

    /// Watches the calling thread and those that it starts.
    pub(super) fn start() -> std::io::Result<Self> {
        let perf = Command::new("perf")
            .args(["stat", "-x,", "-e", EVENTS, "-t", &gettid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // It says nothing when it has attached.
        std::thread::sleep(ATTACH);
        Ok(Self { perf })
    }

    /// What was counted.
    pub(super) fn read(self) -> std::io::Result<Option<Instructions>> {
        let pid = Pid::from_raw(self.perf.id() as i32);
        kill(pid, Signal::SIGINT)?;
        let output = self.perf.wait_with_output()?;
        Ok(parse(&String::from_utf8_lossy(&output.stderr)))
    }
}

/// Instructions in user space per probe, counted by callgrind: the difference
/// of a long and a short run, so that the start counts for nothing.
pub(super) fn by_callgrind(contender: Contender, kind: Kind, load: &Load) -> Option<u64> {
    let (short_run, long_run) = (SHORT_RUN, LONG_RUN);
    let short = callgrind(contender, kind, load, short_run)?;
    let long = callgrind(contender, kind, load, long_run)?;
    let probes = long
        .probes
        .checked_sub(short.probes)
        .filter(|&probes| probes > 0)?;
    Some(long.instructions.checked_sub(short.instructions)? / probes)
}

/// The child's side of [`by_callgrind`]: runs once, prints the probes done.
pub(crate) fn once(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut word = || {
        args.next()
            .ok_or("usage: probe-once floor|engine|engine-reuse tcp|http MS FIRST COUNT IN_FLIGHT")
    };
    let contender = Contender::from_word(&word()?).ok_or("floor, engine or engine-reuse")?;
    let kind = if word()? == "tcp" {
        Kind::Tcp
    } else {
        Kind::Http
    };
    let duration = Duration::from_millis(word()?.parse()?);
    let first: SocketAddrV4 = word()?.parse()?;
    let count: u32 = word()?.parse()?;
    let in_flight = word()?.parse()?;
    let target =
        |n: u32| SocketAddrV4::new(Ipv4Addr::from_bits(first.ip().to_bits() + n), first.port());
    let load = Load {
        targets: (0..count).map(target).collect(),
        in_flight,
        duration,
        core: None,
    };
    println!("{}", contender.run(kind, &load)?.probes);
    Ok(())
}

struct Counted {
    instructions: u64,
    probes: u64,
}

fn callgrind(contender: Contender, kind: Kind, load: &Load, run: Duration) -> Option<Counted> {
    let targets = load.targets.len().min(TARGETS);
    let output = Command::new("timeout")
        .args(["-s", "KILL", "60", "valgrind", "--tool=callgrind"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(std::env::current_exe().ok()?)
        .args([
            "probe-once",
            contender.word(),
            kind.word(),
            &run.as_millis().to_string(),
        ])
        .args([load.targets[0].to_string(), targets.to_string()])
        .arg(load.in_flight.to_string())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1))?;
    Some(Counted {
        instructions: collected.trim().parse().ok()?,
        probes: String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .ok()?,
    })
}

const EVENTS: &str = "instructions:u,instructions:k";
const ATTACH: Duration = Duration::from_millis(200);
/// Few enough that the short run sees the first probe of each: what a check costs
/// once would else be counted as the probes'.
const TARGETS: usize = 500;
const SHORT_RUN: Duration = Duration::from_millis(500);
const LONG_RUN: Duration = Duration::from_millis(2_000);

/// Reads the lines of `perf stat -x,`: value, unit, event, and more.
fn parse(text: &str) -> Option<Instructions> {
    let value = |event: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.split(',');
            let value = fields.next()?;
            (fields.nth(1)? == event).then(|| value.parse::<u64>().ok())?
        })
    };
    Some(Instructions {
        user: value("instructions:u")?,
        kernel: value("instructions:k")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_lines_are_read_and_what_is_not_counted_is_nothing() {
        let counted = "123,,instructions:u,1000,100.00,,\n4567,,instructions:k,1000,100.00,,\n";
        assert_eq!(
            parse(counted),
            Some(Instructions {
                user: 123,
                kernel: 4567
            })
        );
        let missing = "<not supported>,,instructions:u,0,100.00,,\n1,,instructions:k,1,1,,\n";
        assert_eq!(parse(missing), None);
    }
}
