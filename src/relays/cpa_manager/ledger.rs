//! The usage ledger: by id for what is new, by time for the audit. A row is final when it appears.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Row, Sqlite};

use super::Clock;
use super::prices::{Models, Parts, Prices};
use super::row::{RowReader, end, moment, name, text};
use super::schema::{Level, Schema, SchemaCache};
use crate::connect::sqlite::{File, Snapshot};
use crate::model::LedgerSum;
use crate::model::{Facts, ReadError, UsageRow};
use crate::relay::civil::Calendars;
use crate::relay::stable_ids::{RowIdentity, StableIds};
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange, civil};

pub(super) const ROWS: &str = include_str!("rows.sql");
pub(super) const NEW: &str = "id > ?1 order by id limit ?2";
pub(super) const AGAIN: &str = "id in (select value from json_each(?1))";
pub(super) const OLDER: &str = "id < ?1 order by id desc limit ?2";
/// The plus keeps the planner from walking up the primary key in the hope of meeting the span early.
pub(super) const BETWEEN: &str = "timestamp_ms >= ?1 and timestamp_ms < ?2 and +id > ?3 order by +id limit ?4";
pub(super) const AUDIT: &str = include_str!("audit.sql");
pub(super) const ENDS: &str = include_str!("ends.sql");
pub(super) const MARKS: &str = include_str!("marks.sql");

pub(super) struct LedgerReader {
    file: File,
    clock: Clock,
    schema: SchemaCache,
    prices: Prices,
    rows: RowReader,
    /// A file that is begun anew or restored gives out ids again.
    stable_ids: Option<StableIds>,
    calendars: Calendars,
}

/// Rows as they came: some may be refused.
struct Batch {
    rows: Vec<UsageRow>,
    identities: Vec<RowIdentity>,
    refused: Refused,
    read: usize,
}

impl LedgerReader {
    pub(super) fn new(file: File, zone: Tz, clock: Clock) -> Self {
        let (schema, prices, rows) = (SchemaCache::default(), Prices::default(), RowReader::default());
        Self { file, clock, schema, prices, rows, stable_ids: None, calendars: Calendars::new(zone) }
    }

    async fn basis(&mut self, snapshot: &mut Snapshot) -> Result<Arc<Schema>, ReadError> {
        let version = snapshot.schema_version().await?;
        let schema = self.schema.get(Some(version), Schema::detect(snapshot)).await?;
        self.prices.renew(snapshot, &schema).await?;
        Ok(schema)
    }

    async fn end<T>(&mut self, snapshot: Snapshot, result: Result<T, ReadError>) -> Result<T, ReadError> {
        snapshot.close().await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }

    fn stable_ids(&mut self) -> &mut StableIds {
        self.stable_ids.get_or_insert_default()
    }

    async fn read_refresh(&mut self, snapshot: &mut Snapshot, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        if self.stable_ids.is_none() {
            self.stable_ids = StableIds::restore(&request.resume_token);
        }
        let schema = self.basis(snapshot).await?;
        let what = "reading the ledger's ends";
        let ends = snapshot.fetch_one(what, sqlx::query(ENDS)).await?;
        let wrong = |error: sqlx::Error| snapshot.error(what, &error);
        let (top, first_ms): (i64, Option<i64>) =
            (ends.try_get("top").map_err(wrong)?, ends.try_get("first_ms").map_err(wrong)?);
        let lost_rows = self.notice_lost_rows(snapshot, top).await?;
        let now = (self.clock)();
        let first = first_ms.and_then(moment).unwrap_or(now).min(now);
        let date = |at: DateTime<Utc>| at.with_timezone(&self.calendars.zone()).date_naive();
        let calendar = self.calendars.get(date(first), date(now))?;

        let mut rows = Vec::new();
        let mut refused = Refused::default();
        let mut more = false;
        if let Some(after) = request.after {
            let after = self.stable_ids().id_up_to(after);
            let query = sqlx::query(schema.fit_with(ROWS, NEW)).bind(after).bind(i64::from(request.limit));
            let batch = self.batch(snapshot, "reading new rows", query, &schema).await?;
            more = batch.read >= request.limit as usize;
            self.stable_ids().remember(batch.identities);
            rows = batch.rows;
            refused = batch.refused;
        }
        if !request.reread.is_empty() {
            let ids: Vec<i64> = request.reread.iter().filter_map(|position| self.stable_ids().id(*position)).collect();
            let ids = serde_json::Value::from(ids).to_string();
            let query = sqlx::query(schema.fit_with(ROWS, AGAIN)).bind(ids);
            let batch = self.batch(snapshot, "reading rows again", query, &schema).await?;
            rows.extend(batch.rows);
            refused.merge(batch.refused);
        }
        let mut audit = Vec::with_capacity(request.audit.len());
        for span in &request.audit {
            audit.push(Some(self.sum(snapshot, &schema, span).await?));
        }
        Ok(Refresh {
            now,
            same_time_yesterday: civil::day_before(self.calendars.zone(), now),
            calendar,
            basis: format!("{}; {}", self.calendars.zone(), schema.level.label()),
            tariff: self.prices.tariff().to_owned(),
            top: self.stable_ids().top(top),
            // The relay deletes no events by itself.
            kept_since: None,
            month_since: None,
            rows,
            more,
            refused,
            audit,
            lost_rows,
            resume_token: self.stable_ids().resume_token(),
            zone_error: None,
        })
    }

