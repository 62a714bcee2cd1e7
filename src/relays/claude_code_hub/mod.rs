//! Claude Code Hub, v0.3.31 to v0.9.2: usage in PostgreSQL, live state in Redis.
//!
//! # Layout
//! * `schema`: which version this is; statements cut to fit it.
//! * `ledger`, `row`, `prices`: usage rows. `plans`: what they would cost the database.
//! * `directory`, `limits`: names, limits, settings.
//! * `live`: sessions, slots, circuits.
//! * [`check()`]: what can be read and what cannot, for people. [`UNSUPPORTED`]: what none can tell.
//! * [`least_schema()`]: the least of its schema, for tests and the demo.

mod check;
pub mod demo;
mod directory;
mod least_schema;
mod ledger;
mod limits;
mod live;
mod plans;
mod prices;
mod product;
mod row;
mod schema;
mod statements;
mod unsupported;
mod zone;

use sqlx::Row;

pub(crate) use check::check;
pub use least_schema::{STEPS, least_schema};
pub use product::PRODUCT;
pub(crate) use unsupported::UNSUPPORTED;

use crate::connect::postgres::{Database, Snapshot};
use crate::connect::redis::Redis;
use crate::model::ReadError;
use crate::relay::plan::RelayPlan;
use crate::relay::{LiveState, OpenError, Relay, Usage};
use schema::Schema;
use zone::Zones;

/// Opens the parts of one relay: ledger and directory hold one connection each, live state has its own Redis.
///
/// # Errors
/// When an address cannot be used.
pub(crate) fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let database = || Database::new(&plan.database_url, plan.timeout);
    let zones = Zones::of(plan);
    let live = match &plan.redis_url {
        Some(url) => {
            let live = live::LiveReader::new(Redis::new(url, plan.timeout)?, product::session_ttl(plan));
            Some(Box::new(live) as Box<dyn LiveState>)
        }
        None => None,
    };
    Ok(Relay {
        usage: Usage::Rows(Box::new(ledger::LedgerReader::new(database()?, zones))),
        live,
        directory: Box::new(directory::DirectoryReader::new(database()?, zones)),
    })
}

/// The relay's settings that numbers depend on.
pub(crate) struct Settings {
    pub timezone: Option<String>,
    pub billing_model_source: String,
    pub currency: Option<String>,
    pub sessions_untracked: bool,
}

impl Settings {
    async fn read(snapshot: &mut Snapshot, schema: &Schema) -> Result<Self, ReadError> {
        let what = "reading the relay's settings";
        let rows = snapshot.fetch(what, sqlx::query(schema.fit(include_str!("settings.sql")))).await?;
        // The relay writes its row when an administrator first opens the settings; until then its defaults hold.
        let Some(row) = rows.first() else {
            let billing_model_source = String::from("original");
            return Ok(Self { timezone: None, billing_model_source, currency: None, sessions_untracked: false });
        };
        let read = || {
            Ok(Self {
                timezone: row.try_get("timezone")?,
                billing_model_source: row.try_get("billing_model_source")?,
                currency: row.try_get("currency_display")?,
                sessions_untracked: row.try_get("sessions_untracked")?,
            })
        };
        read().map_err(|error| snapshot.error(what, &error))
    }
}
