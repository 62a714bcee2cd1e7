//! Which release of the relay this is, told by its columns, and statements cut to fit it. Forks add columns, and have
//! versions of their own.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, Row};

use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, Named, fill};
use crate::relay::known_database;

/// Columns that statements name, by table.
const READ: &Named = &[
    (
        "usage_logs",
        "id created_at user_id api_key_id account_id model requested_model upstream_response_model \
         upstream_model_mismatch input_tokens output_tokens cache_creation_tokens cache_creation_5m_tokens \
         cache_creation_1h_tokens cache_read_tokens image_input_tokens input_cost cache_read_cost total_cost actual_cost \
         account_stats_cost account_rate_multiplier rate_multiplier request_type duration_ms first_token_ms",
    ),
    (
        "ops_error_logs",
        "id created_at user_id api_key_id account_id model requested_model error_phase status_code upstream_status_code \
         is_business_limited is_count_tokens",
    ),
    ("ops_ingress_reject_aggregates", "bucket_start reject_reason request_count"),
    ("ops_system_metrics", "created_at"),
    ("users", "id username role status balance rpm_limit deleted_at"),
    (
        "api_keys",
        "id user_id name status expires_at quota quota_used rate_limit_5h rate_limit_1d rate_limit_7d usage_5h usage_1d \
         usage_7d window_5h_start window_1d_start window_7d_start deleted_at",
    ),
    (
        "accounts",
        "id name platform type concurrency status schedulable rate_limit_reset_at overload_until \
         temp_unschedulable_until expires_at auto_pause_on_expired session_window_end session_window_status deleted_at",
    ),
    ("groups", "id name daily_limit_usd weekly_limit_usd monthly_limit_usd deleted_at"),
    ("account_groups", "account_id group_id"),
    (
        "user_subscriptions",
        "id user_id group_id status starts_at expires_at daily_usage_usd weekly_usage_usd monthly_usage_usd \
         daily_window_start weekly_window_start monthly_window_start deleted_at",
    ),
    (
        "user_platform_quotas",
        "user_id platform daily_limit_usd weekly_limit_usd monthly_limit_usd daily_usage_usd weekly_usage_usd \
         monthly_usage_usd daily_window_start weekly_window_start monthly_window_start deleted_at",
    ),
    ("usage_cleanup_tasks", "id status deleted_rows"),
    ("usage_group_rollup_state", "id timezone_name"),
];

/// Releases by what they brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Older than what is supported.
    Old,
    /// Windows of keys.
    KeyWindows,
    /// The model that was asked for.
    RequestedModel,
    /// A price of its own for the account.
    AccountCost,
    /// Quotas by platform.
    PlatformQuotas,
    /// Running requests of keys; the column is 0.1.147's, the count is one release older.
    KeySlots,
    /// Refused requests in numbers.
    Rejects,
    /// The model that answered, and days of subscriptions that begin at midnight.
    AnsweredModel,
    /// The time zone.
    TimeZone,
}

impl Level {
    /// The releases that have this store, for people.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Old => "<0.1.104",
            Self::KeyWindows => ">=0.1.104",
            Self::RequestedModel => ">=0.1.105",
            Self::AccountCost => ">=0.1.113",
            Self::PlatformQuotas => ">=0.1.131",
            Self::KeySlots => ">=0.1.147",
            Self::Rejects => ">=0.1.161",
            Self::AnsweredModel => ">=0.1.172",
            Self::TimeZone => ">=0.1.177",
        }
    }
}

/// The columns of the relay's tables.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    columns: Columns,
    /// Those of the administrator's that this role may call.
    functions: HashSet<String>,
}

