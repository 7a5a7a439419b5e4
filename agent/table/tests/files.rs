//! Files: who may, who may not, and what is refused with which words.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{entry, folder, options};
use watchfire_table::limits::PATH_LOOK_NS;
use watchfire_table::{Notice, Reader, TableError, Writer, WriterOptions, monotonic_ns};

fn write_table(path: &Path) {
    let mut writer = Writer::open(path, &options(64), 1).expect("the folder is writable");
    writer.set(b"a", &entry(1)).expect("it fits");
    writer.set(&[b'l'; 200], &entry(2)).expect("it fits");
}

/// Both sides' refusals of one file.
fn refusals(path: &Path) -> [TableError; 2] {
    let before = fs::read(path).ok();
    let found = [
        Writer::open(path, &options(64), 1).expect_err("the writer refuses"),
        Reader::open(path).expect_err("the reader refuses"),
    ];
    assert_eq!(fs::read(path).ok(), before, "a refused file is left alone");
    found
}

#[test]
fn the_file_has_its_mode_and_is_backed_by_memory_throughout() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let found = fs::metadata(&path).expect("it was made");
    assert_eq!(found.mode() & 0o7777, 0o640);
    assert!(found.blocks() * 512 >= found.len());
    assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);

    let public = WriterOptions {
        mode: 0o644,
        group: Some(found.gid()),
        ..options(64)
    };
    drop(Writer::open(&path, &public, 1).expect("it adopts"));
    let found = fs::metadata(&path).expect("it is there");
    assert_eq!(found.mode() & 0o7777, 0o644);
}

#[test]
fn a_second_live_writer_is_refused_and_told_who_the_first_is() {
    let folder = folder();
    let path = folder.path().join("table");
    let first = Writer::open(&path, &options(64), 1).expect("the folder is writable");
    let refused = Writer::open(&path, &options(64), 1).expect_err("one writer at a time");
    let expected = TableError::SecondWriter {
        path: path.clone(),
        pid: Some(u64::from(std::process::id())),
    };
    assert_eq!(refused, expected);
    drop(first);
    drop(Writer::open(&path, &options(64), 1).expect("the first has gone"));
}

#[test]
fn a_left_over_of_a_dead_writers_move_is_no_hindrance() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let left = ["table.new", "table.new-0123456789abcdef"].map(|left| folder.path().join(left));
    for left in &left {
        fs::write(left, b"half").expect("writable");
    }
    let mut writer = Writer::open(&path, &options(1_000), 1).expect("it adopts and grows");
    for left in &left {
        assert!(!left.exists(), "it takes room and serves nobody");
    }
    assert_eq!(writer.get(b"a"), Some(entry(1)));
    writer.set(b"b", &entry(2)).expect("it fits");
}

#[test]
fn a_reader_follows_a_file_that_was_replaced_behind_its_back() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let reader = Reader::open(&path).expect("a table");
    // The folder was emptied and the agent started anew: the old file will
    // never say that it has moved, but it goes stale.
    fs::remove_file(&path).expect("writable");
    assert_eq!(reader.get(b"a", 1).entry(), Some(entry(1)));
    let late_ns = 100_000_000_000;
    let mut writer = Writer::open(&path, &options(64), late_ns).expect("writable");
    writer.set(b"a", &entry(7)).expect("it fits");
    assert_eq!(reader.get(b"a", late_ns).entry(), Some(entry(7)));
    assert!(reader.freshness(late_ns).fresh);
}

