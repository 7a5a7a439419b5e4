//! What is known of the names that checks have, and what it makes of those checks: an
//! address that may be probed, or why this agent takes no part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use watchfire_host::resolve::{Known, News};
use watchfire_host::{OriginChange, Origins, Refusal};
use watchfire_probe_core::{CheckSpec, HostName};
use watchfire_wire::{CheckId, Unmeasured};

use crate::clock;
use crate::limits::{NAMES, NAMES_SHOWN};

/// Why this agent takes no part in a check as it is; nothing if it does.
pub(crate) type Judge<'a> = &'a dyn Fn(&CheckSpec) -> Option<Refusal>;

/// All names that checks have.
#[derive(Debug, Default)]
pub(crate) struct Book {
    checks: BTreeMap<HostName, Vec<CheckId>>,
    known: BTreeMap<HostName, Known>,
    /// Names beyond the limit.
    left_out: BTreeSet<HostName>,
    /// Those whose last question failed.
    failing: BTreeSet<HostName>,
}

/// The name of a check and where it is: part of `watchfire why --json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct NameStatus {
    /// The name.
    pub(crate) name: String,
    /// The address that is probed, or would be; nothing if there is none.
    pub(crate) address: Option<String>,
    /// All that the last answer had, the lowest first.
    pub(crate) addresses: Vec<String>,
    /// Addresses of that answer beyond the limit.
    pub(crate) left_out: usize,
    /// Since when it has exactly these, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Since when it is said not to exist or to have no address, milliseconds since 1970.
    pub(crate) missing_since_ms: Option<u64>,
    /// Why the last question failed, if it did.
    pub(crate) failing: Option<String>,
}

/// The names in short: part of `watchfire status --json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize, ToSchema)]
pub(crate) struct NamesStatus {
    /// Names that checks have.
    pub(crate) names: usize,
    /// Those without an address.
    pub(crate) without_address: usize,
    /// Those whose last question failed; they keep what was known.
    pub(crate) failing: usize,
    /// Some of those that fail or have no address.
    pub(crate) shown: Vec<String>,
}

impl Book {
    /// Takes origins as they were read: what is known of their names counts for them at
    /// once. Gives the names that are to be asked for.
    pub(crate) fn open(&mut self, origins: &mut Origins, judge: Judge<'_>) -> BTreeSet<HostName> {
        self.checks.clear();
        for (id, spec) in &origins.checks {
            if let Some(name) = &spec.name {
                self.checks.entry(name.clone()).or_default().push(*id);
            }
        }
        let known = |name: &HostName| self.known.contains_key(name);
        // Those that were there before stay before those that are new.
        let mut all: Vec<_> = self.checks.keys().cloned().collect();
        all.sort_by_key(|name| !known(name));
        self.left_out = all.iter().skip(NAMES).cloned().collect();
        let wanted: BTreeSet<_> = all.into_iter().take(NAMES).collect();
        self.known.retain(|name, _| wanted.contains(name));
        self.failing.retain(|name| wanted.contains(name));
        let ids: Vec<_> = self.checks.values().flatten().copied().collect();
        for id in ids {
            self.settle(id, origins, judge);
        }
        wanted
    }

