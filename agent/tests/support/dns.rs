//! A DNS server in this process that answers as it is told, over UDP on the loopback. It
//! knows A records alone; who asks for another type hears that there is none.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What it says of every name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NxDomain,
    /// Something is wrong with it.
    ServFail,
    /// Nothing at all.
    Nothing,
    /// An answer with these addresses, from another socket than the one that was asked,
    /// and then nothing.
    FromElsewhere(Ipv4Addr),
}

type Plan = dyn FnMut(&str) -> Says + Send;

/// The server; it ends with the process.
#[derive(Clone)]
pub(crate) struct Dns {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Dns {
    /// `plan` is asked what to say of each name.
    pub(crate) fn new(plan: impl FnMut(&str) -> Says + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self {
            addr: socket.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&server.asked);
        let mut plan: Box<Plan> = Box::new(plan);
        std::thread::spawn(move || {
            let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut buffer = [0; 1_500];
            while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
                let Some((name, kind, end)) = question(&buffer[..bytes]) else {
                    continue;
                };
                let is_a = kind == 1;
                if is_a {
                    asked.lock().unwrap().push((Instant::now(), name.clone()));
                }
                let says = plan(&name);
                let socket = match says {
                    Says::Nothing => continue,
                    Says::FromElsewhere(_) => &elsewhere,
                    _ => &socket,
                };
                let answer = answer(&buffer[..end], &says, is_a);
                // Who asked may be gone.
                let _ = socket.send_to(&answer, from);
            }
        });
        server
    }

    /// Says this from now on whenever it is changed.
    pub(crate) fn told(says: Says) -> (Self, Arc<Mutex<Says>>) {
        let says = Arc::new(Mutex::new(says));
        let told = Arc::clone(&says);
        (Self::new(move |_| told.lock().unwrap().clone()), says)
    }

    /// Questions for addresses of IPv4 within the last so long.
    pub(crate) fn asked_within(&self, span: Duration) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(at, _)| at.elapsed() < span).count()
    }
}

/// The name, the type, and where the question ends.
fn question(bytes: &[u8]) -> Option<(String, u16, usize)> {
    let mut name = String::new();
    let mut at = 12;
    loop {
        let length = usize::from(*bytes.get(at)?);
        let label = bytes.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if length == 0 {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(label).to_lowercase());
    }
    let kind = u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?);
    Some((name, kind, at + 4))
}

fn answer(question: &[u8], says: &Says, is_a: bool) -> Vec<u8> {
    let (code, addresses, ttl) = match says {
        Says::Addresses(addresses, ttl) if is_a => (0, addresses.clone(), *ttl),
        Says::FromElsewhere(address) if is_a => (0, vec![*address], 1),
        Says::NxDomain => (3, Vec::new(), 0),
        Says::ServFail => (2, Vec::new(), 0),
        _ => (0, Vec::new(), 0),
    };
    let mut out = question.to_vec();
    // A response that was recursed for; one question, so many answers.
    out[2] = 0x81;
    out[3] = 0x80 | code;
    out[4..6].copy_from_slice(&1_u16.to_be_bytes());
    out[6..8].copy_from_slice(&u16::try_from(addresses.len()).unwrap().to_be_bytes());
    out[8..12].fill(0);
    for address in addresses {
        // The name is the one at byte 12; type A, class IN.
        out.extend([0xc0, 12, 0, 1, 0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    out
}
