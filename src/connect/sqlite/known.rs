//! What is at the path of a relay's SQLite file, and beside it: looked at before SQLite is.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::model::{ReadError, Reason};

/// Of the file's header: how the file is written (`https://www.sqlite.org/fileformat2.html`, 1.3.3).
const WRITE_VERSION: u64 = 18;
const WRITE_AHEAD: u8 = 2;

/// Of a `-shm`: the byte on which every connection has a lock.
const DEAD_MAN_SWITCH: libc::off_t = 128;

/// The files that have been looked into: one that was restored or replaced is another one.
static FILES: Mutex<Vec<Arc<Known>>> = Mutex::new(Vec::new());

/// A file that has been looked into.
pub(super) struct Known {
    /// Device and inode.
    id: (u64, u64),
    /// Stays open as long as the file is there: closing any handle gives up all locks that this process has on the file
    /// (`https://www.sqlite.org/howtocorrupt.html`, 2.2).
    handle: fs::File,
    /// Whose turn it is to read; holds when the next statement may begin.
    pub(super) turn: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// The file at a path.
pub(super) fn known(path: &Path) -> Result<Arc<Known>, ReadError> {
    let mut files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    // Also where nothing is at the path: the space of a file that was removed is free once nobody has it open.
    files.retain(|known| known.handle.metadata().is_ok_and(|file| file.nlink() > 0));
    let id = id(&look_at(path)?);
    if let Some(known) = files.iter().find(|known| known.id == id) {
        return Ok(Arc::clone(known));
    }
    let handle = fs::File::open(path).map_err(|error| cannot_open(path, &error))?;
    let known = Arc::new(Known { id, handle, turn: Arc::default() });
    files.push(Arc::clone(&known));
    Ok(known)
}

fn id(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// A file that is really there.
fn look_at(path: &Path) -> Result<fs::Metadata, ReadError> {
    let refuse =
        |why| Err(ReadError::new(Reason::Connection, format!("opening SQLite file {}: {why}", path.display())));
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => refuse("this is no file"),
        // A mount goes on showing a file that was removed where it comes from.
        Ok(file) if file.nlink() == 0 => {
            refuse("it was removed or replaced where it is mounted from: mount the directory, not the file")
        }
        Ok(file) => Ok(file),
        Err(error) => Err(cannot_open(path, &error)),
    }
}

/// SQLite itself would say no more than that it cannot open the file, would make what is missing, or would read what the
/// relay has left.
pub(super) fn look_beside(path: &Path) -> Result<(), ReadError> {
    let refuse =
        |why: String| Err(ReadError::new(Reason::Connection, format!("opening SQLite file {}: {why}", path.display())));
    let files = ["-wal", "-shm"].map(|ending| beside(path, ending));
    let missing: Vec<_> = files.iter().filter(|it| !it.exists()).map(|it| it.display().to_string()).collect();
    if !missing.is_empty() {
        let missing = missing.join(" and ");
        return refuse(format!(
            "its write-ahead log is not there ({missing}); the relay is not running, or the file is mounted without its directory: mount the directory"
        ));
    }
    look_at(&files[0])?;
    if !known(&files[1])?.is_open_elsewhere() {
        let [log, index] = files.map(|it| it.display().to_string());
        return refuse(format!(
            "nobody has it open, but its write-ahead log is still there: the relay was ended by force, or stopped just while the file was read, or these are not the relay's own files: mount the directory; start the relay, or remove {log} and {index} before a backup is restored over the file"
        ));
    }
    Ok(())
}

/// A file that SQLite keeps beside another.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

impl Known {
    /// Refuses another file at the path, and an empty one.
    pub(super) fn is_still_at(&self, path: &Path) -> Result<(), ReadError> {
        let refuse = |reason, why| Err(ReadError::new(reason, format!("SQLite file {}: {why}", path.display())));
        let found = look_at(path)?;
        if id(&found) != self.id {
            return refuse(Reason::Connection, "it was replaced just now");
        }
        if found.len() == 0 {
            return refuse(Reason::Schema, "it is empty; is this the relay's file?");
        }
        Ok(())
    }

    /// The same of a file with a rollback journal, before each statement: SQLite takes a log beside an empty file for one of
    /// a file that has gone, and removes it, though it may only read (SQLite 3.51 `pager.c`, `pagerOpenWalIfPresent`). That
    /// log may be part of a backup that is being restored.
    pub(super) fn is_without_log_at(&self, path: &Path) -> Result<(), ReadError> {
        self.is_still_at(path)?;
        let log = beside(path, "-wal");
        if log.exists() {
            let (path, log) = (path.display(), log.display());
            let text = format!(
                "SQLite file {path}: it has no write-ahead log, but {log} is there: a backup is being restored, or was restored over a file that had one: remove it while the relay is stopped"
            );
            return Err(ReadError::new(Reason::Connection, text));
        }
        Ok(())
    }

    /// Whether the header says so; what is too short for one is left to SQLite.
    pub(super) fn is_write_ahead(&self) -> bool {
        let mut version = [0];
        self.handle.read_exact_at(&mut version, WRITE_VERSION).is_ok() && version == [WRITE_AHEAD]
    }

    /// Of a `-shm`: whether a connection other than ours, of which none is open during our turn, has it open. Each holds a
    /// lock on it to its end (SQLite 3.51 `os_unix.c`, `UNIX_SHM_DMS`). Where this cannot be told, yes.
    fn is_open_elsewhere(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            use nix::fcntl::{FcntlArg, fcntl};
            // The question is one of an open file description, so that a lock of this process counts, too: the demo's
            // relays are part of it.
            let mut lock = libc::flock {
                l_type: libc::F_WRLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: DEAD_MAN_SWITCH,
                l_len: 1,
                l_pid: 0,
            };
            let asked = fcntl(&self.handle, FcntlArg::F_OFD_GETLK(&mut lock));
            asked.is_err() || i32::from(lock.l_type) != libc::F_UNLCK
        }
        #[cfg(not(target_os = "linux"))]
        true
    }
}

/// Why a file cannot even be looked at.
fn cannot_open(path: &Path, error: &io::Error) -> ReadError {
    let (reason, hint) = match error.kind() {
        ErrorKind::NotFound => (Reason::Connection, "; check the path, and that the volume is mounted here"),
        ErrorKind::PermissionDenied => {
            (Reason::Permission, "; let the exporter's user read this file and enter its directory")
        }
        _ => (Reason::Connection, ""),
    };
    ReadError::new(reason, format!("opening SQLite file {}: {error}{hint}", path.display()))
}
