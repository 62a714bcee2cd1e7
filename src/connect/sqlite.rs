//! The one place that opens a relay's SQLite file: read-only, one connection at a time, open only while it is read,
//! honest errors.
//!
//! The relay may be writing all the while, and must not notice:
//! * The file is opened without the right to write (`mode=ro`, `query_only`, `readonly_shm`), never as immutable. Such a
//!   connection cannot checkpoint, not even when it closes, and writes into no file.
//! * All parts of a relay that read one file take turns.
//! * With a write-ahead log a snapshot is one read transaction: it stops no writer, and is over before the log grows.
//! * With a rollback journal an open read makes writers wait. So each statement stands alone there, is interrupted before
//!   a writer gives up, and is followed by a rest that is a multiple of the time it took. A wait for the relay's lock
//!   counts as well: the more the file is written, the less it is read.
//! * No connection is held between two reads. The last connection that closes empties the write-ahead log and removes it,
//!   which one without the right to write cannot do: an idle reader would leave the log behind when the relay stops, and
//!   a backup that is then restored over the file would be mixed with it.
//! * An empty file is not opened, and one with a rollback journal not beside a log: SQLite would remove the log.
//! * A file with a write-ahead log is opened only while somebody else has it open, and with its `-wal` and `-shm`. What is
//!   read is never what a relay left behind, or what a mount still shows of files that have gone.
//! * A statement that is not done in time is interrupted inside SQLite; dropping its future would let it run on.
//!
//! So mount the directory, not the file; and reading fails while a relay with a write-ahead log is stopped.

mod known;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, SqliteConnection};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::known::{Known, beside, known, look_beside};
use super::{Timed, settle, undecodable};
use crate::connect::address::Flaw;
use crate::connect::address::OpenError;
use crate::model::{ReadError, Reason};

/// How long a read waits for a lock: only while the relay starts, stops or replaces its log.
const PATIENCE: Duration = Duration::from_secs(1);
/// Virtual machine instructions between two looks at the clock: some 100 µs.
const CLOCK_STEPS: i32 = 10_000;
/// Rows that SQLite may be ahead of us: a statement, and the lock it may hold, does not wait for this process.
const ROWS_AHEAD: usize = 32_768;
/// With a rollback journal, how many times as long as a statement took nothing is read after it.
const REST: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(2);
/// Which part of a snapshot's time may be rests: they must not be why a read is not done in time.
const RESTS: u32 = 4;

/// A relay's file.
pub struct File {
    path: PathBuf,
    limit: Duration,
    longest_statement: Duration,
}

impl File {
    /// `limit` is the limit of one snapshot, waiting for its turn and opening included. Of a file with a rollback journal,
    /// `longest_statement` is the limit of one statement: the relay's writes wait for it, and give up after a while.
    ///
    /// # Errors
    /// When the URL names no file.
    pub fn new(url: &SecretString, limit: Duration, longest_statement: Duration) -> Result<Self, OpenError> {
        Ok(Self { path: path(url.expose_secret())?, limit, longest_statement })
    }

    /// The path, for people.
    pub fn endpoint(&self) -> String {
        self.path.display().to_string()
    }

    /// Sizes of the file and, where there is one, of its write-ahead log, in bytes.
    pub fn sizes(&self) -> Vec<(&'static str, u64)> {
        let files = [("main", self.path.clone()), ("wal", beside(&self.path, "-wal"))];
        files.into_iter().filter_map(|(name, path)| Some((name, fs::metadata(path).ok()?.len()))).collect()
    }

