//! Scenario files: a POP, steps, and the bounds that decide.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Most agents that a scenario may have: the addresses of one POP.
pub(crate) const AGENTS: usize = 1_000;

/// Most checks that a scenario may have: the addresses of the origins.
pub(crate) const CHECKS: usize = 60_000;

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name: that of its file.
    #[serde(skip)]
    pub(crate) name: String,
    /// What it shows, in a sentence.
    pub(crate) about: String,
    /// Whether `ci` plays it.
    #[serde(default)]
    pub(crate) ci: bool,
    /// The agents and the checks.
    pub(crate) pop: Pop,
    /// What is done, in order.
    #[serde(rename = "step")]
    pub(crate) steps: Vec<Step>,
    /// What must hold at the end, by metric.
    pub(crate) expect: BTreeMap<String, Bound>,
}

/// The agents and the checks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pop {
    /// How many agents.
    pub(crate) agents: usize,
    /// How many checks, each of an origin of its own.
    pub(crate) checks: usize,
    /// From one probe to the next.
    pub(crate) interval: Span,
    /// Longest probe.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Span,
    /// Interval while outcomes contradict the verdict.
    #[serde(default = "default_fast_interval")]
    pub(crate) fast_interval: Span,
    /// Failures in a row that make Down.
    #[serde(default = "default_fall")]
    pub(crate) fall: u8,
    /// Passes in a row that make Up.
    #[serde(default = "default_rise")]
    pub(crate) rise: u8,
    /// How the namespaces lie.
    #[serde(default)]
    pub(crate) layout: Layout,
    /// How many agents are named in everybody's `join`.
    #[serde(default = "default_seeds")]
    pub(crate) seeds: usize,
    /// Checks that are in the files at the start, if not all.
    pub(crate) configured: Option<usize>,
    /// Names that a table is made for, if not as many as there are checks.
    pub(crate) table_capacity: Option<usize>,
    /// More of the agents' configuration, as it stands in their files.
    #[serde(default)]
    pub(crate) agent_toml: String,
    /// Tables of these agents lie on a tmpfs of their own of this size, bytes.
    #[serde(default)]
    pub(crate) small_tmpfs: Option<(Pick, u64)>,
    /// These agents' clocks are wrong by so much (`faketime`'s words: "+2h").
    #[serde(default)]
    pub(crate) clocks: Vec<(Pick, String)>,
}

fn default_timeout() -> Span {
    Span(Duration::from_millis(500))
}

fn default_fast_interval() -> Span {
    Span(Duration::from_secs(1))
}

const fn default_fall() -> u8 {
    3
}

const fn default_rise() -> u8 {
    2
}

const fn default_seeds() -> usize {
    3
}

/// How the namespaces lie.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    /// One namespace for all agents, packets over its loopback: the cheapest.
    #[default]
    Shared,
    /// One namespace per agent around a hub: each has a wire of its own.
    Apart,
}

/// What a packet to or from the origins meets behind the agents' servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Uplink {
    /// Nothing: it arrives.
    Alive,
    /// A router that does not forward, and does not say so.
    Dead,
    /// A router that says that the network is unreachable.
    Unreachable,
    /// A line that loses three packets of ten, each way.
    Lossy,
}

/// A length of time, written like "1.5s" or "200ms".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0.as_millis())
    }
}

/// Which agents, or which origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Every one.
    All,
    /// The first half.
    Half,
    /// Every third.
    Third,
    /// So many, drawn from the run's seed.
    Random(usize),
    /// From here to there, both included.
    Range(usize, usize),
}

