//! What goes into a [node](crate) and what comes out of it: the whole
//! boundary between the POP core and the shell that runs it.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use watchfire_wire::message::replica::{Answer, Sight};
use watchfire_wire::{Actor, CheckId, First, NodeId, Verdict};

use crate::look::Said;
use crate::overrides::{Decision, Kept, Wall};

/// What the shell tells the node.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram arrived. It is opened in place: the start of the buffer is
    /// aligned to [`BUFFER_ALIGN`](watchfire_wire::limits::BUFFER_ALIGN), and
    /// what remains in it afterwards means nothing.
    Datagram {
        /// Where it came from.
        from: SocketAddr,
        /// All of it.
        bytes: &'a mut [u8],
        /// How long it waited in the socket before it was read.
        age: Duration,
    },
    /// The shell was late by so much with something of its own: a turn, a
    /// timer, probes.
    Late(Duration),
    /// Something happened on a bulk stream.
    Bulk {
        /// Which one: chosen by the node for those that it asked for, by the
        /// shell (with [`ConnId::ACCEPTED`] set) for those that it accepted.
        conn: ConnId,
        /// What.
        event: BulkEvent<'a>,
    },
    /// The set of configured checks changed.
    Checks {
        /// New ones, and those whose metadata changed.
        add: &'a [(CheckId, CheckMeta)],
        /// Those that no origin names any more.
        remove: &'a [CheckId],
    },
    /// A probe thread speaks.
    Report(Report),
    /// The probe threads as a whole can measure, or cannot.
    ProberHealthy(bool),
    /// The configured weight in rendezvous hashing changed.
    Capacity(u16),
    /// Hand over all checks and take no new ones, or take part again.
    Drain(bool),
    /// Hand over, say goodbye, and end with [`Output::Left`].
    Leave,
    /// What this server's wall clock shows, and whether something keeps it
    /// right.
    Wall(Wall),
    /// The time that [`next_timeout`](crate) named has come, or anything else
    /// woke the shell.
    Tick,
}

/// Names a bulk stream between a node and its shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// Set in the ids that the shell chooses for accepted streams.
    pub const ACCEPTED: u64 = 1 << 63;
}

/// What can happen on a bulk stream.
#[derive(Debug)]
pub enum BulkEvent<'a> {
    /// One whole sealed frame arrived (the shell strips the length). Aligned
    /// and opened in place like a datagram.
    Frame(&'a mut [u8]),
    /// The peer closed, or the connection failed, or it took too long.
    Closed,
}

/// What the core needs to know of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckMeta {
    /// From one scheduled probe to the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Its origin carries a verdict from before, by this check or an earlier
    /// one: it keeps its phase, and need not be probed soon.
    pub carried: bool,
    /// A number for the network that it lies in: those of one network are
    /// likely to fail together.
    pub network: u64,
    /// It says whether the POP reaches the world, see
    /// [`BrakeConfig`](crate::ownership::BrakeConfig).
    pub reference: bool,
    /// This node can probe it. Otherwise it only shows what others find: to the
    /// POP it is one that does not configure the check.
    pub able: bool,
}

/// What a probe thread says. `generation` is the one of the [`Output::Start`]
/// that set it going; reports of an older one are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of which check.
    pub check: CheckId,
    /// Of which start.
    pub generation: u32,
    /// What happened.
    pub kind: ReportKind,
}

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// A probe was measured: sent for the first one after a start or an
    /// [`Output::Attend`], and for every one that changed the verdict or
    /// whether the last outcome contradicts it.
    Measured {
        /// After rise and fall.
        verdict: Verdict,
        /// Code of the last outcome's [`watchfire_wire::Reason`].
        reason: u8,
        /// Outcomes contrary to the verdict, in a row.
        contrary: u8,
        /// What the last probe took, microseconds.
        latency_us: u32,
    },
    /// So many probes in a row measured nothing.
    Unmeasured {
        /// Code of the last [`watchfire_wire::Unmeasured`].
        reason: u8,
        /// How many in a row.
        in_a_row: u32,
    },
    /// The answer to [`Output::Ask`].
    Opinion {
        /// The question's.
        ask: u64,
        /// What the probe found.
        answer: Answer,
    },
    /// The same for a question with [`LOOK`](crate::look::LOOK) in its number.
    Sight {
        /// The question's.
        ask: u64,
        /// What the probe found.
        sight: Sight,
    },
}

