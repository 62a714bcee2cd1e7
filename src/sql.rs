//! The one place that opens PostgreSQL: one held connection, read-only snapshots, limits on both sides, honest errors.
//! [`mysql`] and [`sqlite`] do the same for theirs.

pub mod mysql;
pub mod sqlite;

use std::io;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, PgConnection, Postgres};
use tokio::time::{Instant, timeout, timeout_at};

use crate::hosts;
use crate::model::{ReadError, Reason};
use crate::relays::OpenError;

/// How long one connection is used: addresses and roles change behind names.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// What a connection URL may say; anything else is for another driver and left out.
const PARAMETERS: [&str; 11] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
];

/// A relay's database. Holds at most one connection, opened by the first snapshot.
pub struct Database {
    /// The first that answers is read.
    hosts: Vec<Host>,
    /// `host:port/database`, for people.
    place: String,
    limit: Duration,
    idle: Option<Held>,
}

struct Host {
    options: PgConnectOptions,
    place: String,
}

struct Held {
    connection: PgConnection,
    since: Instant,
    place: String,
}

impl Database {
    /// `limit` is the client's limit of one snapshot, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL's.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        let host = |url: &String| options(url).map(|options| Host { place: place(&options), options });
        let hosts = hosts::each(url.expose_secret()).iter().map(host).collect::<Result<Vec<_>, _>>()?;
        let place = hosts.iter().map(|host| &*host.place).collect::<Vec<_>>().join(",");
        Ok(Self { hosts, place, limit, idle: None })
    }

    /// `host:port/database`, one after the other.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub fn role(&self) -> &str {
        self.hosts.first().map_or("", |host| host.options.get_username())
    }

    /// Begins a consistent, read-only view of the store. Dropped without [`Database::finish`], it closes its connection.
    pub async fn snapshot(&mut self) -> Result<Snapshot, ReadError> {
        let deadline = Instant::now() + self.limit;
        // A connection that went bad while it was idle says nothing about the server.
        if let Some(held) = self.idle.take().filter(|held| held.since.elapsed() < MAX_AGE)
            && let Ok(snapshot) = self.begin(held, deadline).await
        {
            return Ok(snapshot);
        }
        let mut failed: Option<ReadError> = None;
        for (tried, host) in self.hosts.iter().enumerate() {
            // One that says nothing must leave time for the next.
            let time = deadline.saturating_duration_since(Instant::now()) / (self.hosts.len() - tried) as u32;
            let error = match timeout(time, PgConnection::connect_with(&host.options)).await {
                Ok(Ok(connection)) => {
                    let held = Held { connection, since: Instant::now(), place: host.place.clone() };
                    return self.begin(held, deadline).await;
                }
                Ok(Err(error)) => read_error(&host.place, "connecting", &error),
                Err(_) => {
                    let text = format!(
                        "connecting to PostgreSQL at {}: no answer within {time:.1?}; check the address and the firewall",
                        host.place
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
        let limits = sqlx::query(include_str!("sql/limits.sql"))
            .bind(millis(statement))
            .bind(millis(statement.min(Duration::from_secs(1))))
            .bind(millis(self.limit));
        snapshot.execute("beginning", include_str!("sql/begin.sql")).await?;
        snapshot.fetch("setting limits", limits).await?;
        Ok(snapshot)
    }

    /// Ends a snapshot and keeps its connection for the next one when it is still good.
    pub async fn finish(&mut self, mut snapshot: Snapshot) {
        if !snapshot.usable {
            return;
        }
        snapshot.deadline = snapshot.deadline.max(Instant::now() + Duration::from_secs(1));
        if snapshot.execute("ending", include_str!("sql/end.sql")).await.is_ok() {
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
    pub async fn fetch(
        &mut self,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, ReadError> {
        // Unnamed: a pooler in transaction mode may give the next transaction to another server process.
        let result = timeout_at(self.deadline, query.persistent(false).fetch_all(&mut self.held.connection)).await;
        self.settle(what, result)
    }

    /// The only row of a statement.
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
                    self.held.place, self.limit
                );
                ReadError::new(Reason::Timeout, text)
            }
        })
    }

    /// An error of this store in the words of the log.
    pub fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        read_error(&self.held.place, what, error)
    }
}