    /// Whether rows that were read have gone from the file since.
    async fn notice_lost_rows(&mut self, snapshot: &mut Snapshot, top: i64) -> Result<bool, ReadError> {
        let oldest = identities(snapshot, (i64::MIN, i64::MAX), 1).await?;
        let oldest = oldest.first().map(|identity| (identity.id, identity.at.unwrap_or(0)));
        self.stable_ids()
            .notice_lost("the events", oldest, top, None, snapshot, |snapshot, first, last| {
                Box::pin(identities(snapshot, (first, last), i64::MAX))
            })
            .await
    }

    async fn batch(
        &mut self,
        snapshot: &mut Snapshot,
        what: &str,
        query: Query<'_, Sqlite, SqliteArguments>,
        schema: &Schema,
    ) -> Result<Batch, ReadError> {
        let read = snapshot.fetch(what, query).await?;
        let identities = read.iter().filter_map(identity).collect();
        let mut batch =
            Batch { rows: Vec::with_capacity(read.len()), identities, refused: Refused::default(), read: read.len() };
        let stable_ids = self.stable_ids.get_or_insert_default();
        for row in &read {
            let position = stable_ids.of(row.try_get("id").map_err(|error| snapshot.error(what, &error))?);
            let read = batch.refused.sift(self.rows.read(row, schema.level, &self.prices), position);
            batch.rows.extend(read.map(|row| UsageRow { id: position, request_id: position, ..row }));
        }
        Ok(batch)
    }

    /// The store's sums, priced group by group.
    async fn sum(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        span: &TimeRange,
    ) -> Result<LedgerSum, ReadError> {
        let what = "summing the ledger";
        let query = sqlx::query(schema.fit(AUDIT));
        let query = query.bind(span.start.timestamp_millis()).bind(span.end.timestamp_millis());
        let groups = snapshot.fetch(what, query.bind(self.prices.smallest_step())).await?;
        let mut sum = LedgerSum::default();
        for group in &groups {
            self.add(group, schema.level, &mut sum).map_err(|error| snapshot.error(what, &error))?;
        }
        Ok(sum)
    }

    fn add(&mut self, group: &SqliteRow, level: Level, sum: &mut LedgerSum) -> Result<(), sqlx::Error> {
        let count = |column| group.try_get::<i64, _>(column);
        let parts = Parts {
            prompt: count("prompt_tokens")?,
            output: count("output_tokens")?,
            cached: count("cached")?,
            cache_read: count("cache_read")?,
            cache_creation: count("cache_creation")?,
        };
        let [model, requested, resolved, tier] =
            ["model", "requested_model", "resolved_model", "service_tier"].map(|column| text(group, column));
        let models = Models { model: &model?, requested: &requested?, resolved: &resolved? };
        if let Some(price) = self.prices.per_token(models, &tier?, count("large_input")?) {
            sum.cost += price.cost(&parts);
        }
        let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
        let requests = unsigned(count("requests")?);
        sum.count(self.rows.provider(group)?, Some(name(level, models)), Some(end(group)?.1), requests);
        sum.errors += unsigned(count("errors")?);
        sum.board_tokens += unsigned(count("total_tokens")?);
        Ok(())
    }
}

/// What tells the rows of a span of ids from others with these.
async fn identities(
    snapshot: &mut Snapshot,
    (from, to): (i64, i64),
    limit: i64,
) -> Result<Vec<RowIdentity>, ReadError> {
    let query = sqlx::query(MARKS).bind(from).bind(to).bind(limit);
    Ok(snapshot.fetch("looking at rows again", query).await?.iter().filter_map(identity).collect())
}

fn identity(row: &SqliteRow) -> Option<RowIdentity> {
    let id = row.try_get("id").ok()?;
    let number = |column| row.try_get::<Option<i64>, _>(column).ok().flatten();
    Some(RowIdentity { id, at: number("timestamp_ms"), key: number("created_at_ms") })
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        // Hits are a share of all input (Plus v1.12.2 `internal/usage/event.go`, `CacheHitTotals`).
        Facts {
            users: false,
            list_cost: false,
            in_progress: false,
            refunds: false,
            hits_of_cached: false,
            teams: false,
            ..Facts::ALL
        }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = self.read_refresh(&mut snapshot, request).await;
        self.end(snapshot, result).await
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = async {
            let schema = self.basis(&mut snapshot).await?;
            let below = self.stable_ids().id_up_to(below.saturating_sub(1)).saturating_add(1);
            let query = sqlx::query(schema.fit_with(ROWS, OLDER)).bind(below).bind(i64::from(limit));
            let batch = self.batch(&mut snapshot, "reading older rows", query, &schema).await?;
            Ok(Older { rows: batch.rows, bottom: batch.read < limit as usize, refused: batch.refused })
        }
        .await;
        self.end(snapshot, result).await
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = async {
            let schema = self.basis(&mut snapshot).await?;
            let query = sqlx::query(schema.fit_with(ROWS, BETWEEN));
            let query = query.bind(range.start.timestamp_millis()).bind(range.end.timestamp_millis());
            let query = query.bind(self.stable_ids().id_up_to(after)).bind(i64::from(limit));
            Ok(self.batch(&mut snapshot, "reading rows of a span", query, &schema).await?.rows)
        }
        .await;
        self.end(snapshot, result).await
    }
}
