//! Programs of the system that the lab uses: run, with an error that says what
//! was run and what it answered.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Packages that the lab's programs come from, for the error of a missing one.
const PACKAGES: &[(&str, &str)] = &[
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("serf", "serf"),
    ("faketime", "faketime"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("chrt", "util-linux"),
];

/// Runs a program to its end; what it prints is the answer.
///
/// # Errors
/// It cannot be started, or it fails.
pub(crate) fn run(words: &[&str]) -> Result<String> {
    feed(words, "")
}

/// The same, with a text on its standard input.
pub(crate) fn feed(words: &[&str], input: &str) -> Result<String> {
    let said = words.join(" ");
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| missing(words[0]))?;
    let stdin = child.stdin.take();
    let input = input.to_owned();
    // A thread of its own: a program that answers before it has read all would
    // wait for us while we wait for it.
    let writer = std::thread::spawn(move || {
        stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()))
    });
    let output = child.wait_with_output().with_context(|| said.clone())?;
    // A program that does not read its input to the end says so by failing.
    let _ = writer.join();
    if !output.status.success() {
        bail!(
            "`{said}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What to do about a program that is not there.
fn missing(program: &str) -> String {
    match PACKAGES.iter().find(|(name, _)| *name == program) {
        Some((_, package)) => format!("cannot start `{program}`: install the package {package}"),
        None => format!("cannot start `{program}`"),
    }
}
