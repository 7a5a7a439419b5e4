//! Bulk streams: the answers too large for datagrams, over TCP.
//!
//! A frame travels as its length (four bytes, little endian) and itself. TCP
//! accepts before it can authenticate, so what a stranger can make of this is
//! bounded: few streams per address and in total, one frame and no more, whole
//! within a quarter of a second, a stream that the core does not answer is
//! closed, and no byte is allocated because of a claimed length. What frames
//! mean is the core's business.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use watchfire_core::io::ConnId;
use watchfire_wire::Time;
use watchfire_wire::frame::OVERHEAD_BYTES;

use super::datagrams::plain;
use crate::limits::{
    BULK_ACCEPTED, BULK_ACCEPTS_PER_TURN, BULK_CONNECTED, BULK_FIRST_FRAME, BULK_FRAME_BYTES,
    BULK_LIFE, BULK_LIFE_MAX, BULK_OUTBOUND_BYTES, BULK_STRANGERS, BULK_STREAMS_PER_ADDRESS,
};

/// Tokens from here on are streams'.
const FIRST_TOKEN: usize = 1_000;

/// Bytes of a frame's length on the stream.
const LENGTH_BYTES: usize = 4;

/// Pieces of [`PIECE_BYTES`] that one stream may read in one turn: a fast
/// sender must not hold the loop.
const PIECES_PER_TURN: usize = 64;
const PIECE_BYTES: usize = 16 << 10;

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A whole frame.
    Frame(ConnId, Vec<u8>),
    /// The end, whatever its cause.
    Closed(ConnId),
}

/// All bulk streams of one agent.
pub(crate) struct BulkStreams {
    by_token: BTreeMap<Token, Stream>,
    tokens: BTreeMap<u64, Token>,
    next_token: usize,
    next_accepted: u64,
    /// Streams that used up their turn and have more to read.
    unread: BTreeSet<Token>,
    /// A turn of accepting ended before the kernel had no more.
    unaccepted: bool,
    /// Accepting failed (no descriptor was left): the kernel does not tell again
    /// of those that wait already.
    missed: bool,
    /// Streams that were closed because of a limit.
    pub(crate) refused: u64,
}

struct Stream {
    conn: ConnId,
    socket: TcpStream,
    peer: IpAddr,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
    sent: usize,
    closing: bool,
    /// Bytes went in or out since the deadline was last set.
    moved: bool,
    deadline: Time,
    last_deadline: Time,
    /// Until when the first frame of an accepted stream must be here.
    first_frame_by: Option<Time>,
}

impl BulkStreams {
    pub(crate) fn new() -> Self {
        Self {
            by_token: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            next_accepted: ConnId::ACCEPTED,
            unread: BTreeSet::new(),
            unaccepted: false,
            missed: false,
            refused: 0,
        }
    }

    /// Accepts some of those that wait, within the limits.
    ///
    /// `known` says whether a member is known at an address.
    pub(crate) fn accept(
        &mut self,
        listener: &TcpListener,
        registry: &Registry,
        now: Time,
        known: &dyn Fn(IpAddr) -> bool,
    ) {
        self.unaccepted = false;
        self.missed = false;
        for _ in 0..BULK_ACCEPTS_PER_TURN {
            let (socket, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => {
                    self.missed = e.kind() != ErrorKind::WouldBlock;
                    return;
                }
            };
            // One peer has one count, whichever family its address is shown in.
            let peer = plain(peer).ip();
            if !self.has_room_for(peer, known) {
                self.refused += 1;
                continue;
            }
            let conn = ConnId(self.next_accepted);
            self.next_accepted += 1;
            let stream = Stream {
                first_frame_by: Some(now + BULK_FIRST_FRAME),
                ..Stream::new(conn, socket, peer, now)
            };
            if self.insert(stream, registry).is_err() {
                self.refused += 1;
            }
        }
        self.unaccepted = true;
    }

    /// Whether there may be more to accept at once.
    pub(crate) fn has_unaccepted(&self) -> bool {
        self.unaccepted
    }

