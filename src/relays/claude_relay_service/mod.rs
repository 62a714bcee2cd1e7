//! claude-relay-service, v1.1.263 to v1.1.314: everything in Redis, as counters.
//!
//! # Layout
//! * `keys`: the names of its Redis keys, platforms, model names. `clock`: its local dates.
//! * `counters`: a refresh of all that is counted, by way of `reader`, and its checkpoint. `totals`: what is remembered. `rankings`: days
//!   and boards. `events`: failures and durations from its short lists.
//! * `directory`: keys, accounts, limits; `search` finds them where no index names them. `live`: slots, queues, windows, account states.
//! * [`check()`]: what can be read and what cannot, for people. [`UNSUPPORTED`]: what none can tell.

mod check;
mod clock;
mod counters;
pub mod demo;
mod directory;
mod events;
mod keys;
mod live;
mod product;
mod rankings;
mod reader;
mod search;
mod totals;
mod unsupported;

use secrecy::SecretString;

pub use check::check;
pub use clock::Offset;
pub use product::PRODUCT;
pub use unsupported::UNSUPPORTED;

use crate::connect::redis::Redis;
use crate::relay::plan::RelayPlan;
use crate::relay::{OpenError, Relay, Usage};

/// Opens the parts of one relay; each holds one connection.
///
/// # Errors
/// When the address cannot be used.
pub fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    Ok(Relay {
        usage: Usage::Counters(Box::new(counters::CounterReader::new(redis(plan)?, plan))),
        live: Some(Box::new(live::LiveReader::new(redis(plan)?, product::offset(plan)))),
        directory: Box::new(directory::DirectoryReader::new(redis(plan)?, plan)),
    })
}

fn redis(plan: &RelayPlan) -> Result<Redis, OpenError> {
    let nothing = SecretString::from("");
    Redis::new(plan.redis_url.as_ref().unwrap_or(&nothing), plan.timeout)
}
