//! Whether a check can be run and means what it says.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::{CheckSpec, HealthRule};
use crate::keys::KeyError;
use crate::limits::{
    INTERVAL_MAX, INTERVAL_MIN, RISE_FALL_MAX, TIMEOUT_MAX, TIMEOUT_MIN, WINDOW_MAX,
};
use crate::stream::proxy::ProxyHeader;

/// Why a check is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Port 0.
    #[error("port 0 cannot be connected to; name the origin's port")]
    PortZero,
    /// An address that no origin can have.
    #[error("{0} is not the address of one host; name a unicast address")]
    NotUnicast(IpAddr),
    /// An interval out of its bounds.
    #[error("{name} of {value:?} is out of bounds; choose {INTERVAL_MIN:?} to {INTERVAL_MAX:?}")]
    Interval {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: Duration,
    },
    /// Times are counted in whole microseconds.
    #[error("{name} of {value:?} is not a whole number of microseconds; round it")]
    TooFine {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: Duration,
    },
    /// A timeout that nothing could meet.
    #[error("a timeout of {0:?} is too short; choose at least {TIMEOUT_MIN:?}")]
    TimeoutTooShort(Duration),
    /// A timeout for which a probe would hold its place too long.
    #[error("a timeout of {0:?} is too long; choose at most {TIMEOUT_MAX:?}")]
    TimeoutTooLong(Duration),
    /// A probe could still run when the next one is due.
    #[error(
        "the timeout of {timeout:?} is longer than {name} of {interval:?}; shorten the one or lengthen the other"
    )]
    TimeoutAboveInterval {
        /// The timeout.
        timeout: Duration,
        /// Which interval.
        name: &'static str,
        /// That interval.
        interval: Duration,
    },
    /// A link-local address that does not say on which link.
    #[error("{0} is on every link; name the interface too, like \"[fe80::1%eth0]:80\"")]
    NoZone(IpAddr),
    /// Something is wrong with a key of the kind or of a layer.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Rise or fall out of bounds.
    #[error("rise {rise} and fall {fall} must both be 1 to {RISE_FALL_MAX}")]
    RiseFall {
        /// As given.
        rise: u8,
        /// As given.
        fall: u8,
    },
    /// Window or threshold out of bounds.
    #[error(
        "window {window} must be 1 to {WINDOW_MAX} and threshold {threshold} must be 1 to the window"
    )]
    Window {
        /// As given.
        window: u8,
        /// As given.
        threshold: u8,
    },
}

impl CheckSpec {
    /// Whether the check can be run and means what it says.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks, with what to do about it.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.validate_target()?;
        self.validate_times()?;
        self.kind.validate()?;
        if let Some(tls) = &self.tls {
            tls.validate()?;
        }
        if self.proxy.is_some() && !self.kind.carries_bytes(self.tls.is_some()) {
            return Err(SpecError::Key(KeyError::new(
                ProxyHeader::KEY,
                "nothing is sent on the connection, so that no header can stand before it",
                "choose a kind that speaks, or leave the key out",
            )));
        }
        if let Some(egress) = &self.egress {
            let target = self.has_address().then_some(&self.target);
            egress.validate(target)?;
        }
        match self.rule {
            HealthRule::RiseFall { rise, fall } => {
                let fits = 1..=RISE_FALL_MAX;
                if !fits.contains(&rise) || !fits.contains(&fall) {
                    return Err(SpecError::RiseFall { rise, fall });
                }
            }
            HealthRule::Window {
                window, threshold, ..
            } => {
                if !(1..=WINDOW_MAX).contains(&window) || !(1..=window).contains(&threshold) {
                    return Err(SpecError::Window { window, threshold });
                }
            }
        }
        Ok(())
    }

    fn validate_target(&self) -> Result<(), SpecError> {
        if self.target.port() == 0 {
            return Err(SpecError::PortZero);
        }
        if self.name.is_some() && !self.has_address() {
            return Ok(());
        }
        if let SocketAddr::V6(v6) = self.target
            && v6.ip().is_unicast_link_local()
            && v6.scope_id() == 0
            && (self.egress.as_deref()).is_none_or(|egress| egress.interface.is_none())
        {
            return Err(SpecError::NoZone(self.target.ip()));
        }
        // An address of IPv4 in IPv6's form is the same address.
        let ip = self.target.ip().to_canonical();
        let broadcast = match ip {
            IpAddr::V4(v4) => v4.is_broadcast(),
            IpAddr::V6(_) => false,
        };
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(SpecError::NotUnicast(ip));
        }
        Ok(())
    }

    fn validate_times(&self) -> Result<(), SpecError> {
        let intervals = [
            ("the interval", Some(self.interval)),
            ("the fast interval", self.fast_interval),
            ("the down interval", self.down_interval),
        ];
        whole_micros("the timeout", self.timeout)?;
        if self.timeout < TIMEOUT_MIN {
            return Err(SpecError::TimeoutTooShort(self.timeout));
        }
        if self.timeout > TIMEOUT_MAX {
            return Err(SpecError::TimeoutTooLong(self.timeout));
        }
        for (name, interval) in intervals {
            let Some(interval) = interval else { continue };
            if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
                return Err(SpecError::Interval {
                    name,
                    value: interval,
                });
            }
            whole_micros(name, interval)?;
            if self.timeout > interval {
                return Err(SpecError::TimeoutAboveInterval {
                    timeout: self.timeout,
                    name,
                    interval,
                });
            }
        }
        Ok(())
    }
}

fn whole_micros(name: &'static str, value: Duration) -> Result<(), SpecError> {
    if value.subsec_nanos().is_multiple_of(1_000) {
        Ok(())
    } else {
        Err(SpecError::TooFine { name, value })
    }
}
