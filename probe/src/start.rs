//! Starts the probe threads: chooses the driver, makes room for files, pins.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, atomic::Ordering};
use std::thread::JoinHandle;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use watchfire_probe_core::Schedule;
use watchfire_probe_core::engine::{Config, Pacing};
use watchfire_probe_core::limits::GRIDS_US;

use crate::clock;
use crate::driver::epoll::EpollDriver;
use crate::driver::socket::SocketPlans;
use crate::driver::uring::UringDriver;
use crate::driver::uring_setup;
use crate::error::{StartError, UringError};
use crate::limits::FILES_BESIDE;
use crate::mailbox::Mailbox;
use crate::options::{Backend, Options};
use crate::tls_roots::Trust;
use crate::worker::{Waker, Worker};

/// The threads that run.
pub(crate) struct Started {
    pub(crate) threads: Vec<(Arc<Mailbox>, JoinHandle<()>)>,
    /// The driver that they run on.
    pub(crate) backend: Backend,
    /// Why it is not io_uring, if it might have been.
    pub(crate) fallback: Option<String>,
}

/// Starts all threads, or none.
pub(crate) fn start(
    options: &Options,
    waker: &Waker,
    pacing: Pacing,
) -> Result<Started, StartError> {
    let (backend, fallback) = choose(options)?;
    let now = clock::now();
    let wall_us = clock::wall_us();
    let tls = Trust::read(options)?.context;
    // No two servers, and no two threads, start what they gathered at one time.
    let own_shift_us = RandomState::new().hash_one(wall_us) % GRIDS_US[0];
    let config = Config {
        slots: slots(options, backend),
        pacing,
        user_agent: options.user_agent.clone(),
        schedule: Schedule::new(now, wall_us),
        tls: Some(tls),
    };
    let plans = Arc::new(SocketPlans::new(options));
    let mut threads: Vec<(Arc<Mailbox>, JoinHandle<()>)> = Vec::new();
    for index in 0..options.threads {
        let core = options
            .pin_cores
            .as_ref()
            .map(|cores| cores[index % cores.len()]);
        let apart_us = GRIDS_US[0] * index as u64 / options.threads as u64;
        let config = Config {
            schedule: config.schedule.shifted(own_shift_us + apart_us),
            ..config.clone()
        };
        let started = start_thread(
            (index, options.threads),
            core,
            backend,
            config,
            &plans,
            waker,
        );
        match started {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                for (mailbox, _) in &threads {
                    mailbox.dismiss();
                }
                for (_, thread) in threads {
                    let _ = thread.join();
                }
                return Err(error);
            }
        }
    }
    Ok(Started {
        threads,
        backend,
        fallback,
    })
}

/// The driver to run on, and why not the better one.
pub(crate) fn choose(options: &Options) -> Result<(Backend, Option<String>), StartError> {
    if options.backend == Backend::Epoll {
        return Ok((Backend::Epoll, None));
    }
    // Tried on a thread of its own, as a ring belongs to the thread that made
    // it; the same size as the real ones, so that what fails, fails here.
    let slots = slots(options, Backend::IoUring);
    let tried = std::thread::Builder::new()
        .name("probe-try".to_owned())
        .spawn(move || {
            let mut ring = uring_setup::ring(slots)?;
            uring_setup::try_socket_option(&mut ring)
        })
        .map_err(StartError::Thread)?
        .join();
    let cause = match tried {
        Ok(Ok(())) => return Ok((Backend::IoUring, None)),
        Ok(Err(cause)) => cause,
        Err(_) => UringError::Setup {
            step: "trying a ring",
            cause: io::Error::other("the trying thread panicked"),
        },
    };
    if options.backend == Backend::IoUring {
        return Err(cause.into());
    }
    Ok((
        Backend::Epoll,
        Some(format!(
            "probing with epoll, as io_uring does not work here: {cause}"
        )),
    ))
}

