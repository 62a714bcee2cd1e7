//! The one place that opens a relay's SQLite file: read-only, open only while it is read, short reads, honest errors.
//!
//! The relay may be writing all the while, may stop and start, and must not notice:
//! * The file is opened without the right to write (`mode=ro`, `query_only`, `readonly_shm`), never as immutable. Such a
//!   connection cannot checkpoint, not even when it closes, and nothing is made beside the file.
//! * With a write-ahead log a snapshot is one read transaction: it stops no writer, and is over before the log grows.
//!   The relay stays the last one to close the file ([`give_up_locks`]), so its log goes when it stops.
//! * With a rollback journal an open read makes writers wait, so each statement stands alone there and is followed by a
//!   rest. Since a wait for a lock counts as well, a busy writer is given way.
//! * A statement that is not done in time is interrupted inside SQLite; dropping its future would let it run on.
//!
//! A file that has a write-ahead log is whole with its `-wal` and `-shm` only. Where one of them is missing, the relay has
//! stopped or the file was mounted without its directory, which looks the same from here: a read of what is there would
//! be old numbers, so it fails.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, Sqlite, SqliteConnection};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Timed, settle};
use crate::model::{ReadError, Reason};
use crate::relays::OpenError;

/// How long a read waits for a lock: only while the relay starts, stops or replaces its log.
const PATIENCE: Duration = Duration::from_secs(1);
/// Virtual machine instructions between two looks at the clock: some 100 µs.
const CLOCK_STEPS: i32 = 10_000;
/// Rows that SQLite may be ahead of us: a statement, and the lock it may hold, does not wait for this process.
const ROWS_AHEAD: usize = 32_768;
/// With a rollback journal, how many times as long as a statement took, its wait for a lock included, nothing is read.
const REST: u32 = 4;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// One handle of each file that is read, to look at its header. It is not closed as long as the file is there: that
/// would give up the locks of all connections that this process has to the file, as [`give_up_locks`] means to.
static HEADERS: Mutex<BTreeMap<Identity, fs::File>> = Mutex::new(BTreeMap::new());

/// Device and inode: a file that was restored or replaced is another one.
type Identity = (u64, u64);

/// A relay's file. Open only during a snapshot.
pub struct File {
    path: PathBuf,
    limit: Duration,
}

impl File {
    /// `limit` is the limit of one snapshot, opening included.
    ///
    /// # Errors
    /// When the URL names no file.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self { path: path(url.expose_secret())?, limit })
    }

    /// The path, for people.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a view of the file: a consistent one where the file has a write-ahead log.
    ///
    /// # Errors
    /// When the file, or one beside it that it needs, is missing or cannot be read: [`Reason::Connection`] or
    /// [`Reason::Permission`]; when it is no SQLite file: [`Reason::Data`]; when a lock is held: [`Reason::Timeout`].
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        let log = self.log()?;
        let what = "opening";
        let options = SqliteConnectOptions::new()
            .filename(self.uri()?)
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(PATIENCE.min(self.limit / 2))
            .pragma("query_only", "on")
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let opening = async {
            let mut connection = options.connect().await?;
            // The first look into the file locks it; this one is short, for it needs no schema.
            sqlx::query("pragma schema_version").fetch_one(&mut connection).await?;
            Ok(connection)
        };
        let connection = match timeout_at(deadline, opening).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(self.unreadable().unwrap_or_else(|| read_error(&self.place(), what, &error))),
            Err(_) => return Err(too_late(&self.place(), what, self.limit)),
        };
        if log.is_some() {
            give_up_locks(&self.path);
        }
        let path = self.path.clone();
        let mut snapshot = Snapshot { connection, path, log, deadline, limit: self.limit, usable: true };
        snapshot.begin().await?;
        Ok(snapshot)
    }

    /// The write-ahead log that the file is read with, if it has one.
    fn log(&self) -> Result<Option<Identity>, ReadError> {
        let file = Self::look_at(&self.path)?;
        match is_write_ahead(&self.path, file) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => return Err(unusable(&self.path, &error)),
        }
        let files = ["-wal", "-shm"].map(|ending| beside(&self.path, ending));
        let missing: Vec<_> =
            files.iter().filter(|path| !path.exists()).map(|path| path.display().to_string()).collect();
        if !missing.is_empty() {
            let text = format!(
                "opening SQLite file {}: {} missing beside it: the relay is not running, or the file is mounted alone; mount the directory",
                self.place(),
                missing.join(" and ") + if missing.len() > 1 { " are" } else { " is" },
            );
            return Err(ReadError::new(Reason::Connection, text));
        }
        let [log, index] = files;
        Self::look_at(&index)?;
        Self::look_at(&log).map(Some)
    }

    /// SQLite itself would say no more than that it cannot open the file, after making the one that is missing.
    fn look_at(path: &Path) -> Result<Identity, ReadError> {
        let failed = |text: &str| ReadError::new(Reason::Connection, format!("opening SQLite file {}: {text}", path.display()));
        match fs::metadata(path) {
            // A mount goes on showing a file that was removed where it came from.
            Ok(file) if file.nlink() == 0 => Err(failed(
                "it was removed or replaced where it is mounted from; mount the directory, not the file",
            )),
            Ok(file) if file.is_file() => Ok((file.dev(), file.ino())),
            Ok(_) => Err(failed("this is no file")),
            Err(error) => Err(unusable(path, &error)),
        }
    }

    /// Which of the files this process may not read, after SQLite could not open them.
    fn unreadable(&self) -> Option<ReadError> {
        let files = ["", "-wal", "-shm"].map(|ending| beside(&self.path, ending));
        files.iter().find_map(|path| {
            let error = fs::File::open(path).err().filter(|error| error.kind() == ErrorKind::PermissionDenied)?;
            Some(unusable(path, &error))
        })
    }

    fn uri(&self) -> Result<String, ReadError> {
        let wrong = || ReadError::new(Reason::Connection, format!("the path {} cannot be used", self.place()));
        let path = std::path::absolute(&self.path).map_err(|_| wrong())?;
        let mut uri = url::Url::from_file_path(path).map_err(|()| wrong())?;
        uri.set_query(Some("readonly_shm=1"));
        Ok(uri.into())
    }
}