    /// Whether accepting is to be tried again though nobody tells so.
    pub(crate) fn has_missed(&self) -> bool {
        self.missed
    }

    /// Closes an accepted stream whose frame drew nothing from the core: it was
    /// no good hello.
    pub(crate) fn close_unanswered(&mut self, conn: ConnId, registry: &Registry) {
        if let Some((&token, stream)) = self.stream_of(conn)
            && stream.is_accepted()
            && stream.is_unanswered()
        {
            self.remove(token, registry);
            self.refused += 1;
        }
    }

    /// Connects to a peer; the hello goes out as soon as it is there.
    pub(crate) fn connect(
        &mut self,
        conn: ConnId,
        to: SocketAddr,
        hello: &[u8],
        registry: &Registry,
        now: Time,
    ) -> Result<(), io::Error> {
        let ours = |stream: &&Stream| !stream.is_accepted();
        if self.by_token.values().filter(ours).count() >= BULK_CONNECTED {
            self.refused += 1;
            return Err(io::Error::other("too many bulk streams"));
        }
        let mut stream = Stream::new(conn, TcpStream::connect(to)?, to.ip(), now);
        stream.queue(hello);
        self.insert(stream, registry)
    }

    /// Queues a frame; what the socket takes goes out at once. A stream that
    /// cannot take it is closed.
    pub(crate) fn send(&mut self, conn: ConnId, frame: &[u8], registry: &Registry) {
        let Some((&token, stream)) = self.stream_of(conn) else {
            return;
        };
        if !stream.queue(frame) || stream.write().is_err() {
            return self.remove(token, registry);
        }
        stream.moved = true;
    }

    /// Closes a stream once all that was queued is out.
    pub(crate) fn close(&mut self, conn: ConnId, registry: &Registry) {
        if let Some((&token, stream)) = self.stream_of(conn) {
            stream.closing = true;
            if stream.is_drained() {
                self.remove(token, registry);
            }
        }
    }

    /// Reads and writes what an event says is ready.
    pub(crate) fn ready(&mut self, token: Token, registry: &Registry, out: &mut Vec<Arrival>) {
        let Some(stream) = self.by_token.get_mut(&token) else {
            return;
        };
        let conn = stream.conn;
        let before = (stream.sent, stream.inbound.len(), out.len());
        let alive = stream.write().and_then(|()| stream.read(out));
        stream.moved |= before != (stream.sent, stream.inbound.len(), out.len());
        if matches!(alive, Ok(Progress::More)) {
            self.unread.insert(token);
        }
        let done = stream.closing && stream.is_drained();
        if alive.is_err() || done {
            self.remove(token, registry);
            out.push(Arrival::Closed(conn));
        }
    }

    /// Goes on reading where the last turn stopped. While
    /// [`has_unread`](Self::has_unread) says so, the loop must not sleep: the
    /// kernel tells of readiness once.
    pub(crate) fn resume(&mut self, registry: &Registry, out: &mut Vec<Arrival>) {
        for token in std::mem::take(&mut self.unread) {
            self.ready(token, registry, out);
        }
    }

    pub(crate) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Ends the streams whose time is up: on which nothing moved, or that take
    /// too long in all.
    pub(crate) fn expire(&mut self, now: Time, registry: &Registry, out: &mut Vec<Arrival>) {
        for stream in self.by_token.values_mut() {
            if stream.first_frame_by.is_none() && stream.deadline <= now && stream.moved {
                stream.moved = false;
                stream.deadline = (now + BULK_LIFE).min(stream.last_deadline);
            }
        }
        let late: Vec<_> = self
            .by_token
            .iter()
            .filter(|(_, stream)| stream.ends_at() <= now)
            .map(|(&token, stream)| (token, stream.conn))
            .collect();
        for (token, conn) in late {
            self.remove(token, registry);
            out.push(Arrival::Closed(conn));
        }
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub(crate) fn next_deadline(&self) -> Time {
        self.by_token
            .values()
            .map(Stream::ends_at)
            .min()
            .unwrap_or(Time::NEVER)
    }

    /// The last places are for members: strangers that hold theirs without a
    /// word keep no member from pulling.
    fn has_room_for(&self, peer: IpAddr, known: &dyn Fn(IpAddr) -> bool) -> bool {
        let accepted = || self.by_token.values().filter(|stream| stream.is_accepted());
        let from_peer = accepted().filter(|stream| stream.peer == peer).count();
        let all = accepted().count();
        if all >= BULK_ACCEPTED || from_peer >= BULK_STREAMS_PER_ADDRESS {
            return false;
        }
        all < BULK_STRANGERS
            || known(peer)
            || accepted().filter(|stream| !known(stream.peer)).count() < BULK_STRANGERS
    }

    fn insert(&mut self, mut stream: Stream, registry: &Registry) -> Result<(), io::Error> {
        let token = Token(self.next_token);
        self.next_token += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream.socket, token, interest)?;
        self.tokens.insert(stream.conn.0, token);
        self.by_token.insert(token, stream);
        Ok(())
    }

