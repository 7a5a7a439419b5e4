//! The kinds of checks: one folder each, and this registry.
//!
//! A kind says what its keys are, what bytes name it, what it wants of the
//! network, and what it says to what comes. The engine knows kinds by what
//! this trait says of them, and by nothing else. How one is added is told in
//! CONTRIBUTING.md.

pub mod grpc;
pub mod h2;
pub mod http;
pub mod send_expect;
pub mod tcp;

use core::fmt;
use core::net::SocketAddr;
use std::borrow::Cow;

use watchfire_wire::Reason;

use crate::check::Canonical;
use crate::keys::{KeyError, Keys};
use crate::stream::TlsSpec;

/// What a kind of check is made of.
pub(crate) trait CheckKind: Sized {
    /// Its name in a configuration, in metrics and in JSON, without TLS and
    /// with it.
    const NAMES: [&'static str; 2];
    /// The byte that tells it apart in canonical bytes; never used again.
    const TAG: u8;
    /// The keys that it takes from a configuration, in groups.
    const KEYS: &'static [&'static [&'static str]];
    /// Whether its stream carries bytes of its own, be it in TLS or not.
    const CARRIES_BYTES: bool = true;
    /// The protocol that it speaks, where TLS is to agree to it: what is offered (ALPN)
    /// unless the check says otherwise.
    const ALPN: Option<&'static str> = None;
    /// Whether what it says and hears begins with a head of HTTP's, once it is
    /// [legible](Self::legible).
    const HAS_HEADS: bool = false;
    /// What it remembers of one probe.
    type Exchange: Exchange<Spec = Self>;

    /// Takes its keys; `tls` is for whether the stream is to be in TLS.
    fn read(keys: &mut dyn Keys, target: &SocketAddr) -> Result<Self, KeyError>;

    /// Whether it can be probed and means what it says.
    fn validate(&self) -> Result<(), KeyError>;

    /// Its canonical bytes after the tag, those of the stream's TLS included.
    fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical);

    /// What it wants of the network, its stream in TLS or not.
    fn transport(&self, tls: bool) -> Transport;

    /// What it has to say in one probe, its stream in TLS or not, built once.
    fn prepare(&self, user_agent: &str, tls: bool) -> Box<[u8]>;

    /// A probe begins.
    fn begin(&self) -> Self::Exchange;

    /// For people, with the target as it is shown.
    fn describe(&self, tls: bool, target: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The head of what it sends, as people may see it; nothing where secrets could
    /// stand anywhere in it.
    fn sent(&self, _prepared: &[u8]) -> Option<String> {
        None
    }

    /// The beginning of what was sent or came on a connection as lines for people;
    /// nothing where it is that already. Secrets are still in it.
    fn legible(_bytes: &[u8]) -> Option<Vec<u8>> {
        None
    }

    /// The name that a certificate must bear, unless it is configured; the
    /// target's address if there is none.
    fn server_name(&self) -> Option<&str> {
        None
    }
}

/// One probe of a kind: bytes in, bytes out, a verdict.
pub(crate) trait Exchange {
    /// What it is a probe of.
    type Spec;

    /// The stream stands, anew or still.
    fn connected(&mut self, spec: &Self::Spec) -> Next;

    /// Bytes that came, all of which it takes.
    fn receive(&mut self, spec: &Self::Spec, bytes: &[u8]) -> Next;

    /// The origin ended its side.
    fn ended(&mut self, spec: &Self::Spec) -> Next;

    /// What was to be sent has left.
    fn flushed(&mut self) {}

    /// What is to be sent now: part of the prepared bytes, or bytes of its own, which
    /// stay where they are until they have left (so they are in memory of their own,
    /// and only one that keeps no connection has any). What it says first is always the
    /// beginning of those prepared.
    fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8];

    /// Whether anything of the answer is among the bytes that came.
    fn has_answered(&self) -> bool {
        true
    }

    /// A status of the answer, for people.
    fn status(&self) -> Option<u16> {
        None
    }

    /// Whether an origin that passed is degraded all the same; its first byte
    /// came after so many microseconds.
    fn is_degraded(&self, _spec: &Self::Spec, _first_byte_us: u32) -> bool {
        false
    }

    /// Whether the origin asked to be Down at once.
    fn is_down_at_once(&self) -> bool {
        false
    }
}

/// What an exchange says to what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// More is to come.
    More,
    /// Something is to be sent.
    Send,
    /// It passed.
    Pass {
        /// The connection may carry another probe.
        keep: bool,
    },
    /// The origin was about to end a kept connection, which is its right: the
    /// probe begins again on a new one. On a new one it is this fail.
    Stale(Reason),
    /// It failed.
    Fail(Reason),
}

