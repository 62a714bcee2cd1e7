//! The usage ledger: two tables, each with a sequence of ids of its own. `usage_logs` has the requests that were answered,
//! and with them all that the relay's dashboards add up; `ops_error_logs` has what became of the others.
//!
//! Rows are final when they appear, some of them seconds after one with a greater id.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::errors::{ErrorLog, Errors, Which};
use super::row;
use super::schema::Schema;
use super::zone::Zones;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::{Facts, LedgerSum, Outcome, ReadError, UsageRow, Usd};
use crate::relay::civil::Calendars;
use crate::relay::known_database::KnownDatabase;
use crate::relay::shared_names::SharedNames;
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange, civil};

pub(super) const ROWS: &str = include_str!("sql/rows.sql");
pub(super) const NEW: &str = "l.id > $1 order by l.id limit $2";
const AGAIN: &str = "l.id = any($1)";
pub(super) const OLDER: &str = "l.id < $1 order by l.id desc limit $2";
/// The sum keeps the planner from walking up the primary key in the hope of meeting the span early.
const BETWEEN: &str = "l.created_at >= $1 and l.created_at < $2 and l.id > $3 order by l.id + 0 limit $4";

pub(super) struct LedgerReader {
    database: KnownDatabase<Schema>,
    zones: Zones,
    names: SharedNames,
    calendars: Option<Calendars>,
    errors: Option<ErrorLog>,
    /// The last clean-up by an administrator that has been seen.
    cleanup: Option<i64>,
    /// One has been seen, and not yet told.
    lost_rows: bool,
}

/// Rows as they came: some may be refused.
#[derive(Default)]
struct Batch {
    rows: Vec<UsageRow>,
    refused: Refused,
    read: usize,
}

impl LedgerReader {
    pub(super) fn new(database: Database, zones: Zones) -> Self {
        Self {
            database: KnownDatabase::new(database),
            zones,
            names: SharedNames::default(),
            calendars: None,
            errors: None,
            cleanup: None,
            lost_rows: false,
        }
    }

    async fn read_refresh(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        request: &RefreshRequest,
    ) -> Result<Refresh, ReadError> {
        let zone = self.zones.choose(snapshot, schema).await?.0;
        let what = "reading the ledger's clock";
        let ends = snapshot.fetch_one(what, sqlx::query(include_str!("sql/ends.sql"))).await?;
        let wrong = |error: sqlx::Error| snapshot.error(what, &error);
        let now: DateTime<Utc> = ends.try_get("now").map_err(wrong)?;
        let top = ends.try_get("top").map_err(wrong)?;
        let first: Option<DateTime<Utc>> = ends.try_get("first_at").map_err(wrong)?;
        let date = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
        let (first, today) = (date(first.unwrap_or(now).min(now)), date(now));
        // What was cleaned up may still be counted: the days of a month do not go with their rows.
        let calendar = self.calendars(zone).get(first.min(today - civil::LEAST_DAYS), today)?;
        self.lost_rows |= self.is_cleaned_up(snapshot, schema).await?;

        let mut batch = Batch::default();
        let mut more = false;
        if let Some(after) = request.after {
            let query = sqlx::query(schema.fit_with(ROWS, NEW)).bind(after).bind(i64::from(request.limit));
            batch = self.batch(snapshot, "reading new rows", query).await?;
            more = batch.read >= request.limit as usize;
        }
        let (errors, again): (Vec<i64>, Vec<i64>) = request.reread.iter().partition(|id| **id < 0);
        if !again.is_empty() {
            let query = sqlx::query(schema.fit_with(ROWS, AGAIN)).bind(again);
            batch.take(self.batch(snapshot, "reading rows again", query).await?);
        }
        let mut audit = Vec::with_capacity(request.audit.len());
        for span in &request.audit {
            audit.push(Some(sum(snapshot, schema, span).await?));
        }
        more |= self.read_errors(snapshot, schema, request, now, &errors, &mut batch).await?;
        Ok(Refresh {
            now,
            same_time_yesterday: civil::day_before(zone, now),
            calendar,
            basis: format!("{zone}; {}", schema.level().label()),
            tariff: String::new(),
            top,
            // The relay deletes what is older than its retention, 90 days unless set otherwise.
            kept_since: Some(first),
            month_since: None,
            rows: batch.rows,
            more,
            refused: batch.refused,
            audit,
            lost_rows: self.lost_rows,
            resume_token: self.errors.as_ref().map_or_else(String::new, ErrorLog::resume_token),
            zone_error: None,
        })
    }

    fn calendars(&mut self, zone: Tz) -> &mut Calendars {
        if self.calendars.as_ref().is_none_or(|calendars| calendars.zone() != zone) {
            self.calendars = None;
        }
        self.calendars.get_or_insert_with(|| Calendars::new(zone))
    }

