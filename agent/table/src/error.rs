//! Why a table cannot be made, opened or written, and what to do about it.

use core::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::layout::{LayoutError, VERSION};
use crate::limits::{CAPACITY_MAX, NAME_BYTES, PROBE_LIMIT, SEEDS};

/// Why a table cannot be made, opened or written. The table is as it was
/// before, in every case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// No table at this path (readers only).
    Missing {
        /// The table's file.
        path: PathBuf,
    },
    /// The folder of the table does not exist (writers only).
    NoFolder {
        /// The table's file.
        path: PathBuf,
    },
    /// This user may not open the file, or not make one in its folder.
    NotPermitted {
        /// The file.
        path: PathBuf,
        /// To do what.
        doing: &'static str,
    },
    /// The filesystem is mounted read-only.
    ReadOnlyFilesystem {
        /// The file.
        path: PathBuf,
    },
    /// The filesystem does not live in memory.
    NotInMemory {
        /// The file.
        path: PathBuf,
    },
    /// The filesystem has not enough room for the whole table.
    FilesystemFull {
        /// The file.
        path: PathBuf,
        /// Bytes that the table takes.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// Another live process writes this table.
    SecondWriter {
        /// The file.
        path: PathBuf,
        /// The other writer's process, as far as the table tells.
        pid: Option<u64>,
    },
    /// The path names something else than a regular file.
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is another user's, who could turn every verdict in it.
    OtherOwner {
        /// The table's file, or its lock's.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// This process's effective user id.
        me: u32,
    },
    /// Others than its owner may write the file (readers only: a writer takes
    /// such rights away).
    WritableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file that is not a table.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A table of another layout version.
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
    },
    /// A table that is damaged (readers only: a writer sets it aside).
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// More names than a table can be made for.
    TooManyNames {
        /// How many were wanted.
        wanted: usize,
    },
    /// The empty name, or one longer than the limit.
    BadName {
        /// Its length, bytes.
        bytes: usize,
    },
    /// So many names have hashes near this one's that no table within reason
    /// holds them all.
    Crowded {
        /// The hash.
        hash: u64,
    },
    /// The operating system refused something else.
    Os {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Its error.
        errno: Errno,
    },
}

impl TableError {
    /// What a layout error means for this file.
    pub(crate) fn of_layout(path: &std::path::Path, error: LayoutError) -> Self {
        let path = path.to_owned();
        match error {
            LayoutError::Foreign => Self::Foreign { path },
            LayoutError::OtherVersion(found) => Self::OtherVersion { path, found },
            LayoutError::Corrupt(what) => Self::Corrupt {
                path,
                what: what.to_owned(),
            },
        }
    }

    /// What an error of the operating system means, where it means the same
    /// for every call.
    pub(crate) fn of_errno(path: &std::path::Path, doing: &'static str, errno: Errno) -> Self {
        let path = path.to_owned();
        match errno {
            Errno::EACCES | Errno::EPERM => Self::NotPermitted { path, doing },
            Errno::EROFS => Self::ReadOnlyFilesystem { path },
            Errno::EISDIR | Errno::ELOOP | Errno::ENXIO => Self::NotAFile { path },
            _ => Self::Os { path, doing, errno },
        }
    }

