//! The table's file: made whole or not at all, opened with suspicion.
//!
//! Whoever can write a table can turn every verdict, and whoever can cut it
//! short kills those that have mapped it. So files and locks of another owner
//! are refused, by the writer and by readers, and no name at which a file is
//! made can be guessed.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate};
use nix::sys::statfs::{Statfs, TMPFS_MAGIC, fstatfs, statfs};
use nix::unistd::geteuid;

use crate::error::TableError;
use crate::home::Home;
use crate::layout::{self, LayoutError, WORD};
use crate::mapping::Mapping;

/// A path with a lock beside it (`PATH.lock`), held for the writer's life. The
/// lock is the kernel's and falls when the process dies, however it dies.
#[derive(Debug)]
pub struct FileHome {
    path: PathBuf,
    mode: u32,
    group: Option<u32>,
    any_filesystem: bool,
    /// The file that is at the path by this writer's knowledge.
    installed: Option<FileId>,
    /// The file that was allocated last, and where it waits.
    allocated: Option<(PathBuf, FileId)>,
    lock: Lock,
}

/// Device and inode. No other file gets them while this one is mapped.
type FileId = (u64, u64);

/// Whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trusts {
    /// The writer's: its own user's alone.
    Writer,
    /// A reader's: root's, its own user's, and those of the folder's owner, who
    /// could put there what he likes.
    Readers,
}

/// What a successor's file is called until it is installed, and then as many
/// random digits.
const NEW: &str = ".new";

/// Falls with the writer; the lock's file stays, since removing it would let
/// two writers lock two files of one name.
#[derive(Debug)]
struct Lock {
    _flock: Flock<File>,
    id: FileId,
}

impl FileHome {
    /// Locks this path for one writer. Files get this mode and this group.
    ///
    /// # Errors
    /// Another writer lives, or the folder cannot be written. A folder that is
    /// not in memory, and one with somebody else's file at this path, is left
    /// without a lock's file.
    pub fn lock(
        path: &Path,
        mode: u32,
        group: Option<u32>,
        any_filesystem: bool,
    ) -> Result<Self, TableError> {
        examine_place(path)?;
        Ok(Self {
            path: path.to_owned(),
            mode,
            group,
            any_filesystem,
            installed: None,
            allocated: None,
            lock: Lock::take(path, any_filesystem)?,
        })
    }

    /// Sees that the lock is the one that another writer would want. Somebody
    /// may have removed its file; then another writer may live by now, and
    /// nothing of the place may be touched.
    fn hold_lock(&mut self) -> Result<(), TableError> {
        if id_at(&beside(&self.path, ".lock"))? != Some(self.lock.id) {
            self.lock = Lock::take(&self.path, self.any_filesystem)?;
        }
        Ok(())
    }

    /// Removes what writers before this one left behind that died while moving,
    /// and this one itself when it could not install a file. It holds the lock,
    /// so nobody needs them.
    fn sweep(&mut self) {
        self.allocated = None;
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return;
        };
        let folder = if folder == Path::new("") {
            Path::new(".")
        } else {
            folder
        };
        let begins = [name.as_bytes(), NEW.as_bytes()].concat();
        for found in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_left = found.file_name().as_bytes().starts_with(&begins);
            let own = |meta: fs::Metadata| meta.is_file() && meta.uid() == geteuid().as_raw();
            if is_left && found.metadata().is_ok_and(own) {
                // What stays takes room and does nothing.
                let _ = fs::remove_file(found.path());
            }
        }
    }

    /// Gives a file the configured mode and group.
    fn dress(&self, file: &File, path: &Path) -> Result<(), TableError> {
        let found = file
            .metadata()
            .map_err(|e| TableError::of_errno(path, "examine", errno_of(&e)))?;
        if let Some(group) = self.group.filter(|&group| group != found.gid()) {
            fchown(file, None, Some(group))
                .map_err(|e| TableError::of_errno(path, "give its group to", errno_of(&e)))?;
        }
        let mode = self.mode & !WRITE_OF_OTHERS;
        if found.mode() & 0o7777 != mode {
            file.set_permissions(fs::Permissions::from_mode(mode))
                .map_err(|e| TableError::of_errno(path, "set the permissions of", errno_of(&e)))?;
        }
        Ok(())
    }

    /// Makes the successor's file, all of it backed by memory.
    fn make(&self, path: &Path, words: usize) -> Result<(Mapping, FileId), TableError> {
        let bytes = (words * WORD) as u64;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(path)
            .map_err(|e| TableError::of_errno(path, "make", errno_of(&e)))?;
        let stat =
            fstatfs(&file).map_err(|errno| TableError::of_errno(&self.path, "examine", errno))?;
        examine_filesystem(&self.path, stat, self.any_filesystem)?;
        let length = i64::try_from(bytes).expect("the capacity limit keeps files small");
        fallocate(&file, FallocateFlags::empty(), 0, length).map_err(|errno| match errno {
            Errno::ENOSPC | Errno::EDQUOT => TableError::FilesystemFull {
                path: self.path.clone(),
                needed_bytes: bytes,
                free_bytes: free_bytes(stat),
            },
            errno => TableError::of_errno(path, "reserve memory for", errno),
        })?;
        self.dress(&file, path)?;
        let mapping = Mapping::writable(&file, words)
            .map_err(|errno| TableError::of_errno(path, "map", errno))?;
        Ok((mapping, id_of(&file, path)?))
    }
}

