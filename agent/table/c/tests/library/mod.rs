//! The C library, built for the tests that link it: Cargo builds no library
//! for tests that cannot link it as Rust.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder with libwatchfire_table.a and .so, of this build's profile.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // TARGET/PROFILE/deps/THIS
        let me = std::env::current_exe().expect("this program");
        let profile = me.ancestors().nth(2).expect("Cargo's folders");
        let target = profile.parent().expect("Cargo's folders");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--offline",
            "--package",
            "watchfire-table-c",
        ]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("Cargo built this test");
        assert!(status.success(), "the C library does not build");
        profile.to_owned()
    })
}
