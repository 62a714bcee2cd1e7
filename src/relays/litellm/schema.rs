//! Which of LiteLLM's tables and columns there are: releases are told by them.

use sqlx::AssertSqlSafe;

use crate::connect::postgres::Snapshot;
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, Named, fill};
use crate::relay::known_database;

/// The table of rows.
pub(super) const ROWS: &str = "LiteLLM_SpendLogs";

/// What releases from 1.110 on have to account for, in order of arrival.
pub(super) const DELIVERIES: &str = "LiteLLM_SpendLogDelivery";

/// LiteLLM's own counters by day, and those of them that are of teams and of organizations.
pub(super) const COUNTERS: &str = "LiteLLM_DailyUserSpend";
pub(super) const TEAM_DAYS: &str = "LiteLLM_DailyTeamSpend";
pub(super) const ORGANIZATION_DAYS: &str = "LiteLLM_DailyOrganizationSpend";

/// What each of these has.
const COUNTED: &str = "date api_key model model_group custom_llm_provider prompt_tokens completion_tokens spend \
                       cache_read_input_tokens cache_creation_input_tokens api_requests successful_requests \
                       failed_requests";

pub(super) const TEAMS: &str = "LiteLLM_TeamTable";
pub(super) const ORGANIZATIONS: &str = "LiteLLM_OrganizationTable";
const BUDGETS: &str = "LiteLLM_BudgetTable";

/// End users by day, of whom the exporter wants to know no more than how many.
pub(super) const END_USERS: &str = "LiteLLM_DailyEndUserSpend";
pub(super) const WORKERS: &str = "LiteLLM_ProxyWorkerHeartbeat";

/// Columns of the rows that old releases have not.
const OWNERS: &str = "team_id organization_id";

/// Every column that some statement reads, by table.
const READ: &Named = &[
    (
        ROWS,
        "request_id call_type api_key spend prompt_tokens completion_tokens startTime endTime completionStartTime model \
         model_id model_group custom_llm_provider user metadata cache_hit status",
    ),
    (ROWS, OWNERS),
    (DELIVERIES, "request_id state applied_at"),
    (COUNTERS, "user_id"),
    (COUNTERS, COUNTED),
    (TEAM_DAYS, "team_id"),
    (TEAM_DAYS, COUNTED),
    (ORGANIZATION_DAYS, "organization_id"),
    (ORGANIZATION_DAYS, COUNTED),
    (
        "LiteLLM_VerificationToken",
        "token key_alias spend max_budget budget_duration budget_reset_at budget_id expires blocked user_id \
         created_at",
    ),
    ("LiteLLM_DeletedVerificationToken", "token key_alias user_id deleted_at"),
    ("LiteLLM_UserTable", "user_id user_alias user_role spend max_budget budget_duration budget_reset_at"),
    (TEAMS, "team_id team_alias organization_id blocked spend max_budget soft_budget budget_duration budget_reset_at"),
    (ORGANIZATIONS, "organization_id organization_alias spend budget_id"),
    (BUDGETS, "budget_id max_budget soft_budget budget_duration budget_reset_at"),
    ("LiteLLM_ProxyModelTable", "model_id model_name blocked"),
    ("LiteLLM_HealthCheckTable", "model_id status checked_at"),
    (WORKERS, "last_heartbeat_at"),
    (END_USERS, "date end_user_id"),
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

    /// Whether rows tell whose team and organization they are of.
    pub(super) fn tells_owners(&self) -> bool {
        OWNERS.split_whitespace().any(|column| self.reads_column(ROWS, column))
    }

    /// Cuts a statement to fit: `{alias.column:type}` becomes the column or, where this release or role has none, null;
    /// see [`filled`] as well.
    pub(super) fn fit(&self, text: &str) -> AssertSqlSafe<String> {
        filled(&fill(text, |name| {
            let (path, kind) = name.split_once(':')?;
            let (alias, column) = path.split_once('.')?;
            let table = match alias {
                "l" => ROWS,
                "t" => TEAMS,
                _ => BUDGETS,
            };
            Some(if self.reads_column(table, column) { path.to_owned() } else { format!("null::{kind}") })
        }))
    }

    /// Columns that are there and that this role may not read but should, by table.
    pub(super) fn unreadable(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut tables = self.0.unreadable(READ);
        tables.retain(|(table, _)| *table != END_USERS);
        tables
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
        let lacking: Vec<&str> = columns_of(ROWS)
            .filter(|column| !schema.has(ROWS, column) && !OWNERS.split_whitespace().any(|it| it == *column))
            .collect();
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            let text = format!("{what}: {ROWS} has no {lacking}; releases from 1.80 on have them");
            return Err(ReadError::new(Reason::Schema, text));
        }
        Ok(schema)
    }
}
