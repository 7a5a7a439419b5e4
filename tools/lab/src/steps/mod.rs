//! What steps do. Each file is one kind of step; here is the list.

mod flips;
mod lives;
mod measure;
mod overrides;
mod wait;
mod world;

use anyhow::Result;

use crate::lab::Lab;
use crate::scenario::{Act, Step};
use crate::serf;

/// Plays one step.
///
/// # Errors
/// The lab cannot do it. That agents fail is no error but a metric.
pub(crate) fn play(lab: &mut Lab, step: &Step) -> Result<()> {
    let name = step
        .name
        .clone()
        .unwrap_or_else(|| kind(&step.act).to_owned());
    let name = name.as_str();
    match &step.act {
        Act::Start { agents, apart } => lives::start(lab, agents, *apart),
        Act::Wait { until, within } => wait::wait(lab, name, *until, *within),
        Act::Sleep { length } => lab.pass(length.0),
        Act::Measure { length } => measure::measure(lab, name, *length),
        Act::Coverage {
            first,
            checks,
            length,
        } => measure::coverage(lab, name, *first, *checks, *length),
        Act::Kill {
            agents,
            within,
            silent,
        } => lives::kill(lab, name, agents, *within, silent.unwrap_or(true)),
        Act::Crashes { times, within } => lives::crashes(lab, name, *times, *within),
        Act::Fell { agents } => lives::fell(lab, agents),
        Act::Leave { agents } => lives::leave(lab, agents),
        Act::Rolling { pause } => lives::rolling(lab, name, *pause),
        Act::Freeze { agents, length } => lives::freeze(lab, agents, *length),
        Act::Twin { of } => lives::twin(lab, name, *of),
        Act::Flip {
            origins,
            how,
            within,
            times,
            and_back,
        } => flips::flip(lab, name, origins, *how, *within, *times, *and_back),
        Act::Override {
            origins,
            length,
            within,
        } => overrides::give(lab, name, origins, *within, *length),
        Act::Kept { within } => overrides::kept(lab, name, *within),
        Act::Heal { within } => flips::heal(lab, name, *within),
        Act::Loss { percent } => world::loss(lab, *percent),
        Act::Uplink { how } => world::uplink(lab, *how),
        Act::Cut { agents, way } => world::cut(lab, agents, *way),
        Act::Mend => world::mend(lab),
        Act::Busy { loops, length } => world::busy(lab, name, *loops, *length),
        Act::Throttle { agents, percent } => world::throttle(lab, agents, *percent),
        Act::Configure {
            agents,
            first,
            checks,
            changed,
        } => world::configure(lab, agents, *first, *checks, *changed),
        Act::Reload { agents } => world::reload(lab, agents),
        Act::Keys { agents, ids } => world::keys(lab, agents, ids),
        Act::Fill { agents } => world::fill(lab, agents),
        Act::Relay {
            delay,
            jitter,
            repeat_percent,
        } => world::relay(lab, *delay, *jitter, *repeat_percent),
        Act::Flood {
            kind,
            per_s,
            agents,
            length,
        } => world::flood(lab, name, *kind, *per_s, agents, *length),
        Act::Serf {
            agents,
            crashes,
            tags,
            length,
        } => serf::play(lab, name, *agents, *crashes, *tags, *length),
    }
}

/// The name of a step's kind, as scenario files write it.
const fn kind(act: &Act) -> &'static str {
    match act {
        Act::Start { .. } => "start",
        Act::Wait { .. } => "wait",
        Act::Sleep { .. } => "sleep",
        Act::Measure { .. } => "measure",
        Act::Coverage { .. } => "coverage",
        Act::Kill { .. } => "kill",
        Act::Crashes { .. } => "crashes",
        Act::Fell { .. } => "fell",
        Act::Leave { .. } => "leave",
        Act::Rolling { .. } => "rolling",
        Act::Freeze { .. } => "freeze",
        Act::Flip { .. } => "flip",
        Act::Override { .. } => "override",
        Act::Kept { .. } => "kept",
        Act::Heal { .. } => "heal",
        Act::Loss { .. } => "loss",
        Act::Uplink { .. } => "uplink",
        Act::Cut { .. } => "cut",
        Act::Mend => "mend",
        Act::Relay { .. } => "relay",
        Act::Busy { .. } => "busy",
        Act::Throttle { .. } => "throttle",
        Act::Configure { .. } => "configure",
        Act::Reload { .. } => "reload",
        Act::Keys { .. } => "keys",
        Act::Flood { .. } => "flood",
        Act::Twin { .. } => "twin",
        Act::Fill { .. } => "fill",
        Act::Serf { .. } => "serf",
    }
}
