//! A file of lines that only grows, and turns when it is large: FILE becomes
//! FILE.1, and that FILE.2. What cannot be written waits, in bounded memory, and is
//! tried again: a full disk loses nothing for as long as there is room.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::limits::LINES_WAITING;

/// Longer than any line: where a cut one at a file's end begins is found in so many
/// bytes.
const LINE_BYTES: u64 = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    file: Option<File>,
    /// Bytes of whole lines in it.
    bytes: u64,
    max_bytes: u64,
    keep: u32,
    waiting: VecDeque<String>,
    /// Lines that found no room to wait.
    pub(super) lost: u64,
    failing: bool,
}

impl Lines {
    pub(super) fn new(path: &Path, max_bytes: u64, keep: u32) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            bytes: 0,
            max_bytes,
            keep,
            waiting: VecDeque::new(),
            lost: 0,
            failing: false,
        }
    }

    /// Takes a line, with its end.
    pub(super) fn push(&mut self, line: String) {
        if self.waiting.len() >= LINES_WAITING {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(line);
    }

    /// Whether something was pushed that is not in the file.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits. Says once when that begins to fail, and once when it no
    /// longer does.
    pub(super) fn flush(&mut self) {
        let written = self.write();
        let path = self.path.display();
        match written {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(file = %path, lost = self.lost, "events can be written again");
            }
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(
                    file = %path, %error,
                    "events cannot be written; they wait, and the oldest give way if they are many"
                );
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            if self.bytes >= self.max_bytes {
                self.turn()?;
            }
            let mut file = match self.file.take() {
                Some(file) => file,
                None => self.open()?,
            };
            // As many as fit, in one go.
            let mut text = String::new();
            let mut count = 0;
            for line in &self.waiting {
                if count > 0 && self.bytes + text.len() as u64 >= self.max_bytes {
                    break;
                }
                text.push_str(line);
                count += 1;
            }
            if let Err(error) = file.write_all(text.as_bytes()) {
                // What was written in part must not stay: it comes again, whole.
                let _ = file.set_len(self.bytes);
                return Err(error);
            }
            self.bytes += text.len() as u64;
            self.waiting.drain(..count);
            self.file = Some(file);
        }
        Ok(())
    }

    /// Opens the file, without what a crash left of its last line.
    fn open(&mut self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&self.path)?;
        let length = file.metadata()?.len();
        let begin = length.saturating_sub(LINE_BYTES);
        file.seek(SeekFrom::Start(begin))?;
        let mut end = Vec::new();
        Read::by_ref(&mut file)
            .take(LINE_BYTES)
            .read_to_end(&mut end)?;
        self.bytes = match end.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => begin + at as u64 + 1,
            None if end.starts_with(b"{\"id\":") => begin,
            // Nothing of ours: what is there is left alone.
            None => length,
        };
        file.set_len(self.bytes)?;
        Ok(file)
    }

    fn turn(&mut self) -> io::Result<()> {
        self.file = None;
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.keep).rev() {
            let older = numbered(n);
            if older.exists() {
                fs::rename(older, numbered(n + 1))?;
            }
        }
        if self.keep > 0 {
            fs::rename(&self.path, numbered(1))?;
        } else {
            fs::remove_file(&self.path)?;
        }
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(folder: &Path) -> String {
        ["e.2", "e.1", "e"]
            .iter()
            .filter_map(|name| fs::read_to_string(folder.join(name)).ok())
            .collect()
    }

    #[test]
    fn files_turn_and_no_line_is_lost_or_cut() {
        let dir = tempfile::tempdir().unwrap();
        let mut lines = Lines::new(&dir.path().join("e"), 100, 2);
        for n in 0..40 {
            lines.push(format!("line {n}\n"));
            if n % 7 == 0 {
                lines.flush();
            }
        }
        lines.flush();
        let text = all(dir.path());
        let expected: String = (0..40).map(|n| format!("line {n}\n")).collect();
        assert!(
            expected.ends_with(&text) && text.lines().count() > 20,
            "{text}"
        );
        assert!(fs::metadata(dir.path().join("e.1")).unwrap().len() >= 100);
        assert!(!dir.path().join("e.3").exists());
    }

    #[test]
    fn what_a_crash_cut_goes_and_what_cannot_be_written_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/e");
        // A folder that is a file: nothing can be written.
        fs::write(dir.path().join("sub"), "").unwrap();
        let mut lines = Lines::new(&path, 1_000, 1);
        lines.push("one\n".into());
        lines.flush();
        assert!(lines.failing);
        fs::remove_file(dir.path().join("sub")).unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(&path, "zero\ncut").unwrap();
        lines.push("two\n".into());
        lines.flush();
        assert_eq!(fs::read_to_string(&path).unwrap(), "zero\none\ntwo\n");
        assert_eq!(lines.lost, 0);
        for n in 0..=LINES_WAITING {
            lines.push(format!("{n}\n"));
        }
        assert_eq!(lines.lost, 1);
    }
}
