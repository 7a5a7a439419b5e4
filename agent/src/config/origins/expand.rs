//! Which files the patterns of `origins.files` name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::super::skipped::{self, Skipped};
use super::super::source::ConfigError;

/// The files that the patterns name now, and what they found that is no
/// origins file. A pattern without a wildcard names its file even if that is
/// not there, so that the error can say so.
pub(crate) fn expand(
    patterns: &[String],
    base: &Path,
) -> Result<(Vec<PathBuf>, Vec<Skipped>), ConfigError> {
    let mut paths = Vec::new();
    let mut passed_over = Vec::new();
    for pattern in patterns {
        let full = base.join(pattern);
        if !has_wildcard(&full) {
            paths.push(full);
            continue;
        }
        let find = |options| {
            glob::glob_with(&full.to_string_lossy(), options).map_err(|e| {
                ConfigError::of_file(
                    &full,
                    format!("the pattern is broken: {e}"),
                    "write it like \"origins.d/*.toml\"",
                )
            })
        };
        let found = find(glob::MatchOptions::new())?;
        // Who writes the dot means hidden names, and `glob` would not find them
        // with the option below.
        let dotted = full
            .iter()
            .any(|part| has_wildcard(Path::new(part)) && part.to_string_lossy().starts_with('.'));
        let in_sight: HashSet<PathBuf> = find(glob::MatchOptions {
            require_literal_leading_dot: true,
            ..glob::MatchOptions::new()
        })?
        .flatten()
        .collect();
        if !full
            .parent()
            .is_none_or(|dir| dir.is_dir() || has_wildcard(dir))
        {
            return Err(ConfigError::of_file(
                &full,
                "the pattern's folder does not exist",
                "create the folder, or correct origins.files",
            ));
        }
        for entry in found {
            let path = entry.map_err(|e| {
                ConfigError::of_file(
                    e.path(),
                    format!("cannot look into it: {}", e.error()),
                    "let the agent's user read the folder",
                )
            })?;
            let kind = std::fs::metadata(&path).ok().map(|meta| meta.file_type());
            let hidden = !dotted && !in_sight.contains(&path);
            match skipped::why_not(&path, hidden, kind) {
                Some(why) => passed_over.push(Skipped { path, why }),
                None => paths.push(path),
            }
        }
    }
    Ok((paths, passed_over))
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}
