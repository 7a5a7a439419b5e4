//! The faults that a run can be asked for: their names, and how often each one
//! really happened. A fault that was asked for and never fired proves nothing,
//! so the run that asked for it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Declares the faults: name on the command line, what happens.
macro_rules! faults {
    ($($variant:ident = $key:literal, $words:literal;)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Fault {
            $(#[doc = $words] $variant,)*
        }

        impl Fault {
            /// Every fault.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name on the command line and in reports.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)* }
            }

            /// What happens, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }
    };
}

faults! {
    Loss = "loss", "datagrams are lost, and segments of streams are late";
    Duplication = "duplication", "datagrams arrive twice";
    Reordering = "reordering", "datagrams overtake each other";
    Delay = "delay", "now and then a datagram takes tens of milliseconds";
    Truncation = "truncation", "datagrams arrive cut short";
    BitFlips = "bit-flips", "datagrams arrive with wrong bits";
    Replay = "replay", "recorded datagrams are sent again, also from a stranger's address";
    Junk = "junk", "strangers send bytes that no member wrote";
    Partition = "partition", "the POP falls into two halves that hear nothing of each other";
    OneWay = "one-way", "one half hears the other and is not heard";
    Stall = "stall", "a process is stopped for seconds and goes on";
    Slow = "slow", "a process runs in short bursts between long stops";
    ClockRate = "clock-rate", "clocks run at different rates";
    ClockJump = "clock-jump", "a monotonic clock leaps forward";
    Crash = "crash", "processes are killed and started again";
    EpochReuse = "epoch-reuse", "a node starts with its disk lost and its wall clock set back";
    PopRestart = "pop-restart", "all processes of the POP are killed and started again";
    LateConfig = "late-config", "checks are configured at different times on different nodes";
    ConfigSkew = "config-skew", "nodes drop checks that others keep, and get them back";
    Flapping = "flapping", "origins fail and recover every few seconds";
    MassFailure = "mass-failure", "most origins fail at once and recover at once";
    LostProbe = "lost-probe", "single probes of good origins fail";
    Blind = "blind", "one node's path to the origins is dead while its gossip lives";
    Unmeasurable = "unmeasurable", "one node has no local port left for some checks";
    ProberSick = "prober-sick", "one node's probe threads can measure nothing at all";
    MixedVersions = "mixed-versions", "some nodes understand a later protocol version too";
    Drain = "drain", "a node hands over its checks and takes part again later";
    Capacity = "capacity", "nodes change their weight while they run";
    Leave = "leave", "a node says goodbye and starts again later";
    Liar = "liar", "a member says whatever does the most harm; not among `all`, for it may keep others from all that they promise";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    /// No fault.
    pub const NONE: Self = Self(0);
    /// Every fault but [`Fault::Liar`].
    pub const ALL: Self = Self(((1 << Fault::ALL.len()) - 1) & !(1 << Fault::Liar as u8));

    /// Whether this one is in it.
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }

    /// With this one.
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self(self.0 | 1 << fault as u8)
    }

    /// Without this one.
    #[must_use]
    pub const fn without(self, fault: Fault) -> Self {
        Self(self.0 & !(1 << fault as u8))
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL
            .iter()
            .copied()
            .filter(move |&fault| self.has(fault))
    }
}

impl FromIterator<Fault> for FaultSet {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        faults.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for FaultSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::ALL => f.write_str("all"),
            _ => f.write_str(&self.iter().map(Fault::key).collect::<Vec<_>>().join(",")),
        }
    }
}

/// A name that is no fault's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no fault named {0:?}; say all, none, or some of: {known}", known = FaultSet::ALL.iter().map(Fault::key).collect::<Vec<_>>().join(","))]
pub struct UnknownFault(String);

impl FromStr for FaultSet {
    type Err = UnknownFault;

    /// `all`, `none`, or names with commas between them; a name with a minus
    /// before it takes that one away again.
    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let mut set = Self::NONE;
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let find = |name: &str| {
                let found = Fault::ALL.iter().copied().find(|fault| fault.key() == name);
                found.ok_or_else(|| UnknownFault(name.to_owned()))
            };
            set = match name {
                "all" => Self::ALL,
                "none" => Self::NONE,
                _ => match name.strip_prefix('-') {
                    Some(name) => set.without(find(name)?),
                    None => set.with(find(name)?),
                },
            };
        }
        Ok(set)
    }
}

/// How often each fault happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired([u64; Fault::ALL.len()]);

impl Default for Fired {
    fn default() -> Self {
        Self([0; Fault::ALL.len()])
    }
}

impl Fired {
    /// It happened once more.
    pub fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// How often it happened.
    #[must_use]
    pub fn times(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Those of a set that never happened.
    #[must_use]
    pub fn silent(&self, asked: FaultSet) -> FaultSet {
        asked
            .iter()
            .filter(|&fault| self.times(fault) == 0)
            .collect()
    }

    /// Name to count, of those that happened.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&'static str, u64> {
        let all = Fault::ALL
            .iter()
            .map(|&fault| (fault.key(), self.times(fault)));
        all.filter(|&(_, times)| times > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for &fault in Fault::ALL {
            assert_eq!(fault.key().parse(), Ok(FaultSet::NONE.with(fault)));
        }
        assert_eq!("all".parse(), Ok(FaultSet::ALL));
        assert_eq!("none".parse(), Ok(FaultSet::NONE));
        let most: FaultSet = "all,-loss".parse().unwrap();
        assert!(!most.has(Fault::Loss) && most.has(Fault::Junk));
        assert_eq!(most.to_string().parse(), Ok(most));
        assert!("all,frogs".parse::<FaultSet>().is_err());
    }

    #[test]
    fn silence_is_noticed() {
        let mut fired = Fired::default();
        fired.count(Fault::Loss);
        let asked = [Fault::Loss, Fault::Junk].into_iter().collect();
        assert_eq!(fired.silent(asked), FaultSet::NONE.with(Fault::Junk));
        assert_eq!(fired.by_name(), BTreeMap::from([("loss", 1)]));
    }
}
