//! Whose files are believed, and what a former layout, a crowd of names and the
//! POP's state come to.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use common::{entry, folder, options};
use watchfire_table::{Condition, Notice, PopState, Reader, TableError, Writer, layout};

const NOBODY: u32 = 65_534;

fn write_table(path: &Path) {
    let mut writer = Writer::open(path, &options(64), 1).expect("the folder is writable");
    writer.set(b"a", &entry(1)).expect("it fits");
}

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only the superuser can give files away");
    }
    is_root
}

fn refused(path: &Path, owner: u32) -> TableError {
    TableError::OtherOwner {
        path: path.to_owned(),
        owner,
        me: 0,
    }
}

#[test]
fn a_table_or_a_lock_of_another_owner_is_refused_and_left_alone() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    chown(&path, Some(NOBODY), None).expect("the superuser may");
    let before = fs::metadata(&path).expect("it is there");
    let writer = Writer::open(&path, &options(64), 1).expect_err("nobody's");
    assert_eq!(writer, refused(&path, NOBODY));
    assert!(writer.to_string().contains("/run/watchfire"), "{writer}");
    let reader = Reader::open(&path).expect_err("nobody's");
    assert_eq!(reader, refused(&path, NOBODY));
    assert_eq!(
        fs::metadata(&path).expect("it is there").mode(),
        before.mode()
    );

    // The owner of the folder could put there what he likes.
    chown(folder.path(), Some(NOBODY), None).expect("the superuser may");
    assert!(Reader::open(&path).is_ok());
    chown(folder.path(), Some(0), None).expect("the superuser may");

    fs::remove_file(&path).expect("writable");
    let lock = folder.path().join("table.lock");
    chown(&lock, Some(NOBODY), None).expect("the superuser may");
    let locked = Writer::open(&path, &options(64), 1).expect_err("nobody's lock");
    assert_eq!(locked, refused(&lock, NOBODY));
    fs::remove_file(&lock).expect("writable");
    write_table(&path);
}

/// An attacker puts his own table where a reader will look next.
#[test]
fn a_reader_does_not_follow_to_another_owners_file() {
    if !is_root() {
        return;
    }
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    let reader = Reader::open(&path).expect("a table");
    fs::remove_file(&path).expect("writable");
    drop(Writer::open(&path, &options(64), 1).expect("writable"));
    chown(&path, Some(NOBODY), None).expect("the superuser may");
    let late_ns = 1 << 60;
    assert_eq!(reader.refresh(), Err(refused(&path, NOBODY)));
    assert_eq!(reader.get(b"a", late_ns).entry(), Some(entry(1)));
}

#[test]
fn who_may_write_a_table_may_cut_it_short_so_readers_want_none_but_the_owner() {
    let folder = folder();
    let path = folder.path().join("table");
    write_table(&path);
    for mode in [0o660, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own");
        let refusal = Reader::open(&path).expect_err("others may write");
        let path = path.clone();
        assert_eq!(refusal, TableError::WritableByOthers { path, mode });
    }
    let generous = watchfire_table::WriterOptions {
        mode: 0o666,
        ..options(64)
    };
    drop(Writer::open(&path, &generous, 1).expect("it adopts"));
    let mode = fs::metadata(&path).expect("it is there").mode();
    assert_eq!(mode & 0o777, 0o644, "the writer takes that right away");
    assert!(Reader::open(&path).is_ok());
}

/// The finding: nobody could stop start and growth in a folder that everybody
/// writes, by the names that files were made at.
#[test]
fn nobody_can_be_in_the_way_of_growth() {
    if !is_root() {
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("own");
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    let theirs = folder.path().join("table.new");
    fs::write(&theirs, b"in the way").expect("writable");
    chown(&theirs, Some(NOBODY), None).expect("the superuser may");
    for n in 0..1_000_u64 {
        writer.set(&n.to_le_bytes(), &entry(n)).expect("it grows");
    }
    assert!(writer.view().generation() > 3);
    assert!(theirs.exists(), "it is not the writer's");
    // Nor does anybody see the next name beforehand.
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 3, "the table, its lock and theirs");
}

/// Rewrites a table as its former layout had it.
fn as_former(path: &Path) {
    let mut writer = Writer::open(path, &options(64), 1).expect("writable");
    let mut bytes = fs::read(path).expect("readable");
    let entries = writer.entries();
    for (name, _) in &entries {
        writer.remove(name);
    }
    drop(writer);
    let slots_at = 86_016;
    let slots = 128_usize;
    let mut table = bytes[slots_at..slots_at + slots * 128].to_vec();
    bytes[slots_at..slots_at + slots * 128].fill(0);
    for slot in table.chunks_mut(128) {
        let length = usize::from(slot[8]);
        if length == 0 {
            continue;
        }
        let hash = layout::hash_name(0, &slot[56..56 + length]);
        slot[..8].copy_from_slice(&hash.to_le_bytes());
        let mut at = ((u128::from(hash) * slots as u128) >> 64) as usize;
        while bytes[slots_at + at * 128..][..8] != [0; 8] {
            at = (at + 1) % slots;
        }
        bytes[slots_at + at * 128..][..128].copy_from_slice(slot);
    }
    bytes[8] = 1;
    bytes[24..32].copy_from_slice(&(slots as u64).to_le_bytes());
    bytes[88..96].fill(0);
    let checksum = layout::hash_name(0, &bytes[..56]);
    bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
    fs::write(path, bytes).expect("writable");
}

