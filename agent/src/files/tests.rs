//! Files as they are rewritten, and what is in force meanwhile.

use std::fs;

use super::*;

/// A folder of origins files, and the files as an agent reads them.
struct Bed {
    dir: tempfile::TempDir,
    agent: AgentConfig,
    files: Files,
}

const RELOAD: How = How::Reload {
    allow_removals: false,
};

fn origins(names: &[&str], port: u16) -> String {
    let one =
        |name: &&str| format!("[[origin]]\nname = \"{name}\"\naddress = \"192.0.2.1:{port}\"\n");
    names.iter().map(one).collect()
}

impl Bed {
    fn new(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join("d").join(name), text).unwrap();
        }
        let file = dir.path().join("agent.toml");
        let text = "[node]\nname = \"a\"\n[gossip]\nbind = \"127.0.0.1:7946\"\n\
                    [table]\npath = \"t\"\n[origins]\nfiles = [\"d/*.toml\"]\n";
        fs::write(&file, text).unwrap();
        let agent = AgentConfig::load(&file).unwrap();
        let files = Files::new(&agent, Some(Kept::new(dir.path(), "a")));
        Self { dir, agent, files }
    }

    fn write(&self, name: &str, text: &str) {
        let dir = self.dir.path().join("d");
        fs::write(dir.join(".new"), text).unwrap();
        fs::rename(dir.join(".new"), dir.join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join("d").join(name)).unwrap();
    }

    /// The names in force, and the names of files that are held.
    fn read(&mut self, how: How) -> (Vec<String>, Vec<String>) {
        let read = self.files.read(&self.agent, how).unwrap().unwrap();
        assert_eq!(read.waiting, Vec::<PathBuf>::new());
        let names = read.origins.origins.names.keys().map(ToString::to_string);
        let held = read.held.iter().map(|held| held.file.file_name().unwrap());
        let held = held.map(|name| name.to_string_lossy().into_owned());
        (names.collect(), held.collect())
    }

    /// The agent ends and starts again.
    fn restart(&mut self) {
        let kept = Kept::new(self.dir.path(), "a");
        self.files = Files::new(&self.agent, Some(kept));
    }
}

fn is(read: (Vec<String>, Vec<String>), names: &[&str], held: &[&str]) {
    assert_eq!(read.0, names);
    assert_eq!(read.1, held);
}

#[test]
fn a_bad_file_keeps_its_last_good_content_and_hurts_no_other() {
    let mut bed = Bed::new(&[
        ("a.toml", origins(&["a1", "a2"], 80)),
        ("b.toml", origins(&["b1", "b2", "b3"], 80)),
    ]);
    is(bed.read(How::Start), &["a1", "a2", "b1", "b2", "b3"], &[]);
    bed.write("a.toml", "[[origin]]\nname = \"a1\"\n");
    bed.write("b.toml", &origins(&["b1", "b2", "b4"], 80));
    let all = ["a1", "a2", "b1", "b2", "b4"];
    is(bed.read(RELOAD), &all, &["a.toml"]);
    bed.restart();
    is(bed.read(How::Start), &all, &["a.toml"]);
    bed.write("a.toml", &origins(&["a1", "a3"], 80));
    is(bed.read(RELOAD), &["a1", "a3", "b1", "b2", "b4"], &[]);
}

#[test]
fn a_start_goes_on_without_a_file_that_was_never_good_but_not_without_any() {
    let mut bed = Bed::new(&[("a.toml", origins(&["a"], 80)), ("b.toml", "b".into())]);
    is(bed.read(How::Start), &["a"], &["b.toml"]);
    let mut bed = Bed::new(&[("a.toml", "a\n".into()), ("b.toml", "b\n".into())]);
    let errors = bed.files.read(&bed.agent, How::Start).err().unwrap();
    assert_eq!(errors.0.len(), 2, "{errors}");
}

#[test]
fn all_mistakes_of_a_file_are_named() {
    let text = "[[origin]]\nname = \"a\"\n[[origin]]\nname = \"b\"\naddress = \"x\"\n\
                [[origin]]\nname = \"c\"\naddress = \"192.0.2.1:80\"\nrise = 0\n";
    let mut bed = Bed::new(&[("a.toml", text.into())]);
    let errors = bed.files.read(&bed.agent, How::Start).err().unwrap();
    let lines: Vec<_> = errors.0.iter().map(|error| error.line).collect();
    assert_eq!(lines, [Some(1), Some(5), Some(9)], "{errors}");
}