/// Connections at once per thread: what is wanted, or what the limit on open
/// files allows. The soft limit is raised as far as the hard one lets it.
fn slots(options: &Options, backend: Backend) -> u32 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return options.in_flight_max;
    };
    if soft < hard {
        // Not needed for correctness: what is missing, waits.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(soft, |(soft, _)| soft);
    let per_thread = match backend {
        // Each ring has a table of its own, as large as the limit allows.
        Backend::IoUring | Backend::Auto => limit,
        Backend::Epoll => limit.saturating_sub(FILES_BESIDE) / options.threads as u64,
    };
    options
        .in_flight_max
        .min(u32::try_from(per_thread).unwrap_or(u32::MAX))
        .max(1)
}

fn start_thread(
    (index, threads): (usize, usize),
    core: Option<usize>,
    backend: Backend,
    config: Config,
    plans: &Arc<SocketPlans>,
    waker: &Waker,
) -> Result<(Arc<Mailbox>, JoinHandle<()>), StartError> {
    let mailbox = Arc::new(Mailbox::new(threads).map_err(StartError::Wake)?);
    // The pulse beats from the start: a thread that comes late is not stuck.
    mailbox
        .pulse
        .beat_us
        .store(clock::now().0, Ordering::Relaxed);
    let (ready, is_ready) = sync_channel(1);
    let theirs = Arc::clone(&mailbox);
    let (plans, waker) = (Arc::clone(plans), Arc::clone(waker));
    let thread = std::thread::Builder::new()
        .name(format!("probe-{index}"))
        .spawn(move || {
            let ended = EndNotice(Arc::clone(&theirs), Arc::clone(&waker));
            let result = match pin(core) {
                Err(error) => Err(error),
                Ok(()) => match backend {
                    Backend::Epoll => run_epoll(config, &plans, &theirs, waker, &ready),
                    Backend::IoUring | Backend::Auto => {
                        run_uring(config, &plans, &theirs, waker, &ready)
                    }
                },
            };
            drop(ended);
            if let Err(error) = result {
                let _ = ready.try_send(Err(error));
            }
        })
        .map_err(StartError::Thread)?;
    match is_ready.recv() {
        Ok(Ok(())) => Ok((mailbox, thread)),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(StartError::Thread(io::Error::other(
            "it panicked at its start",
        ))),
    }
}

type Ready = SyncSender<Result<(), StartError>>;

fn run_uring(
    config: Config,
    plans: &SocketPlans,
    mailbox: &Mailbox,
    waker: Waker,
    ready: &Ready,
) -> Result<(), StartError> {
    let mut ring = uring_setup::ring(config.slots)?;
    let driver = UringDriver::new(&mut ring, config.slots, plans, &mailbox.wake);
    let worker = Worker::new(driver, config, mailbox, waker);
    let _ = ready.send(Ok(()));
    worker.run().map_err(|cause| {
        UringError::Setup {
            step: "entering the ring",
            cause,
        }
        .into()
    })
}

fn run_epoll(
    config: Config,
    plans: &SocketPlans,
    mailbox: &Mailbox,
    waker: Waker,
    ready: &Ready,
) -> Result<(), StartError> {
    let driver = EpollDriver::new(config.slots, plans, &mailbox.wake).map_err(StartError::Epoll)?;
    let worker = Worker::new(driver, config, mailbox, waker);
    let _ = ready.send(Ok(()));
    worker.run().map_err(StartError::Epoll)
}

fn pin(core: Option<usize>) -> Result<(), StartError> {
    let Some(core) = core else { return Ok(()) };
    let pinned = (|| {
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    })();
    pinned.map_err(|errno| StartError::Pin {
        core,
        cause: errno.into(),
    })
}

/// Says that a thread ended, however it did, and wakes whoever should look.
struct EndNotice(Arc<Mailbox>, Waker);

impl Drop for EndNotice {
    fn drop(&mut self) {
        self.0.pulse.ended.store(true, Ordering::Relaxed);
        (self.1)();
    }
}
