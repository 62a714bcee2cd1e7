//! The usage ledger: by id, in slices. A row is final when it appears.
//!
//! A span of time is first turned into a span of ids, by the index on the time.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::directory::Store;
use super::keys::KeyNames;
use super::options::Options;
use super::row::{LogRow, Meaning, identity, moment};
use super::schema::Schema;
use super::slices::Slices;
use super::{Clock, Family};
use crate::connect::sql::{Engine, Session, Value};
use crate::model::{Facts, LedgerSum, ReadError, UsageRow, Usd};
use crate::relay::civil::Calendars;
use crate::relay::plan::RelayPlan;
use crate::relay::shared_names::SharedNames;
use crate::relay::stable_ids::{RowIdentity, StableIds};
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange, civil};

/// Rows of one statement: some 20 ms of SQLite, during which the relay cannot write.
const STEP: i64 = 2_000;
/// Ids in one list.
const LIST: usize = 500;

pub(super) const ROWS: &str = include_str!("sql/rows.sql");
const IDENTITIES: &str = include_str!("sql/identities.sql");
const SPAN_IDS: &str = include_str!("sql/span_ids.sql");
const SUM: &str = include_str!("sql/sum.sql");

pub(super) struct LedgerReader {
    family: Family,
    logs: Store,
    /// The relay's main database, where the log is in another.
    main: Option<Store>,
    options: Option<Options>,
    /// How often they are read.
    options_interval: Duration,
    options_read: Option<Instant>,
    keys: KeyNames,
    names: SharedNames,
    calendars: Calendars,
    clock: Clock,
    stable_ids: Option<StableIds>,
    /// Rows have been deleted that were not the oldest, and no audit has looked since.
    lost_rows: bool,
}

/// Both ends of the log, and the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The server's clock; a SQLite file has none.
    pub now: Option<DateTime<Utc>>,
    /// The greatest id; 0 when there is none.
    pub top: i64,
    /// The smallest id, and when its row was written.
    pub first: Option<(i64, i64)>,
    /// When the oldest row with a usable time was written, which need not be the one with the smallest id.
    oldest: Option<i64>,
    /// When the row with the greatest id was written; `None` of a SQLite file, which is no standby.
    latest: Option<i64>,
}

/// Rows as they came: some may be refused.
#[derive(Default)]
struct Batch {
    rows: Vec<UsageRow>,
    identities: Vec<RowIdentity>,
    refused: Refused,
    /// There are no more of them.
    exhausted: bool,
}

impl LedgerReader {
    pub(super) fn new(family: Family, logs: Store, main: Option<Store>, plan: &RelayPlan, clock: Clock) -> Self {
        let zone = plan.timezone.unwrap_or(plan.timezone_fallback);
        Self {
            family,
            logs,
            main,
            options: None,
            options_interval: plan.directory_interval,
            options_read: None,
            keys: KeyNames::default(),
            names: SharedNames::default(),
            calendars: Calendars::new(zone),
            clock,
            stable_ids: None,
            lost_rows: false,
        }
    }

    fn stable_ids(&mut self) -> &mut StableIds {
        self.stable_ids.get_or_insert_default()
    }

    /// A session with the log, after a look at what its rows' meaning rests on.
    async fn session(&mut self) -> Result<(Session, std::sync::Arc<Schema>), ReadError> {
        let is_due = self.options_read.is_none_or(|read| read.elapsed() >= self.options_interval);
        if let Some(main) = self.main.as_mut().filter(|_| is_due) {
            match options_of(main, self.family, &mut self.keys).await {
                Ok(options) => self.options = Some(options),
                // They hardly ever change, and the log is in another database.
                Err(error) if self.options.is_some() => tracing::warn!(error = error.text, "keeping the last options"),
                Err(error) => return Err(error),
            }
        }
        let (mut session, schema) = self.logs.session().await?;
        let read = async {
            schema.look_at_logs()?;
            if self.main.is_none() && is_due {
                self.options = Some(basics(self.family, &mut session, &schema, &mut self.keys).await?);
            }
            Ok(())
        };
        if let Err(error) = read.await {
            return self.logs.end(session, Err(error)).await;
        }
        if is_due {
            self.options_read = Some(Instant::now());
        }
        Ok((session, schema))
    }

