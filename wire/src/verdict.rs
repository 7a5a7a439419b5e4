//! What a probe found and what it was judged to mean.
//!
//! The numbers are part of the wire protocol and of the table's layout: they
//! are never reused and never change.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// What the POP holds of a check, after rise and fall.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Archive,
    Serialize,
    Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug, PartialEq, Eq))]
#[repr(u8)]
pub enum Verdict {
    /// Nobody has measured it, or nobody can.
    #[default]
    Unknown = 0,
    /// The origin answers as it should.
    Up = 1,
    /// The origin itself failed.
    Down = 2,
}

impl Verdict {
    /// The verdict with this number, if there is one.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Unknown),
            1 => Some(Self::Up),
            2 => Some(Self::Down),
            _ => None,
        }
    }

    /// The number of this verdict on the wire and in the table.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// One word, as people and tools read it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl From<&ArchivedVerdict> for Verdict {
    fn from(archived: &ArchivedVerdict) -> Self {
        match archived {
            ArchivedVerdict::Unknown => Self::Unknown,
            ArchivedVerdict::Up => Self::Up,
            ArchivedVerdict::Down => Self::Down,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares an enum of reasons: number, key for machines, words for people.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal, $key:literal, $words:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vmeta])* #[doc = $words] $variant = $code,)*
        }

        impl $name {
            /// Every reason, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The reason with this number, if there is one.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number of this reason on the wire and in the table.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// A stable name for metrics and JSON.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self {
                    $(Self::$variant => $key,)*
                }
            }

            /// The reason in words, to follow "because".
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.words())
            }
        }
    };
}

reasons! {
    /// Why a probe passed or failed. All of these are the origin's doing
    /// (codes 0 to 127).
    Reason {
        Passed = 0, "passed", "the origin answered as expected";
        ConnectRefused = 1, "connect_refused", "the origin refused the connection";
        ConnectTimeout = 2, "connect_timeout", "the origin did not accept a connection in time";
        ConnectReset = 3, "connect_reset", "the connection was reset while it was being opened";
        HostUnreachable = 4, "host_unreachable", "the network says that the origin's host is unreachable";
        SendReset = 5, "send_reset", "the origin reset the connection while the request was sent";
        FirstByteTimeout = 6, "first_byte_timeout", "the origin accepted the request and sent nothing in time";
        ResponseTimeout = 7, "response_timeout", "the response began and did not end in time";
        ReceiveReset = 8, "receive_reset", "the origin reset the connection before the response ended";
        ClosedEarly = 9, "closed_early", "the origin closed the connection before the response ended";
        BadStatus = 10, "bad_status", "the response's status is not an expected one";
        NotHttp = 11, "not_http", "what the origin sent is not HTTP/1.x";
        HeadersTooLarge = 12, "headers_too_large", "the response's head is larger than the limit";
        BodyTooLarge = 13, "body_too_large", "the response's body is larger than the limit";
        BadBody = 14, "bad_body", "the response's body framing is broken";
        TlsHandshake = 15, "tls_handshake", "the TLS handshake failed";
        TlsCertificate = 16, "tls_certificate", "the origin's certificate cannot be accepted";
        TlsTimeout = 17, "tls_timeout", "the TLS handshake did not end in time";
        TlsName = 18, "tls_name", "the origin's certificate is not valid for the name";
        TlsExpired = 19, "tls_expired", "the origin's certificate, or one that it rests on, has expired";
        TlsNotYetValid = 20, "tls_not_yet_valid", "the origin's certificate, or one that it rests on, is not valid yet";
        TlsUnknownIssuer = 21, "tls_unknown_issuer", "nobody that is trusted has issued the origin's certificate";
        TlsRevoked = 22, "tls_revoked", "the origin's certificate, or one that it rests on, is revoked";
        TlsMalformed = 23, "tls_malformed", "the origin's certificate cannot be read";
        TlsProtocol = 24, "tls_protocol", "the origin speaks no version of TLS that is accepted";
        BadHeader = 25, "bad_header", "a header of the response is not the expected one";
        BadContent = 26, "bad_content", "the content of the response is not the expected one";
        DownAtOnce = 27, "down_at_once", "the origin says that it is to be taken out at once";
        Degraded = 28, "degraded", "the origin answered as expected, with a sign of trouble that the check names";
        TlsAlpn = 29, "tls_alpn", "the origin does not agree to speak the check's protocol in TLS (ALPN)";
        NotHttp2 = 30, "not_http2", "what the origin sent is not HTTP/2";
        Http2Protocol = 31, "http2_protocol", "the origin broke the rules of HTTP/2";
        Http2FrameSize = 32, "http2_frame_size", "a frame of HTTP/2 is longer than allowed, or not as long as its kind is";
        Http2FlowControl = 33, "http2_flow_control", "the origin broke the flow control of HTTP/2";
        Http2Compression = 34, "http2_compression", "the response's headers cannot be decompressed (HPACK)";
        Http2Flood = 35, "http2_flood", "the origin sent more frames of HTTP/2 than any response needs";
        Http2Reset = 36, "http2_reset", "the origin reset the request's stream (RST_STREAM)";
        Http2Goaway = 37, "http2_goaway", "the origin ended the connection instead of answering (GOAWAY)";
        GrpcNotServing = 38, "grpc_not_serving", "the gRPC service says that it is not serving";
        GrpcUnknown = 39, "grpc_unknown", "the gRPC server says that it does not know the service's health";
        GrpcServiceUnknown = 40, "grpc_service_unknown", "the gRPC server does not know the service";
        GrpcUnimplemented = 41, "grpc_unimplemented", "the gRPC server has no health service";
        GrpcStatus = 42, "grpc_status", "the gRPC call ended with a status that is not OK";
        GrpcBroken = 43, "grpc_broken", "what the origin answered is not a whole answer of gRPC";
    }
}

