//! `[resolver]`: who is asked for origins' names, and for how long answers count.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use watchfire_host::resolve::ResolveConfig;

use super::duration::Span;
use super::source::{ConfigError, Source};
use crate::limits::NAMESERVERS;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolverConfig {
    /// Who is asked; of none those of /etc/resolv.conf.
    pub(crate) nameservers: Vec<SocketAddr>,
    /// How long an answer of one of them is waited for.
    pub(crate) timeout: Duration,
    /// For how long answers count.
    pub(crate) times: ResolveConfig,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawResolver {
    #[serde(default)]
    nameservers: Vec<Spanned<String>>,
    timeout: Option<Spanned<Span>>,
    ttl_min: Option<Spanned<Span>>,
    ttl_max: Option<Spanned<Span>>,
    missing_after: Option<Spanned<Span>>,
}

/// How names are resolved, as the file wants it.
pub(super) fn resolver(source: &Source, raw: &RawResolver) -> Result<ResolverConfig, ConfigError> {
    let span =
        |span: &Option<Spanned<Span>>, name: &str, default_ms, [least_s, most_s]: [u64; 2]| {
            let Some(span) = span else {
                return Ok(Duration::from_millis(default_ms));
            };
            let value = span.get_ref().0;
            if (Duration::from_secs(least_s)..=Duration::from_secs(most_s)).contains(&value) {
                return Ok(value);
            }
            Err(source.error(
                span.span(),
                format!("{name} = {value:?} is out of range"),
                format!("choose {least_s}s to {most_s}s"),
            ))
        };
    let times = ResolveConfig {
        ttl_min: span(&raw.ttl_min, "ttl_min", 5_000, [1, 3_600])?,
        ttl_max: span(&raw.ttl_max, "ttl_max", 300_000, [1, 86_400])?,
        missing_after: span(&raw.missing_after, "missing_after", 30_000, [1, 86_400])?,
    };
    if let Some(most) = &raw.ttl_max
        && times.ttl_max < times.ttl_min
    {
        return Err(source.error(
            most.span(),
            "ttl_max is shorter than ttl_min",
            "choose at least ttl_min, which is 5s unless it is written",
        ));
    }
    if let Some(over) = raw.nameservers.get(NAMESERVERS) {
        return Err(source.error(
            over.span(),
            format!("there are more than {NAMESERVERS} name servers"),
            "the first that answers is heard; write those that are near",
        ));
    }
    let servers = raw.nameservers.iter().map(|text| {
        let plain = text.get_ref().parse::<IpAddr>();
        let addr = plain.map(|ip| SocketAddr::new(ip, 53));
        let addr = addr.or_else(|_| text.get_ref().parse::<SocketAddr>()).ok();
        addr.filter(|addr| addr.port() != 0 && !addr.ip().is_unspecified())
            .ok_or_else(|| {
                source.error(
                    text.span(),
                    format!("\"{}\" is not a name server's address", text.get_ref()),
                    "write it like \"192.0.2.53\" or \"192.0.2.53:5353\"",
                )
            })
    });
    Ok(ResolverConfig {
        nameservers: servers.collect::<Result<_, _>>()?,
        timeout: span(&raw.timeout, "timeout", 2_000, [1, 30])?,
        times,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<ResolverConfig, String> {
        let source = Source::from_text(Path::new("agent.toml"), format!("{text}\n")).unwrap();
        let raw: RawResolver = source.parse().map_err(|error| error.to_string())?;
        resolver(&source, &raw).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_counts_and_nonsense_is_refused_at_its_place() {
        let defaults = read("").unwrap();
        assert!(defaults.nameservers.is_empty());
        assert_eq!(defaults.times.ttl_min, Duration::from_secs(5));
        let written = read(
            "nameservers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\nttl_min = \"1s\"\n\
             ttl_max = \"1m\"\ntimeout = \"1s\"\nmissing_after = \"2s\"",
        );
        let written = written.unwrap();
        assert_eq!(written.nameservers[0].to_string(), "192.0.2.53:53");
        assert_eq!(written.nameservers[1].to_string(), "[2001:db8::53]:5353");
        assert_eq!(written.times.missing_after, Duration::from_secs(2));
        for (text, what) in [
            (
                "nameservers = [\"ns.example\"]",
                "not a name server's address",
            ),
            (
                "nameservers = [\"192.0.2.53:0\"]",
                "not a name server's address",
            ),
            ("ttl_min = \"500ms\"", "choose 1s to 3600s"),
            (
                "ttl_min = \"1m\"\nttl_max = \"30s\"",
                "shorter than ttl_min",
            ),
            ("timeout = \"31s\"", "choose 1s to 30s"),
            ("ttl_mim = \"1s\"", "ttl_mim"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
