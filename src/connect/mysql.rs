//! The one place that opens a relay's MySQL or MariaDB: one held connection, read-only snapshots, limits on both sides,
//! honest errors.
//!
//! A snapshot is a read-only transaction of InnoDB's: it sees one moment and makes no writer wait.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySql, MySqlConnection, Row};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Timed, settle};
use crate::connect::address::{Address, Flaw, OpenError, Store};
use crate::model::{ReadError, Reason};

/// How long one connection is used: addresses and accounts change behind names.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

const PORT: u16 = 3306;

/// What a URL of MySQL may say after the `?`.
const PARAMETERS: [&str; 7] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "charset", "collation", "socket"];

/// A relay's database. Holds at most one connection, opened by the first snapshot.
pub struct Database {
    options: MySqlConnectOptions,
    /// `host:port/database`, for people.
    endpoint: String,
    account: String,
    limit: Duration,
    idle: Option<Held>,
}

struct Held {
    connection: MySqlConnection,
    since: Instant,
}

impl Database {
    /// `limit` is the client's limit of one snapshot, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of MySQL's.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        let (options, endpoint, account) = options(url.expose_secret())?;
        Ok(Self { options, endpoint, account, limit, idle: None })
    }

    /// `host:port/database`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
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
        let connecting = timeout_at(deadline, self.connect()).await;
        let connection = match connecting {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(read_error(&self.endpoint, "connecting", &error)),
            Err(_) => {
                let text = format!(
                    "connecting to MySQL at {}: no answer within {:?}; check the address and the firewall",
                    self.endpoint, self.limit
                );
                return Err(ReadError::new(Reason::Timeout, text));
            }
        };
        self.begin(Held { connection, since: Instant::now() }, deadline).await
    }

    /// A query whose client has gone runs on until the server stops it, so the server's limit is the shorter one.
    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let version: String = connection.fetch_one("select version()").await?.try_get(0)?;
        let limit = self.limit.mul_f64(0.9);
        let limit = if version.contains("MariaDB") {
            format!("max_statement_time = {:.3}", limit.as_secs_f64())
        } else {
            format!("max_execution_time = {}", limit.as_millis().max(1))
        };
        let limits = format!(
            "set session {limit}, session lock_wait_timeout = 1; set session transaction isolation level repeatable read"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(limits))).await?;
        Ok(connection)
    }

    async fn begin(&self, held: Held, deadline: Instant) -> Result<Snapshot, ReadError> {
        let mut snapshot =
            Snapshot { held, endpoint: self.endpoint.clone(), deadline, limit: self.limit, usable: true };
        snapshot.execute("beginning", "start transaction with consistent snapshot, read only").await?;
        Ok(snapshot)
    }

    /// Ends a snapshot and keeps its connection for the next one when it is still good.
    pub async fn finish(&mut self, mut snapshot: Snapshot) {
        if !snapshot.usable {
            return;
        }
        snapshot.deadline = snapshot.deadline.max(Instant::now() + Duration::from_secs(1));
        // Nothing was written, so there is nothing to commit.
        if snapshot.execute("ending", "rollback").await.is_ok() {
            self.idle = Some(snapshot.held);
        }
    }

    /// Says goodbye to the server; without it the server only notices that the peer has gone.
    pub(crate) async fn close(&mut self) {
        if let Some(held) = self.idle.take() {
            // The peer may be gone already.
            let _ = timeout(Duration::from_secs(1), held.connection.close()).await;
        }
    }
}

/// One consistent view of the store.
pub struct Snapshot {
    held: Held,
    endpoint: String,
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
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Vec<MySqlRow>, ReadError> {
        let result = timeout_at(self.deadline, query.persistent(false).fetch_all(&mut self.held.connection)).await;
        self.settle(what, result)
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
                    "{what} from MySQL at {}: not done within {:?}; raise `timeout`, or see `check`",
                    self.endpoint, self.limit
                );
                ReadError::new(Reason::Timeout, text)
            }
        })
    }

    /// An error of this store in the words of the log.
    pub(crate) fn error(&self, what: &str, error: &sqlx::Error) -> ReadError {
        read_error(&self.endpoint, what, error)
    }
}