    async fn read_refresh(
        &mut self,
        session: &mut Session,
        schema: &Schema,
        request: &RefreshRequest,
    ) -> Result<Refresh, ReadError> {
        if self.stable_ids.is_none() {
            self.stable_ids = StableIds::restore(&request.resume_token);
        }
        let ends = ends(session).await?;
        let now = ends.now.unwrap_or_else(|| (self.clock)());
        let lost_rows = self
            .stable_ids()
            .notice_lost("the log", ends.first, ends.top, ends.latest, session, |session, first, last| {
                Box::pin(identities(session, first, last))
            })
            .await?;
        self.lost_rows |= lost_rows;
        let zone = self.calendars.zone();
        let date = |at: DateTime<Utc>| at.with_timezone(&zone).date_naive();
        let oldest = ends.oldest.and_then(moment).map_or(now, |at| at.min(now));
        let today = date(now);
        // What was cleaned up may still be counted: the days of a month do not go with their rows.
        let calendar = self.calendars.get(date(oldest).min(today - civil::LEAST_DAYS), today)?;
        let mut batch = Batch::default();
        let mut more = false;
        if let Some(after) = request.after {
            let after = self.stable_ids().id_up_to(after);
            let slices = Slices { after, upto: ends.top, seconds: None, newest_first: false };
            batch = self.slices(session, schema, "reading new rows", slices, request.limit).await?;
            more = !batch.exhausted;
            self.stable_ids().remember(batch.identities.drain(..));
        }
        let again: Vec<i64> = request.reread.iter().filter_map(|position| self.stable_ids().id(*position)).collect();
        for ids in again.chunks(LIST) {
            let (condition, values) = list(ids);
            self.read(session, schema, "reading rows again", &condition, &values, &mut batch).await?;
        }
        let mut audit = Vec::with_capacity(request.audit.len());
        for span in &request.audit {
            audit.push(Some(self.sum(session, schema, span, ends.top).await?));
        }
        // The clean-up deletes from the old end. Where the new end was deleted, nothing of it is worth keeping.
        let kept_since = (!self.lost_rows).then(|| date(oldest));
        if !request.audit.is_empty() && !lost_rows {
            self.lost_rows = false;
        }
        Ok(Refresh {
            now,
            same_time_yesterday: civil::day_before(zone, now),
            calendar,
            basis: format!("{zone}; {}", self.family.label()),
            tariff: self.options.as_ref().map_or_else(String::new, |it| format!("unit {}", it.quota_per_unit)),
            top: self.stable_ids().top(ends.top),
            kept_since,
            month_since: None,
            rows: batch.rows,
            more,
            refused: batch.refused,
            audit,
            lost_rows,
            resume_token: self.stable_ids().resume_token(),
            zone_error: None,
        })
    }

    /// The first `limit` rows of a range of ids, or some more.
    async fn slices(
        &mut self,
        session: &mut Session,
        schema: &Schema,
        what: &str,
        mut slices: Slices,
        limit: u32,
    ) -> Result<Batch, ReadError> {
        let mut batch = Batch::default();
        while batch.rows.len() < limit as usize {
            let Some(range) = slices.next() else {
                batch.exhausted = true;
                break;
            };
            let values = slices.values(range, STEP);
            let (read, last) = self.read(session, schema, what, slices.condition(), &values, &mut batch).await?;
            slices.advance(range, last.filter(|_| read as i64 >= STEP));
            if read == 0 {
                slices.skip_gap(session).await?;
            }
        }
        Ok(batch)
    }

