//! Whose fault an error number is: the one table that decides whether a failed
//! system call says something about the origin or only about ourselves.
//!
//! In doubt the answer is "ours": an error that this table does not know never
//! makes an origin Down.

use watchfire_wire::{Reason, Unmeasured};

/// What a probe was doing when the error came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Creating, configuring or binding the socket, or finding no route of our
    /// own: nothing has left the host.
    Open,
    /// Connecting.
    Connect,
    /// Shaking hands for TLS.
    Tls,
    /// Sending the request.
    Send,
    /// Waiting for the first byte of the response.
    FirstByte,
    /// Reading the rest of the response.
    Rest,
}

impl Step {
    /// Every step, in the order in which a probe takes them.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Connect,
        Self::Tls,
        Self::Send,
        Self::FirstByte,
        Self::Rest,
    ];

    /// What it means that time ran out here.
    #[must_use]
    pub const fn timeout(self) -> Reason {
        match self {
            Self::Open | Self::Connect => Reason::ConnectTimeout,
            Self::Tls => Reason::TlsTimeout,
            // A request that cannot even be sent is not being read.
            Self::Send | Self::FirstByte => Reason::FirstByteTimeout,
            Self::Rest => Reason::ResponseTimeout,
        }
    }

    /// What it means that the origin reset the connection here.
    #[must_use]
    pub const fn reset(self) -> Reason {
        match self {
            Self::Open | Self::Connect => Reason::ConnectReset,
            Self::Tls => Reason::TlsHandshake,
            Self::Send => Reason::SendReset,
            Self::FirstByte | Self::Rest => Reason::ReceiveReset,
        }
    }
}

/// Whose fault it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The origin's own behaviour.
    Origin(Reason),
    /// Our own trouble; it measured nothing.
    Ours(Unmeasured),
}

/// Classifies a positive error number (`errno`) that ended a probe at `step`.
#[must_use]
pub const fn classify(step: Step, errno: i32) -> Fault {
    match errno {
        libc::EMFILE | libc::ENFILE => Fault::Ours(Unmeasured::OutOfFiles),
        // EADDRINUSE: the chosen source address and port are taken.
        libc::EADDRNOTAVAIL | libc::EADDRINUSE => Fault::Ours(Unmeasured::OutOfPorts),
        // EAGAIN from a connect: no room in the routing tables.
        libc::ENOBUFS | libc::EAGAIN => Fault::Ours(Unmeasured::OutOfBuffers),
        // A ring without room for one more operation says so.
        libc::EBUSY => Fault::Ours(Unmeasured::RingFull),
        libc::ENOMEM => Fault::Ours(Unmeasured::OutOfMemory),
        // A filter on this host's own way out.
        libc::EPERM => Fault::Ours(Unmeasured::NotPermitted),
        libc::ENETDOWN | libc::ENODEV => Fault::Ours(Unmeasured::NetDown),
        libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::ENOSYS => {
            Fault::Ours(Unmeasured::Unsupported)
        }
        // Before the connect nothing has left this host, whatever the number.
        _ if matches!(step, Step::Open) => match errno {
            libc::EACCES => Fault::Ours(Unmeasured::NotPermitted),
            libc::ENETUNREACH | libc::EHOSTUNREACH => Fault::Ours(Unmeasured::NetUnreachable),
            libc::EOPNOTSUPP | libc::ENOPROTOOPT => Fault::Ours(Unmeasured::Unsupported),
            _ => Fault::Ours(Unmeasured::Internal),
        },
        libc::ECONNREFUSED => Fault::Origin(Reason::ConnectRefused),
        libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED => Fault::Origin(step.reset()),
        // What ICMP says of the way to the origin, each message by the number
        // that the kernel has for it. The same numbers from this host's own
        // routing never come here: a driver tells them apart (`During::Route`).
        libc::EHOSTUNREACH
        | libc::EHOSTDOWN
        | libc::ENETUNREACH
        | libc::ENONET
        | libc::EACCES
        | libc::ENOPROTOOPT
        | libc::EOPNOTSUPP
        | libc::EPROTO
        | libc::EMSGSIZE => Fault::Origin(Reason::HostUnreachable),
        // The kernel's own retries ran out before our deadline did.
        libc::ETIMEDOUT => Fault::Origin(step.timeout()),
        _ => Fault::Ours(Unmeasured::Internal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error numbers of which an origin, or the network before it, can be
    /// the cause once something has left the host.
    const ORIGINS: [i32; 14] = [
        libc::ECONNREFUSED,
        libc::ECONNRESET,
        libc::ECONNABORTED,
        libc::EPIPE,
        libc::ETIMEDOUT,
        libc::EHOSTUNREACH,
        libc::EHOSTDOWN,
        libc::ENETUNREACH,
        libc::ENONET,
        libc::EACCES,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPROTO,
        libc::EMSGSIZE,
    ];

    #[test]
    fn only_these_numbers_speak_of_the_origin_and_all_others_are_ours() {
        for step in Step::ALL {
            for errno in -4_096..4_096 {
                let origin = matches!(classify(step, errno), Fault::Origin(_));
                let wanted = step != Step::Open && ORIGINS.contains(&errno);
                assert_eq!(origin, wanted, "{step:?} errno {errno}");
            }
        }
    }

    #[test]
    fn each_trouble_of_ours_has_its_own_name_at_every_step() {
        for step in Step::ALL {
            for (errno, unmeasured) in [
                (libc::EMFILE, Unmeasured::OutOfFiles),
                (libc::ENFILE, Unmeasured::OutOfFiles),
                (libc::EADDRNOTAVAIL, Unmeasured::OutOfPorts),
                (libc::ENOBUFS, Unmeasured::OutOfBuffers),
                (libc::ENOMEM, Unmeasured::OutOfMemory),
                (libc::EBUSY, Unmeasured::RingFull),
                (libc::EPERM, Unmeasured::NotPermitted),
                (libc::ENETDOWN, Unmeasured::NetDown),
                (libc::EBADF, Unmeasured::Internal),
            ] {
                assert_eq!(classify(step, errno), Fault::Ours(unmeasured));
            }
        }
        for (errno, unmeasured) in [
            (libc::ENETUNREACH, Unmeasured::NetUnreachable),
            (libc::EHOSTUNREACH, Unmeasured::NetUnreachable),
            (libc::EACCES, Unmeasured::NotPermitted),
            (libc::EINVAL, Unmeasured::Internal),
        ] {
            assert_eq!(classify(Step::Open, errno), Fault::Ours(unmeasured));
        }
    }

    #[test]
    fn the_step_names_the_reason() {
        let reset = |step| classify(step, libc::ECONNRESET);
        assert_eq!(reset(Step::Connect), Fault::Origin(Reason::ConnectReset));
        assert_eq!(reset(Step::Tls), Fault::Origin(Reason::TlsHandshake));
        assert_eq!(reset(Step::Send), Fault::Origin(Reason::SendReset));
        assert_eq!(reset(Step::FirstByte), Fault::Origin(Reason::ReceiveReset));
        assert_eq!(reset(Step::Rest), Fault::Origin(Reason::ReceiveReset));
        assert_eq!(Step::Rest.timeout(), Reason::ResponseTimeout);
        assert_eq!(Step::Tls.timeout(), Reason::TlsTimeout);
    }
}