    /// Takes what became known. Gives what it changes, if anything, and what is to be
    /// said of it.
    pub(crate) fn hear(
        &mut self,
        news: Vec<News>,
        origins: &mut Origins,
        judge: Judge<'_>,
    ) -> (Option<OriginChange>, Vec<String>) {
        let mut lines = Vec::new();
        let mut ids = Vec::new();
        for News { name, known } in news {
            let Some(checks) = self.checks.get(&name) else {
                continue;
            };
            ids.extend(checks.iter().copied());
            let failed = self.failing.len();
            match &known.failing {
                Some(why) if self.failing.insert(name.clone()) && failed == 0 => lines.push(format!(
                    "{name} cannot be resolved ({why}); names that fail keep the addresses that \
                     they had, and `status` counts them"
                )),
                None if self.failing.remove(&name) && failed == 1 => {
                    lines.push("all names can be resolved again".to_owned());
                }
                _ => {}
            }
            let before = self.known.insert(name.clone(), known);
            let known = &self.known[&name];
            let before = before.unwrap_or_default();
            if known.addresses != before.addresses && !before.addresses.is_empty() {
                lines.push(format!(
                    "{name} was at {} and is at {} now{}",
                    listed(&before.addresses),
                    listed(&known.addresses),
                    match known.left_out {
                        0 => String::new(),
                        more => format!(", and at {more} more, which are beyond the limit"),
                    }
                ));
            }
            if known.missing.is_some() && before.missing.is_none() && !known.addresses.is_empty() {
                lines.push(format!(
                    "the DNS says that {name} has no address any more; it keeps {} for \
                     resolver.missing_after",
                    listed(&known.addresses)
                ));
            }
        }
        let change = self.settle_all(&ids, origins, judge, &mut lines);
        (change, lines)
    }

    /// Judges checks with a way of their own anew: this server may have gained or lost
    /// it.
    pub(crate) fn look_at_ways(
        &mut self,
        origins: &mut Origins,
        judge: Judge<'_>,
    ) -> (Option<OriginChange>, Vec<String>) {
        let ids = self.checks.values().flatten();
        let with_way = ids.filter(|id| origins.checks[*id].egress.is_some());
        let ids: Vec<_> = with_way.copied().collect();
        let mut lines = Vec::new();
        let change = self.settle_all(&ids, origins, judge, &mut lines);
        (change, lines)
    }

    fn settle_all(
        &self,
        ids: &[CheckId],
        origins: &mut Origins,
        judge: Judge<'_>,
        lines: &mut Vec<String>,
    ) -> Option<OriginChange> {
        let mut change = OriginChange {
            references: origins.references.clone(),
            ..OriginChange::default()
        };
        for &id in ids {
            let (was, refused) = (
                origins.checks[&id].target,
                origins.refused.get(&id).cloned(),
            );
            self.settle(id, origins, judge);
            let spec = &origins.checks[&id];
            if spec.target != was {
                change.retargeted.push((id, Arc::clone(spec)));
            }
            let now = origins.refused.get(&id);
            if now == refused.as_ref() {
                continue;
            }
            // Asked of all names, and so of few checks.
            let named = || {
                let names = origins.names.iter().filter(|(_, check)| **check == id);
                let named = names.map(|(name, _)| &**name).take(NAMES_SHOWN);
                named.collect::<Vec<_>>().join(", ")
            };
            match (now, refused) {
                (Some(refusal), _) => {
                    lines.push(format!("{}: not probed: {}", named(), refusal.because));
                    change.refused.push((id, refusal.clone()));
                }
                (None, refused) => {
                    // Its first address is no news to people.
                    if refused.is_some_and(|it| it.reason != Unmeasured::NotYet) {
                        lines.push(format!("{}: probed from now on", named()));
                    }
                    change.accepted.push(id);
                }
            }
        }
        (!change.is_empty()).then_some(change)
    }

    /// Gives a check the address that it is to be probed at, or a reason why not.
    fn settle(&self, id: CheckId, origins: &mut Origins, judge: Judge<'_>) {
        let Some(spec) = origins.checks.get_mut(&id) else {
            return;
        };
        let Some(name) = &spec.name else { return };
        let found = if self.left_out.contains(name) {
            Err(Refusal {
                reason: Unmeasured::Unsupported,
                because: format!(
                    "one agent resolves at most {NAMES} names, and {name} is one beyond them"
                )
                .into(),
            })
        } else {
            address_of(spec, self.known.get(name), judge)
        };
        let (address, refusal) = match found {
            Ok(address) => (address, None),
            Err(refusal) => (Ipv4Addr::UNSPECIFIED.into(), Some(refusal)),
        };
        if spec.target.ip() != address {
            *spec = Arc::new(spec.at(address));
        }
        match refusal {
            Some(refusal) => origins.refused.insert(id, refusal),
            None => origins.refused.remove(&id),
        };
    }

