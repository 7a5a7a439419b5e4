//! What a node counts, for metrics.

use super::Node;
use crate::budget::Class;

/// What the node itself counts; its rooms count for themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounters {
    /// Bytes of datagrams that came, whatever they were.
    pub bytes_in: u64,
    /// Bytes of datagrams of membership that went out.
    pub bytes_out_swim: u64,
    /// Bytes of datagrams of replication that went out.
    pub bytes_out_replica: u64,
    /// Bytes of frames on bulk streams that went out.
    pub bytes_out_bulk: u64,
    /// Bytes of frames on bulk streams that came.
    pub bytes_in_bulk: u64,
    /// Datagrams that went out.
    pub datagrams_out: u64,
    /// Datagrams that came.
    pub datagrams_in: u64,
    /// Authentic replication bodies of others than living members, dropped.
    pub strangers: u64,
    /// Bodies that could not be encoded or were too large, not sent.
    pub unsendable: u64,
    /// Epochs taken after the first.
    pub epochs_taken: u64,
    /// Logs of departed lives collected.
    pub logs_collected: u64,
}

impl Node {
    /// All counters by name, since the start.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let node = self.counters;
        let withheld = self.budget.withheld();
        let gate = self.gate.counters();
        let swim = self.swim.counters();
        let replica = self.replicator.counters();
        let owner = self.duties.counters();
        let sets = self.duties.holdings_counters();
        let overrides = self.overrides.counters();
        vec![
            ("bytes_in", node.bytes_in),
            ("bytes_out_swim", node.bytes_out_swim),
            ("bytes_out_replica", node.bytes_out_replica),
            ("bytes_out_bulk", node.bytes_out_bulk),
            ("bytes_in_bulk", node.bytes_in_bulk),
            ("datagrams_in", node.datagrams_in),
            ("datagrams_out", node.datagrams_out),
            ("datagrams_withheld_echo", withheld[Class::Echo as usize]),
            (
                "datagrams_withheld_repair",
                withheld[Class::Repair as usize],
            ),
            (
                "datagrams_withheld_opinion",
                withheld[Class::Opinion as usize],
            ),
            ("datagrams_withheld_news", withheld[Class::News as usize]),
            ("datagrams_withheld_retry", withheld[Class::Retry as usize]),
            ("datagrams_withheld_pull", withheld[Class::Pull as usize]),
            ("datagrams_withheld_view", withheld[Class::View as usize]),
            ("datagrams_withheld_vital", withheld[Class::Vital as usize]),
            ("datagrams_withheld_ack", withheld[Class::Ack as usize]),
            ("bulk_frames_deferred", self.budget.bulk_deferred()),
            ("late_episodes", self.load.episodes()),
            ("strangers", node.strangers),
            ("unsendable", node.unsendable),
            ("epochs_taken", node.epochs_taken),
            ("logs_collected", node.logs_collected),
            ("frames_sealed", gate.sealed),
            ("frames_opened", gate.opened),
            ("frames_refused_short", gate.short),
            ("frames_refused_not_ours", gate.not_ours),
            ("frames_refused_protocol", gate.protocol),
            ("frames_refused_unknown_key", gate.unknown_key),
            ("frames_refused_unsealed", gate.unsealed),
            ("frames_refused_forged", gate.forged),
            ("frames_refused_malformed", gate.malformed),
            ("frames_refused_unaligned", gate.unaligned),
            ("frames_refused_replayed", gate.replayed),
            ("swim_pings", swim.pings),
            ("swim_accusations", swim.accusations),
            ("swim_deaths", swim.deaths),
            ("swim_refutations", swim.refutations),
            ("swim_stalls", swim.stalls),
            ("swim_pushes", swim.pushes),
            ("swim_pushes_withheld", swim.pushes_withheld),
            ("swim_datagrams_withheld", swim.withheld),
            ("swim_late_acks", swim.late_acks),
            ("swim_roll_calls", swim.roll_calls),
            ("swim_roll_calls_withheld", swim.roll_calls_withheld),
            ("swim_ear_tests", swim.ear_tests),
            ("pulls", replica.pulls),
            ("pulls_failed", replica.pulls_failed),
            ("pulls_answered", replica.answers),
            ("pulls_answered_late", replica.late_answers),
            ("pulls_dropped", replica.pulls_dropped),
            ("bulk_offers", replica.offers),
            ("bulk_served", replica.bulk_served),
            ("bulk_tokens_refused", replica.bulk_refused),
            ("notifies", replica.notifies),
            ("syncs", replica.syncs),
            ("slots_taken", replica.slots_taken),
            ("repairs", replica.repairs),
            ("replica_bodies_refused", replica.refused),
            ("deltas_refused_full", replica.full),
            ("deltas_implausible", replica.implausible),
            ("probing_started", owner.starts),
            ("probing_stopped", owner.stops),
            ("takeovers", owner.takeovers),
            ("shadows", owner.shadows),
            ("backups", owner.backups),
            ("handover_overlaps", owner.overlaps),
            ("slots_written", owner.writes),
            ("slots_released", owner.releases),
            ("checks_unmeasurable", owner.unmeasurable),
            ("outcomes_overdue", owner.outcomes_overdue),
            ("weak_words", owner.weak_words),
            ("checks_given_away", owner.given_away),
            ("brakes", owner.brakes),
            ("second_opinions", owner.second_opinions),
            ("second_opinions_overruled", owner.overruled),
            ("second_opinions_silent", owner.second_opinions_silent),
            ("downs_held", owner.downs_held),
            ("opinions_given", owner.opinions),
            ("opinions_refused", owner.opinions_refused),
            ("checks_refused", owner.checks_refused),
            ("reports_stale", owner.stale_reports),
            ("set_questions", sets.questions),
            ("set_answers", sets.answers),
            ("set_answers_withheld", sets.answers_withheld),
            ("sets_resolved", sets.resolved),
            ("sets_given_up", sets.given_up),
            ("overrides_given", overrides.given),
            ("overrides_heard", overrides.heard),
            ("overrides_compared", overrides.compared),
            ("overrides_refused", overrides.refused),
            ("overrides_forgotten", overrides.forgotten),
        ]
    }
}