/// What the node wants done, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send this datagram. Losing it is allowed.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// A sealed frame.
        bytes: Vec<u8>,
    },
    /// Connect by TCP and send this frame first.
    BulkConnect {
        /// The name of the stream from now on.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
        /// A sealed frame.
        hello: Vec<u8>,
    },
    /// Send this frame on a stream.
    BulkSend {
        /// Which.
        conn: ConnId,
        /// A sealed frame.
        bytes: Vec<u8>,
    },
    /// Close a stream once all that was sent is out.
    BulkClose {
        /// Which.
        conn: ConnId,
    },
    /// Probe this check from now on. It is not being probed: a prober that is to
    /// begin anew was stopped before.
    Start {
        /// Which.
        check: CheckId,
        /// Names this start in reports.
        generation: u32,
        /// What the predecessor knew.
        inherit: Option<Inherit>,
        /// When to probe first.
        first: First,
    },
    /// Stop probing it.
    Stop {
        /// Which.
        check: CheckId,
    },
    /// Report the next measured outcome of it even if nothing changed.
    Attend {
        /// Which.
        check: CheckId,
    },
    /// Every member has looked at a check, or is not waited for any longer; see
    /// [`Node::look`](crate::node::Node::look).
    Looked {
        /// Which look.
        look: u64,
        /// What each said.
        said: Said,
    },
    /// Probe it once, now, beside any schedule, and answer with
    /// [`ReportKind::Opinion`].
    Ask {
        /// Which.
        check: CheckId,
        /// Names the question.
        ask: u64,
    },
    /// Look at what is in doubt at the fast interval, as ever, or do not: while
    /// everything fails that would be twice the load for everybody.
    Hurry(bool),
    /// What the POP holds of this check changed: tell the table.
    Publish {
        /// Which.
        check: CheckId,
        /// What; nothing if the POP holds nothing any more.
        what: Option<Published>,
    },
    /// Write this epoch to disk before it matters.
    PersistEpoch(u64),
    /// What an operator's decisions make of a name changed: tell the table. An
    /// empty name is the POP, which is frozen or is not.
    Override {
        /// Which; it need not be configured here.
        name: Arc<str>,
        /// The decision in force; nothing if what the probes find counts.
        what: Option<Arc<Decision>>,
    },
    /// All that is in force was told. Until then what a table shows of an
    /// earlier life's decisions stands.
    OverridesSettled,
    /// Write these to disk, whole, before any operator who waits is answered;
    /// hand them to the next start in
    /// [`NodeConfig::overrides`](crate::node::NodeConfig::overrides).
    KeepOverrides(Arc<Kept>),
    /// The goodbye is out; the shell may end.
    Left,
    /// Another live process bears this name; the shell ends with this error.
    Conflict {
        /// Where the other one is.
        addr: SocketAddr,
        /// Who it is.
        actor: Actor,
    },
    /// Something that a log, a metric or a test may care about.
    Event(Event),
}

/// What a taker knows before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inherit {
    /// The POP's verdict.
    pub verdict: Verdict,
    /// Outcomes contrary to it, by a graceful handover only.
    pub contrary: u8,
}

/// What the POP holds of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// After rise and fall, and a second opinion.
    pub verdict: Verdict,
    /// Code of a [`watchfire_wire::Reason`] or [`watchfire_wire::Unmeasured`].
    pub reason: u8,
    /// Since when, milliseconds since 1970 on the owner's clock.
    pub since_ms: u64,
    /// Latency as of the last write, microseconds.
    pub latency_us: u32,
    /// Who said so.
    pub owner: NodeId,
    /// The owner has frozen its verdicts: its own path is in doubt.
    pub frozen: bool,
}

/// What is wrong with a log that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implausible {
    /// A term far ahead of POP time.
    Term,
    /// More words on checks that nobody configures here than a name's share.
    Foreign,
}

/// Why a node holds no Downs back any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Little fails any more.
    Passing,
    /// The references answer: it is the origins that fail.
    References,
    /// It was held for as long as it may be.
    Bound,
    /// The others see them: this node is blind.
    Blind,
}

/// Things that happened, for logs, metrics and tests. Never needed for
/// correctness.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A member became known, or came back.
    Joined(Actor, SocketAddr),
    /// A member is suspected.
    Suspected(Actor),
    /// A suspicion was refuted.
    Refuted(Actor),
    /// A member is dead.
    Died(Actor),
    /// A member left by its own word.
    Left(Actor),
    /// This node took a greater epoch.
    EpochTaken(u64),
    /// The state of a peer with equal claims differed; a repair was pulled.
    Repaired(Actor),
    /// A member's log has what no honest writer can have come to. It is left out,
    /// and asked for again later.
    Implausible(Actor, Implausible),
    /// A check changed its verdict by this node's own write.
    Transition(CheckId, Verdict, Verdict),
    /// Second opinions disagreed with a Down.
    Dissent(CheckId),
    /// A round of second opinions about a Down is over: who was asked, and what
    /// they said, if anything.
    Opinions(CheckId, Vec<(NodeId, Option<Answer>)>),
    /// This node thinks that its own path to the origins is dead.
    Blind(bool),
    /// This node holds new Downs back: so many checks of so many networks, of
    /// those that it probes, fail at once.
    Braked {
        /// Checks that fail and were not Down before.
        held: usize,
        /// The networks that they lie in.
        networks: usize,
    },
    /// It holds none any more.
    Released(Released),
    /// An operator decided, here or elsewhere, about these names.
    Decided {
        /// What.
        decision: Arc<Decision>,
        /// Of which names; an empty one is the POP.
        names: Vec<Arc<str>>,
    },
    /// A decision has lasted for as long as it was meant to.
    DecisionEnded {
        /// Which.
        decision: Arc<Decision>,
        /// Of which names; an empty one is the POP.
        names: Vec<Arc<str>>,
    },
    /// Frames came with a key id that this node does not know: somebody
    /// rotated the keys while it was down.
    UnknownKey(u32),
}
