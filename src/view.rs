//! The numbers of one relay at one moment, ready to be written down. Absent is `None` or an empty list, never 0.

mod blocks;
mod options;

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::model::{Directory, EntityId, Live, Period, QuotaWindow, ReadError, Reason, Scope, Source};
pub use crate::probe::Status as ProbeStatus;
pub use blocks::Blocks;
pub use options::{Boards, NameMode, SeriesBudget};

/// One relay.
#[derive(Clone, Debug)]
pub struct View {
    /// The relay's name in the configuration.
    pub relay: Arc<str>,
    /// The relay product, e.g. `claude-code-hub`.
    pub kind: &'static str,
    /// How people and things are named on its boards.
    pub names: NameMode,
    /// `None` before it has been read, and when it has not been read for too long.
    pub ledger: Option<Arc<LedgerView>>,
    /// Like [`Self::ledger`]; also `None` where no live store is configured.
    pub live: Option<Arc<Live>>,
    /// Like [`Self::ledger`].
    pub directory: Option<Arc<Directory>>,
    /// One for each part that is read.
    pub sources: Vec<SourceStatus>,
    /// Whether the relay itself answers; `None` where no health address is configured.
    pub probe: Option<ProbeStatus>,
    /// How keeping what has been read goes; `None` without a store.
    pub store: Option<StoreStatus>,
}

/// How reading one part of a relay goes. Never absent: this is how a reader learns that the rest is.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    /// Which part it is.
    pub source: Source,
    /// The last read succeeded and is not older than `stale_after`.
    pub up: bool,
    /// `None` before the first time.
    pub last_success: Option<DateTime<Utc>>,
    /// Durations of all refreshes, in seconds.
    pub refresh_seconds: HistogramView,
    /// Failed refreshes since the exporter started, by [`Reason::ALL`].
    pub failures: Vec<(Reason, u64)>,
    /// Refreshes that were due while the last one still ran.
    pub skipped: u64,
    /// Rows, or keys of Redis, since the exporter started.
    pub rows_read: u64,
    /// Recurring statements by name, and whether each is refused for its plan.
    pub statements: Vec<(&'static str, bool)>,
    /// What went wrong last.
    pub problem: Option<ReadError>,
}