impl Pick {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |word: &str| {
            word.parse::<usize>()
                .with_context(|| format!("\"{word}\" is no number"))
        };
        Ok(match words[..] {
            ["all"] => Self::All,
            ["half"] => Self::Half,
            ["third"] => Self::Third,
            ["random", count] => Self::Random(number(count)?),
            [range] => match range.split_once('-') {
                Some((from, to)) => Self::Range(number(from)?, number(to)?),
                None => Self::Range(number(range)?, number(range)?),
            },
            _ => bail!("\"{text}\" picks nothing: write all, half, third, random 3, 7 or 0-7"),
        })
    }

    /// Those that are meant, of so many. `draw(n)` gives a number below n.
    pub(crate) fn of(&self, many: usize, mut draw: impl FnMut(usize) -> usize) -> Vec<usize> {
        match *self {
            Self::All => (0..many).collect(),
            Self::Half => (0..many / 2).collect(),
            Self::Third => (0..many).filter(|index| index % 3 == 2).collect(),
            Self::Range(from, to) => (from..many.min(to + 1)).collect(),
            Self::Random(count) => {
                let mut all: Vec<usize> = (0..many).collect();
                for place in 0..count.min(many) {
                    let other = place + draw(many - place);
                    all.swap(place, other);
                }
                all.truncate(count);
                all
            }
        }
    }
}

impl<'de> Deserialize<'de> for Pick {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a metric must be: a number, or "least..most", either of which may be
/// left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    /// At least this.
    pub(crate) least: Option<f64>,
    /// At most this.
    pub(crate) most: Option<f64>,
}

impl Bound {
    fn parse(text: &str) -> Result<Self> {
        let Some((least, most)) = text.split_once("..") else {
            bail!(
                "\"{text}\" is no bound: write a number, or \"0.995..1.005\", \"..3.5\", \"1..\""
            );
        };
        let side = |text: &str| -> Result<Option<f64>> {
            let text = text.trim();
            if text.is_empty() {
                return Ok(None);
            }
            let number = text.parse();
            Ok(Some(
                number.with_context(|| format!("\"{text}\" is no number"))?,
            ))
        };
        Ok(Self {
            least: side(least)?,
            most: side(most)?,
        })
    }

    /// Whether a value is within it. What was not measured is not.
    pub(crate) fn holds(&self, value: Option<f64>) -> bool {
        value.is_some_and(|value| {
            value.is_finite()
                && self.least.is_none_or(|least| value >= least)
                && self.most.is_none_or(|most| value <= most)
        })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (Some(least), Some(most)) if least == most => write!(f, "{least}"),
            (Some(least), Some(most)) => write!(f, "{least} to {most}"),
            (Some(least), None) => write!(f, "at least {least}"),
            (None, Some(most)) => write!(f, "at most {most}"),
            (None, None) => write!(f, "measured"),
        }
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Text(String),
        }
        match Raw::deserialize(from)? {
            Raw::Number(value) => Ok(Self {
                least: Some(value),
                most: Some(value),
            }),
            Raw::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}

/// One step. Its metrics are called by its name, or by its kind.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What its metrics are called by.
    pub(crate) name: Option<String>,
    /// What is done.
    pub(crate) act: Act,
}

impl<'de> Deserialize<'de> for Step {
    /// The name is taken out by hand: a flattened enum would let keys pass that
    /// no step has.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(from)?;
        let name = match table.remove("name") {
            None => None,
            Some(toml::Value::String(name)) => Some(name),
            Some(_) => return Err(serde::de::Error::custom("a step's name is a text")),
        };
        let act = Act::deserialize(table).map_err(serde::de::Error::custom)?;
        Ok(Self { name, act })
    }
}