#[test]
fn a_file_removed_or_replaced_under_a_living_writer_comes_back() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    writer.set(b"a", &entry(1)).expect("it fits");
    let reader = Reader::open(&path).expect("a table");
    let mut now_ns = 1;
    writer.heartbeat(now_ns + PATH_LOOK_NS);
    assert_eq!(writer.take_notice(), None, "nothing befell it");

    let remove: &dyn Fn() = &|| fs::remove_file(&path).expect("writable");
    let replace = &|| {
        fs::write(folder.path().join("copy"), b"not a table").expect("writable");
        fs::rename(folder.path().join("copy"), &path).expect("writable");
    };
    let remove_all = &|| {
        remove();
        fs::remove_file(folder.path().join("table.lock")).expect("writable");
    };
    for (round, befall) in [remove, replace, remove_all].into_iter().enumerate() {
        now_ns += 10 * PATH_LOOK_NS;
        writer.heartbeat(now_ns);
        let n = round as u64 + 2;
        writer.set(b"a", &entry(n)).expect("it fits");
        befall();
        writer.heartbeat(now_ns + PATH_LOOK_NS - 1);
        assert!(Reader::open(&path).is_err(), "it looks once a second");
        assert_eq!(writer.take_notice(), None);

        writer.heartbeat(now_ns + PATH_LOOK_NS);
        let restored = Notice::Restored { path: path.clone() };
        assert_eq!(writer.take_notice(), Some(restored));
        assert_eq!(writer.take_notice(), None, "said once");
        writer.set(b"b", &entry(n)).expect("it fits");
        let newcomer = Reader::open(&path).expect("it is there again");
        for reader in [&newcomer, &reader] {
            let found = [b"a", b"b"].map(|name| reader.get(name, now_ns).entry());
            assert_eq!(found, [Some(entry(n)); 2], "round {round}");
        }
        let second = Writer::open(&path, &options(64), now_ns).expect_err("one at a time");
        assert!(matches!(second, TableError::SecondWriter { .. }));
    }
}

#[test]
fn a_lost_folder_is_said_once_and_served_again_when_it_is_back() {
    let folder = folder();
    let place = folder.path().join("place");
    fs::create_dir(&place).expect("writable");
    let path = place.join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    writer.set(b"a", &entry(1)).expect("it fits");
    fs::remove_dir_all(&place).expect("writable");
    let mut beat = |seconds: u64| {
        writer.heartbeat(1 + seconds * PATH_LOOK_NS);
        writer.take_notice()
    };
    let error = TableError::NoFolder { path: path.clone() };
    assert_eq!(beat(1), Some(Notice::NotRestored { error }));
    assert_eq!(beat(2), None);
    fs::create_dir(&place).expect("writable");
    assert_eq!(beat(3), Some(Notice::Restored { path: path.clone() }));
    assert_eq!(beat(4), None);
    let reader = Reader::open(&path).expect("it is there again");
    assert_eq!(reader.get(b"a", 1).entry(), Some(entry(1)));
}

#[test]
fn a_writer_whose_place_another_one_took_leaves_it_alone() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut first = Writer::open(&path, &options(64), 1).expect("writable");
    fs::remove_file(&path).expect("writable");
    fs::remove_file(folder.path().join("table.lock")).expect("writable");
    let mut second = Writer::open(&path, &options(64), 1).expect("nobody seems to be there");
    second.set(b"a", &entry(2)).expect("it fits");

    first.heartbeat(1 + PATH_LOOK_NS);
    let error = TableError::SecondWriter {
        path: path.clone(),
        pid: None,
    };
    assert_eq!(first.take_notice(), Some(Notice::NotRestored { error }));
    let refusal = (0..1_000_u64).find_map(|n| first.set(&n.to_le_bytes(), &entry(n)).err());
    assert!(
        matches!(refusal, Some(TableError::SecondWriter { .. })),
        "nor does it grow into the other's place: {refusal:?}"
    );
    second.heartbeat(1 + PATH_LOOK_NS);
    assert_eq!(second.take_notice(), None);
    let reader = Reader::open(&path).expect("the second's");
    assert_eq!(reader.get(b"a", 1).entry(), Some(entry(2)));
}

#[test]
fn many_threads_follow_many_moves_through_one_handle() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    let name = |n: u64| format!("{n}-{}", "z".repeat((n % 90) as usize));
    for n in 0..40 {
        writer.set(name(n).as_bytes(), &entry(n)).expect("it fits");
    }
    let reader = Reader::open(&path).expect("a table");
    let done = std::sync::atomic::AtomicBool::new(false);
    let generations = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut n = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    n = (n + 1) % 40;
                    // A clock that stands still would let a reader that once
                    // came too late wait for ever before it looks again.
                    let found = reader.get(name(n).as_bytes(), monotonic_ns()).entry();
                    let found = found.expect("these names are always in the table");
                    assert!(common::is_whole(&found) && found.since_ms % 1_000 == n);
                }
            });
        }
        for round in 0..8_000_u64 {
            writer
                .set(
                    name(round % 40).as_bytes(),
                    &entry(round * 1_000 + round % 40),
                )
                .expect("it fits");
            let passing = format!("passing-{round}");
            writer
                .set(passing.as_bytes(), &entry(round))
                .expect("it fits");
            assert!(writer.remove(passing.as_bytes()));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.view().generation()
    });
    // The last move may have come after the last lookup.
    reader.refresh().expect("a table");
    assert!(generations > 50, "{generations} moves");
    assert_eq!(reader.stat(1).map(|s| s.generation), Some(generations));
}

