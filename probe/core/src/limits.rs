//! Every limit of probing, with what happens at it.

use core::time::Duration;

/// Shortest interval of any kind, fast and down intervals too. A shorter one
/// is refused by [`CheckSpec::validate`](crate::check::CheckSpec::validate).
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// Longest interval. A longer one is refused.
pub const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Shortest timeout. A shorter one is refused: it would measure the kernel.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Longest timeout. A longer one is refused: the probe would hold its place for
/// as long, and say nothing.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Longest path of an HTTP check, bytes. A longer one is refused.
pub const PATH_BYTES: usize = 2_048;

/// Longest Host of an HTTP check and longest TLS server name, bytes. A longer
/// one is refused.
pub const HOST_BYTES: usize = 255;

/// Longest name of an origin's host, bytes: as long as a question of the DNS can be
/// (RFC 1035: 255 with its length bytes). A longer one is refused.
pub const NAME_BYTES: usize = 253;

/// Longest part of such a name between two dots, bytes (RFC 1035). A longer one is
/// refused.
pub const LABEL_BYTES: usize = 63;

/// Longest name of an interface, bytes: the kernel's (`IFNAMSIZ`, less its
/// end). A longer one is refused.
pub const INTERFACE_BYTES: usize = 15;

/// Longest User-Agent, bytes. A longer one is cut.
pub const USER_AGENT_BYTES: usize = 256;

/// Ranges in one status set after merging. More are refused.
pub const STATUS_RANGES: usize = 32;

/// Largest rise and largest fall. A larger one is refused.
pub const RISE_FALL_MAX: u8 = 100;

/// Widest window of the window/threshold rule: its outcomes are the bits of
/// one word. A wider one is refused.
pub const WINDOW_MAX: u8 = 64;

/// Largest head of a response, bytes. A larger one fails the probe with
/// [`HeadersTooLarge`](watchfire_wire::Reason::HeadersTooLarge).
pub const HEAD_BYTES: usize = 16 * 1_024;

/// Headers in one head. More fail the probe with
/// [`HeadersTooLarge`](watchfire_wire::Reason::HeadersTooLarge).
pub const HEADERS: usize = 100;

/// Interim (1xx) heads before the final one. More fail the probe with
/// [`NotHttp`](watchfire_wire::Reason::NotHttp).
pub const INTERIM_HEADS: u8 = 100;

/// Largest body, bytes, framing included. A larger one that says so, or whose
/// content is looked at, fails the probe with
/// [`BodyTooLarge`](watchfire_wire::Reason::BodyTooLarge): a health check must
/// not become a download.
pub const BODY_BYTES: u64 = 1_024 * 1_024;

/// Where no rule looks at the content: so much of a body is read, bytes, framing
/// included, to see that it does not break off. The status has decided; what
/// comes after that is left unread, and the connection closed.
pub const BODY_READ_BYTES: u64 = 16 * 1_024;

/// The same where the connection is to be kept: a little more is cheaper than
/// another connection.
pub const BODY_READ_KEPT_BYTES: u64 = 64 * 1_024;

/// Content of a body that rules about it look at, bytes: its beginning. What
/// comes after that is not read.
pub const BODY_SEEN_BYTES: u32 = 64 * 1_024;

/// Largest body that a check sends, bytes. A larger one is refused.
pub const BODY_SENT_BYTES: usize = 16 * 1_024;

/// Bytes of a request's body with which a connection is kept: so many the empty
/// buffer of any socket takes at once. With more each probe has its own connection.
pub const BODY_SENT_KEPT_BYTES: usize = 4 * 1_024;

/// Headers that a check sends of its own. More are refused.
pub const HEADERS_SENT: usize = 32;

/// What they hold together, bytes. More are refused.
pub const HEADERS_SENT_BYTES: usize = 8 * 1_024;

/// Rules about headers, or places in JSON, under one key. More are refused.
pub const RULES: usize = 32;

/// Longest regular expression, bytes. A longer one is refused.
pub const PATTERN_BYTES: usize = 1_024;

