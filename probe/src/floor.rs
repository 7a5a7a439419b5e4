//! The floor that the engine is measured against: bare loops of linked
//! io_uring chains that give the kernel the same work as a probe, and nothing
//! else. No schedule, no parsing, no state, no statistics, and no care: it
//! must only ever be pointed at healthy origins on loopback. Never part of an
//! agent's work.
//!
//! Every chain makes a socket and destroys it, as any prober does that is not
//! told otherwise. The engine gets below this floor for half-open checks,
//! because it uses their sockets again.

use std::io;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{DestinationSlot, Fixed};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, opcode};
use nix::time::{ClockId, clock_gettime};

/// The most chains in flight; more is cut down to it.
pub const IN_FLIGHT_MAX: usize = 4_096;

/// What a chain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorKind {
    /// SYN, SYN-ACK, RST: socket, no quick-ack, linger 0, connect, close.
    TcpHalfOpen,
    /// Socket, connect, send, receive once, close.
    Http,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct FloorOptions<'a> {
    /// What each chain does.
    pub kind: FloorKind,
    /// Where to, in turn. Not empty.
    pub targets: &'a [SocketAddrV4],
    /// Chains in flight, at most [`IN_FLIGHT_MAX`].
    pub in_flight: usize,
    /// For how long new chains are begun.
    pub duration: Duration,
    /// The whole request of [`FloorKind::Http`].
    pub request: &'a [u8],
}

/// What was run.
#[derive(Clone, Copy, Debug)]
pub struct FloorReport {
    /// Chains that ended.
    pub probes: u64,
    /// Steps of chains that failed; a floor with failures measures nothing.
    pub failed: u64,
    /// CPU time of the calling thread, user and system, microseconds.
    pub cpu_us: u64,
    /// Wall time, microseconds.
    pub wall_us: u64,
}

/// Runs chains on the calling thread until the duration is over and all of
/// them have ended.
///
/// # Errors
///
/// If the kernel lacks io_uring or one of the operations.
///
/// # Panics
///
/// If there is no target.
pub fn run(options: &FloorOptions<'_>) -> io::Result<FloorReport> {
    assert!(!options.targets.is_empty(), "a floor needs targets");
    let in_flight = options.in_flight.clamp(1, IN_FLIGHT_MAX);
    let entries = (in_flight * LINKS).next_power_of_two() as u32;
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(entries * 2)
        .build(entries)?;
    ring.submitter().register_files_sparse(in_flight as u32)?;

    let mut memory = Memory::new(options, in_flight);
    let mut handle = Handle::new(&mut ring)?;
    let result = drive(&mut handle, options, &mut memory);
    if result.is_err() {
        // Chains may be in flight still, and the kernel may write for them.
        core::mem::forget(memory);
    }
    // A thread has room for 16 registered rings, and a ring that is only
    // dropped keeps its place.
    handle.submitter.unregister_ring_fd()?;
    result
}

/// A ring's parts, entered by its registered descriptor as the engine's is.
struct Handle<'a> {
    submitter: Submitter<'a>,
    queue: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
}

impl<'a> Handle<'a> {
    fn new(ring: &'a mut IoUring) -> io::Result<Self> {
        let (mut submitter, queue, completions) = ring.split();
        submitter.register_ring_fd()?;
        Ok(Self {
            submitter,
            queue,
            completions,
        })
    }
}

fn drive(
    ring: &mut Handle<'_>,
    options: &FloorOptions<'_>,
    memory: &mut Memory,
) -> io::Result<FloorReport> {
    let cpu_before = thread_cpu_us();
    let began = Instant::now();
    let mut report = FloorReport {
        probes: 0,
        failed: 0,
        cpu_us: 0,
        wall_us: 0,
    };
    let mut next_target = 0;
    let mut running = 0_usize;
    let mut free: Vec<u32> = (0..memory.received.len() as u32).collect();
    let mut over = false;
    while !over || running > 0 {
        if !over {
            over = began.elapsed() >= options.duration;
        }
        while !over && let Some(slot) = free.pop() {
            let target = next_target;
            next_target = (next_target + 1) % memory.addresses.len();
            let chain = match options.kind {
                FloorKind::TcpHalfOpen => memory.tcp_chain(slot, target),
                FloorKind::Http => memory.http_chain(slot, target),
            };
            let pushed = push(&mut ring.queue, &chain);
            if !pushed {
                free.push(slot);
                break;
            }
            running += 1;
        }
        ring.queue.sync();
        ring.submitter.submit_and_wait(usize::from(running > 0))?;
        ring.queue.sync();
        ring.completions.sync();
        for completion in &mut ring.completions {
            if completion.user_data() & LAST_LINK != 0 {
                report.probes += 1;
                running -= 1;
                free.push((completion.user_data() & !LAST_LINK) as u32);
            }
            if completion.result() < 0 {
                report.failed += 1;
            }
        }
    }
    report.cpu_us = thread_cpu_us() - cpu_before;
    report.wall_us = began.elapsed().as_micros() as u64;
    Ok(report)
}

