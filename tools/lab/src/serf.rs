//! serf beside the agents: the same machine, the same namespaces, the same run.
//!
//! What it says in its log is read every few milliseconds; its own times are
//! whole seconds only.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::clock::{self, Us};
use crate::lab::{Lab, Wait};
use crate::net::{self, GOSSIP_PORT};
use crate::procs::Usage;
use crate::scenario::Span;
use crate::shell;

/// Where serf answers its own command line.
const RPC_PORT: u16 = 7373;

/// How long serf may take to form, to notice a crash, to spread a tag.
const FORMING: Duration = Duration::from_secs(90);
const NOTICING: Duration = Duration::from_secs(40);
const SPREADING: Duration = Duration::from_secs(10);
const REJOINING: Duration = Duration::from_secs(20);

/// One serf agent.
struct Serf {
    log: PathBuf,
    file: Option<File>,
    text: String,
    child: Option<Child>,
}

impl Serf {
    /// When its log first held such a line since the last [`Serf::forget`].
    fn says(&mut self, what: &str) -> bool {
        if self.file.is_none() {
            self.file = File::open(&self.log).ok();
        }
        if let Some(file) = &mut self.file {
            // What cannot be read now is read at the next look.
            let _ = file.read_to_string(&mut self.text);
        }
        self.text.contains(what)
    }

    fn count(&mut self, what: &str) -> usize {
        self.says(what);
        self.text.matches(what).count()
    }