/// What the ledger amounts to.
#[derive(Clone, Debug, Default)]
pub struct LedgerView {
    /// Requests that started in the last 24 hours and are not final; `None` where the relay records ended ones alone.
    pub requests_in_progress: Option<u64>,
    /// By user id; only those that have some.
    pub user_requests_in_progress: Vec<(String, u64)>,
    /// Provider id, and the Unix second in which its newest request started.
    pub last_requests: Vec<(String, i64)>,
    /// A mean per minute where the relay shows one.
    pub requests_last_minute: Option<f64>,
    /// Tokens as the relay's boards add them up; like [`Self::requests_last_minute`].
    pub tokens_last_minute: Option<f64>,
    /// With the label of the day: `today`, `yesterday_same_time`, `yesterday`.
    pub days: Vec<(&'static str, DayView)>,
    /// The first instant of today in the relay's time zone.
    pub day_start: Option<DateTime<Utc>>,
    /// Window label (`1m`, ...) and requests by outcome: success, failure, unknown.
    pub windows: Vec<(&'static str, [u64; 3])>,
    /// The last day in half hours, 48 whole ones and the running one; empty until all of it has been read.
    pub course: Vec<CourseStep>,
    /// By period, then scope.
    pub boards: Vec<Board>,
    /// Key id, model, requests of the last 24 hours: of the keys that are on the board of these.
    pub key_models: Vec<(String, String, u64)>,
    /// One for each limit.
    pub quotas: Blocks<QuotaView>,
    /// `None` until the whole history has been read.
    pub counters: Option<CountersView>,
    /// Share of the history that has been read, 0 to 1.
    pub history_loaded: f64,
    /// Age of the newest row by the store's clock; `None` in an empty ledger, and of counters.
    pub lag_seconds: Option<f64>,
    /// How old rows seem when they appear because their zone is another one than the relay's; negative: of the future.
    pub zone_error_seconds: Option<f64>,
    /// Among those that were read last; `None` of counters.
    pub rows_left_out: Option<usize>,
    /// `None` before the first audit, and of counters.
    pub audit: Option<AuditView>,
    /// Values folded into `other`, by dimension.
    pub folded: Vec<(&'static str, u64)>,
}

impl LedgerView {
    /// Takes from the view before what has not changed since.
    pub fn share(&mut self, before: &Self) {
        self.quotas.share(&before.quotas);
        if let (Some(counters), Some(before)) = (&mut self.counters, &before.counters) {
            counters.traffic.share(&before.traffic);
            counters.users.share(&before.users);
            counters.keys.share(&before.keys);
            counters.teams.share(&before.teams);
            counters.organizations.share(&before.organizations);
            counters.latency.share(&before.latency);
        }
    }
}

/// Requests that started on a local day, or in a part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DayView {
    /// All that the relay counts.
    pub requests: u64,
    /// `None` where the relay knows no costs; so everywhere.
    pub cost_usd: Option<f64>,
    /// At the upstream's list prices.
    pub list_cost_usd: Option<f64>,
    /// Of requests that have ended; `None` without any.
    pub mean_duration_seconds: Option<f64>,
    /// `None` where the relay does not count errors.
    pub error_ratio: Option<f64>,
}

/// Requests that started in a half hour.
#[derive(Clone, Debug, PartialEq)]
pub struct CourseStep {
    /// Its first instant.
    pub start: DateTime<Utc>,
    /// All that the relay counts.
    pub requests: u64,
    /// `None` where the relay knows no costs.
    pub cost_usd: Option<f64>,
}

/// A leaderboard: the first by cost, and `other`, so that the sum is the total.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// Who or what is ranked.
    pub scope: Scope,
    /// Its span.
    pub period: Period,
    /// By cost, descending; `other` last.
    pub entries: Vec<BoardEntry>,
    /// When the relay last renewed it, where it does so from time to time only.
    pub renewed_at: Option<DateTime<Utc>>,
}

/// One place of a leaderboard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoardEntry {
    /// The entity's id, or `other`.
    pub id: String,
    /// As [`Boards::names`] wants it.
    pub name: String,
    /// `None` where the relay knows no costs.
    pub cost_usd: Option<f64>,
    /// `None` where the relay ranks by cost alone.
    pub requests: Option<u64>,
    /// As the relay's boards add them up; `None` where it does not tell.
    pub tokens: Option<u64>,
    /// Successes by successes and failures, 0 to 1; of providers and models, `None` without any.
    pub success_ratio: Option<f64>,
    /// Time to first token; of providers, `None` where no request has one.
    pub mean_ttft_seconds: Option<f64>,
    /// Mean of each request's output speed; of providers, `None` where no request has one.
    pub mean_output_tokens_per_second: Option<f64>,
    /// Cache reads by all input, 0 to 1, of requests that touched a cache; of users and providers, `None` without any.
    pub cache_hit_ratio: Option<f64>,
}

/// A limit, and what is used of it.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaView {
    /// Whose limit it is.
    pub scope: Scope,
    /// The entity.
    pub id: EntityId,
    /// Which of its limits.
    pub window: QuotaWindow,
    /// Which part of the spending alone counts; empty where all of it does.
    pub part: Arc<str>,
    /// What may be spent in the window; `None` where there is only a [`Self::soft_limit_usd`].
    pub limit_usd: Option<f64>,
    /// Spending from which on the relay alerts and lets requests through.
    pub soft_limit_usd: Option<f64>,
    /// `None` while it is not known, e.g. without the live state that a window needs.
    pub used_usd: Option<f64>,
    /// Fixed windows only.
    pub resets_at: Option<DateTime<Utc>>,
    /// At the current pace; only when that is before the reset.
    pub exhausted_at: Option<DateTime<Utc>>,
}