    /// Opens a view of the file: a consistent one where the file has a write-ahead log. Dropped without
    /// [`Snapshot::close`], its connection closes a little later.
    ///
    /// # Errors
    /// When the file, or one beside it that it needs, cannot be opened, and when it was not done in time.
    pub async fn snapshot(&self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        let known = known(&self.path)?;
        let what = "waiting for its turn to read";
        let turn = timeout_at(deadline, Arc::clone(&known.turn).lock_owned());
        let turn = turn.await.map_err(|_| too_late(&self.path, what, self.limit))?;
        known.is_still_at(&self.path)?;
        let write_ahead = known.is_write_ahead();
        if write_ahead {
            look_beside(&self.path)?;
        }
        // Of the rest that is due, too, only a part may be taken from this snapshot's time.
        let due = turn.map_or(Duration::ZERO, |not_before| not_before.saturating_duration_since(Instant::now()));
        let rest = due.min(self.limit / RESTS);
        sleep(rest).await;
        if !write_ahead {
            known.is_without_log_at(&self.path)?;
        }
        let connection = self.open(deadline).await?;
        let mut snapshot = Snapshot {
            connection,
            turn,
            write_ahead,
            path: self.path.clone(),
            known,
            deadline,
            limit: self.limit,
            longest_statement: self.longest_statement,
            rests: self.limit / RESTS - rest,
            usable: true,
        };
        snapshot.begin().await?;
        Ok(snapshot)
    }

    async fn open(&self, deadline: Instant) -> Result<SqliteConnection, ReadError> {
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
            // The first look into the file takes its lock; this one is short, for it needs no schema.
            sqlx::query("pragma schema_version").fetch_one(&mut connection).await?;
            Ok(connection)
        };
        match timeout_at(deadline, opening).await {
            Ok(opened) => {
                opened.map_err(|error| self.unreadable().unwrap_or_else(|| read_error(&self.path, what, &error)))
            }
            Err(_) => Err(too_late(&self.path, what, self.limit)),
        }
    }

    /// Which of the files beside it this process may not read, after SQLite could not open it.
    fn unreadable(&self) -> Option<ReadError> {
        let mut errors = ["-wal", "-shm"].iter().filter_map(|ending| known(&beside(&self.path, ending)).err());
        errors.find(|error| error.reason == Reason::Permission)
    }

    /// SQLite makes no `-shm`, and does not write into one, that is said to be for reading only.
    fn uri(&self) -> Result<String, ReadError> {
        let wrong = || ReadError::new(Reason::Connection, format!("the path {} cannot be used", self.endpoint()));
        let path = std::path::absolute(&self.path).map_err(|_| wrong())?;
        let mut uri = url::Url::from_file_path(path).map_err(|()| wrong())?;
        uri.set_query(Some("readonly_shm=1"));
        Ok(uri.into())
    }
}

/// One view of the file.
pub struct Snapshot {
    connection: SqliteConnection,
    turn: OwnedMutexGuard<Option<Instant>>,
    write_ahead: bool,
    path: PathBuf,
    known: Arc<Known>,
    deadline: Instant,
    limit: Duration,
    longest_statement: Duration,
    /// How much of it may still be rests.
    rests: Duration,
    /// False once the connection is in an unknown state.
    usable: bool,
}

