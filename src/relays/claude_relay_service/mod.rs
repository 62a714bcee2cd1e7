//! claude-relay-service, v1.1.263 to v1.1.314: everything in Redis, as counters.
//!
//! # Layout
//! * `keys`: the names of its Redis keys, platforms, model names. `clock`: its local dates; `zone`: whether
//!   they are those of the configuration.
//! * `counters`: a refresh of all that is counted, by way of `reader`, and its checkpoint. `totals`: what is remembered. `rankings`: days
//!   and boards. `events`: failures and durations from its short lists.
//! * `directory`: keys, accounts, limits; `search` finds them where no index names them. `live`: slots, queues, and the `windows` of keys; `accounts`:
//!   their states and subscriptions.
//! * [`check()`]: what can be read and what cannot, for people. [`UNSUPPORTED`]: what none can tell.

mod accounts;
mod check;
mod clock;
mod counters;
mod days;
pub mod demo;
mod directory;
mod events;
mod keys;
mod live;
mod product;
mod rankings;
mod reader;
mod search;
mod settings;
mod totals;
mod unsupported;
mod windows;
mod zone;

use secrecy::SecretString;
use windows::Windows;
use zone::Zone;

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
    let (zone, windows) = (Zone::new(settings::offset(plan)), Windows::default());
    Ok(Relay {
        usage: Usage::Counters(Box::new(counters::CounterReader::new(redis(plan)?, plan, zone.clone()))),
        live: Some(Box::new(live::LiveReader::new(redis(plan)?, zone, windows.clone()))),
        directory: Box::new(directory::DirectoryReader::new(redis(plan)?, plan, windows)),
    })
}

fn redis(plan: &RelayPlan) -> Result<Redis, OpenError> {
    let nothing = SecretString::from("");
    Redis::new(plan.redis_url.as_ref().unwrap_or(&nothing), plan.timeout)
}
