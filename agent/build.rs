//! Tells the program which commit it was built from, where that is known.

use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=WATCHFIRE_COMMIT");
    // A build from an archive has no repository; whoever makes it may say.
    let told = std::env::var("WATCHFIRE_COMMIT").ok();
    let commit = told.filter(|commit| !commit.is_empty()).or_else(|| {
        let head = git(&["rev-parse", "--git-path", "HEAD"])?;
        println!("cargo:rerun-if-changed={head}");
        let branch = git(&["symbolic-ref", "-q", "HEAD"]);
        let branch = branch.and_then(|branch| git(&["rev-parse", "--git-path", &branch]));
        if let Some(branch) = branch.filter(|branch| std::path::Path::new(branch).exists()) {
            println!("cargo:rerun-if-changed={branch}");
        }
        git(&["rev-parse", "--short=9", "HEAD"])
    });
    let suffix = commit.map_or(String::new(), |commit| format!(" ({commit})"));
    println!("cargo:rustc-env=WATCHFIRE_COMMIT_SUFFIX={suffix}");
}