/// A file that SQLite keeps beside another.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// Whether a file is read with a write-ahead log: the header's versions of its format are 2
/// (<https://www.sqlite.org/fileformat2.html>, 1.3).
fn is_write_ahead(path: &Path, identity: Identity) -> io::Result<bool> {
    let mut headers = HEADERS.lock().unwrap_or_else(PoisonError::into_inner);
    headers.retain(|_, file| file.metadata().is_ok_and(|file| file.nlink() > 0));
    let file = match headers.entry(identity) {
        std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
        std::collections::btree_map::Entry::Vacant(new) => new.insert(fs::File::open(path)?),
    };
    let mut versions = [0; 2];
    // What is too short for a header is for SQLite to judge.
    Ok(file.read_exact_at(&mut versions, 18).is_ok() && versions == [2, 2])
}

/// Gives up the lock by which a connection keeps others from being the last one.
///
/// Whoever closes a file with a write-ahead log last copies the log into it and removes it. A connection that cannot
/// write does not, and a log that stays is replayed over whatever file is put in its place. The lock on the file itself
/// is for that alone: writing, and emptying the log, are arranged by locks on `-shm`. POSIX locks end when the process
/// closes any handle of the file (<https://www.sqlite.org/howtocorrupt.html>, 2.2), so this opens one and closes it.
/// What is read while the relay closes the file may be of two states: [`Snapshot::fetch`] notices.
fn give_up_locks(path: &Path) {
    drop(fs::File::open(path));
}

/// One view of the file.
pub struct Snapshot {
    connection: SqliteConnection,
    path: PathBuf,
    /// The write-ahead log that was there at the beginning, if the file has one.
    log: Option<Identity>,
    deadline: Instant,
    limit: Duration,
    /// False once the connection is in an unknown state.
    usable: bool,
}

impl Snapshot {
    /// Whether all statements see one state of the file, and no writer waits for it.
    pub const fn is_write_ahead(&self) -> bool {
        self.log.is_some()
    }