/// What a step does.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Act {
    /// Starts agents that do not run, all at once or one after the other.
    Start {
        agents: Pick,
        #[serde(default)]
        apart: Option<Span>,
    },
    /// Waits until something is so; its metric is `s`, from the end of the last
    /// step that did something.
    Wait { until: Until, within: Span },
    /// Lets time pass.
    Sleep {
        #[serde(rename = "for")]
        length: Span,
    },
    /// Measures probes, packets, CPU and memory for a while.
    Measure {
        #[serde(rename = "for")]
        length: Span,
    },
    /// Looks who probes some of the checks for a while.
    Coverage {
        first: usize,
        checks: usize,
        #[serde(rename = "for")]
        length: Span,
    },
    /// Kills agents at once, and waits until everybody knows.
    Kill {
        agents: Pick,
        within: Span,
        #[serde(default)]
        silent: Option<bool>,
    },
    /// Kills one agent, waits until everybody knows, starts it again, so many
    /// times.
    Crashes { times: usize, within: Span },
    /// Kills agents without looking what becomes of it.
    Fell { agents: Pick },
    /// Ends agents by SIGTERM.
    Leave { agents: Pick },
    /// Ends by SIGTERM and starts again, one agent after the other.
    Rolling { pause: Span },
    /// SIGSTOP, and SIGCONT after a while.
    Freeze {
        agents: Pick,
        #[serde(rename = "for")]
        length: Span,
    },
    /// Turns origins bad, and waits until all tables show it.
    Flip {
        origins: Pick,
        #[serde(default)]
        how: Failure,
        within: Span,
        #[serde(default = "once")]
        times: usize,
        /// Whether they are turned good again, and that is waited for too.
        #[serde(default)]
        and_back: bool,
    },
    /// Takes origins out by the command line, each on some agent: without an end,
    /// or for a time.
    Override {
        origins: Pick,
        #[serde(rename = "for")]
        length: Option<Span>,
        within: Span,
    },
    /// Waits until all tables show what was taken out without an end.
    Kept { within: Span },
    /// Turns all origins good again.
    Heal { within: Span },
    /// Drops so many of a hundred gossip packets from now on.
    Loss { percent: f64 },
    /// What becomes of the way to the origins, for all agents.
    Uplink { how: Uplink },
    /// Cuts agents off from the others.
    Cut {
        agents: Pick,
        #[serde(default)]
        way: Way,
    },
    /// Mends every cut.
    Mend,
    /// Delays, repeats and reorders gossip datagrams (layout "apart").
    Relay {
        delay: Span,
        #[serde(default)]
        jitter: Option<Span>,
        #[serde(default)]
        repeat_percent: f64,
    },
    /// Spins so many processes for a while.
    Busy {
        loops: usize,
        #[serde(rename = "for")]
        length: Span,
    },
    /// Lets agents have so many percent of a core from now on; 100 or more
    /// takes the limit away.
    Throttle { agents: Pick, percent: f64 },
    /// Gives agents other origins files, with this part of the checks; they read
    /// them at the next reload or start.
    Configure {
        agents: Pick,
        first: usize,
        checks: usize,
        /// Changes every definition, so that each is another check.
        #[serde(default)]
        changed: bool,
    },
    /// SIGHUP: the configuration is read again.
    Reload { agents: Pick },
    /// Writes the agents' key file: ids of the keys, the first one seals.
    Keys { agents: Pick, ids: Vec<u8> },
    /// Sends agents what they must not heed.
    Flood {
        kind: Flood,
        per_s: u64,
        agents: Pick,
        #[serde(rename = "for")]
        length: Span,
    },
    /// Starts a second agent by the name of another, at an address of its own.
    Twin { of: usize },
    /// Fills the tmpfs of agents that have one of their own.
    Fill { agents: Pick },
    /// Measures serf in the same namespaces: forming, crashes, spread, idle.
    Serf {
        agents: usize,
        crashes: usize,
        tags: usize,
        #[serde(rename = "for")]
        length: Span,
    },
}

const fn once() -> usize {
    1
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Until {
    /// Every running agent has seen every running agent join.
    Joined,
    /// Joined, nobody suspects anybody, and each check has one prober for an
    /// interval.
    Calm,
    /// Every table of a running agent shows what every origin does.
    Tables,
}

/// How an origin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Failure {
    /// It answers 503.
    #[default]
    Status,
    /// Its packets are dropped.
    Silent,
    /// It resets connections.
    Refuse,
}

/// Which packets a cut drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// All between the two sides.
    #[default]
    Both,
    /// Those that the agents send.
    Out,
    /// Those that are sent to them.
    In,
}

/// What a flood consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Flood {
    /// Random bytes.
    Junk,
    /// Frames that look right, sealed with a key that the POP does not have.
    Key,
    /// Datagrams that members sent before.
    Replay,
}

