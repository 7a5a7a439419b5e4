//! What lies in a folder of origins files and is none: the patterns name it,
//! and it is passed over, as the shell's `*` passes over hidden names.
//!
//! Only what a pattern with a wildcard found is ever passed over. A file that
//! the operator named is read, or refused with an error.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

/// Endings that editors and package managers give to what they leave behind.
const LEFTOVERS: [&str; 8] = [
    "~",
    ".swp",
    ".dpkg-new",
    ".dpkg-old",
    ".dpkg-dist",
    ".rpmnew",
    ".rpmsave",
    ".rpmorig",
];

/// As many are named in the log line; the rest are counted.
const NAMED: usize = 5;

/// Something that was passed over, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Skipped {
    pub(crate) path: PathBuf,
    pub(crate) why: &'static str,
}

/// Why a path that a pattern found is no origins file, if it is none. A
/// device is not passed over: somebody meant something by it, and reading it
/// is refused.
pub(crate) fn why_not(path: &Path, hidden: bool, kind: Option<FileType>) -> Option<&'static str> {
    if hidden {
        return Some("hidden");
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('#') && name.ends_with('#') && name.len() > 1
        || LEFTOVERS.iter().any(|ending| name.ends_with(ending))
    {
        return Some("left by an editor or a package manager");
    }
    match kind {
        Some(kind) if kind.is_dir() => Some("a folder"),
        Some(kind) if kind.is_fifo() => Some("a FIFO"),
        Some(kind) if kind.is_socket() => Some("a socket"),
        _ => None,
    }
}

/// One line about all of them, if there are any.
pub(crate) fn line(skipped: &[Skipped]) -> Option<String> {
    if skipped.is_empty() {
        return None;
    }
    let named = skipped.iter().take(NAMED);
    let named = named.map(|s| format!("{} ({})", s.path.display(), s.why));
    let mut line = named.collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = skipped.len().checked_sub(NAMED) {
        line.push_str(&format!(" and {more} more"));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_no_origins_file() {
        for (name, hidden, passed_over) in [
            ("a.toml", false, false),
            ("a.toml", true, true),
            ("a.toml~", false, true),
            ("a.swp", false, true),
            ("#a.toml#", false, true),
            ("#a.toml", false, false),
            ("#", false, false),
            ("a.toml.dpkg-new", false, true),
            ("a.toml.rpmsave", false, true),
            ("swp", false, false),
        ] {
            let why = why_not(Path::new(name), hidden, None);
            assert_eq!(why.is_some(), passed_over, "{name}");
        }
    }

    #[test]
    fn the_line_names_a_few_and_counts_the_rest() {
        let many = |count: usize| {
            let one = Skipped {
                path: "d/x".into(),
                why: "a FIFO",
            };
            line(&vec![one; count])
        };
        assert_eq!(many(0), None);
        assert_eq!(many(1).unwrap(), "d/x (a FIFO)");
        assert!(!many(NAMED).unwrap().contains("more"));
        assert!(many(NAMED + 2).unwrap().ends_with("and 2 more"));
    }
}
