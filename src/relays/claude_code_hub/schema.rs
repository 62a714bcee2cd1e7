//! Which version of the relay this is, told by its columns, and statements cut to fit it.

use sqlx::AssertSqlSafe;

use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, Named, fill};
use crate::relay::known_database;

/// Every column that some statement reads, by table.
const READ: &Named = &[
    (
        "usage_ledger",
        "id request_id user_id key final_provider_id model original_model actual_response_model endpoint status_code \
         is_success success_rate_outcome blocked_by is_replay cost_usd cost_multiplier group_cost_multiplier input_tokens \
         output_tokens cache_creation_input_tokens cache_read_input_tokens cache_creation_5m_input_tokens \
         cache_creation_1h_input_tokens duration_ms ttfb_ms first_byte_ms created_at",
    ),
    (
        "message_request",
        "id user_id key provider_id model original_model endpoint status_code blocked_by cost_usd cost_multiplier \
         error_message input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens \
         cache_creation_5m_input_tokens cache_creation_1h_input_tokens duration_ms ttfb_ms created_at deleted_at",
    ),
    (
        "users",
        "id name role is_enabled deleted_at limit_5h_usd limit_5h_reset_mode daily_limit_usd daily_reset_mode \
         daily_reset_time limit_weekly_usd limit_monthly_usd limit_total_usd cost_reset_at limit_5h_cost_reset_at \
         expires_at limit_concurrent_sessions rpm_limit",
    ),
    (
        "keys",
        "id user_id key name is_enabled expires_at deleted_at limit_5h_usd limit_5h_reset_mode limit_daily_usd \
         daily_reset_mode daily_reset_time limit_weekly_usd limit_monthly_usd limit_total_usd cost_reset_at \
         limit_concurrent_sessions",
    ),
    (
        "providers",
        "id name provider_type group_tag is_enabled deleted_at limit_concurrent_sessions limit_5h_usd \
         limit_5h_reset_mode limit_daily_usd daily_reset_mode daily_reset_time limit_weekly_usd limit_monthly_usd \
         limit_total_usd total_cost_reset_at circuit_breaker_failure_threshold",
    ),
    ("system_settings", "id timezone billing_model_source currency_display enable_high_concurrency_mode"),
    ("model_prices", "id model_name price_data created_at"),
];

/// Generations of the store, by what they brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Up to v0.3.36.
    Log,
    /// v0.3.37: time to first token.
    FirstToken,
    /// v0.5.2: wide token counts, the system's time zone.
    TimeZone,
    /// v0.5.9: the usage ledger.
    Ledger,
    /// v0.7.1: outcomes.
    Outcome,
    /// v0.9.0: replays, observed sessions, the true first byte.
    Replay,
}

impl Level {
    pub(crate) const ALL: [Self; 6] =
        [Self::Log, Self::FirstToken, Self::TimeZone, Self::Ledger, Self::Outcome, Self::Replay];

    /// The releases that have this store, for people.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Log => "up to v0.3.36",
            Self::FirstToken => "v0.3.37 to v0.5.1",
            Self::TimeZone => "v0.5.2 to v0.5.8",
            Self::Ledger => "v0.5.9 to v0.6.8",
            Self::Outcome => "v0.7.1 to v0.8.10",
            Self::Replay => "v0.9.0+",
        }
    }

    pub(crate) fn of_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.label() == label)
    }
}

/// The columns of the relay's tables.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    columns: Columns,
    pub level: Level,
}

impl Schema {
    pub(crate) fn has(&self, table: &str, column: &str) -> bool {
        self.columns.exists(table, column)
    }

    /// The columns exist and this role may read them.
    pub(crate) fn readable(&self, table: &str, columns: &[&str]) -> bool {
        columns.iter().all(|column| self.columns.readable(table, column))
    }

    /// Columns that statements name and this role may not read, by table.
    pub(crate) fn unreadable(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut tables = self.columns.unreadable(READ);
        tables.retain(|(table, _)| *table != "message_request" || self.level < Level::Ledger);
        tables
    }