    /// Whether an administrator has deleted rows since the last look.
    async fn is_cleaned_up(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<bool, ReadError> {
        if !schema.reads("usage_cleanup_tasks") {
            return Ok(false);
        }
        let what = "looking for clean-ups";
        let row = snapshot.fetch_one(what, sqlx::query(include_str!("sql/cleanups.sql"))).await?;
        let last = row.try_get("last").map_err(|error| snapshot.error(what, &error))?;
        Ok(self.cleanup.replace(last).is_some_and(|before| before != last))
    }

    /// New errors and those of `again`; tells whether more new ones wait.
    async fn read_errors(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        request: &RefreshRequest,
        now: DateTime<Utc>,
        again: &[i64],
        batch: &mut Batch,
    ) -> Result<bool, ReadError> {
        if !schema.has("ops_error_logs", "id") {
            return Ok(false);
        }
        let second = now.timestamp();
        // As far as it was delivered: what a refresh that failed has read of it is lost.
        let log = ErrorLog::restore(&request.resume_token).unwrap_or_else(|| ErrorLog::begin(second));
        let log = self.errors.insert(log);
        if request.anew {
            log.again(second);
        }
        if !again.is_empty() {
            let stable_ids: Vec<i64> = again.iter().map(|id| -id).collect();
            let errors = log.read(snapshot, schema, Which::Again(&stable_ids), &mut self.names).await?;
            batch.take(errors.into());
        }
        if request.after.is_none() {
            return Ok(false);
        }
        let errors = log.new_rows(snapshot, schema, second, request.limit, &mut self.names).await?;
        let more = errors.more;
        batch.take(errors.into());
        Ok(more)
    }

    async fn batch(
        &mut self,
        snapshot: &mut Snapshot,
        what: &str,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Batch, ReadError> {
        let read = snapshot.fetch(what, query).await?;
        let mut batch = Batch { read: read.len(), ..Batch::default() };
        for it in &read {
            let row = row::request(it, &mut self.names);
            let id = it.try_get("id").map_err(|error| snapshot.error(what, &error))?;
            batch.rows.extend(batch.refused.sift(row, id));
        }
        Ok(batch)
    }

    async fn read_between(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        range: TimeRange,
        after: i64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, ReadError> {
        let query = sqlx::query(schema.fit_with(ROWS, BETWEEN));
        let query = query.bind(range.start).bind(range.end).bind(after).bind(i64::from(limit));
        let batch = self.batch(snapshot, "reading rows of a span", query).await?;
        let last = batch.rows.last().filter(|_| batch.read >= limit as usize).map(|row| row.id);
        let mut rows = batch.rows;
        // With the first page: pages are told apart by the ids of requests.
        if after == i64::MIN
            && let Some(log) = &self.errors
        {
            let which = Which::Newest { of: &range, limit: limit.into() };
            let errors = log.read(snapshot, schema, which, &mut self.names).await?.rows.into_iter();
            rows.extend(errors.map(|row| UsageRow { id: row.id.min(last.unwrap_or(i64::MAX)), ..row }));
        }
        rows.sort_by_key(|row| row.id);
        Ok(rows)
    }
}

impl Batch {
    fn take(&mut self, other: Self) {
        self.rows.extend(other.rows);
        self.refused.merge(other.refused);
    }
}

impl From<Errors> for Batch {
    fn from(errors: Errors) -> Self {
        Self { rows: errors.rows, refused: errors.refused, read: 0 }
    }
}

/// What its dashboards count of a span: every row, and no error.
async fn sum(snapshot: &mut Snapshot, schema: &Schema, span: &TimeRange) -> Result<LedgerSum, ReadError> {
    let what = "summing the ledger";
    let query = sqlx::query(schema.fit(include_str!("sql/audit.sql"))).bind(span.start).bind(span.end);
    let groups = snapshot.fetch(what, query).await?;
    ledger_sum(&groups).map_err(|error| snapshot.error(what, &error))
}

fn ledger_sum(groups: &[PgRow]) -> Result<LedgerSum, sqlx::Error> {
    let mut sum = LedgerSum { list_cost: Some(Usd::ZERO), millis: Some(0), ..LedgerSum::default() };
    for group in groups {
        let count = |column| Ok::<_, sqlx::Error>(group.try_get::<i64, _>(column)?.cast_unsigned());
        let usd = |column| Ok::<_, sqlx::Error>(Usd::from_decimal(group.try_get::<Decimal, _>(column)?));
        let outcome = if group.try_get("refused")? { Outcome::Excluded } else { Outcome::Success };
        let model: Option<&str> = group.try_get("model")?;
        sum.count(group.try_get("account_id")?, model, Some(outcome), count("requests")?);
        sum.cost += usd("cost")?;
        sum.list_cost = Some(sum.list_cost.unwrap_or_default() + usd("list_cost")?);
        sum.board_tokens = sum.board_tokens.wrapping_add(count("board_tokens")?);
        sum.millis = Some(sum.millis.unwrap_or(0).wrapping_add(count("millis")?));
    }
    Ok(sum)
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        // Its dashboards count answers alone, and its operations pages errors beside them: no window has both.
        Facts {
            failures: false,
            errors: false,
            in_progress: false,
            imports: false,
            refunds: false,
            hits_of_cached: false,
            teams: false,
            ..Facts::ALL
        }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_refresh(&mut snapshot, &schema, request).await;
        let refresh = self.database.end(snapshot, result).await?;
        self.lost_rows = false;
        Ok(refresh)
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let query = sqlx::query(schema.fit_with(ROWS, OLDER)).bind(below).bind(i64::from(limit));
        let result = self.batch(&mut snapshot, "reading older rows", query).await;
        let result =
            result.map(|batch| Older { rows: batch.rows, bottom: batch.read < limit as usize, refused: batch.refused });
        self.database.end(snapshot, result).await
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_between(&mut snapshot, &schema, range, after, limit).await;
        self.database.end(snapshot, result).await
    }
}