/// What a kind wants of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A connection, reset as soon as it stands: SYN, SYN-ACK, RST.
    HalfOpen,
    /// A connection that carries bytes.
    Stream {
        /// It is kept for the next probe where both sides like.
        keep: bool,
        /// The first bytes are the origin's.
        origin_first: bool,
        /// It is closed with FIN after a probe that passed, not reset.
        fin: bool,
    },
}

/// Makes the registry: one line a kind.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $module:ident,)*) => {
        /// What a probe does.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name($module::Spec),)*
        }

        /// A probe of whatever kind.
        #[derive(Debug)]
        pub(crate) enum AnyExchange {
            $($name(<$module::Spec as CheckKind>::Exchange),)*
        }

        /// Every kind's names, without TLS and with it, in the registry's
        /// order: the places of [`Stats::kinds`](crate::Stats::kinds).
        pub const KIND_KEYS: [&str; 2 * KINDS.len()] = {
            let mut keys = [""; 2 * KINDS.len()];
            let mut at = 0;
            while at < KINDS.len() {
                keys[2 * at] = KINDS[at].names[0];
                keys[2 * at + 1] = KINDS[at].names[1];
                at += 1;
            }
            keys
        };

        /// What is known of a kind without a check of it.
        pub const KINDS: &[About] = &[$(About {
            names: <$module::Spec as CheckKind>::NAMES,
            keys: <$module::Spec as CheckKind>::KEYS,
            carries_bytes: <$module::Spec as CheckKind>::CARRIES_BYTES,
            alpn: <$module::Spec as CheckKind>::ALPN,
            has_heads: <$module::Spec as CheckKind>::HAS_HEADS,
            legible: <$module::Spec as CheckKind>::legible,
        },)*];

        impl Kind {
            /// Reads the kind of this name from its keys. The second value
            /// says whether its stream is to be in TLS. Nothing if no kind has
            /// the name.
            ///
            /// # Errors
            ///
            /// A key that is missing, or that means nothing.
            pub fn read(
                name: &str,
                keys: &mut dyn Keys,
                target: &SocketAddr,
            ) -> Option<Result<(Self, bool), KeyError>> {
                $(
                    if let Some(tls) = <$module::Spec as CheckKind>::NAMES
                        .iter()
                        .position(|known| *known == name)
                    {
                        let read = <$module::Spec as CheckKind>::read(keys, target);
                        return Some(read.map(|spec| (Self::$name(spec), tls == 1)));
                    }
                )*
                None
            }

            /// Its place in the registry.
            const fn place(&self) -> usize {
                enum Place { $($name,)* }
                match self {
                    $(Self::$name(_) => Place::$name as usize,)*
                }
            }

            pub(crate) fn validate(&self) -> Result<(), KeyError> {
                match self {
                    $(Self::$name(spec) => CheckKind::validate(spec),)*
                }
            }

            pub(crate) fn canonical(&self, tls: Option<&TlsSpec>, out: &mut Canonical) {
                match self {
                    $(Self::$name(spec) => {
                        out.byte(<$module::Spec as CheckKind>::TAG);
                        CheckKind::canonical(spec, tls, out);
                    })*
                }
            }

            pub(crate) fn transport(&self, tls: bool) -> Transport {
                match self {
                    $(Self::$name(spec) => CheckKind::transport(spec, tls),)*
                }
            }

            pub(crate) fn prepare(&self, user_agent: &str, tls: bool) -> Box<[u8]> {
                match self {
                    $(Self::$name(spec) => CheckKind::prepare(spec, user_agent, tls),)*
                }
            }

            pub(crate) fn begin(&self) -> AnyExchange {
                match self {
                    $(Self::$name(spec) => AnyExchange::$name(CheckKind::begin(spec)),)*
                }
            }

            pub(crate) fn describe(
                &self,
                tls: bool,
                target: &str,
                f: &mut fmt::Formatter<'_>,
            ) -> fmt::Result {
                match self {
                    $(Self::$name(spec) => CheckKind::describe(spec, tls, target, f),)*
                }
            }

            /// The head of what it sends, as people may see it: without secrets,
            /// escaped, line by line. Nothing where secrets could stand anywhere.
            #[must_use]
            pub fn sent(&self, user_agent: &str, tls: bool) -> Option<String> {
                match self {
                    $(Self::$name(spec) => {
                        CheckKind::sent(spec, &CheckKind::prepare(spec, user_agent, tls))
                    })*
                }
            }

            /// The name that a certificate must bear, as the kind's own keys
            /// have it.
            #[must_use]
            pub fn server_name(&self) -> Option<&str> {
                match self {
                    $(Self::$name(spec) => CheckKind::server_name(spec),)*
                }
            }
        }

        impl AnyExchange {
            pub(crate) fn connected(&mut self, kind: &Kind) -> Next {
                match (self, kind) {
                    $((Self::$name(exchange), Kind::$name(spec)) => exchange.connected(spec),)*
                    $((Self::$name(_), _) => Next::More,)*
                }
            }

            pub(crate) fn receive(&mut self, kind: &Kind, bytes: &[u8]) -> Next {
                match (self, kind) {
                    $((Self::$name(exchange), Kind::$name(spec)) => exchange.receive(spec, bytes),)*
                    // An exchange is of its check's own kind.
                    $((Self::$name(_), _) => Next::More,)*
                }
            }

            pub(crate) fn ended(&mut self, kind: &Kind) -> Next {
                match (self, kind) {
                    $((Self::$name(exchange), Kind::$name(spec)) => exchange.ended(spec),)*
                    $((Self::$name(_), _) => Next::More,)*
                }
            }

            pub(crate) fn flushed(&mut self) {
                match self {
                    $(Self::$name(exchange) => exchange.flushed(),)*
                }
            }

            pub(crate) fn outgoing<'a>(&'a self, prepared: &'a [u8]) -> &'a [u8] {
                match self {
                    $(Self::$name(exchange) => exchange.outgoing(prepared),)*
                }
            }

            pub(crate) fn has_answered(&self) -> bool {
                match self {
                    $(Self::$name(exchange) => exchange.has_answered(),)*
                }
            }

            pub(crate) fn status(&self) -> Option<u16> {
                match self {
                    $(Self::$name(exchange) => exchange.status(),)*
                }
            }

            pub(crate) fn is_degraded(&self, kind: &Kind, first_byte_us: u32) -> bool {
                match (self, kind) {
                    $((Self::$name(exchange), Kind::$name(spec)) => {
                        exchange.is_degraded(spec, first_byte_us)
                    })*
                    $((Self::$name(_), _) => false,)*
                }
            }

            pub(crate) fn is_down_at_once(&self) -> bool {
                match self {
                    $(Self::$name(exchange) => exchange.is_down_at_once(),)*
                }
            }
        }
    };
}

