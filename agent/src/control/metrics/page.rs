//! One scrape's page: every metric with its name, help and unit.

use std::fmt;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use watchfire_core::counters::Counter;
use watchfire_probe::{Ailment, KIND_KEYS, Stats};
use watchfire_wire::{Reason, Unmeasured};

use super::series::Origins;
use crate::clock;
use crate::control::sights::Sights;
use crate::gossip::Timings;
use crate::gossip::status::Status;

/// Upper bounds of the buckets of probes' times, microseconds.
const BUCKETS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// What states a member can be in.
const MEMBER_STATES: [&str; 4] = ["alive", "suspect", "dead", "left"];

/// Everything that one scrape shows.
#[derive(Debug)]
pub(super) struct Page {
    status: Status,
    stats: Stats,
    cpu_us: u64,
    timings: Timings,
    origins: Origins,
    heartbeat_age_ns: u64,
    lines_lost: u64,
    recorder_bytes: usize,
    probes_forgotten: u64,
    /// To the recorder, and to its file.
    events_lost: (u64, u64),
}

type Done = Result<(), fmt::Error>;

impl Page {
    pub(super) fn new(status: Status, sights: &Sights) -> Self {
        Self {
            stats: sights.statistics.sum(),
            cpu_us: sights.statistics.cpu_us(),
            timings: sights.timings.clone(),
            origins: Origins::read(&sights.table, sights.me, &sights.chosen),
            heartbeat_age_ns: sights.table.freshness(clock::now_ns()).age_ns,
            lines_lost: sights.lines_lost(),
            recorder_bytes: sights.recorder_bytes(),
            probes_forgotten: sights.statistics.trace_size().1,
            events_lost: sights.recorder.lost(),
            status,
        }
    }

    fn members(&self, put: &mut Put<'_, '_>) -> Done {
        let members = &self.status.members;
        let count = |which: &dyn Fn(&&crate::gossip::status::MemberStatus) -> bool| {
            members.iter().filter(which).count()
        };
        let states = MEMBER_STATES.map(|state| (state, count(&|member| member.state == state)));
        put.by_label("members", "Members of the POP, by state.", "state", &states)?;
        let remarks = [
            (
                "members_draining",
                "Members that hand over their checks.",
                count(&|member| member.draining),
            ),
            (
                "members_braked",
                "Members that hold new Downs back.",
                count(&|member| member.braked),
            ),
            (
                "members_unable",
                "Members that cannot probe.",
                count(&|member| !member.prober_healthy),
            ),
        ];
        put.gauges(&remarks)
    }

    fn agent(&self, put: &mut Put<'_, '_>) -> Done {
        let status = &self.status;
        let build = [
            ("version", status.version.as_str()),
            ("backend", status.backend.as_str()),
        ];
        put.labelled(
            "build_info",
            "Always 1; the labels say what runs.",
            &[(build, 1)],
        )?;
        put.seconds("uptime", "Time since the start.", whole(status.uptime_s))?;
        put.seconds(
            "table_heartbeat_age",
            "Time since the table's last heartbeat: readers call it stale after some.",
            nanoseconds(self.heartbeat_age_ns),
        )?;
        put.seconds(
            "config_loaded_timestamp",
            "When the configuration in force was read, since 1970.",
            milliseconds(status.config_loaded_ms),
        )?;
        self.configuration(put)?;
        let braked = status.braked;
        put.gauges(&[
            (
                "draining",
                "1 while draining.",
                usize::from(status.draining),
            ),
            (
                "config_refused",
                "1 if the last reload was refused, in whole or in part.",
                usize::from(status.config_error.is_some()),
            ),
            (
                "config_files_held",
                "Files that are refused and keep their last good content.",
                status.files_held.len(),
            ),
            (
                "braked",
                "1 while this agent holds new Downs back because so much fails at once.",
                usize::from(braked.is_some()),
            ),
            (
                "checks_held",
                "Failing checks that are not called Down while this agent is braked.",
                braked.map_or(0, |braked| braked.held),
            ),
            (
                "prober_healthy",
                "1 if this agent can probe.",
                usize::from(status.prober_ailment.is_none()),
            ),
        ])?;
        let ailments = Ailment::ALL.map(|why| {
            let is = status.prober_ailment.as_deref() == Some(why.key());
            (why.key(), usize::from(is))
        });
        put.by_label(
            "prober_unhealthy",
            "1 for why this agent cannot probe.",
            "cause",
            &ailments,
        )?;
        put.count(
            "log_lines_lost",
            "Log lines dropped because nobody read them.",
            self.lines_lost,
        )?;
        put.gauges(&[(
            "recorder_memory_bytes",
            "Memory that holds the last transitions and probes.",
            self.recorder_bytes,
        )])?;
        put.count(
            "probes_forgotten",
            "Probes that are not remembered, because somebody looked at what was.",
            self.probes_forgotten,
        )?;
        put.count(
            "happenings_lost",
            "Transitions and opinions that the recorder was too slow for.",
            self.events_lost.0,
        )?;
        put.count(
            "events_lost",
            "Events that waited for their file and had to give way.",
            self.events_lost.1,
        )
    }

