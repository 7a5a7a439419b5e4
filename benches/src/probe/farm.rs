//! The farm as a process of its own on a core of its own, so that its work is
//! not charged to the prober.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use watchfire_origin::{Farm, FarmOptions, Fault, Listen};

/// Address of the first origin.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 40, 0, 1);

/// A farm in a child process; it ends with this value.
pub(super) struct FarmProcess {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl FarmProcess {
    /// Starts a farm of `count` origins on `core`.
    pub(super) fn start(count: u32, core: usize) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["probe-farm", &count.to_string(), &core.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let port = read_number(&mut answers)?;
        Ok(Self {
            child,
            orders,
            answers,
            port: port as u16,
        })
    }

    /// The address of this origin.
    pub(super) fn address(&self, origin: u32) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::from_bits(FIRST.to_bits() + origin), self.port)
    }

    /// HTTP requests that the farm read so far.
    pub(super) fn requests(&mut self) -> io::Result<u64> {
        let orders = self
            .orders
            .as_mut()
            .expect("the pipe is closed only on drop");
        orders.write_all(b"\n")?;
        read_number(&mut self.answers)
    }

    /// From now on the first `origins` answer that many milliseconds after they were
    /// asked, `from` to `to` of them, spread evenly.
    pub(super) fn answer_after(&mut self, origins: u32, (from, to): (u32, u32)) -> io::Result<()> {
        let orders = self
            .orders
            .as_mut()
            .expect("the pipe is closed only on drop");
        writeln!(orders, "{origins} {from} {to}")?;
        read_number(&mut self.answers).map(|_| ())
    }
}

impl Drop for FarmProcess {
    fn drop(&mut self) {
        drop(self.orders.take());
        // It ends when its input does; there is nobody left to tell otherwise.
        let _ = self.child.wait();
    }
}

/// The child's side: prints the port, then the number of requests for each
/// line that it reads, until there are no more. A line of three numbers makes
/// origins slow.
pub(crate) fn serve(mut args: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let mut number = || args.next().ok_or("usage: probe-farm COUNT CORE");
    let count = number()?.parse()?;
    let core = number()?.parse()?;
    watchfire_origin::raise_open_files()?;
    let farm = Farm::start(FarmOptions {
        first: FIRST,
        count,
        listen: Listen::Wildcard,
        first_core: Some(core),
        ..FarmOptions::default()
    })?;
    let SocketAddr::V4(address) = farm.address(0) else {
        return Err("no IPv4".into());
    };
    println!("{}", address.port());
    for line in io::stdin().lines() {
        let line = line?;
        let words: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
        if let &[origins, from, to] = &*words? {
            for origin in 0..origins {
                let after = from + origin * (to - from) / origins;
                farm.set_fault(origin..origin + 1, Fault::SlowFirstByte(after))?;
            }
        }
        println!("{}", farm.counts().requests);
    }
    Ok(())
}

fn read_number(from: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    line.trim().parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the farm's process did not start or ended",
        )
    })
}
