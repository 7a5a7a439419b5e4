//! The last good content of each origins file, on disk: an agent that starts
//! beside a broken file begins with what it knew.
//!
//! One file for each, named by a hash of the path, which its first line says.
//! They may hold secrets and are their owner's alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::config::Source;

/// How the first line of each begins.
const HEAD: &str = "# last good content of ";

/// A folder of last good contents.
#[derive(Debug)]
pub(crate) struct Kept {
    folder: PathBuf,
    /// A failure was told.
    told: bool,
}

impl Kept {
    /// Those of one node.
    pub(crate) fn new(state_dir: &Path, node: &str) -> Self {
        Self {
            folder: state_dir.join(format!("{node}.origins")),
            told: false,
        }
    }

    /// All of them, by the path that they were read from. One that cannot be
    /// read is as good as none.
    pub(crate) fn load(&self) -> BTreeMap<PathBuf, String> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return BTreeMap::new();
        };
        let read = entries.flatten().filter_map(|entry| {
            let source = Source::read(&entry.path()).ok()?;
            let (head, text) = source.text().split_once('\n')?;
            let path = PathBuf::from(head.strip_prefix(HEAD)?);
            (entry.file_name().to_str() == Some(name(&path).as_str()))
                .then(|| (path, text.to_owned()))
        });
        read.collect()
    }

    /// Keeps a content, whole or not at all. A failure is logged once: only a
    /// start beside a broken file would miss it.
    pub(crate) fn store(&mut self, path: &Path, text: &str) {
        self.tell(self.try_store(path, text));
    }

    /// Forgets a file that is gone for good.
    pub(crate) fn remove(&mut self, path: &Path) {
        let removed = fs::remove_file(self.folder.join(name(path)));
        self.tell(match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
    }

    fn try_store(&self, path: &Path, text: &str) -> io::Result<()> {
        let Some(shown) = path.to_str().filter(|path| !path.contains('\n')) else {
            return Err(io::Error::other("its path is no line of text"));
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        let mut temporary = tempfile::NamedTempFile::new_in(&self.folder)?;
        write!(temporary, "{HEAD}{shown}\n{text}")?;
        temporary.as_file().sync_all()?;
        temporary.persist(self.folder.join(name(path)))?;
        Ok(())
    }

    fn tell(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.told = false,
            Err(error) if !self.told => {
                self.told = true;
                tracing::warn!(
                    folder = %self.folder.display(), %error,
                    "cannot keep the last good origins for the next start; set node.state_dir"
                );
            }
            Err(_) => {}
        }
    }
}

fn name(path: &Path) -> String {
    let hash = xxhash_rust::xxh3::xxh3_128(path.as_os_str().as_bytes());
    format!("{hash:032x}.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_after_a_start_and_what_is_broken_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(dir.path(), "a");
        assert!(kept.load().is_empty());
        let (one, two) = (Path::new("/etc/one.toml"), Path::new("/etc/two.toml"));
        kept.store(one, "x = 1\n");
        kept.store(two, "");
        kept.store(one, "x = 2\n");
        let expected = BTreeMap::from([
            (one.to_owned(), "x = 2\n".to_owned()),
            (two.to_owned(), String::new()),
        ]);
        assert_eq!(kept.load(), expected);
        assert!(Kept::new(dir.path(), "b").load().is_empty());
        kept.remove(two);
        kept.remove(two);
        fs::write(dir.path().join("a.origins/strange"), "x").unwrap();
        fs::write(dir.path().join("a.origins").join(name(one)), "cut off").unwrap();
        assert!(kept.load().is_empty());
    }
}
