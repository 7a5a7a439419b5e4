//! What the io_uring driver knows of its slots, and how it names completions.

use std::sync::Arc;

use watchfire_probe_core::engine::{During, Slot};

use super::socket::{Manner, Sockaddr, SocketOption, SocketPlan, SocketPlans};

/// What the kernel reads and writes while operations are in progress. It
/// outlives them: see the driver's `drop`.
pub(super) struct Memory {
    pub(super) slots: Vec<SlotState>,
    pub(super) buffers: Vec<u8>,
    pub(super) reset: Box<SocketOption>,
    pub(super) nowhere: Box<Sockaddr>,
    pub(super) wake: Box<u64>,
}

/// What the driver knows of a slot.
pub(super) struct SlotState {
    pub(super) addr: Sockaddr,
    pub(super) generation: u32,
    pub(super) manner: Manner,
    /// There is a descriptor to close.
    pub(super) open: bool,
    /// Something has failed; the end of an open link, if any, still comes.
    pub(super) failed: bool,
    /// Its socket is as new once it is disconnected.
    pub(super) can_be_kept: bool,
    /// An operation is in progress.
    pub(super) busy: bool,
    /// The slot is free, and its descriptor is a disconnected socket of the
    /// family that `v6` tells, with the options of one of its manner.
    pub(super) kept: bool,
    pub(super) v6: bool,
    /// The plan of its check's own way, if that has one. It stays until the
    /// slot is opened anew: the kernel reads options out of it.
    pub(super) way: Option<Arc<SocketPlan>>,
    /// Which of the plan's sources it was bound to; none if past their end.
    pub(super) source: usize,
    /// The receive in progress began before there was a request.
    pub(super) watching: bool,
    /// Sending failed while such a receive was in progress, with this error
    /// number; it is told when the receive ends.
    pub(super) send_errno: i32,
    /// A request was sent beside such a receive: it may be on its way still
    /// when the connection goes.
    pub(super) sends_apart: bool,
}

impl SlotState {
    /// A slot that holds nothing yet.
    pub(super) fn new() -> Self {
        Self {
            addr: Sockaddr::new(([0, 0, 0, 0], 0).into()),
            generation: 0,
            manner: Manner::Full,
            open: false,
            failed: false,
            can_be_kept: false,
            busy: false,
            kept: false,
            v6: false,
            way: None,
            source: usize::MAX,
            watching: false,
            send_errno: 0,
            sends_apart: false,
        }
    }

    /// How its socket was made.
    pub(super) fn plan<'a>(&'a self, plans: &'a SocketPlans) -> &'a SocketPlan {
        match &self.way {
            Some(way) => way,
            None => plans.of(self.manner, self.v6),
        }
    }
}

/// An event that needed no completion.
#[derive(Clone, Copy)]
pub(super) enum Known {
    Failed(During, i32),
    Closed,
}

/// The operation that a completion speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Op {
    Socket,
    Option,
    Connect,
    Send,
    Receive,
    Close,
    Cancel,
    Wake,
    Reset,
    Disconnect,
    Look,
}

/// Bits of a slot's generation in a completion's name.
pub(super) const GENERATION_MASK: u32 = (1 << 24) - 1;

/// Names a completion: the operation, the slot's life, the slot.
pub(super) const fn tag(op: Op, generation: u32, slot: Slot) -> u64 {
    (op as u64) << 56 | (generation as u64) << 32 | slot as u64
}

pub(super) const fn untag(user_data: u64) -> (Op, u32, Slot) {
    let op = match user_data >> 56 {
        0 => Op::Socket,
        1 => Op::Option,
        2 => Op::Connect,
        3 => Op::Send,
        4 => Op::Receive,
        5 => Op::Close,
        6 => Op::Cancel,
        7 => Op::Wake,
        8 => Op::Reset,
        9 => Op::Disconnect,
        _ => Op::Look,
    };
    let generation = (user_data >> 32) as u32 & GENERATION_MASK;
    (op, generation, user_data as u32)
}