    fn stream_of(&mut self, conn: ConnId) -> Option<(&Token, &mut Stream)> {
        let token = self.tokens.get(&conn.0)?;
        Some((token, self.by_token.get_mut(token)?))
    }

    fn remove(&mut self, token: Token, registry: &Registry) {
        if let Some(mut stream) = self.by_token.remove(&token) {
            self.tokens.remove(&stream.conn.0);
            self.unread.remove(&token);
            // Closing the socket deregisters it anyway; an error changes nothing.
            let _ = registry.deregister(&mut stream.socket);
        }
    }
}

/// How a turn of reading ended.
enum Progress {
    /// All that was there was read.
    Idle,
    /// The turn is used up and more is there.
    More,
}

impl Stream {
    fn new(conn: ConnId, socket: TcpStream, peer: IpAddr, now: Time) -> Self {
        Self {
            conn,
            socket,
            peer,
            inbound: Vec::new(),
            outbound: Vec::new(),
            sent: 0,
            closing: false,
            moved: false,
            deadline: now + BULK_LIFE,
            last_deadline: now + BULK_LIFE_MAX,
            first_frame_by: None,
        }
    }

    fn ends_at(&self) -> Time {
        self.first_frame_by
            .unwrap_or(self.deadline)
            .min(self.deadline)
    }

    fn is_accepted(&self) -> bool {
        self.conn.0 & ConnId::ACCEPTED != 0
    }

    /// Whether nothing was ever queued on it.
    fn is_unanswered(&self) -> bool {
        self.outbound.is_empty() && !self.closing
    }

    /// Whether an accepted stream has said the one thing that it may say.
    fn has_spoken(&self) -> bool {
        self.is_accepted() && self.first_frame_by.is_none()
    }

    fn is_drained(&self) -> bool {
        self.sent == self.outbound.len()
    }

