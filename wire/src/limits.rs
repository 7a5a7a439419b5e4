//! Every limit of the protocol, with what happens at it.

/// Largest datagram that a node sends unless configured otherwise, bytes. A
/// message that does not fit is split or goes over TCP.
pub const DATAGRAM_BYTES: usize = 1_400;

/// Largest datagram that a node reads, bytes. The rest of a larger one is cut
/// off by the kernel and the frame then fails to authenticate.
pub const DATAGRAM_READ_BYTES: usize = 9_000;

/// Alignment of every buffer in which a frame is opened, bytes.
pub const BUFFER_ALIGN: usize = 16;

/// Members of one POP. A join beyond it is refused with a counter and a log
/// line.
pub const MEMBERS: usize = 1_024;

/// Longest node name, bytes. A longer one is refused by the configuration.
pub const NODE_NAME_BYTES: usize = 64;

/// Keys of one ring. A key file with more is refused, as is adding one more.
pub const KEYS: usize = 8;

/// Largest key file, bytes. A larger one is refused unread.
pub const KEY_FILE_BYTES: usize = 4_096;

/// Levels of pointers in one message. A deeper one is refused; the messages
/// need three (a packet's deltas, their slots, and the packet itself).
pub const MESSAGE_DEPTH: usize = 8;

/// Rumors that are read from one packet. The rest is left unread; it comes
/// again.
pub const RUMORS_PER_PACKET: usize = 128;

/// Longest name of an origin that an operator's decision is about, bytes. A
/// message with a longer one is dropped.
pub const ORIGIN_NAME_BYTES: usize = 255;

/// Longest word on who decided, bytes: a user and a node. Longer ones are cut.
pub const WHO_BYTES: usize = 100;

/// Longest reason that an operator may give, bytes. A longer one is refused.
pub const WHY_BYTES: usize = 200;

const _: () = assert!(DATAGRAM_BYTES <= DATAGRAM_READ_BYTES);
