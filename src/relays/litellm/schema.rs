//! Which of LiteLLM's tables and columns there are: releases are told by them.

use sqlx::AssertSqlSafe;

use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, Named};
use crate::relay::known_database;

/// The table of rows.
pub(super) const ROWS: &str = "LiteLLM_SpendLogs";

/// What releases from 1.110 on have to account for, in order of arrival.
pub(super) const DELIVERIES: &str = "LiteLLM_SpendLogDelivery";

/// Every column that some statement reads, by table.
const READ: &Named = &[
    (
        ROWS,
        "request_id api_key spend prompt_tokens completion_tokens startTime endTime completionStartTime model model_id \
         model_group custom_llm_provider user metadata cache_hit status",
    ),
    (DELIVERIES, "request_id state applied_at"),
    ("LiteLLM_DailyUserSpend", "date api_requests"),
    (
        "LiteLLM_VerificationToken",
        "token key_alias spend max_budget budget_duration budget_reset_at budget_id expires blocked user_id \
         created_at",
    ),
    ("LiteLLM_DeletedVerificationToken", "token key_alias user_id deleted_at"),
    ("LiteLLM_UserTable", "user_id user_alias user_role spend max_budget budget_duration budget_reset_at"),
    ("LiteLLM_BudgetTable", "budget_id max_budget budget_duration budget_reset_at"),
    ("LiteLLM_ProxyModelTable", "model_id model_name blocked"),
    ("LiteLLM_HealthCheckTable", "model_id status response_time_ms checked_at"),
    ("LiteLLM_ProxyWorkerHeartbeat", "last_heartbeat_at"),
    ("_prisma_migrations", "migration_name finished_at"),
];

/// Apart from requests: what LiteLLM asks for itself, and earlier attempts that the upstream has billed.
const IS_INTERNAL: &str = "(coalesce(l.metadata ->> 'internal_call_origin', '') <> '' \
                           or coalesce(l.metadata ->> 'billed_retry_attempt', '') = 'true')";

/// The columns of the tables that are read, and whether this role may read them.
#[derive(Clone, Debug)]
pub(super) struct Schema(Columns);

impl Schema {
    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.0.exists(table, column)
    }

    /// Whether all columns that are read of a table are there for this role.
    pub(super) fn reads(&self, table: &str) -> bool {
        columns_of(table).all(|column| self.reads_column(table, column))
    }

    pub(super) fn reads_column(&self, table: &str, column: &str) -> bool {
        self.0.readable(table, column)
    }

    /// Columns that are there and that this role may not read, by table.
    pub(super) fn unreadable(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        self.0.unreadable(READ)
    }
}

fn columns_of(table: &str) -> impl Iterator<Item = &'static str> {
    READ.iter().filter(move |(name, _)| *name == table).flat_map(|(_, columns)| columns.split(' '))
}

/// A statement with what a row is that is no request.
pub(super) fn filled(text: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(text.replace("{is_internal}", IS_INTERNAL))
}

impl known_database::Schema for Schema {
    async fn detect(snapshot: &mut Snapshot) -> Result<Self, ReadError> {
        let what = "looking at LiteLLM's columns";
        let schema = Self(Columns::of_postgres(snapshot, READ).await?);
        if !schema.has(ROWS, "request_id") {
            let hint = "is this LiteLLM's database, and may the role use its schema?";
            return Err(ReadError::new(
                Reason::Schema,
                format!("{what}: there is no table {ROWS} for this role; {hint}"),
            ));
        }
        let lacking: Vec<&str> = columns_of(ROWS).filter(|column| !schema.has(ROWS, column)).collect();
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            let text = format!("{what}: {ROWS} has no {lacking}; releases from 1.80 on have them");
            return Err(ReadError::new(Reason::Schema, text));
        }
        Ok(schema)
    }
}
