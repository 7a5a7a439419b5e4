//! A new content by which a tenant would have more than its quota does not
//! count. What counted before is not taken away: a quota that was lowered
//! concerns what is written from then on.

use super::decide::Candidate;
use crate::config::{ConfigError, Quotas, Usage};

/// Holds files whose new content is over a tenant's quota.
pub(super) fn hold(candidates: &mut [Candidate], quotas: &Quotas) {
    let mut usage = Usage::default();
    // What counts already counts first.
    let (new, old): (Vec<usize>, Vec<usize>) =
        (0..candidates.len()).partition(|&place| candidates[place].new.is_some());
    for place in old.into_iter().chain(new) {
        let Some((after, over)) = with(&candidates[place], &usage, quotas) else {
            continue;
        };
        usage = match over {
            Some(error) if candidates[place].new.is_some() => {
                candidates[place].hold(vec![error]);
                match with(&candidates[place], &usage, quotas) {
                    Some((last_good, _)) => last_good,
                    None => usage,
                }
            }
            _ => after,
        };
    }
}

/// What tenants have with this file, and what of it is over a quota.
fn with(
    candidate: &Candidate,
    before: &Usage,
    quotas: &Quotas,
) -> Option<(Usage, Option<ConfigError>)> {
    let origins = &candidate.in_force()?.origins;
    let mut usage = before.clone();
    let mut over = None;
    for entry in &origins.origins {
        let what = quotas.count(&mut usage, entry);
        if let (Some(what), None) = (what, &over) {
            let (tenant, name) = (&entry.tenant, &entry.name);
            over = Some(ConfigError {
                line: Some(entry.line()),
                ..ConfigError::of_file(
                    &origins.path,
                    format!("origin \"{name}\": tenant \"{tenant}\" {what}"),
                    "write fewer or slower checks, or have the quota raised ([tenants] in the \
                     agent's file)",
                )
            });
        }
    }
    Some((usage, over))
}
