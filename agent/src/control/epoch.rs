//! The epoch on disk: what keeps a restarted agent above its former lives when
//! the wall clock does not.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The epoch that this node last took, or 0 if no file says.
pub(crate) fn load(dir: &Path, node: &str) -> u64 {
    fs::read_to_string(file(dir, node))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// Writes the epoch, whole or not at all. A failure is logged: the wall clock
/// and the peers' memory still keep the next epoch above this one.
pub(crate) fn store(dir: &Path, node: &str, epoch: u64) {
    if let Err(error) = try_store(dir, node, epoch) {
        tracing::warn!(dir = %dir.display(), %error, "cannot keep the epoch; set node.state_dir");
    }
}

fn try_store(dir: &Path, node: &str, epoch: u64) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    writeln!(temporary, "{epoch}")?;
    temporary.as_file().sync_all()?;
    temporary.persist(file(dir, node)).map_err(|e| e.error)?;
    Ok(())
}

fn file(dir: &Path, node: &str) -> PathBuf {
    dir.join(format!("{node}.epoch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_loaded_and_nothing_is_zero() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), "a"), 0);
        try_store(dir.path(), "a", 42).unwrap();
        try_store(dir.path(), "a", 43).unwrap();
        assert_eq!(load(dir.path(), "a"), 43);
        fs::write(file(dir.path(), "a"), "4x").unwrap();
        assert_eq!(load(dir.path(), "a"), 0);
    }
}
