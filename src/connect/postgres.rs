//! The one place that opens PostgreSQL: one held connection, read-only snapshots, limits on both sides, honest errors.

mod server;

use std::io;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Connection, PgConnection, Postgres};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Timed, settle};
use crate::connect::address::OpenError;
use crate::model::{ReadError, Reason};
pub(crate) use server::{Server, servers};

/// How long one connection is used: addresses and roles change behind names.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// A relay's database. Holds at most one connection, opened by the first snapshot.
pub struct Database {
    /// The first that answers is read.
    servers: Vec<Server>,
    /// `host:port/database`, for people.
    endpoint: String,
    limit: Duration,
    idle: Option<Held>,
}

struct Held {
    connection: PgConnection,
    since: Instant,
    endpoint: String,
}

impl Database {
    /// `limit` is the client's limit of one snapshot, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL's.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        let servers = servers(url.expose_secret())?;
        let endpoint = servers.iter().map(Server::endpoint).collect::<Vec<_>>().join(",");
        Ok(Self { servers, endpoint, limit, idle: None })
    }

    /// `host:port/database`, one after the other.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn role(&self) -> &str {
        self.servers.first().map_or("", |server| server.options.get_username())
    }

    /// Begins a consistent, read-only view of the store. Dropped without [`Database::finish`], it closes its connection.
    ///
    /// # Errors
    /// When no connection can be had, or the server does not take its settings, within the limit.
    pub async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        // A connection that went bad while it was idle says nothing about the server.
        if let Some(held) = self.idle.take().filter(|held| held.since.elapsed() < MAX_AGE)
            && let Ok(snapshot) = self.begin(held, deadline).await
        {
            return Ok(snapshot);
        }
        let mut failed: Option<ReadError> = None;
        for (tried, server) in self.servers.iter().enumerate() {
            // One that says nothing must leave time for the next.
            let time = deadline.saturating_duration_since(Instant::now()) / (self.servers.len() - tried) as u32;
            let time = server.connect_timeout.map_or(time, |own| own.min(time));
            let error = match timeout(time, server.connect()).await {
                Ok(Ok(connection)) => {
                    let held = Held { connection, since: Instant::now(), endpoint: server.endpoint().to_owned() };
                    return self.begin(held, deadline).await;
                }
                Ok(Err(error)) => read_error(server.endpoint(), "connecting", &error),
                Err(_) => {
                    let text = format!(
                        "connecting to PostgreSQL at {}: no answer within {time:.1?}; check the address and the firewall",
                        server.endpoint()
                    );
                    ReadError::new(Reason::Timeout, text)
                }
            };
            failed = Some(match failed {
                Some(before) => ReadError::new(error.reason, format!("{}; {}", before.text, error.text)),
                None => error,
            });
        }
        Err(failed.unwrap_or_else(|| ReadError::new(Reason::Connection, "the database URL names no host".to_owned())))
    }

    async fn begin(&self, held: Held, deadline: Instant) -> Result<Snapshot, ReadError> {
        let mut snapshot = Snapshot { held, deadline, limit: self.limit, usable: true };
        let statement = self.limit.mul_f64(0.9);
        let millis = |limit: Duration| format!("{}ms", limit.as_millis().max(1));
        let limits = sqlx::query(include_str!("postgres/limits.sql"))
            .bind(millis(statement))
            .bind(millis(statement.min(Duration::from_secs(1))))
            .bind(millis(self.limit));
        snapshot.execute("beginning", include_str!("postgres/begin.sql")).await?;
        snapshot.fetch("setting limits", limits).await?;
        Ok(snapshot)
    }

    /// Ends a snapshot and keeps its connection for the next one when it is still good.
    pub async fn finish(&mut self, mut snapshot: Snapshot) {
        if !snapshot.usable {
            return;
        }
        snapshot.deadline = snapshot.deadline.max(Instant::now() + Duration::from_secs(1));
        if snapshot.execute("ending", include_str!("postgres/end.sql")).await.is_ok() {
            self.idle = Some(snapshot.held);
        }
    }

    /// Says goodbye to the server; without it the server only notices that the peer has gone.
    pub async fn close(&mut self) {
        if let Some(held) = self.idle.take() {
            // The peer may be gone already.
            let _ = timeout(Duration::from_secs(1), held.connection.close()).await;
        }
    }
}

/// One consistent view of the store.
pub struct Snapshot {
    held: Held,
    deadline: Instant,
    limit: Duration,
    /// False once the connection is in an unknown state.
    usable: bool,
}

