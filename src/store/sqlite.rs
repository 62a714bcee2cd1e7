//! The store in one SQLite file. The writer holds a lock on a second file beside it, which ends with the process.
//!
//! Write-ahead log with `synchronous = normal`: a killed process loses nothing that was saved; a power cut may lose the
//! last saves, but never half of one, and what they held is read from the ledger again.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::statements::checkpoints;
use super::{Changes, Owner, StoreError, Stored, way_out};

/// The text "LRXs", in the header of every file that is ours.
const APPLICATION_ID: i64 = 0x4c52_5873;
/// The last migration.
const VERSION: i64 = 1;
const MIGRATION: &str = include_str!("../../migrations/store/sqlite/0001_checkpoint.sql");
/// Of the files that are made: who spent what is nobody else's business. SQLite gives its log the mode of its file.
const MODE: u32 = 0o600;
/// How long another process may hold the database's own lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// The write-ahead log shrinks to this after a large save.
const LOG_BYTES: &str = "8388608";

const OPENING: &str = "opening";
const DIRECTORY: &str = "the directory must exist and, with the file, be writable for the exporter";
// SQLite's result codes.
const ERROR: i32 = 1;
const PERMISSION: i32 = 3;
const READ_ONLY: i32 = 8;
const CORRUPT: i32 = 11;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

pub(crate) struct File {
    path: PathBuf,
    connection: Option<SqliteConnection>,
    /// Locked while this process is the writer.
    lock: Option<fs::File>,
}

checkpoints!(SqliteConnection, include_str!("sql/sqlite/begin_read.sql"), include_str!("sql/sqlite/begin_write.sql"));

