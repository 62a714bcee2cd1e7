//! The one place that opens PostgreSQL: one held connection, read-only snapshots, limits on both sides, honest errors.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow, PgSslMode};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection, PgConnection, Postgres};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::tls::{self, Trust};
use super::{Timed, settle};
use crate::connect::address::{Address, Flaw, Host, OpenError, Store};
use crate::model::{ReadError, Reason};

/// How long one connection is used: addresses and roles change behind names.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

const PORT: u16 = 5432;

/// What a URL of PostgreSQL may say after the `?`.
const PARAMETERS: [&str; 15] = [
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslservername",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "options",
    "application_name",
    "connect_timeout",
];

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
                    let held = Held { connection, since: Instant::now(), endpoint: server.endpoint.clone() };
                    return self.begin(held, deadline).await;
                }
                Ok(Err(error)) => read_error(&server.endpoint, "connecting", &error),
                Err(_) => {
                    let text = format!(
                        "connecting to PostgreSQL at {}: no answer within {time:.1?}; check the address and the firewall",
                        server.endpoint
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

/// One server that a URL names.
pub(crate) struct Server {
    options: PgConnectOptions,
    endpoint: String,
    /// The URL's own limit of connecting.
    connect_timeout: Option<Duration>,
    /// TLS of our own, and the host and port to reach.
    tls: Option<(Trust, String, u16)>,
}

impl Server {
    /// `host:port/database`, for people.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let Some((trust, host, port)) = &self.tls else { return PgConnection::connect_with(&self.options).await };
        let mut stream = TcpStream::connect((&**host, *port)).await?;
        tls::request_of_postgres(&mut stream).await?;
        let port = tls::forward(trust.connect(stream).await?).await?;
        let options = self.options.clone().host("127.0.0.1").port(port).ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await
    }
}

/// The servers of a URL of PostgreSQL, in its order.
///
/// # Errors
/// When it is none, or says something that is not understood. The text holds no secret.
pub(crate) fn servers(url: &str) -> Result<Vec<Server>, Flaw> {
    let hint = format!("write it as {}", Store::Postgres.example());
    let address = Address::parse(url).map_err(|flaw| Flaw::new(flaw.what, format!("{hint}; {}", flaw.hint)))?;
    if !Store::Postgres.schemes().contains(&&*address.scheme) {
        return Err(Flaw::new("the URL is not one of PostgreSQL", hint));
    }
    let mut options = match address.parameter("options") {
        // The driver takes them whole from its own URLs only; a password keeps it from looking for one in ~/.pgpass.
        Some(words) => Url::parse_with_params("postgres:", [("password", ""), ("options", words)])
            .ok()
            .and_then(|url| PgConnectOptions::from_url(&url).ok())
            .ok_or_else(|| Flaw::value("options", "-c name=value"))?,
        None => PgConnectOptions::new_without_pgpass(),
    };
    // Poolers refuse start parameters that they do not know.
    options = options.application_name("llm-relay-exporter").extra_float_digits(None).disable_statement_logging();
    let (mut hosts, mut database) = (address.hosts.clone(), address.path.as_str());
    let (mut user, mut password) = (address.user.as_deref(), address.password.as_deref());
    let (mut port, mut connect_timeout) = (None, None);
    let (mut mode, mut trust, mut addresses) = (None, Trust::default(), Vec::new());
    let (mut certificate, mut key) = (None, None);
    for (name, value) in address.parameters() {
        let named = || {
            let port = hosts.first().and_then(|host| host.port);
            value.split(',').map(|host| Host::named(host, port)).collect::<Result<Vec<_>, _>>()
        };
        match name {
            "sslmode" | "ssl" => mode = Some(ssl_mode(name, value)?),
            "sslrootcert" => trust.authorities = Some(value.into()),
            "sslcert" => certificate = Some(value.into()),
            "sslkey" => key = Some(value.into()),
            "sslservername" => trust.name = Some(value.to_owned()),
            "host" => hosts = named()?,
            // Of libpq: where to connect to, while the certificate is that of `host`.
            "hostaddr" => addresses = named()?,
            "port" => port = Some(value.parse().map_err(|_| Flaw::value(name, "a port"))?),
            "dbname" => database = value,
            "user" => user = Some(value),
            "password" => password = Some(value),
            "options" => {}
            "application_name" => options = options.application_name(value),
            "connect_timeout" => {
                let seconds = value.parse().map_err(|_| Flaw::value(name, "whole seconds"))?;
                // Of libpq, 0 is no limit.
                connect_timeout = Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero());
            }
            _ => return Err(Address::unknown(name, &PARAMETERS)),
        }
    }
    if let Some(user) = user {
        options = options.username(user);
    }
    if let Some(password) = password {
        options = options.password(password);
    }
    if !database.is_empty() {
        options = options.database(database);
    }
    if let Some(path) = &trust.authorities {
        let is_system = path == Path::new(tls::SYSTEM);
        if is_system && mode.is_some_and(|mode| !matches!(mode, PgSslMode::VerifyFull)) {
            return Err(Flaw::value("sslmode", "verify-full, with sslrootcert=system"));
        }
        if is_system {
            mode = Some(PgSslMode::VerifyFull);
        } else {
            options = options.ssl_root_cert(path);
        }
    }
    if let (Some(certificate), Some(key)) = (&certificate, &key) {
        let (certificate, key): (&PathBuf, &PathBuf) = (certificate, key);
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    trust.client = certificate.zip(key);
    options = options.ssl_mode(mode.unwrap_or(PgSslMode::Prefer));
    if !addresses.is_empty() && addresses.len() != hosts.len() {
        return Err(Flaw::value("hostaddr", "one address for each host"));
    }
    let verifies = matches!(mode, Some(PgSslMode::VerifyCa | PgSslMode::VerifyFull));
    let names_server = trust.name.is_some() || !addresses.is_empty();
    let own_tls = verifies && (trust.authorities.is_some() || names_server);
    let server = |(index, mut host): (usize, Host)| {
        let name = trust.name.clone().unwrap_or_else(|| host.name.clone());
        if let Some(address) = addresses.get(index) {
            host.name.clone_from(&address.name);
        }
        host.port = port.or(host.port).or(Some(PORT));
        if host.name.is_empty() {
            // A socket where there is one, as libpq does.
            host.name = options.get_host().to_owned();
        }
        let endpoint = format!("{}{}", host.with_port(PORT), address.shown(database));
        let options = options.clone().port(host.port.unwrap_or(PORT));
        let options = if host.is_socket() { options.socket(&host.name) } else { options.host(&host.name) };
        let name = Some(name).filter(|_| matches!(mode, Some(PgSslMode::VerifyFull)));
        let tls = (own_tls && !host.is_socket())
            .then(|| (Trust { name, ..trust.clone() }, host.name.clone(), host.port.unwrap_or(PORT)));
        Server { options, endpoint, connect_timeout, tls }
    };
    Ok(hosts.iter().cloned().enumerate().map(server).collect())
}

/// libpq's words for TLS, and those of JDBC and node-postgres that it takes as well.
fn ssl_mode(name: &str, value: &str) -> Result<PgSslMode, Flaw> {
    match value {
        "true" | "1" if name == "ssl" => Ok(PgSslMode::Require),
        "false" | "0" if name == "ssl" => Ok(PgSslMode::Disable),
        "no-verify" => Ok(PgSslMode::Require),
        _ => value.parse().map_err(|_| Flaw::value(name, "disable, allow, prefer, require, verify-ca, verify-full")),
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
