//! `watchfire generate`: man pages and completions, made from the verbs
//! themselves.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Failure};

#[derive(Args)]
pub(super) struct Options {
    /// The folder, which is made: `man1` and `completions` come into it
    folder: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let (pages, completions) = (
        options.folder.join("man1"),
        options.folder.join("completions"),
    );
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "watchfire", &completions)?;
    }
    clap_mangen::generate_to(command, &pages)?;
    // A page on each verb's help about help helps nobody.
    for page in fs::read_dir(&pages)?.flatten() {
        if page.file_name().to_string_lossy().contains("-help") {
            fs::remove_file(page.path())?;
        }
    }
    Ok(())
}
