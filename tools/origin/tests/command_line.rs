//! The binary: told by lines, it answers by lines and writes its log.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn ask(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(b"GET / HTTP/1.0\r\nUser-Agent: by hand\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// A farm outlives its standard input, so a failed test must end it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_farm_is_told_what_to_do_and_keeps_its_log() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let log = folder.join(format!("hits-{}.log", std::process::id()));
    let socket = folder.join(format!("farm-{}.sock", std::process::id()));
    let mut farm = Command::new(env!("CARGO_BIN_EXE_watchfire-origin"))
        .args([
            "--first",
            "127.21.0.1",
            "--count",
            "20",
            "--port",
            "0",
            "--json",
        ])
        .arg("--log")
        .arg(&log)
        .arg("--control")
        .arg(&socket)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let mut orders = farm.0.stdin.take().unwrap();
    let mut answers = BufReader::new(farm.0.stdout.take().unwrap());
    let mut answer = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let last: SocketAddr = answer()["last"].as_str().unwrap().parse().unwrap();
    assert!(ask(last).starts_with("HTTP/1.1 200 "));

    writeln!(orders, "fault 19 status=503").unwrap();
    assert_eq!(answer()["ok"], "origins 19-19: status=503");
    assert!(ask(last).starts_with("HTTP/1.1 503 "));
    writeln!(orders, "fault 19 fire").unwrap();
    assert!(
        answer()["error"]
            .as_str()
            .unwrap()
            .contains("no fault is called")
    );

    let mut control = UnixStream::connect(&socket).unwrap();
    control.set_read_timeout(Some(PATIENCE)).unwrap();
    control.write_all(b"clear all\n").unwrap();
    let mut said = String::new();
    BufReader::new(&control).read_line(&mut said).unwrap();
    assert_eq!(said, "{\"ok\":\"origins 0-19: healthy\"}\n");
    assert!(ask(last).starts_with("HTTP/1.1 200 "));

    writeln!(orders, "stats").unwrap();
    assert_eq!(answer()["farm"]["requests"], 3);
    writeln!(orders, "quit").unwrap();
    assert!(farm.0.wait().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    let hits: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(hits.len(), 3);
    assert!(
        hits.iter()
            .all(|hit| hit["origin"] == 19 && hit["who"] == "by hand"),
        "{text}"
    );
    std::fs::remove_file(&log).unwrap();
    assert!(!socket.exists());
}