    /// Which configuration and which keys are in force, here and in the POP.
    fn configuration(&self, put: &mut Put<'_, '_>) -> Done {
        let status = &self.status;
        let mine = status.generations.iter();
        let mut mine = mine.filter(|it| it.members.contains(&status.node));
        let digest = mine.next().map_or("", |it| it.digest.as_str());
        put.labelled(
            "config_info",
            "Always 1; the label is a digest of the checks that this agent takes part in.",
            &[([("digest", digest)], 1)],
        )?;
        let living: usize = status.generations.iter().map(|it| it.members.len()).sum();
        let newest = status.generations.first();
        let behind = newest.map_or(0, |newest| living - newest.members.len());
        let for_s = newest
            .filter(|_| behind > 0)
            .map_or(0, |newest| newest.for_s);
        put.gauges(&[(
            "members_behind",
            "Living members whose checks are not those that appeared last.",
            behind,
        )])?;
        put.seconds(
            "members_behind_age",
            "For how long some members have been behind.",
            whole(for_s),
        )?;
        let opens = status.keys.opens.iter().map(|id| (*id, "open"));
        let keys = status
            .keys
            .seals
            .iter()
            .map(|id| (*id, "seal"))
            .chain(opens);
        let keys: Vec<_> = keys.map(|(id, used)| ((id.to_string()), used)).collect();
        let keys: Vec<_> = keys
            .iter()
            .map(|(id, used)| ([("key", id.as_str()), ("use", *used)], 1))
            .collect();
        put.labelled(
            "key_info",
            "Always 1; which key seals and which open.",
            &keys,
        )
    }

