//! The one place that opens a relay's MySQL or MariaDB.
//!
//! A snapshot is a read-only transaction of InnoDB's: it sees one moment and makes no writer wait.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySql, MySqlConnection, Row};

use super::session;
use crate::connect::address::{Address, Flaw, OpenError, Store};
use crate::connect::tls;
use crate::model::Reason;

const PORT: u16 = 3306;

/// What a URL of MySQL may say after the `?`.
const PARAMETERS: [&str; 7] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "charset", "collation", "socket"];

/// A relay's database.
pub type Database = session::Database<Server>;
/// One consistent view of it.
pub type Snapshot = session::Snapshot<Server>;

/// The server that a URL names.
pub struct Server {
    options: MySqlConnectOptions,
    endpoint: String,
    account: String,
}

impl Database {
    /// `limit` is the client's limit of one snapshot, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of MySQL's.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self::of(vec![server(url.expose_secret())?], limit))
    }
}

impl session::Server for Server {
    type Database = MySql;

    const PRODUCT: &'static str = "MySQL";
    const TLS_HINT: &'static str = "check `ssl-mode` and `ssl-ca` in the URL";
    const BEGIN: &'static str = "start transaction with consistent snapshot, read only";
    // Nothing was written, so there is nothing to commit.
    const END: &'static str = "rollback";
    // Closing a statement has no answer, and the next one then waits 40 ms for the server to acknowledge it.
    const KEEPS_STATEMENTS: bool = true;

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn account(&self) -> &str {
        &self.account
    }

    async fn connect(&self, limit: Duration) -> Result<MySqlConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let version: String = connection.fetch_one("select version()").await?.try_get(0)?;
        let statement = session::statement_limit(limit);
        let statement = if version.contains("MariaDB") {
            format!("max_statement_time = {:.3}", statement.as_secs_f64())
        } else {
            format!("max_execution_time = {}", statement.as_millis().max(1))
        };
        // A snapshot whose host has gone holds locks for which the relay's migrations wait, and all who come after these.
        // What stands in the comment is for MariaDB from 10.3 on.
        let (session, transaction) = (limit.as_secs() + 60, limit.as_secs().max(1));
        let limits = format!(
            "set session {statement}, session lock_wait_timeout = 1, session wait_timeout = {session}
               /*M!100300 , session idle_readonly_transaction_timeout = {transaction} */;
             set session transaction isolation level repeatable read"
        );
        connection.execute(sqlx::raw_sql(AssertSqlSafe(limits))).await?;
        Ok(connection)
    }

    fn refusal(error: &dyn DatabaseError) -> (Reason, String) {
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
        let (reason, hint) = meaning(number);
        // Messages of other errors may quote a value.
        let message = match number {
            // They quote the account, which may be a password in the wrong place.
            1044 | 1045 | 1698 => "user or password refused",
            _ if hint.is_empty() => "refused",
            _ => error.message(),
        };
        (reason, format!("{message} ({number}){hint}"))
    }
}

/// The server that a URL of MySQL or MariaDB names.
///
/// # Errors
/// When it is none, names no database, or says something that is not understood. The text holds no secret.
pub(crate) fn server(url: &str) -> Result<Server, Flaw> {
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
    let mut encryption = Encryption::default();
    for (name, value) in address.parameters() {
        options = match name {
            "ssl-mode" | "sslmode" | "ssl-ca" | "sslca" | "ssl-cert" | "sslcert" | "ssl-key" | "sslkey" => {
                encryption.take(name, value)?;
                options
            }
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
    options = encryption.apply(options)?;
    Ok(Server { options: options.disable_statement_logging(), endpoint, account: account.to_owned() })
}

/// What a URL says of TLS.
#[derive(Default)]
struct Encryption {
    mode: MySqlSslMode,
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Encryption {
    fn take(&mut self, name: &str, value: &str) -> Result<(), Flaw> {
        let words = "DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY";
        match name {
            "ssl-ca" | "sslca" => self.authorities = Some(value.into()),
            "ssl-cert" | "sslcert" => self.certificate = Some(value.into()),
            "ssl-key" | "sslkey" => self.key = Some(value.into()),
            _ => self.mode = value.parse().map_err(|_| Flaw::value(name, words))?,
        }
        Ok(())
    }

    /// # Errors
    /// When something that was asked for would have no effect.
    fn apply(self, mut options: MySqlConnectOptions) -> Result<MySqlConnectOptions, Flaw> {
        let idle = |name, wanted| Flaw::idle(name, "ssl-mode", wanted);
        if let Some(path) = self.authorities {
            if !matches!(self.mode, MySqlSslMode::VerifyCa | MySqlSslMode::VerifyIdentity) {
                return Err(idle("ssl-ca", "ssl-mode=VERIFY_IDENTITY, or VERIFY_CA to leave the name out"));
            }
            options = options.ssl_ca(path);
        }
        if let Some((certificate, key)) = tls::client(["ssl-cert", "ssl-key"], self.certificate, self.key)? {
            if matches!(self.mode, MySqlSslMode::Disabled) {
                return Err(idle("ssl-cert", "ssl-mode=VERIFY_IDENTITY, or REQUIRED to believe any server"));
            }
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        Ok(options.ssl_mode(self.mode))
    }
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