    /// All rows of a statement; `what` names the read in the error.
    ///
    /// # Errors
    /// Those of the statement, and when it was not done in time.
    pub async fn fetch(
        &mut self,
        what: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, ReadError> {
        let began = Instant::now();
        let result = timeout_at(self.deadline, query.fetch_all(&mut self.connection)).await;
        let is_present = |log: Identity| {
            fs::metadata(beside(&self.path, "-wal")).is_ok_and(|file| (file.dev(), file.ino()) == log)
        };
        if self.log.is_some_and(|log| !is_present(log)) {
            let text = format!("{what}: SQLite file {}: its relay closed it meanwhile; it is read again", self.path.display());
            return Err(ReadError::new(Reason::Connection, text));
        }
        let rows = self.settle(what, result);
        if !self.is_write_ahead() {
            let rest = (began.elapsed() * REST).min(LONGEST_REST);
            sleep(rest.min(self.deadline.saturating_duration_since(Instant::now()))).await;
        }
        rows
    }

    /// The only row of a statement.
    ///
    /// # Errors
    /// Those of [`Self::fetch`], and when there is none.
    pub async fn fetch_one(
        &mut self,
        what: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<SqliteRow, ReadError> {
        let row = self.fetch(what, query).await?.pop();
        row.ok_or_else(|| self.error(what, &sqlx::Error::RowNotFound))
    }

    async fn begin(&mut self) -> Result<(), ReadError> {
        let what = "beginning";
        // A little before ours, so that the connection stays good.
        let deadline = self.deadline - self.limit / 10;
        let limiting = async {
            let mut handle = self.connection.lock_handle().await?;
            handle.set_progress_handler(CLOCK_STEPS, move || Instant::now() < deadline);
            Ok(())
        };
        let result = timeout_at(self.deadline, limiting).await;
        self.settle(what, result)?;
        if self.is_write_ahead() {
            let result = timeout_at(self.deadline, sqlx::raw_sql("begin").execute(&mut self.connection)).await;
            self.settle(what, result)?;
        }
        Ok(())
    }

    /// Closes the file. One that is dropped instead is closed a little later.
    pub async fn close(self) {
        if self.usable {
            // Nothing was written that could be lost.
            let _ = timeout(PATIENCE, self.connection.close()).await;
        }
    }

    fn settle<T>(&mut self, what: &str, result: Timed<T>) -> Result<T, ReadError> {
        let harmless = |error: &_| matches!(code(error), Some(ERROR | BUSY | LOCKED | INTERRUPTED));
        settle(result, &mut self.usable, harmless).map_err(|error| match error {
            Some(error) => self.error(what, &error),
            None => too_late(&self.path.display().to_string(), what, self.limit),
        })
    }

    /// An error of this file in the words of the log.
    pub fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        match code(error) {
            Some(INTERRUPTED) => too_late(&self.path.display().to_string(), what, self.limit),
            _ => read_error(&self.path.display().to_string(), what, error),
        }
    }
}

// SQLite's primary result codes, and some extended ones.
const ERROR: i32 = 1;
const PERMISSION: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const READ_ONLY_ROLLBACK: i32 = READ_ONLY | 3 << 8;
const INTERRUPTED: i32 = 9;
const CORRUPT: i32 = 11;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

fn extended_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// The primary result code: an extended one has it in its lowest byte.
fn code(error: &sqlx::Error) -> Option<i32> {
    extended_code(error).map(|code| code & 0xff)
}

/// The file of a URL: `sqlite:/var/lib/relay/usage.sqlite`, with or without `//`.
///
/// # Errors
/// When it names none.
pub fn path(url: &str) -> Result<PathBuf, OpenError> {
    let hint = "write it as sqlite:/path/to/the/file";
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(OpenError(format!("the database URL is not one of SQLite; {hint}")));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.starts_with(':') || path.contains('?') {
        return Err(OpenError(format!("the database URL names no file; {hint}")));
    }
    Ok(path.into())
}

fn too_late(place: &str, what: &str, limit: Duration) -> ReadError {
    let text = format!("{what}: SQLite file {place}: not done within {limit:?}; raise `timeout`, or see `check`");
    ReadError::new(Reason::Timeout, text)
}

/// What went wrong, where, and what to do. SQLite's messages name tables and columns, never a value.
fn read_error(place: &str, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: SQLite file {place}");
    let Some(failure) = error.as_database_error() else {
        return match error {
            sqlx::Error::ColumnDecode { index, source } => {
                ReadError::new(Reason::Data, format!("{at}: column {index}: {source}"))
            }
            sqlx::Error::ColumnNotFound(column) => {
                ReadError::new(Reason::Data, format!("{at}: no column {column} in the answer"))
            }
            sqlx::Error::RowNotFound => ReadError::new(Reason::Data, format!("{at}: no row in the answer")),
            _ => ReadError::new(Reason::Connection, format!("{at}: the file cannot be read")),
        };
    };
    let (reason, hint) = match code(error) {
        Some(BUSY | LOCKED) => (Reason::Timeout, "; the relay holds a lock"),
        Some(READ_ONLY) if extended_code(error) == Some(READ_ONLY_ROLLBACK) => (
            Reason::Data,
            "; the relay was ended while it wrote (its -journal is there): start it, and its next access mends the file",
        ),
        Some(READ_ONLY) => (
            Reason::Connection,
            "; the relay was ended while it wrote its -wal and -shm: start it, and it mends them",
        ),
        Some(CANNOT_OPEN) => {
            (Reason::Connection, "; the relay has just removed its -wal and -shm, or they cannot be opened here")
        }
        Some(PERMISSION) => (Reason::Permission, "; let the exporter's user read the file"),
        Some(ERROR) => (Reason::Schema, "; is this the relay's file, in a version that is supported?"),
        Some(CORRUPT) => (Reason::Data, "; the file is damaged"),
        Some(NOT_A_DATABASE) => (Reason::Data, "; this is no SQLite file"),
        _ => (Reason::Connection, ""),
    };
    ReadError::new(reason, format!("{at}: {}{hint}", failure.message()))
}

/// Why a file cannot even be looked at.
fn unusable(path: &Path, error: &io::Error) -> ReadError {
    let (reason, hint) = match error.kind() {
        ErrorKind::NotFound => (Reason::Connection, "; check the path, and that the volume is mounted here"),
        ErrorKind::PermissionDenied => {
            (Reason::Permission, "; let the exporter's user read this file and enter its directory")
        }
        _ => (Reason::Connection, ""),
    };
    ReadError::new(reason, format!("opening SQLite file {}: {error}{hint}", path.display()))
}