    /// The number that the C library returns for it, as a positive errno.
    #[must_use]
    pub fn errno(&self) -> i32 {
        (match self {
            Self::Missing { .. } | Self::NoFolder { .. } => Errno::ENOENT,
            Self::NotPermitted { .. } => Errno::EACCES,
            Self::OtherOwner { .. } | Self::WritableByOthers { .. } => Errno::EPERM,
            Self::ReadOnlyFilesystem { .. } => Errno::EROFS,
            Self::NotInMemory { .. } | Self::NotAFile { .. } => Errno::EINVAL,
            Self::FilesystemFull { .. } => Errno::ENOSPC,
            Self::SecondWriter { .. } => Errno::EBUSY,
            Self::Foreign { .. } => Errno::EMEDIUMTYPE,
            Self::OtherVersion { .. } => Errno::EPROTONOSUPPORT,
            Self::Corrupt { .. } => Errno::EUCLEAN,
            Self::TooManyNames { .. } | Self::Crowded { .. } => Errno::E2BIG,
            Self::BadName { .. } => Errno::ENAMETOOLONG,
            Self::Os { errno, .. } => *errno,
        }) as i32
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(
                f,
                "no table at {}\n  help: start the agent, or compare its configured table path with this one",
                path.display()
            ),
            Self::NoFolder { path } => write!(
                f,
                "the folder of {} does not exist\n  help: create it (it must be on a tmpfs) or configure another table path",
                path.display()
            ),
            Self::NotPermitted { path, doing } => write!(
                f,
                "this user may not {doing} {}\n  help: run as the table's owner, or as a member of its group to read",
                path.display()
            ),
            Self::ReadOnlyFilesystem { path } => write!(
                f,
                "{} is on a read-only filesystem\n  help: configure a table path on a writable tmpfs, like /run/watchfire/table",
                path.display()
            ),
            Self::NotInMemory { path } => write!(
                f,
                "{} is not on a tmpfs, so that reading it could wait for a disk\n  help: move the table's path to a tmpfs, like /run/watchfire/table; a program that makes tables with this library may instead set `any_filesystem`",
                path.display()
            ),
            Self::FilesystemFull {
                path,
                needed_bytes,
                free_bytes,
            } => write!(
                f,
                "no room for {}: it takes {needed_bytes} bytes and its filesystem has {free_bytes} free\n  help: make room, or mount the tmpfs larger",
                path.display()
            ),
            Self::SecondWriter { path, pid } => {
                write!(f, "another live process writes {}", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str(
                    "\n  help: stop that agent, or configure another table path for this one",
                )
            }
            Self::NotAFile { path } => write!(
                f,
                "{} is not a regular file\n  help: configure another table path",
                path.display()
            ),
            Self::OtherOwner { path, owner, me } => write!(
                f,
                "{} belongs to user {owner}, and this program runs as user {me}: whoever owns a table can turn every verdict in it\n  help: give the table a folder of the agent's own, like /run/watchfire; if that user was the agent's until now, remove the file",
                path.display()
            ),
            Self::WritableByOthers { path, mode } => write!(
                f,
                "{} may be written by others than its owner (mode {mode:04o}), who could turn every verdict in it\n  help: restart the agent, which takes that right away, or chmod go-w the file",
                path.display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{} is not a table of Watchfire\n  help: configure another table path, or remove the file if nobody needs it",
                path.display()
            ),
            Self::OtherVersion { path, found } => write!(
                f,
                "{} is a table of layout version {found} and this program speaks version {VERSION}\n  help: use programs of one release, or stop the agent, remove the file and start the agent again",
                path.display()
            ),
            Self::Corrupt { path, what } => write!(
                f,
                "{} is damaged: {what}\n  help: restart the agent, which then sets the file aside and makes a new table",
                path.display()
            ),
            Self::TooManyNames { wanted } => write!(
                f,
                "{wanted} names are more than one table holds ({CAPACITY_MAX})\n  help: configure fewer origins or a smaller capacity"
            ),
            Self::BadName { bytes } => write!(
                f,
                "an origin's name has {bytes} bytes, where 1 to {NAME_BYTES} are allowed\n  help: rename it"
            ),
            Self::Crowded { hash } => write!(
                f,
                "more than {PROBE_LIMIT} names crowd around the hash {hash:016x}, in each of {SEEDS} files with hashes of their own\n  help: this does not happen by chance; please report it"
            ),
            Self::Os { path, doing, errno } => write!(
                f,
                "cannot {doing} {}: {}\n  help: see that the path is right and the system has resources left",
                path.display(),
                errno.desc()
            ),
        }
    }
}

impl std::error::Error for TableError {}