    fn forget(&mut self) {
        self.says("");
        self.text.clear();
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that is gone already is as dead.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Plays the step: forming, idling, crashes, tags.
pub(crate) fn play(
    lab: &mut Lab,
    name: &str,
    agents: usize,
    crashes: usize,
    tags: usize,
    length: Span,
) -> Result<()> {
    let mut serfs = Vec::new();
    let begun = clock::now();
    for agent in 0..agents {
        lab.packets.unsilence(agent)?;
        serfs.push(start(lab, agent)?);
    }
    let formed = lab.wait(FORMING, |_| {
        let formed = serfs
            .iter_mut()
            .all(|serf| serf.count("EventMemberJoin: ") >= agents);
        Ok(if formed {
            Wait::Done(clock::now())
        } else {
            Wait::On
        })
    })?;
    match formed {
        Some(at) => {
            lab.metric(name, "formed_s", clock::seconds(at - begun));
            lab.say(format!(
                "{name}: {agents} formed after {:.1} s",
                clock::seconds(at - begun)
            ));
        }
        None => lab.say(format!("{name}: {agents} did not form")),
    }
    lab.pass(Duration::from_secs(5))?;
    idle(lab, name, &serfs, length)?;
    spread(lab, name, &mut serfs, tags)?;
    kills(lab, name, &mut serfs, crashes)
}

fn start(lab: &Lab, agent: usize) -> Result<Serf> {
    let address = net::agent_address(agent);
    let log = lab.dir.join(format!("serf-{agent}.log"));
    let mut command = net::inside(&lab.net.agent(agent));
    let child = command
        .arg("serf")
        .arg("agent")
        .arg(format!("-bind={address}:{GOSSIP_PORT}"))
        .arg(format!("-rpc-addr={address}:{RPC_PORT}"))
        .arg(format!("-node=n{agent}"))
        .args(["-profile=lan", "-log-level=info"])
        .arg(format!(
            "-retry-join={}:{GOSSIP_PORT}",
            net::agent_address(0)
        ))
        .arg("-retry-interval=1s")
        .stdin(Stdio::null())
        .stdout(fs::File::create(&log)?)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start serf: install the package serf")?;
    Ok(Serf {
        log,
        file: None,
        text: String::new(),
        child: Some(child),
    })
}

/// What an idle serf costs.
fn idle(lab: &mut Lab, name: &str, serfs: &[Serf], length: Span) -> Result<()> {
    let look = |lab: &Lab| -> Result<_> {
        let usage: Vec<u64> = serfs
            .iter()
            .filter_map(|serf| serf.child.as_ref())
            .map(|child| Usage::of(child.id()).map_or(0, |usage| usage.cpu_total_ns()))
            .collect();
        Ok((clock::now(), lab.packets.read()?, usage))
    };
    let (from, traffic, cpu) = look(lab)?;
    lab.pass(length.0)?;
    let (to, traffic_after, cpu_after) = look(lab)?;
    let seconds = clock::seconds(to - from);
    let rates = |of: fn(&crate::packets::Traffic) -> u64| -> Vec<f64> {
        let pairs = traffic.iter().zip(&traffic_after).take(serfs.len());
        pairs
            .map(|(a, b)| (of(b) - of(a)) as f64 / seconds)
            .collect()
    };
    lab.sample(
        name,
        "packets_per_s",
        &rates(|t| t.udp_out.packets + t.tcp_out.packets),
    );
    lab.sample(
        name,
        "bytes_per_s",
        &rates(|t| t.udp_out.bytes + t.tcp_out.bytes),
    );
    let cpu: Vec<f64> = cpu
        .iter()
        .zip(&cpu_after)
        .map(|(a, b)| b.saturating_sub(*a) as f64 / 1e9 / seconds * 100.0)
        .collect();
    lab.sample(name, "cpu_percent", &cpu);
    Ok(())
}

/// When every serf but some said it, by the moments at which each first did.
fn heard(
    lab: &mut Lab,
    serfs: &mut [Serf],
    what: &str,
    within: Duration,
    since: Us,
) -> Result<(Vec<f64>, bool)> {
    let mut at: Vec<Option<Us>> = vec![None; serfs.len()];
    let all = lab.wait(within, |_| {
        let mut all = true;
        for (serf, at) in serfs.iter_mut().zip(&mut at) {
            if at.is_none() && serf.child.is_some() {
                *at = serf.says(what).then(clock::now);
                all &= at.is_some();
            }
        }
        Ok(if all { Wait::Done(()) } else { Wait::On })
    })?;
    let times = at
        .into_iter()
        .flatten()
        .map(|at| clock::seconds(at - since));
    Ok((times.collect(), all.is_some()))
}

/// A tag of one, known to all.
fn spread(lab: &mut Lab, name: &str, serfs: &mut [Serf], tags: usize) -> Result<()> {
    let mut last = Vec::new();
    for tag in 0..tags {
        let of = lab.below(serfs.len());
        serfs.iter_mut().for_each(Serf::forget);
        let net = format!("--net=/run/netns/{}", lab.net.agent(of));
        let rpc = format!("-rpc-addr={}:{RPC_PORT}", net::agent_address(of));
        let value = format!("lab={tag}");
        let since = clock::now();
        shell::run(&["nsenter", &net, "serf", "tags", &rpc, "-set", &value])?;
        let what = format!("EventMemberUpdate: n{of}\n");
        let (times, all) = heard(lab, serfs, &what, SPREADING, since)?;
        if all {
            last.extend(times.into_iter().reduce(f64::max));
        }
        lab.pass(Duration::from_millis(500))?;
    }
    lab.sample(name, "spread_s", &last);
    lab.metric(name, "spread_missed", (tags - last.len()) as f64);
    Ok(())
}

/// A crash of one, known to all.
fn kills(lab: &mut Lab, name: &str, serfs: &mut [Serf], crashes: usize) -> Result<()> {
    let (mut first, mut last) = (Vec::new(), Vec::new());
    let mut missed = 0;
    for _ in 0..crashes {
        // The first one is everybody's seed.
        let of = 1 + lab.below(serfs.len() - 1);
        if serfs[of].child.is_none() {
            serfs[of] = start(lab, of)?;
        }
        serfs.iter_mut().for_each(Serf::forget);
        lab.packets.silence(of)?;
        let since = clock::now();
        if let Some(mut child) = serfs[of].child.take() {
            child.kill()?;
            child.wait()?;
        }
        let what = format!("EventMemberFailed: n{of} ");
        let (times, all) = heard(lab, serfs, &what, NOTICING, since)?;
        if all {
            first.extend(times.iter().copied().reduce(f64::min));
            last.extend(times.iter().copied().reduce(f64::max));
            lab.say(format!(
                "{name}: a crash known to all after {:.1} s",
                last[last.len() - 1]
            ));
        } else {
            missed += 1;
        }
        lab.packets.unsilence(of)?;
        serfs[of] = start(lab, of)?;
        let what = format!("EventMemberJoin: n{of} ");
        let since = clock::now();
        heard(lab, serfs, &what, REJOINING, since)?;
    }
    lab.sample(name, "first_knows_s", &first);
    lab.sample(name, "known_to_all_s", &last);
    lab.metric(name, "unknown", f64::from(missed));
    Ok(())
}