impl Lock {
    /// Takes the lock beside a table, or says that another writer has it.
    fn take(path: &Path, any_filesystem: bool) -> Result<Self, TableError> {
        let lock_path = beside(path, ".lock");
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        match statfs(folder.unwrap_or(Path::new("."))) {
            Ok(stat) => examine_filesystem(path, stat, any_filesystem)?,
            // Making the lock's file says what there is to say of the folder.
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Err(TableError::of_errno(path, "examine", errno)),
        }
        if let Ok(found) = fs::symlink_metadata(&lock_path) {
            refuse_owner(&found, &lock_path, Trusts::Writer)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&lock_path)
            .map_err(|e| match errno_of(&e) {
                Errno::ENOENT | Errno::ENOTDIR if !path.parent().is_some_and(Path::is_dir) => {
                    TableError::NoFolder {
                        path: path.to_owned(),
                    }
                }
                errno => TableError::of_errno(&lock_path, "make or open", errno),
            })?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    Errno::EWOULDBLOCK => TableError::SecondWriter {
                        path: path.to_owned(),
                        pid: None,
                    },
                    errno => TableError::of_errno(&lock_path, "lock", errno),
                },
            )?;
        // It may have come between the two looks.
        examine_owner(&lock, &lock_path, Trusts::Writer)?;
        let id = id_of(&lock, &lock_path)?;
        Ok(Self { _flock: lock, id })
    }
}

impl Home for FileHome {
    type Region = Mapping;