impl Snapshot {
    /// Whether all statements see one state of the file, and no writer waits for it.
    pub(crate) const fn is_write_ahead(&self) -> bool {
        self.write_ahead
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
        if self.write_ahead {
            let result = timeout_at(self.deadline, query.fetch_all(&mut self.connection)).await;
            return self.settle(what, result);
        }
        if let Some(not_before) = *self.turn {
            let rest = not_before.saturating_duration_since(Instant::now()).min(self.rests);
            self.rests -= rest;
            sleep(rest).await;
        }
        self.known.is_without_log_at(&self.path)?;
        let began = Instant::now();
        self.interrupt_at(what, self.statement_deadline(began)).await?;
        let result = timeout_at(self.deadline, query.fetch_all(&mut self.connection)).await;
        *self.turn = Some(Instant::now() + (began.elapsed() * REST).min(LONGEST_REST));
        self.settle(what, result)
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

    /// A number that is another one once a table or a column has been added.
    ///
    /// # Errors
    /// Those of [`Self::fetch`].
    pub async fn schema_version(&mut self) -> Result<i64, ReadError> {
        let what = "looking at the version of the schema";
        let row = self.fetch_one(what, sqlx::query("pragma schema_version")).await?;
        row.try_get(0).map_err(|error| self.error(what, &error))
    }

    async fn begin(&mut self) -> Result<(), ReadError> {
        if !self.write_ahead {
            return Ok(());
        }
        let what = "beginning";
        self.interrupt_at(what, self.last_moment()).await?;
        let result = timeout_at(self.deadline, sqlx::raw_sql("begin").execute(&mut self.connection)).await;
        self.settle(what, result).map(|_| ())
    }

    /// A little before our deadline, so that the connection stays good.
    fn last_moment(&self) -> Instant {
        self.deadline - self.limit / 10
    }

    fn statement_deadline(&self, began: Instant) -> Instant {
        self.last_moment().min(began + self.longest_statement)
    }

    async fn interrupt_at(&mut self, what: &str, moment: Instant) -> Result<(), ReadError> {
        let limiting = async {
            let mut handle = self.connection.lock_handle().await?;
            handle.set_progress_handler(CLOCK_STEPS, move || Instant::now() < moment);
            Ok(())
        };
        let result = timeout_at(self.deadline, limiting).await;
        self.settle(what, result)
    }

    /// Closes the file, before anything else happens.
    pub async fn close(self) {
        // Nothing was written that could be lost.
        let _ = timeout(PATIENCE, self.connection.close()).await;
    }

    fn settle<T>(&mut self, what: &str, result: Timed<T>) -> Result<T, ReadError> {
        let harmless = |error: &_| matches!(code(error), Some(ERROR | BUSY | LOCKED | INTERRUPTED));
        settle(result, &mut self.usable, harmless).map_err(|error| match error {
            Some(error) => self.error(what, &error),
            None => too_late(&self.path, what, self.limit),
        })
    }

    /// An error of this file in the words of the log.
    pub(crate) fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        match code(error) {
            Some(INTERRUPTED) if self.write_ahead => too_late(&self.path, what, self.limit),
            Some(INTERRUPTED) => too_late(&self.path, what, self.limit.min(self.longest_statement)),
            _ => read_error(&self.path, what, error),
        }
    }
}

// SQLite's primary result codes.
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
pub(crate) fn path(url: &str) -> Result<PathBuf, Flaw> {
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

fn too_late(path: &Path, what: &str, limit: Duration) -> ReadError {
    let path = path.display();
    let text = format!("{what}: SQLite file {path}: not done within {limit:?}; raise `timeout`, or see `check`");
    ReadError::new(Reason::Timeout, text)
}

/// What went wrong, where, and what to do. SQLite's messages name tables and columns, never a value.
fn read_error(path: &Path, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: SQLite file {}", path.display());
    if let Some(error) = undecodable(&at, error) {
        return error;
    }
    let Some(failure) = error.as_database_error() else {
        return ReadError::new(Reason::Connection, format!("{at}: the file cannot be read"));
    };
    let (reason, hint) = match code(error) {
        Some(BUSY | LOCKED) => (Reason::Timeout, "; the relay holds a lock"),
        Some(READ_ONLY) if extended_code(error) == Some(READ_ONLY_ROLLBACK) => (
            Reason::Data,
            "; the relay was ended while it wrote, and its -journal is there: start it, and it mends the file",
        ),
        Some(READ_ONLY | CANNOT_OPEN) => {
            (Reason::Connection, "; the relay is just opening or closing it, or its -wal and -shm cannot be read here")
        }
        Some(PERMISSION) => (Reason::Permission, "; let the exporter's user read the file"),
        Some(ERROR) => (Reason::Schema, "; is this the relay's file, in a version that is supported?"),
        Some(CORRUPT) => (Reason::Data, "; the file is damaged"),
        Some(NOT_A_DATABASE) => (Reason::Data, "; this is no SQLite file"),
        _ => (Reason::Connection, ""),
    };
    ReadError::new(reason, format!("{at}: {}{hint}", failure.message()))
}
