//! One configuration file as text, and errors that point into it.

use std::fmt;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::de::DeserializeOwned;

/// Largest configuration file that is read, bytes. 200,000 origins fit; a
/// larger file is refused, for it is more likely a mistake than a POP.
const FILE_BYTES: u64 = 64 << 20;

/// Why a configuration was refused: where, what, and the way out. The agent's
/// state has not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// The file at fault.
    pub(crate) file: PathBuf,
    /// Its line, counted from 1, where one line is at fault.
    pub(crate) line: Option<usize>,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) hint: String,
}

impl ConfigError {
    /// An error of a whole file.
    pub(crate) fn of_file(file: &Path, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  help: {}", self.what, self.hint)
    }
}

impl std::error::Error for ConfigError {}

/// All that is wrong, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            write!(f, "{gap}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The text of one file.
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    /// Where each line ends, so that finding a line is no walk over the file.
    line_ends: Vec<usize>,
}

impl Source {
    /// Reads a file whole. Only a regular file is read, for a FIFO would keep
    /// the reader waiting and a device may never end.
    ///
    /// # Errors
    ///
    /// The file is missing, unreadable, not a regular file, too large, not UTF-8, or stops in the
    /// middle of a line: then somebody may still be writing it.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let error = |what: String, hint: &str| ConfigError::of_file(path, what, hint);
        let unreadable = |e: std::io::Error| {
            let hint = if e.kind() == std::io::ErrorKind::NotFound {
                "create the file, or correct the path that names it"
            } else {
                "let the agent's user read the file"
            };
            error(format!("cannot read it: {e}"), hint)
        };
        let regular = |meta: std::fs::Metadata| {
            if meta.is_file() {
                return Ok(());
            }
            Err(error(
                "it is not a regular file".into(),
                "name a file; a folder is named by a pattern like \"origins.d/*.toml\"",
            ))
        };
        // Opening a device may do something already, so it is not opened.
        regular(std::fs::metadata(path).map_err(unreadable)?)?;
        let file = std::fs::File::options()
            .read(true)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(unreadable)?;
        // Another may have taken its place meanwhile.
        regular(file.metadata().map_err(unreadable)?)?;
        let mut bytes = Vec::new();
        // The size may grow while it is read.
        file.take(FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES {
            return Err(error(
                format!("the file has more than {FILE_BYTES} bytes"),
                "split it into several files",
            ));
        }
        let text = String::from_utf8(bytes).map_err(|e| {
            let line = line_at(e.as_bytes(), e.utf8_error().valid_up_to());
            ConfigError {
                line: Some(line),
                ..error("the text is not UTF-8".into(), "save the file as UTF-8")
            }
        })?;
        Self::from_text(path, text)
    }

    /// Takes text that was read already.
    ///
    /// # Errors
    ///
    /// The text stops in the middle of a line.
    pub(crate) fn from_text(path: &Path, text: String) -> Result<Self, ConfigError> {
        if !text.is_empty() && !text.ends_with('\n') {
            return Err(ConfigError {
                line: Some(line_at(text.as_bytes(), text.len())),
                ..ConfigError::of_file(
                    path,
                    "the file stops in the middle of this line",
                    "end the file with a newline; if a program writes it, let it write to \
                     another name and rename",
                )
            });
        }
        let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Ok(Self {
            path: path.to_owned(),
            text,
            line_ends,
        })
    }

    /// Reads the text as TOML of this shape.
    ///
    /// # Errors
    ///
    /// The text is not TOML, a key is unknown or missing, or a value is of
    /// another type.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|e| {
            let what = e.message().trim_end().to_owned();
            let hint = if what.starts_with("unknown field") {
                "remove the key, or correct its spelling"
            } else if what.starts_with("missing field") {
                "add the key"
            } else if what.starts_with("invalid type: map, expected a sequence") {
                "a list of tables is written in double brackets, like [[origin]]"
            } else if what.starts_with("duplicate key") {
                "keep one of the two"
            } else {
                "correct this line; `watchfire config example` and the README show what goes where"
            };
            let what = plain(&what);
            match e.span() {
                Some(span) => self.error(span, what, hint),
                None => ConfigError::of_file(&self.path, what, hint),
            }
        })
    }

    /// An error at a place in the text.
    pub(crate) fn error(
        &self,
        span: Range<usize>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> ConfigError {
        ConfigError {
            line: Some(self.line(span)),
            ..ConfigError::of_file(&self.path, what, hint)
        }
    }

    /// The line of a place in the text, counted from 1.
    pub(crate) fn line(&self, span: Range<usize>) -> usize {
        1 + self.line_ends.partition_point(|end| *end < span.start)
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The parser's words for those who do not write Rust.
fn plain(what: &str) -> String {
    let words = [
        ("a sequence", "a list"),
        ("invalid type: map", "invalid type: a table"),
        ("invalid type: sequence", "invalid type: a list"),
        ("unknown variant", "unknown value"),
        ("a borrowed string", "a text in quotes"),
        ("expected a string", "expected a text in quotes"),
        ("expected string", "expected a text in quotes"),
        ("expected u8", "expected a whole number of 0 to 255"),
        ("expected u16", "expected a whole number of 0 to 65535"),
        ("expected u32", "expected a whole number of 0 to 4294967295"),
        ("expected usize", "expected a whole number"),
        ("expected a boolean", "expected true or false"),
    ];
    words
        .iter()
        .fold(what.to_owned(), |what, (from, to)| what.replace(from, to))
}

fn line_at(text: &[u8], offset: usize) -> usize {
    let upto = &text[..offset.min(text.len())];
    1 + upto.iter().filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[allow(dead_code, reason = "only its presence matters")]
        known: u8,
    }

    fn source(text: &str) -> Result<Source, ConfigError> {
        Source::from_text(Path::new("a.toml"), text.to_owned())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = source("known = 1\n\nunknwon = 2\n")
            .unwrap()
            .parse::<Shape>()
            .unwrap_err();
        assert_eq!(error.line, Some(3));
        assert!(error.what.contains("unknwon"), "{error}");
    }

    #[test]
    fn types_are_named_in_plain_words() {
        let what = |text: &str| source(text).unwrap().parse::<Shape>().unwrap_err().what;
        let error = what("known = \"x\"\n");
        assert!(error.contains("a whole number of 0 to 255"), "{error}");
        let error = what("known = 300\n");
        assert!(error.contains("a whole number of 0 to 255"), "{error}");
    }

    #[test]
    fn a_file_that_stops_in_a_line_is_refused() {
        let error = source("known = 1\nkn").err().unwrap();
        assert_eq!(error.line, Some(2));
        assert!(error.to_string().contains("a.toml:2: "), "{error}");
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"known = 1\n\xff\n").unwrap();
        assert_eq!(Source::read(file.path()).err().unwrap().line, Some(2));
    }

    #[test]
    fn what_would_block_or_never_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let endless = dir.path().join("endless");
        std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
        for path in [&fifo, &endless, &dir.path().to_owned()] {
            let error = Source::read(path).err().unwrap();
            assert!(error.what.contains("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_file_past_the_limit_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(FILE_BYTES + 1).unwrap();
        let error = Source::read(file.path()).err().unwrap();
        assert!(error.what.contains("more than"), "{error}");
    }
}
