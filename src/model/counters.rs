//! What a relay that keeps only counters says.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{EntityId, FailureClass, Scope, Tokens, Usd};

/// What a relay's counters say at one moment: totals that never fall, events since the reading before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CounterSnapshot {
    /// Start of today by the relay's clock and zone.
    pub day_start: DateTime<Utc>,
    /// Means as on the relay's screen.
    pub requests_per_minute: Option<f64>,
    pub tokens_per_minute: Option<f64>,
    /// Label of the day, requests, cost.
    pub days: Vec<(&'static str, u64, Usd)>,
    pub traffic: Vec<TrafficCounters>,
    /// In an order that is the same for every process: the first of them have series of their own.
    pub keys: Vec<KeyCounters>,
    /// Models in such an order.
    pub models: Vec<Arc<str>>,
    pub rankings: Vec<Ranking>,
    /// Failures since the last reading; 0 for classes of which none has occurred yet.
    pub failures: Vec<(EntityId, FailureClass, u64)>,
    /// Provider, model and milliseconds of requests that have ended since the last reading.
    pub durations: Vec<(EntityId, Arc<str>, u64)>,
    /// Requests since the last reading that left no trace but their count.
    pub missed: u64,
    /// Redis keys (or the like) that were read.
    pub read: u64,
}

/// Successful requests of one provider with one model. What the relay does not keep apart by provider has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficCounters {
    pub provider: Option<EntityId>,
    pub model: Arc<str>,
    pub requests: Option<u64>,
    pub tokens: Tokens,
    pub cost: Option<Usd>,
    /// At the upstream's list prices, before the relay's own rates.
    pub list_cost: Option<Usd>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KeyCounters {
    pub id: EntityId,
    pub requests: u64,
    pub tokens: u64,
    pub cost: Usd,
    pub list_cost: Option<Usd>,
}

/// Everybody who may stand on a leaderboard.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub scope: Scope,
    pub period: &'static str,
    pub entries: Vec<Ranked>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    pub id: EntityId,
    pub cost: Usd,
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}