    fn origins(&self, put: &mut Put<'_, '_>) -> Done {
        let status = &self.status;
        put.gauges(&[
            ("origins", "Origins configured here.", status.origins),
            (
                "checks",
                "Distinct checks (equal origins share one).",
                status.checks,
            ),
            (
                "checks_probed",
                "Checks probed by this agent.",
                status.checks_probed,
            ),
            (
                "checks_denied",
                "Checks that this agent takes no part in, by its own file or for want of a way.",
                status.checks_refused,
            ),
            ("names", "Names that checks have.", status.names.names),
            (
                "names_without_address",
                "Names of those without any address: their checks are not probed here.",
                status.names.without_address,
            ),
            (
                "names_failing",
                "Names of those that could not be resolved the last time; they keep what was known.",
                status.names.failing,
            ),
            (
                "origin_series_left_out",
                "Origins that would have series of their own, beyond the limit.",
                self.origins.left_out,
            ),
        ])?;
        let verdicts = [
            ("up", status.up),
            ("down", status.down),
            ("unknown", status.unknown),
            ("draining", status.origins_draining),
        ];
        put.by_label(
            "origins_by_verdict",
            "Origins by verdict.",
            "verdict",
            &verdicts,
        )?;
        let shown = &self.origins.shown;
        let said: Vec<_> = shown
            .iter()
            .map(|origin| {
                let labels = [
                    ("origin", origin.name.as_str()),
                    ("verdict", origin.verdict),
                    ("reason", origin.reason),
                ];
                (labels, 1)
            })
            .collect();
        put.labelled(
            "origin_verdict",
            "Always 1; origins that are not Up, or chosen, shown by who decided it.",
            &said,
        )?;
        let by_origin = |value: fn(&super::series::Origin) -> f64| -> Vec<_> {
            let each = shown.iter();
            each.map(|origin| ([("origin", origin.name.as_str())], value(origin)))
                .collect()
        };
        put.labelled_seconds(
            "origin_since_timestamp",
            "Since when such an origin has its verdict, since 1970.",
            &by_origin(|origin| origin.since_s),
        )?;
        put.labelled_seconds(
            "origin_probe_latency",
            "What the probe took that last changed what is known of such an origin.",
            &by_origin(|origin| origin.latency_s),
        )?;
        let certificates: Vec<_> = status
            .certificates
            .iter()
            .map(|(origin, ends_ms)| ([("origin", origin.as_str())], milliseconds(*ends_ms)))
            .collect();
        put.labelled_seconds(
            "origin_certificate_expiry_timestamp",
            "When the certificate of an origin ends, since 1970, as the last full TLS handshake \
             showed: of those that this agent probes, the ones that end first.",
            &certificates,
        )?;
        put.gauges(&[(
            "origin_certificates_left_out",
            "Checks with a certificate that ends later than those, beyond the limit.",
            status.certificates_left_out,
        )])
    }

    /// What operators decided.
    fn overrides(&self, put: &mut Put<'_, '_>) -> Done {
        let overrides = &self.status.overrides;
        let in_force = overrides.in_force.iter();
        let in_force: Vec<_> = in_force.map(|(op, count)| (op.as_str(), *count)).collect();
        put.by_label(
            "overrides",
            "Overrides of origins that are in force, by what was decided.",
            "op",
            &in_force,
        )?;
        put.gauges(&[
            (
                "origins_forced",
                "Origins configured here whose verdict is an operator's.",
                self.status.origins_forced,
            ),
            (
                "frozen",
                "1 while an operator has frozen the POP: no verdict changes in the table.",
                usize::from(overrides.frozen.is_some()),
            ),
            (
                "pop_time_clocks",
                "Clocks of servers on which POP time rests; below 3 nobody can tell a wrong one.",
                overrides.clocks,
            ),
        ])?;
        let now_ms = overrides.pop_ms.unwrap_or_else(clock::wall_ms);
        let oldest = overrides.oldest_ms;
        put.seconds(
            "override_oldest_age",
            "Age of the oldest override or freeze that is in force; 0 for none.",
            milliseconds(oldest.map_or(0, |at| now_ms.saturating_sub(at))),
        )?;
        // Absent where none has an end.
        let ends = overrides.next_end_ms.into_iter();
        let ends: Vec<_> = ends
            .map(|end| ([("of", "next")], milliseconds(end.saturating_sub(now_ms))))
            .collect();
        put.labelled_seconds(
            "override_end",
            "Time until the next override or freeze ends.",
            &ends,
        )
    }