    /// The table that holds one row per request.
    pub(crate) fn fact_table(&self) -> &'static str {
        if self.level >= Level::Ledger { "usage_ledger" } else { "message_request" }
    }

    /// Cuts a statement to fit: each name in braces becomes a constant text, and `{alias.column:type}` the column or,
    /// where this version has none, null.
    pub(crate) fn fit(&self, text: &str) -> AssertSqlSafe<String> {
        self.fit_with(text, "")
    }

    /// Like [`Self::fit`], with a condition for `{which}` or `{whose}`.
    pub(crate) fn fit_with(&self, text: &str, condition: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(fill(text, |name| match name {
            "which" | "whose" => Some(condition.to_owned()),
            "ledger" if self.level < Level::Ledger => {
                Some(fill(include_str!("log_as_ledger.sql"), |name| self.word(name)))
            }
            _ => self.word(name),
        }))
    }

    fn word(&self, name: &str) -> Option<String> {
        let has_ledger = self.level >= Level::Ledger;
        let text = match name {
            "ledger" => "usage_ledger",
            "counted" => self.counted(),
            "is_error" if has_ledger => "not l.is_success",
            "is_error" => "coalesce(l.status_code >= 400, false)",
            "succeeded" => self.succeeded(),
            "first_byte" if self.level >= Level::Replay => "l.first_byte_ms",
            "first_byte" => "l.ttfb_ms",
            _ => return self.optional(name),
        };
        Some(text.to_owned())
    }

    /// What the relay's own numbers count (v0.9.2 `src/repository/_shared/ledger-conditions.ts`; before the ledger
    /// `src/repository/_shared/message-request-conditions.ts`). Partial indexes want these very words.
    fn counted(&self) -> &'static str {
        match self.level {
            Level::Replay => {
                "(l.blocked_by is null and l.is_replay = false and (l.endpoint is null or lower(regexp_replace(l.endpoint, \
                 '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact')))"
            }
            Level::Outcome => {
                "(l.blocked_by is null and (l.endpoint is null or lower(regexp_replace(l.endpoint, '/+$', '')) not in \
                 ('/v1/messages/count_tokens', '/v1/responses/compact')))"
            }
            Level::Ledger => "(l.blocked_by is null)",
            Level::Log | Level::FirstToken | Level::TimeZone => "(l.blocked_by is distinct from 'warmup')",
        }
    }

    /// What a success is on the boards of releases that kept no outcomes: of all requests, those in flight included, that
    /// which is not an error (v0.6.8 `src/repository/leaderboard.ts`), before the ledger that which has no error text (v0.5.8).
    fn succeeded(&self) -> &'static str {
        match self.level {
            Level::Replay | Level::Outcome => "null::boolean",
            Level::Ledger => "l.is_success",
            Level::Log | Level::FirstToken | Level::TimeZone => "l.has_no_error",
        }
    }

    fn optional(&self, name: &str) -> Option<String> {
        let (column, kind) = name.split_once(':')?;
        let table = match column.split_once('.') {
            Some(("l", _)) => "usage_ledger",
            Some(("m", _)) => "message_request",
            Some(("u", _)) => "users",
            Some(("k", _)) => "keys",
            Some(("p", _)) => "providers",
            _ => "system_settings",
        };
        let bare = column.rsplit('.').next().unwrap_or(column);
        // Roles are there that were made before the exporter read it.
        let is_late = bare == "circuit_breaker_failure_threshold";
        let is_there = if is_late { self.readable(table, &[bare]) } else { self.has(table, bare) };
        Some(if is_there { column.to_owned() } else { format!("null::{kind}") })
    }
}

impl known_database::Schema for Schema {
    async fn detect(snapshot: &mut Snapshot) -> Result<Self, ReadError> {
        let what = "looking at the relay's columns";
        let columns = Columns::of_postgres(snapshot, READ).await?;
        let mut schema = Self { columns, level: Level::Log };
        // The last that each release's migrations bring, and what those before it do: the relay adds `is_replay` ahead of
        // all (v0.9.2 `src/lib/migrations/session-replay-index-preflight.ts`), and a migration may stop half-way.
        let ledger = "usage_ledger";
        let markers: [(Level, &str, &[&str]); 6] = [
            (Level::Replay, ledger, &["success_rate_outcome", "actual_response_model", "first_byte_ms", "is_replay"]),
            (Level::Outcome, ledger, &["success_rate_outcome", "actual_response_model"]),
            (Level::Ledger, ledger, &["id"]),
            (Level::TimeZone, "system_settings", &["timezone"]),
            (Level::FirstToken, "message_request", &["ttfb_ms"]),
            (Level::Log, "message_request", &["id"]),
        ];
        let found = markers.into_iter().find(|(_, table, columns)| columns.iter().all(|it| schema.has(table, it)));
        schema.level = found.map(|(level, ..)| level).ok_or_else(|| {
            let error = "neither table usage_ledger nor message_request is there for this role";
            let hint = "is this the database of Claude Code Hub, and may the role use its schema?";
            ReadError::new(Reason::Schema, format!("{what}: {error}; {hint}"))
        })?;
        Ok(schema)
    }
}
