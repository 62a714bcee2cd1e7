//! LiteLLM, 1.80 to 1.110: one row for each answered request in PostgreSQL.
//!
//! # What is not what it seems
//! * A row has no number. It appears up to half a minute after its request has ended, after an outage hours later, and is
//!   found by its start.
//! * A request id is the upstream's: where two requests have one, the second leaves no row.
//! * Prompt tokens are with those of the cache. All times are UTC without saying so.
//! * A budget's spending is of the window before until a job has set it back.
//!
//! # Layout
//! * `positions`: a position for each row. `ledger`, `past`, `statements`, `row`: the rows. `deployments`: the upstreams that they name.
//! * `directory`, `budget`: names and budgets. `live`: health checks. `identity`: numbers for texts, names without addresses.
//! * `daily`, `day`: LiteLLM's own counters in the place of rows. `missed`: these held against the rows. `schema`: which tables and columns there are.
//! * [`check()`]: what can be read and what cannot, for people. `unsupported`: what none can tell.

mod budget;
mod check;
mod daily;
mod day;
mod demo;
mod deployments;
mod directory;
pub mod identity;
mod ledger;
mod live;
mod missed;
mod past;
mod positions;
mod product;
mod row;
mod schema;
mod statements;
mod unsupported;

use std::sync::Arc;

use tokio::sync::Mutex;

pub use check::check;
pub use product::PRODUCT;

use crate::connect::postgres::Database;
use crate::relay::known_database::KnownDatabase;
use crate::relay::plan::RelayPlan;
use crate::relay::shared_names::SharedNames;
use crate::relay::{OpenError, Relay, Usage};
use row::RowReader;

/// The least schema that this relay's reader and its simulator need, for tests and the demo: never applied to a relay's
/// database.
pub const LEAST_SCHEMA: &str = include_str!("least_schema.sql");

/// Which of its two names a request's model goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ModelName {
    /// The public one, that clients ask for.
    #[default]
    Group,
    /// The one that was sent upstream.
    Sent,
}

impl ModelName {
    const fn label(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Sent => "model",
        }
    }
}

/// The setting of where usage comes from.
const USAGE_PATH: &str = "usage";

/// Whether usage is read from LiteLLM's own counters by day.
fn counts_days(plan: &RelayPlan) -> bool {
    plan.own.text(USAGE_PATH) == "days"
}

/// Opens the parts of one relay: two connections, one for the rows, one that live state and directory share.
///
/// # Errors
/// When an address cannot be used.
fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let database = || Database::new(&plan.database_url, plan.timeout);
    let deployments = deployments::Deployments::default();
    let shared = Arc::new(Mutex::new(KnownDatabase::new(database()?)));
    let model = product::model_name(plan);
    let usage = if counts_days(plan) {
        Usage::Counters(Box::new(daily::DailyReader::new(database()?, model, deployments.clone(), plan)))
    } else {
        let rows = RowReader { model, names: SharedNames::default(), deployments: deployments.clone() };
        Usage::Rows(Box::new(ledger::LedgerReader::new(database()?, rows)))
    };
    Ok(Relay {
        usage,
        live: Some(Box::new(live::LiveReader::new(Arc::clone(&shared)))),
        directory: Box::new(directory::DirectoryReader::new(shared, deployments)),
    })
}
