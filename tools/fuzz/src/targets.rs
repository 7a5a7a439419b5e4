//! What inputs are thrown at, and what they begin as.

use std::sync::Arc;

use watchfire_probe_core::keys::{Keys, Value};
use watchfire_probe_core::kind::KINDS;
use watchfire_probe_core::stream::tls::TlsContext;
use watchfire_probe_core::{CheckSpec, Egress, Kind, ProxyHeader, TlsSpec};

use crate::origin;

/// Takes one input; it panics if that is not taken as it should.
type Take = Box<dyn Fn(&[u8])>;

/// One target.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) corpus: &'static [&'static [u8]],
    pub(crate) take: Take,
}

const HTTP: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX-Ready: yes\r\n\r\n{\"a\": [\"b\"]}",
    b"HTTP/1.0 301 Moved\r\nLocation: /x\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1  200\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
];

const CHUNKED: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaaab\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;x=\"y\"\r\naaaab\r\n0\r\nT: v\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\na",
];

const TALK: &[&[u8]] = &[
    b"220 a\r\n250-x\r\n250 b\r\n221 c\r\n",
    b"+PONG\r\n+OK\r\n",
    b"VERSION 1.6\r\n",
    b"* OK IMAP4\r\n* BYE\r\na OK\r\n",
    b"\x4a\0\0\0\x0a8.0.36\0\x0b\0\0\0abcdefgh\0\xff\xf7\x08\x02\0\xff\x81",
];

const TLS: &[&[u8]] = &[
    // ServerHello of TLS 1.2 and 1.3, an alert, a change of ciphers, data.
    b"\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\x13\x01\0",
    b"\x16\x03\x03\0\x30\x02\0\0\x2c\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0\xc0\x2f\0\0\x04\xff\x01\0\x00",
    b"\x15\x03\x03\0\x02\x02\x28",
    b"\x14\x03\x03\0\x01\x01\x17\x03\x03\0\x05hello",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
];

const H2: &[&[u8]] = &[
    // SETTINGS; HEADERS with 200 and a length; DATA.
    b"\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x04\0\0\0\x01\x88\x0f\x0d\x012\0\0\x02\0\x01\0\0\0\x01ab",
    // SETTINGS with every key, its acknowledgement, PING, WINDOW_UPDATE, 204.
    b"\0\0\x18\x04\0\0\0\0\0\0\x01\0\0\x10\0\0\x03\0\0\0\x64\0\x04\0\x01\0\0\0\x05\0\0\x40\0\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\0\0\0\0\x00abcdefgh\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0\0\0\x01\x01\x05\0\0\0\x01\x89",
    // A padded head with a priority, in two parts, Huffman codes, and trailers.
    b"\0\0\0\x04\0\0\0\0\0\0\0\x0a\x01\x28\0\0\0\x01\x02\0\0\0\0\x09\x88\x40\0\0\0\0\x11\x09\x04\0\0\0\x01\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x87\x25\xa8\x49\xe9\x5b\xb8\xe8\0\0\x05\0\x08\0\0\0\x01\x02ab\0\0\0\0\x05\x01\x05\0\0\0\x01\0\x01a\x01b",
    b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07",
];

const GRPC: &[&[u8]] = &[
    // SETTINGS; 200 of application/grpc; SERVING; grpc-status 0.
    b"\0\0\0\x04\0\0\0\0\0\0\0\x14\x01\x04\0\0\0\x01\x88\x0f\x10\x10application/grpc\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\0\0\x0f\x01\x05\0\0\0\x01\0\x0bgrpc-status\x010",
    // Trailers alone: unimplemented.
    b"\0\0\0\x04\0\0\0\0\0\0\0\x24\x01\x05\0\0\0\x01\x88\x0f\x10\x10application/grpc\0\x0bgrpc-status\x0212",
];

const KEYS: &[&[u8]] = &[
    b"kind = \"https\"\nhost = \"a.example:8443\"\nexpect = \"200-299, 4xx, !404\"\nverify = false\n",
    b"kind = \"http\"\nexpect_headers = { \"X-A\" = \"~^b\", \"C\" = true }\nexpect_body_regex = \"a+b\"\nexpect_json = { \"/a/0\" = 7 }\n",
    b"kind = \"send-expect\"\nsteps = [{ send_hex = \"00ff\" }, { expect_regex = \"^220\" }]\nproxy_protocol = \"v2\"\n",
    b"kind = \"h2-tls\"\nhost = \"a.example\"\nheaders = { \"X-A\" = \"b\" }\nclose = \"fin\"\nalpn = [\"h2\"]\n",
    b"kind = \"grpc\"\nservice = \"shop.v1.Cart\"\ndegraded_after = \"30ms\"\n",
    b"kind = \"tcp\"\nhalf_open = false\nsource_address = \"127.0.0.2\"\ninterface = \"eth0\"\nmark = 7\ndscp = 8\n",
];

