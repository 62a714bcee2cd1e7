//! gemini-balance v2.2 (checked with v2.2.8): one row per upstream attempt in MySQL, MariaDB or SQLite.
//!
//! # What is not what it seems
//! * Times are naive: of the relay process's clock in its own zone, which the store does not name.
//! * Ids are in the order of completion, times are of the start. SQLite gives ids out again.
//! * Keys stand in clear. MySQL hashes them before they leave it; of SQLite, each is hashed as it is read.
//! * A reader that keeps SQLite's file locked makes the relay lose rows: statements here are few, short, and bounded by
//!   id, for no other column has an index.
//!
//! # Layout
//! * `store`: the engines, behind statements that say what they want.
//! * `attempt`: a row. `clock`: naive times.
//! * `ledger`: attempts in our words.
//! * `live`: key health. `error_log`: its counts. `directory`: the keys.
//! * [`check()`]: what can be read and what cannot, for people. [`UNSUPPORTED`]: what none can tell.

mod attempt;
mod check;
mod clock;
pub mod demo;
mod directory;
mod error_log;
mod ledger;
mod live;
mod product;
mod store;
mod unsupported;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

pub use check::check;
pub use product::PRODUCT;
pub use unsupported::UNSUPPORTED;

use crate::connect::sql::Database;
use crate::relay::plan::RelayPlan;
use crate::relay::{LiveState, OpenError, Relay, Usage};
use clock::Clock;
use error_log::ErrorLog;

/// The least schema that this relay's reader and its simulator need, for tests and the demo: never applied to a relay's
/// database.
pub const MYSQL_SCHEMA: &str = include_str!("least_schema/mysql.sql");
/// [`MYSQL_SCHEMA`] for SQLite.
pub const SQLITE_SCHEMA: &str = include_str!("least_schema/sqlite.sql");

/// The relay's only upstream: the store does not tell Gemini from Vertex.
const PROVIDER: i64 = 1;

/// The longest statement on SQLite. The relay gives up a write after five seconds: it opens the file with Python's default
/// (v2.2.8 `app/database/connection.py`).
const LONGEST_STATEMENT: Duration = Duration::from_secs(3);

fn database(plan: &RelayPlan) -> Result<Database, OpenError> {
    Database::new(&plan.database_url, plan.timeout, LONGEST_STATEMENT)
}

/// Opens the parts of one relay: two connections, one for the ledger, one that live state and directory share.
///
/// # Errors
/// When the address cannot be used.
pub fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let clock = Clock::new(plan);
    let shared = Arc::new(Mutex::new(database(plan)?));
    let error_log = ErrorLog::default();
    Ok(Relay {
        usage: Usage::Rows(Box::new(ledger::LedgerReader::new(database(plan)?, clock, error_log.clone()))),
        live: Some(Box::new(live::LiveReader::new(Arc::clone(&shared), error_log)) as Box<dyn LiveState>),
        directory: Box::new(directory::DirectoryReader::new(shared, clock)),
    })
}
