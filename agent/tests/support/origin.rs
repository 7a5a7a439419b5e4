//! An HTTP origin in this process that answers as it is told, and remembers
//! when it was asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What it does about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers with this status.
    Status(u16),
    /// Closes without an answer.
    Close,
    /// Says nothing for longer than any probe waits.
    Hang,
}

type Plan = dyn FnMut(&str) -> Does + Send;

/// The origin; it ends with the process.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Instant>>>,
}

impl Origin {
    /// On this address; `plan` is asked what to do for each request's path.
    pub(crate) fn new(host: &str, plan: impl FnMut(&str) -> Does + Send + 'static) -> Self {
        Self::on((host, 0), plan)
    }

    /// The same on this port too.
    pub(crate) fn on(
        addr: impl ToSocketAddrs,
        plan: impl FnMut(&str) -> Does + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        let origin = Self {
            addr: listener.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&origin.asked);
        let plan: Arc<Mutex<Plan>> = Arc::new(Mutex::new(plan));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, plan) = (Arc::clone(&asked), Arc::clone(&plan));
                std::thread::spawn(move || {
                    // A prober that goes away is no trouble of the origin's.
                    let _ = serve(stream, &asked, &plan);
                });
            }
        });
        origin
    }

    /// Requests within the last so long.
    pub(crate) fn asked_within(&self, span: Duration) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .rev()
            .take_while(|at| at.elapsed() < span)
            .count()
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<Instant>>,
    plan: &Mutex<Plan>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    asked.lock().unwrap().push(Instant::now());
    let text = String::from_utf8_lossy(&request);
    let path = text.split(' ').nth(1).unwrap_or_default();
    let does = (plan.lock().unwrap())(path);
    match does {
        Does::Status(status) => write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ),
        Does::Close => Ok(()),
        Does::Hang => {
            std::thread::sleep(Duration::from_secs(2));
            Ok(())
        }
    }
}
