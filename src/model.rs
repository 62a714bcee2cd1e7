//! The words of the domain. No I/O, no relay's peculiarities.

mod calendar;
mod counters;
mod directory;
mod entity;
mod ledger_sum;
mod live;
mod read;
mod usage;
mod usd;

pub(crate) use calendar::local_instant;
pub use calendar::{Calendar, CalendarError};
pub use counters::{CounterSnapshot, DayReading, KeyCounters, Ranked, Ranking, TrafficCounters};
pub(crate) use directory::is_address;
pub use directory::{Directory, Key, Limit, LimitKey, Organization, Provider, QuotaWindow, Team, User, WindowRule};
pub use entity::{EntityId, Period, Scope};
pub use ledger_sum::LedgerSum;
pub use live::{
    AccountReturn, AccountState, AccountTest, Balance, Circuit, Collector, ErrorCount, Live, Queue, RateWindow,
    Subscription, SubscriptionStatus, WindowSpend,
};
pub use read::{ReadError, Reason, Source};
pub use usage::{Facts, FailureClass, Outcome, RowKind, Tokens, UsageRow};
pub use usd::Usd;
