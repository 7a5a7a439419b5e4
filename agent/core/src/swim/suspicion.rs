//! Lifeguard's suspicion: how long a member has to refute, by how many accuse
//! it.

use core::time::Duration;

use smallvec::SmallVec;
use watchfire_wire::{NodeId, Time};

use super::config::SwimConfig;
use super::limits::{ACCUSERS, SUSPICION_PERIODS_MIN};

/// One running suspicion of one member.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    began: Time,
    least: Duration,
    most: Duration,
    wanted: usize,
    accusers: SmallVec<[NodeId; 4]>,
    deadline: Time,
    graced: bool,
    quiet: bool,
    /// It began anew, for this node had heard nobody.
    renewed: bool,
}

impl Suspicion {
    /// A suspicion that begins now, raised by `accuser`, in a POP of so many
    /// living members (this node among them). A node that is slow itself gives
    /// it `stretch` times as long.
    pub(super) fn new(
        config: &SwimConfig,
        members: usize,
        stretch: u32,
        now: Time,
        accuser: NodeId,
    ) -> Self {
        let usual = usual_timeout(config, members) * stretch;
        let floor = config.period.mul_f64(SUSPICION_PERIODS_MIN) * stretch;
        let least = usual.max(floor);
        // Nobody is left to confirm but the members that are neither the
        // suspect nor the accuser.
        let wanted = (config.suspicion_mult.saturating_sub(2) as usize)
            .min(members.saturating_sub(2))
            .min(ACCUSERS - 1);
        let mut suspicion = Self {
            began: now,
            least,
            most: (usual * config.suspicion_max_mult).max(least),
            wanted,
            accusers: SmallVec::new(),
            deadline: now,
            graced: false,
            quiet: false,
            renewed: false,
        };
        suspicion.accusers.push(accuser);
        suspicion.reckon();
        suspicion
    }

    /// A suspicion that nobody is told of; an ack ends it.
    pub(super) fn quiet(
        config: &SwimConfig,
        members: usize,
        stretch: u32,
        now: Time,
        accuser: NodeId,
    ) -> Self {
        Self {
            quiet: true,
            ..Self::new(config, members, stretch, now, accuser)
        }
    }

    /// That node is one of the accusers.
    pub(super) fn is_accuser(&self, node: NodeId) -> bool {
        self.accusers.contains(&node)
    }

    /// Nobody else knows of it.
    pub(super) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// It is told from now on; true if it was not.
    pub(super) fn speak_out(&mut self) -> bool {
        core::mem::replace(&mut self.quiet, false)
    }

    /// Another member accuses; true if that was news and shortens the timeout.
    ///
    /// However old the suspicion is, a refutation still gets `grace` to arrive:
    /// accusers that were cut off confirm each other all at once when they are
    /// heard again.
    pub(super) fn confirm(&mut self, now: Time, accuser: NodeId, grace: Duration) -> bool {
        if self.accusers.len() > self.wanted || self.accusers.contains(&accuser) {
            return false;
        }
        let before = self.deadline;
        self.accusers.push(accuser);
        self.reckon();
        self.deadline = self.deadline.max(before.min(now + grace));
        true
    }

    /// Somebody's suspicion has run out. True if this one is old enough to
    /// believe it; otherwise it runs out soon, unless it is refuted.
    pub(super) fn condemn(&mut self, now: Time, grace: Duration) -> bool {
        if now.since(self.began) >= grace {
            return true;
        }
        self.deadline = self.deadline.min(self.began + grace);
        false
    }

    /// How old it is.
    pub(super) fn age(&self, now: Time) -> Duration {
        now.since(self.began)
    }

    /// When it turns into a death.
    pub(super) const fn deadline(&self) -> Time {
        self.deadline
    }

    /// This node was late to look: gives the refutation that may wait in the
    /// socket so much time, once.
    pub(super) fn grace(&mut self, now: Time, wait: Duration) {
        if !self.graced && self.deadline <= now {
            self.graced = true;
            self.deadline = now + wait;
        }
    }

    /// This node hears nobody: if it would run out now it waits until then.
    pub(super) fn postpone(&mut self, now: Time, until: Time) {
        if self.deadline <= now {
            self.deadline = until;
        }
    }

    /// Begins anew, as after this node was stalled.
    pub(super) fn restart(&mut self, now: Time) {
        self.began = now;
        self.graced = false;
        self.reckon();
    }