/// What became of a statement in its time.
type Timed<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;

/// The value of a statement, or its error; `None` when it was not done in time. After that, and after an error that is
/// not harmless, its connection is not usable any more.
fn settle<T>(
    result: Timed<T>,
    usable: &mut bool,
    harmless: impl Fn(&sqlx::Error) -> bool,
) -> Result<T, Option<sqlx::Error>> {
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    *usable &= error.as_ref().is_some_and(harmless);
    Err(error)
}

/// `host:port/database`, for people.
pub(crate) fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}

/// A URL of which host, port and database may be shown.
fn parsed(url: &str, hint: &str) -> Result<url::Url, OpenError> {
    let encode = "in user and password write / as %2F, ? as %3F, # as %23, @ as %40, : as %3A and % as %25";
    let url = url::Url::parse(url)
        .map_err(|error| OpenError(format!("the database URL is no URL ({error}); {hint}; {encode}")))?;
    if hosts::hides_password(&url) {
        return Err(OpenError(format!("the database URL has an @ or # behind its host; {hint}; {encode}")));
    }
    Ok(url)
}

/// What a URL of PostgreSQL says.
///
/// # Errors
/// When it is none. The text holds no secret.
pub(crate) fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    let hint = "write it as postgres://user:password@host:5432/database";
    let mut url = parsed(url, hint)?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(OpenError(format!("the database URL is not one of PostgreSQL; {hint}")));
    }
    let known: Vec<_> =
        url.query_pairs().into_owned().filter(|(name, _)| PARAMETERS.contains(&name.as_str())).collect();
    url.set_query(None);
    if !known.is_empty() {
        url.query_pairs_mut().extend_pairs(known);
    }
    // The driver's own text may repeat a value.
    let options = PgConnectOptions::from_url(&url)
        .map_err(|_| OpenError(format!("the database URL has a port or parameter that cannot be used; {hint}")))?;
    // Poolers refuse start parameters that they do not know.
    Ok(options.application_name("llm-relay-exporter").extra_float_digits(None).disable_statement_logging())
}

/// What went wrong, where, and what to do. Names no value that was read and no secret.
fn read_error(place: &str, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: PostgreSQL at {place}");
    let (reason, text) = match error {
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            let (reason, hint) = meaning(&code);
            // Messages of other classes may quote a value.
            let quotes_no_value =
                ["08", "0A", "25", "28", "3D", "40", "42", "53", "55", "57"].contains(&code.get(..2).unwrap_or(""));
            let message = if quotes_no_value { refusal.message() } else { "refused" };
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

fn untrusted(at: &str, error: &dyn std::fmt::Display) -> String {
    format!("{at}: TLS: {error}; check `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the URL")
}

/// The class of an SQLSTATE and what to do about it.
fn meaning(code: &str) -> (Reason, &'static str) {
    match code {
        "57014" => (Reason::Timeout, "; raise `timeout`, or see `check` for a missing index"),
        "55P03" => (Reason::Timeout, "; a lock is held on the table, perhaps by a migration"),
        "42501" => (Reason::Permission, "; grant it with deploy/claude-code-hub/readonly-role.sql"),
        "28P01" | "28000" => (Reason::Permission, "; check user and password of the URL, and pg_hba.conf"),
        "42P01" | "42703" | "42883" | "42704" => {
            (Reason::Schema, "; is this the relay's database, in a version that is supported?")
        }
        "22023" => (Reason::Data, "; PostgreSQL may not know the time zone: set `timezone`"),
        "3D000" => (Reason::Connection, "; check the database name of the URL"),
        "53300" => (Reason::Connection, "; the server, or the role, has no connection left"),
        "40001" => (Reason::Connection, "; a replica gave way to its primary, which happens now and then"),
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => (Reason::Connection, ""),
        _ if code.starts_with("28") => (Reason::Permission, ""),
        _ if code.starts_with("42") => (Reason::Schema, ""),
        _ => (Reason::Data, ""),
    }
}
