//! The numbers of one relay at one moment, ready to be written down. Absent is `None` or an empty list, never 0.

mod options;

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::model::{Directory, EntityId, Live, QuotaWindow, Reason, Scope, Source};
pub use crate::probe::Status as ProbeStatus;
pub use options::{Boards, NameMode, SeriesBudget};

/// One relay.
#[derive(Clone, Debug)]
pub struct View {
    /// The relay's name in the configuration.
    pub relay: Arc<str>,
    /// The relay product, e.g. `claude-code-hub`.
    pub kind: &'static str,
    pub ledger: Option<Arc<LedgerView>>,
    pub live: Option<Arc<Live>>,
    pub directory: Option<Arc<Directory>>,
    pub sources: Vec<SourceStatus>,
    /// Whether the relay itself answers; `None` where no health address is configured.
    pub probe: Option<ProbeStatus>,
    /// How keeping what has been read goes; `None` without a store.
    pub store: Option<StoreStatus>,
}

/// How reading one part of a relay goes. Never absent: this is how a reader learns that the rest is.
#[derive(Clone, Debug)]
pub struct SourceStatus {
    pub source: Source,
    /// The last read succeeded and is not older than `stale_after`.
    pub up: bool,
    pub last_success: Option<DateTime<Utc>>,
    pub refresh_seconds: HistogramView,
    pub failures: Vec<(Reason, u64)>,
    /// Refreshes that were due while the last one still ran.
    pub skipped: u64,
    pub rows_read: u64,
    /// Recurring statements by name, and whether each is refused for its plan.
    pub statements: Vec<(&'static str, bool)>,
    /// For people: what went wrong last, without secrets.
    pub problem: Option<String>,
}

/// What the ledger amounts to.
#[derive(Clone, Debug, Default)]
pub struct LedgerView {
    pub requests_in_progress: Option<u64>,
    /// A mean per minute where the relay shows one.
    pub requests_last_minute: Option<f64>,
    pub tokens_last_minute: Option<f64>,
    /// With the label of the day: `today`, `yesterday_same_time`, `yesterday`.
    pub days: Vec<(&'static str, DayView)>,
    pub day_start: Option<DateTime<Utc>>,
    /// Window label (`1m`, ...) and requests by outcome: success, failure, unknown.
    pub windows: Vec<(&'static str, [u64; 3])>,
    pub boards: Vec<Board>,
    pub quotas: Vec<QuotaView>,
    /// `None` until the whole history has been read.
    pub counters: Option<CountersView>,
    pub history_loaded: f64,
    pub lag_seconds: Option<f64>,
    pub audit: Option<AuditView>,
    /// Values folded into `other`, by dimension.
    pub folded: Vec<(&'static str, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DayView {
    pub requests: u64,
    /// `None` where the relay knows no costs; so everywhere.
    pub cost_usd: Option<f64>,
    pub mean_duration_seconds: Option<f64>,
    /// `None` where the relay does not count errors.
    pub error_ratio: Option<f64>,
}

/// A leaderboard: the first by cost, and `other`, so that the sum is the total.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    pub scope: Scope,
    /// `today`, `last24h`, `week`, `month`, `all`.
    pub period: &'static str,
    pub entries: Vec<BoardEntry>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BoardEntry {
    pub id: String,
    pub name: String,
    pub cost_usd: Option<f64>,
    /// `None` where the relay ranks by cost alone.
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    pub success_ratio: Option<f64>,
    pub mean_ttft_seconds: Option<f64>,
    pub mean_output_tokens_per_second: Option<f64>,
    pub cache_hit_ratio: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QuotaView {
    pub scope: Scope,
    pub id: EntityId,
    pub window: QuotaWindow,
    pub limit_usd: f64,
    pub used_usd: Option<f64>,
    /// Fixed windows only.
    pub resets_at: Option<DateTime<Utc>>,
    /// At the current pace; only when that is before the reset.
    pub exhausted_at: Option<DateTime<Utc>>,
}

/// All-time counters. Label values are already bounded by the series budget.
#[derive(Clone, Debug, Default)]
pub struct CountersView {
    pub traffic: Vec<TrafficView>,
    /// Provider id, status code (or `none`), count.
    pub responses: Vec<(String, String, u64)>,
    /// Provider id, class, count.
    pub failures: Vec<(String, &'static str, u64)>,
    pub users: Vec<EntityCounters>,
    pub keys: Vec<EntityCounters>,
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
    pub latency: Vec<LatencyView>,
    /// Requests that left no trace but their count; `None` where every request leaves a row.
    pub missed: Option<u64>,
}

/// The counters of one provider and model.
#[derive(Clone, Debug, Default)]
pub struct TrafficView {
    pub provider_id: String,
    pub model: String,
    /// By [`crate::model::Outcome::ALL`].
    pub requests: [u64; 3],
    /// `None` where the relay does not keep it by provider and model.
    pub cost_usd: Option<f64>,
    /// At the upstream's list prices, before the relay's own rates.
    pub list_cost_usd: Option<f64>,
    /// Only categories that occurred.
    pub tokens: Vec<(&'static str, u64)>,
    pub cache_saved_usd: Option<f64>,
}

#[derive(Clone, Debug, Default)]
pub struct EntityCounters {
    pub id: String,
    pub requests: u64,
    pub cost_usd: Option<f64>,
    pub list_cost_usd: Option<f64>,
    pub tokens: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct LatencyView {
    pub provider_id: String,
    pub model: String,
    pub duration: HistogramView,
    pub ttft: HistogramView,
    pub speed: HistogramView,
}

/// A cumulative histogram; `buckets` hold each bucket's own count, the last is `+Inf`.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramView {
    /// Upper bounds without `+Inf`; one fewer than `buckets`.
    pub bounds: &'static [f64],
    pub buckets: Vec<u64>,
    pub sum: f64,
}

impl HistogramView {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The exporter's own totals minus the ledger's, by an independent aggregate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuditView {
    pub at: DateTime<Utc>,
    pub drift_requests: f64,
    pub drift_cost_usd: Option<f64>,
}

/// How keeping one relay's checkpoint goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The last step succeeded.
    pub up: bool,
    /// This process saves; otherwise another does, or nobody yet.
    pub writer: bool,
    pub last_save: Option<DateTime<Utc>>,
    /// Of the checkpoint's parts, as last saved or loaded.
    pub bytes: u64,
    pub failures: u64,
}