#[test]
fn what_loses_everything_is_held_until_somebody_says_that_it_is_meant() {
    let many = ["b1", "b2", "b3", "b4", "b5", "b6"];
    let mut bed = Bed::new(&[
        ("a.toml", origins(&["a1"], 80)),
        ("b.toml", origins(&many, 80)),
    ]);
    let all: Vec<_> = ["a1"].iter().chain(&many).copied().collect();
    is(bed.read(How::Start), &all, &[]);
    bed.write("a.toml", "");
    is(bed.read(RELOAD), &all, &["a.toml"]);
    bed.write("a.toml", &origins(&["a1"], 80));
    is(bed.read(RELOAD), &all, &[]);

    bed.write("b.toml", &origins(&many[..2], 80));
    is(bed.read(RELOAD), &all, &["b.toml"]);
    bed.restart();
    is(bed.read(How::Start), &all, &["b.toml"]);
    let allow = How::Reload {
        allow_removals: true,
    };
    is(bed.read(allow), &["a1", "b1", "b2"], &[]);

    bed.remove("a.toml");
    is(bed.read(RELOAD), &["b1", "b2"], &[]);
    bed.remove("b.toml");
    is(bed.read(RELOAD), &["b1", "b2"], &["b.toml"]);
    bed.restart();
    is(bed.read(How::Start), &["b1", "b2"], &["b.toml"]);
    is(bed.read(allow), &[], &[]);
    bed.restart();
    is(bed.read(How::Start), &[], &[]);
}

#[test]
fn a_file_may_rename_its_only_origin() {
    let mut bed = Bed::new(&[
        ("a.toml", origins(&["a"], 80)),
        ("b.toml", origins(&["b1", "b2"], 80)),
    ]);
    bed.read(How::Start);
    bed.write("a.toml", &origins(&["c"], 80));
    is(bed.read(RELOAD), &["b1", "b2", "c"], &[]);
}

#[test]
fn origins_that_move_to_another_file_are_not_lost() {
    let mut bed = Bed::new(&[("a.toml", origins(&["a", "b", "c"], 80))]);
    bed.read(How::Start);
    bed.write("a.toml", "");
    bed.write("b.toml", &origins(&["a", "b", "c"], 80));
    is(bed.read(RELOAD), &["a", "b", "c"], &[]);
}

#[test]
fn who_had_a_name_keeps_it() {
    let mut bed = Bed::new(&[
        ("a.toml", origins(&["a"], 80)),
        ("b.toml", origins(&["b"], 80)),
    ]);
    bed.read(How::Start);
    bed.write("a.toml", &origins(&["a", "b"], 81));
    is(bed.read(RELOAD), &["a", "b"], &["a.toml"]);
    let port = |bed: &mut Bed| {
        let read = bed.files.read(&bed.agent, RELOAD).unwrap().unwrap();
        let origins = read.origins.origins;
        origins.checks[&origins.names["b"]].target.port()
    };
    assert_eq!(port(&mut bed), 80);
    bed.write("b.toml", &origins(&["c"], 80));
    is(bed.read(RELOAD), &["a", "b", "c"], &[]);
    assert_eq!(port(&mut bed), 81);
}

#[test]
fn a_look_takes_what_is_at_rest_and_waits_for_the_rest() {
    let mut bed = Bed::new(&[("a.toml", origins(&["a"], 80))]);
    bed.read(How::Start);
    let mut look = || bed.files.read(&bed.agent, How::Look).unwrap();
    assert!(look().is_none());
    let file = bed.dir.path().join("d/a.toml");
    let open = fs::File::create(&file).unwrap();
    fs::write(&file, origins(&["a"], 81)).unwrap();
    for _ in 0..3 {
        // Another wrote and closed it: that is all that the kernel tells.
        if look().is_some() {
            break;
        }
    }
    open.set_len(0).unwrap();
    for _ in 0..5 {
        assert!(look().is_none(), "it is open, and cut to nothing");
    }
    drop(open);
    assert!(look().is_none_or(|read| read.held.len() == 1));
    bed.write("a.toml", &origins(&["a", "b"], 81));
    let mut look = || bed.files.read(&bed.agent, How::Look).unwrap();
    assert!(look().is_none(), "once is not twice");
    let read = look().unwrap();
    assert_eq!(read.origins.origins.names.len(), 2);
}

#[test]
fn other_defaults_are_taken_whole_or_not_at_all() {
    let mut bed = Bed::new(&[("a.toml", origins(&["a"], 80))]);
    bed.read(How::Start);
    let config = bed.dir.path().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}[defaults]\nrise = 0\n")).unwrap();
    let old = std::mem::replace(&mut bed.agent, AgentConfig::load(&config).unwrap());
    assert!(bed.files.read(&bed.agent, RELOAD).is_err());
    bed.agent = old;
    is(bed.read(RELOAD), &["a"], &[]);
    fs::write(&config, format!("{text}[defaults]\nrise = 4\n")).unwrap();
    bed.agent = AgentConfig::load(&config).unwrap();
    is(bed.read(RELOAD), &["a"], &[]);
}
