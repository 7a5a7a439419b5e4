//! What a tenant may have: `[tenants.default]` for each, `[tenants."NAME"]` for
//! one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use watchfire_probe_core::limits::{INTERVAL_MIN, TIMEOUT_MAX};

use super::agent::within;
use super::duration::Span;
use super::origins::Entry;
use super::source::{ConfigError, Source};

/// The name of the quota of whoever has none of their own.
const DEFAULT: &str = "default";

/// Tenants that may have a quota of their own. More are refused.
const TENANTS: usize = 10_000;

/// What tenants may have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Quotas(BTreeMap<String, Quota>);

/// What one tenant may have; nothing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Quota {
    checks: Option<u64>,
    probes_per_s: Option<u64>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
}

/// As they are written.
pub(super) type RawQuotas = BTreeMap<Spanned<String>, RawQuota>;

/// As one is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQuota {
    checks_max: Option<Spanned<u64>>,
    probes_per_s_max: Option<Spanned<u64>>,
    interval_min: Option<Spanned<Span>>,
    timeout_max: Option<Spanned<Span>>,
}

/// Reads them.
pub(super) fn quotas(source: &Source, raw: &RawQuotas) -> Result<Quotas, ConfigError> {
    if let Some((name, _)) = raw.iter().nth(TENANTS) {
        return Err(source.error(
            name.span(),
            format!("there are quotas for more than {TENANTS} tenants"),
            "write one for most of them under [tenants.default]",
        ));
    }
    let read = |quota: &RawQuota| -> Result<Quota, ConfigError> {
        let number = |value: &Option<Spanned<u64>>, key| {
            let value = value.as_ref();
            value
                .map(|value| within(source, value, 1, u64::MAX, key))
                .transpose()
        };
        let interval = quota.interval_min.as_ref();
        if let Some(span) = interval.filter(|span| span.get_ref().0 < INTERVAL_MIN) {
            return Err(source.error(
                span.span(),
                format!("no interval is under {INTERVAL_MIN:?} anyway"),
                "write a longer one, or leave the key out",
            ));
        }
        let timeout = quota.timeout_max.as_ref();
        if let Some(span) = timeout.filter(|span| span.get_ref().0 > TIMEOUT_MAX) {
            return Err(source.error(
                span.span(),
                format!("no timeout is over {TIMEOUT_MAX:?} anyway"),
                "write a shorter one, or leave the key out",
            ));
        }
        Ok(Quota {
            checks: number(&quota.checks_max, "checks_max")?,
            probes_per_s: number(&quota.probes_per_s_max, "probes_per_s_max")?,
            interval: interval.map(|span| span.get_ref().0),
            timeout: timeout.map(|span| span.get_ref().0),
        })
    };
    let all = raw
        .iter()
        .map(|(name, quota)| Ok((name.get_ref().clone(), read(quota)?)));
    Ok(Quotas(all.collect::<Result<_, ConfigError>>()?))
}

/// What tenants have so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(BTreeMap<std::sync::Arc<str>, Used>);

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    checks: u64,
    probes_per_s: f64,
}

impl Quotas {
    fn of(&self, tenant: &str) -> Quota {
        let own = self.0.get(tenant).or_else(|| self.0.get(DEFAULT));
        own.copied().unwrap_or_default()
    }

    /// Counts one more origin. Names what is over its tenant's quota, if
    /// something is; it is counted all the same.
    pub(crate) fn count(&self, usage: &mut Usage, entry: &Entry) -> Option<String> {
        let (spec, tenant) = (entry.spec(), &entry.tenant);
        let used = usage.0.entry(tenant.clone()).or_default();
        let quota = self.of(tenant);
        used.checks += 1;
        used.probes_per_s += 1.0 / spec.interval.as_secs_f64();
        let fastest = [spec.fast_interval, spec.down_interval]
            .into_iter()
            .flatten()
            .fold(spec.interval, Duration::min);
        if let Some(most) = quota.checks.filter(|&most| used.checks > most) {
            return Some(format!("would have more than {most} checks"));
        }
        // Sums of many small numbers are not exact.
        let over = |most: &u64| used.probes_per_s > *most as f64 + 1e-6;
        if let Some(most) = quota.probes_per_s.filter(over) {
            return Some(format!("would have more than {most} probes a second"));
        }
        if let Some(least) = quota.interval.filter(|&least| fastest < least) {
            return Some(format!(
                "has an interval of {fastest:?} where the least is {least:?}"
            ));
        }
        if let Some(most) = quota.timeout.filter(|&most| spec.timeout > most) {
            return Some(format!(
                "has a timeout of {:?} where the longest is {most:?}",
                spec.timeout
            ));
        }
        None
    }
}
