//! The C header against the library: compiled by the system's C compiler,
//! linked with the static and the shared library that this build made.

#[path = "../../tests/common/mod.rs"]
mod common;
mod library;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Random, count, entry, folder, options};
use watchfire_table::answer::{Answer, BUSY, NOT_IN_TABLE};
use watchfire_table::limits::NAME_BYTES;
use watchfire_table::{
    Condition, Cursor, Entry, Flags, PopState, Reader, TableVerdict, Usage, WhenStale, Writer,
    monotonic_ns,
};
use watchfire_wire::NodeId;
use watchfire_wire::limits::NODE_NAME_BYTES;

/// How to link.
#[derive(Clone, Copy)]
enum Link {
    Static,
    Shared,
}

/// Compiles one of the C programs; the finished program's path.
fn compile(folder: &Path, program: &str, link: Link, flags: &[&str]) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = folder.join(program);
    let mut cc = Command::new("cc");
    cc.args([
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        "-O2",
        "-g",
    ])
    .args(flags)
    .arg("-I")
    .arg(here.join("../include"))
    .arg(here.join(format!("tests/c/{program}.c")))
    .arg("-o")
    .arg(&out);
    let libraries = library::folder();
    match link {
        Link::Static => cc.arg(libraries.join("libwatchfire_table.a")),
        Link::Shared => cc
            .arg(libraries.join("libwatchfire_table.so"))
            .arg(format!("-Wl,-rpath,{}", libraries.display())),
    };
    cc.args(["-lpthread", "-ldl", "-lm"]);
    let compiled = cc.output().expect("a C compiler is needed to build anyway");
    let words = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{program}: {words}");
    out
}

/// A successful run's standard output.
fn words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}: {said}{complained}",
        output.status
    );
    said
}

#[test]
fn the_headers_numbers_are_the_librarys() {
    let folder = folder();
    let program = compile(folder.path(), "layout", Link::Static, &[]);
    let said = words(&Command::new(program).output().expect("it runs"));
    let numbers = [
        NAME_BYTES,
        NODE_NAME_BYTES,
        size_of::<Answer>(),
        size_of::<Cursor>(),
        TableVerdict::Unknown as usize,
        TableVerdict::Up as usize,
        TableVerdict::Down as usize,
        TableVerdict::Draining as usize,
        NOT_IN_TABLE.into(),
        BUSY.into(),
        Flags::FORCED.0.into(),
        Flags::CARRIED.0.into(),
        Flags::FROZEN.0.into(),
        Flags::DEGRADED.0.into(),
        Usage::DoNotUse as usize,
        Usage::TryLast as usize,
        Usage::Use as usize,
        WhenStale::Static as usize,
        WhenStale::Open as usize,
        Condition::Normal as usize,
        Condition::Braked as usize,
        Condition::Frozen as usize,
        2 * size_of::<usize>(),
        8,
    ];
    assert_eq!(said.trim(), numbers.map(|n| n.to_string()).join(" "));
    // The header's own assertions fix the offsets; these are the library's.
    assert_eq!(std::mem::offset_of!(Answer, since_ms), 0);
    assert_eq!(std::mem::offset_of!(Answer, owner), 8);
    assert_eq!(std::mem::offset_of!(Answer, age_ns), 16);
    assert_eq!(std::mem::offset_of!(Answer, latency_us), 24);
    assert_eq!(std::mem::offset_of!(Answer, verdict), 28);
    assert_eq!(std::mem::offset_of!(Answer, flags), 29);
    assert_eq!(std::mem::offset_of!(Answer, reason), 30);
    assert_eq!(std::mem::offset_of!(Answer, fresh), 31);
}

#[test]
fn c_reads_what_rust_wrote() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1_000).expect("writable");
    let owner = NodeId::of_name("edge-7");
    writer.name_node(owner, "edge-7").expect("it fits");
    for (name, verdict, flags) in [
        ("up", TableVerdict::Up, Flags::NONE),
        ("down", TableVerdict::Down, Flags::FORCED | Flags::FROZEN),
        ("draining", TableVerdict::Draining, Flags::FORCED),
        ("unknown", TableVerdict::Unknown, Flags::CARRIED),
    ] {
        let entry = Entry {
            verdict,
            flags,
            reason: verdict as u8,
            since_ms: 1_700_000_000_123,
            latency_us: 4_321,
            owner: Some(owner),
        };
        writer.set(name.as_bytes(), &entry).expect("it fits");
    }
    writer.set_pop_state(PopState {
        condition: Condition::Braked,
        since_ms: 1_700_000_000_456,
    });
    let expected = "\
up 1 0 1 1700000000123 4321 1 1000 edge-7 the origin refused the connection
down 2 5 2 1700000000123 4321 1 1000 edge-7 the origin did not accept a connection in time
draining 3 1 3 1700000000123 4321 1 1000 edge-7 the connection was reset while it was being opened
unknown 0 2 0 1700000000123 4321 1 1000 edge-7 the origin answered as expected
absent 4 0 0 0 0 1 1000  the origin answered as expected
 4 0 0 0 0 1 1000  the origin answered as expected