    /// Reads rows into a batch; tells how many there were, and the id of the last.
    async fn read(
        &mut self,
        session: &mut Session,
        schema: &Schema,
        what: &str,
        condition: &str,
        values: &[Value<'_>],
        batch: &mut Batch,
    ) -> Result<(usize, Option<i64>), ReadError> {
        let text = schema.fit_with(ROWS, &schema.fit(condition));
        let read = session.fetch(what, &text, values, |row| {
            let id = row.int("id")?.ok_or(sqlx::Error::RowNotFound)?;
            Ok((id, LogRow::read(row)))
        });
        let read = read.await?;
        let (count, last) = (read.len(), read.iter().rev().find_map(|row| Some(row.as_ref().ok()?.0)));
        let Self { stable_ids, keys, names, options, family, .. } = self;
        let rate = options.as_ref().and_then(|options| options.rate);
        let mut meaning = Meaning { family: *family, rate, keys, names };
        let stable_ids = stable_ids.get_or_insert_default();
        for (id, row) in read.into_iter().flatten() {
            let position = stable_ids.of(id);
            let row = row.and_then(|row| {
                batch.identities.push(row.identity());
                row.row(position, &mut meaning)
            });
            batch.rows.extend(batch.refused.sift(row, position).flatten());
        }
        Ok((count, last))
    }

    /// The store's own sum of a span, slice by slice, up to an id: SQLite's statements each see what has just been written.
    async fn sum(
        &self,
        session: &mut Session,
        schema: &Schema,
        span: &TimeRange,
        top: i64,
    ) -> Result<LedgerSum, ReadError> {
        let seconds = seconds(span);
        let (after, upto) = ids_of(session, schema, seconds).await?;
        let mut slices = Slices { after, upto: upto.min(top), seconds: Some(seconds), newest_first: false };
        let rate = self.options.as_ref().and_then(|options| options.rate);
        let text = schema.fit(SUM);
        let mut sum = LedgerSum::default();
        while let Some(range) = slices.next() {
            let values = [range.0, range.1, seconds.0, seconds.1].map(Value::Int);
            let read = session.fetch_one("summing the log", &text, &values, |row| {
                let number = |column| row.int(column).map(Option::unwrap_or_default);
                Ok((number("requests")?, number("quota")?, number("board_tokens")?))
            });
            let (requests, quota, board_tokens) = read.await?;
            let unsigned = |count: i64| u64::try_from(count).unwrap_or(0);
            sum.requests += unsigned(requests);
            sum.cost += rate.map_or(Usd::ZERO, |rate| rate.cost(quota));
            sum.board_tokens += unsigned(board_tokens);
            slices.advance(range, None);
            if requests == 0 {
                slices.skip_gap(session).await?;
            }
        }
        Ok(sum)
    }
}

/// [`basics`] of the relay's main database.
async fn options_of(main: &mut Store, family: Family, keys: &mut KeyNames) -> Result<Options, ReadError> {
    let (mut session, schema) = main.session().await?;
    let read = basics(family, &mut session, &schema, keys).await;
    main.end(session, read).await
}

/// What rows mean: the relay's options, and of one-api its keys' names.
async fn basics(
    family: Family,
    session: &mut Session,
    schema: &Schema,
    keys: &mut KeyNames,
) -> Result<Options, ReadError> {
    if family == Family::OneApi {
        keys.renew(session, schema).await?;
    }
    Options::read(session, schema).await
}

pub(super) async fn ends(session: &mut Session) -> Result<Ends, ReadError> {
    let text = match session.engine() {
        Engine::Postgres => include_str!("sql/ends_postgres.sql"),
        Engine::MySql => include_str!("sql/ends_mysql.sql"),
        Engine::Sqlite => include_str!("sql/ends_sqlite.sql"),
    };
    let ends = session.fetch_one("looking at both ends of the log", text, &[], |row| {
        let first = row.int("first")?.zip(row.int("first_at")?);
        let now = row.int("now")?.and_then(DateTime::from_timestamp_micros);
        let top = row.int("top")?.unwrap_or(0);
        Ok(Ends { now, top, first, oldest: row.int("oldest")?, latest: row.int("latest")? })
    });
    ends.await
}

fn seconds(span: &TimeRange) -> (i64, i64) {
    // The first whole second at or after an instant.
    let second = |at: DateTime<Utc>| at.timestamp() + i64::from(at.timestamp_subsec_nanos() > 0);
    (second(span.start), second(span.end))
}

/// The ids `(after, upto]` that hold every row of a span of time.
async fn ids_of(session: &mut Session, schema: &Schema, (from, to): (i64, i64)) -> Result<(i64, i64), ReadError> {
    let (text, values) = (schema.fit(SPAN_IDS), [Value::Int(from), Value::Int(to)]);
    let read = session.fetch_one("looking for the ids of a span", &text, &values, |row| {
        Ok((row.int("first")?.unwrap_or(0), row.int("last")?.unwrap_or(0)))
    });
    let (first, last) = read.await?;
    Ok((first - 1, last.max(first - 1)))
}

fn list(ids: &[i64]) -> (String, Vec<Value<'static>>) {
    (format!("id in ({})", vec!["?"; ids.len()].join(",")), ids.iter().map(|id| Value::Int(*id)).collect())
}

/// What tells the rows of a range of ids, both ends included.
async fn identities(session: &mut Session, first: i64, last: i64) -> Result<Vec<RowIdentity>, ReadError> {
    let mut slices = Slices { after: first - 1, upto: last, seconds: None, newest_first: false };
    let text = IDENTITIES.replace("{which}", "id > ? and id <= ?");
    let mut present = Vec::new();
    while let Some(range) = slices.next() {
        let values = [range.0, range.1].map(Value::Int);
        let read = session.fetch_good("looking at rows again", &text, &values, identity).await?;
        slices.advance(range, None);
        if read.is_empty() {
            slices.skip_gap(session).await?;
        }
        present.extend(read);
    }
    Ok(present)
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        let cost = self.options.as_ref().is_none_or(|options| options.rate.is_some());
        // one-api writes rows of requests that succeeded alone. The screens of neither have shares of errors or of hits.
        let is_new = self.family == Family::NewApi;
        Facts {
            cost,
            list_cost: false,
            refunds: is_new,
            failures: is_new,
            cache: is_new,
            errors: false,
            in_progress: false,
            imports: false,
            hits_of_cached: false,
            teams: false,
            ..Facts::ALL
        }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        let (mut session, schema) = self.session().await?;
        let result = self.read_refresh(&mut session, &schema, request).await;
        self.logs.end(session, result).await
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let (mut session, schema) = self.session().await?;
        let result = async {
            let ends = ends(&mut session).await?;
            let first = ends.first.map_or(0, |(first, _)| first);
            let upto = self.stable_ids().id_up_to(below.saturating_sub(1)).min(ends.top);
            let slices = Slices { after: first - 1, upto, seconds: None, newest_first: true };
            let batch = self.slices(&mut session, &schema, "reading older rows", slices, limit).await?;
            Ok(Older { rows: batch.rows, bottom: batch.exhausted, refused: batch.refused })
        }
        .await;
        self.logs.end(session, result).await
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let (mut session, schema) = self.session().await?;
        let result = async {
            let seconds = seconds(&range);
            let (low, upto) = ids_of(&mut session, &schema, seconds).await?;
            let after = low.max(self.stable_ids().id_up_to(after));
            let slices = Slices { after, upto, seconds: Some(seconds), newest_first: false };
            Ok(self.slices(&mut session, &schema, "reading rows of a span", slices, limit).await?.rows)
        }
        .await;
        self.logs.end(session, result).await
    }
}
