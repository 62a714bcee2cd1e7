//! The one place that opens a relay's SQLite file: read-only, one held connection, short reads, honest errors.
//!
//! The relay may be writing all the while, and must not notice:
//! * The file is opened without the right to write (`mode=ro`, `query_only`), never as immutable. Such a connection
//!   cannot checkpoint, not even when it closes.
//! * With a write-ahead log a snapshot is one read transaction: it stops no writer, and is over before the log grows.
//!   With a rollback journal an open read makes writers wait, so each statement stands alone there.
//! * A statement that is not done in time is interrupted inside SQLite; dropping its future would let it run on.
//!
//! A write-ahead log wants its `-wal` and `-shm` beside the file: mount the directory, not the file. Where the relay
//! has stopped and the directory cannot be written, SQLite cannot make them, and reading fails until the relay is back.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
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

/// A relay's file. Holds at most one connection, opened by the first snapshot.
pub struct File {
    path: PathBuf,
    limit: Duration,
    idle: Option<Held>,
}

struct Held {
    connection: SqliteConnection,
    /// Device and inode: a file that was restored or replaced is another one.
    identity: (u64, u64),
    write_ahead: bool,
}

impl File {
    /// `limit` is the limit of one snapshot, opening included.
    ///
    /// # Errors
    /// When the URL names no file.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self { path: path(url.expose_secret())?, limit, idle: None })
    }

    /// The path, for people.
    pub fn place(&self) -> String {
        self.path.display().to_string()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a view of the file: a consistent one where the file has a write-ahead log. Dropped without
    /// [`File::finish`], it closes its connection.
    pub async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        let identity = self.identity()?;
        let held = match self.idle.take().filter(|held| held.identity == identity) {
            Some(held) => held,
            None => self.open(identity, deadline).await?,
        };
        let mut snapshot = Snapshot { held, place: self.place(), deadline, limit: self.limit, usable: true };
        snapshot.begin().await?;
        Ok(snapshot)
    }

    async fn open(&self, identity: (u64, u64), deadline: Instant) -> Result<Held, ReadError> {
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
            Ok(Held { connection, identity, write_ahead })
        };
        match timeout_at(deadline, opening).await {
            Ok(opened) => opened.map_err(|error| read_error(&self.place(), what, &error)),
            Err(_) => Err(too_late(&self.place(), what, self.limit)),
        }
    }

    /// SQLite itself would say no more than that it cannot open the file.
    fn identity(&self) -> Result<(u64, u64), ReadError> {
        let at = format!("opening SQLite file {}", self.path.display());
        match fs::metadata(&self.path) {
            Ok(file) if file.is_file() => Ok((file.dev(), file.ino())),
            Ok(_) => Err(ReadError::new(Reason::Connection, format!("{at}: this is no file"))),
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

    /// Ends a snapshot and keeps its connection for the next one when it is still good.
    pub async fn finish(&mut self, mut snapshot: Snapshot) {
        if snapshot.usable && snapshot.end().await.is_ok() {
            self.idle = Some(snapshot.held);
        }
    }

    pub async fn close(&mut self) {
        if let Some(held) = self.idle.take() {
            // Nothing was written that could be lost.
            let _ = timeout(PATIENCE, held.connection.close()).await;
        }
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

    async fn end(&mut self) -> Result<(), ReadError> {
        self.deadline = self.deadline.max(Instant::now() + PATIENCE);
        // Nothing was written, so there is nothing to commit.
        self.transaction("ending", "rollback").await
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