reasons! {
    /// Why a probe measured nothing. All of these are our own trouble
    /// (codes 128 to 255): they are counted and never make an origin Down.
    Unmeasured {
        OutOfFiles = 128, "out_of_files", "this agent has no file descriptor left (EMFILE or ENFILE)";
        OutOfPorts = 129, "out_of_ports", "this host has no local port left (EADDRNOTAVAIL)";
        OutOfBuffers = 130, "out_of_buffers", "the kernel has no buffer left (ENOBUFS)";
        OutOfMemory = 131, "out_of_memory", "the kernel has no memory left (ENOMEM)";
        NotPermitted = 132, "not_permitted", "this host forbids the connection (EACCES or EPERM)";
        NetUnreachable = 133, "net_unreachable", "this host has no route to the network";
        NetDown = 134, "net_down", "this host's network is down (ENETDOWN)";
        Late = 135, "late", "this agent was late to look, so a timeout proves nothing";
        RingFull = 136, "ring_full", "the probe ring had no room";
        InFlightFull = 137, "in_flight_full", "too many probes were in flight";
        RateCapped = 138, "rate_capped", "the destination's cap on probes per second was reached";
        NameUnresolved = 139, "name_unresolved", "our own name resolution failed";
        Unsupported = 140, "unsupported", "this host cannot run this kind of check";
        Internal = 141, "internal", "an unexpected error on our side";
        Blind = 142, "blind", "this agent's own path to the origins is in doubt";
        Nobody = 143, "nobody", "no agent of the POP could measure it";
        NotYet = 144, "not_yet", "no agent of the POP has measured it yet";
        Denied = 145, "denied", "this agent is not to probe that address";
        NoWay = 146, "no_way", "this host lacks the address, the interface or the right by which the check is to leave it";
        Operator = 147, "operator", "an operator says so, whatever the probes find";
        NameNotFound = 148, "name_not_found", "the DNS says that the origin's name has no address";
    }
}

impl Reason {
    /// Something came back that only the origin can have sent: whatever it
    /// says, the path to it lives.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        match self {
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectReset
            | Self::HostUnreachable
            | Self::SendReset
            | Self::FirstByteTimeout
            | Self::ReceiveReset
            | Self::ClosedEarly
            | Self::TlsHandshake
            | Self::TlsTimeout
            | Self::ResponseTimeout => false,
            Self::Passed
            | Self::Degraded
            | Self::BadStatus
            | Self::NotHttp
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::BadBody
            | Self::TlsCertificate
            | Self::TlsName
            | Self::TlsExpired
            | Self::TlsNotYetValid
            | Self::TlsUnknownIssuer
            | Self::TlsRevoked
            | Self::TlsMalformed
            | Self::TlsProtocol
            | Self::BadHeader
            | Self::BadContent
            | Self::DownAtOnce
            | Self::TlsAlpn
            | Self::NotHttp2
            | Self::Http2Protocol
            | Self::Http2FrameSize
            | Self::Http2FlowControl
            | Self::Http2Compression
            | Self::Http2Flood
            | Self::Http2Reset
            | Self::Http2Goaway
            | Self::GrpcNotServing
            | Self::GrpcUnknown
            | Self::GrpcServiceUnknown
            | Self::GrpcUnimplemented
            | Self::GrpcStatus
            | Self::GrpcBroken => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_the_two_ranges_stay_apart() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert!(reason.code() < 128);
            assert_eq!(Unmeasured::from_code(reason.code()), None);
        }
        for &unmeasured in Unmeasured::ALL {
            assert_eq!(Unmeasured::from_code(unmeasured.code()), Some(unmeasured));
            assert!(unmeasured.code() >= 128);
            assert_eq!(Reason::from_code(unmeasured.code()), None);
        }
    }
}
