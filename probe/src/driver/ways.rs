//! Socket plans of checks that say something of their way out of this host
//! themselves, made when the first probe of its kind needs one.

use std::collections::HashMap;
use std::sync::Arc;

use watchfire_probe_core::Egress;

use super::socket::{Manner, SocketPlan, SocketPlans};
use crate::limits::WAYS_KEPT;

/// One thread's plans by way.
#[derive(Default)]
pub(crate) struct Ways(HashMap<Egress, HashMap<(Manner, bool), Arc<SocketPlan>>>);

impl Ways {
    /// The plan of a way. Whoever uses it holds it: the kernel may read it
    /// until the operation has ended.
    pub(crate) fn plan(
        &mut self,
        plans: &SocketPlans,
        egress: &Egress,
        manner: Manner,
        v6: bool,
    ) -> Arc<SocketPlan> {
        if self.0.len() >= WAYS_KEPT && !self.0.contains_key(egress) {
            // Most likely of checks that are gone; what is not, is made anew.
            self.0.clear();
        }
        let of_way = match self.0.get_mut(egress) {
            Some(of_way) => of_way,
            None => self.0.entry(egress.clone()).or_default(),
        };
        let plan = of_way
            .entry((manner, v6))
            .or_insert_with(|| Arc::new(plans.make(egress, manner, v6)));
        Arc::clone(plan)
    }
}
