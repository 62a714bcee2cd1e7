//! sub2api, 0.1.104 to 0.1.179: usage in PostgreSQL, slots in Redis.
//!
//! # What is not what it seems
//! * A row is written when its request has ended, and its time is the end.
//! * A request that failed is in another table, which its operations pages add to the requests and its dashboards do not.
//! * One that broke off after tokens were used is in both: its dashboards count one request, its operations pages a success and
//!   an error, and so do the metrics that follow them.
//! * Its own daily totals are wrong where the zone is half an hour from UTC's hours: they are not read.
//!
//! # Layout
//! * `schema`: which release this is; statements cut to fit it. `zone`: where its days begin.
//! * `ledger`, `errors`, `row`: both tables, row by row.
//! * `directory`, `limits`: users, keys, accounts, and their limits. `windows`: what an account's `extra` tells of them.
//! * `live`: states of accounts, refused requests, slots.
//! * [`check()`]: what can be read and what cannot, for people. `unsupported`: what none can tell.

mod check;
mod demo;
mod directory;
mod errors;
mod least_schema;
mod ledger;
mod limits;
mod live;
mod product;
mod row;
mod schema;
mod unsupported;
mod windows;
mod zone;

use std::sync::Arc;

use tokio::sync::Mutex;

pub use check::check;
pub use least_schema::{READONLY_ROLE, STEPS};
pub use product::PRODUCT;

use crate::connect::postgres::Database;
use crate::connect::redis::Redis;
use crate::relay::known_database::KnownDatabase;
use crate::relay::plan::RelayPlan;
use crate::relay::{OpenError, Relay, Usage};
use zone::Zones;

/// Opens the parts of one relay: two connections, one for the rows, one that live state and directory share, and one to
/// Redis where it is configured.
///
/// # Errors
/// When an address cannot be used.
fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let database = || Database::new(&plan.database_url, plan.timeout);
    let zones = Zones::of(plan);
    let shared = Arc::new(Mutex::new(KnownDatabase::new(database()?)));
    let redis = plan.redis_url.as_ref().map(|url| Redis::new(url, plan.timeout)).transpose()?;
    Ok(Relay {
        usage: Usage::Rows(Box::new(ledger::LedgerReader::new(database()?, zones))),
        live: Some(Box::new(live::LiveReader::new(Arc::clone(&shared), redis, product::slot_ttl(plan)))),
        directory: Box::new(directory::DirectoryReader::new(shared, zones)),
    })
}
