//! Bulk streams between nodes: reliable and in order, late when segments are
//! lost, closed when a process ends or the link is cut.

use std::collections::{BTreeMap, HashMap};

use watchfire_core::io::{BulkEvent, ConnId, Input};

use crate::net::STREAM_TIMEOUT_US;
use crate::world::{Event, Peer, World};

/// Bytes of IP and TCP headers (with timestamps) per segment.
const TCP_HEADER_BYTES: u64 = 52;
/// Payload of a full segment.
const SEGMENT_BYTES: u64 = 1_448;
/// A connection to a host where nothing listens is refused after this time.
const REFUSED_US: u64 = 200;

/// All open streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: BTreeMap<u64, Stream>,
    by_end: HashMap<(usize, ConnId), u64>,
    opened: u64,
}

#[derive(Debug)]
struct Stream {
    ends: [End; 2],
}

#[derive(Clone, Copy, Debug)]
struct End {
    host: usize,
    life: u32,
    conn: ConnId,
    /// What was sent to this end arrives by then.
    ready_us: u64,
}

impl World {
    pub(crate) fn connect(&mut self, host: usize, conn: ConnId, to: Peer, hello: Vec<u8>) {
        let life = self.hosts[host].life;
        let target = match to {
            Peer::Host(target) if self.hosts[target].agent.is_some() => target,
            _ => {
                let frame = None;
                let closed = Event::Stream {
                    host,
                    life,
                    conn,
                    frame,
                };
                self.queue.push(self.now_us + REFUSED_US, closed);
                return;
            }
        };
        let number = self.streams.opened;
        self.streams.opened += 1;
        let accepted = ConnId(ConnId::ACCEPTED | number);
        let near = End {
            host,
            life,
            conn,
            ready_us: self.now_us,
        };
        let far_life = self.hosts[target].life;
        let far = End {
            host: target,
            life: far_life,
            conn: accepted,
            ready_us: self.now_us,
        };
        self.streams.by_end.insert((host, conn), number);
        self.streams.by_end.insert((target, accepted), number);
        self.streams
            .open
            .insert(number, Stream { ends: [near, far] });
        self.send_frame(number, 0, hello, true);
    }

    pub(crate) fn stream_send(&mut self, host: usize, conn: ConnId, bytes: Vec<u8>) {
        if let Some((number, side)) = self.streams.find(host, conn) {
            self.send_frame(number, side, bytes, false);
        }
    }

    /// Closes a stream from this end; the other end reads what is on its way.
    pub(crate) fn stream_close(&mut self, host: usize, conn: ConnId) {
        let Some((number, side)) = self.streams.find(host, conn) else {
            return;
        };
        let [near, far] = self.streams.remove(number, side);
        let cut = self.net.is_cut(near.host, far.host);
        let delay_us = if cut {
            STREAM_TIMEOUT_US
        } else {
            self.net.weather.delay_us
        };
        let at_us = far.ready_us.max(self.now_us + delay_us);
        let (host, life, conn) = (far.host, far.life, far.conn);
        self.queue.push(
            at_us,
            Event::Stream {
                host,
                life,
                conn,
                frame: None,
            },
        );
    }

    /// A process is gone: its kernel closes what it had open.
    pub(crate) fn drop_streams(&mut self, host: usize) {
        let mut conns: Vec<ConnId> = self
            .streams
            .by_end
            .keys()
            .filter_map(|&(owner, conn)| (owner == host).then_some(conn))
            .collect();
        conns.sort_by_key(|conn| conn.0);
        for conn in conns {
            self.stream_close(host, conn);
        }
    }

    pub(crate) fn deliver_stream(&mut self, host: usize, conn: ConnId, frame: Option<Vec<u8>>) {
        match frame {
            Some(bytes) => {
                let mut buffer = self.aligned(&bytes);
                let event = BulkEvent::Frame(&mut buffer);
                self.feed(host, Input::Bulk { conn, event });
                self.give_back(buffer);
            }
            None => {
                self.streams.by_end.remove(&(host, conn));
                self.feed(
                    host,
                    Input::Bulk {
                        conn,
                        event: BulkEvent::Closed,
                    },
                );
            }
        }
    }

    fn send_frame(&mut self, number: u64, side: usize, bytes: Vec<u8>, first: bool) {
        let ends = self.streams.open[&number].ends;
        let (near, far) = (ends[side], ends[1 - side]);
        let segments = 1 + bytes.len() as u64 / SEGMENT_BYTES + if first { 2 } else { 0 };
        let sender = &mut self.hosts[near.host];
        sender.packets_sent += segments;
        let headers = segments * TCP_HEADER_BYTES;
        sender.bytes_sent += bytes.len() as u64 + headers;
        self.load
            .sent_bulk(self.now_us, near.host, bytes.len(), headers);
        let took = self
            .net
            .stream_us(near.host, far.host, bytes.len(), first, &mut self.fired);
        let Some(took_us) = took else {
            let [near, far] = self.streams.remove(number, side);
            for end in [near, far] {
                let (host, life, conn) = (end.host, end.life, end.conn);
                let closed = Event::Stream {
                    host,
                    life,
                    conn,
                    frame: None,
                };
                self.queue.push(self.now_us + STREAM_TIMEOUT_US, closed);
            }
            return;
        };
        let at_us = far.ready_us.max(self.now_us + took_us);
        let stream = self
            .streams
            .open
            .get_mut(&number)
            .expect("it was just read");
        stream.ends[1 - side].ready_us = at_us;
        let (host, life, conn) = (far.host, far.life, far.conn);
        self.queue.push(
            at_us,
            Event::Stream {
                host,
                life,
                conn,
                frame: Some(bytes),
            },
        );
    }
}

impl Streams {
    fn find(&self, host: usize, conn: ConnId) -> Option<(u64, usize)> {
        let number = *self.by_end.get(&(host, conn))?;
        let stream = self.open.get(&number)?;
        let is_near = stream.ends[0].host == host && stream.ends[0].conn == conn;
        Some((number, usize::from(!is_near)))
    }

    /// Both ends, the one on `side` first.
    fn remove(&mut self, number: u64, side: usize) -> [End; 2] {
        let stream = self.open.remove(&number).expect("it was found");
        for end in stream.ends {
            self.by_end.remove(&(end.host, end.conn));
        }
        let [a, b] = stream.ends;
        if side == 0 { [a, b] } else { [b, a] }
    }
}