impl Snapshot {
    /// All rows of a statement; `what` names the read in the error.
    pub(crate) async fn fetch(
        &mut self,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, ReadError> {
        // Unnamed: a pooler in transaction mode may give the next transaction to another server process.
        let result = timeout_at(self.deadline, query.persistent(false).fetch_all(&mut self.held.connection)).await;
        self.settle(what, result)
    }

    /// The only row of a statement.
    ///
    /// # Errors
    /// When it fails, or gives no row.
    pub async fn fetch_one(&mut self, what: &str, query: Query<'_, Postgres, PgArguments>) -> Result<PgRow, ReadError> {
        let row = self.fetch(what, query).await?.pop();
        row.ok_or_else(|| self.error(what, &sqlx::Error::RowNotFound))
    }

    async fn execute(&mut self, what: &str, statement: &'static str) -> Result<(), ReadError> {
        let result = timeout_at(self.deadline, sqlx::raw_sql(statement).execute(&mut self.held.connection)).await;
        self.settle(what, result).map(|_| ())
    }

    fn settle<T>(&mut self, what: &str, result: Timed<T>) -> Result<T, ReadError> {
        let harmless = |error: &_| matches!(error, sqlx::Error::Database(_));
        settle(result, &mut self.usable, harmless).map_err(|error| match error {
            Some(error) => self.error(what, &error),
            None => {
                let text = format!(
                    "{what} from PostgreSQL at {}: not done within {:?}; raise `timeout`, or see `check` for a missing index",
                    self.held.endpoint, self.limit
                );
                ReadError::new(Reason::Timeout, text)
            }
        })
    }

    /// An error of this store in the words of the log.
    pub(crate) fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        read_error(&self.held.endpoint, what, error)
    }
}

/// What went wrong, where, and what to do. Names no value that was read and no secret.
fn read_error(endpoint: &str, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: PostgreSQL at {endpoint}");
    let (reason, text) = match error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            let (reason, hint) = meaning(&code);
            // Messages of other classes may quote a value.
            let quotes_no_value =
                ["08", "0A", "25", "3D", "40", "42", "53", "55", "57"].contains(&code.get(..2).unwrap_or(""));
            let message = match code.get(..2) {
                // They quote the user, which may be a password in the wrong place.
                Some("28") => refused_login(refusal.message()),
                _ if quotes_no_value => refusal.message(),
                _ => "refused",
            };
            (reason, format!("{at}: {message} ({code}){hint}"))
        }
        // What the TLS library refuses comes as invalid data.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (Reason::Connection, untrusted(&at, error))
        }
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            (Reason::Connection, format!("{at}: {error}; check the files that the URL names"))
        }
        sqlx::Error::Io(error) => {
            (Reason::Connection, format!("{at}: {error}; check that it runs and that the address is right"))
        }
        sqlx::Error::Tls(error) => (Reason::Connection, untrusted(&at, error)),
        sqlx::Error::ColumnDecode { index, source } => (Reason::Data, format!("{at}: column {index}: {source}")),
        sqlx::Error::ColumnNotFound(column) => (Reason::Data, format!("{at}: no column {column} in the answer")),
        sqlx::Error::RowNotFound => (Reason::Data, format!("{at}: no row in the answer")),
        sqlx::Error::Protocol(_) => {
            (Reason::Connection, format!("{at}: an answer that is not PostgreSQL's; check host and port"))
        }
        _ => (Reason::Connection, format!("{at}: the connection cannot be used; check the URL")),
    };
    ReadError::new(reason, text)
}

/// Why a login was refused, without the server's own words.
fn refused_login(message: &str) -> &'static str {
    match message {
        _ if message.contains("pg_hba.conf") && message.contains("no encryption") => {
            "no entry of pg_hba.conf lets this user in from here without TLS"
        }
        _ if message.contains("pg_hba.conf") => "no entry of pg_hba.conf lets this user in from here",
        _ if message.contains("certificate") => "a valid client certificate is wanted",
        _ => "user or password refused",
    }
}

fn untrusted(at: &str, error: &dyn std::fmt::Display) -> String {
    format!("{at}: TLS: {error}; check `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the URL")
}

/// The class of an SQLSTATE and what to do about it.
fn meaning(code: &str) -> (Reason, &'static str) {
    match code {
        "57014" => (Reason::Timeout, "; raise `timeout`, or see `check` for a missing index"),
        "55P03" => (Reason::Timeout, "; a lock is held on the table, perhaps by a migration"),
        "42501" => (Reason::Permission, "; grant it: deploy/ has a readonly-role.sql for the relay"),
        "28P01" | "28000" => (Reason::Permission, "; check user and password of the URL, and pg_hba.conf"),
        "42P01" | "42703" | "42883" | "42704" => {
            (Reason::Schema, "; is this the relay's database, in a version that is supported?")
        }
        "22023" => (Reason::Data, "; PostgreSQL may not know the time zone: set `timezone`"),
        "3D000" => (Reason::Connection, "; check the database name of the URL"),
        // Of a database that takes no connections, or of a server that is not ready.
        "55000" => (Reason::Connection, "; check that the database takes connections"),
        "53300" => (Reason::Connection, "; the server, or the role, has no connection left"),
        "40001" => (Reason::Connection, "; a replica gave way to its primary, which happens now and then"),
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => (Reason::Connection, ""),
        _ if code.starts_with("28") => (Reason::Permission, ""),
        _ if code.starts_with("42") => (Reason::Schema, ""),
        _ => (Reason::Data, ""),
    }
}
