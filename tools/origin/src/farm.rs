//! The farm as its users see it: start it, break some of its origins, take its
//! log, stop it.

use core::ops::Range;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mio::{Poll, Waker};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use thiserror::Error;

use crate::behaviour::Behaviours;
use crate::connection::Surroundings;
use crate::fault::{Fault, FaultError};
use crate::hits::{AgentCache, Agents, Hit, HitLog};
use crate::limits::{DROPPED_RANGES_MAX, LISTENERS_MAX, ORIGINS_MAX, PORT_TRIES, THREADS_MAX};
use crate::listen::Listener;
use crate::worker::{Order, Slab, WAKE, Worker};

/// What a farm is to be.
#[derive(Clone, Debug)]
pub struct FarmOptions {
    /// The first origin's address; the others follow it. All within 127.0.0.0/8.
    pub first: Ipv4Addr,
    /// How many origins, at most [`ORIGINS_MAX`](crate::limits::ORIGINS_MAX).
    pub count: u32,
    /// The port of all of them; 0 chooses a free one.
    pub port: u16,
    /// What they speak.
    pub kind: Kind,
    /// Threads that serve them.
    pub threads: usize,
    /// Keep a log of hits, for [`Farm::take_hits`].
    pub record: bool,
    /// How they listen.
    pub listen: Listen,
    /// Pin thread n to this core + n.
    pub first_core: Option<usize>,
}

/// What an origin speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1 with persistent connections: `200 OK` to everything.
    #[default]
    Http,
    /// Accepts, never says a word, and closes when the client does.
    Tcp,
}

/// How a farm listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// A socket per origin if there are at most
    /// [`LISTENERS_MAX`](crate::limits::LISTENERS_MAX), wildcards otherwise.
    #[default]
    Auto,
    /// A socket per origin: the only way to refuse.
    Each,
    /// One socket per thread for all origins, tied to the loopback device: the
    /// cheapest way.
    Wildcard,
}

impl Default for FarmOptions {
    /// One HTTP origin on 127.20.0.1, one thread, no log.
    fn default() -> Self {
        Self {
            first: Ipv4Addr::new(127, 20, 0, 1),
            count: 1,
            port: 0,
            kind: Kind::Http,
            threads: 1,
            record: false,
            listen: Listen::Auto,
            first_core: None,
        }
    }
}

/// Why a farm did not do what it was told.
#[derive(Debug, Error)]
pub enum FarmError {
    /// The origins are not those of this farm. Nothing changed.
    #[error("origins {start}..{end} are not in this farm of {count}; name some below {count}")]
    NoSuchOrigins {
        /// The first one named.
        start: u32,
        /// One past the last one named.
        end: u32,
        /// How many there are.
        count: u32,
    },
    /// The fault cannot be. Nothing changed.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A farm on wildcard sockets cannot refuse. Nothing changed.
    #[error(
        "this farm shares its listening sockets (it has more than {LISTENERS_MAX} origins, or was \
         told to) and cannot refuse for some; start one with a socket each, or use blackhole or \
         reset-accept"
    )]
    CannotRefuse,
    /// Too many separate ranges of dropped addresses. Nothing changed.
    #[error(
        "a farm on shared sockets drops for at most {DROPPED_RANGES_MAX} separate ranges; name \
         neighbouring origins"
    )]
    TooManyRanges,
    /// The kernel did not let an origin listen again or drop its packets. The
    /// other origins changed as they were told.
    #[error("the kernel did not let the fault be changed: {0}; clear it and set it again")]
    Kernel(#[from] io::Error),
    /// A thread of the farm has ended.
    #[error("the farm has stopped; start another one")]
    Stopped,
}

/// What a farm counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Connections accepted and served. Those that the kernel ended before are
    /// in [`KernelCounts`](crate::KernelCounts) alone.
    pub connections: u64,
    /// Whole HTTP requests read.
    pub requests: u64,
    /// Connections reset on purpose.
    pub resets: u64,
    /// Connections closed at once for want of room, or because their address
    /// is none of an origin.
    pub turned_away: u64,
    /// Accepts that failed for want of descriptors or memory.
    pub accept_errors: u64,
    /// Hits that the log had no room for.
    pub hits_dropped: u64,
}

/// Origins on consecutive loopback addresses, served by threads of their own
/// until it is stopped or dropped.
#[derive(Debug)]
pub struct Farm {
    first: Ipv4Addr,
    count: u32,
    port: u16,
    shared_sockets: bool,
    behaviours: Mutex<Arc<Behaviours>>,
    counters: Vec<Arc<Counters>>,
    log: Arc<HitLog>,
    agents: Arc<Agents>,
    threads: Vec<Thread>,
}

