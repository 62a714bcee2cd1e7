//! The one place that opens a relay's SQLite file: read-only, a connection for each read, honest errors.
//!
//! The relay may be writing all the while, and must not notice:
//! * The file is opened without the right to write (`mode=ro`, `query_only`), never as immutable. Such a connection
//!   cannot checkpoint, not even when it closes.
//! * With a write-ahead log a snapshot is one read transaction: it stops no writer, and is over before the log grows.
//!   With a rollback journal an open read makes writers wait, so each statement stands alone there.
//! * No connection is held between two reads. The last connection that closes empties the write-ahead log and removes it,
//!   which one without the right to write cannot do: an idle reader would leave the log behind when the relay stops, and
//!   a backup that is then restored over the file would be mixed with it.
//! * A file whose write-ahead log is not beside it is not opened: SQLite would make an empty one in the relay's directory,
//!   and read for ever what was there at that moment.
//! * A statement that is not done in time is interrupted inside SQLite; dropping its future would let it run on.
//!
//! So mount the directory, not the file; and reading fails while the relay is stopped.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, SqliteConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Timed, settle};
use crate::address::Flaw;
use crate::model::{ReadError, Reason};
use crate::relays::OpenError;

/// How long a read waits for a lock: only while the relay starts, stops or replaces its log.
const PATIENCE: Duration = Duration::from_secs(1);
/// Virtual machine instructions between two looks at the clock: some 100 µs.
const CLOCK_STEPS: i32 = 10_000;
/// Rows that SQLite may be ahead of us: a statement, and the lock it may hold, does not wait for this process.
const ROWS_AHEAD: usize = 32_768;

/// Of the file's header: how the file is written (`https://www.sqlite.org/fileformat2.html`, 1.3.3).
const WRITE_VERSION: u64 = 18;
const WRITE_AHEAD: u8 = 2;

/// A relay's file.
pub struct File {
    path: PathBuf,
    limit: Duration,
    /// With the device and inode of the file that it was opened of.
    header: Option<((u64, u64), fs::File)>,
}

struct Held {
    connection: SqliteConnection,
    write_ahead: bool,
}

impl File {
    /// `limit` is the limit of one snapshot, opening included.
    ///
    /// # Errors
    /// When the URL names no file.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self { path: path(url.expose_secret())?, limit, header: None })
    }

    /// The path, for people.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a view of the file: a consistent one where the file has a write-ahead log. Dropped without
    /// [`File::finish`], its connection closes a little later.
    pub async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        self.look()?;
        let held = self.open(deadline).await?;
        let mut snapshot = Snapshot { held, place: self.place(), deadline, limit: self.limit, usable: true };
        snapshot.begin().await?;
        Ok(snapshot)
    }

    async fn open(&self, deadline: Instant) -> Result<Held, ReadError> {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .create_if_missing(false)
            .busy_timeout(PATIENCE.min(self.limit / 2))
            .pragma("query_only", "on")
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let what = "opening";
        let opening = async {
            let mut connection = options.connect().await?;
            let mode = sqlx::query("pragma journal_mode").fetch_one(&mut connection).await?;
            let write_ahead = mode.try_get::<&str, _>(0)? == "wal";
            Ok(Held { connection, write_ahead })
        };
        match timeout_at(deadline, opening).await {
            Ok(opened) => opened.map_err(|error| read_error(&self.place(), what, &error)),
            Err(_) => Err(too_late(&self.place(), what, self.limit)),
        }
    }

    /// SQLite itself would say no more than that it cannot open the file, or would make what is missing.
    fn look(&mut self) -> Result<(), ReadError> {
        let at = format!("opening SQLite file {}", self.path.display());
        match fs::metadata(&self.path) {
            Ok(file) if !file.is_file() => Err(ReadError::new(Reason::Connection, format!("{at}: this is no file"))),
            Ok(file) => {
                let beside = |ending: &str| PathBuf::from(format!("{}{ending}", self.path.display()));
                let missing: Vec<_> = ["-wal", "-shm"].map(beside).into_iter().filter(|it| !it.exists()).collect();
                if missing.is_empty() || !self.is_write_ahead(&file) {
                    return Ok(());
                }
                let missing = missing.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(" and ");
                let hint = "the relay is not running, or the file is mounted without its directory";
                Err(ReadError::new(
                    Reason::Connection,
                    format!("{at}: its write-ahead log is not there ({missing}); {hint}: mount the directory"),
                ))
            }
            Err(error) => {
                let (reason, hint) = match error.kind() {
                    ErrorKind::NotFound => {
                        (Reason::Connection, "; check the path, and that the volume is mounted here")
                    }
                    ErrorKind::PermissionDenied => {
                        (Reason::Permission, "; let the exporter's user enter the directory")
                    }
                    _ => (Reason::Connection, ""),
                };
                Err(ReadError::new(reason, format!("{at}: {error}{hint}")))
            }
        }
    }

    /// Whether the header says so; what cannot be read is left to SQLite. The handle stays open until the file is another
    /// one: closing it would give up the locks that this process has on the file.
    fn is_write_ahead(&mut self, found: &fs::Metadata) -> bool {
        let identity = (found.dev(), found.ino());
        if self.header.as_ref().is_none_or(|(known, _)| *known != identity) {
            let Ok(file) = fs::File::open(&self.path) else { return false };
            self.header = Some((identity, file));
        }
        let mut version = [0];
        let read = self.header.as_ref().map(|(_, file)| file.read_at(&mut version, WRITE_VERSION));
        matches!(read, Some(Ok(1))) && version == [WRITE_AHEAD]
    }

    /// Ends a snapshot and closes its connection before anything else happens.
    pub async fn finish(&mut self, snapshot: Snapshot) {
        // Nothing was written that could be lost.
        let _ = timeout(PATIENCE, snapshot.held.connection.close()).await;
    }
}

