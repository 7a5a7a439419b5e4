//! The admin socket: where a running agent is asked, by the API of
//! [`super::api`].

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use super::doors::Few;
use super::{Doors, api};
use crate::limits::{ADMIN_CONNECTIONS, ADMIN_PER_USER};

/// Why the socket could not be had, or not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("another agent answers on {0}\n  help: stop it, or give this one another admin.socket")]
    Taken(PathBuf),
    #[error("{0} is there and is no socket\n  help: remove it, or choose another admin.socket")]
    NoSocket(PathBuf),
    #[error(
        "cannot make the admin socket {0}: {1}\n  help: create its folder and let the agent's user write there"
    )]
    Bind(PathBuf, io::Error),
    #[error(
        "no agent answers on {0}: {1}\n  help: is it running? `--socket` or `--config` names another socket; only its user, root and admin.group may ask"
    )]
    NobodyThere(PathBuf, io::Error),
    #[error(
        "this user may not ask that of the agent on {0}\n  help: ask as the agent's user or as root, like \
         `sudo -u watchfire watchfire status`"
    )]
    NotAllowed(PathBuf),
    #[error(
        "an agent has {0} and did not answer within {1} s\n  help: is it stopped, or its machine \
         overloaded? its log may say"
    )]
    Silent(PathBuf, u64),
    #[error("{0}")]
    Refused(String),
}

/// The socket, bound before anything else is made. Its file is removed at the
/// end.
pub(crate) struct AdminSocket {
    listener: std::os::unix::net::UnixListener,
    file: SocketFile,
}

/// Removes the socket's file at the end, unless another has taken its place.
struct SocketFile {
    path: PathBuf,
    inode: Option<u64>,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.inode.is_some() && inode(&self.path) == self.inode {
            // Already gone is as good.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

impl AdminSocket {
    /// Takes the socket's path, if no other agent has it.
    /// The agent's own user and root may connect, and members of `group`.
    pub(crate) fn bind(path: &Path, group: Option<&str>) -> Result<Self, AdminError> {
        clear_way(path)?;
        let bind_error = |error| AdminError::Bind(path.to_owned(), error);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(bind_error)?;
        }
        // The mode must be right from the first instant: set by the mask, not after.
        let before = umask(Mode::from_bits_truncate(0o177));
        let bound = std::os::unix::net::UnixListener::bind(path);
        umask(before);
        let listener = bound.map_err(bind_error)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: inode(path),
        };
        listener.set_nonblocking(true).map_err(bind_error)?;
        if let Some(group) = group {
            share(path, group).map_err(bind_error)?;
        }
        Ok(Self { listener, file })
    }

    /// Serves it from now on, for as long as the answer is kept.
    pub(super) fn serve(self, doors: Doors) -> Result<impl Drop, AdminError> {
        let listener = UnixListener::from_std(self.listener)
            .map_err(|error| AdminError::Bind(self.file.path.clone(), error))?;
        let few = Few::new(listener, (ADMIN_CONNECTIONS, ADMIN_PER_USER));
        api::serve(few, doors, None);
        Ok(self.file)
    }
}

/// Lets a group connect, too.
fn share(path: &Path, group: &str) -> io::Result<()> {
    let gid = Group::from_name(group)?.map(|group| group.gid);
    let gid = gid.ok_or_else(|| io::Error::other(format!("there is no group \"{group}\"")))?;
    chown(path, None, Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
}

/// A socket that a dead agent left is removed; one that answers is not.
fn clear_way(path: &Path) -> Result<(), AdminError> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(AdminError::NoSocket(path.to_owned()));
    }
    // Only a socket that nobody holds refuses. An agent that is stopped or busy
    // does not answer, and is there.
    match BlockingStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => return Err(AdminError::Taken(path.to_owned())),
    }
    fs::remove_file(path).map_err(|e| AdminError::Bind(path.to_owned(), e))
}
