//! Word of changes to a path.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

/// A descriptor that becomes readable when something *may* have changed at a path: the file, its
/// attributes, or which file it is. Whoever is told looks, and says so with
/// [`rearm`](Self::rearm). (inotify(7); `Unsupported` where there is none.)
///
/// It is a hint: changes on file systems of other machines are not seen, nor those in the moment
/// in which one file takes the place of another. Whoever must not miss a change looks from time to
/// time, too.
#[derive(Debug)]
pub struct PathHint {
    #[cfg(target_os = "linux")]
    fd: std::os::fd::OwnedFd,
    path: PathBuf,
}

#[cfg(target_os = "linux")]
impl PathHint {
    /// Begins to watch. The path need not exist. Fails for want of descriptors or inotify
    /// instances.
    pub fn new(path: &Path) -> io::Result<PathHint> {
        use rustix::fs::inotify::{CreateFlags, init};
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let hint = PathHint { fd, path: path.to_owned() };
        hint.watch();
        Ok(hint)
    }

    /// The descriptor to wait on, for reading.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Takes back what was told so far and watches what the path means now. To be called before
    /// looking at the path.
    pub fn rearm(&self) {
        let mut buffer = [0; 4096];
        // An error says that there is no more.
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|count| count > 0) {}
        self.watch();
    }

    /// Watches the file, or the nearest directory above it that there is: it will be made there.
    fn watch(&self) {
        use rustix::fs::inotify::{WatchFlags, add_watch};
        let file = WatchFlags::ATTRIB
            | WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::DONT_FOLLOW;
        if add_watch(&self.fd, &self.path, file).is_ok() {
            return;
        }
        let above = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::MASK_ADD;
        for directory in self.path.ancestors().skip(1) {
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            if add_watch(&self.fd, directory, above).is_ok() {
                return;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
#[allow(missing_docs)]
impl PathHint {
    pub fn new(path: &Path) -> io::Result<PathHint> {
        let _ = PathHint { path: path.to_owned() };
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn raw_fd(&self) -> RawFd {
        -1
    }

    pub fn rearm(&self) {
        let _ = &self.path;
    }
}
