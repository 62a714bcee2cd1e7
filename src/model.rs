//! The words of the domain. No I/O, no relay's peculiarities.

mod counters;
mod ledger_sum;

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

pub use counters::{CounterSnapshot, KeyCounters, Ranked, Ranking, TrafficCounters};
pub use ledger_sum::LedgerSum;

/// Money in US dollars, exact to 10^-15: a sum does not depend on the order of its terms.
///
/// 10^-15 is the scale of Claude Code Hub's `numeric(21,15)`, the finest of the relays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Usd(i128);

impl Usd {
    pub const ZERO: Self = Self(0);
    const SCALE: u32 = 15;

    /// From a count of 10^-15 dollars.
    pub const fn from_femto(femto: i128) -> Self {
        Self(femto)
    }

    /// The count of 10^-15 dollars.
    pub const fn femto(self) -> i128 {
        self.0
    }

    /// From a decimal; digits beyond the fifteenth decimal place are cut.
    pub fn from_decimal(value: rust_decimal::Decimal) -> Self {
        let mantissa = value.mantissa();
        Self(match Self::SCALE.checked_sub(value.scale()) {
            Some(up) => mantissa.saturating_mul(10_i128.pow(up)),
            None => mantissa / 10_i128.pow(value.scale() - Self::SCALE),
        })
    }

    /// From a float; `None` when it is not finite.
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self((value * 1e15).round() as i128))
    }

    /// The float that is nearest to the amount in dollars, for a sample.
    pub fn to_f64(self) -> f64 {
        const UNIT: u128 = 10_u128.pow(Usd::SCALE);
        let femto = self.0.unsigned_abs();
        if femto == 0 {
            return 0.0;
        }
        // A quotient of more bits than a float has, the last of which tells of what is left: it is rounded once.
        let shift = femto.leading_zeros();
        let shifted = femto << shift;
        let quotient = (shifted / UNIT) | u128::from(!shifted.is_multiple_of(UNIT));
        (quotient as f64 / (1_u128 << shift) as f64).copysign(self.0 as f64)
    }

    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Add for Usd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Usd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Usd {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Usd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::ZERO, Add::add)
    }
}

/// What became of a finished request, seen from the provider: the honest view, for ratios and SLOs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    Success,
    Failure,
    /// Not the provider's fault: caller errors, client aborts, policy refusals.
    Excluded,
}

impl Outcome {
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Excluded];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Excluded => "excluded",
        }
    }
}

/// Why a request did not succeed: a closed vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureClass {
    RateLimited,
    Overloaded,
    Auth,
    Timeout,
    Server,
    ClientAbort,
    Caller,
    Policy,
    Unknown,
}

impl FailureClass {
    pub const fn label(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Auth => "auth",
            Self::Timeout => "timeout",
            Self::Server => "server",
            Self::ClientAbort => "client_abort",
            Self::Caller => "caller",
            Self::Policy => "policy",
            Self::Unknown => "unknown",
        }
    }

    /// The class that a status code alone tells; 529 is Anthropic's "overloaded".
    pub const fn of_status(status: Option<u16>) -> Self {
        match status {
            Some(429) => Self::RateLimited,
            Some(503 | 529) => Self::Overloaded,
            Some(401 | 403) => Self::Auth,
            Some(408 | 504 | 522 | 524) => Self::Timeout,
            Some(499) => Self::ClientAbort,
            Some(400..=498) => Self::Caller,
            Some(500..=599) => Self::Server,
            _ => Self::Unknown,
        }
    }
}

/// Token counts of one request; the categories exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Uncached input.
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    /// Cache writes that the relay does not split by lifetime.
    pub cache_write: u64,
}

impl Tokens {
    /// Each category with its label value.
    pub const fn by_type(self) -> [(&'static str, u64); 6] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cache_read", self.cache_read),
            ("cache_write_5m", self.cache_write_5m),
            ("cache_write_1h", self.cache_write_1h),
            ("cache_write", self.cache_write),
        ]
    }

    pub const fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            cache_write: self.cache_write.saturating_add(other.cache_write),
        }
    }

    /// What these are more than others, category by category.
    pub const fn beyond(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_sub(other.input),
            output: self.output.saturating_sub(other.output),
            cache_read: self.cache_read.saturating_sub(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_sub(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_sub(other.cache_write_1h),
            cache_write: self.cache_write.saturating_sub(other.cache_write),
        }
    }

    /// All cache writes.
    pub const fn written(self) -> u64 {
        self.cache_write_5m.saturating_add(self.cache_write_1h).saturating_add(self.cache_write)
    }

    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output).saturating_add(self.cache_read).saturating_add(self.written())
    }
}