/// What a URL of MySQL or MariaDB says: the options, `host:port/database` or `socket/database`, and the account.
///
/// # Errors
/// When it is none, names no database, or says something that is not understood. The text holds no secret.
pub(crate) fn options(url: &str) -> Result<(MySqlConnectOptions, String, String), Flaw> {
    let hint = || format!("write it as {}", Store::MySql.example());
    let address = Address::parse(url)?;
    if !Store::MySql.schemes().contains(&&*address.scheme) {
        return Err(Flaw::new("the URL is not one of MySQL or MariaDB", hint()));
    }
    let [host] = address.hosts.as_slice() else {
        return Err(Flaw::new("the URL lists several hosts", hint()));
    };
    if address.path.is_empty() {
        return Err(Flaw::new("the URL names no database", hint()));
    }
    let account = address.user.as_deref().unwrap_or_default();
    let mut options = MySqlConnectOptions::new().port(host.port.unwrap_or(PORT)).database(&address.path);
    let mut endpoint = host.with_port(PORT);
    options = match &*host.name {
        "" => options,
        _ if host.is_socket() => options.socket(&host.name),
        name => options.host(name),
    };
    if !account.is_empty() {
        options = options.username(account);
    }
    if let Some(password) = &address.password {
        options = options.password(password);
    }
    for (name, value) in address.parameters() {
        options = match name {
            "ssl-mode" | "sslmode" => {
                let words = "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";
                options.ssl_mode(value.parse().map_err(|_| Flaw::value(name, words))?)
            }
            "ssl-ca" | "sslca" => options.ssl_ca(value),
            "ssl-cert" | "sslcert" => options.ssl_client_cert(value),
            "ssl-key" | "sslkey" => options.ssl_client_key(value),
            "charset" => options.charset(value),
            "collation" => options.collation(value),
            "socket" if value.starts_with('/') => {
                value.clone_into(&mut endpoint);
                options.socket(value)
            }
            "socket" => return Err(Flaw::value(name, "an absolute path")),
            _ => return Err(Address::unknown(name, &PARAMETERS)),
        };
    }
    let endpoint = format!("{endpoint}{}", address.shown(&address.path));
    Ok((options.disable_statement_logging(), endpoint, account.to_owned()))
}

/// What went wrong, where, and what to do. Names no value that was read and no secret.
fn read_error(endpoint: &str, what: &str, error: &sqlx::Error) -> ReadError {
    let at = format!("{what}: MySQL at {endpoint}");
    let (reason, text) = match error {
        sqlx::Error::Database(refusal) => {
            let number = refusal.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map_or(0, |it| it.number());
            let (reason, hint) = meaning(number);
            // Messages of other errors may quote a value.
            let message = match number {
                // They quote the account, which may be a password in the wrong place.
                1044 | 1045 | 1698 => "user or password refused",
                _ if hint.is_empty() => "refused",
                _ => refusal.message(),
            };
            (reason, format!("{at}: {message} ({number}){hint}"))
        }
        sqlx::Error::Io(error) => {
            (Reason::Connection, format!("{at}: {error}; check that it runs and that the address is right"))
        }
        sqlx::Error::Tls(error) => (Reason::Connection, format!("{at}: TLS: {error}; check `ssl-mode` and `ssl-ca`")),
        sqlx::Error::ColumnDecode { index, source } => (Reason::Data, format!("{at}: column {index}: {source}")),
        sqlx::Error::ColumnNotFound(column) => (Reason::Data, format!("{at}: no column {column} in the answer")),
        sqlx::Error::RowNotFound => (Reason::Data, format!("{at}: no row in the answer")),
        sqlx::Error::Protocol(_) => {
            (Reason::Connection, format!("{at}: an answer that is not MySQL's; check host and port"))
        }
        _ => (Reason::Connection, format!("{at}: the connection cannot be used; check the URL")),
    };
    ReadError::new(reason, text)
}

/// The class of a server's error number and what to do about it.
fn meaning(number: u16) -> (Reason, &'static str) {
    match number {
        // Statement time of MySQL, of MariaDB; killed.
        3024 | 1969 | 1317 => (Reason::Timeout, "; raise `timeout`, or see `check`"),
        1205 => (Reason::Timeout, "; a lock is held on the table, perhaps by a migration"),
        1142 | 1143 | 1227 => (Reason::Permission, "; grant what docs/relays.md names"),
        1044 | 1045 | 1698 => (Reason::Permission, "; check user, password and host of the account"),
        1049 => (Reason::Connection, "; check the database name of the URL"),
        1146 | 1054 | 1305 => (Reason::Schema, "; is this the relay's database, in a version that is supported?"),
        1040 | 1203 | 1226 => (Reason::Connection, "; the server has no connection left"),
        1053 => (Reason::Connection, "; the server is shutting down"),
        _ => (Reason::Data, ""),
    }
}