impl Farm {
    /// Starts a farm; when this returns, all of its origins answer.
    ///
    /// # Errors
    ///
    /// If the options contradict a [limit](crate::limits) or each other, if the
    /// port is taken, or if the kernel refuses sockets or threads.
    pub fn start(options: FarmOptions) -> io::Result<Self> {
        let shared_sockets = check(&options)?;
        let (listeners, port) = listen(&options, shared_sockets)?;
        let mut farm = Self {
            first: options.first,
            count: options.count,
            port,
            shared_sockets,
            behaviours: Mutex::new(Arc::new(Behaviours::healthy(options.count))),
            counters: Vec::new(),
            log: Arc::new(HitLog::default()),
            agents: Arc::new(Agents::new()),
            threads: Vec::new(),
        };
        for (index, listeners) in listeners.into_iter().enumerate() {
            farm.start_thread(index, listeners, &options)?;
        }
        Ok(farm)
    }

    /// How many origins it has.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Where origin `origin` listens, counted from zero.
    ///
    /// # Panics
    ///
    /// If there is no such origin.
    #[must_use]
    pub fn address(&self, origin: u32) -> SocketAddr {
        assert!(origin < self.count, "origin {origin} of {}", self.count);
        SocketAddr::from((
            Ipv4Addr::from_bits(self.first.to_bits() + origin),
            self.port,
        ))
    }

    /// Which origin has this address.
    #[must_use]
    pub fn origin_at(&self, address: Ipv4Addr) -> Option<u32> {
        let origin = address.to_bits().checked_sub(self.first.to_bits())?;
        (origin < self.count).then_some(origin)
    }

    /// Gives these origins a fault instead of whatever they had. Holds for
    /// every connection and request that arrives after this returns; an answer
    /// that has begun goes on as it began. Refusing resets open connections,
    /// and a black hole swallows them too.
    ///
    /// # Errors
    ///
    /// [`FarmError`], which says whether anything changed.
    pub fn set_fault(&self, origins: Range<u32>, fault: Fault) -> Result<(), FarmError> {
        self.change(origins, Some(fault.check()?))
    }

    /// Heals these origins.
    ///
    /// # Errors
    ///
    /// [`FarmError`], which says whether anything changed.
    pub fn clear_fault(&self, origins: Range<u32>) -> Result<(), FarmError> {
        self.change(origins, None)
    }

    /// The fault of this origin, if it has one.
    ///
    /// # Panics
    ///
    /// If there is no such origin.
    #[must_use]
    pub fn fault(&self, origin: u32) -> Option<Fault> {
        self.current().fault(origin)
    }

    /// Moves all recorded hits to the end of `into`, in the order in which
    /// they ended on each thread. A hit is there within a turn of its thread.
    pub fn take_hits(&self, into: &mut Vec<Hit>) {
        self.log.take(into);
    }

    /// The user agent that a hit's `who` stands for: `-` if it gave none.
    #[must_use]
    pub fn who(&self, who: u32) -> String {
        self.agents.name(who).unwrap_or_else(|| "-".to_owned())
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts {
            hits_dropped: self.log.dropped(),
            ..Counts::default()
        };
        for counters in &self.counters {
            sum.connections += counters.connections.get();
            sum.requests += counters.requests.get();
            sum.resets += counters.resets.get();
            sum.turned_away += counters.turned_away.get();
            sum.accept_errors += counters.accept_errors.get();
        }
        sum
    }

    /// Closes everything and waits until the threads have ended.
    pub fn stop(self) {
        drop(self);
    }

    fn start_thread(
        &mut self,
        index: usize,
        listeners: Vec<Listener>,
        options: &FarmOptions,
    ) -> io::Result<()> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (orders, receiver) = channel();
        let counters = Arc::new(Counters::default());
        self.counters.push(Arc::clone(&counters));
        let around = Surroundings {
            registry: poll.registry().try_clone()?,
            behaviours: Arc::clone(&self.current()),
            counters,
            agents: Arc::clone(&self.agents),
            cache: AgentCache::default(),
            hits: Vec::new(),
            record: options.record,
            kind: options.kind,
            now_us: 0,
        };
        let mut worker = Worker {
            poll,
            listeners,
            around,
            orders: receiver,
            log: Arc::clone(&self.log),
            first: self.first,
            count: self.count,
            connections: Slab::default(),
            timers: BinaryHeap::new(),
            backlogged: Vec::new(),
            starved: false,
            scratch: Worker::scratch(),
        };
        worker.register_all()?;
        let core = options.first_core.map(|core| core + index);
        let handle = std::thread::Builder::new()
            .name(format!("origin-{index}"))
            .spawn(move || {
                if let Some(core) = core {
                    pin(core);
                }
                worker.run();
            })?;
        self.threads.push(Thread {
            orders,
            waker,
            handle: Some(handle),
        });
        Ok(())
    }

    fn change(&self, origins: Range<u32>, fault: Option<Fault>) -> Result<(), FarmError> {
        if origins.start >= origins.end || origins.end > self.count {
            let Range { start, end } = origins;
            return Err(FarmError::NoSuchOrigins {
                start,
                end,
                count: self.count,
            });
        }
        if fault == Some(Fault::Refuse) && self.shared_sockets {
            return Err(FarmError::CannotRefuse);
        }
        let mut current = self
            .behaviours
            .lock()
            .expect("no thread panics while it holds them");
        let next = Arc::new(current.with(origins, fault));
        if self.shared_sockets && next.runs_of(Fault::Blackhole).len() > DROPPED_RANGES_MAX {
            return Err(FarmError::TooManyRanges);
        }
        *current = Arc::clone(&next);
        // All threads are told before the first one is waited for.
        let (done, results) = sync_channel(self.threads.len());
        for thread in &self.threads {
            let order = Order::Behave(Arc::clone(&next), done.clone());
            thread.orders.send(order).map_err(|_| FarmError::Stopped)?;
            thread.waker.wake()?;
        }
        drop(done);
        for _ in &self.threads {
            results.recv().map_err(|_| FarmError::Stopped)??;
        }
        Ok(())
    }

    fn current(&self) -> Arc<Behaviours> {
        Arc::clone(
            &self
                .behaviours
                .lock()
                .expect("no thread panics while it holds them"),
        )
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        for thread in &self.threads {
            // A thread that has ended hears nothing, and need not.
            let _ = thread.orders.send(Order::Stop);
            let _ = thread.waker.wake();
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                let _ = handle.join();
            }
        }
    }
}

