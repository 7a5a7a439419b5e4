//! Whether the origins files have changed, as seen from outside.

use std::path::PathBuf;
use std::time::SystemTime;

/// What the origins files looked like from outside when they were last read:
/// a change of any of it is a reason to read them again.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Fingerprint(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Fingerprint {
    /// Looks at the files that the patterns name now.
    pub(crate) fn of(files: &[PathBuf]) -> Self {
        let look = |path: &PathBuf| {
            let seen = std::fs::metadata(path)
                .and_then(|meta| Ok((meta.modified()?, meta.len())))
                .ok();
            (path.clone(), seen)
        };
        Self(files.iter().map(look).collect())
    }
}
