//! The resolver thread: asks the DNS what [`Names`] wants to know, and hands on what is
//! news. It waits for the network, and nobody waits for it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig as Servers,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use watchfire_host::resolve::{Family, Known, Names, News, Queries};
use watchfire_probe_core::HostName;
use watchfire_wire::Time;

use crate::clock;
use crate::config::ResolverConfig;
use crate::limits::NEWS;

/// Whose name servers are asked unless the configuration names some.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// From one look at it to the next.
const RESOLV_CONF_LOOK: Duration = Duration::from_secs(10);

/// What of the thread its owner holds. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Resolver {
    wanted: watch::Sender<BTreeSet<HostName>>,
    asked: Arc<Mutex<Queries>>,
}

impl Resolver {
    /// Starts the thread, which asks for nothing yet. What becomes known of names comes
    /// by the receiver; while nobody takes it, nothing more is asked.
    pub(crate) fn start(
        config: &ResolverConfig,
    ) -> std::io::Result<(Self, mpsc::Receiver<Vec<News>>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (wanted, wants) = watch::channel(BTreeSet::new());
        let (sender, news) = mpsc::channel(NEWS);
        let asked = Arc::new(Mutex::new(Queries::default()));
        let thread = Thread {
            names: Names::new(config.times),
            servers: NameServers::new(config),
            asked: Arc::clone(&asked),
            news: sender,
        };
        std::thread::Builder::new()
            .name("resolver".into())
            .spawn(move || runtime.block_on(thread.run(wants)))?;
        Ok((Self { wanted, asked }, news))
    }

    /// Only these names are asked for from now on.
    pub(crate) fn want(&self, names: BTreeSet<HostName>) {
        self.wanted.send_if_modified(|wanted| {
            let other = *wanted != names;
            *wanted = names;
            other
        });
    }

    /// What was asked and answered, as it goes on.
    pub(crate) fn asked(&self) -> Arc<Mutex<Queries>> {
        Arc::clone(&self.asked)
    }
}

/// Asks for one name, once, on this thread.
///
/// # Errors
///
/// The runtime cannot be made.
pub(crate) fn once(config: &ResolverConfig, name: &HostName) -> std::io::Result<Known> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut names = Names::new(config.times);
    names.want(Time::ZERO, &BTreeSet::from([name.clone()]));
    names.poll_query(Time::ZERO);
    let resolver = NameServers::new(config).now();
    let (v4, v6) = runtime.block_on(ask(resolver, name.clone()));
    let news = names.answered(Time::ZERO, name, v4, v6);
    Ok(news.map(|news| news.known).unwrap_or_default())
}

struct Thread {
    names: Names,
    servers: NameServers,
    asked: Arc<Mutex<Queries>>,
    news: mpsc::Sender<Vec<News>>,
}

impl Thread {
    /// Until nobody wants names any more.
    async fn run(mut self, mut wants: watch::Receiver<BTreeSet<HostName>>) {
        let mut flights = JoinSet::new();
        // By task, so that one that panics is an answer too.
        let mut asking: HashMap<tokio::task::Id, HostName> = HashMap::new();
        loop {
            while let Some(name) = self.names.poll_query(clock::now()) {
                let task = flights.spawn(ask(self.servers.now(), name.clone()));
                asking.insert(task.id(), name);
            }
            *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = self.names.asked();
            let now = clock::now();
            let sleep = self.names.next_timeout();
            tokio::select! {
                changed = wants.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = wants.borrow_and_update().clone();
                    self.names.want(now, &wanted);
                }
                Some(ended) = flights.join_next_with_id(), if !flights.is_empty() => {
                    let (id, (v4, v6)) = match ended {
                        Ok(ended) => ended,
                        Err(error) => {
                            let failed = Family::Failed("an unexpected error on our side".into());
                            (error.id(), (failed.clone(), failed))
                        }
                    };
                    let Some(name) = asking.remove(&id) else { continue };
                    if let Some(news) = self.names.answered(clock::now(), &name, v4, v6)
                        && self.news.send(vec![news]).await.is_err()
                    {
                        return;
                    }
                }
                () = tokio::time::sleep(sleep.since(now)), if sleep != Time::NEVER => {}
            }
        }
    }
}

/// Who is asked, or why nobody can be.
type Asking = Result<TokioResolver, Arc<str>>;

/// The name servers, those of /etc/resolv.conf as they are now.
struct NameServers {
    config: ResolverConfig,
    resolver: Asking,
    looked: Instant,
    seen: Option<SystemTime>,
}

impl NameServers {
    fn new(config: &ResolverConfig) -> Self {
        Self {
            resolver: resolver(config),
            config: config.clone(),
            looked: Instant::now(),
            seen: modified(),
        }
    }

    fn now(&mut self) -> Asking {
        if self.config.nameservers.is_empty() && self.looked.elapsed() >= RESOLV_CONF_LOOK {
            self.looked = Instant::now();
            let seen = modified();
            if seen != self.seen {
                self.seen = seen;
                self.resolver = resolver(&self.config);
            }
        }
        self.resolver.clone()
    }
}

fn modified() -> Option<SystemTime> {
    let meta = std::fs::metadata(Path::new(RESOLV_CONF));
    meta.and_then(|meta| meta.modified()).ok()
}

fn resolver(config: &ResolverConfig) -> Asking {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if config.nameservers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| format!("{RESOLV_CONF}: {error}"))?
    } else {
        let servers = config.nameservers.iter().map(|addr| {
            let at = |mut connection: ConnectionConfig| {
                connection.port = addr.port();
                connection
            };
            let both = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
            NameServerConfig::new(addr.ip(), true, both)
        });
        TokioResolver::builder_with_config(Servers::from_name_servers(servers.collect()), provider)
    };
    let options = builder.options_mut();
    options.timeout = config.timeout;
    // Answers are kept by name, for as long as the floor and the ceiling say.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| error.to_string().into())
}

/// Asks for the addresses of both families.
async fn ask(resolver: Asking, name: HostName) -> (Family, Family) {
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(why) => return (Family::Failed(Arc::clone(&why)), Family::Failed(why)),
    };
    // The dot at its end keeps search lists away.
    let name = format!("{name}.");
    let of = |kind| {
        let asked = resolver.lookup(name.clone(), kind);
        async move { family(asked.await.map(LookupIp::from)) }
    };
    tokio::join!(of(RecordType::A), of(RecordType::AAAA))
}

fn family(answer: Result<LookupIp, NetError>) -> Family {
    match answer {
        Ok(found) => {
            let lasts = found
                .valid_until()
                .saturating_duration_since(Instant::now());
            // It counts in whole seconds, and some of this one has passed.
            let lasts = Duration::from_secs_f64(lasts.as_secs_f64().ceil());
            Family::Answered(found.iter().collect::<Vec<IpAddr>>(), lasts)
        }
        Err(error) if error.is_no_records_found() => Family::Answered(Vec::new(), NEGATIVE),
        Err(error) => Family::Failed(error.to_string().into()),
    }
}

/// What there is not is asked for again as soon as [`Names`] will.
const NEGATIVE: Duration = Duration::MAX;
