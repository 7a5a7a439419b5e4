//! The agent's own file: name, addresses, table, probe threads, and where the
//! origins are.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;
use watchfire_core::ownership::BrakeConfig;
use watchfire_probe as probe;
use watchfire_probe_core::limits::{POLICY_NETWORKS, USER_AGENT_BYTES};
use watchfire_probe_core::policy::{Network, NetworkError, Policy};
use watchfire_wire::limits::{DATAGRAM_BYTES, DATAGRAM_READ_BYTES, NODE_NAME_BYTES};

use super::admin::{AdminTcp, RawAdmin};
use super::brake::{RawBrake, brake};
use super::duration::Span;
use super::observe::{Chosen, Events, RawEvents, RawMetrics, chosen, events};
use super::origins::OriginDefaults;
use super::quota::{Quotas, RawQuotas, quotas};
use super::resolver::{RawResolver, ResolverConfig, resolver};
use super::source::{ConfigError, ConfigErrors, Source};

/// Smallest datagram budget that still carries every message, bytes.
const DATAGRAM_BYTES_LEAST: usize = 576;

/// Of the origins so many percent may leave at once, unless configured. A file
/// that was emptied by accident takes all or most; a roll-out takes some.
const REMOVALS_MAX_PERCENT: u8 = 50;

/// What one agent runs on.
#[derive(Clone, Debug)]
pub(crate) struct AgentConfig {
    /// The file that this was read from.
    pub(crate) file: PathBuf,
    /// The node's name, unique in the POP.
    pub(crate) name: String,
    /// Weight in rendezvous hashing; 0 owns nothing.
    pub(crate) capacity: u16,
    /// Where the epoch is kept between starts.
    pub(crate) state_dir: PathBuf,
    /// Membership and replication.
    pub(crate) gossip: Gossip,
    /// The probe threads.
    pub(crate) probe: probe::Options,
    /// Which addresses may be probed.
    pub(crate) policy: Policy,
    /// How names are resolved.
    pub(crate) resolver: ResolverConfig,
    /// When new Downs are held back.
    pub(crate) brake: BrakeConfig,
    /// How long to wait for a first member before probing alone.
    pub(crate) join_patience: Duration,
    /// The shared-memory table.
    pub(crate) table: TableConfig,
    /// The admin socket.
    pub(crate) admin_socket: PathBuf,
    /// Who may read there, beside the agent's user and root.
    pub(crate) admin_group: Option<String>,
    /// Where the admin API is served over TCP, if anywhere.
    pub(crate) admin_tcp: Option<AdminTcp>,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Origins that have metrics of their own though they are Up.
    pub(crate) metrics_origins: Chosen,
    /// Where transitions are written for others, if anywhere.
    pub(crate) events: Option<Events>,
    /// Where HAProxy's agent checks are answered, if anywhere.
    pub(crate) agent_check_listen: Option<SocketAddr>,
    /// Origins files or patterns, relative to [`AgentConfig::base`].
    pub(crate) origins: Vec<String>,
    /// What tenants may have.
    pub(crate) quotas: Quotas,
    /// Whether changed origins files are read without being told.
    pub(crate) watch_origins: bool,
    /// Of the origins so many percent may leave at once without being asked for.
    pub(crate) removals_max_percent: u8,
    /// What an origin is given where it says nothing itself.
    pub(crate) defaults: OriginDefaults,
}

/// Membership and replication.
#[derive(Clone, Debug)]
pub(crate) struct Gossip {
    /// Address and port, UDP and TCP.
    pub(crate) bind: SocketAddr,
    /// What the others are told; `bind` unless said otherwise.
    pub(crate) advertise: SocketAddr,
    /// Members to join through; kept for ever.
    pub(crate) join: Vec<SocketAddr>,
    /// The POP's keys.
    pub(crate) key_file: Option<PathBuf>,
    /// SWIM's protocol period.
    pub(crate) period: Duration,
    /// Datagram budget, bytes.
    pub(crate) datagram_bytes: usize,
}

