//! Ordered steps on a stream: send this, expect that. For everything that
//! speaks first or speaks no HTTP. `recipes` has the usual ones, ready-made.

mod exchange;
mod recipes;

use core::fmt;
use core::net::SocketAddr;

pub(crate) use exchange::Talk;

use super::{CheckKind, Transport};
use crate::check::Canonical;
use crate::keys::{self, KeyError, Keys, Value};
use crate::limits::RULES;
use crate::pattern::Pattern;
use crate::stream::TlsSpec;

/// Longest text of one step, bytes. A longer one is refused.
const STEP_BYTES: usize = 4 * 1_024;

/// What to say, and what to hear, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// These bytes come, after whatever else.
    Expect(Vec<u8>),
    /// Something that this matches comes.
    Matches(Pattern),
}

impl Step {
    fn read(value: Value) -> Result<Self, KeyError> {
        let hint = "write each step like { send = \"PING\\r\\n\" }, { send_hex = \"00ff\" }, \
                    { expect = \"+PONG\" }, { expect_hex = \"00ff\" } or { expect_regex = \"^220\" }";
        let error = |what: String| KeyError::new("steps", what, hint);
        let Value::Table(mut entries) = value else {
            return Err(error("a step is no table".to_owned()));
        };
        let (Some((verb, Value::Text(text))), true) = (entries.pop(), entries.is_empty()) else {
            return Err(error("a step has not one key with a text".to_owned()));
        };
        let step = match verb.as_str() {
            "send" => Self::Send(text.into_bytes()),
            "expect" => Self::Expect(text.into_bytes()),
            "send_hex" => Self::Send(bytes_of(&text).ok_or_else(|| {
                error(format!(
                    "\"{text}\" is no even number of hexadecimal digits"
                ))
            })?),
            "expect_hex" => Self::Expect(bytes_of(&text).ok_or_else(|| {
                error(format!(
                    "\"{text}\" is no even number of hexadecimal digits"
                ))
            })?),
            "expect_regex" => Self::Matches(Pattern::new("steps", &text)?),
            other => return Err(error(format!("\"{other}\" is no step"))),
        };
        match &step {
            Self::Send(bytes) | Self::Expect(bytes) if bytes.is_empty() => {
                Err(error("a step is empty".to_owned()))
            }
            Self::Send(bytes) | Self::Expect(bytes) if bytes.len() > STEP_BYTES => {
                Err(error(format!(
                    "a step has {} bytes; the limit is {STEP_BYTES}",
                    bytes.len()
                )))
            }
            _ => Ok(step),
        }
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

impl CheckKind for Spec {
    const NAMES: [&'static str; 2] = ["send-expect", "send-expect-tls"];
    const TAG: u8 = 2;
    const KEYS: &'static [&'static [&'static str]] = &[&["steps", "recipe"]];
    type Exchange = Talk;

    fn read(keys: &mut dyn Keys, _target: &SocketAddr) -> Result<Self, KeyError> {
        let recipe = keys::word(keys, "recipe", &recipes::ALL)?;
        let steps = keys.take("steps");
        let hint = "write steps = [ ... ], or recipe = \"...\" for one that is ready-made";
        match (recipe, steps) {
            (Some(recipe), None) => Ok(Self { steps: recipe()? }),
            (None, Some(Value::List(list))) => Ok(Self {
                steps: list.into_iter().map(Step::read).collect::<Result<_, _>>()?,
            }),
            (None, Some(_)) => Err(KeyError::new("steps", "steps is no list", hint)),
            (None, None) => Err(KeyError::new("kind", "there are no steps to take", hint)),
            (Some(_), Some(_)) => Err(KeyError::new(
                "steps",
                "steps and recipe do not go together",
                "keep one of the two",
            )),
        }
    }

    fn validate(&self) -> Result<(), KeyError> {
        let expects = self.steps.iter().any(|step| !matches!(step, Step::Send(_)));
        if !expects || self.steps.len() > RULES {
            return Err(KeyError::new(
                "steps",
                format!(
                    "{} steps, {}",
                    self.steps.len(),
                    if expects {
                        "too many"
                    } else {
                        "none of which expects anything"
                    }
                ),
                format!(
                    "write at most {RULES}, and expect something: what nothing answers passes always"
                ),
            ));
        }
        Ok(())
    }

    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
        out.number(self.steps.len() as u64);
        for step in &self.steps {
            match step {
                Step::Send(bytes) => {
                    out.byte(0);
                    out.bytes(bytes);
                }
                Step::Expect(bytes) => {
                    out.byte(1);
                    out.bytes(bytes);
                }
                Step::Matches(pattern) => {
                    out.byte(2);
                    out.text(pattern.as_str());
                }
            }
        }
        out.tls(tls);
    }

    fn transport(&self, tls: bool) -> Transport {
        Transport::Stream {
            keep: false,
            origin_first: !tls && !matches!(self.steps.first(), Some(Step::Send(_))),
            // Some servers count a reset as an attack.
            fin: true,
        }
    }

    fn prepare(&self, _user_agent: &str, _tls: bool) -> Box<[u8]> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Send(bytes) => Some(bytes.as_slice()),
                Step::Expect(_) | Step::Matches(_) => None,
            })
            .collect::<Vec<_>>()
            .concat()
            .into_boxed_slice()
    }

    fn begin(&self) -> Talk {
        Talk::default()
    }

    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES[usize::from(tls)];
        write!(f, "{name} {target} ({} steps)", self.steps.len())
    }
}
