//! The farm's control, one line at a time: what a person types or a script
//! sends, and what comes back.

use core::ops::Range;
use core::str::FromStr;

use thiserror::Error;

use crate::farm::{Farm, FarmError};
use crate::fault::{Fault, FaultError};
use crate::kernel::KernelCounts;

/// A line of control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `fault 0-99 reset-body`: these origins have this fault from now on.
    Fault(Span, Fault),
    /// `clear 0-99`: these origins are healthy again.
    Clear(Span),
    /// `stats`: counters of the farm and of the kernel, as JSON.
    Stats,
    /// `quit`: stop the farm.
    Quit,
}

/// Some or all of a farm's origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// All of them.
    All,
    /// These.
    Some(Range<u32>),
}

/// A line that is no command.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It does not begin with a known word, or has too few or too many.
    #[error("no such command: {0:?}; try: fault 0-99 reset-body, clear all, stats, quit")]
    Unknown(String),
    /// The origins are not written as `all`, `7` or `0-99`.
    #[error("origins are written as all, 7, or 0-99, not {0:?}")]
    Span(String),
    /// The fault is none.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The farm would not.
    #[error(transparent)]
    Farm(#[from] FarmError),
    /// The kernel's counters cannot be read.
    #[error("cannot read the kernel's counters: {0}")]
    Kernel(#[from] std::io::Error),
}

impl Command {
    /// Does it, and returns what to say: one line. [`Command::Quit`] does
    /// nothing here; ending is the caller's.
    ///
    /// # Errors
    ///
    /// What kept the farm from doing it.
    pub fn run(&self, farm: &Farm) -> Result<String, CommandError> {
        match self {
            Self::Fault(span, fault) => {
                let origins = span.range(farm);
                farm.set_fault(origins.clone(), *fault)?;
                Ok(format!(
                    "origins {}-{}: {fault}",
                    origins.start,
                    origins.end - 1
                ))
            }
            Self::Clear(span) => {
                let origins = span.range(farm);
                farm.clear_fault(origins.clone())?;
                Ok(format!(
                    "origins {}-{}: healthy",
                    origins.start,
                    origins.end - 1
                ))
            }
            Self::Stats => {
                let json = serde_json::json!({
                    "farm": farm.counts(),
                    "kernel": KernelCounts::read()?,
                });
                Ok(json.to_string())
            }
            Self::Quit => Ok("stopping".to_owned()),
        }
    }
}

impl FromStr for Command {
    type Err = CommandError;

    fn from_str(line: &str) -> Result<Self, CommandError> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["fault", span, fault] => Ok(Self::Fault(span.parse()?, fault.parse()?)),
            ["clear", span] => Ok(Self::Clear(span.parse()?)),
            ["stats"] => Ok(Self::Stats),
            ["quit"] => Ok(Self::Quit),
            _ => Err(CommandError::Unknown(line.to_owned())),
        }
    }
}

impl Span {
    fn range(&self, farm: &Farm) -> Range<u32> {
        match self {
            Self::All => 0..farm.count(),
            Self::Some(range) => range.clone(),
        }
    }
}

impl FromStr for Span {
    type Err = CommandError;

    /// Reads `all`, `7`, or `0-99` with both ends in it.
    fn from_str(text: &str) -> Result<Self, CommandError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) if first <= last && last < u32::MAX => {
                Ok(Self::Some(first..last + 1))
            }
            _ => Err(CommandError::Span(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::FarmOptions;
    use crate::fault::Phase;

    #[test]
    fn commands_are_understood() {
        let parse = |line: &str| line.parse::<Command>().unwrap();
        assert_eq!(
            parse("fault 0-99 reset-body"),
            Command::Fault(Span::Some(0..100), Fault::Reset(Phase::Body))
        );
        assert_eq!(parse(" clear  all "), Command::Clear(Span::All));
        assert_eq!(
            parse("fault 7 slow=20"),
            Command::Fault(Span::Some(7..8), Fault::SlowFirstByte(20))
        );
        for wrong in [
            "",
            "fault",
            "fault 9-3 hang",
            "clear x",
            "fault 1 nothing",
            "stats now",
        ] {
            assert!(wrong.parse::<Command>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_act_and_errors_advise() {
        let farm = Farm::start(FarmOptions {
            count: 4,
            ..FarmOptions::default()
        })
        .unwrap();
        let say = |line: &str| {
            line.parse::<Command>()
                .and_then(|command| command.run(&farm))
        };
        assert_eq!(say("fault 1-2 hang").unwrap(), "origins 1-2: hang");
        assert_eq!(farm.fault(2), Some(Fault::Hang));
        assert_eq!(farm.fault(3), None);
        let error = say("fault 2-9 hang").unwrap_err().to_string();
        assert!(error.contains("below 4"), "{error}");
        say("clear all").unwrap();
        assert_eq!(farm.fault(2), None);
        assert!(say("stats").unwrap().contains("\"requests\":0"));
    }
}
