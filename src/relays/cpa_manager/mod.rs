//! CPA-Manager v1.0 to v1.3 and CPA-Manager-Plus up to v1.12: the monitors of CLIProxyAPI, usage in one SQLite file.
//!
//! The proxy itself keeps its usage for a minute in a queue; reading that would take it from the manager. Only the
//! manager's file is read.
//!
//! # Layout
//! * `schema`: which generation this is; statements cut to fit it.
//! * `ledger`, `row`, `prices`: usage rows, priced as they are read.
//! * `directory`: credentials and client keys, as the ledger and the aliases name them.
//! * `live`: quota windows, cooldowns, the collector.
//! * [`check()`]: what can be read and what cannot, for people. [`UNSUPPORTED`]: what none can tell.
//! * [`least_schema()`]: the least of its schema, for tests and the demo.

mod check;
mod demo;
mod directory;
mod identity;
mod least_schema;
mod ledger;
mod live;
mod prices;
mod product;
mod row;
mod schema;
mod unsupported;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use check::check;
pub use identity::{key_id, provider_id};
pub use least_schema::least_schema;
pub use product::PRODUCT;
pub use schema::Level;
pub use unsupported::UNSUPPORTED;

use crate::connect::sqlite::File;
use crate::relay::plan::RelayPlan;
use crate::relay::{OpenError, Relay, Usage};

/// Tells the time. The file has no clock of its own; relay and exporter share a machine, and with it one.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Opens the parts of one relay.
///
/// # Errors
/// When the address cannot be used.
pub fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    open_at(plan, Arc::new(Utc::now))
}

/// Like [`open`], with another clock.
///
/// # Errors
/// When the address cannot be used.
pub fn open_at(plan: &RelayPlan, clock: Clock) -> Result<Relay, OpenError> {
    let file = || file(plan);
    let zone = plan.timezone.unwrap_or(plan.timezone_fallback);
    Ok(Relay {
        usage: Usage::Rows(Box::new(ledger::LedgerReader::new(file()?, zone, Arc::clone(&clock)))),
        live: Some(Box::new(live::LiveReader::new(file()?, clock))),
        directory: Box::new(directory::DirectoryReader::new(file()?, zone)),
    })
}

/// The relay's file. It has a write-ahead log; without one, statements would have to be as short as the patience of the
/// relay's writes, five seconds (Plus v1.12.2 `internal/repository/sqlite/db.go`).
fn file(plan: &RelayPlan) -> Result<File, OpenError> {
    File::new(&plan.database_url, plan.timeout, Duration::from_secs(3))
}
