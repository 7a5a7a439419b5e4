//! A check as bytes, from which its name is made.

use core::net::SocketAddr;
use core::time::Duration;

use super::{CheckSpec, HealthRule};
use crate::egress::Egress;
use crate::stream::TlsSpec;
use crate::stream::proxy::ProxyHeader;

impl CheckSpec {
    /// The check as bytes: versioned, and no two different checks give the
    /// same ones. Every text carries its length, every choice a number.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Canonical(Vec::with_capacity(160));
        if self.egress.is_some() || self.proxy.is_some() {
            // In front of all else and under a number of its own, so that the
            // bytes of whatever follows stay unambiguous.
            out.byte(CANONICAL_WITH_WAY);
            out.byte(self.proxy.map_or(0, ProxyHeader::number));
            self.egress
                .as_deref()
                .unwrap_or(&Egress::default())
                .canonical(&mut out);
        } else {
            out.byte(CANONICAL_VERSION);
        }
        match (&self.name, self.target) {
            // The name is what the check is of; its addresses come and go.
            (Some(name), _) => {
                out.byte(TARGET_NAME);
                out.text(name.as_str());
            }
            (None, SocketAddr::V4(v4)) => {
                out.byte(4);
                out.0.extend_from_slice(&v4.ip().octets());
            }
            (None, SocketAddr::V6(v6)) => {
                out.byte(6);
                out.0.extend_from_slice(&v6.ip().octets());
                out.0.extend_from_slice(&v6.scope_id().to_be_bytes());
            }
        }
        out.number(u64::from(self.target.port()));
        out.duration(self.interval);
        out.duration(self.timeout);
        out.optional_duration(self.fast_interval);
        out.optional_duration(self.down_interval);
        match self.rule {
            HealthRule::RiseFall { rise, fall } => {
                out.0.extend_from_slice(&[0, rise, fall]);
            }
            HealthRule::Window {
                window,
                threshold,
                initial,
            } => {
                out.0
                    .extend_from_slice(&[1, window, threshold, initial.code()]);
            }
        }
        self.kind.canonical(self.tls.as_ref(), &mut out);
        out.0
    }
}

/// First byte of the canonical bytes. Another one makes every check a new one.
const CANONICAL_VERSION: u8 = 1;

/// First byte where the way of the packets, or what stands before the stream,
/// is written too.
const CANONICAL_WITH_WAY: u8 = 2;

/// Tells a name from addresses, which begin with 4 or 6.
const TARGET_NAME: u8 = 1;

/// Writes canonical bytes: every field says its own length.
pub(crate) struct Canonical(Vec<u8>);

impl Canonical {
    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn optional_duration(&mut self, duration: Option<Duration>) {
        match duration {
            None => self.byte(0),
            Some(duration) => {
                self.byte(1);
                self.duration(duration);
            }
        }
    }

    pub(crate) fn tls(&mut self, tls: Option<&TlsSpec>) {
        match tls {
            None => self.byte(0),
            Some(tls) => {
                self.byte(1);
                self.text(&tls.server_name);
                match &tls.options {
                    None => self.byte(u8::from(tls.verify)),
                    Some(options) => {
                        self.byte(2 | u8::from(tls.verify));
                        for byte in options.canonical() {
                            self.byte(byte);
                        }
                    }
                }
            }
        }
    }
}