    /// Says whether the frame found room.
    fn queue(&mut self, frame: &[u8]) -> bool {
        let waiting = self.outbound.len() - self.sent;
        if frame.len() > BULK_FRAME_BYTES || waiting + frame.len() > BULK_OUTBOUND_BYTES {
            return false;
        }
        if self.is_drained() {
            self.outbound.clear();
            self.sent = 0;
        }
        let length = u32::try_from(frame.len()).expect("below BULK_FRAME_BYTES");
        self.outbound.extend_from_slice(&length.to_le_bytes());
        self.outbound.extend_from_slice(frame);
        true
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.is_drained() {
            match self.socket.write(&self.outbound[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Not connected yet is told by WouldBlock or NotConnected.
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes all whole frames that are there. The buffer grows with what
    /// arrived, never with what a length claims.
    fn read(&mut self, out: &mut Vec<Arrival>) -> io::Result<Progress> {
        let mut piece = [0; PIECE_BYTES];
        for _ in 0..PIECES_PER_TURN {
            let ended = match self.socket.read(&mut piece) {
                Ok(0) => true,
                Ok(count) => {
                    self.inbound.extend_from_slice(&piece[..count]);
                    false
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(Progress::Idle);
                }
                Err(e) => return Err(e),
            };
            self.take_frames(out)?;
            if ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Progress::More)
    }

    fn take_frames(&mut self, out: &mut Vec<Arrival>) -> io::Result<()> {
        let mut taken = 0;
        while let Some(head) = self.inbound.get(taken..taken + LENGTH_BYTES) {
            let length = u32::from_le_bytes(head.try_into().expect("four bytes")) as usize;
            if !(OVERHEAD_BYTES..=BULK_FRAME_BYTES).contains(&length) {
                return Err(io::Error::other("no frame has the length that is claimed"));
            }
            if self.has_spoken() {
                return Err(io::Error::other("a hello is one frame and no more"));
            }
            let start = taken + LENGTH_BYTES;
            let Some(frame) = self.inbound.get(start..start + length) else {
                break;
            };
            out.push(Arrival::Frame(self.conn, frame.to_vec()));
            self.first_frame_by = None;
            taken = start + length;
        }
        self.inbound.drain(..taken);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    const LISTENER: Token = Token(0);

    /// Bytes of the length of a small frame.
    const FRAME_LENGTH: u32 = 64;
    const FRAME: [u8; FRAME_LENGTH as usize] = [7; FRAME_LENGTH as usize];

    struct Bed {
        poll: Poll,
        listener: TcpListener,
        streams: BulkStreams,
        members: Vec<IpAddr>,
        now: Time,
    }

    impl Bed {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            poll.registry()
                .register(&mut listener, LISTENER, Interest::READABLE)
                .unwrap();
            Self {
                poll,
                listener,
                streams: BulkStreams::new(),
                members: Vec::new(),
                now: Time::from_millis(1),
            }
        }

        fn address(&self) -> SocketAddr {
            self.listener.local_addr().unwrap()
        }

        /// Turns the loop until something arrives or a second has passed.
        fn arrivals(&mut self) -> Vec<Arrival> {
            let mut events = Events::with_capacity(64);
            let mut out = Vec::new();
            for _ in 0..100 {
                let wait = Some(Duration::from_millis(10));
                self.poll.poll(&mut events, wait).unwrap();
                let registry = self.poll.registry();
                self.streams.resume(registry, &mut out);
                let mut connected = self.streams.unaccepted;
                for event in &events {
                    if event.token() == LISTENER {
                        connected = true;
                    } else {
                        self.streams.ready(event.token(), registry, &mut out);
                    }
                }
                if connected {
                    let known = |peer| self.members.contains(&peer);
                    self.streams
                        .accept(&self.listener, registry, self.now, &known);
                }
                if !out.is_empty() {
                    break;
                }
            }
            out
        }
    }

    #[test]
    fn frames_arrive_whole_whatever_the_pieces() {
        let mut bed = Bed::new();
        let mut client = std::net::TcpStream::connect(bed.address()).unwrap();
        client.write_all(&FRAME_LENGTH.to_le_bytes()).unwrap();
        client.write_all(&FRAME[..20]).unwrap();
        assert_eq!(bed.arrivals(), [], "half a frame is none");
        client.write_all(&FRAME[20..]).unwrap();
        assert_eq!(
            bed.arrivals(),
            [Arrival::Frame(ConnId(ConnId::ACCEPTED), FRAME.to_vec())]
        );
    }

    #[test]
    fn a_stranger_may_say_one_frame_and_is_closed_when_it_draws_nothing() {
        let mut bed = Bed::new();
        let theirs = ConnId(ConnId::ACCEPTED);
        let registry = bed.poll.registry().try_clone().unwrap();
        let mut client = std::net::TcpStream::connect(bed.address()).unwrap();
        client.write_all(&FRAME_LENGTH.to_le_bytes()).unwrap();
        client.write_all(&FRAME).unwrap();
        assert_eq!(bed.arrivals().len(), 1);
        assert!(bed.streams.tokens.contains_key(&theirs.0));
        bed.streams.close_unanswered(theirs, &registry);
        assert!(!bed.streams.tokens.contains_key(&theirs.0));

        let mut client = std::net::TcpStream::connect(bed.address()).unwrap();
        let mut two = Vec::new();
        for _ in 0..2 {
            two.extend(FRAME_LENGTH.to_le_bytes());
            two.extend(FRAME);
        }
        client.write_all(&two).unwrap();
        let arrivals = bed.arrivals();
        assert_eq!(
            arrivals.last(),
            Some(&Arrival::Closed(ConnId(theirs.0 + 1)))
        );
    }

    #[test]
    fn lengths_that_no_frame_has_end_the_stream_at_once() {
        let mut bed = Bed::new();
        let mut client = std::net::TcpStream::connect(bed.address()).unwrap();
        client.write_all(&[0; 64 << 10]).unwrap();
        assert_eq!(bed.arrivals(), [Arrival::Closed(ConnId(ConnId::ACCEPTED))]);
    }

    #[test]
    fn a_claimed_length_above_the_limit_ends_the_stream() {
        let mut bed = Bed::new();
        let mut client = std::net::TcpStream::connect(bed.address()).unwrap();
        client.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(bed.arrivals(), [Arrival::Closed(ConnId(ConnId::ACCEPTED))]);
    }

    #[test]
    fn one_address_gets_few_streams_and_silence_ends_them() {
        let mut bed = Bed::new();
        let clients: Vec<_> = (0..BULK_STREAMS_PER_ADDRESS + 2)
            .map(|_| std::net::TcpStream::connect(bed.address()).unwrap())
            .collect();
        bed.arrivals();
        assert_eq!(bed.streams.refused, 2);
        let mut out = Vec::new();
        let later = bed.now + BULK_FIRST_FRAME;
        assert_eq!(bed.streams.next_deadline(), later);
        bed.streams.expire(later, bed.poll.registry(), &mut out);
        assert_eq!(out.len(), BULK_STREAMS_PER_ADDRESS);
        drop(clients);
    }

    /// A connection from an address of this host.
    fn connect_from(from: [u8; 4], to: SocketAddr) -> std::net::TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        socket.into()
    }

    #[test]
    fn strangers_from_many_addresses_leave_places_for_members() {
        let mut bed = Bed::new();
        let member = [127, 0, 0, 99];
        bed.members.push(IpAddr::from(member));
        // As many as a listener lets wait.
        let unknown: Vec<_> = (0..100)
            .map(|n| connect_from([127, 0, 7, n], bed.address()))
            .collect();
        bed.arrivals();
        assert_eq!(bed.streams.by_token.len(), BULK_STRANGERS);
        let mut client = connect_from(member, bed.address());
        client.write_all(&FRAME_LENGTH.to_le_bytes()).unwrap();
        client.write_all(&FRAME).unwrap();
        let arrived = bed.arrivals();
        assert!(
            matches!(arrived.last(), Some(Arrival::Frame(..))),
            "{arrived:?}"
        );
        drop(unknown);
    }

    #[test]
    fn a_large_answer_crosses_two_streams_of_one_loop() {
        let mut bed = Bed::new();
        let to = bed.address();
        let ours = ConnId(7);
        let registry = bed.poll.registry().try_clone().unwrap();
        bed.streams
            .connect(ours, to, &FRAME, &registry, bed.now)
            .unwrap();
        let Some(Arrival::Frame(theirs, _)) = bed.arrivals().pop() else {
            panic!("the hello did not arrive");
        };
        let frame = vec![7; BULK_FRAME_BYTES];
        for _ in 0..32 {
            bed.streams.send(theirs, &frame, &registry);
        }
        bed.streams.close(theirs, &registry);
        let mut frames = 0;
        let mut closed = false;
        while !closed {
            let arrivals = bed.arrivals();
            assert!(!arrivals.is_empty(), "stuck after {frames} frames");
            for arrival in arrivals {
                match arrival {
                    Arrival::Frame(conn, bytes) => {
                        assert_eq!((conn, bytes.len()), (ours, BULK_FRAME_BYTES));
                        frames += 1;
                    }
                    Arrival::Closed(conn) => closed |= conn == ours,
                }
            }
        }
        assert_eq!(frames, 32);
    }
}