#[test]
fn missing_places_are_named() {
    let folder = folder();
    let path = folder.path().join("no").join("table");
    let missing = Reader::open(&path).expect_err("there is none");
    assert_eq!(missing, TableError::Missing { path: path.clone() });
    let nowhere = Writer::open(&path, &options(64), 1).expect_err("there is no folder");
    assert_eq!(nowhere, TableError::NoFolder { path });
}

#[test]
fn other_files_are_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("table");
    for foreign in [&b""[..], b"short", &[b'x'; 200_000]] {
        fs::write(&path, foreign).expect("writable");
        for refusal in refusals(&path) {
            assert_eq!(refusal, TableError::Foreign { path: path.clone() });
        }
    }
    // One with holes is no damaged table either.
    let sparse = fs::File::create(&path).expect("writable");
    sparse.set_len(1 << 20).expect("writable");
    for refusal in refusals(&path) {
        assert_eq!(refusal, TableError::Foreign { path: path.clone() });
    }
    fs::remove_file(&path).expect("writable");
    fs::create_dir(&path).expect("writable");
    for refusal in refusals(&path) {
        assert_eq!(refusal, TableError::NotAFile { path: path.clone() });
    }
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1, "no lock is left beside somebody else's file");
    fs::remove_dir(&path).expect("writable");
    let target = folder.path().join("target");
    write_table(&target);
    symlink(&target, &path).expect("writable");
    for refusal in refusals(&path) {
        assert_eq!(refusal, TableError::NotAFile { path: path.clone() });
    }
}

/// The reader refuses this file as damaged; the writer sets it aside, makes a
/// new table and says what was wrong.
fn damage_of(path: &Path) -> String {
    let refusal = Reader::open(path).expect_err("the reader refuses");
    assert!(matches!(refusal, TableError::Corrupt { .. }), "{refusal}");
    set_aside(path)
}

/// What the writer says was wrong with a table that it sets aside.
fn set_aside(path: &Path) -> String {
    let before = fs::read(path).expect("readable");
    let mut writer = Writer::open(path, &options(64), 1).expect("it makes a new one");
    let Some(Notice::SetAside {
        path: at,
        aside,
        what,
    }) = writer.take_notice()
    else {
        panic!("the writer says nothing of it");
    };
    assert_eq!((at.as_path(), writer.take_notice()), (path, None));
    assert_eq!(aside, path.with_file_name("table.damaged"));
    assert!(
        fs::read(&aside).is_ok_and(|kept| kept == before),
        "as it was"
    );
    let mut files: Vec<_> = fs::read_dir(path.parent().expect("a folder"))
        .expect("readable")
        .map(|file| file.expect("readable").file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["table", "table.damaged", "table.lock"]);

    writer.set(b"new", &entry(5)).expect("it fits");
    let reader = Reader::open(path).expect("the new one");
    assert_eq!(reader.get(b"new", 1).entry(), Some(entry(5)));
    assert_eq!(reader.get(b"a", 1).entry(), None);
    drop(writer);
    let mut again = Writer::open(path, &options(64), 1).expect("it adopts");
    assert_eq!(again.take_notice(), None);
    assert_eq!(again.get(b"new"), Some(entry(5)));
    what
}

