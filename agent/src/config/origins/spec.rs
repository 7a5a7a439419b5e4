//! An origin's keys as the check that they define.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use watchfire_probe_core::check::{
    CheckSpec, DEFAULT_INTERVAL, DEFAULT_TIMEOUT, HealthRule, SpecError,
};
use watchfire_probe_core::keys::{self, KeyError, Keys, Value};
use watchfire_probe_core::kind::usual_port;
use watchfire_probe_core::limits::{RISE_FALL_MAX, WINDOW_MAX};
use watchfire_probe_core::{Egress, HostName, Kind, ProxyHeader, TlsSpec};
use watchfire_wire::Verdict;

use super::super::duration;
use super::super::keys::{Layers, kind_names};
use super::ConfigError;

/// The check that the keys define.
pub(super) fn read(layers: &mut Layers<'_>) -> Result<CheckSpec, ConfigError> {
    let read = read_keys(layers);
    let spec = read.map_err(|error| layers.error(&error))?;
    layers.refuse_the_rest(spec.kind_key())?;
    spec.validate().map_err(|error| match error {
        SpecError::Key(error) => layers.error(&error),
        other => layers.error(&KeyError::new(
            key_of(&other),
            other.to_string(),
            "correct this origin, or the defaults that it takes",
        )),
    })?;
    Ok(spec)
}

fn read_keys(layers: &mut Layers<'_>) -> Result<CheckSpec, KeyError> {
    let Where { name, target, zone } = Where::read(layers)?;
    let kind = keys::text(layers, "kind")?.unwrap_or_else(|| "http".to_owned());
    let mut named = Named {
        host: name
            .as_ref()
            .map(|name| host_header(name, target.port(), &kind)),
        keys: layers,
    };
    let (kind, in_tls) = Kind::read(&kind, &mut named, &target).unwrap_or_else(|| {
        Err(KeyError::new(
            "kind",
            format!("\"{kind}\" is not a kind of check"),
            format!("write one of {}", kind_names().join(", ")),
        ))
    })?;
    let tls = if in_tls {
        let server_name = kind.server_name().or(name.as_ref().map(HostName::as_str));
        Some(TlsSpec::read(layers, server_name, target.ip())?)
    } else {
        None
    };
    // A kind that sends nothing does not take the key, and says so as of any
    // key that it does not have.
    let proxy = if kind.carries_bytes(in_tls) {
        ProxyHeader::read(layers)?
    } else {
        None
    };
    let egress = by_zone(Egress::read(layers)?, zone)?;
    let interval = span(layers, "interval")?.unwrap_or(DEFAULT_INTERVAL);
    Ok(CheckSpec {
        target,
        name,
        kind,
        tls,
        proxy,
        egress,
        interval,
        timeout: span(layers, "timeout")?.unwrap_or(interval.min(DEFAULT_TIMEOUT)),
        fast_interval: span(layers, "fast_interval")?,
        down_interval: span(layers, "down_interval")?,
        rule: rule(layers)?,
    })
}

/// Where the origin is.
struct Where {
    /// A name, whose address is found at run time.
    name: Option<HostName>,
    /// The address; that of a name is unspecified.
    target: SocketAddr,
    /// The interface of a link-local address, by its name.
    zone: Option<String>,
}

impl Where {
    fn read(layers: &mut Layers<'_>) -> Result<Self, KeyError> {
        let text = keys::text(layers, "address")?.unwrap_or_default();
        let at = |target, zone| Self {
            name: None,
            target,
            zone,
        };
        if let Ok(target) = text.parse() {
            return Ok(at(target, None));
        }
        if let Some((addr, zone, port)) = zoned(&text)
            && let Ok(target) = format!("{addr}{port}").parse::<SocketAddrV6>()
            && target.ip().is_unicast_link_local()
        {
            return Ok(at(target.into(), Some(zone.to_owned())));
        }
        let error = |what: &str| {
            KeyError::new(
                "address",
                format!("\"{text}\" {what}"),
                "write it like \"192.0.2.10:8080\", \"[2001:db8::10]:8080\" or \"app.example:8080\"",
            )
        };
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !name.contains([':', '[']) => (name, port),
            _ => return Err(error("is not an address and port, or a name and port")),
        };
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|_| digits);
        let port = port.ok_or_else(|| error("does not end with a port"))?;
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        Ok(Self {
            name: Some(HostName::parse(name)?),
            target: SocketAddr::new(nowhere, port),
            zone: None,
        })
    }
}

/// `[fe80::1%eth0]:80` as `[fe80::1`, `eth0` and `]:80`.
fn zoned(text: &str) -> Option<(&str, &str, &str)> {
    let (addr, rest) = text.split_once('%')?;
    let (zone, port) = rest.split_at(rest.find(']')?);
    (!zone.is_empty()).then_some((addr, zone, port))
}