#[test]
fn a_table_of_the_former_layout_is_taken_over_with_all_it_says() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    for n in 0..60_u64 {
        writer
            .set(format!("origin-{n}").as_bytes(), &entry(n))
            .expect("it fits");
    }
    drop(writer);
    as_former(&path);
    let refusal = Reader::open(&path).expect_err("readers read their own layout");
    let found = TableError::OtherVersion {
        path: path.clone(),
        found: 1,
    };
    assert_eq!(refusal, found);
    let mut writer = Writer::open(&path, &options(64), 1).expect("it takes over");
    let expected = Notice::TakenOver { path: path.clone() };
    assert_eq!(writer.take_notice(), Some(expected));
    let reader = Reader::open(&path).expect("a table of this layout");
    for n in 0..60_u64 {
        let found = reader.get(format!("origin-{n}").as_bytes(), 1).entry();
        assert_eq!(found, Some(entry(n)), "{n}");
    }
    assert_eq!(writer.view().generation(), 2);
    assert!(writer.view().verify().problems.is_empty());
}

/// The finding: names with one home slot in every table of every POP.
#[test]
fn where_names_lie_differs_from_table_to_table() {
    let folder = folder();
    let slots: Vec<Vec<usize>> = ["one", "two"]
        .iter()
        .map(|table| {
            let path = folder.path().join(table);
            let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
            let names: Vec<_> = (0..40_u64).map(u64::to_le_bytes).collect();
            for name in &names {
                writer.set(name, &entry(1)).expect("it fits");
            }
            let view = writer.view();
            let at = |name: &[u8; 8]| {
                let mut found = [0; 255];
                (0..view.slot_count())
                    .find(|&slot| {
                        let entry = view.entry_at(slot, &mut found);
                        entry.is_some_and(|(length, _)| found[..length] == name[..])
                    })
                    .expect("it was set")
            };
            names.iter().map(at).collect()
        })
        .collect();
    let same = slots[0]
        .iter()
        .zip(&slots[1])
        .filter(|(a, b)| a == b)
        .count();
    assert!(same < 10, "{same} of 40 lie at the same place");
}

#[test]
fn the_state_of_the_pop_is_read_and_survives_a_move() {
    let folder = folder();
    let path = folder.path().join("table");
    let mut writer = Writer::open(&path, &options(64), 1).expect("writable");
    let reader = Reader::open(&path).expect("a table");
    assert_eq!(reader.pop_state(), PopState::default());
    let braked = PopState {
        condition: Condition::Braked,
        since_ms: 1_800_000_000_000,
    };
    writer.set_pop_state(braked);
    assert_eq!(reader.pop_state(), braked);
    for n in 0..200_u64 {
        writer.set(&n.to_le_bytes(), &entry(n)).expect("it grows");
    }
    assert_eq!(Reader::open(&path).expect("moved").pop_state(), braked);
    drop(writer);
    let writer = Writer::open(&path, &options(64), 1).expect("it adopts");
    assert_eq!(reader.refresh(), Ok(true));
    assert_eq!(
        reader.pop_state(),
        PopState::default(),
        "another agent's life"
    );
    drop(writer);
}

/// Runs as another user what `strangers_make` does.
#[test]
fn strangers_make() {
    let Some(path) = std::env::var_os("WATCHFIRE_TABLE_TO_MAKE") else {
        return;
    };
    write_table(Path::new(&path));
}

/// In a folder that everybody writes, whoever comes first makes the table.
#[test]
fn a_table_that_a_stranger_made_first_is_nobodys_word() {
    if !is_root() {
        return;
    }
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).expect("own");
    let path = folder.path().join("table");
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("room");
    let made = Command::new("setpriv")
        .args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")])
        .arg("--clear-groups")
        .arg(&program)
        .args(["--exact", "strangers_make"])
        .env("WATCHFIRE_TABLE_TO_MAKE", &path)
        .output()
        .expect("setpriv is part of every Linux");
    assert!(made.status.success(), "{made:?}");
    assert_eq!(
        Reader::open(&path).expect_err("theirs"),
        refused(&path, NOBODY)
    );
    let refusal = Writer::open(&path, &options(64), 1).expect_err("theirs");
    assert_eq!(refusal, refused(&path, NOBODY));
}
