//! Would a recurring statement walk through the whole fact table? The planner is asked before it is run: on a large
//! table such a statement would take more than all the relay's own, again and again.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Postgres, Row};

use super::schema::Schema;
use super::statements;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::{ReadError, Reason, Scope};

/// Up to this many rows a scan of the whole fact table costs nothing worth a word.
pub(crate) const LARGE: i64 = 100_000;
/// Tables grow, and indexes come and go.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// While a statement is refused.
const SOON: Duration = Duration::from_secs(60);

/// What is run again and again on the fact table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    Clock,
    NewRows,
    OpenRows,
    OlderRows,
    Span,
    Audit,
    SpentByUser,
    SpentByKey,
    SpentByProvider,
}

impl Statement {
    pub(crate) const ALL: [Self; 9] = [
        Self::Clock,
        Self::NewRows,
        Self::OpenRows,
        Self::OlderRows,
        Self::Span,
        Self::Audit,
        Self::SpentByUser,
        Self::SpentByKey,
        Self::SpentByProvider,
    ];

    /// Its name for people and in the metric's label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::NewRows => "new_rows",
            Self::OpenRows => "open_rows",
            Self::OlderRows => "older_rows",
            Self::Span => "span",
            Self::Audit => "audit",
            Self::SpentByUser => "spent_by_user",
            Self::SpentByKey => "spent_by_key",
            Self::SpentByProvider => "spent_by_provider",
        }
    }

    /// What sums the spending of one entity; the relay sets no limit on a model.
    pub(crate) const fn spent_by(scope: Scope) -> Option<Self> {
        match scope {
            Scope::User => Some(Self::SpentByUser),
            Scope::Key => Some(Self::SpentByKey),
            Scope::Provider => Some(Self::SpentByProvider),
            Scope::Team | Scope::Organization | Scope::Model => None,
        }
    }

    pub(crate) fn sql(self, schema: &Schema) -> AssertSqlSafe<String> {
        match self {
            Self::Clock => schema.fit(statements::CLOCK),
            Self::NewRows => schema.fit_with(statements::ROWS, statements::NEW),
            Self::OpenRows => schema.fit_with(statements::ROWS, statements::AGAIN),
            Self::OlderRows => schema.fit_with(statements::ROWS, statements::OLDER),
            Self::Span => schema.fit_with(statements::ROWS, statements::BETWEEN),
            Self::Audit => schema.fit(statements::AUDIT),
            Self::SpentByUser => schema.fit_with(statements::SPENT, statements::BY_USER),
            Self::SpentByKey => schema.fit_with(statements::SPENT, statements::BY_KEY),
            Self::SpentByProvider => schema.fit_with(statements::SPENT, statements::BY_PROVIDER),
        }
    }

    /// Asks for its plan, with what is small: a day of a young ledger may well be half of it.
    pub(crate) fn explain<'q>(self, schema: &Schema, now: DateTime<Utc>) -> Query<'q, Postgres, PgArguments> {
        let minute_ago = now - TimeDelta::minutes(1);
        let AssertSqlSafe(sql) = self.sql(schema);
        let explain = sqlx::query(AssertSqlSafe(format!("explain {sql}")));
        match self {
            Self::Clock => explain.bind("UTC"),
            Self::NewRows | Self::OlderRows => explain.bind(i64::from(i32::MAX)).bind(1000_i64),
            Self::OpenRows => explain.bind(vec![1_i64, 2, 3]),
            Self::Span => explain.bind(minute_ago).bind(now).bind(0_i64).bind(1000_i64),
            Self::Audit => explain.bind(minute_ago).bind(now),
            Self::SpentByUser | Self::SpentByKey | Self::SpentByProvider => {
                explain.bind(1_i64).bind(minute_ago).bind(now)
            }
        }
    }

    /// Whether its plan walks through the whole fact table.
    pub(crate) async fn scans(self, snapshot: &mut Snapshot, schema: &Schema) -> Result<bool, ReadError> {
        let plan = snapshot.fetch("explaining a statement", self.explain(schema, Utc::now())).await?;
        // The name may go on: a partition's, or the alias.
        let scan = format!("Seq Scan on {}", schema.fact_table());
        Ok(plan.iter().any(|line| line.try_get::<&str, _>(0).is_ok_and(|line| line.contains(&scan))))
    }
}

/// How many rows the fact table has, by the server's own estimate; -1 when it was never analysed.
pub(crate) async fn size(snapshot: &mut Snapshot, schema: &Schema) -> Result<i64, ReadError> {
    let what = "looking at the size";
    let query = sqlx::query(include_str!("estimate.sql")).bind(schema.fact_table());
    snapshot.fetch_one(what, query).await?.try_get("rows").map_err(|error| snapshot.error(what, &error))
}

/// Which statements are refused, as of the last look.
#[derive(Default)]
pub(crate) struct Plans {
    looked: Option<Instant>,
    refused: Vec<Statement>,
}

impl Plans {
    /// Whether it is time to look.
    pub(crate) fn due(&self) -> bool {
        let age = if self.refused.is_empty() { AGAIN } else { SOON };
        self.looked.is_none_or(|looked| looked.elapsed() >= age)
    }

    /// Looks. What cannot be explained is not refused: running it will tell why.
    pub(crate) async fn renew(&mut self, database: &mut Database, schema: &Schema) -> Result<(), ReadError> {
        let mut snapshot = database.snapshot().await?;
        let size = size(&mut snapshot, schema).await;
        database.finish(snapshot).await;
        let mut refused = Vec::new();
        for statement in Statement::ALL.into_iter().filter(|_| size.as_ref().is_ok_and(|size| *size > LARGE)) {
            // Each in its own transaction: a failure would end the others'.
            let mut snapshot = database.snapshot().await?;
            let scans = statement.scans(&mut snapshot, schema).await;
            database.finish(snapshot).await;
            if scans.is_ok_and(|scans| scans) {
                refused.push(statement);
            }
        }
        let changed = refused.iter().filter(|statement| !self.refused.contains(statement));
        for statement in changed {
            let (statement, table) = (statement.label(), schema.fact_table());
            tracing::warn!(statement, table, "refused: its plan walks through the whole table; {HINT}");
        }
        if refused.is_empty() && !self.refused.is_empty() {
            tracing::info!("no statement is refused any more");
        }
        (self.refused, self.looked) = (refused, Some(Instant::now()));
        Ok(())
    }

    /// # Errors
    /// When the statement is refused.
    pub(crate) fn permit(&self, statement: Statement, schema: &Schema) -> Result<(), ReadError> {
        if !self.refused.contains(&statement) {
            return Ok(());
        }
        let (statement, table) = (statement.label(), schema.fact_table());
        let text = format!("the statement {statement} is refused: its plan walks through all of {table}; {HINT}");
        Err(ReadError::new(Reason::Plan, text))
    }

    /// Every statement, and whether it is refused; nothing before the first look.
    pub(crate) fn all(&self) -> Vec<(&'static str, bool)> {
        let all = Statement::ALL.into_iter().filter(|_| self.looked.is_some());
        all.map(|statement| (statement.label(), self.refused.contains(&statement))).collect()
    }
}

/// What to do about a plan that walks through the whole table.
pub(crate) const HINT: &str = "an index of the relay is missing, or the table wants `analyze`";