    /// What is known of a check's name; nothing if it has none.
    pub(crate) fn of(&self, spec: &CheckSpec) -> Option<NameStatus> {
        let name = spec.name.as_ref()?;
        let known = self.known.get(name).cloned().unwrap_or_default();
        let zero_ms = clock::wall_at_zero().at_zero_ms;
        let wall = |at: watchfire_wire::Time| zero_ms.saturating_add(at.as_millis());
        Some(NameStatus {
            name: name.to_string(),
            address: spec.has_address().then(|| spec.target.ip().to_string()),
            addresses: known.addresses.iter().map(ToString::to_string).collect(),
            left_out: known.left_out,
            since_ms: if known.addresses.is_empty() {
                0
            } else {
                wall(known.since)
            },
            missing_since_ms: known.missing.map(wall),
            failing: known.failing.map(|why| why.to_string()),
        })
    }

    /// All names in short.
    pub(crate) fn status(&self) -> NamesStatus {
        let lacks = |name: &&HostName| {
            let known = self.known.get(*name);
            known.is_none_or(|known| known.addresses.is_empty())
        };
        let troubled = |name: &&HostName| self.failing.contains(*name) || lacks(name);
        let shown = self.checks.keys().filter(troubled).take(NAMES_SHOWN);
        NamesStatus {
            names: self.checks.len(),
            without_address: self.checks.keys().filter(lacks).count(),
            failing: self.failing.len(),
            shown: shown.map(ToString::to_string).collect(),
        }
    }
}

/// The address at which a check is probed: the lowest that may be. All servers with the
/// same answer and the same policy take the same one.
///
/// # Errors
///
/// Why there is none.
pub(crate) fn address_of(
    spec: &CheckSpec,
    known: Option<&Known>,
    judge: Judge<'_>,
) -> Result<IpAddr, Refusal> {
    let name = spec.name.as_ref().map(HostName::as_str).unwrap_or_default();
    let refusal = |reason, because: String| Refusal {
        reason,
        because: because.into(),
    };
    let Some(known) = known else {
        let because = format!("the address of {name} is not known yet");
        return Err(refusal(Unmeasured::NotYet, because));
    };
    let mut first = None;
    for &address in &*known.addresses {
        let candidate = spec.at(address);
        let no = match candidate.validate() {
            // Nothing of 0.0.0.0 is valid, though a name's check without an address is.
            Ok(()) if candidate.has_address() => judge(&candidate),
            Ok(()) => Some(refusal(
                Unmeasured::Denied,
                "it is no host's address".to_owned(),
            )),
            Err(error) => Some(refusal(Unmeasured::Denied, error.to_string())),
        };
        match no {
            None => return Ok(address),
            Some(no) => {
                first.get_or_insert_with(|| {
                    refusal(no.reason, format!("{name} is at {address}: {}", no.because))
                });
            }
        }
    }
    Err(
        first.unwrap_or_else(|| match (&known.failing, known.missing) {
            (Some(why), None) => refusal(
                Unmeasured::NameUnresolved,
                format!("{name} was never resolved: {why}"),
            ),
            _ => refusal(
                Unmeasured::NameNotFound,
                format!("the DNS knows no address of {name}"),
            ),
        }),
    )
}