/// One view of the file.
pub struct Snapshot {
    held: Held,
    place: String,
    deadline: Instant,
    limit: Duration,
    /// False once the connection is in an unknown state.
    usable: bool,
}

impl Snapshot {
    /// Whether all statements see one state of the file, and no writer waits for it.
    pub const fn is_write_ahead(&self) -> bool {
        self.held.write_ahead
    }

    /// All rows of a statement; `what` names the read in the error.
    pub async fn fetch(
        &mut self,
        what: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, ReadError> {
        let result = timeout_at(self.deadline, query.fetch_all(&mut self.held.connection)).await;
        self.settle(what, result)
    }

    /// The only row of a statement.
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
            let mut handle = self.held.connection.lock_handle().await?;
            handle.set_progress_handler(CLOCK_STEPS, move || Instant::now() < deadline);
            Ok(())
        };
        let result = timeout_at(self.deadline, limiting).await;
        self.settle(what, result)?;
        self.transaction(what, "begin").await
    }

    async fn transaction(&mut self, what: &str, statement: &'static str) -> Result<(), ReadError> {
        if !self.held.write_ahead {
            return Ok(());
        }
        let result = timeout_at(self.deadline, sqlx::raw_sql(statement).execute(&mut self.held.connection)).await;
        self.settle(what, result).map(|_| ())
    }

    fn settle<T>(&mut self, what: &str, result: Timed<T>) -> Result<T, ReadError> {
        let harmless = |error: &_| matches!(code(error), Some(ERROR | BUSY | LOCKED | INTERRUPTED));
        settle(result, &mut self.usable, harmless).map_err(|error| match error {
            Some(error) => self.error(what, &error),
            None => too_late(&self.place, what, self.limit),
        })
    }

    /// An error of this file in the words of the log.
    pub fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        match code(error) {
            Some(INTERRUPTED) => too_late(&self.place, what, self.limit),
            _ => read_error(&self.place, what, error),
        }
    }
}

// SQLite's primary result codes.
const ERROR: i32 = 1;
const PERMISSION: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const INTERRUPTED: i32 = 9;
const CORRUPT: i32 = 11;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

/// The primary result code: an extended one has it in its lowest byte.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse::<i32>().ok().map(|code| code & 0xff)
}

/// The file of a URL: `sqlite:/var/lib/relay/usage.sqlite`, with or without `//`.
///
/// # Errors
/// When it names none.
pub fn path(url: &str) -> Result<PathBuf, Flaw> {
    let hint = "write it as sqlite:/path/to/the/file";
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(Flaw::new("the URL is not one of SQLite", hint));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    let first = path.split('/').next().unwrap_or_default();
    if path.is_empty() || first.contains(':') || path.contains('?') {
        return Err(Flaw::new("the URL names no file", hint));
    }
    // The address of a server has its password here, and the path is shown.
    if first.contains('@') || (!path.starts_with('/') && url.starts_with("sqlite://") && path.contains('@')) {
        return Err(Flaw::new("the URL names a user, which a file does not have", hint));
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
        // Of a reader, both mean that the log's index cannot be made.
        Some(READ_ONLY | CANNOT_OPEN) => (
            Reason::Permission,
            "; let the exporter's user read the file and its directory, and keep the relay running",
        ),
        Some(PERMISSION) => (Reason::Permission, "; let the exporter's user read the file"),
        Some(ERROR) => (Reason::Schema, "; is this the relay's file, in a version that is supported?"),
        Some(CORRUPT) => (Reason::Data, "; the file is damaged"),
        Some(NOT_A_DATABASE) => (Reason::Data, "; this is no SQLite file"),
        _ => (Reason::Connection, ""),
    };
    ReadError::new(reason, format!("{at}: {}{hint}", failure.message()))
}
