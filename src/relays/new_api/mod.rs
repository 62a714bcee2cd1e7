//! new-api from 2024-01 on and one-api v0.6.10 and v0.6.11, of which it was made: one row per request in a table of
//! SQLite, PostgreSQL, MySQL or MariaDB.
//!
//! # What is not what it seems
//! * A row is written when its request has ended, and its time is the end, in whole seconds.
//! * Ids become visible out of their order on a server; SQLite gives them out again.
//! * SQLite has no write-ahead log here: whoever reads for long makes the relay lose what it charged for. Statements are
//!   few, short, and bounded by id.
//! * Prompt tokens are with those of the cache or without, as the upstream counts.
//! * The log may be in another database than the rest.
//!
//! # Layout
//! * `schema`: whose database this is; statements cut to fit it. `options`: what a unit of quota is worth.
//! * `ledger`, `slices`: the log, row by row. `row`, `other`: what a row means. `keys`: keys by name, for one-api.
//! * `directory`: users, keys, channels, quotas. `live`, `channel`: the state of channels. `names`: numbers in words.
//! * [`check()`]: what can be read and what cannot, for people. `unsupported`: what none can tell.

mod channel;
mod check;
mod demo;
mod directory;
mod keys;
mod ledger;
mod live;
mod log_database;
mod names;
mod options;
mod other;
mod product;
mod row;
mod schema;
mod slices;
mod unsupported;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tokio::sync::Mutex;

pub use check::check;
pub use product::{NEW_API, ONE_API};

use crate::connect::sql::Database;
use crate::relay::plan::RelayPlan;
use crate::relay::{OpenError, Product, Relay, Usage};

/// The least schema that this relay's reader and its simulator need, for tests and the demo: never applied to a relay's
/// database.
pub const SQLITE_SCHEMA: &str = include_str!("least_schema/sqlite.sql");
/// [`SQLITE_SCHEMA`] for PostgreSQL.
pub const POSTGRES_SCHEMA: &str = include_str!("least_schema/postgres.sql");
/// [`SQLITE_SCHEMA`] for MySQL and MariaDB.
pub const MYSQL_SCHEMA: &str = include_str!("least_schema/mysql.sql");

/// [`SQLITE_SCHEMA`] of one-api.
pub const ONE_API_SCHEMA: &str = include_str!("least_schema/one_api.sql");

/// The longest statement on SQLite: new-api gives up a write after five seconds, one-api after three.
const LONGEST_STATEMENT: Duration = Duration::from_millis(1500);

/// Which of the two programs it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// QuantumNous/new-api.
    NewApi,
    /// songquanpeng/one-api.
    OneApi,
}

impl Family {
    fn of(product: &Product) -> Option<Self> {
        [Self::NewApi, Self::OneApi].into_iter().find(|family| family.label() == product.label)
    }

    const fn label(self) -> &'static str {
        match self {
            Self::NewApi => "new-api",
            Self::OneApi => "one-api",
        }
    }

    /// Types of rows that are read: 2 is a request, 5 a failed attempt, 6 a refund; 5 is a test in one-api.
    const fn types(self) -> &'static str {
        match self {
            Self::NewApi => "2, 5, 6",
            Self::OneApi => "2",
        }
    }

    /// What names a row's key, where no id does.
    const fn token_name(self) -> &'static str {
        match self {
            Self::NewApi => "cast(null as char(1))",
            Self::OneApi => "token_name",
        }
    }
}

/// Tells the time. A SQLite file has no clock of its own; relay and exporter share a machine, and with it one.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

fn database(plan: &RelayPlan, url: &SecretString) -> Result<Database, OpenError> {
    Database::new(url, plan.timeout, LONGEST_STATEMENT)
}

/// Opens the parts of one relay: two connections, one for the log, one that live state and directory share; a third where
/// the log is in a database of its own.
///
/// # Errors
/// When an address cannot be used.
fn open(plan: &RelayPlan, family: Family) -> Result<Relay, OpenError> {
    open_at(plan, family, Arc::new(Utc::now))
}

/// Opens them with another clock for a SQLite file.
///
/// # Errors
/// When an address cannot be used.
pub fn open_at(plan: &RelayPlan, family: Family, clock: Clock) -> Result<Relay, OpenError> {
    let zone = plan.timezone.unwrap_or(plan.timezone_fallback);
    let store = |url: &SecretString| Ok::<_, OpenError>(directory::Store::new(database(plan, url)?, family));
    let (logs, main) = match log_database::log_database_url(plan) {
        Some(url) => (store(url)?, Some(store(&plan.database_url)?)),
        None => (store(&plan.database_url)?, None),
    };
    let shared = Arc::new(Mutex::new(store(&plan.database_url)?));
    Ok(Relay {
        usage: Usage::Rows(Box::new(ledger::LedgerReader::new(family, logs, main, plan, clock))),
        live: Some(Box::new(live::LiveReader::new(Arc::clone(&shared)))),
        directory: Box::new(directory::DirectoryReader::new(shared, family, zone)),
    })
}