impl Scenario {
    /// Reads a scenario by its file, or by the name of one that comes with the
    /// lab.
    ///
    /// # Errors
    /// There is none, or it makes no sense.
    pub(crate) fn load(what: &str) -> Result<Self> {
        let own = folder().join(format!("{what}.toml"));
        let path = if own.is_file() { own } else { what.into() };
        let text = fs::read_to_string(&path).with_context(|| {
            format!("cannot read the scenario {what}: `watchfire-lab list` names those there are")
        })?;
        Self::parse(&text, &path).with_context(|| format!("in {}", path.display()))
    }

    /// Every scenario that comes with the lab.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let dir = folder();
        let mut names: Vec<String> = fs::read_dir(&dir)
            .with_context(|| format!("cannot list {}", dir.display()))?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let toml = path.extension()? == "toml";
                toml.then(|| path.file_stem()?.to_str().map(str::to_owned))?
            })
            .collect();
        names.sort();
        names.iter().map(|name| Self::load(name)).collect()
    }

    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        let stem = path.file_stem().unwrap_or_default();
        scenario.name = stem.to_string_lossy().into_owned();
        scenario.check()?;
        Ok(scenario)
    }

    /// Refuses what cannot be played.
    pub(crate) fn check(&self) -> Result<()> {
        let pop = &self.pop;
        if pop.agents == 0 || pop.agents > AGENTS {
            bail!("pop.agents is {}: 1 to {AGENTS} can be played", pop.agents);
        }
        if pop.checks > CHECKS {
            bail!(
                "pop.checks is {}: at most {CHECKS} can be played",
                pop.checks
            );
        }
        for step in &self.steps {
            if matches!(step.act, Act::Relay { .. }) && pop.layout == Layout::Shared {
                bail!("a relay needs pop.layout = \"apart\": loopback has no wire to sit on");
            }
            if matches!(
                step.act,
                Act::Flood {
                    kind: Flood::Replay,
                    ..
                }
            ) && pop.layout == Layout::Shared
            {
                bail!("replays are taken off the wire: pop.layout = \"apart\"");
            }
        }
        Ok(())
    }
}

/// Where the scenarios lie that come with the lab.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_comes_with_the_lab_can_be_read() {
        let all = Scenario::all().unwrap();
        assert!(all.len() >= 20, "{} scenarios", all.len());
    }

    #[test]
    fn bounds_are_numbers_or_ranges() {
        let both = Bound::parse("0.995..1.005").unwrap();
        assert!(both.holds(Some(1.0)) && !both.holds(Some(1.01)) && !both.holds(Some(0.9)));
        assert!(Bound::parse("..3.5").unwrap().holds(Some(-1.0)));
        assert!(!Bound::parse("1..").unwrap().holds(Some(0.5)));
        assert!(Bound::parse("three").is_err());
    }

    #[test]
    fn what_was_not_measured_holds_no_bound() {
        let any = Bound::parse("..").unwrap();
        assert!(!any.holds(None) && !any.holds(Some(f64::NAN)));
    }

    #[test]
    fn picks_are_words() {
        let none = |_| 0;
        assert_eq!(Pick::parse("half").unwrap().of(5, none), [0, 1]);
        assert_eq!(Pick::parse("third").unwrap().of(7, none), [2, 5]);
        assert_eq!(Pick::parse("2-3").unwrap().of(9, none), [2, 3]);
        assert_eq!(
            Pick::parse("random 2").unwrap().of(3, |many| many - 1),
            [2, 0]
        );
        assert!(Pick::parse("some").is_err());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let text = |top: &str, step: &str| {
            format!(
                "about = \"x\"\n{top}\n[pop]\nagents = 1\nchecks = 1\ninterval = \"1s\"\n\
                 [[step]]\ndo = \"loss\"\nname = \"l\"\npercent = 1.0\n{step}\n[expect]\n"
            )
        };
        let read = |text: String| Scenario::parse(&text, Path::new("x.toml"));
        assert!(read(text("", "")).is_ok());
        assert!(read(text("surprise = 1", "")).is_err());
        assert!(read(text("", "surprise = 1")).is_err());
    }
}