#[test]
fn damaged_tables_are_set_aside_by_the_next_writer() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let good = fs::read(&path).expect("readable");
    // Cut short, at a page and in the header; grown; sizes that contradict.
    for cut in [100, 4_096, good.len() - 4_096] {
        fs::write(&path, &good[..cut]).expect("writable");
        assert!(damage_of(&path).contains("shorter"), "cut at {cut}");
    }
    fs::write(&path, [&good[..], &[0; 4_096]].concat()).expect("writable");
    assert!(damage_of(&path).contains("longer"));
    let mut slots = good.clone();
    slots[24] ^= 1;
    fs::write(&path, &slots).expect("writable");
    assert!(damage_of(&path).contains("checksum"));
    // A sparse copy, which a full tmpfs could turn into a deadly one.
    let file = fs::File::create(&path).expect("writable");
    file.set_len(good.len() as u64).expect("writable");
    std::os::unix::fs::FileExt::write_all_at(&file, &good[..4_096], 0).expect("writable");
    assert!(damage_of(&path).contains("holes"));
    // Damage inside: the writer looks at every slot, and `verify` does too.
    let at = good
        .windows(3)
        .rposition(|w| w == b"lll")
        .expect("the long name");
    let mut name = good;
    name[at] = b'm';
    fs::write(&path, &name).expect("writable");
    let reader = Reader::open(&path).expect("the header is sound");
    assert_eq!(reader.verify().map(|v| v.problems.len()), Some(1));
    assert!(set_aside(&path).contains("hash is not its name's"));
    // A reader that was on it is led to the new one when it goes stale.
    let late_ns = 100_000_000_000;
    assert_eq!(reader.get(b"new", late_ns).entry(), Some(entry(5)));
}

#[test]
fn tables_of_another_layout_are_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let mut version = fs::read(&path).expect("readable");
    version[8] = 3;
    for length in [version.len(), 100] {
        fs::write(&path, &version[..length]).expect("writable");
        for refusal in refusals(&path) {
            let found = TableError::OtherVersion {
                path: path.clone(),
                found: 3,
            };
            assert_eq!(refusal, found);
        }
    }
}

#[test]
fn a_damaged_table_stays_where_it_is_until_there_is_room_for_another() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let good = fs::read(&path).expect("readable");
    fs::write(&path, &good[..4_096]).expect("writable");
    // The new table's file would have too long a name.
    let long = folder.path().join("t".repeat(240));
    fs::rename(&path, &long).expect("writable");
    let refusal = Writer::open(&long, &options(64), 1).expect_err("no place for a new one");
    assert!(matches!(refusal, TableError::Os { .. }), "{refusal}");
    assert_eq!(fs::read(&long).expect("readable"), &good[..4_096]);
    fs::rename(&long, &path).expect("writable");
    fs::remove_file(long.with_extension("lock")).expect("writable");
    assert!(damage_of(&path).contains("shorter"));
}

#[test]
fn a_disk_is_refused_unless_allowed() {
    // The build folder is on a disk wherever the sources are; elsewhere there
    // is nothing to refuse.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("writable");
    let path = folder.path().join("table");
    fs::write(folder.path().join("of-the-operator"), b"").expect("writable");
    let kind = nix::sys::statfs::statfs(folder.path()).map(|s| s.filesystem_type());
    if kind == Ok(nix::sys::statfs::TMPFS_MAGIC) {
        eprintln!("skipped: the build folder is in memory");
        return;
    }
    let refusal = Writer::open(&path, &options(64), 1).expect_err("a disk");
    assert_eq!(refusal, TableError::NotInMemory { path: path.clone() });
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1, "nothing is left beside the operator's file");
    let anywhere = WriterOptions {
        any_filesystem: true,
        ..options(64)
    };
    drop(Writer::open(&path, &anywhere, 1).expect("a wish"));
    assert!(Reader::open(&path).is_ok());
}

/// Runs this test again in a mount namespace of its own, where it mounts what
/// it likes; `script` gets the folder as `$1`. Says whether it could.
fn again_in_a_namespace(test: &str, folder: &Path, script: &str) -> bool {
    let me = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "{script} || exit 77; exec \"$2\" --exact {test} --nocapture"
        ))
        .arg("sh")
        .arg(folder)
        .arg(me)
        .env("WATCHFIRE_TABLE_FOLDER", folder)
        .status();
    match status {
        Ok(status) if status.code() != Some(77) && status.code() != Some(1) => {
            assert!(status.success(), "{test} failed in its namespace: {status}");
            true
        }
        other => {
            eprintln!("skipped: this machine gives no mount namespace ({other:?})");
            false
        }
    }
}