/// One version of one request, as the relay's ledger shows it now.
///
/// A row is born when its request starts and changes until it is final, sometimes later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Position in the ledger; grows with the order of insertion.
    pub id: i64,
    /// Identity of the request, stable over all its versions; unique in the ledger.
    pub request_id: i64,
    /// Start of the request by the relay's clock; never changes.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub started_at: DateTime<Utc>,
    /// False when the relay's own numbers leave the row out (replays, blocked requests, token counting).
    pub counted: bool,
    /// Recorded long after it happened, by an import: it belongs to its day, but is no news, so no counter has it.
    pub imported: bool,
    /// No longer in flight. Its cost may still grow.
    pub is_final: bool,
    /// An error by the definition of the relay's own screen.
    pub is_error: bool,
    /// `None` while in flight or when the relay does not say.
    pub outcome: Option<Outcome>,
    /// Set when the request is final and did not succeed.
    pub failure: Option<FailureClass>,
    pub user_id: i64,
    /// `None` when the row's key is not in the relay's directory.
    pub key_id: Option<i64>,
    /// The provider that answered last; 0 when there was none.
    pub provider_id: i64,
    /// The model that the relay bills by.
    pub model: Option<Arc<str>>,
    /// The model that answered, when it is not the one that was sent upstream.
    pub answered_model: Option<Arc<str>>,
    pub status: Option<u16>,
    pub cost: Usd,
    pub tokens: Tokens,
    /// Tokens as the relay's own boards add them up, with their odd rules.
    pub board_tokens: u64,
    pub duration_ms: Option<u32>,
    /// Time to first token.
    pub ttft_ms: Option<u32>,
    /// Output speed in 10^-6 tokens per second, by the relay's own rule.
    pub output_speed_micro: Option<u64>,
    /// What the cache reads saved; `None` where no price is known.
    pub cache_saved: Option<Usd>,
}

/// An entity's id as the relay has it; the label shows it unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntityId {
    Number(i64),
    Text(Arc<str>),
}

impl EntityId {
    /// `None` for a text.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) => None,
        }
    }
}

impl From<i64> for EntityId {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for EntityId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// What a leaderboard ranks, and what a quota is set on (all but `Model`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    User,
    Key,
    Provider,
    Model,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::User, Self::Key, Self::Provider, Self::Model];

    pub const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Key => "key",
            Self::Provider => "provider",
            Self::Model => "model",
        }
    }
}

/// The relay's days: its own boundaries, in its own time zone, asked from its own database where it computes them there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    zone: String,
    /// Start of each day, ascending, without gaps in the dates; the last is a day that has not begun.
    days: Vec<(NaiveDate, DateTime<Utc>)>,
}

impl Calendar {
    /// # Errors
    /// When the days are not ascending and consecutive.
    pub fn new(zone: impl Into<String>, days: Vec<(NaiveDate, DateTime<Utc>)>) -> Result<Self, CalendarError> {
        let consecutive = days.windows(2).all(|pair| pair[0].1 < pair[1].1 && pair[0].0.succ_opt() == Some(pair[1].0));
        if days.len() < 2 || !consecutive {
            return Err(CalendarError);
        }
        Ok(Self { zone: zone.into(), days })
    }

    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The local date at an instant; `None` outside the calendar.
    pub fn date(&self, at: DateTime<Utc>) -> Option<NaiveDate> {
        let after = self.days.partition_point(|(_, start)| *start <= at);
        (after > 0 && after < self.days.len()).then(|| self.days[after - 1].0)
    }

    /// The first instant of a local date; `None` outside the calendar.
    pub fn start(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        let index = (date - self.days[0].0).num_days();
        self.days.get(usize::try_from(index).ok()?).map(|(_, start)| *start)
    }

    /// With the days before, from a calendar of the same zone that begins earlier; `None` when there are none.
    pub fn preceded_by(&self, earlier: &Self) -> Option<Self> {
        let (first, start) = self.days[0];
        let before: Vec<_> = earlier.days().take_while(|(date, _)| *date < first).collect();
        let fits = self.zone == earlier.zone && !before.is_empty() && earlier.start(first) == Some(start);
        let days = before.into_iter().chain(self.days()).collect();
        fits.then(|| Self { zone: self.zone.clone(), days })
    }

    /// Each local date and its first instant.
    pub fn days(&self) -> impl Iterator<Item = (NaiveDate, DateTime<Utc>)> {
        self.days.iter().copied()
    }

    pub fn first_date(&self) -> NaiveDate {
        self.days[0].0
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the calendar's days are not consecutive")]
pub struct CalendarError;

/// What the rows of a ledger tell. What they do not is absent from the page, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who called.
    pub users: bool,
    pub cost: bool,
    pub tokens: bool,
    /// Requests that have not ended yet.
    pub in_progress: bool,
    /// Requests that were recorded long after they happened.
    pub imports: bool,
}

impl Facts {
    pub const ALL: Self = Self { users: true, cost: true, tokens: true, in_progress: true, imports: true };
}

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

/// The three parts of a relay; each fails alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Ledger,
    Live,
    Directory,
}

impl Source {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Live => "live",
            Self::Directory => "directory",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a read failed: the closed list behind the `reason` label. The driver's error goes to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    Timeout,
    Connection,
    Permission,
    Schema,
    Data,
    /// A statement is not run because it would walk through a whole large table.
    Plan,
}

impl Reason {
    pub const ALL: [Self; 6] =
        [Self::Timeout, Self::Connection, Self::Permission, Self::Schema, Self::Data, Self::Plan];

    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Permission => "permission",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::Plan => "plan",
        }
    }
}

/// A read that failed: the reason for the metric, the text for the log. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", reason.label())]
pub struct ReadError {
    pub reason: Reason,
    pub text: String,
}

impl ReadError {
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }
}