/// Largest compiled regular expression, and largest memory that matching it may
/// take, bytes. One that needs more is refused.
pub const PATTERN_SIZE: usize = 256 * 1_024;

/// Largest line of a chunk's size with its extensions, and of a trailer,
/// bytes. A larger one fails the probe with
/// [`BadBody`](watchfire_wire::Reason::BadBody).
pub const CHUNK_LINE_BYTES: u32 = 1_024;

/// Trailer bytes after the last chunk. More fail the probe with
/// [`BadBody`](watchfire_wire::Reason::BadBody).
pub const TRAILER_BYTES: u32 = 8 * 1_024;

/// Largest frame of HTTP/2, bytes: what no client may announce less of. A larger one
/// fails the probe with [`Http2FrameSize`](watchfire_wire::Reason::Http2FrameSize).
pub const HTTP2_FRAME_BYTES: usize = 16_384;

/// Frames of HTTP/2 in one probe that bring no content. More fail the probe with
/// [`Http2Flood`](watchfire_wire::Reason::Http2Flood).
pub const HTTP2_FRAMES: u32 = 256;

/// Content with its padding that an origin may send over HTTP/2 in one probe, bytes.
/// More fails the probe with
/// [`Http2FlowControl`](watchfire_wire::Reason::Http2FlowControl). It is more than is
/// ever read, so that no window is ever widened.
pub const HTTP2_WINDOW_BYTES: u32 = 128 * 1_024;

/// Longest name of a gRPC service, bytes. A longer one is refused.
pub const GRPC_SERVICE_BYTES: usize = 1_024;

/// Largest answer of gRPC's health check, bytes. A larger one fails the probe with
/// [`GrpcBroken`](watchfire_wire::Reason::GrpcBroken).
pub const GRPC_MESSAGE_BYTES: usize = 1_024;

/// TLS bytes that wait to be sent for one probe. More end it as an internal
/// error on our side.
pub const TLS_OUT_BYTES: usize = 64 * 1_024;

/// How long a check stays with the broad TLS library after the modern one did
/// not bring a handshake to an end; then that is tried again.
pub const TLS_BROAD_FOR: Duration = Duration::from_secs(600);

/// From one TLS handshake that shows the certificate to the next, at the most;
/// then nothing is resumed and no kept connection taken up.
pub const TLS_FULL_EVERY: Duration = Duration::from_secs(600);

/// Checks of one engine that keep a TLS session for their next probe: some 4 KB
/// each, with the certificates. A check beyond it shakes hands in full.
pub const TLS_SESSIONS: u32 = 8_192;

/// What is kept, for people, of what one probe sent and of what came, bytes of each.
/// The rest is counted.
pub const TAPE_BYTES: usize = 4 * 1_024;

/// Slots of one engine: probes in flight, and connections kept open. A driver
/// may allow fewer. Tenants share them; who finds none waits for half of the
/// check's step and then measured nothing.
pub const SLOTS: u32 = 20_000;

/// A tenant may take a place while it holds less than this times those that are
/// free: alone it may have 8 of 9.
pub const PLACES_SHARE: u32 = 8;

/// The same for checks whose last probe was slow: 4 of 5.
pub const PLACES_SHARE_SLOW: u32 = 4;

/// A tenant that is not alone may keep a connection open between probes while it
/// keeps less than this times those that may still be kept.
pub const PARKED_SHARE: u32 = 2;

/// Checks of one engine. A start beyond it is refused, and the check is
/// reported as not measured.
pub const CHECKS: u32 = 1 << 22;

/// Share of the slots that connections kept open between probes may hold, in
/// percent. Beyond it a connection is closed after its probe.
pub const PARKED_PERCENT: u32 = 50;

/// Questions for a second opinion that one engine holds at once. One more is
/// answered with silence at once.
pub const ASKS: usize = 10_000;

/// Events processed for one turn's batch before the clock is read again.
pub const EVENTS_PER_CLOCK: usize = 32;

/// Oversleep and busy time of one turn that is taken for punctual,
/// microseconds: below it a late look explains nothing.
pub const PUNCTUAL_US: u64 = 2_000;

