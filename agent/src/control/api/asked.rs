//! What is asked, as both sides have it: the command line writes it, and the pages
//! read it.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::control::overrides::Ask;
use crate::control::screen::ScreenAsked;
use crate::recorder::Record;

/// What a person may ask of a running agent.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    /// Members, checks, counters.
    Status,
    /// What a screen shows.
    Screen(ScreenAsked),
    /// Why an origin has its verdict.
    Why(WhyAsked),
    /// Transitions that this agent has kept, the newest of them.
    Events(Events),
    /// Origins that changed more than once.
    Flapping(Flapping),
    /// Read the configuration again.
    Reload(Reload),
    /// What a reload would do.
    Diff,
    /// An operator decides of origins, or of the POP.
    Decide(Ask),
    /// What operators decided.
    Overrides(Ended),
    /// What every member of the POP sees of an origin when it probes it now.
    Look(Look),
    /// Members that operators put out of the POP.
    Evictions,
    /// The names of all origins that are configured.
    Origins,
    /// Hand over all checks and take no new ones.
    Drain,
    /// Take part again.
    Undrain,
}

/// Which origin, and when.
#[derive(Clone, Debug, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhyAsked {
    /// The origin's name.
    pub(crate) origin: String,
    /// As of then, milliseconds since 1970; now if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at_ms: Option<u64>,
}

/// Which origin.
#[derive(Clone, Debug, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Look {
    /// The origin's name.
    pub(crate) origin: String,
}

/// Which transitions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Events {
    /// Those after this number, which an earlier answer gave as `last`.
    pub(crate) after: u64,
    /// Those since then, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Of origins of such a name, like `shop-*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// So many, the newest; 1,000 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<usize>,
}

/// Since when.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Flapping {
    /// Milliseconds since 1970.
    pub(crate) since_ms: u64,
}

/// Which decisions.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Ended {
    /// Those that have ended, too.
    pub(crate) ended: bool,
}

/// How to reload.
#[derive(Clone, Debug, Default, Deserialize, IntoParams, Serialize)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Reload {
    /// Origins may leave, however many.
    pub(crate) allow_removals: bool,
}

/// Transitions.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct EventsAnswer {
    /// The oldest first.
    pub(crate) events: Vec<Record>,
    /// The number to go on after.
    pub(crate) last: u64,
}

/// What was done.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub(crate) struct Sentence {
    /// In words.
    pub(crate) done: String,
}