/// All-time counters. Label values are already bounded by the series budget.
#[derive(Clone, Debug, Default)]
pub struct CountersView {
    /// By provider and model.
    pub traffic: Blocks<TrafficView>,
    /// Provider id, status code (or `none`), count.
    pub responses: Vec<(String, String, u64)>,
    /// Provider id, class, count.
    pub failures: Vec<(String, &'static str, u64)>,
    /// Provider id, class, count of attempts that another one made good.
    pub recovered: Vec<(String, &'static str, u64)>,
    /// By user; empty where the relay knows none.
    pub users: Blocks<EntityCounters>,
    /// By key.
    pub keys: Blocks<EntityCounters>,
    /// By team; empty where the relay knows none.
    pub teams: Blocks<EntityCounters>,
    /// By organization; empty where the relay knows none.
    pub organizations: Blocks<EntityCounters>,
    /// Provider id, dollars; only of relays whose totals do not tell.
    pub spent: Vec<(String, f64)>,
    /// Provider id, dollars given back.
    pub refunds: Vec<(String, f64)>,
    /// Provider id, reason, dollars.
    pub wasted: Vec<(String, &'static str, f64)>,
    /// Model, count.
    pub unpriced: Vec<(String, u64)>,
    /// Provider id, model, answered model, count.
    pub substitutions: Vec<(String, String, String, u64)>,
    /// Kind, count.
    pub corrections: Vec<(&'static str, u64)>,
    /// By kind.
    pub corrections_usd: Vec<(&'static str, f64)>,
    /// Requests that were recorded long after they happened, of a relay that has such.
    pub imported: Option<u64>,
    /// Provider id, model: duration, time to first token (seconds) and output speed (tokens per second).
    pub latency: Blocks<LatencyView>,
    /// Requests that left no trace but their count; `None` where every request leaves a row.
    pub missed: Option<u64>,
}

/// The counters of one provider and model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficView {
    /// The provider's id.
    pub provider_id: String,
    /// The model, or `other`.
    pub model: String,
    /// By [`crate::model::Outcome::ALL`].
    pub requests: [u64; 3],
    /// `None` where the relay does not keep it by provider and model.
    pub cost_usd: Option<f64>,
    /// At the upstream's list prices, before the relay's own rates.
    pub list_cost_usd: Option<f64>,
    /// At the rates of the upstream account.
    pub account_cost_usd: Option<f64>,
    /// Only categories that occurred.
    pub tokens: Vec<(&'static str, u64)>,
    /// What cache reads saved; `None` where no price is known.
    pub cache_saved_usd: Option<f64>,
}

/// The counters of one user, key, team or organization.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityCounters {
    /// The id, or `other`.
    pub id: String,
    /// Final requests; successful ones alone where the relay keeps only those.
    pub requests: u64,
    /// By [`crate::model::Outcome::ALL`]; `None` where the relay counts successes alone.
    pub outcomes: Option<[u64; 3]>,
    /// `None` where the relay knows no costs.
    pub cost_usd: Option<f64>,
    /// At the upstream's list prices; `None` where the relay does not keep it.
    pub list_cost_usd: Option<f64>,
    /// Of all types; `None` where the relay does not tell.
    pub tokens: Option<u64>,
}

/// The histograms of one provider and model.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyView {
    /// The provider's id.
    pub provider_id: String,
    /// The model, or `other`.
    pub model: String,
    /// From start to the end of the answer, in seconds.
    pub duration: HistogramView,
    /// Time to first token, in seconds.
    pub ttft: HistogramView,
    /// Output tokens per second.
    pub speed: HistogramView,
}

/// A cumulative histogram; `buckets` hold each bucket's own count, the last is `+Inf`.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramView {
    /// Upper bounds without `+Inf`; one fewer than `buckets`.
    pub bounds: &'static [f64],
    /// Observations between a bound and the one before it.
    pub buckets: Vec<u64>,
    /// Of all observations, in the metric's unit.
    pub sum: f64,
}

impl HistogramView {
    /// All observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The exporter's own totals minus the ledger's, by an independent aggregate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuditView {
    /// When it ran, by the store's clock.
    pub at: DateTime<Utc>,
    /// Ours minus theirs, in the span that was audited.
    pub drift_requests: f64,
    /// The same of dollars; `None` where the relay knows no costs.
    pub drift_cost_usd: Option<f64>,
}

/// How keeping one relay's checkpoint goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// What the store has is known, and counted on from.
    pub restored: bool,
    /// The last step succeeded.
    pub up: bool,
    /// This process saves; otherwise another does, or nobody yet.
    pub writer: bool,
    /// By this process; `None` before the first.
    pub last_save: Option<DateTime<Utc>>,
    /// Of the checkpoint's parts, as last saved or loaded.
    pub bytes: u64,
    /// Since the exporter started.
    pub failures: u64,
}
