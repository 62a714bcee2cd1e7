//! Requests: what was used, and what became of them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Scope, Usd};

/// What became of a finished request, seen from the provider: the honest view, for ratios and SLOs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// The provider answered as it should.
    Success,
    /// The provider's fault: errors, limits, timeouts.
    Failure,
    /// Not the provider's fault: caller errors, client aborts, policy refusals.
    Excluded,
}

impl Outcome {
    /// Success or failure; `None` for neither.
    pub const fn verdict(self) -> Option<bool> {
        match self {
            Self::Success => Some(true),
            Self::Failure => Some(false),
            Self::Excluded => None,
        }
    }

    /// In the order of the counters' arrays.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Excluded];

    /// The value of the label `outcome`.
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
    /// The upstream's rate limit (429).
    RateLimited,
    /// The upstream is overloaded (503, 529).
    Overloaded,
    /// The upstream refuses the credentials (401, 403).
    Auth,
    /// No answer in time (408, 504, 522, 524).
    Timeout,
    /// Any other fault of the upstream (5xx).
    Server,
    /// The client went away before the end (499).
    ClientAbort,
    /// The request itself was wrong (any other 4xx).
    Caller,
    /// The relay refused it by a rule of its own, such as a word filter.
    Policy,
    /// The relay does not tell.
    Unknown,
}

impl FailureClass {
    /// The value of the label `class`.
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
    /// With what the model thought, where that is billed as output.
    pub output: u64,
    /// Input that was taken from a cache.
    pub cache_read: u64,
    /// Input that was written to a cache for 5 minutes.
    pub cache_write_5m: u64,
    /// Input that was written to a cache for an hour.
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

    /// Category by category; stops at the greatest number.
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

    /// All categories.
    pub const fn total(self) -> u64 {
        self.input.saturating_add(self.output).saturating_add(self.cache_read).saturating_add(self.written())
    }
}

/// One version of one request, as the relay's ledger shows it now.
///
/// A row is born when its request starts and changes until it is final, sometimes later. Of the default one nothing is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// What it is a record of.
    pub kind: RowKind,
    /// Recorded long after it happened, by an import: it belongs to its day, but is no news, so no counter has it.
    pub imported: bool,
    /// No longer in flight. Its cost may still grow.
    pub is_final: bool,
    /// An error by the definition of the relay's own screen.
    pub is_error: bool,
    /// `None` while in flight or when the relay does not say.
    pub outcome: Option<Outcome>,
    /// Whether it is a success on the relay's own boards; `None` when it is neither success nor failure there.
    pub is_success: Option<bool>,
    /// Set when the request is final and did not succeed.
    pub failure: Option<FailureClass>,
    /// Who called; without meaning where [`Facts::users`] is false.
    pub user_id: i64,
    /// `None` when the row's key is not in the relay's directory.
    pub key_id: Option<i64>,
    /// Whose keys and budget it used; `None` where nobody's, and where [`Facts::teams`] is false.
    pub team_id: Option<i64>,
    /// Whose team it was; like [`Self::team_id`].
    pub organization_id: Option<i64>,
    /// The provider that answered last; 0 when there was none.
    pub provider_id: i64,
    /// The model that the relay bills by.
    pub model: Option<Arc<str>>,
    /// The model that answered, when it is not the one that was sent upstream.
    pub answered_model: Option<Arc<str>>,
    /// HTTP status code of the answer to the client; `None` where there was none, or in flight.
    pub status: Option<u16>,
    /// At the relay's own rates; 0 while it is not known, and where [`Facts::cost`] is false.
    pub cost: Usd,
    /// At list prices, before the relay's own rates; `None` where the row does not tell.
    pub list_cost: Option<Usd>,
    /// At the rates of the upstream account; `None` where the row does not tell.
    pub account_cost: Option<Usd>,
    /// As far as they are known; all 0 where [`Facts::tokens`] is false.
    pub tokens: Tokens,
    /// Tokens as the relay's own boards add them up, with their odd rules.
    pub board_tokens: u64,
    /// From start to the end of the answer; `None` in flight and where it was not measured.
    pub duration_ms: Option<u32>,
    /// Time to first token.
    pub ttft_ms: Option<u32>,
    /// Output speed in 10^-6 tokens per second, by the relay's own rule.
    pub output_speed_micro: Option<u64>,
    /// What the cache reads saved; `None` where no price is known.
    pub cache_saved: Option<Usd>,
}

impl UsageRow {
    /// Whether the relay's screens add it up: its days, rates, windows and boards.
    pub(crate) fn is_shown(&self) -> bool {
        self.counted && matches!(self.kind, RowKind::Request | RowKind::Charge)
    }

    /// How many requests it is on the relay's screens.
    pub(crate) fn requests(&self) -> u64 {
        u64::from(self.kind == RowKind::Request)
    }

    /// The entity of a scope; models have names.
    pub(crate) const fn id_of(&self, scope: Scope) -> Option<i64> {
        match scope {
            Scope::User => Some(self.user_id),
            Scope::Key => self.key_id,
            Scope::Team => self.team_id,
            Scope::Organization => self.organization_id,
            Scope::Provider => Some(self.provider_id),
            Scope::Model => None,
        }
    }
}

/// What a row of a ledger is a record of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowKind {
    /// A request, or an attempt where the relay's screens count attempts.
    #[default]
    Request,
    /// An attempt that failed, which the relay's screens do not count: only outcomes have it.
    FailedAttempt,
    /// An attempt that failed before another one of the same request succeeded: no request of its own.
    RecoveredAttempt,
    /// No caller's request, but the relay's screens have what it used and cost.
    Charge,
    /// No request, but so much money given back.
    Refund(Usd),
}

/// What the rows of a ledger tell, and how its relay's screens add them up. What they do not tell is absent from the page,
/// never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who called.
    pub users: bool,
    /// Whose team and organization the caller belongs to.
    pub teams: bool,
    /// What each request cost.
    pub cost: bool,
    /// What each request cost at list prices, and at the rates of its upstream account.
    pub list_cost: bool,
    /// How many tokens each request used.
    pub tokens: bool,
    /// Requests that have not ended yet.
    pub in_progress: bool,
    /// Requests that were recorded long after they happened.
    pub imports: bool,
    /// Requests that failed.
    pub failures: bool,
    /// Its screens know errors, and with them shares of failures and successes.
    pub errors: bool,
    /// Money that was given back.
    pub refunds: bool,
    /// Which tokens were taken from a cache.
    pub cache: bool,
    /// Its cache hit ratio is a share of the input of requests that touched a cache; else of all input.
    pub hits_of_cached: bool,
}

impl Facts {
    /// Of a relay that tells everything.
    pub const ALL: Self = Self {
        users: true,
        teams: true,
        cost: true,
        list_cost: true,
        tokens: true,
        in_progress: true,
        imports: true,
        failures: true,
        errors: true,
        refunds: true,
        cache: true,
        hits_of_cached: true,
    };
}
