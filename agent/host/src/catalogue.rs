//! What is configured: the names that the proxy asks for, and the checks behind
//! them. One check may stand behind many names.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use watchfire_core::io::{CheckMeta, Published};
use watchfire_probe_core::check::CheckSpec;
use watchfire_wire::CheckId;

use crate::change::Refusal;

/// The names and the checks behind them.
#[derive(Debug, Default)]
pub struct Catalogue {
    names: HashMap<Arc<str>, CheckId>,
    checks: HashMap<CheckId, Watched>,
}

/// One check and who looks at it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) spec: Arc<CheckSpec>,
    pub(crate) names: Vec<Arc<str>>,
    /// What the POP holds of it.
    pub(crate) published: Option<Published>,
    /// Why this agent does not take part in it.
    pub(crate) refused: Option<Refusal>,
    /// Whose it is, if that is known.
    pub(crate) tenant: Option<Arc<str>>,
}

impl Catalogue {
    /// The check behind an origin's name.
    #[must_use]
    pub fn check_of(&self, name: &str) -> Option<CheckId> {
        self.names.get(name).copied()
    }

    /// The definition of a check that some origin names.
    #[must_use]
    pub fn spec(&self, id: CheckId) -> Option<&Arc<CheckSpec>> {
        self.checks.get(&id).map(|watched| &watched.spec)
    }

    /// The names that look at a check.
    #[must_use]
    pub fn names_of(&self, id: CheckId) -> &[Arc<str>] {
        let watched = self.checks.get(&id);
        watched.map_or(&[], |watched| watched.names.as_slice())
    }

    /// Why this agent does not take part in a check that some origin names.
    #[must_use]
    pub fn refusal(&self, id: CheckId) -> Option<&Refusal> {
        self.checks.get(&id)?.refused.as_ref()
    }

    /// Whose a check is, by name, if that is known.
    #[must_use]
    pub fn tenant(&self, id: CheckId) -> Option<&Arc<str>> {
        self.checks.get(&id)?.tenant.as_ref()
    }

    /// How many checks it does not take part in.
    #[must_use]
    pub fn refused(&self) -> usize {
        let watched = self.checks.values();
        watched.filter(|watched| watched.refused.is_some()).count()
    }

    /// How many names there are.
    #[must_use]
    pub fn names(&self) -> usize {
        self.names.len()
    }

    /// All names, in no order.
    pub fn all_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// How many checks there are.
    #[must_use]
    pub fn checks(&self) -> usize {
        self.checks.len()
    }

    /// What the core needs to know of a check. `carried`: an origin of it shows
    /// a verdict from before. `reference`: it says whether the POP reaches the
    /// world.
    #[must_use]
    pub fn meta(spec: &CheckSpec, carried: bool, reference: bool, able: bool) -> CheckMeta {
        CheckMeta {
            interval: spec.interval,
            timeout: spec.timeout,
            carried,
            network: network_of(spec.target.ip()),
            reference,
            able,
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(crate) fn watched(&self, id: CheckId) -> Option<&Watched> {
        self.checks.get(&id)
    }

    pub(crate) fn watched_mut(&mut self, id: CheckId) -> Option<&mut Watched> {
        self.checks.get_mut(&id)
    }

    pub(crate) fn all_watched(&self) -> impl Iterator<Item = &Watched> {
        self.checks.values()
    }

    pub(crate) fn add_check(&mut self, id: CheckId, spec: &Arc<CheckSpec>) {
        self.checks.entry(id).or_insert_with(|| Watched {
            spec: Arc::clone(spec),
            names: Vec::new(),
            published: None,
            refused: None,
            tenant: None,
        });
    }

    /// The same check at another address of its name.
    pub(crate) fn set_spec(&mut self, id: CheckId, spec: &Arc<CheckSpec>) {
        if let Some(watched) = self.checks.get_mut(&id) {
            watched.spec = Arc::clone(spec);
        }
    }

    pub(crate) fn set_tenant(&mut self, id: CheckId, tenant: &Arc<str>) {
        if let Some(watched) = self.checks.get_mut(&id) {
            watched.tenant = Some(Arc::clone(tenant));
        }
    }

    pub(crate) fn remove_check(&mut self, id: CheckId) {
        self.checks.remove(&id);
    }

    pub(crate) fn remove_name(&mut self, name: &Arc<str>) {
        if let Some(id) = self.names.remove(name) {
            self.unlink(id, name);
        }
    }

    /// A name looks at this check from now on. Gives the check that it looked
    /// at before; nothing changed if that is the same one.
    pub(crate) fn set_name(&mut self, name: &Arc<str>, id: CheckId) -> Option<CheckId> {
        let before = self.names.insert(Arc::clone(name), id);
        if before == Some(id) {
            return before;
        }
        if let Some(old) = before {
            self.unlink(old, name);
        }
        if let Some(watched) = self.checks.get_mut(&id) {
            watched.names.push(Arc::clone(name));
        }
        before
    }

    fn unlink(&mut self, id: CheckId, name: &Arc<str>) {
        if let Some(watched) = self.checks.get_mut(&id) {
            watched.names.retain(|known| known != name);
        }
    }
}
/// A number for the network that an address lies in: what is routed together, a
/// /24 or a /48.
fn network_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => (1 << 63) | u64::try_from(v6.to_bits() >> 80).unwrap_or(0),
    }
}
