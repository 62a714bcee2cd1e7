//! What only the relay's running processes know.

use chrono::{DateTime, Utc};

use super::{EntityId, QuotaWindow, Scope, Usd};

/// Live state: what only the relay's running processes know. Each part is absent where the relay does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    pub sessions: Option<u64>,
    /// By provider id.
    pub slots_used: Option<Vec<(EntityId, u64)>>,
    pub circuits: Option<Vec<(EntityId, Circuit)>>,
    /// By user id; only non-zero.
    pub user_sessions: Option<Vec<(EntityId, u64)>>,
    /// By key id; only non-zero.
    pub key_sessions: Option<Vec<(EntityId, u64)>>,
    /// Spending in windows that only live state knows, e.g. a five-hour window that opens at the first request.
    pub window_spend: Vec<WindowSpend>,
    /// By key id: failures of an upstream key since its last success.
    pub key_failures: Option<Vec<(EntityId, u64)>>,
    pub error_log: Option<Vec<ErrorCount>>,
    /// Running requests by key id, of keys whose requests at a time are limited.
    pub key_slots_used: Vec<(EntityId, u64)>,
    pub queues: Vec<Queue>,
    pub rate_windows: Vec<RateWindow>,
    /// By provider id.
    pub accounts: Vec<(EntityId, AccountState)>,
    pub subscriptions: Vec<Subscription>,
    /// Where the relay's ledger is filled by a collector beside it.
    pub collector: Option<Collector>,
}

/// Requests of one key that wait for a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    pub key_id: EntityId,
    pub waiting: u64,
    /// What became of those that waited, with the relay's word for it.
    pub events: Vec<(&'static str, u64)>,
}

/// A limit of one key in a window of some minutes that opens at the first request.
#[derive(Clone, Debug, PartialEq)]
pub struct RateWindow {
    pub key_id: EntityId,
    /// `requests`, `tokens` or `usd`.
    pub unit: &'static str,
    pub limit: f64,
    pub used: f64,
    /// `None` while no window is open.
    pub resets_at: Option<DateTime<Utc>>,
}

/// Whether an upstream account can be used, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    Normal,
    RateLimited,
    /// Left out for some minutes after an error.
    CoolingDown,
    Overloaded,
    QuotaExceeded,
    Unauthorized,
    Blocked,
    Error,
    /// Not scheduled, by an administrator or by the relay.
    Paused,
    Disabled,
}

impl AccountState {
    pub const ALL: [Self; 10] = [
        Self::Normal,
        Self::RateLimited,
        Self::CoolingDown,
        Self::Overloaded,
        Self::QuotaExceeded,
        Self::Unauthorized,
        Self::Blocked,
        Self::Error,
        Self::Paused,
        Self::Disabled,
    ];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::RateLimited => "rate_limited",
            Self::CoolingDown => "cooling_down",
            Self::Overloaded => "overloaded",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Unauthorized => "unauthorized",
            Self::Blocked => "blocked",
            Self::Error => "error",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// A usage window of an upstream subscription, as the upstream last told.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub provider_id: EntityId,
    /// `5h`, `7d`, ...
    pub window: &'static str,
    /// 0 to 1; `None` when what the upstream told is out of date.
    pub used_ratio: Option<f64>,
    pub resets_at: Option<DateTime<Utc>>,
}

/// What stands between a relay's requests and its ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Collector {
    /// From the end of the newest request to its record in the ledger.
    pub delay_seconds: Option<f64>,
    /// Requests that never reached the ledger, because the collector did not understand what it was told of them.
    pub dead_letters: u64,
}

/// Entries of the relay's error log that have this type and code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCount {
    /// The relay's own word for where it happened, from a list in its code.
    pub kind: String,
    /// HTTP status code, or `none`.
    pub code: String,
    pub count: u64,
}

/// A circuit breaker as the relay shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    Closed,
    Open { reopens_at: Option<DateTime<Utc>> },
    HalfOpen,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WindowSpend {
    pub scope: Scope,
    pub id: EntityId,
    pub window: QuotaWindow,
    pub used: Usd,
    pub resets_at: Option<DateTime<Utc>>,
}
