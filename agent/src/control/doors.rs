//! Who may be connected to a listener at once: so many in all and from one
//! address, and nobody without an end.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::limits::{METRICS_IDLE, METRICS_REQUEST};

/// Conversations of one line each. Above a limit the oldest goes: whoever means
/// it has had its answer long since.
#[derive(Debug)]
pub(super) struct Lines {
    most: usize,
    per_address: usize,
    running: VecDeque<(IpAddr, AbortHandle)>,
}

impl Lines {
    pub(super) const fn new(most: usize, per_address: usize) -> Self {
        Self {
            most,
            per_address,
            running: VecDeque::new(),
        }
    }

    /// One more begins.
    pub(super) fn add(&mut self, peer: IpAddr, task: AbortHandle) {
        self.running.retain(|(_, task)| !task.is_finished());
        let of_peer = self.running.iter().filter(|(one, _)| *one == peer).count();
        let oldest = if of_peer >= self.per_address {
            self.running.iter().position(|(one, _)| *one == peer)
        } else {
            (self.running.len() >= self.most).then_some(0)
        };
        if let Some((_, task)) = oldest.and_then(|at| self.running.remove(at)) {
            task.abort();
        }
        self.running.push_back((peer, task));
    }
}

/// Who is connected: an address, or a user of this host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    Address(SocketAddr),
    User(u32),
}

impl Peer {
    /// What its places are counted by.
    fn who(self) -> Who {
        match self {
            Self::Address(addr) => Who::Address(addr.ip().to_canonical()),
            Self::User(uid) => Who::User(uid),
        }
    }

    /// For logs and decisions: a user's name, or the number where it has none.
    pub(super) fn name(self) -> String {
        match self {
            Self::Address(addr) => addr.ip().to_canonical().to_string(),
            Self::User(uid) => {
                let user = nix::unistd::User::from_uid(uid.into());
                let name = user.ok().flatten().map(|user| user.name);
                name.unwrap_or_else(|| uid.to_string())
            }
        }
    }
}

/// By what places are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Address(IpAddr),
    User(u32),
}

/// What people and programs come through.
pub(super) trait Door: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next who comes.
    fn next(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn next(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = self.accept().await?;
        Ok((stream, Peer::Address(peer)))
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn next(&mut self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let uid = stream.peer_cred()?.uid();
        Ok((stream, Peer::User(uid)))
    }
}

/// How many are connected from each address.
type Counts = Arc<Mutex<HashMap<Who, usize>>>;

/// A listener for HTTP whose connections are few and end.
pub(super) struct Few<D> {
    listener: D,
    counts: Counts,
    /// In all, and from one address or user.
    most: (usize, usize),
    patience: Patience,
}

/// For how long a connection is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// A request, from its first byte to its answer.
    request: Duration,
    /// Anything.
    idle: Duration,
}

impl<D> Few<D> {
    /// So many at most: in all, and from one address or user.
    pub(super) fn new(listener: D, most: (usize, usize)) -> Self {
        Self {
            listener,
            counts: Counts::default(),
            most,
            patience: Patience {
                request: METRICS_REQUEST,
                idle: METRICS_IDLE,
            },
        }
    }
}

impl<D: Door> axum::serve::Listener for Few<D> {
    type Io = Held<D::Stream>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Held<D::Stream>, Peer) {
        loop {
            let Ok((stream, peer)) = self.listener.next().await else {
                // Out of descriptors: give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Some(place) = Place::take(&self.counts, self.most, peer.who()) {
                return (Held::new(stream, place, self.patience), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        // Nobody asks.
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl<D: Door> Connected<IncomingStream<'_, Few<D>>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Few<D>>) -> Self {
        *stream.remote_addr()
    }
}

/// One of the connections that may be.
struct Place {
    counts: Counts,
    peer: Who,
}

impl Place {
    fn take(counts: &Counts, (most, most_of_one): (usize, usize), peer: Who) -> Option<Self> {
        let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = held.values().sum();
        let of_peer = held.get(&peer).copied().unwrap_or(0);
        if all >= most || of_peer >= most_of_one {
            return None;
        }
        *held.entry(peer).or_default() += 1;
        Some(Self {
            counts: Arc::clone(counts),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

/// A connection that ends when nothing moves, or a request takes too long.
pub(super) struct Held<S> {
    stream: S,
    _place: Place,
    patience: Patience,
    /// Since when a request has been coming in.
    asked: Option<Instant>,
    moved: Instant,
    end: Pin<Box<Sleep>>,
}

impl<S> Held<S> {
    fn new(stream: S, place: Place, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            stream,
            _place: place,
            patience,
            // The first one is expected at once.
            asked: Some(now),
            moved: now,
            end: Box::pin(sleep_until(now + patience.request)),
        }
    }

    /// Waits for whatever the stream waits for, and no longer than it may.
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let idle = self.moved + self.patience.idle;
        let end = self
            .asked
            .map_or(idle, |asked| idle.min(asked + self.patience.request));
        if self.end.deadline() != end {
            self.end.as_mut().reset(end);
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.pending(cx),
            ready => {
                let now = Instant::now();
                self.moved = now;
                self.asked.get_or_insert(now);
                ready
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.pending(cx),
            ready => {
                self.moved = Instant::now();
                self.asked = None;
                ready
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::limits::{METRICS_CONNECTIONS, METRICS_PER_ADDRESS};

    const MOST: (usize, usize) = (METRICS_CONNECTIONS, METRICS_PER_ADDRESS);

    const fn addr(n: u8) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, n))
    }

    #[tokio::test]
    async fn the_oldest_line_gives_way_to_who_comes_now() {
        let mut lines = Lines::new(4, 2);
        let silent = || tokio::spawn(std::future::pending::<()>());
        let mut add = |peer| {
            let task = silent();
            lines.add(addr(peer), task.abort_handle());
            task
        };
        let first = add(1);
        let second = add(1);
        let third = add(1);
        assert!(first.await.is_err(), "one address has two");
        let rest: Vec<_> = (2..5).map(&mut add).collect();
        assert!(second.await.is_err(), "four in all");
        assert!(!third.is_finished() && rest.iter().all(|task| !task.is_finished()));
    }

    #[test]
    fn places_are_few_by_address_and_in_all_and_come_back() {
        let counts = Counts::default();
        let take = |n| Place::take(&counts, MOST, Who::Address(addr(n)));
        let one: Vec<_> = std::iter::repeat_with(|| take(1))
            .take(METRICS_PER_ADDRESS)
            .collect();
        assert!(one.iter().all(Option::is_some) && take(1).is_none());
        let others: Vec<_> = (2..255).filter_map(take).collect();
        assert_eq!(one.len() + others.len(), METRICS_CONNECTIONS);
        drop((one, others));
        assert!(take(1).is_some());
    }

    #[tokio::test]
    async fn half_a_request_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let page = axum::routing::get(|| async { "all is well" });
        let app = axum::Router::new().route("/", page);
        let few = Few {
            patience: Patience {
                request: Duration::from_millis(200),
                idle: Duration::from_millis(400),
            },
            ..Few::new(listener, MOST)
        };
        tokio::spawn(async move { axum::serve(few, app).await });
        let mut half = TcpStream::connect(to).await.unwrap();
        half.write_all(b"GET / HT").await.unwrap();
        let mut answer = Vec::new();
        let _ = half.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
        let mut whole = TcpStream::connect(to).await.unwrap();
        whole
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let began = Instant::now();
        let _ = whole.read_to_end(&mut answer).await;
        assert!(answer.ends_with(b"all is well"), "it is answered");
        // The answer came at once; then nothing moved.
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