/// Addresses for people.
fn listed(addresses: &[IpAddr]) -> String {
    let shown: Vec<_> = addresses.iter().take(4).map(ToString::to_string).collect();
    match addresses.len().checked_sub(4) {
        _ if addresses.is_empty() => "no address".to_owned(),
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use watchfire_probe_core::policy::Policy;
    use watchfire_wire::Time;

    use super::*;

    fn spec() -> CheckSpec {
        CheckSpec {
            name: Some(HostName::parse("a.example").unwrap()),
            ..CheckSpec::tcp(([0, 0, 0, 0], 80).into())
        }
    }

    fn known(addresses: &[&str]) -> Known {
        Known {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ..Known::default()
        }
    }

    fn judge(spec: &CheckSpec) -> Option<Refusal> {
        let denial = Policy::default().judge(spec.target).err()?;
        Some(Refusal {
            reason: Unmeasured::Denied,
            because: denial.to_string().into(),
        })
    }

    #[test]
    fn the_lowest_address_that_may_be_probed_is_taken() {
        let of = |addresses: &[&str]| match address_of(&spec(), Some(&known(addresses)), &judge) {
            Ok(address) => address.to_string(),
            Err(refusal) => format!("{}: {}", refusal.reason.key(), refusal.because),
        };
        assert_eq!(of(&["192.0.2.1", "192.0.2.2"]), "192.0.2.1");
        // What is inside is passed over, and alone it is nothing.
        assert_eq!(
            of(&["127.0.0.1", "169.254.169.254", "192.0.2.2"]),
            "192.0.2.2"
        );
        for (inside, what) in [
            ("169.254.169.254", "link-local"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("64:ff9b::7f00:1", "loopback"),
            ("0.0.0.0", "denied"),
            ("224.0.0.1", "denied"),
        ] {
            let said = of(&[inside]);
            assert!(said.starts_with("denied: a.example is at"), "{said}");
            assert!(said.contains(what), "{said}");
        }
        assert!(of(&[]).starts_with("name_not_found"));
    }

    #[test]
    fn a_change_of_address_is_a_change_of_nothing_else() {
        let spec = Arc::new(spec());
        let id = spec.id();
        let mut origins = Origins::default();
        origins.names.insert("shop".into(), id);
        origins.checks.insert(id, Arc::clone(&spec));
        let mut book = Book::default();
        let wanted = book.open(&mut origins, &judge);
        assert_eq!(wanted.len(), 1);
        assert_eq!(origins.refused[&id].reason, Unmeasured::NotYet);
        let mut hear = |origins: &mut Origins, known: Known| {
            let name = spec.name.clone().unwrap();
            book.hear(vec![News { name, known }], origins, &judge)
        };
        let (change, lines) = hear(&mut origins, known(&["192.0.2.1"]));
        let change = change.unwrap();
        assert_eq!((change.accepted, change.retargeted.len()), (vec![id], 1));
        assert!(lines.is_empty(), "{lines:?}");
        let (change, lines) = hear(&mut origins, known(&["192.0.2.2"]));
        let change = change.unwrap();
        assert_eq!(change.retargeted[0].1.target.ip().to_string(), "192.0.2.2");
        assert!(change.accepted.is_empty() && change.refused.is_empty());
        assert!(change.checks_added.is_empty() && change.checks_removed.is_empty());
        assert_eq!(lines.len(), 1);
        // A resolver that fails changes nothing.
        let failing = Known {
            failing: Some("timeout".into()),
            ..known(&["192.0.2.2"])
        };
        let (change, lines) = hear(&mut origins, failing);
        assert_eq!((change, lines.len()), (None, 1));
        // An answer that is denied is refused, though the last one was not.
        let (change, _) = hear(&mut origins, known(&["169.254.169.254"]));
        assert_eq!(change.unwrap().refused[0].1.reason, Unmeasured::Denied);
        assert!(!origins.checks[&id].has_address());
        // A name that is gone is neither Up nor Down.
        let gone = Known {
            missing: Some(Time::ZERO),
            ..Known::default()
        };
        let (change, _) = hear(&mut origins, gone);
        assert_eq!(
            change.unwrap().refused[0].1.reason,
            Unmeasured::NameNotFound
        );
        // And what is known outlives a reload.
        let (_, _) = hear(&mut origins, known(&["192.0.2.3"]));
        let mut read_again = origins.clone();
        read_again.checks.insert(id, Arc::clone(&spec));
        book.open(&mut read_again, &judge);
        assert_eq!(read_again.checks[&id].target.ip().to_string(), "192.0.2.3");
        assert!(OriginChange::between(Some(&origins), &read_again).is_empty());
    }
}
