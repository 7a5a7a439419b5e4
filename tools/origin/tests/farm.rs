//! The farm as a whole: many addresses, a truthful log, loopback only.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use watchfire_origin::{Farm, FarmOptions, Hit, Listen, limits, now_us};

const PATIENCE: Duration = Duration::from_secs(5);

fn ask_as(address: SocketAddr, agent: &str) {
    let mut client = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        client,
        "GET / HTTP/1.1\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("ok\n"), "{text}");
}

fn wait_for_hits(farm: &Farm, count: usize) -> Vec<Hit> {
    let began = Instant::now();
    let mut hits = Vec::new();
    while hits.len() < count && began.elapsed() < PATIENCE {
        farm.take_hits(&mut hits);
        std::thread::sleep(Duration::from_millis(2));
    }
    hits
}

#[test]
fn every_one_of_many_addresses_is_its_own_origin() {
    for (listen, count) in [(Listen::Wildcard, 100_000), (Listen::Each, 300)] {
        let options = FarmOptions {
            first: Ipv4Addr::new(127, 30, 255, 7),
            count,
            record: true,
            threads: 2,
            listen,
            ..FarmOptions::default()
        };
        let farm = Farm::start(options).unwrap();
        let asked: Vec<u32> = (0..count).step_by(count as usize / 100).collect();
        for origin in &asked {
            ask_as(farm.address(*origin), "many");
        }
        let mut hit: Vec<u32> = wait_for_hits(&farm, asked.len())
            .iter()
            .map(|hit| hit.origin)
            .collect();
        hit.sort_unstable();
        assert_eq!(hit, asked);
    }
}

#[test]
fn an_address_beyond_the_last_origin_has_nobody() {
    let options = FarmOptions {
        count: 3,
        listen: Listen::Wildcard,
        ..FarmOptions::default()
    };
    let farm = Farm::start(options).unwrap();
    let beyond = SocketAddr::from((Ipv4Addr::new(127, 20, 0, 4), farm.address(0).port()));
    let mut client = TcpStream::connect(beyond).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(farm.counts().turned_away, 1);
}

#[test]
fn the_log_tells_who_and_when() {
    let options = FarmOptions {
        count: 5,
        record: true,
        ..FarmOptions::default()
    };
    let farm = Farm::start(options).unwrap();
    let mut expected = HashMap::new();
    let began_us = now_us();
    for (agent, origin) in [
        ("watchfire/n1", 0),
        ("watchfire/n2", 4),
        ("watchfire/n1", 4),
    ] {
        ask_as(farm.address(origin), agent);
        *expected.entry((agent.to_owned(), origin)).or_insert(0) += 1;
    }
    let ended_us = now_us();
    let mut found = HashMap::new();
    let hits = wait_for_hits(&farm, 3);
    for hit in &hits {
        assert!(
            began_us <= hit.at_us && hit.at_us <= hit.ended_us,
            "{hit:?}"
        );
        assert!(hit.at_us <= ended_us);
        *found.entry((farm.who(hit.who), hit.origin)).or_insert(0) += 1;
    }
    assert_eq!(found, expected);
    assert!(hits[0].ended_us <= hits[1].at_us, "one after the other");
}

#[test]
fn farms_keep_to_loopback() {
    let outside = FarmOptions {
        first: Ipv4Addr::new(10, 0, 0, 1),
        ..FarmOptions::default()
    };
    assert_eq!(
        Farm::start(outside).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let beyond = FarmOptions {
        first: Ipv4Addr::new(127, 255, 255, 250),
        count: 100,
        ..FarmOptions::default()
    };
    assert_eq!(
        Farm::start(beyond).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let each = FarmOptions {
        count: limits::LISTENERS_MAX + 1,
        listen: Listen::Each,
        ..FarmOptions::default()
    };
    assert_eq!(
        Farm::start(each).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn a_taken_port_is_an_error_that_says_so() {
    let farm = Farm::start(FarmOptions::default()).unwrap();
    let again = FarmOptions {
        port: farm.address(0).port(),
        ..FarmOptions::default()
    };
    let error = Farm::start(again).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains("choose another port"), "{error}");
}

#[test]
fn a_stopped_farm_is_gone() {
    for listen in [Listen::Each, Listen::Wildcard] {
        let farm = Farm::start(FarmOptions {
            count: 2,
            listen,
            ..FarmOptions::default()
        })
        .unwrap();
        let address = farm.address(1);
        ask_as(address, "x");
        farm.stop();
        let error = TcpStream::connect_timeout(&address, PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn shared_sockets_answer_on_the_loopback_device_alone() {
    // No packet leaves for this address: it only tells which of the host's own
    // addresses it would leave from.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_err() {
        return; // A host without a route has no outside to be reached from.
    }
    let own = socket.local_addr().unwrap().ip();
    let options = FarmOptions {
        listen: Listen::Wildcard,
        ..FarmOptions::default()
    };
    let farm = Farm::start(options).unwrap();
    let outer = SocketAddr::from((own, farm.address(0).port()));
    let error = TcpStream::connect_timeout(&outer, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}
