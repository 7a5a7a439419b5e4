//! A transition as it lies in memory: a fifth of what it takes to be shown.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use watchfire_wire::{CheckId, Reason, Unmeasured, Verdict};

use super::record::{Record, Said};

/// A [`Record`], without its origin's name.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) at_ms: u64,
    since_ms: u64,
    check: CheckId,
    owner: Arc<str>,
    /// Nothing if nobody was asked.
    opinions: Option<Box<[Said]>>,
    latency_us: u32,
    from: Verdict,
    to: Verdict,
    reason: u8,
}

/// Names of owners that are remembered, so that each is there once. Above it those
/// that nothing speaks of any more are forgotten.
const OWNERS: usize = 1_024;

impl Packed {
    /// Nothing if it is not of the shape that this version writes.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let check = check_of(&record.id)?;
        Some(Self {
            at_ms: record.at_ms,
            since_ms: record.since_ms,
            check,
            owner: owner(&record.owner),
            opinions: (!record.opinions.is_empty()).then(|| record.opinions.clone().into()),
            latency_us: record.latency_us,
            from: verdict(&record.from)?,
            to: verdict(&record.to)?,
            reason: reason(&record.reason)?,
        })
    }

    pub(super) fn unpack(&self, origin: &str) -> Record {
        Record {
            id: format!("{}-{}-{}", self.check, self.owner, self.since_ms),
            at_ms: self.at_ms,
            since_ms: self.since_ms,
            origin: origin.to_owned(),
            from: self.from.as_str().to_owned(),
            to: self.to.as_str().to_owned(),
            reason: crate::gossip::reason_key(self.reason).to_owned(),
            owner: self.owner.to_string(),
            latency_us: self.latency_us,
            opinions: self.opinions.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

/// The check that an id begins with.
fn check_of(id: &str) -> Option<CheckId> {
    let mut check = [0; 16];
    for (at, byte) in check.iter_mut().enumerate() {
        *byte = u8::from_str_radix(id.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(CheckId(check))
}

fn verdict(text: &str) -> Option<Verdict> {
    let mut all = [Verdict::Unknown, Verdict::Up, Verdict::Down].into_iter();
    all.find(|verdict| verdict.as_str() == text)
}

fn reason(key: &str) -> Option<u8> {
    let reason = Reason::ALL.iter().find(|reason| reason.key() == key);
    let unmeasured = || Unmeasured::ALL.iter().find(|reason| reason.key() == key);
    let code = reason.map(|reason| reason.code());
    code.or_else(|| unmeasured().map(|reason| reason.code()))
}

/// The one place of an owner's name.
fn owner(name: &str) -> Arc<str> {
    static NAMES: LazyLock<Mutex<HashSet<Arc<str>>>> = LazyLock::new(Mutex::default);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    if names.len() >= OWNERS {
        names.retain(|name| Arc::strong_count(name) > 1);
    }
    let fresh: Arc<str> = name.into();
    names.insert(Arc::clone(&fresh));
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_ours_comes_back_as_it_was() {
        let check = CheckId::of_canonical(b"check");
        let reasons = Reason::ALL.iter().map(|it| it.key());
        for reason in reasons.chain(Unmeasured::ALL.iter().map(|it| it.key())) {
            let record = Record {
                id: format!("{check}-edge-1-17"),
                at_ms: 18,
                since_ms: 17,
                origin: "shop-1".into(),
                from: "unknown".into(),
                to: "down".into(),
                reason: reason.into(),
                owner: "edge-1".into(),
                latency_us: 12,
                opinions: vec![Said {
                    node: "edge-2".into(),
                    said: "fail".into(),
                }],
            };
            let packed = Packed::of(&record).unwrap();
            assert_eq!(packed.unpack("shop-1"), record);
        }
    }

    #[test]
    fn what_another_version_wrote_is_passed_over() {
        let record = Record {
            id: "7-edge-1-17".into(),
            at_ms: 0,
            since_ms: 0,
            origin: String::new(),
            from: "up".into(),
            to: "down".into(),
            reason: "passed".into(),
            owner: String::new(),
            latency_us: 0,
            opinions: Vec::new(),
        };
        assert!(Packed::of(&record).is_none());
        let id = format!("{}-e-1", CheckId([1; 16]));
        assert!(
            Packed::of(&Record {
                id: id.clone(),
                ..record.clone()
            })
            .is_some()
        );
        assert!(
            Packed::of(&Record {
                id,
                reason: "phase_of_moon".into(),
                ..record
            })
            .is_none()
        );
    }
}
