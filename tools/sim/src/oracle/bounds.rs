//! The bounds that hold in every state: what agents send, how many probes
//! origins see, how many nodes probe one check, and how soon all is calm.

use crate::limits;
use crate::load::{Row, Totals, WINDOW_S};
use crate::workload::SECOND_US;
use crate::world::World;

impl World {
    /// At every sweep.
    pub(crate) fn judge_load(&mut self) {
        self.judge_crowds();
        self.judge_calm();
        if self.now_us.is_multiple_of(SECOND_US) {
            self.judge_probes();
        }
        if self.now_us.is_multiple_of(WINDOW_S * SECOND_US) {
            self.close_window();
        }
    }

    /// When a run ends: the bounds that were broken on the way.
    pub(crate) fn judge_bounds(&mut self) {
        for broken in self.load.broken.clone() {
            self.oracles.violate(self.now_us, None, "bounds", || {
                format!(
                    "{}: exceeded {} times, first at {:.1} s, at worst {:.1}",
                    broken.bound, broken.times, broken.first_s, broken.worst
                )
            });
        }
    }

    /// Probes that all checks together want within a window.
    fn wanted(&self) -> u64 {
        let window_us = WINDOW_S * SECOND_US;
        let configured = |check: &usize| self.living().any(|host| self.hosts[host].config[*check]);
        let since_us = self.now_us.saturating_sub(window_us);
        let fast_us = self.options.fast_us.unwrap_or(self.options.interval_us);
        (0..self.options.checks)
            .filter(configured)
            .map(|check| {
                // A check whose origin turns over is probed at the fast interval.
                let turned = self.origins.since_us(check as u32);
                let in_doubt = turned > 0 && turned + self.options.interval_us > since_us;
                let step_us = if in_doubt {
                    fast_us
                } else {
                    self.options.interval_us
                };
                window_us.div_ceil(step_us)
            })
            .sum()
    }

    fn judge_probes(&mut self) {
        // What had been begun by the end of each of the last seconds.
        self.load.seconds.push_back(self.load.probes);
        if self.load.seconds.len() as u64 <= WINDOW_S {
            return;
        }
        let before = self.load.seconds.pop_front().unwrap_or(0);
        let lived_us = self.now_us - self.load.began_us;
        if lived_us < (limits::PROBE_GRACE_S + WINDOW_S) * SECOND_US {
            return;
        }
        let probes = self.load.probes - before;
        let ratio = probes as f64 / self.wanted().max(1) as f64;
        let over = (ratio > limits::PROBE_RATIO).then_some(ratio);
        self.load.break_bound(self.now_us, "probes", over);
    }

    /// Without evidence at most three nodes probe one check; more must notice
    /// each other soon.
    fn judge_crowds(&mut self) {
        let now_us = self.now_us;
        let calm_us = self.healed_us + limits::CONVERGENCE_BOUND_US;
        let mut probers = vec![0_u16; self.options.checks];
        for host in self.living() {
            let it = &self.hosts[host];
            if it.stalled_until_us <= now_us {
                for check in it.prober.checks() {
                    probers[check as usize] += 1;
                }
            }
        }
        let whole = self.net.is_whole() && (self.healed_us == 0 || now_us > calm_us);
        let mut worst = 0;
        for (check, &count) in probers.iter().enumerate() {
            if usize::from(count) <= limits::PROBERS || !whole {
                self.load.crowded.remove(&(check as u32));
                continue;
            }
            let since_us = *self.load.crowded.entry(check as u32).or_insert(now_us);
            if now_us - since_us >= limits::PROBERS_NOTICE_US {
                worst = worst.max(count);
            }
        }
        let over = (worst > 0).then_some(f64::from(worst));
        self.load.break_bound(now_us, "probers of a check", over);
        let configured = |check: usize| self.living().any(|host| self.hosts[host].config[check]);
        let uneven: Vec<usize> = (0..probers.len())
            .filter(|&check| probers[check] != 1 && configured(check))
            .collect();
        self.load.uneven = uneven.len();
        self.load.unprobed = uneven.iter().filter(|&&check| probers[check] == 0).count();
    }

