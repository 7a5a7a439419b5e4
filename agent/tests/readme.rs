//! README's commands, run as they are printed, from an empty folder.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const README: &str = include_str!("../../README.md");

/// The first block of a language after a heading.
fn block<'a>(heading: &str, language: &str) -> &'a str {
    let after = README.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let fenced = after.split(&format!("```{language}\n")).nth(1).unwrap();
    fenced.split("```").next().unwrap()
}

/// Runs a script as root of a network, /run, /var/lib and /dev/shm of its own,
/// where this host has the example's address.
fn run(dir: &Path, script: &str) -> Output {
    let file = dir.join("script");
    let head = "set -eu\nmount -t tmpfs none /run\nmount -t tmpfs none /var/lib\n\
                mount -t tmpfs none /dev/shm\nip link set lo up\n\
                ip address add 192.0.2.1/32 dev lo\n";
    fs::write(&file, format!("{head}{script}")).unwrap();
    let unshare = ["--map-root-user", "--net", "--mount", "--pid", "--fork"];
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .arg("--kill-child")
        .arg("sh")
        .arg(&file);
    command.current_dir(dir).output().unwrap()
}

#[test]
fn the_commands_work_as_they_are_printed() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let probe = run(dir.path(), "");
    if !probe.status.success() {
        assert!(std::env::var("CI").is_err(), "{probe:?}");
        eprintln!("skipped: no namespaces here: {probe:?}");
        return;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_watchfire"));
    let path = program.parent().unwrap().display();
    let mut script = format!("export PATH=\"{path}:$PATH\"\n");
    for line in block("Install it", "sh").lines() {
        // The test's own program stands for the one that would be built.
        if line.starts_with("cargo build") || line.starts_with("export PATH=") {
            continue;
        }
        if line.starts_with("watchfire run") {
            script.push_str(&format!(
                "{line} 2> log &\nfor i in $(seq 100); do [ -S /run/watchfire/admin.sock ] && \
                 break; sleep 0.1; done\n"
            ));
            continue;
        }
        script.push_str(&format!("{line}\n"));
        if line.starts_with("mkdir") {
            let origins = block("Install it", "toml");
            script.push_str(&format!(
                "cat > origins.d/shop.toml <<'END'\n{origins}END\n"
            ));
        }
    }
    let mut verbs = 0;
    for line in block("Use it", "sh").lines() {
        let command = line.split('#').next().unwrap().trim();
        let bound = if command.ends_with("watch") {
            "timeout 1 "
        } else {
            ""
        };
        // 1 says that the answer is no; 124 that it was ended as it watched.
        script.push_str(&format!(
            "{bound}{command} || case $? in 1|124) ;; *) echo \"{command}: $?\" >&2; exit 9 ;; esac\n"
        ));
        verbs += 1;
    }
    assert!(verbs > 7, "{script}");
    let output = run(dir.path(), &script);
    let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    assert!(output.status.success(), "{output:?}\n{log}\n{script}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("shop-1 is "), "{said}");
}