/// The shared-memory table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TableConfig {
    /// Its file, on a tmpfs.
    pub(crate) path: PathBuf,
    /// Names that it is made for; it grows by moving.
    pub(crate) capacity: usize,
    /// Permissions of the file.
    pub(crate) mode: u32,
    /// A group that may read it.
    pub(crate) group: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: RawNode,
    gossip: RawGossip,
    #[serde(default)]
    probe: RawProbe,
    #[serde(default)]
    resolver: RawResolver,
    #[serde(default)]
    brake: RawBrake,
    #[serde(default)]
    tenants: RawQuotas,
    table: RawTable,
    admin: Option<RawAdmin>,
    metrics: Option<RawMetrics>,
    agent_check: Option<RawListen>,
    events: Option<RawEvents>,
    origins: RawOrigins,
    #[serde(default)]
    defaults: OriginDefaults,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Spanned<String>,
    capacity: Option<u16>,
    state_dir: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGossip {
    bind: Spanned<String>,
    advertise: Option<Spanned<String>>,
    #[serde(default)]
    join: Vec<Spanned<String>>,
    key_file: Option<PathBuf>,
    #[serde(default)]
    insecure: bool,
    period: Option<Spanned<Span>>,
    datagram_bytes: Option<Spanned<usize>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProbe {
    backend: Option<Spanned<String>>,
    threads: Option<Spanned<usize>>,
    pin_cores: Option<Vec<usize>>,
    in_flight_max: Option<Spanned<u32>>,
    #[serde(default)]
    source_addresses: Vec<IpAddr>,
    port_range: Option<Spanned<[u16; 2]>>,
    mark: Option<u32>,
    dscp: Option<Spanned<u8>>,
    per_address_per_s: Option<u32>,
    per_prefix_per_s: Option<u32>,
    prefix_bits_v4: Option<Spanned<u8>>,
    prefix_bits_v6: Option<Spanned<u8>>,
    tls_roots: Option<PathBuf>,
    user_agent: Option<Spanned<String>>,
    #[serde(default)]
    allow: Vec<Spanned<String>>,
    #[serde(default)]
    deny: Vec<Spanned<String>>,
    join_patience: Option<Spanned<Span>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    #[serde(default = "default_table")]
    path: PathBuf,
    capacity: Option<Spanned<usize>>,
    mode: Option<Spanned<String>>,
    group: Option<String>,
}

impl Default for RawTable {
    fn default() -> Self {
        Self {
            path: default_table(),
            capacity: None,
            mode: None,
            group: None,
        }
    }
}

/// Where the table is unless told otherwise: in a folder that is the agent's
/// own, so that nobody else can put a file there.
pub(crate) const TABLE: &str = "/run/watchfire/table";

fn default_table() -> PathBuf {
    TABLE.into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOrigins {
    files: Vec<String>,
    watch: Option<bool>,
    removals_max_percent: Option<Spanned<u8>>,
}

impl AgentConfig {
    /// Reads the agent's file. The files that it names are read by others.
    ///
    /// # Errors
    ///
    /// The file cannot be read or parsed, or values make no sense: all of those.
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let source = Source::read(path)?;
        let raw: Raw = source.parse()?;
        let base = path.parent().unwrap_or(Path::new("."));
        let mut errors = Errors::default();
        errors.keep(raw.defaults.check(&source));
        let name = errors.keep(node_name(&source, &raw.node.name));
        let gossip = errors.keep(gossip(&source, base, &raw.gossip));
        let shown = raw.node.name.get_ref();
        let probe = errors.keep(probe_options(&source, base, &raw.probe, shown));
        let policy = errors.keep(policy(&source, &raw.probe, gossip.as_ref()));
        let table = errors.keep(table(&source, base, &raw.table));
        let brake = errors.keep(brake(&source, &raw.brake));
        let resolver = errors.keep(resolver(&source, &raw.resolver));
        let quotas = errors
            .keep(quotas(&source, &raw.tenants))
            .unwrap_or_default();
        let mut listen = |raw: Option<&Spanned<String>>| errors.keep(address(&source, raw?));
        let metrics_listen = listen(raw.metrics.as_ref().map(|raw| &raw.listen));
        let agent_check_listen = listen(raw.agent_check.as_ref().map(|raw| &raw.listen));
        let admin = raw.admin.unwrap_or_default();
        let admin_tcp = errors.keep(admin.tcp(&source, base, address)).flatten();
        let written = raw.events.as_ref();
        let written = written.and_then(|raw| errors.keep(events(&source, base, raw)));
        let metrics_origins = match &raw.metrics {
            None => Some(Chosen::default()),
            Some(raw) => errors.keep(chosen(&source, &raw.origins)),
        };
        let removals_max_percent = match &raw.origins.removals_max_percent {
            None => Some(REMOVALS_MAX_PERCENT),
            Some(share) => errors.keep(within(&source, share, 0, 100, "removals_max_percent")),
        };
        let Errors(errors) = errors;
        let (Some(name), Some(gossip), Some(probe), Some(policy), Some(table), Some(brake)) =
            (name, gossip, probe, policy, table, brake)
        else {
            return Err(ConfigErrors(errors));
        };
        let (Some(removals), Some(metrics_origins), Some(resolver)) =
            (removals_max_percent, metrics_origins, resolver)
        else {
            return Err(ConfigErrors(errors));
        };
        if !errors.is_empty() {
            return Err(ConfigErrors(errors));
        }
        let (probe, join_patience) = probe;
        // The proxies read the table; what it says is what they may ask.
        let admin_group = admin.group.or_else(|| table.group.clone());
        Ok(Self {
            file: path.to_owned(),
            capacity: raw.node.capacity.unwrap_or(100),
            state_dir: base.join(
                raw.node
                    .state_dir
                    .unwrap_or_else(|| "/var/lib/watchfire".into()),
            ),
            gossip,
            probe,
            policy,
            resolver,
            brake,
            join_patience,
            table,
            admin_socket: base.join(
                admin
                    .socket
                    .unwrap_or_else(|| "/run/watchfire/admin.sock".into()),
            ),
            admin_group,
            admin_tcp,
            metrics_listen,
            metrics_origins,
            events: written,
            agent_check_listen,
            removals_max_percent: removals,
            quotas,
            origins: raw.origins.files,
            watch_origins: raw.origins.watch.unwrap_or(true),
            defaults: raw.defaults,
            name,
        })
    }

    /// The folder that relative paths start from: the file's own.
    pub(crate) fn base(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }
}

/// What is wrong so far.
#[derive(Default)]
struct Errors(Vec<ConfigError>);

impl Errors {
    fn keep<T>(&mut self, read: Result<T, ConfigError>) -> Option<T> {
        read.map_err(|error| self.0.push(error)).ok()
    }
}

fn node_name(source: &Source, name: &Spanned<String>) -> Result<String, ConfigError> {
    let text = name.get_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > NODE_NAME_BYTES || !text.chars().all(plain) {
        return Err(source.error(
            name.span(),
            format!("\"{text}\" cannot be a node's name"),
            format!("use 1 to {NODE_NAME_BYTES} of the characters a-z A-Z 0-9 - _ ."),
        ));
    }
    Ok(text.clone())
}

fn gossip(source: &Source, base: &Path, raw: &RawGossip) -> Result<Gossip, ConfigError> {
    let bind = member_address(source, &raw.bind)?;
    if bind.port() == 0 {
        return Err(source.error(
            raw.bind.span(),
            "port 0 is a different port at every start, and nobody could join",
            "name a port, like 7946",
        ));
    }
    if raw.key_file.is_none() && !raw.insecure && !bind.ip().is_loopback() {
        return Err(source.error(
            raw.bind.span(),
            format!("gossip on {bind} needs a key: anybody who reaches it could speak for the POP"),
            "write key_file = \"...\" (`watchfire key new` makes one), or insecure = true",
        ));
    }
    let advertise = match &raw.advertise {
        Some(text) => match member_address(source, text)? {
            addr if addr.ip().is_unspecified() || addr.port() == 0 => {
                return Err(source.error(
                    text.span(),
                    format!("{addr} is no address that other members could send to"),
                    "write this server's own address and port",
                ));
            }
            addr if !reaches(bind, addr) => {
                return Err(source.error(
                    text.span(),
                    format!("{addr} is of another family than gossip.bind, {bind}"),
                    "write both as IPv4, or both as IPv6",
                ));
            }
            addr => addr,
        },
        None if bind.ip().is_unspecified() => {
            return Err(source.error(
                raw.bind.span(),
                format!("{bind} is no address that other members could send to"),
                "bind to one address, or write advertise = \"ADDRESS:PORT\"",
            ));
        }
        None => bind,
    };
    let datagram_bytes = match &raw.datagram_bytes {
        None => DATAGRAM_BYTES,
        Some(bytes) if (DATAGRAM_BYTES_LEAST..=DATAGRAM_READ_BYTES).contains(bytes.get_ref()) => {
            *bytes.get_ref()
        }
        Some(bytes) => {
            return Err(source.error(
                bytes.span(),
                format!("datagram_bytes = {} is out of range", bytes.get_ref()),
                format!("choose {DATAGRAM_BYTES_LEAST} to {DATAGRAM_READ_BYTES}"),
            ));
        }
    };
    let period = match &raw.period {
        None => Duration::from_millis(200),
        Some(span) if span.get_ref().0 >= Duration::from_millis(50) => span.get_ref().0,
        Some(span) => {
            return Err(source.error(
                span.span(),
                "a period under 50 ms costs more than it finds",
                "choose 50ms or more; 200ms is the default",
            ));
        }
    };
    Ok(Gossip {
        bind,
        advertise,
        join: raw
            .join
            .iter()
            .map(|text| join_address(source, bind, text))
            .collect::<Result<_, _>>()?,
        key_file: raw.key_file.as_ref().map(|path| base.join(path)),
        period,
        datagram_bytes,
    })
}

/// Whether a socket on `bind` can send to `addr`: each to its own family, and
/// `[::]` to both.
fn reaches(bind: SocketAddr, addr: SocketAddr) -> bool {
    let both = bind.is_ipv6() && bind.ip().is_unspecified();
    both || addr.is_ipv4() == bind.is_ipv4()
}

fn join_address(
    source: &Source,
    bind: SocketAddr,
    text: &Spanned<String>,
) -> Result<SocketAddr, ConfigError> {
    let addr = member_address(source, text)?;
    if reaches(bind, addr) {
        return Ok(addr);
    }
    Err(source.error(
        text.span(),
        format!("{addr} is of another family than gossip.bind, {bind}"),
        "join by an address of the same family, or bind to [::], which is both",
    ))
}

/// A member's address in the one form that the POP knows: IPv4 in IPv6's form
/// is IPv4.
fn member_address(source: &Source, text: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    let addr = address(source, text)?;
    Ok(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
}

fn probe_options(
    source: &Source,
    base: &Path,
    raw: &RawProbe,
    name: &str,
) -> Result<(probe::Options, Duration), ConfigError> {
    let mut options = probe::Options {
        backend: backend(source, raw)?,
        pin_cores: raw.pin_cores.clone(),
        user_agent: match &raw.user_agent {
            None => user_agent(USER_AGENT, name),
            Some(text) => checked_user_agent(source, text, name)?,
        },
        source_addrs: raw.source_addresses.clone(),
        mark: raw.mark,
        ..probe::Options::default()
    };
    if let Some(threads) = &raw.threads {
        options.threads = within(source, threads, 1, 64, "threads")?;
    }
    if let Some(max) = &raw.in_flight_max {
        options.in_flight_max = within(source, max, 1, 19_000, "in_flight_max")?;
    }
    if let Some(range) = &raw.port_range {
        let [low, high] = *range.get_ref();
        if low == 0 || low >= high {
            return Err(source.error(
                range.span(),
                format!("[{low}, {high}] is not a range of ports"),
                "write the lowest and the highest port, like [20000, 60000]",
            ));
        }
        options.port_range = Some((low, high));
    }
    if let Some(dscp) = &raw.dscp {
        options.dscp = Some(within(source, dscp, 0, 63, "dscp")?);
    }
    options.rate_per_address = raw.per_address_per_s.or(options.rate_per_address);
    options.rate_per_prefix = raw.per_prefix_per_s.or(options.rate_per_prefix);
    if let Some(bits) = &raw.prefix_bits_v4 {
        options.prefix_len_v4 = within(source, bits, 8, 32, "prefix_bits_v4")?;
    }
    if let Some(bits) = &raw.prefix_bits_v6 {
        options.prefix_len_v6 = within(source, bits, 16, 128, "prefix_bits_v6")?;
    }
    options.tls_roots = raw.tls_roots.as_ref().map(|path| base.join(path));
    options.validate().map_err(|error| {
        ConfigError::of_file(
            source.path(),
            error.to_string(),
            "correct the [probe] section",
        )
    })?;
    let patience = raw
        .join_patience
        .as_ref()
        .map_or(Duration::from_secs(3), |span| span.get_ref().0);
    Ok((options, patience))
}

fn policy(source: &Source, raw: &RawProbe, gossip: Option<&Gossip>) -> Result<Policy, ConfigError> {
    let networks = |texts: &[Spanned<String>]| -> Result<Vec<Network>, ConfigError> {
        if let Some(beyond) = texts.get(POLICY_NETWORKS) {
            return Err(source.error(
                beyond.span(),
                format!("there are more than {POLICY_NETWORKS} networks"),
                "write fewer and wider ones",
            ));
        }
        let read = texts.iter().map(|text| {
            text.get_ref().parse().map_err(|error: NetworkError| {
                source.error(text.span(), error.to_string(), error.hint())
            })
        });
        read.collect()
    };
    let mut members = gossip.map(|gossip| gossip.join.clone()).unwrap_or_default();
    members.extend(gossip.map(|gossip| gossip.advertise));
    Ok(Policy {
        allow: networks(&raw.allow)?,
        deny: networks(&raw.deny)?,
        bind: gossip.map(|gossip| gossip.bind),
        members,
    })
}

fn backend(source: &Source, raw: &RawProbe) -> Result<probe::Backend, ConfigError> {
    let Some(name) = &raw.backend else {
        return Ok(probe::Backend::Auto);
    };
    name.get_ref()
        .parse()
        .map_err(|error: probe::UnknownBackend| {
            source.error(name.span(), error.to_string(), "leave the key out for auto")
        })
}

/// What probes call themselves unless configured. It does not tell origins, who
/// may be anybody's, what the servers of this POP are called.
pub(crate) const USER_AGENT: &str = "watchfire/{version}";

/// What probes call themselves where origins may know who asked.
pub(crate) const USER_AGENT_OF_NODE: &str = "watchfire/{version} ({node})";

/// What probes call themselves, with `{version}` and `{node}` filled in.
pub(crate) fn user_agent(template: &str, node: &str) -> String {
    template
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{node}", node)
}

fn checked_user_agent(
    source: &Source,
    text: &Spanned<String>,
    name: &str,
) -> Result<String, ConfigError> {
    let agent = user_agent(text.get_ref(), name);
    let plain = |c: char| c == ' ' || c.is_ascii_graphic();
    if agent.is_empty() || agent.len() > USER_AGENT_BYTES || !agent.chars().all(plain) {
        return Err(source.error(
            text.span(),
            format!("user_agent = {:?} cannot be sent", text.get_ref()),
            format!("write 1 to {USER_AGENT_BYTES} characters of printable ASCII"),
        ));
    }
    Ok(agent)
}

fn table(source: &Source, base: &Path, raw: &RawTable) -> Result<TableConfig, ConfigError> {
    let capacity = match &raw.capacity {
        None => 65_536,
        Some(capacity) => within(source, capacity, 16, 4_194_304, "capacity")?,
    };
    let mode = match &raw.mode {
        None => 0o640,
        Some(text) => u32::from_str_radix(text.get_ref(), 8)
            .ok()
            .filter(|mode| mode & !0o644 == 0 && mode & 0o600 == 0o600)
            .ok_or_else(|| {
                source.error(
                    text.span(),
                    format!("\"{}\" cannot be the table's mode", text.get_ref()),
                    "write octal digits like \"0640\": the owner reads and writes, others read",
                )
            })?,
    };
    Ok(TableConfig {
        path: base.join(&raw.path),
        capacity,
        mode,
        group: raw.group.clone(),
    })
}

fn address(source: &Source, text: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    text.get_ref().parse().map_err(|_| {
        source.error(
            text.span(),
            format!("\"{}\" is not an address and port", text.get_ref()),
            "write it like \"192.0.2.1:7946\" or \"[2001:db8::1]:7946\"",
        )
    })
}

pub(super) fn within<T>(
    source: &Source,
    value: &Spanned<T>,
    low: T,
    high: T,
    key: &str,
) -> Result<T, ConfigError>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    let number = *value.get_ref();
    if number < low || number > high {
        return Err(source.error(
            value.span(),
            format!("{key} = {number} is out of range"),
            format!("choose {low} to {high}"),
        ));
    }
    Ok(number)
}