    /// Formed: everybody knows everybody. Calm: nobody is suspected, and each
    /// check has one prober.
    fn judge_calm(&mut self) {
        let nodes = self.living().count();
        let all_run = nodes == self.hosts.len();
        let formed = all_run
            && self
                .agents()
                .all(|agent| agent.is_ready() && agent.living_members() == nodes);
        let suspected = self.load.suspected;
        let nobody = std::mem::replace(&mut self.load.calm.suspected, suspected) == suspected;
        let now_us = self.now_us;
        let calm = &mut self.load.calm;
        if formed && calm.formed_us.is_none() {
            calm.formed_us = Some(now_us);
        }
        if formed && nobody && self.load.uneven == 0 {
            self.load.calm.since_us.get_or_insert(now_us);
        } else {
            self.load.calm.since_us = None;
            if let Some((_, Some(ended_us))) = self.load.loaded
                && now_us > ended_us + limits::CALM_BOUND_US
            {
                let late_s = (now_us - ended_us) as f64 / SECOND_US as f64;
                self.load
                    .break_bound(now_us, "calm after load", Some(late_s));
            }
        }
    }

    fn close_window(&mut self) {
        let now = self.totals();
        let last = std::mem::replace(&mut self.load.last, now.clone());
        let nodes = self.living().count();
        let agents_s = (nodes.max(1) as u64 * WINDOW_S) as f64;
        let by_two = self.load.by_two;
        let (datagrams_peak, bytes_peak) = self.load.take_peaks();
        let mut turn_us = (0, 0);
        let mut oldest_us = 0;
        for it in &mut self.hosts {
            if let Some(threads) = &mut it.threads {
                let longest = std::mem::take(&mut threads.longest_turn_us);
                oldest_us = oldest_us.max(std::mem::take(&mut threads.oldest_us));
                turn_us = (turn_us.0.max(longest.0), turn_us.1.max(longest.1));
            }
        }
        let cores = self.machines.as_ref().map_or(1, |it| it.cores()) as f64;
        let ns_of_s = 1e9 * WINDOW_S as f64;
        let cpu_ns = |part: u64| part as f64 / (agents_s * 1e9) * 100.0;
        let gossip_ns = now.gossip_ns - last.gossip_ns;
        let probe_ns = now.probe_ns - last.probe_ns;
        let (table_down, table_not_up) = self.look_into_a_table();
        let row = Row {
            until_s: self.now_us / SECOND_US,
            agents: nodes,
            datagrams_per_s: (now.sent - last.sent) as f64 / agents_s,
            datagrams_peak,
            bytes_per_s: (now.bytes - last.bytes) as f64 / agents_s,
            bytes_peak,
            bulk_bytes_per_s: (now.bulk - last.bulk) as f64 / agents_s,
            gossip_cpu_percent: cpu_ns(gossip_ns),
            probe_cpu_percent: cpu_ns(probe_ns),
            busy_percent: (gossip_ns + probe_ns) as f64 / (cores * ns_of_s) * 100.0,
            probes: now.probes - last.probes,
            wanted: self.wanted(),
            asked: now.asked - last.asked,
            unmeasured: now.unmeasured.saturating_sub(last.unmeasured),
            by_two,
            by_none: self.load.unprobed,
            suspected: now.suspected - last.suspected,
            died: now.died - last.died,
            false_downs: now.false_downs - last.false_downs,
            table_down,
            table_not_up,
            dropped: now.dropped.saturating_sub(last.dropped),
            oldest_ms: oldest_us as f64 / 1e3,
            turn_ms: (turn_us.0 as f64 / 1e3, turn_us.1 as f64 / 1e3),
        };
        self.load.rows.push(row);
    }

    /// What the first living host's table says that is not so: checks that it
    /// calls Down, and that it does not call Up, though their origins are good.
    fn look_into_a_table(&self) -> (usize, usize) {
        let Some(host) = self.living().next() else {
            return (0, 0);
        };
        let it = &self.hosts[host];
        let mut found = (0, 0);
        for check in 0..self.options.checks {
            if !it.config[check] || !self.origins.health(check as u32).is_good() {
                continue;
            }
            let says = it.table.verdicts[check].map(|says| says.verdict);
            found.0 += usize::from(says == Some(watchfire_wire::Verdict::Down));
            found.1 += usize::from(says != Some(watchfire_wire::Verdict::Up));
        }
        found
    }

    fn totals(&self) -> Totals {
        let (sent, bytes, bulk) = self.load.sums();
        let mut totals = Totals {
            sent,
            bytes,
            bulk,
            probes: self.load.probes,
            asked: self.load.asked,
            suspected: self.load.suspected,
            died: self.load.died,
            false_downs: self.load.false_downs,
            ..Totals::default()
        };
        for (host, it) in self.hosts.iter().enumerate() {
            if let Some(machines) = &self.machines {
                totals.gossip_ns += machines.used(2 * host);
                totals.probe_ns += machines.used(2 * host + 1);
            }
            if let Some(threads) = &it.threads {
                totals.unmeasured += threads.probes.unmeasured();
                totals.dropped += threads.socket.dropped;
            }
        }
        totals
    }
}