    fn current(&mut self) -> Result<Option<Mapping>, TableError> {
        let file = match open(&self.path, true) {
            Ok(file) => file,
            Err(TableError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        examine_owner(&file, &self.path, Trusts::Writer)?;
        let stat =
            fstatfs(&file).map_err(|errno| TableError::of_errno(&self.path, "examine", errno))?;
        examine_filesystem(&self.path, stat, self.any_filesystem)?;
        let words = whole_words(&file, &self.path)?;
        self.dress(&file, &self.path)?;
        self.installed = Some(id_of(&file, &self.path)?);
        Mapping::writable(&file, words)
            .map(Some)
            .map_err(|e| TableError::of_errno(&self.path, "map", e))
    }

    fn seed(&mut self) -> Result<u64, TableError> {
        random(&self.path)
    }

    fn allocate(&mut self, words: usize) -> Result<Mapping, TableError> {
        self.hold_lock()?;
        self.sweep();
        let path = beside(&self.path, &format!("{NEW}-{:016x}", random(&self.path)?));
        let (mapping, id) = self.make(&path, words).inspect_err(|_| {
            // The error that is being reported matters more than this one.
            let _ = fs::remove_file(&path);
        })?;
        self.allocated = Some((path, id));
        Ok(mapping)
    }

    fn install(&mut self, _region: &Mapping) -> Result<(), TableError> {
        let Some((new, id)) = &self.allocated else {
            return Ok(());
        };
        fs::rename(new, &self.path)
            .map_err(|e| TableError::of_errno(&self.path, "replace", errno_of(&e)))?;
        self.installed = Some(*id);
        self.allocated = None;
        Ok(())
    }

    fn set_aside(&mut self) -> Result<PathBuf, TableError> {
        let aside = beside(&self.path, ".damaged");
        fs::rename(&self.path, &aside).map_err(|e| {
            TableError::of_errno(&aside, "set a damaged table aside as", errno_of(&e))
        })?;
        Ok(aside)
    }

    fn stands(&mut self) -> Result<bool, TableError> {
        self.hold_lock()?;
        Ok(id_at(&self.path)? == self.installed)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a table's file.
pub(crate) fn open(path: &Path, writable: bool) -> Result<File, TableError> {
    let doing = if writable { "write" } else { "read" };
    let file = OpenOptions::new()
        .read(true)
        .write(writable)
        // Not to be held up by a FIFO of that name.
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
        .open(path)
        .map_err(|e| match errno_of(&e) {
            Errno::ENOENT | Errno::ENOTDIR => TableError::Missing {
                path: path.to_owned(),
            },
            errno => TableError::of_errno(path, doing, errno),
        })?;
    let is_file = file
        .metadata()
        .map_err(|e| TableError::of_errno(path, "examine", errno_of(&e)))?
        .is_file();
    if !is_file {
        return Err(TableError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok(file)
}

/// Refuses a file that somebody else could write or cut short.
pub(crate) fn examine_owner(file: &File, path: &Path, trusts: Trusts) -> Result<(), TableError> {
    let found = file
        .metadata()
        .map_err(|e| TableError::of_errno(path, "examine", errno_of(&e)))?;
    refuse_owner(&found, path, trusts)
}

fn refuse_owner(found: &fs::Metadata, path: &Path, trusts: Trusts) -> Result<(), TableError> {
    let me = geteuid().as_raw();
    let owner = found.uid();
    let folder = || {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        fs::metadata(folder.unwrap_or(Path::new("."))).map(|folder| folder.uid())
    };
    let trusted = owner == me
        || trusts == Trusts::Readers && (owner == 0 || folder().is_ok_and(|uid| uid == owner));
    if !trusted {
        return Err(TableError::OtherOwner {
            path: path.to_owned(),
            owner,
            me,
        });
    }
    // The writer takes such rights away from what is its own.
    if trusts == Trusts::Readers && found.mode() & WRITE_OF_OTHERS != 0 {
        return Err(TableError::WritableByOthers {
            path: path.to_owned(),
            mode: found.mode() & 0o7777,
        });
    }
    Ok(())
}

/// Permissions to write of a file's group and of everybody.
pub(crate) const WRITE_OF_OTHERS: u32 = 0o022;

/// A number from the system's randomness.
fn random(path: &Path) -> Result<u64, TableError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        TableError::of_errno(path, "get a random number for", errno)
    })?;
    Ok(u64::from_le_bytes(bytes))
}

/// The words of an opened file, which must be long enough for a header and
/// wholly backed by memory.
pub(crate) fn whole_words(file: &File, path: &Path) -> Result<usize, TableError> {
    let corrupt = |what: &str| TableError::Corrupt {
        path: path.to_owned(),
        what: what.to_owned(),
    };
    let found = file
        .metadata()
        .map_err(|e| TableError::of_errno(path, "examine", errno_of(&e)))?;
    let bytes = usize::try_from(found.len()).unwrap_or(usize::MAX);
    if bytes < layout::SLOTS * WORD || !bytes.is_multiple_of(WORD) {
        // Too short to map as a table; its first words may still say whether
        // it was one.
        examine_head(file, path)?;
        return Err(corrupt("the file is shorter than its header says"));
    }
    let in_memory = fstatfs(file).is_ok_and(|s| s.filesystem_type() == TMPFS_MAGIC);
    if in_memory && found.blocks() * 512 < found.len() {
        examine_head(file, path)?;
        return Err(corrupt(
            "the file has holes, as if copied, and a full tmpfs could kill its readers",
        ));
    }
    Ok(bytes / WORD)
}

/// Whether a writer may want this path at all: what is there is nothing, or a
/// table of this layout, sound or not.
fn examine_place(path: &Path) -> Result<(), TableError> {
    if let Ok(found) = fs::symlink_metadata(path)
        && found.is_file()
    {
        refuse_owner(&found, path, Trusts::Writer)?;
    }
    match open(path, false) {
        Ok(file) => examine_head(&file, path),
        Err(TableError::Missing { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a file begins like a table of this layout.
fn examine_head(file: &File, path: &Path) -> Result<(), TableError> {
    let mut head = [0; 2 * WORD];
    let is_head = file.read_exact_at(&mut head, 0).is_ok();
    if !is_head || head[..WORD] != layout::MAGIC {
        return Err(TableError::of_layout(path, LayoutError::Foreign));
    }
    match u64::from_le_bytes(*head.last_chunk().expect("two words")) {
        // Whether it is this one or the one before is for who opens it to say.
        layout::VERSION | layout::FORMER_VERSION => Ok(()),
        found => Err(TableError::of_layout(
            path,
            LayoutError::OtherVersion(found),
        )),
    }
}

/// A filesystem must be one in memory, unless any is allowed.
fn examine_filesystem(path: &Path, stat: Statfs, any_filesystem: bool) -> Result<(), TableError> {
    if any_filesystem || stat.filesystem_type() == TMPFS_MAGIC {
        return Ok(());
    }
    Err(TableError::NotInMemory {
        path: path.to_owned(),
    })
}

/// What a filesystem has left for this user, bytes.
fn free_bytes(stat: Statfs) -> u64 {
    let block = u64::try_from(stat.block_size()).unwrap_or(0);
    stat.blocks_available().saturating_mul(block)
}

/// Which file this is.
fn id_of(file: &File, path: &Path) -> Result<FileId, TableError> {
    file.metadata()
        .map(|found| (found.dev(), found.ino()))
        .map_err(|e| TableError::of_errno(path, "examine", errno_of(&e)))
}

/// Which file a path names; nothing if it names none.
fn id_at(path: &Path) -> Result<Option<FileId>, TableError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(e) => match errno_of(&e) {
            Errno::ENOENT | Errno::ENOTDIR => Ok(None),
            errno => Err(TableError::of_errno(path, "examine", errno)),
        },
    }
}

/// A path in the same folder: the name with this at its end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// The error number of an I/O error.
fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