#[test]
fn a_full_filesystem_is_refused_and_nothing_is_lost() {
    let test = "a_full_filesystem_is_refused_and_nothing_is_lost";
    let Some(place) = std::env::var_os("WATCHFIRE_TABLE_FOLDER") else {
        let folder = folder();
        again_in_a_namespace(
            test,
            folder.path(),
            "mount -t tmpfs -o size=256k none \"$1\"",
        );
        return;
    };
    let path = Path::new(&place).join("table");
    let refusal = Writer::open(&path, &options(10_000), 1).expect_err("it takes megabytes");
    assert!(
        matches!(
            refusal,
            TableError::FilesystemFull {
                needed_bytes: 2_000_000..,
                free_bytes: ..=262_144,
                ..
            }
        ),
        "{refusal}"
    );
    let left: Vec<_> = fs::read_dir(&place).expect("a folder").flatten().collect();
    assert_eq!(left.len(), 1, "nothing but the lock is left: {left:?}");

    let mut writer = Writer::open(&path, &options(300), 1).expect("a small one fits");
    let reader = Reader::open(&path).expect("a table");
    let mut names = 0_u64;
    let refusal = loop {
        match writer.set(&names.to_le_bytes(), &entry(names)) {
            Ok(()) => names += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(
        matches!(refusal, TableError::FilesystemFull { .. }),
        "{refusal}"
    );
    assert!(names >= 300);
    for n in 0..names {
        assert_eq!(reader.get(&n.to_le_bytes(), 1).entry(), Some(entry(n)));
    }
    writer
        .set(&0_u64.to_le_bytes(), &entry(9))
        .expect("known names are still written");
    assert_eq!(reader.get(&0_u64.to_le_bytes(), 1).entry(), Some(entry(9)));
}

#[test]
fn a_read_only_filesystem_and_a_forbidden_folder_are_named() {
    let test = "a_read_only_filesystem_and_a_forbidden_folder_are_named";
    let Some(place) = std::env::var_os("WATCHFIRE_TABLE_FOLDER") else {
        let folder = folder();
        again_in_a_namespace(test, folder.path(), "mount -t tmpfs -o ro none \"$1\"");
        return;
    };
    let path = Path::new(&place).join("table");
    let refusal = Writer::open(&path, &options(64), 1).expect_err("read-only");
    assert!(
        matches!(refusal, TableError::ReadOnlyFilesystem { .. }),
        "{refusal}"
    );
}

/// What a stranger finds; run by the test below as another user.
#[test]
fn strangers_read() {
    let Some(path) = std::env::var_os("WATCHFIRE_TABLE_OF_ANOTHER") else {
        return;
    };
    match Reader::open(Path::new(&path)) {
        Ok(reader) => assert_eq!(reader.get(b"a", 1).entry(), Some(entry(1))),
        Err(TableError::NotPermitted { doing: "read", .. }) => std::process::exit(13),
        Err(refusal) => panic!("{refusal}"),
    }
}

#[test]
fn the_group_may_read_and_others_are_told_that_they_may_not() {
    const NOBODY: u32 = 65_534;
    const GROUP: u32 = 54_321;
    let folder = folder();
    let path = folder.path().join("table");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("own");
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only the superuser can try this as other users");
        return;
    }
    let grouped = WriterOptions {
        group: Some(GROUP),
        ..options(64)
    };
    let mut writer = Writer::open(&path, &grouped, 1).expect("the folder is writable");
    writer.set(b"a", &entry(1)).expect("it fits");
    assert_eq!(fs::metadata(&path).expect("it was made").gid(), GROUP);
    // The program lies where only its builder may look, so a copy is run.
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("room");
    for (group, expected) in [(GROUP, 0), (NOBODY, 13)] {
        let status = Command::new("setpriv")
            .args([format!("--reuid={NOBODY}"), format!("--regid={group}")])
            .arg("--clear-groups")
            .arg(&program)
            .args(["--exact", "strangers_read"])
            .env("WATCHFIRE_TABLE_OF_ANOTHER", &path)
            .output()
            .expect("setpriv is part of every Linux")
            .status;
        assert_eq!(status.code(), Some(expected), "as group {group}");
    }
}
