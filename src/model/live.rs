//! What only the relay's running processes know.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{EntityId, LimitKey, Usd};

/// Live state: what only the relay's running processes know. Each part is absent where the relay does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// Sessions that are live by the relay's own rule.
    pub sessions: Option<u64>,
    /// Requests that run, by user id; only users that have some. `None` where the ledger tells, or nobody.
    pub requests_in_progress: Option<Vec<(EntityId, u64)>>,
    /// By provider id.
    pub slots_used: Option<Vec<(EntityId, u64)>>,
    /// By provider id.
    pub circuits: Option<Vec<(EntityId, Circuit)>>,
    /// By user id; only non-zero.
    pub user_sessions: Option<Vec<(EntityId, u64)>>,
    /// By key id; only non-zero.
    pub key_sessions: Option<Vec<(EntityId, u64)>>,
    /// Spending in windows that only live state knows, e.g. a five-hour window that opens at the first request.
    pub window_spend: HashMap<LimitKey, WindowSpend>,
    /// By key id: failures of an upstream key since its last success.
    pub key_failures: Option<Vec<(EntityId, u64)>>,
    /// By type and code, since the oldest entry that was there at the first read.
    pub error_log: Option<Vec<ErrorCount>>,
    /// Requests that were refused before they came to an upstream, by the relay's own word for why, since the start.
    pub rejected: Option<Vec<(String, u64)>>,
    /// Running requests by key id, of keys whose requests at a time are limited.
    pub key_slots_used: Vec<(EntityId, u64)>,
    /// Of keys whose requests wait when too many run at a time.
    pub queues: Vec<Queue>,
    /// Percentile as a label, and seconds that requests waited for a slot.
    pub queue_waits: Vec<(&'static str, f64)>,
    /// Of keys that have such a limit.
    pub rate_windows: Vec<RateWindow>,
    /// By provider id.
    pub accounts: Vec<(EntityId, AccountState)>,
    /// What upstream accounts have left.
    pub balances: Vec<Balance>,
    /// Of accounts that have been tested.
    pub tests: Vec<AccountTest>,
    /// Of accounts with several keys: how many of them are in a state.
    pub account_keys: Vec<(EntityId, AccountState, u64)>,
    /// When accounts that are left out come back.
    pub returns: Vec<AccountReturn>,
    /// Usage windows of upstream subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// By provider id: the plan of the upstream account, in the upstream's word.
    pub plans: Vec<(EntityId, String)>,
    /// Where the relay's ledger is filled by a collector beside it.
    pub collector: Option<Collector>,
    /// Worker processes of the relay that have given a sign of life lately; `None` where they give none.
    pub workers_alive: Option<u64>,
    /// Requests that the relay has yet to account for, by state: `pending`, or `parked` once it has given up on them.
    pub unaccounted: Vec<(&'static str, u64)>,
    /// Of a database that is a file: `main` and, where it has one, its write-ahead log `wal`, in bytes.
    pub database_bytes: Vec<(&'static str, u64)>,
}

/// Requests of one key that wait for a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Whose requests they are.
    pub key_id: EntityId,
    /// How many wait now.
    pub waiting: u64,
    /// What became of those that waited, with the relay's word for it.
    pub events: Vec<(&'static str, u64)>,
}

/// A limit of one key in a window of some minutes that opens at the first request.
#[derive(Clone, Debug, PartialEq)]
pub struct RateWindow {
    /// Whose limit it is.
    pub key_id: EntityId,
    /// `requests`, `tokens` or `usd`.
    pub unit: &'static str,
    /// The most that may be used in a window.
    pub limit: f64,
    /// In the open window; 0 while none is open.
    pub used: f64,
    /// `None` while no window is open.
    pub resets_at: Option<DateTime<Utc>>,
}

/// Whether an upstream account can be used, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It takes requests.
    Normal,
    /// Left out for a while, because the upstream has answered 429.
    RateLimited,
    /// Left out for some minutes after an error.
    CoolingDown,
    /// Left out for a while, because the upstream has answered that it is overloaded.
    Overloaded,
    /// A limit of spending or usage is reached.
    QuotaExceeded,
    /// The upstream refuses its credentials.
    Unauthorized,
    /// Marked as blocked by the relay.
    Blocked,
    /// Marked as broken by the relay, for another error.
    Error,
    /// Not scheduled, by an administrator or by the relay.
    Paused,
    /// Switched off.
    Disabled,
}

impl AccountState {
    /// In the order of the label's values in the documentation.
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

    /// The value of the label `state`.
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

/// What an upstream account has left, as the upstream last told.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// The account.
    pub provider_id: EntityId,
    /// US dollars, or whatever the upstream counts in.
    pub amount: f64,
    /// When it was told.
    pub told_at: DateTime<Utc>,
}

/// The relay's last test of an upstream account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTest {
    /// The account.
    pub provider_id: EntityId,
    /// How long the answer took.
    pub duration_ms: u64,
    /// When it was tested.
    pub at: DateTime<Utc>,
}

/// An upstream account that the relay leaves out for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountReturn {
    /// The account.
    pub provider_id: EntityId,
    /// `all`, or the family of models for which alone it is left out.
    pub models: &'static str,
    /// When the relay means to use it again; in the past where it has not done so.
    pub at: DateTime<Utc>,
}

/// A usage window of an upstream subscription, as the upstream last told.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    /// The account whose subscription it is.
    pub provider_id: EntityId,
    /// `5h`, `7d`, ...
    pub window: &'static str,
    /// 0 to 1; `None` when what the upstream told is out of date.
    pub used_ratio: Option<f64>,
    /// When the upstream told the share, out of date or not.
    pub told_at: Option<DateTime<Utc>>,
    /// The end of the window; `None` where the upstream has not told.
    pub resets_at: Option<DateTime<Utc>>,
    /// The upstream's own word for the window, as long as it lasts.
    pub status: Option<SubscriptionStatus>,
}

/// Whether an upstream takes requests in a window of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// It does.
    Allowed,
    /// Soon no more.
    AllowedWarning,
    /// Not until the window ends.
    Rejected,
}

impl SubscriptionStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Allowed, Self::AllowedWarning, Self::Rejected];

    /// The upstream's word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::AllowedWarning => "allowed_warning",
            Self::Rejected => "rejected",
        }
    }

    /// `None` for a word that is not known.
    pub fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.label() == label)
    }
}

/// What stands between a relay's requests and its ledger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Collector {
    /// From the end of the newest request to its record in the ledger.
    pub delay_seconds: Option<f64>,
    /// When it wrote last.
    pub last_record: Option<DateTime<Utc>>,
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
    /// Since the oldest entry that was there at the start.
    pub count: u64,
}

/// A circuit breaker as the relay shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Requests pass.
    Closed,
    /// No request passes.
    Open {
        /// When some may pass again; `None` where the relay does not tell.
        reopens_at: Option<DateTime<Utc>>,
    },
    /// Some requests pass, to try whether the provider is well again.
    HalfOpen,
}

/// What one entity has spent in a window that only live state knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowSpend {
    /// Since the window began.
    pub used: Usd,
    /// The end of the window; `None` while none is open, or where it rolls.
    pub resets_at: Option<DateTime<Utc>>,
}