    fn probes(&self, put: &mut Put<'_, '_>) -> Done {
        let stats = &self.stats;
        let mut outcomes = Vec::new();
        for (&reason, &count) in Reason::ALL.iter().zip(&stats.by_reason) {
            let result = if reason == Reason::Passed {
                "pass"
            } else {
                "fail"
            };
            outcomes.push(([("result", result), ("outcome", reason.key())], count));
        }
        for (&reason, &count) in Unmeasured::ALL.iter().zip(&stats.by_unmeasured) {
            outcomes.push((
                [("result", "not_measured"), ("outcome", reason.key())],
                count,
            ));
        }
        put.counts(
            "probes",
            "Probes that ended, by what came of them.",
            &outcomes,
        )?;
        for counter in crate::gossip::status::of_stats(stats) {
            put.count(counter.name, counter.help, counter.count)?;
        }
        let gauge = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        put.gauges(&[
            (
                "probe_slots",
                "Slots of the probe threads in use: in flight, closing, or kept open.",
                gauge(stats.slots),
            ),
            (
                "probe_connections_kept",
                "Connections that wait for their next probe.",
                gauge(stats.parked),
            ),
            (
                "probes_waiting",
                "Due checks that wait for a slot.",
                gauge(stats.waiting),
            ),
        ])?;
        put.count_seconds(
            "probe_cpu",
            "CPU time of the probe threads.",
            microseconds(self.cpu_us),
        )?;
        put.histogram(
            "probe_lateness",
            "By how much probes started later than scheduled.",
            &[([], &stats.lateness_us)],
        )?;
        let mut phases = Vec::new();
        for (kind, times) in KIND_KEYS.iter().zip(&stats.kinds) {
            for (phase, times) in [
                ("connect", &times.connect_us),
                ("tls", &times.tls_us),
                ("first_byte", &times.first_byte_us),
                ("total", &times.total_us),
            ] {
                // Kinds that nobody uses have no series.
                if !times.is_empty() {
                    phases.push(([("kind", *kind), ("phase", phase)], times));
                }
            }
        }
        put.histogram(
            "probe_duration",
            "From a measured probe's start to the end of each phase, by kind.",
            &phases,
        )
    }

    /// Every counter of the core and of the shell around it.
    fn counted(&self, put: &mut Put<'_, '_>) -> Done {
        let all = &self.status.counted;
        for counter in all.iter().filter(|counter| counter.family.is_none()) {
            put.count(counter.name, counter.help, counter.count)?;
        }
        let mut families: Vec<&str> = Vec::new();
        for family in all.iter().filter_map(|counter| counter.family) {
            if families.contains(&family.name) {
                continue;
            }
            families.push(family.name);
            let of_it =
                |counter: &&Counter| counter.family.is_some_and(|it| it.name == family.name);
            let members: Vec<&Counter> = all.iter().filter(of_it).collect();
            let counts: Vec<_> = members
                .iter()
                .filter_map(|counter| {
                    let family = counter.family?;
                    Some(([(family.label, family.value)], counter.count))
                })
                .collect();
            put.counts(family.name, members[0].help, &counts)?;
        }
        Ok(())
    }

    fn timings(&self, put: &mut Put<'_, '_>) -> Done {
        put.metric(
            "transition_to_table",
            "From a verdict's change, on the clock of who decided it, to this table.",
            &self.timings.transition_to_table,
        )?;
        put.metric(
            "takeover_gap",
            "From the suspicion of a member that died to this agent's first word on a check of its.",
            &self.timings.takeover_gap,
        )
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Done {
        let put = &mut Put(&mut encoder);
        self.agent(put)?;
        self.members(put)?;
        self.origins(put)?;
        self.overrides(put)?;
        self.probes(put)?;
        self.timings(put)?;
        self.counted(put)
    }
}

/// A histogram with what tells it from the others of its family.
type Timed<'a, const N: usize> = ([(&'a str, &'a str); N], &'a Histogram<u64>);

/// Writes families.
struct Put<'a, 'b>(&'a mut DescriptorEncoder<'b>);

impl Put<'_, '_> {
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        kind: MetricType,
        write: impl FnOnce(MetricEncoder<'_>) -> Done,
    ) -> Done {
        write(self.0.encode_descriptor(name, help.trim(), unit, kind)?)
    }

    fn gauges(&mut self, gauges: &[(&str, &str, usize)]) -> Done {
        for (name, help, value) in gauges {
            let metric = ConstGauge::new(integer(*value));
            self.family(name, help, None, MetricType::Gauge, |to| metric.encode(to))?;
        }
        Ok(())
    }

    fn by_label(&mut self, name: &str, help: &str, label: &str, values: &[(&str, usize)]) -> Done {
        let values: Vec<_> = values
            .iter()
            .map(|(value, count)| ([(label, *value)], integer(*count)))
            .collect();
        self.labelled(name, help, &values)
    }

