//! The one place that opens PostgreSQL.

mod server;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, Row};

use super::session;
use crate::connect::address::OpenError;
use crate::model::Reason;
pub use server::Server;
pub(crate) use server::servers;

/// A relay's database.
pub type Database = session::Database<Server>;
/// One consistent view of it.
pub type Snapshot = session::Snapshot<Server>;

impl Database {
    /// `limit` is the client's limit of one snapshot, connecting included.
    ///
    /// # Errors
    /// When the URL is not one of PostgreSQL's.
    pub fn new(url: &SecretString, limit: Duration) -> Result<Self, OpenError> {
        Ok(Self::of(servers(url.expose_secret())?, limit))
    }
}

impl session::Server for Server {
    type Database = Postgres;

    const PRODUCT: &'static str = "PostgreSQL";
    const TLS_HINT: &'static str = "check `sslmode`, `sslrootcert`, `sslcert` and `sslkey` in the URL";
    const BEGIN: &'static str = include_str!("postgres/begin.sql");
    const END: &'static str = include_str!("postgres/end.sql");
    // A pooler in transaction mode may give the next transaction to another server process.
    const KEEPS_STATEMENTS: bool = false;

    fn endpoint(&self) -> &str {
        self.endpoint()
    }

    fn account(&self) -> &str {
        self.options.get_username()
    }

    fn connect_timeout(&self) -> Option<Duration> {
        self.connect_timeout
    }

    async fn connect(&self, _limit: Duration) -> Result<PgConnection, sqlx::Error> {
        self.connect().await
    }

    fn limits(limit: Duration) -> Option<Query<'static, Postgres, PgArguments>> {
        let statement = session::statement_limit(limit);
        let millis = |limit: Duration| format!("{}ms", limit.as_millis().max(1));
        let limits = sqlx::query(include_str!("postgres/limits.sql"));
        // Much shorter than PostgreSQL's `deadlock_timeout` of a second: of two that wait for each other, a migration of the
        // relay and we, it is then we who give up.
        let lock = statement.min(Duration::from_millis(200));
        Some(limits.bind(millis(statement)).bind(millis(lock)).bind(millis(limit)))
    }

    fn refusal(error: &dyn DatabaseError) -> (Reason, String) {
        let code = error.code().unwrap_or_default();
        let (reason, hint) = meaning(&code);
        // Messages of other classes may quote a value.
        let quotes_no_value =
            ["08", "0A", "25", "28", "3D", "40", "42", "53", "55", "57"].contains(&code.get(..2).unwrap_or(""));
        let message = if quotes_no_value { words(error) } else { "refused" };
        (reason, format!("{message} ({code}){hint}"))
    }
}

/// The server's words, but for those that quote the user, which may be a password in the wrong place.
pub(crate) fn words(error: &dyn DatabaseError) -> &str {
    match error.code() {
        Some(code) if code.starts_with("28") => refused_login(error.message()),
        _ => error.message(),
    }
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

/// One entity that cannot be understood does not take the others with it.
pub(crate) fn understood<T>(entity: &str, row: &PgRow, result: Result<T, sqlx::Error>) -> Option<T> {
    result
        .inspect_err(|error| {
            let id: Option<i64> = row.try_get("id").ok();
            tracing::warn!(entity, id, %error, "left out an entity that could not be understood");
        })
        .ok()
}