impl File {
    /// `path` as it stands behind `sqlite:` in the address, with or without `//`.
    pub(crate) fn new(path: &str) -> Result<Self, StoreError> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(':') || path.contains('?') {
            let text =
                "the address of the store names no file; write it as sqlite:/var/lib/llm-relay-exporter/store.db";
            return Err(StoreError::Refused(text.to_owned()));
        }
        Ok(Self { path: path.into(), connection: None, lock: None })
    }

    pub(crate) fn endpoint(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) async fn load(&mut self, owner: &Owner) -> Result<Option<Stored>, StoreError> {
        let mut connection = self.connect().await?;
        let stored = read(&mut connection, owner).await.map_err(|error| self.error("reading", &error))?;
        self.connection = Some(connection);
        Ok(stored)
    }

    pub(crate) async fn save(&mut self, owner: &Owner, changes: &Changes) -> Result<Option<i64>, StoreError> {
        if self.lock.is_none() {
            return Err(StoreError::NotWriter);
        }
        let mut connection = self.connect().await?;
        let saved = write(&mut connection, owner, changes).await.map_err(|error| self.error("writing", &error))?;
        self.connection = Some(connection);
        Ok(saved)
    }

    /// The checkpoints of the owners as they are; `None` before there is a store. Makes and changes nothing.
    pub(crate) async fn inspect(&self, owners: &[Owner]) -> Result<Option<Vec<Option<Stored>>>, StoreError> {
        let empty = match fs::File::options().append(true).open(&self.path).and_then(|file| file.metadata()) {
            Ok(file) => file.len() == 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
                // A file without a name: it leaves nothing behind.
                tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map_err(|error| self.not_made(&error))?;
                true
            }
            Err(error) => return Err(self.not_made(&error)),
        };
        if empty {
            return Ok(None);
        }
        // Beside a file that nobody uses, SQLite would make a log; a file with a log may be in use.
        let in_use = beside(&self.path, "-wal").exists();
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .immutable(!in_use)
            .busy_timeout(PATIENCE)
            .disable_statement_logging();
        let mut connection = options.connect().await.map_err(|error| self.error(OPENING, &error))?;
        if !self.is_ours(&mut connection).await? {
            return Ok(None);
        }
        let mut seen = Vec::with_capacity(owners.len());
        for owner in owners {
            seen.push(read(&mut connection, owner).await.map_err(|error| self.error("reading", &error))?);
        }
        Ok(Some(seen))
    }

    /// One process is the writer for all relays of a file.
    pub(crate) fn become_writer(&mut self) -> Result<bool, StoreError> {
        if self.lock.is_some() {
            return Ok(true);
        }
        let path = beside(&self.path, ".lock");
        let unavailable =
            |error| StoreError::Unavailable(format!("the store's lock {} cannot be taken: {error}", path.display()));
        let file = fs::File::options().create(true).append(true).mode(MODE).open(&path).map_err(unavailable)?;
        match file.try_lock() {
            Ok(()) => self.lock = Some(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(unavailable(error)),
        }
        Ok(self.lock.is_some())
    }

    pub(crate) async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the store's file was not closed");
        }
        self.lock = None;
    }

    /// The idle connection, or a new one to a file that has been found to be ours. Whoever is done puts it back.
    async fn connect(&mut self) -> Result<SqliteConnection, StoreError> {
        if let Some(connection) = self.connection.take() {
            // Moved away or deleted: saving into a file that has no name would be saving nowhere.
            if self.path.exists() {
                return Ok(connection);
            }
        }
        match fs::File::options().write(true).create_new(true).mode(MODE).open(&self.path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(self.not_made(&error)),
        }
        // Nothing is written before it is known whose file it is.
        let options =
            SqliteConnectOptions::new().filename(&self.path).busy_timeout(PATIENCE).disable_statement_logging();
        let opening = |error: &sqlx::Error| self.error(OPENING, error);
        let mut connection = options.connect().await.map_err(|error| opening(&error))?;
        self.identify(&mut connection).await?;
        connection.close().await.map_err(|error| opening(&error))?;
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("journal_size_limit", LOG_BYTES);
        options.connect().await.map_err(|error| opening(&error))
    }

    /// Makes an empty file ours, and refuses what is not.
    async fn identify(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        if !self.is_ours(connection).await? {
            self.create(connection).await.map_err(|error| self.error(OPENING, &error))?;
        }
        Ok(())
    }

    /// False for an empty database; what is neither is refused.
    async fn is_ours(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let refused = |what| Err(StoreError::Refused(format!("the store {}: {what}; {}", self.endpoint(), way_out())));
        let opening = |error: &sqlx::Error| self.error(OPENING, error);
        let identity = || sqlx::query(include_str!("sql/sqlite/identity.sql"));
        let row = identity().fetch_one(&mut *connection).await.map_err(|error| opening(&error))?;
        let number = |column| row.try_get::<i64, _>(column).map_err(|error| opening(&error));
        let (application_id, version) = (number("application_id")?, number("user_version")?);
        match (application_id, version, number("objects")?) {
            (APPLICATION_ID, VERSION, _) => Ok(true),
            (APPLICATION_ID, newer, _) if newer > VERSION => {
                refused(format!("it is of a newer exporter (version {newer}, not {VERSION})"))
            }
            (0, 0, 0) => Ok(false),
            _ => refused("it is a database of something else".to_owned()),
        }
    }

    async fn create(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut transaction = connection.begin_with(include_str!("sql/sqlite/begin_write.sql")).await?;
        let row = sqlx::query(include_str!("sql/sqlite/identity.sql")).fetch_one(&mut *transaction).await?;
        // Another process may have been faster.
        if row.try_get::<i64, _>("user_version")? == 0 {
            sqlx::raw_sql(MIGRATION).execute(&mut *transaction).await?;
            sqlx::raw_sql(include_str!("sql/sqlite/mark.sql")).execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    fn not_made(&self, error: &io::Error) -> StoreError {
        let text = format!("{OPENING} the store {}: {error}", self.endpoint());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::Refused(format!("{text}; {DIRECTORY}"))
            }
            _ => StoreError::Unavailable(text),
        }
    }

    fn error(&self, what: &str, error: &sqlx::Error) -> StoreError {
        let at = format!("{what} the store {}", self.endpoint());
        let Some(failure) = error.as_database_error() else {
            return match error {
                sqlx::Error::ColumnDecode { .. } => StoreError::Refused(format!("{at}: {error}; {}", way_out())),
                _ => StoreError::Unavailable(format!("{at}: {error}")),
            };
        };
        // An extended code has the primary one in its lowest byte.
        let code = failure.code().and_then(|code| code.parse::<i32>().ok()).map_or(0, |code| code & 0xff);
        let message = failure.message();
        match code {
            PERMISSION | READ_ONLY | CANNOT_OPEN if what == OPENING => {
                StoreError::Refused(format!("{at}: {message}; {DIRECTORY}"))
            }
            // A statement that does not fit the tables, or pages that do not fit together.
            ERROR | CORRUPT => StoreError::Refused(format!("{at}: the file is damaged ({message}); {}", way_out())),
            NOT_A_DATABASE => StoreError::Refused(format!("{at}: this is no SQLite file; {}", way_out())),
            _ => StoreError::Unavailable(format!("{at}: {message}")),
        }
    }
}

/// A file of the same name, and more.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}