/// Late time of one turn that is taken for a stall of the whole host,
/// microseconds: from it on the time is given back to every probe in flight,
/// below it only to those that we were late to serve in that turn. A busy
/// thread's ordinary turns must not excuse an origin that hangs.
pub const STALL_US: u64 = 50_000;

/// A probe that ran out of time while we ourselves were late is given that
/// time again, until it has been in flight for this many times its timeout;
/// then it measured nothing.
pub const GRACE_FACTOR: u32 = 2;

/// Networks that `[probe] allow` or `deny` may name. More are refused at load.
pub const POLICY_NETWORKS: usize = 256;

/// Ticks of the timer wheel, a power of two. Timers further ahead stay in
/// their place for another round.
pub const WHEEL_TICKS: usize = 1 << 14;

/// One tick of the timer wheel, microseconds.
pub const TICK_US: u64 = 1_000;

/// Probes that are to start at one time where few are due, on average: being woken
/// for each costs more than the probe. So many SYNs one destination may see within a
/// moment, if all are its own.
pub const GATHERED: u64 = 16;

/// What due times may be rounded to for that, microseconds, the coarsest first. All
/// divide a second, so that checks of any whole seconds meet; what is due more often
/// than [`GATHERED`] times in the finest is not rounded.
pub const GRIDS_US: [u64; 6] = [100_000, 50_000, 20_000, 10_000, 5_000, 2_000];

const _: () = assert!(WHEEL_TICKS.is_power_of_two());
const _: () = assert!(PARKED_PERCENT < 100);
const _: () = assert!(PLACES_SHARE_SLOW < PLACES_SHARE);
const _: () = assert!(BODY_READ_BYTES <= BODY_READ_KEPT_BYTES && BODY_READ_KEPT_BYTES < BODY_BYTES);
const _: () = assert!(BODY_SEEN_BYTES < HTTP2_WINDOW_BYTES);
const _: () = assert!(BODY_READ_KEPT_BYTES < HTTP2_WINDOW_BYTES as u64);
const _: () = assert!(INTERVAL_MIN.as_micros() >= 2 * TICK_US as u128);
const _: () = assert!(WINDOW_MAX as u32 <= u64::BITS);

/// Outcomes in one publication that are enough to call a thread sick, if half
/// of them failed on our side.
pub const SICK_OUTCOMES: u64 = 4;

/// How long a sick thread that measures nothing any more stays sick before it
/// is tried again. A relapse within [`SICK_PATIENCE_MAX`] doubles it.
pub const SICK_PATIENCE: Duration = Duration::from_secs(2);

/// Longest that a sick thread stays sick without measuring; it is tried again
/// at least this often.
pub const SICK_PATIENCE_MAX: Duration = Duration::from_secs(30);

/// Passes without a sign of trouble after which an origin is degraded no more.
pub const CLEAN_IN_A_ROW: u8 = 3;

/// Certificates in one file of a check. A file with more is refused.
pub const TLS_CERTIFICATES: usize = 64;

/// Protocols that a check offers by ALPN, and bytes of each. More are refused.
pub const ALPN_NAMES: usize = 8;
/// See [`ALPN_NAMES`].
pub const ALPN_BYTES: usize = 255;

/// Probes of a check that are remembered. At the limit the oldest gives way.
pub const TRACED_PROBES: usize = 64;

/// Checks of a process whose probes are remembered, shared among its threads; 700
/// bytes each. Of those beyond it nothing is kept.
pub const TRACED_CHECKS: u32 = 24_576;

/// Answers that turned a verdict, of a process, shared among its threads. At the
/// limit the oldest of all gives way.
pub const TRACED_ANSWERS: usize = 512;

/// Bytes of an answer that are looked at for that. The rest is not kept.
pub const TRACED_HEARD_BYTES: usize = 1_024;

/// Longest text that is kept of it, bytes. It is cut there.
pub const TRACED_TEXT_BYTES: usize = 1_200;

/// Probes that wait to be remembered while somebody looks. At the limit they are
/// forgotten, and counted.
pub const TRACE_WAITING: usize = 8_192;