/// Every target.
pub(crate) fn all() -> Vec<Target> {
    let tls = TlsContext::new(Vec::new(), 1_700_000_000).expect("the libraries work");
    let tls = Arc::new(tls);
    let probe = |name, kind: &str, keys: &str, corpus| {
        let specs: Vec<_> = [None, Some(ProxyHeader::V1)]
            .into_iter()
            .map(|proxy| {
                let spec = check(&format!("kind = \"{kind}\"\n{keys}")).expect("it is valid");
                Arc::new(CheckSpec { proxy, ..spec })
            })
            .collect();
        let tls = Arc::clone(&tls);
        let take = move |input: &[u8]| {
            for spec in &specs {
                origin::say(spec, &tls, input);
            }
        };
        Target {
            name,
            corpus,
            take: Box::new(take),
        }
    };
    let looks = "expect_headers = { \"X-Ready\" = \"~y\" }\nexpect_body_regex = \"a+b\"";
    vec![
        probe("http", "http", "", HTTP),
        probe("http-rules", "http", looks, HTTP),
        probe(
            "http-json",
            "http",
            "expect_json = { \"/a/0\" = \"b\" }",
            HTTP,
        ),
        probe("chunked", "http", "expect_body = \"b\"", CHUNKED),
        probe("smtp", "send-expect", "recipe = \"smtp\"", TALK),
        probe("mysql", "send-expect", "recipe = \"mysql\"", TALK),
        probe("h2", "h2", "", H2),
        probe("h2-rules", "h2", looks, H2),
        probe("grpc", "grpc", "service = \"shop.v1.Cart\"", GRPC),
        probe("tls", "https", "verify = false", TLS),
        Target {
            name: "keys",
            corpus: KEYS,
            take: Box::new(|input| drop(check(&String::from_utf8_lossy(input)))),
        },
    ]
}

/// The keys of an origin, as a text of TOML.
struct Text(toml::Table);

impl Keys for Text {
    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.0.remove(key).map(|value| of_toml(&value))
    }
}

fn of_toml(toml: &toml::Value) -> Value {
    match toml {
        toml::Value::String(text) => Value::Text(text.clone()),
        toml::Value::Boolean(flag) => Value::Flag(*flag),
        toml::Value::Integer(number) => Value::Number(*number),
        toml::Value::Table(table) => {
            let parts = table.iter();
            Value::Table(
                parts
                    .map(|(name, part)| (name.clone(), of_toml(part)))
                    .collect(),
            )
        }
        toml::Value::Array(list) => Value::List(list.iter().map(of_toml).collect()),
        toml::Value::Float(_) | toml::Value::Datetime(_) => Value::List(Vec::new()),
    }
}

/// The check that keys define, if they define one. What is valid can be named,
/// described and probed.
fn check(text: &str) -> Option<CheckSpec> {
    let mut keys = Text(text.parse().ok()?);
    let target = "192.0.2.7:80".parse().expect("an address");
    let name = match keys.take("kind") {
        Some(Value::Text(name)) => name,
        _ => KINDS[0].names[0].to_owned(),
    };
    let (kind, in_tls) = Kind::read(&name, &mut keys, &target)?.ok()?;
    let tls = if in_tls {
        let host = kind.server_name().map(str::to_owned);
        Some(TlsSpec::read(&mut keys, host.as_deref(), target.ip()).ok()?)
    } else {
        None
    };
    let spec = CheckSpec {
        kind,
        tls,
        proxy: ProxyHeader::read(&mut keys).ok()?,
        egress: Egress::read(&mut keys).ok()?,
        ..CheckSpec::tcp(target)
    };
    spec.validate().ok()?;
    assert_eq!(spec.id(), spec.clone().id(), "a name is a name");
    assert!(!spec.to_string().is_empty(), "people can read it");
    Some(spec)
}
