//! An origins file, rewritten by every means that people and programs have: no
//! name ever leaves the table that is not meant to, and each change is seen
//! within three seconds.

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use support::{Agent, Pop};
use watchfire_table::Reader;

const SEEN_WITHIN: Duration = Duration::from_secs(3);

const NAMES: usize = 50;

fn text(round: usize) -> String {
    let origins = (0..NAMES).chain([NAMES + round]);
    let origins = origins.map(|index| {
        format!("[[origin]]\nname = \"o{index}\"\naddress = \"127.40.7.1:9\"\ninterval = \"60s\"\n")
    });
    origins.collect()
}

/// A way to give a file, in a folder that a link leads to, another content.
type Means = (&'static str, fn(&Path, &str));

const MEANS: [Means; 12] = [
    ("truncate, think, write", |file, text| {
        let mut open = fs::File::create(file).unwrap();
        sleep(Duration::from_millis(1_500));
        open.write_all(text.as_bytes()).unwrap();
    }),
    ("truncate, write line by line", |file, text| {
        let mut open = fs::File::create(file).unwrap();
        for line in text.split_inclusive('\n') {
            open.write_all(line.as_bytes()).unwrap();
            sleep(Duration::from_millis(12));
        }
    }),
    ("truncate and close, write later", |file, text| {
        fs::write(file, "").unwrap();
        sleep(Duration::from_secs(2));
        fs::write(file, text).unwrap();
    }),
    ("rename", |file, text| {
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, file).unwrap();
    }),
    ("link swap", |file, text| {
        let real = file.with_extension("real");
        fs::write(&real, text).unwrap();
        let link = file.with_extension("link");
        symlink(&real, &link).unwrap();
        fs::rename(link, file).unwrap();
    }),
    ("folder swap", |file, text| {
        let folder = file.parent().unwrap();
        let new = folder.with_extension("new");
        fs::create_dir(&new).unwrap();
        fs::write(new.join(file.file_name().unwrap()), text).unwrap();
        let link = folder.with_extension("link");
        symlink(&new, &link).unwrap();
        fs::rename(link, folder).unwrap();
    }),
    ("folder removed and copied anew", |file, text| {
        let folder = fs::canonicalize(file.parent().unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        sleep(Duration::from_millis(700));
        fs::create_dir(&folder).unwrap();
        sleep(Duration::from_millis(300));
        fs::write(folder.join(file.file_name().unwrap()), text).unwrap();
    }),
    ("rsync --inplace", |file, text| {
        // What it does: blocks over the old ones, then the length.
        let mut open = fs::File::options().write(true).open(file).unwrap();
        for block in text.as_bytes().chunks(1_000) {
            open.write_all(block).unwrap();
            sleep(Duration::from_millis(120));
        }
        open.set_len(text.len() as u64).unwrap();
    }),
    (
        "vi: the old one aside, a new one, the old one away",
        |file, text| {
            let aside = file.with_extension("toml~");
            fs::rename(file, &aside).unwrap();
            sleep(Duration::from_millis(300));
            fs::write(file, text).unwrap();
            fs::remove_file(aside).unwrap();
        },
    ),
    ("sed -i", |file, text| {
        let added = text.rsplit("[[origin]]").next().unwrap();
        let line = added.trim().replace('\n', "\\n");
        let changed = Command::new("sed")
            .arg("-i")
            .arg(format!("$a [[origin]]\\n{line}"))
            .arg(file)
            .status();
        assert!(changed.unwrap().success());
        // What came by the rounds before stays; that is what this one is.
    }),
    ("disk full in the middle", |file, text| {
        let new = file.with_extension("source");
        fs::write(&new, text).unwrap();
        let script = format!("ulimit -f 1; cat {} > {}", new.display(), file.display());
        let full = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(!full.status.success(), "it was whole");
        sleep(Duration::from_secs(2));
        fs::write(file, text).unwrap();
    }),
    ("same size, same time", |file, text| {
        // The table shows names only: the change is the last name.
        let modified = fs::metadata(file).unwrap().modified().unwrap();
        fs::write(file, text).unwrap();
        let open = fs::File::options().write(true).open(file).unwrap();
        open.set_modified(modified).unwrap();
    }),
];

/// Whether all names that are meant to be there are.
fn misses_one(reader: &Reader) -> Option<String> {
    let entries = reader.entries();
    (0..NAMES).map(|index| format!("o{index}")).find(|name| {
        !entries
            .iter()
            .any(|(known, _)| known[..] == *name.as_bytes())
    })
}

fn has(agent: &Agent, name: &str) -> bool {
    let reader = Reader::open(&agent.table()).unwrap();
    reader
        .entries()
        .iter()
        .any(|(known, _)| known[..] == *name.as_bytes())
}

#[test]
fn no_name_leaves_by_any_means_of_rewriting() {
    let mut pop = Pop::new(1);
    let agent = &mut pop.agents[0];
    let config = fs::read_to_string(agent.config()).unwrap();
    let config = config.replace("\"origins.toml\"", "\"origins.d/*.toml\"");
    fs::write(agent.config(), config).unwrap();
    let folder = agent.home.join("origins.d");
    fs::create_dir(agent.home.join("first")).unwrap();
    symlink(agent.home.join("first"), &folder).unwrap();
    let file = folder.join("o.toml");
    fs::write(&file, text(0)).unwrap();
    agent.start();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !agent.table().exists() || !has(agent, "o50") {
        assert!(Instant::now() < deadline, "{}", agent.log());
        sleep(Duration::from_millis(20));
    }
    let agent = &*agent;
    let over = AtomicBool::new(false);
    scope(|scope| {
        let watcher = scope.spawn(|| {
            let reader = Reader::open(&agent.table()).unwrap();
            let mut looks = 0_u64;
            while !over.load(Ordering::Relaxed) {
                if let Some(name) = misses_one(&reader) {
                    return Err(format!("{name} left the table"));
                }
                looks += 1;
                sleep(Duration::from_millis(5));
            }
            Ok(looks)
        });
        for (round, (means, rewrite)) in MEANS.iter().enumerate() {
            let round = round + 1;
            rewrite(&file, &text(round));
            let written = Instant::now();
            let added = format!("o{}", NAMES + round);
            while !has(agent, &added) {
                assert!(
                    !watcher.is_finished(),
                    "{means}: {:?}\n{}",
                    watcher.join(),
                    agent.log()
                );
                if written.elapsed() > SEEN_WITHIN {
                    over.store(true, Ordering::Relaxed);
                    panic!("{means} is not seen\n{}", agent.log());
                }
                sleep(Duration::from_millis(10));
            }
            println!("{means}: seen after {:?}", written.elapsed());
        }
        over.store(true, Ordering::Relaxed);
        let looks = watcher.join().unwrap();
        assert!(
            looks.as_ref().is_ok_and(|looks| *looks > 1_000),
            "{looks:?}\n{}",
            agent.log()
        );
    });
}