/// CPU time of the calling thread so far, user and system, microseconds.
#[must_use]
pub fn thread_cpu_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux keeps CPU time");
    time.tv_sec() as u64 * 1_000_000 + time.tv_nsec() as u64 / 1_000
}

/// Operations of a chain of either kind.
const LINKS: usize = 5;
const RECEIVE_BYTES: usize = 4_096;
/// `IORING_RECVSEND_POLL_FIRST`: an answer cannot be there before the request
/// has left.
const POLL_FIRST: u16 = 1;
/// Marks the last operation of a chain in its user data.
const LAST_LINK: u64 = 1 << 32;

/// What the kernel reads and writes while chains are in flight: allocated once
/// and never moved before the last of them has ended.
struct Memory {
    addresses: Vec<libc::sockaddr_in>,
    request: Vec<u8>,
    received: Vec<[u8; RECEIVE_BYTES]>,
    off: Box<libc::c_int>,
    linger: Box<libc::linger>,
}

impl Memory {
    fn new(options: &FloorOptions<'_>, in_flight: usize) -> Self {
        let addresses = options.targets.iter().map(|target| libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: target.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: target.ip().to_bits().to_be(),
            },
            sin_zero: [0; 8],
        });
        Self {
            addresses: addresses.collect(),
            request: options.request.to_vec(),
            received: vec![[0; RECEIVE_BYTES]; in_flight],
            off: Box::new(0),
            linger: Box::new(libc::linger {
                l_onoff: 1,
                l_linger: 0,
            }),
        }
    }

    fn tcp_chain(&self, slot: u32, target: usize) -> [Entry; LINKS] {
        let quick_ack = opcode::SetSockOpt::new(
            Fixed(slot),
            libc::IPPROTO_TCP as u32,
            libc::TCP_QUICKACK as u32,
            (&raw const *self.off).cast(),
            size_of::<libc::c_int>() as u32,
        );
        let linger = opcode::SetSockOpt::new(
            Fixed(slot),
            libc::SOL_SOCKET as u32,
            libc::SO_LINGER as u32,
            (&raw const *self.linger).cast(),
            size_of::<libc::linger>() as u32,
        );
        [
            linked(slot, socket(slot)),
            linked(slot, quick_ack.build()),
            linked(slot, linger.build()),
            linked(slot, self.connect(slot, target)),
            last(slot),
        ]
    }

    fn http_chain(&mut self, slot: u32, target: usize) -> [Entry; LINKS] {
        let send = opcode::Send::new(
            Fixed(slot),
            self.request.as_ptr(),
            self.request.len() as u32,
        );
        let received = self.received[slot as usize].as_mut_ptr();
        let receive =
            opcode::Recv::new(Fixed(slot), received, RECEIVE_BYTES as u32).ioprio(POLL_FIRST);
        [
            linked(slot, socket(slot)),
            linked(slot, self.connect(slot, target)),
            linked(slot, send.build()),
            linked(slot, receive.build()),
            last(slot),
        ]
    }

    fn connect(&self, slot: u32, target: usize) -> Entry {
        let address = (&raw const self.addresses[target]).cast();
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        opcode::Connect::new(Fixed(slot), address, length).build()
    }
}

fn socket(slot: u32) -> Entry {
    let into = DestinationSlot::try_from_slot_target(slot).expect("slots are few");
    opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
        .file_index(Some(into))
        .build()
}

/// A link that the next one follows whatever comes of it, so that the close
/// always runs; silent when it succeeds.
fn linked(slot: u32, entry: Entry) -> Entry {
    entry
        .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
        .user_data(u64::from(slot))
}

fn last(slot: u32) -> Entry {
    opcode::Close::new(Fixed(slot))
        .build()
        .user_data(u64::from(slot) | LAST_LINK)
}

fn push(queue: &mut SubmissionQueue<'_>, chain: &[Entry]) -> bool {
    // SAFETY: the entries point into `Memory`, and what the kernel writes there
    // belongs to a slot that no other chain uses. `run` keeps all of it unmoved
    // until every chain has posted its last completion, or for ever.
    unsafe { queue.push_multiple(chain) }.is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn both_floors_touch_a_real_listener() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 512];
                if stream.read(&mut request).is_ok_and(|n| n > 0) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        for kind in [FloorKind::TcpHalfOpen, FloorKind::Http] {
            let options = FloorOptions {
                kind,
                targets: &[target],
                in_flight: 4,
                duration: Duration::from_millis(20),
                request: b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
            };
            let report = match run(&options) {
                Ok(report) => report,
                // A sandbox without io_uring has no floor to measure.
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return,
                Err(error) => panic!("{error}"),
            };
            assert!(report.probes > 0, "{kind:?}");
            assert_eq!(report.failed, 0, "{kind:?}");
            assert!(report.cpu_us > 0 && report.wall_us >= 20_000);
        }
    }
}