    /// This node hears again: it begins anew, once. Where silence comes again and
    /// again the suspect has had its time, and what was put off for it is not
    /// put off further.
    pub(super) fn hear_again(&mut self, now: Time) {
        if core::mem::replace(&mut self.renewed, true) {
            self.deadline = self.deadline.min(now + self.least);
        } else {
            self.restart(now);
        }
    }

    /// timeout = most - (most - least) × ln(confirmations + 1) / ln(wanted + 1)
    fn reckon(&mut self) {
        let confirmations = self.accusers.len() - 1;
        let share = if self.wanted == 0 {
            1.0
        } else {
            (confirmations as f64 + 1.0).ln() / (self.wanted as f64 + 1.0).ln()
        };
        let span = self.most - self.least;
        let wait = self.most - span.mul_f64(share.min(1.0));
        self.deadline = self.began + wait.max(self.least);
    }
}

/// The timeout of a suspicion with all confirmations: mult × max(1, log10 n) ×
/// period; it is not let below [`SUSPICION_PERIODS_MIN`].
fn usual_timeout(config: &SwimConfig, members: usize) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    config
        .period
        .mul_f64(scale * f64::from(config.suspicion_mult))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(200);

    fn wait(suspicion: &Suspicion) -> Duration {
        suspicion.deadline().since(Time::ZERO)
    }

    #[test]
    fn confirmations_shorten_it_from_most_to_least() {
        let config = SwimConfig::default();
        let least = usual_timeout(&config, 168);
        assert!(least > Duration::from_millis(1_770) && least < Duration::from_millis(1_790));
        let mut suspicion = Suspicion::new(&config, 168, 1, Time::ZERO, NodeId(1));
        assert_eq!(wait(&suspicion).as_micros(), (least * 6).as_micros());
        assert!(!suspicion.confirm(Time::ZERO, NodeId(1), GRACE));
        assert!(suspicion.confirm(Time::ZERO, NodeId(2), GRACE));
        assert!(wait(&suspicion) < least * 4);
        assert!(suspicion.confirm(Time::ZERO, NodeId(3), GRACE));
        assert_eq!(wait(&suspicion).as_micros(), least.as_micros());
        assert!(!suspicion.confirm(Time::ZERO, NodeId(4), GRACE));
    }

    #[test]
    fn late_confirmations_leave_time_to_refute() {
        let mut suspicion = Suspicion::new(&SwimConfig::default(), 64, 1, Time::ZERO, NodeId(1));
        let late = Time::from_millis(5_000);
        assert!(suspicion.confirm(late, NodeId(2), GRACE));
        assert!(suspicion.confirm(late, NodeId(3), GRACE));
        assert_eq!(suspicion.deadline(), late + GRACE);
    }

    #[test]
    fn a_young_suspicion_is_not_condemned_at_once() {
        let mut suspicion = Suspicion::new(&SwimConfig::default(), 64, 1, Time::ZERO, NodeId(1));
        assert!(!suspicion.condemn(Time::from_millis(50), GRACE));
        assert_eq!(suspicion.deadline(), Time::ZERO + GRACE);
        assert!(suspicion.condemn(Time::from_millis(200), GRACE));
    }

    #[test]
    fn silence_that_comes_again_and_again_renews_it_once() {
        let mut suspicion = Suspicion::new(&SwimConfig::default(), 40, 1, Time::ZERO, NodeId(1));
        let whole = wait(&suspicion);
        suspicion.hear_again(Time::from_millis(700));
        assert_eq!(suspicion.deadline(), Time::from_millis(700) + whole);
        for ms in (1_400..60_000).step_by(700) {
            suspicion.hear_again(Time::from_millis(ms));
        }
        assert!(suspicion.deadline() <= Time::from_millis(700) + whole);
    }

    #[test]
    fn two_members_need_no_third() {
        let suspicion = Suspicion::new(&SwimConfig::default(), 2, 1, Time::ZERO, NodeId(1));
        assert_eq!(wait(&suspicion), Duration::from_millis(1_500));
    }

    #[test]
    fn grace_is_given_once() {
        let mut suspicion = Suspicion::new(&SwimConfig::default(), 2, 1, Time::ZERO, NodeId(1));
        let late = Time::from_millis(1_600);
        suspicion.grace(late, Duration::from_millis(50));
        assert_eq!(suspicion.deadline(), Time::from_millis(1_650));
        let later = Time::from_millis(1_700);
        suspicion.grace(later, Duration::from_millis(50));
        assert_eq!(suspicion.deadline(), Time::from_millis(1_650));
    }
}