    fn labelled<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &[(L, i64)]) -> Done {
        self.gauges_of(name, help, None, values)
    }

    fn labelled_seconds<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: &[(L, f64)],
    ) -> Done {
        self.gauges_of(name, help, Some(&Unit::Seconds), values)
    }

    fn gauges_of<L: EncodeLabelSet, V: EncodeGaugeValue + Copy>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: &[(L, V)],
    ) -> Done
    where
        ConstGauge<V>: EncodeMetric,
    {
        self.family(name, help, unit, MetricType::Gauge, |mut to| {
            for (labels, value) in values {
                ConstGauge::new(*value).encode(to.encode_family(labels)?)?;
            }
            Ok(())
        })
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> Done {
        let unit = Some(&Unit::Seconds);
        self.family(name, help, unit, MetricType::Gauge, |to| {
            ConstGauge::new(value).encode(to)
        })
    }

    fn count(&mut self, name: &str, help: &str, count: u64) -> Done {
        self.family(name, help, None, MetricType::Counter, |to| {
            ConstCounter::new(count).encode(to)
        })
    }

    fn count_seconds(&mut self, name: &str, help: &str, count: f64) -> Done {
        let unit = Some(&Unit::Seconds);
        self.family(name, help, unit, MetricType::Counter, |to| {
            ConstCounter::new(count).encode(to)
        })
    }

    fn counts<L: EncodeLabelSet>(&mut self, name: &str, help: &str, counts: &[(L, u64)]) -> Done {
        self.family(name, help, None, MetricType::Counter, |mut to| {
            for (labels, count) in counts {
                ConstCounter::new(*count).encode(to.encode_family(labels)?)?;
            }
            Ok(())
        })
    }

    /// Histograms of microseconds, in seconds.
    fn histogram<const N: usize>(&mut self, name: &str, help: &str, of: &[Timed<'_, N>]) -> Done {
        let unit = Some(&Unit::Seconds);
        self.family(name, help, unit, MetricType::Histogram, |mut to| {
            for (labels, times) in of {
                let (sum, buckets) = buckets(times);
                to.encode_family(labels)?.encode_histogram::<NoLabelSet>(
                    sum,
                    times.len(),
                    &buckets,
                    None,
                )?;
            }
            Ok(())
        })
    }

    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> Done {
        let unit = Some(&Unit::Seconds);
        self.family(name, help, unit, metric.metric_type(), |to| {
            metric.encode(to)
        })
    }
}

/// The sum in seconds, to a percent, and how many fell into each bucket. What
/// lies between two values that the histogram tells apart counts as its middle.
fn buckets(times: &Histogram<u64>) -> (f64, Vec<(f64, u64)>) {
    let mut counts = [0; BUCKETS_US.len() + 1];
    let mut sum_us = 0.0;
    for step in times.iter_recorded() {
        let value = times.median_equivalent(step.value_iterated_to());
        let bucket = BUCKETS_US.partition_point(|bound| *bound < value);
        counts[bucket] += step.count_at_value();
        sum_us += whole(value) * whole(step.count_at_value());
    }
    let bounds = BUCKETS_US.iter().map(|bound| microseconds(*bound));
    let bounds = bounds.chain([f64::MAX]);
    (sum_us / 1e6, bounds.zip(counts).collect())
}

fn integer(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn milliseconds(count: u64) -> f64 {
    whole(count) / 1e3
}

fn microseconds(count: u64) -> f64 {
    whole(count) / 1e6
}

fn nanoseconds(count: u64) -> f64 {
    whole(count) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "the first 15 digits are enough")]
const fn whole(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_was_recorded_and_the_sum_is_right_to_a_percent() {
        let mut times = Histogram::new_with_bounds(1, 60_000_000, 2).unwrap();
        for us in [50, 100, 101, 3_000, 20_000_000] {
            times.record(us).unwrap();
        }
        let (sum, buckets) = buckets(&times);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 5);
        assert_eq!(buckets[0], (0.000_1, 2));
        assert_eq!(buckets[1].1, 1);
        assert_eq!(buckets.last().unwrap().1, 1);
        assert!((sum - 20.003_251).abs() < 0.2, "{sum}");
    }
}
