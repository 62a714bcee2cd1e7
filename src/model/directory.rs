//! Names, limits and settings.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{EntityId, Scope, Usd};

/// Names, limits and settings. Deleted entities are kept, marked: rows still refer to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    pub users: Vec<User>,
    pub keys: Vec<Key>,
    pub providers: Vec<Provider>,
    pub limits: Vec<Limit>,
    /// ISO code of the currency that the relay's screens show; amounts stay in USD.
    pub currency: Option<String>,
    /// The relay's version or schema level, as far as its store tells.
    pub version: String,
    pub timezone: String,
    /// The relay does not track sessions now (a mode for high load), so that none can be counted.
    pub sessions_untracked: bool,
    /// How far the database that is read is behind the one that is written, in seconds; `None` where it is that one.
    pub replica_lag_seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct User {
    pub id: EntityId,
    pub name: String,
    pub role: String,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    pub deleted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub id: EntityId,
    pub name: String,
    /// `None` where the relay does not know whose key it is.
    pub user_id: Option<EntityId>,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    pub deleted: bool,
    pub expires_at: Option<DateTime<Utc>>,
    /// `None` where the relay does not tell.
    pub created_at: Option<DateTime<Utc>>,
    /// Requests at a time; `None` when unlimited.
    pub slots: Option<u64>,
    /// The key id under which this key's usage is counted: its own, unless two keys share one secret.
    pub counts_as: EntityId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    pub id: EntityId,
    pub name: String,
    /// The relay's own word: `claude`, `codex`, `gemini`, ...
    pub kind: String,
    pub group: String,
    /// `None` where the relay does not tell.
    pub enabled: Option<bool>,
    pub deleted: bool,
    /// `None` when unlimited.
    pub slots: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum QuotaWindow {
    FiveHours,
    Daily,
    Weekly,
    Monthly,
    Total,
}

impl QuotaWindow {
    pub const fn label(self) -> &'static str {
        match self {
            Self::FiveHours => "5h",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Total => "total",
        }
    }
}

/// When a quota's window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowRule {
    /// The last so many hours.
    Rolling {
        hours: u32,
    },
    /// Since the latest local time of day `HH:MM`.
    DailyAt {
        hour: u32,
        minute: u32,
    },
    /// Since Monday 00:00.
    Weekly,
    /// Since the 1st, 00:00.
    Monthly,
    Total,
    /// Known to the live state alone ([`Live::window_spend`]).
    Live,
}

/// A spending limit of one entity in one window. An entity without a limit has none of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    pub scope: Scope,
    pub id: EntityId,
    pub window: QuotaWindow,
    pub rule: WindowRule,
    pub limit: Usd,
    /// Spending before this instant does not count (a manual reset).
    pub since: Option<DateTime<Utc>>,
}