/// A zone that has a name is the interface that the check leaves by: by its name it is
/// the same check on every server, whatever number its interface has there.
fn by_zone(
    egress: Option<Box<Egress>>,
    zone: Option<String>,
) -> Result<Option<Box<Egress>>, KeyError> {
    let Some(zone) = zone else {
        return Ok(egress);
    };
    let mut egress = egress.unwrap_or_default();
    match &egress.interface {
        Some(other) if *other != zone => Err(KeyError::new(
            "interface",
            format!("interface = \"{other}\" and the address says \"{zone}\""),
            "write it in one of the two",
        )),
        _ => {
            egress.interface = Some(zone);
            let named = egress.validate(None);
            named.map_err(|error| KeyError::new("address", error.what, error.hint))?;
            Ok(Some(egress))
        }
    }
}

/// A name as a Host header has it: with its port, unless that is the kind's own.
fn host_header(name: &HostName, port: u16, kind: &str) -> String {
    if usual_port(kind) == Some(port) {
        name.to_string()
    } else {
        format!("{name}:{port}")
    }
}

/// The keys of a check of a name: a kind that takes a Host is given the name's, where
/// it is not written, in place of the address's.
struct Named<'a, 'b> {
    host: Option<String>,
    keys: &'a mut Layers<'b>,
}

impl Keys for Named<'_, '_> {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        let written = self.keys.take(key);
        match &self.host {
            Some(host) if key == "host" => written.or_else(|| Some(Value::Text(host.clone()))),
            _ => written,
        }
    }
}

/// How outcomes become a verdict: as the nearest of origin, file and agent
/// says that speaks of it. One that speaks of rise or fall means those, one
/// that speaks of a window means that, and what it leaves out comes from
/// further away.
fn rule(layers: &mut Layers<'_>) -> Result<HealthRule, KeyError> {
    let counts = layers.nearest(&["rise", "fall"]);
    let windows = layers.nearest(&["window", "threshold", "initial"]);
    let most = i64::from(RISE_FALL_MAX);
    let rise = keys::number(layers, "rise", 1, most)?.unwrap_or(2);
    let fall = keys::number(layers, "fall", 1, most)?.unwrap_or(3);
    let most = i64::from(WINDOW_MAX);
    let window = keys::number(layers, "window", 1, most)?;
    let threshold = keys::number(layers, "threshold", 1, most)?;
    let initials = [
        ("up", Verdict::Up),
        ("down", Verdict::Down),
        ("unknown", Verdict::Unknown),
    ];
    let initial = keys::word(layers, "initial", &initials)?.unwrap_or(Verdict::Unknown);
    match (counts, windows) {
        (Some(counts), Some(windows)) if counts == windows => Err(KeyError::new(
            if layers.has(counts, "rise") {
                "rise"
            } else {
                "fall"
            },
            "rise and fall do not go with window and threshold",
            "choose one of the two ways",
        )),
        (Some(counts), Some(windows)) if counts > windows => in_window(window, threshold, initial),
        (None, Some(_)) => in_window(window, threshold, initial),
        _ => Ok(HealthRule::RiseFall {
            rise: small(rise),
            fall: small(fall),
        }),
    }
}

fn in_window(
    window: Option<i64>,
    threshold: Option<i64>,
    initial: Verdict,
) -> Result<HealthRule, KeyError> {
    match (window, threshold) {
        (Some(window), Some(threshold)) => Ok(HealthRule::Window {
            window: small(window),
            threshold: small(threshold),
            initial,
        }),
        (window, _) => Err(KeyError::new(
            if window.is_some() {
                "window"
            } else {
                "threshold"
            },
            "window and threshold go together",
            "write both, or use rise and fall",
        )),
    }
}

/// A number that was read within the bounds of a byte.
fn small(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn span(layers: &mut Layers<'_>, key: &'static str) -> Result<Option<Duration>, KeyError> {
    let Some(text) = keys::text(layers, key)? else {
        return Ok(None);
    };
    let hint = "write a duration with its unit, like \"500ms\" or \"1s\"";
    duration::parse(&text)
        .map(Some)
        .map_err(|what| KeyError::new(key, what, hint))
}

/// The key that is at fault when a rule of the whole check is broken.
const fn key_of(error: &SpecError) -> &'static str {
    match error {
        SpecError::PortZero | SpecError::NotUnicast(_) | SpecError::NoZone(_) => "address",
        SpecError::TimeoutTooShort(_)
        | SpecError::TimeoutTooLong(_)
        | SpecError::TimeoutAboveInterval { .. } => "timeout",
        SpecError::Interval { .. } | SpecError::TooFine { .. } => "interval",
        SpecError::RiseFall { .. } => "rise",
        SpecError::Window { .. } => "window",
        SpecError::Key(error) => error.key,
    }
}