4 names of 21 bytes, end 0
";
    for link in [Link::Static, Link::Shared] {
        let program = compile(folder.path(), "behaviour", link, &[]);
        let output = Command::new(program).arg(&path).output().expect("it runs");
        assert_eq!(words(&output), expected);
    }
}

/// Every case of the rule, asked through the header.
#[test]
fn c_follows_the_one_rule() {
    let folder = folder();
    let path = folder.path().join("table");
    common::rule_table(&path);
    let cases = folder.path().join("cases");
    let lines: Vec<_> = common::rule_cases().collect();
    fs::write(&cases, lines.join("\n") + "\n").expect("writable");
    let program = compile(folder.path(), "rule", Link::Shared, &[]);
    let output = Command::new(program)
        .args([&path, &cases])
        .output()
        .expect("it runs");
    assert_eq!(words(&output), format!("{} cases\n", lines.len()));
}

#[test]
fn c_threads_never_see_a_torn_entry() {
    const NAMES: u64 = 8;
    let reads = count("WATCHFIRE_C_READS", 4_000_000);
    let folder = folder();
    let path = folder.path().join("table");
    let program = compile(folder.path(), "hunt", Link::Static, &[]);
    let mut writer = Writer::open(&path, &options(64), monotonic_ns()).expect("writable");
    let name = |n: u64| format!("origin-{}", n % NAMES);
    for n in 0..NAMES {
        writer.set(name(n).as_bytes(), &entry(n)).expect("it fits");
    }
    let done = AtomicBool::new(false);
    let (output, writes) = std::thread::scope(|scope| {
        let done = &done;
        let writing = scope.spawn(move || {
            let names: Vec<String> = (0..NAMES).map(name).collect();
            let mut n = NAMES;
            while !done.load(Ordering::Relaxed) {
                let name = names[(n % NAMES) as usize].as_bytes();
                writer.set(name, &entry(n)).expect("it fits");
                n += 1;
                // Now and then the table moves under the readers.
                if n.is_multiple_of(1 << 14) {
                    let passing = n.to_le_bytes();
                    writer.set(&passing, &entry(n)).expect("it fits");
                    writer.remove(&passing);
                }
            }
            n
        });
        let output = Command::new(program)
            .arg(&path)
            .arg(NAMES.to_string())
            .arg(reads.to_string())
            .output();
        done.store(true, Ordering::Relaxed);
        (output.expect("it runs"), writing.join().expect("it wrote"))
    });
    let said = words(&output);
    println!("reads, torn, busy from C: {said}beside {writes} writes");
    let numbers: Vec<u64> = said
        .split_whitespace()
        .map(|n| n.parse().expect("a number"))
        .collect();
    assert_eq!(numbers[..2], [reads, 0]);
    // An exhausted retry is allowed, but it must stay a rarity.
    assert!(numbers[2] * 1_000 < reads, "{said}");
}

#[test]
fn the_address_sanitizer_sees_no_bad_read_whatever_the_bytes() {
    let files = count("WATCHFIRE_ASAN_FILES", 400);
    let folder = folder();
    let program = compile(
        folder.path(),
        "fuzz",
        Link::Static,
        &["-fsanitize=address,undefined"],
    );
    let good = common::small_table(folder.path());
    let mut random = Random(0x5eed);
    let mut opened = 0;
    for batch in 0..files.div_ceil(50) {
        let paths: Vec<PathBuf> = (0..50)
            .map(|file| {
                let path = folder.path().join(format!("fuzz-{file}"));
                fs::write(&path, common::mangle(&good, &mut random)).expect("writable");
                path
            })
            .collect();
        let output = Command::new(&program)
            .args(&paths)
            .output()
            .expect("it runs");
        opened += words(&output).trim().parse::<u64>().expect("a number");
        assert!(batch == 0 || Reader::open(&folder.path().join("table")).is_ok());
    }
    assert!(
        opened * 4 > files,
        "most of the damage must get past the header: {opened}"
    );
}