kinds! {
    /// A TCP connection, and nothing on it.
    Tcp = tcp,
    /// One HTTP request.
    Http = http,
    /// Steps on a stream: send this, expect that.
    SendExpect = send_expect,
    /// One HTTP/2 request.
    H2 = h2,
    /// gRPC's health check.
    Grpc = grpc,
}

/// What is known of a kind without a check of it.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its names, without TLS and with it.
    pub names: [&'static str; 2],
    /// The keys that it takes, in groups.
    pub keys: &'static [&'static [&'static str]],
    /// Whether its stream carries bytes of its own.
    pub carries_bytes: bool,
    /// The protocol that TLS is to agree to.
    pub(crate) alpn: Option<&'static str>,
    /// Whether it begins with a head of HTTP's.
    pub has_heads: bool,
    legible: fn(&[u8]) -> Option<Vec<u8>>,
}

/// The port of the kind of this name where none is written: that of HTTP, in TLS or
/// not. A Host header leaves it out. Nothing if the kind has none.
#[must_use]
pub fn usual_port(name: &str) -> Option<u16> {
    let about = KINDS.iter().find(|about| about.names.contains(&name))?;
    let tls = about.names[1] == name;
    about.has_heads.then_some(if tls { 443 } else { 80 })
}

impl Kind {
    /// One word for metrics and JSON, like `http`, or `https` with TLS.
    #[must_use]
    pub fn key(&self, tls: bool) -> &'static str {
        KIND_KEYS[self.index(tls)]
    }

    /// Its place in [`KIND_KEYS`].
    #[must_use]
    pub const fn index(&self, tls: bool) -> usize {
        2 * self.place() + tls as usize
    }

    /// Whether anything is sent on its connections: a header may stand before
    /// that.
    #[must_use]
    pub const fn carries_bytes(&self, tls: bool) -> bool {
        tls || KINDS[self.place()].carries_bytes
    }

    /// The protocol that TLS is to agree to, if any.
    pub(crate) const fn alpn(&self) -> Option<&'static str> {
        KINDS[self.place()].alpn
    }

    /// Whether what is said and heard begins with a head of HTTP's, once it is
    /// [legible](Self::legible).
    #[must_use]
    pub const fn has_heads(&self) -> bool {
        KINDS[self.place()].has_heads
    }

    /// The beginning of what was sent or came on a connection, as lines for people.
    /// Secrets are still in it.
    #[must_use]
    pub fn legible<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let legible = KINDS[self.place()].legible;
        legible(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned)
    }

    /// Whether a connection is kept from one probe to the next.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        matches!(self.transport(false), Transport::Stream { keep: true, .. })
    }
}
