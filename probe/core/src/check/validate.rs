//! Whether a check can be run and means what it says.

use core::net::IpAddr;
use core::time::Duration;

use super::{CheckSpec, HealthRule, Kind};
use crate::limits::{
    HOST_BYTES, INTERVAL_MAX, INTERVAL_MIN, PATH_BYTES, RISE_FALL_MAX, TIMEOUT_MIN, WINDOW_MAX,
};

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
    /// A path that is not one.
    #[error("the path {0:?} must start with \"/\"")]
    PathNotAbsolute(String),
    /// A byte that would end the request line or change the request.
    #[error(
        "the path {0:?} holds a space, a control character or a byte outside ASCII; percent-encode it"
    )]
    PathBytes(String),
    /// A longer path than the limit.
    #[error("the path is {0} bytes long; at most {PATH_BYTES} are allowed")]
    PathTooLong(usize),
    /// A host that is empty, too long, or holds a byte that no host has.
    #[error(
        "{name} {value:?} must be 1 to {HOST_BYTES} bytes of letters, digits and the signs of a host name or address"
    )]
    Host {
        /// Which of them.
        name: &'static str,
        /// What it was.
        value: String,
    },
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
        if let Kind::Http(http) = &self.kind {
            validate_path(&http.path)?;
            validate_host("the Host", &http.host)?;
            if let Some(tls) = &http.tls {
                validate_host("the TLS server name", &tls.server_name)?;
            }
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
        let ip = self.target.ip();
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

fn validate_path(path: &str) -> Result<(), SpecError> {
    if path.len() > PATH_BYTES {
        return Err(SpecError::PathTooLong(path.len()));
    }
    if !path.starts_with('/') {
        return Err(SpecError::PathNotAbsolute(path.to_owned()));
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SpecError::PathBytes(path.to_owned()));
    }
    Ok(())
}

fn validate_host(name: &'static str, value: &str) -> Result<(), SpecError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]%".contains(&byte);
    if value.is_empty() || value.len() > HOST_BYTES || !value.bytes().all(allowed) {
        return Err(SpecError::Host {
            name,
            value: value.to_owned(),
        });
    }
    Ok(())
}