#[derive(Debug)]
struct Thread {
    orders: Sender<Order>,
    waker: Waker,
    handle: Option<JoinHandle<()>>,
}

/// What one thread counts. Nobody else writes these, so they share no cache
/// line with another thread's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) requests: Counter,
    pub(crate) resets: Counter,
    pub(crate) turned_away: Counter,
    pub(crate) accept_errors: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether the options make sense, and if so whether sockets are shared.
fn check(options: &FarmOptions) -> io::Result<bool> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if options.count == 0 || options.count > ORIGINS_MAX {
        return invalid(format!(
            "a farm has 1 to {ORIGINS_MAX} origins, not {}",
            options.count
        ));
    }
    if options.threads == 0 || options.threads > THREADS_MAX {
        return invalid(format!(
            "a farm has 1 to {THREADS_MAX} threads, not {}",
            options.threads
        ));
    }
    let last = options
        .first
        .to_bits()
        .checked_add(options.count - 1)
        .map(Ipv4Addr::from_bits);
    if !options.first.is_loopback() || !last.is_some_and(|last| last.is_loopback()) {
        return invalid(format!(
            "{} origins from {} on leave 127.0.0.0/8; a farm never listens beyond loopback",
            options.count, options.first
        ));
    }
    match options.listen {
        Listen::Wildcard => Ok(true),
        Listen::Auto => Ok(options.count > LISTENERS_MAX),
        Listen::Each if options.count > LISTENERS_MAX => invalid(format!(
            "at most {LISTENERS_MAX} origins can have a socket each"
        )),
        Listen::Each => Ok(false),
    }
}

/// The listeners of each thread, and the port.
fn listen(options: &FarmOptions, shared: bool) -> io::Result<(Vec<Vec<Listener>>, u16)> {
    let mut tries = 1;
    loop {
        let listeners = if shared {
            listen_shared(options)
        } else {
            listen_each(options)
        };
        match listeners {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && options.port == 0
                    && tries < PORT_TRIES =>
            {
                tries += 1;
            }
            Err(error) => {
                let text = format!(
                    "cannot listen on port {} of {} and the {} addresses after it: {error}; \
                     choose another port, or raise the limit of open files (ulimit -n)",
                    options.port,
                    options.first,
                    options.count - 1
                );
                return Err(io::Error::new(error.kind(), text));
            }
            Ok(listeners) => {
                let port = listeners[0][0].address.port();
                return Ok((listeners, port));
            }
        }
    }
}

fn listen_shared(options: &FarmOptions) -> io::Result<Vec<Vec<Listener>>> {
    let first = Listener::wildcard(options.port)?;
    let port = first.address.port();
    let mut threads = vec![vec![first]];
    for _ in 1..options.threads {
        threads.push(vec![Listener::wildcard(port)?]);
    }
    Ok(threads)
}

fn listen_each(options: &FarmOptions) -> io::Result<Vec<Vec<Listener>>> {
    let threads_used = options.threads.min(options.count as usize);
    let mut threads: Vec<Vec<Listener>> = Vec::new();
    threads.resize_with(threads_used, Vec::new);
    let mut port = options.port;
    for origin in 0..options.count {
        let ip = Ipv4Addr::from_bits(options.first.to_bits() + origin);
        let listener = Listener::of_origin(origin, SocketAddrV4::new(ip, port))?;
        port = listener.address.port();
        threads[origin as usize % threads_used].push(listener);
    }
    Ok(threads)
}

/// Ties the calling thread to a core. A core that is not there is no reason to
/// stop: the thread then runs where the kernel likes.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    if cores.set(core).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    }
}
