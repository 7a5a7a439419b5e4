//! An origin that says what it is given, to the production engine.

use std::sync::Arc;

use watchfire_probe_core::engine::{Action, Config, Engine, Event, Pacing, ReportKind};
use watchfire_probe_core::rate::Caps;
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::{CheckSpec, Schedule};
use watchfire_wire::Time;

/// Lets an origin say `input` on each connection of one probe, in pieces that
/// its first byte tells. The probe must end in one word and leave no slot.
pub(crate) fn say(spec: &Arc<CheckSpec>, tls: &Arc<TlsContext>, input: &[u8]) {
    let now = Time(5_000_000);
    let config = Config {
        slots: 4,
        pacing: Pacing::Scheduled,
        user_agent: "fuzz".to_owned(),
        schedule: Schedule::new(now, 1_700_000_000_000_000),
        tls: Some(Arc::clone(tls)),
    };
    let size = usize::from(input.first().copied().unwrap_or(0)) * 16 + 1;
    let mut engine = Engine::new(config, now);
    engine.ask(spec.id(), spec, 1, Caps::default(), now);
    engine.advance(now);
    let mut actions = Vec::new();
    let mut pieces = input.chunks(size);
    loop {
        engine.take_actions(&mut actions);
        if actions.is_empty() {
            break;
        }
        for &action in &actions {
            match action {
                Action::Open(slot) => {
                    pieces = input.chunks(size);
                    engine.on_event(now, slot, Event::Connected);
                }
                Action::Exchange(slot) | Action::Receive(slot) | Action::Watch(slot) => {
                    let _ = engine.outgoing(slot).len();
                    let event = pieces.next().map_or(Event::Eof, Event::Received);
                    engine.on_event(now, slot, event);
                }
                Action::Close { slot, .. } => engine.on_event(now, slot, Event::Closed),
                Action::Cancel(_) => {}
            }
        }
    }
    assert_eq!(engine.slots_in_use(), 0, "a slot is left");
    let words = core::iter::from_fn(|| engine.poll_report())
        .filter(|report| matches!(report.kind, ReportKind::Opinion { .. }))
        .count();
    assert_eq!(words, 1, "a probe ends in one word");
}