impl Schema {
    /// The column exists and this role may read it.
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.columns.readable(table, column)
    }

    /// The release has the table.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.columns.has_table(table)
    }

    /// The table is there, and this role may read all that is read of it.
    pub(super) fn reads(&self, table: &str) -> bool {
        self.has_table(table) && !self.unreadable().iter().any(|(unreadable, _)| *unreadable == table)
    }

    /// The administrator has made the function, and this role may call it.
    pub(super) fn may_call(&self, function: &str) -> bool {
        self.functions.contains(function)
    }

    /// Columns that statements name and this role may not read, by table.
    pub(super) fn unreadable(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.columns.unreadable(READ)
    }

    /// By what exists: a column that may not be read is there all the same.
    pub(super) fn level(&self) -> Level {
        let markers = [
            (Level::TimeZone, "usage_group_rollup_state", "timezone_name"),
            (Level::AnsweredModel, "usage_logs", "upstream_model_mismatch"),
            (Level::Rejects, "ops_ingress_reject_aggregates", "request_count"),
            (Level::KeySlots, "usage_logs", "video_count"),
            (Level::PlatformQuotas, "user_platform_quotas", "platform"),
            (Level::AccountCost, "usage_logs", "account_stats_cost"),
            (Level::RequestedModel, "usage_logs", "requested_model"),
            (Level::KeyWindows, "api_keys", "rate_limit_5h"),
        ];
        markers
            .into_iter()
            .find(|(_, table, column)| self.columns.exists(table, column))
            .map_or(Level::Old, |(level, ..)| level)
    }

    /// Cuts a statement to fit: a name in braces becomes a constant text, and `{alias.column:type}` the column or, where this
    /// release or role has none, null; with `finite` before it, a time that can be told.
    pub(super) fn fit(&self, text: &str) -> AssertSqlSafe<String> {
        self.fit_with(text, "")
    }

    /// Like [`Self::fit`], with a condition for `{which}`.
    pub(super) fn fit_with(&self, text: &str, condition: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(fill(text, |name| match name {
            "which" => Some(condition.to_owned()),
            // What its dashboards group by.
            "model" if self.has("usage_logs", "requested_model") => {
                Some("coalesce(nullif(trim(l.requested_model), ''), l.model)".to_owned())
            }
            "model" => Some("l.model".to_owned()),
            "calendar_days" => Some((self.level() >= Level::AnsweredModel).to_string()),
            _ => name.strip_prefix("finite ").map_or_else(|| self.optional(name), |name| Some(self.finite(name))),
        }))
    }

    /// A time, unless it is none that can be told: PostgreSQL has an infinite one, which no driver can read.
    fn finite(&self, name: &str) -> String {
        let time = self.optional(name).unwrap_or_else(|| name.to_owned());
        format!("case when {time} >= '2000-01-01' and {time} < '10000-01-01' then {time} end")
    }

    fn optional(&self, name: &str) -> Option<String> {
        let (path, kind) = name.split_once(':')?;
        let (alias, column) = path.split_once('.').unwrap_or(("", path));
        let table = match alias {
            "l" => "usage_logs",
            "e" => "ops_error_logs",
            "u" => "users",
            "k" => "api_keys",
            "a" => "accounts",
            _ => "user_subscriptions",
        };
        Some(if self.has(table, column) { path.to_owned() } else { format!("null::{kind}") })
    }
}

impl known_database::Schema for Schema {
    async fn detect(snapshot: &mut Snapshot) -> Result<Self, ReadError> {
        let columns = Columns::of_postgres(snapshot, READ).await?;
        let what = "looking at the administrator's functions";
        let rows = snapshot.fetch(what, sqlx::query(include_str!("sql/functions.sql"))).await?;
        let functions = rows.iter().map(|row| row.try_get("function")).collect::<Result<_, _>>();
        let functions = functions.map_err(|error| snapshot.error(what, &error))?;
        if !columns.exists("usage_logs", "actual_cost") {
            let hint = "is this the database of sub2api, and may the role use its schema?";
            let text = format!("there is no table usage_logs with actual_cost for this role; {hint}");
            return Err(ReadError::new(Reason::Schema, text));
        }
        Ok(Self { columns, functions })
    }
}
