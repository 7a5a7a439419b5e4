//! Entries of the ring as this driver writes them: one function for each operation,
//! and what each of its completions is called.

use core::ffi::c_void;

use io_uring::squeue::{Entry, Flags};
use io_uring::{opcode, types};
use watchfire_probe_core::engine::Slot;

use super::socket::{Sockaddr, SocketOption};
use super::uring_slots::{Op, tag};

/// `IORING_RECVSEND_POLL_FIRST`: nothing can have come before it was asked
/// for, so do not look before it has.
const POLL_FIRST: u16 = 1;

/// A slot in one of its lives.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) slot: Slot,
    pub(super) generation: u32,
}

impl Life {
    const fn fd(self) -> types::Fixed {
        types::Fixed(self.slot)
    }

    const fn tag(self, op: Op) -> u64 {
        tag(op, self.generation, self.slot)
    }

    pub(super) fn socket(self, v6: bool, flags: Flags) -> Entry {
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let place = types::DestinationSlot::try_from_slot_target(self.slot).ok();
        opcode::Socket::new(family, libc::SOCK_STREAM, 0)
            .file_index(place)
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Socket))
    }

    /// `op` is for what its completion means: part of an open, or of an end.
    pub(super) fn option(self, option: &SocketOption, op: Op, flags: Flags) -> Entry {
        let (level, name) = (option.level as u32, option.name as u32);
        let (value, length) = option.value();
        opcode::SetSockOpt::new(self.fd(), level, name, value, length)
            .build()
            .flags(flags)
            .user_data(self.tag(op))
    }

    pub(super) fn bind(self, source: &Sockaddr, v6: bool, flags: Flags) -> Entry {
        let (addr, length) = source.raw(v6);
        opcode::Bind::new(self.fd(), addr, length)
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Option))
    }

    pub(super) fn connect(self, addr: &Sockaddr, v6: bool, flags: Flags) -> Entry {
        let (addr, length) = addr.raw(v6);
        opcode::Connect::new(self.fd(), addr, length)
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Connect))
    }

    /// Asks whether the connection really stands. The kernel completes a
    /// connect without an error although it was refused, if an ICMP message
    /// came while the connect itself still held the socket. Sending nothing
    /// succeeds on a connection that stands, and on no other.
    pub(super) fn look(self, flags: Flags) -> Entry {
        opcode::Send::new(self.fd(), core::ptr::null(), 0)
            .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Look))
    }

    pub(super) fn send(self, bytes: &[u8], flags: Flags) -> Entry {
        opcode::Send::new(self.fd(), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Send))
    }

    pub(super) fn receive(self, buffer: &mut [u8]) -> Entry {
        opcode::Recv::new(self.fd(), buffer.as_mut_ptr(), buffer.len() as u32)
            .ioprio(POLL_FIRST)
            .build()
            .user_data(self.tag(Op::Receive))
    }

    /// Cancels what is in progress on the descriptor. Not all of its operations, which
    /// are one at a time anyway: that would call it a success to find none.
    pub(super) fn cancel(self) -> Entry {
        opcode::AsyncCancel2::new(types::CancelBuilder::fd(self.fd()))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(self.tag(Op::Cancel))
    }

    /// Cancels a send beside a receive.
    pub(super) fn cancel_send(self, flags: Flags) -> Entry {
        opcode::AsyncCancel::new(self.tag(Op::Send))
            .build()
            .flags(flags)
            .user_data(self.tag(Op::Reset))
    }

    pub(super) fn close(self) -> Entry {
        opcode::Close::new(self.fd())
            .build()
            .user_data(self.tag(Op::Close))
    }

    /// Closes what the slot kept. Whatever comes of it, the next socket takes the
    /// place.
    pub(super) fn close_kept(self) -> Entry {
        opcode::Close::new(self.fd())
            .build()
            .flags(Flags::IO_HARDLINK | Flags::SKIP_SUCCESS)
            .user_data(self.tag(Op::Reset))
    }

    /// Connects to nowhere: a reset, after which the socket is as new.
    pub(super) fn disconnect(self, nowhere: &Sockaddr) -> Entry {
        let (nowhere, length) = nowhere.raw(false);
        opcode::Connect::new(self.fd(), nowhere, length)
            .build()
            .user_data(self.tag(Op::Disconnect))
    }
}

/// Reads the doorbell of other threads.
pub(super) fn wake(fd: std::os::fd::RawFd, word: &mut u64) -> Entry {
    let word: *mut c_void = core::ptr::from_mut(word).cast();
    opcode::Read::new(types::Fd(fd), word.cast(), 8)
        .build()
        .user_data(tag(Op::Wake, 0, 0))
}
