//! Watchfire's membership beside that of others in one network, and its
//! replication beside another's.

pub mod change;
pub mod foca;
pub mod memberlist;
mod memberlist_queue;
pub mod net;
pub mod scenario;
pub mod watchfire;

use std::num::NonZeroU32;

use serde::Serialize;

use self::foca::FocaPeer;
use self::memberlist::Memberlist;
use self::net::Weather;
use self::scenario::{Detection, Idle, Mistakes, Slowness};

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Contestant {
    /// The production core with its defaults (a period of 200 ms).
    Watchfire,
    /// A model of memberlist 0.2.2 with its LAN defaults (a period of 1 s).
    Memberlist,
    /// The crate `foca` with its LAN defaults (a period of 1 s).
    Foca,
}

impl Contestant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Watchfire, Self::Memberlist, Self::Foca];

    /// As people read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watchfire => "watchfire",
            Self::Memberlist => "memberlist (model)",
            Self::Foca => "foca",
        }
    }

    /// Crashes, one per seed.
    #[must_use]
    pub fn detection(self, n: usize, weather: Weather, seeds: std::ops::Range<u64>) -> Detection {
        match self {
            Self::Watchfire => scenario::detection(&watchfire::maker(n), n, weather, seeds),
            Self::Memberlist => scenario::detection(&Memberlist::new, n, weather, seeds),
            Self::Foca => scenario::detection(&foca_maker(n), n, weather, seeds),
        }
    }

    /// Slow members and losses.
    #[must_use]
    pub fn mistakes(
        self,
        n: usize,
        weather: Weather,
        slowness: Slowness,
        seconds: u64,
        seed: u64,
    ) -> Mistakes {
        match self {
            Self::Watchfire => {
                scenario::mistakes(&watchfire::maker(n), n, weather, slowness, seconds, seed)
            }
            Self::Memberlist => {
                scenario::mistakes(&Memberlist::new, n, weather, slowness, seconds, seed)
            }
            Self::Foca => scenario::mistakes(&foca_maker(n), n, weather, slowness, seconds, seed),
        }
    }

    /// Idleness.
    #[must_use]
    pub fn idle(self, n: usize, weather: Weather, seed: u64) -> Idle {
        match self {
            Self::Watchfire => scenario::idle(&watchfire::maker(n), n, weather, seed),
            Self::Memberlist => scenario::idle(&Memberlist::new, n, weather, seed),
            Self::Foca => scenario::idle(&foca_maker(n), n, weather, seed),
        }
    }
}

fn foca_maker(n: usize) -> impl Fn(usize, usize, crate::rng::Rng) -> FocaPeer {
    let size = NonZeroU32::new(n.max(1) as u32).expect("at least one");
    let config = ::foca::Config::new_lan(size);
    move |me, n, rng| FocaPeer::new(me, n, config.clone(), rng)
}
