//! What a file looks like from outside, and whether somebody is writing it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// What a file looked like. Another content under the same size and time shows
/// in its change time or its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing is there, or nothing that may be looked at.
    Missing,
    /// Device, inode, size, and the times of its content and of its inode.
    There {
        device: u64,
        inode: u64,
        bytes: u64,
        modified_ns: i128,
        changed_ns: i128,
    },
}

impl Look {
    /// Looks at it now; links are followed.
    pub(crate) fn of(path: &Path) -> Self {
        std::fs::metadata(path).map_or(Self::Missing, |meta| Self::seen(&meta))
    }

    fn seen(meta: &Metadata) -> Self {
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Self::There {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether it has looked like this for so long by the wall clock. What was
    /// changed in the future is not old.
    pub(crate) fn is_older_than(self, age: Duration, wall: Duration) -> bool {
        match self {
            Self::Missing => false,
            Self::There { changed_ns, .. } => {
                let since = i128::try_from(wall.as_nanos()).unwrap_or(i128::MAX) - changed_ns;
                since > i128::try_from(age.as_nanos()).unwrap_or(i128::MAX)
            }
        }
    }
}

/// Folders that are watched. Files of more are judged by two looks alone.
const FOLDERS: usize = 1_024;

/// A file that was written, was not closed, and was left alone for so long,
/// counts: somebody forgot the descriptor.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Files that somebody writes at the moment, where the kernel tells.
#[derive(Debug)]
pub(crate) struct Writers {
    inotify: Option<Inotify>,
    folders: HashMap<WatchDescriptor, PathBuf>,
    watched: HashSet<PathBuf>,
    /// By real path: when it was last written.
    open: HashMap<PathBuf, Instant>,
    /// Taken away under one name, and not yet seen under another.
    moving: HashMap<u32, Instant>,
}

impl Writers {
    /// Watches nothing yet. Without inotify nobody is ever seen writing.
    pub(crate) fn new() -> Self {
        Self {
            inotify: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok(),
            folders: HashMap::new(),
            watched: HashSet::new(),
            open: HashMap::new(),
            moving: HashMap::new(),
        }
    }

    /// Watches the folders of these files from now on too, those that links
    /// lead to among them.
    pub(crate) fn watch<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        for file in files {
            let real = real(file);
            let Some(folder) = real.parent() else {
                continue;
            };
            if self.watched.contains(folder) || self.watched.len() >= FOLDERS {
                continue;
            }
            let what = AddWatchFlags::IN_MODIFY
                | AddWatchFlags::IN_CLOSE_WRITE
                | AddWatchFlags::IN_MOVE
                | AddWatchFlags::IN_DELETE
                | AddWatchFlags::IN_ONLYDIR;
            let added = self
                .inotify
                .as_ref()
                .and_then(|inotify| inotify.add_watch(folder, what).ok());
            if let Some(watch) = added {
                self.folders.insert(watch, folder.to_owned());
                self.watched.insert(folder.to_owned());
            }
        }
    }

    /// Takes in what has happened until now.
    pub(crate) fn update(&mut self) {
        self.moving.clear();
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            if events.is_empty() {
                break;
            }
            for event in events {
                self.take(event);
            }
        }
        self.open.retain(|_, written| written.elapsed() < FORGOTTEN);
    }

    fn take(&mut self, event: InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // What was missed cannot be known; two looks still guard.
            self.open.clear();
            return;
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            if let Some(folder) = self.folders.remove(&event.wd) {
                self.watched.remove(&folder);
            }
            return;
        }
        let (Some(folder), Some(name)) = (self.folders.get(&event.wd), event.name) else {
            return;
        };
        let path = at(folder, name);
        if event.mask.contains(AddWatchFlags::IN_MODIFY) {
            self.open.insert(path, Instant::now());
        } else if event.mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            if let Some(written) = self.open.remove(&path) {
                self.moving.insert(event.cookie, written);
            }
        } else if event.mask.contains(AddWatchFlags::IN_MOVED_TO) {
            self.open.remove(&path);
            if let Some(written) = self.moving.remove(&event.cookie) {
                self.open.insert(path, written);
            }
        } else {
            // Closed by who wrote it, or gone.
            self.open.remove(&path);
        }
    }

    /// Whether somebody has written it and not closed it yet.
    pub(crate) fn is_writing(&self, path: &Path) -> bool {
        !self.open.is_empty() && self.open.contains_key(&real(path))
    }
}

fn at(folder: &Path, name: OsString) -> PathBuf {
    folder.join(name)
}

/// Where the links lead; the path itself if nothing is there.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_same_size_and_time_with_another_content_looks_different() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "one").unwrap();
        let first = Look::of(&file);
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&file, "two").unwrap();
        let handle = std::fs::File::options().write(true).open(&file).unwrap();
        handle.set_modified(modified).unwrap();
        assert_ne!(first, Look::of(&file));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(Look::of(&file), Look::Missing);
    }

    #[test]
    fn who_writes_is_seen_until_the_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let link = dir.path().join("link");
        std::fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut writers = Writers::new();
        writers.watch([link.as_path()]);
        let mut open = std::fs::File::create(&file).unwrap();
        writers.update();
        assert!(writers.is_writing(&file), "it was cut to nothing");
        assert!(writers.is_writing(&link), "by its other name too");
        open.write_all(b"two").unwrap();
        let moved = dir.path().join("b");
        std::fs::rename(&file, &moved).unwrap();
        writers.update();
        assert!(writers.is_writing(&moved), "it was moved meanwhile");
        drop(open);
        writers.update();
        assert!(!writers.is_writing(&moved));
        std::fs::write(&moved, "three").unwrap();
        writers.update();
        assert!(!writers.is_writing(&moved));
    }

    #[test]
    fn age_is_by_the_wall_clock() {
        let dir = tempfile::tempdir().unwrap();
        let look = Look::of(dir.path());
        let wall = crate::clock::wall();
        let second = Duration::from_secs(1);
        assert!(!look.is_older_than(10 * second, wall));
        assert!(look.is_older_than(second, wall + 10 * second));
        assert!(!Look::Missing.is_older_than(second, wall));
    }
}
