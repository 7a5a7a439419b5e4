//! A check as bytes, from which its name is made.

use core::net::SocketAddr;
use core::time::Duration;

use super::{CheckSpec, HealthRule, HttpSpec, Kind, Method};

impl CheckSpec {
    /// The check as bytes: versioned, and no two different checks give the
    /// same ones. Every text carries its length, every choice a number.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Canonical(Vec::with_capacity(160));
        out.byte(CANONICAL_VERSION);
        match self.target {
            SocketAddr::V4(v4) => {
                out.byte(4);
                out.0.extend_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
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
        match &self.kind {
            Kind::Tcp => out.byte(0),
            Kind::Http(http) => {
                out.byte(1);
                out.http(http);
            }
        }
        out.0
    }
}

/// First byte of the canonical bytes. Another one makes every check a new one.
const CANONICAL_VERSION: u8 = 1;

/// Writes canonical bytes: every field says its own length.
struct Canonical(Vec<u8>);

impl Canonical {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    fn optional_duration(&mut self, duration: Option<Duration>) {
        match duration {
            None => self.byte(0),
            Some(duration) => {
                self.byte(1);
                self.duration(duration);
            }
        }
    }

    fn http(&mut self, http: &HttpSpec) {
        self.byte(match http.method {
            Method::Get => 0,
            Method::Head => 1,
        });
        self.text(&http.path);
        self.text(&http.host);
        self.number(http.expect.ranges().len() as u64);
        for &(low, high) in http.expect.ranges() {
            self.number(u64::from(low));
            self.number(u64::from(high));
        }
        self.byte(u8::from(http.reuse));
        match &http.tls {
            None => self.byte(0),
            Some(tls) => {
                self.byte(1);
                self.text(&tls.server_name);
                self.byte(u8::from(tls.verify));
            }
        }
    }
}
