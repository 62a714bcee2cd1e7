//! What a relay that keeps only counters says.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{EntityId, FailureClass, Period, Scope, Tokens, Usd};

/// What a relay's counters say at one moment: totals that never fall, events since the reading before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CounterSnapshot {
    /// The share of what the relay has that has been read; below 1 only the means, and events, are told.
    pub loaded: f64,
    /// Start of today by the relay's clock and zone; `None` where these are not known.
    pub day_start: Option<DateTime<Utc>>,
    /// Means as on the relay's screen.
    pub requests_per_minute: Option<f64>,
    /// Tokens of all types, a mean like [`Self::requests_per_minute`].
    pub tokens_per_minute: Option<f64>,
    /// Today and yesterday.
    pub days: Vec<DayReading>,
    /// Totals since the relay counts.
    pub traffic: Vec<TrafficCounters>,
    /// In an order that is the same for every process: the first of them have series of their own.
    pub keys: Vec<KeyCounters>,
    /// Users like keys; empty where the relay does not count by user. So the next two.
    pub users: Vec<KeyCounters>,
    /// Teams like keys.
    pub teams: Vec<KeyCounters>,
    /// Organizations like keys.
    pub organizations: Vec<KeyCounters>,
    /// Models in such an order.
    pub models: Vec<Arc<str>>,
    /// One for each scope and period that the relay ranks.
    pub rankings: Vec<Ranking>,
    /// Failures since the last reading; 0 for classes of which none has occurred yet.
    pub failures: Vec<(EntityId, FailureClass, u64)>,
    /// Provider, model and milliseconds of requests that have ended since the last reading.
    pub durations: Vec<(EntityId, Arc<str>, u64)>,
    /// What was spent by provider since the last reading, as far as single requests are known.
    pub spent: Vec<(EntityId, Usd)>,
    /// Requests since the last reading that left no trace but their count; `None` where single requests are not known.
    pub missed: Option<u64>,
    /// Redis keys (or the like) that were read.
    pub read: u64,
}

/// Requests and money of a day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DayReading {
    /// `today` or `yesterday`.
    pub day: &'static str,
    /// As the relay's screen counts them: successful ones alone where it knows no others.
    pub requests: u64,
    /// Those of them that failed; `None` where the relay does not count errors.
    pub errors: Option<u64>,
    /// In US dollars, at the relay's own rates.
    pub cost: Usd,
    /// At the upstream's list prices; `None` where these are not known.
    pub list_cost: Option<Usd>,
}

/// Successful requests of one provider with one model. What the relay does not keep apart by provider has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficCounters {
    /// `None` where the relay does not keep it apart by provider.
    pub provider: Option<EntityId>,
    /// As the relay counts it, or `other`.
    pub model: Arc<str>,
    /// `None` where the relay counts only tokens and cost.
    pub requests: Option<u64>,
    /// Of these requests.
    pub tokens: Tokens,
    /// At the relay's own rates; `None` where it is not kept.
    pub cost: Option<Usd>,
    /// At the upstream's list prices, before the relay's own rates.
    pub list_cost: Option<Usd>,
}

/// Requests of one key, or of another who spends, since the relay counts.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyCounters {
    /// The id in the directory; the number 0 is nobody's.
    pub id: EntityId,
    /// Those that succeeded where the relay counts no others.
    pub requests: u64,
    /// Of all types.
    pub tokens: u64,
    /// At the relay's own rates.
    pub cost: Usd,
    /// At the upstream's list prices; `None` where it is not kept.
    pub list_cost: Option<Usd>,
}

/// Everybody who may stand on a leaderboard.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// Who or what is ranked.
    pub scope: Scope,
    /// Its span.
    pub period: Period,
    /// In any order.
    pub entries: Vec<Ranked>,
    /// When the relay last renewed it, where it does so from time to time only.
    pub renewed_at: Option<DateTime<Utc>>,
}

/// One entry of a ranking, in its period.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// Of what the ranking's scope says.
    pub id: EntityId,
    /// At the relay's own rates.
    pub cost: Usd,
    /// `None` where the relay ranks by cost alone.
    pub requests: Option<u64>,
    /// Of all types; `None` where the relay ranks by cost alone.
    pub tokens: Option<u64>,
}
