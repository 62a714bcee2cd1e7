//! The rows, of which none has a number, and which appear in any order, seconds after their end or hours.
//!
//! Each refresh looks at what tells the rows of the last minutes and reads those that have no position yet. What appears
//! later is missed by that, but not by the count of rows by hour, which comes before each audit. A row is visible to
//! every statement that begins after its commit, and its start does not change: some count finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, TimeDelta};
use chrono_tz::Tz;
use hashbrown::HashMap;

use super::missed::Missed;
use super::positions::{Positions, RowKey, first_of, hour_at, start_of};
use super::row::{self, RowReader};
use super::schema::{COUNTERS, DELIVERIES, Schema};
use super::statements;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::{Facts, LedgerSum, ReadError, UsageRow};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::civil::{self, Calendars};
use crate::relay::known_database::KnownDatabase;
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange};

/// How far back from its last look a refresh looks for rows; a request that ran for longer is found by the next count.
const LOOK_BACK: TimeDelta = TimeDelta::minutes(15);
/// How far back it looks at most, after a pause.
const LONGEST_LOOK: TimeDelta = TimeDelta::hours(6);
/// How late a row may be to be found by the next count of rows; those that are later wait for the turn of their day.
const COUNTED: TimeDelta = TimeDelta::hours(48);
/// How far ahead clocks of LiteLLM's processes are taken to be.
const AHEAD: TimeDelta = TimeDelta::minutes(5);
/// A transaction of LiteLLM's that accounts for requests ends within a minute, and clocks differ.
const IN_DOUBT: TimeDelta = TimeDelta::minutes(2);
/// Rows that one audit sums up at most: a second or two of the database.
const AUDITED_ROWS: usize = 1_000_000;

const LOOK: &str = "look";

pub(super) struct LedgerReader {
    database: KnownDatabase<Schema>,
    calendars: Calendars,
    pub positions: Positions,
    rows: RowReader,
    /// The clock at the last look.
    looked: Option<NaiveDateTime>,
    /// Spans of which rows are still to be counted, because there were too many new ones at once.
    uncounted: Vec<Range<NaiveDateTime>>,
    /// The rows of some hours, while they are read page by page.
    pub listing: Option<Listing>,
    /// Start of the oldest row at the last look.
    oldest: NaiveDateTime,
    /// `None` where LiteLLM's own counters cannot be read.
    missed: Option<Missed>,
    /// Rows tell whose team they are of, as of the last look.
    tells_owners: bool,
}

/// The rows of some hours with their positions, ascending.
pub(super) struct Listing {
    pub hours: Range<i64>,
    /// Those alone that were there when the reading of the past began.
    pub is_history: bool,
    pub rows: Vec<(i64, RowKey)>,
}

/// Rows as they came: some may be refused.
#[derive(Default)]
pub(super) struct Batch {
    pub rows: Vec<UsageRow>,
    pub refused: Refused,
}

impl LedgerReader {
    pub(super) fn new(database: Database, rows: RowReader) -> Self {
        Self {
            database: KnownDatabase::new(database),
            calendars: Calendars::new(Tz::UTC),
            positions: Positions::default(),
            rows,
            looked: None,
            uncounted: Vec::new(),
            listing: None,
            oldest: DateTime::UNIX_EPOCH.naive_utc(),
            missed: None,
            tells_owners: false,
        }
    }

    /// What the rows say, and so what makes it necessary to read them anew.
    fn basis(&self) -> String {
        let teams = if self.tells_owners { ", with teams" } else { "" };
        format!("by {}{teams}", self.rows.model.label())
    }

    async fn end<T>(&mut self, snapshot: Snapshot, result: Result<T, ReadError>) -> Result<T, ReadError> {
        let result = self.database.end(snapshot, result).await?;
        self.positions.keep(self.looked.unwrap_or_default());
        Ok(result)
    }

    async fn read_refresh(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        request: &RefreshRequest,
    ) -> Result<Refresh, ReadError> {
        let (now, first) = statements::clock(snapshot).await?;
        let looks_from = self.looked.map_or(now, |looked| looked.min(now)).max(now - LONGEST_LOOK) - LOOK_BACK;
        let mut new = BTreeSet::new();
        if request.after.is_some() {
            new = self.find_new(snapshot, looks_from..now + AHEAD, request, now, schema.reads(DELIVERIES)).await?;
        } else {
            self.positions = Positions::since(hour_at(looks_from));
            let mut found = statements::keys(snapshot, start_of(hour_at(looks_from))..now + AHEAD).await?;
            found.sort_unstable();
            for key in &found {
                self.positions.give(key);
            }
        }
        let limit = request.limit as usize;
        let more = new.len() > limit;
        let given = new.into_iter().take(limit).filter_map(|key| Some((self.positions.give(&key)?, key)));
        let given: Vec<(i64, RowKey)> = given.collect();
        let batch = self.fetch(snapshot, schema, "reading new rows", &given).await?;
        // What is not read yet would be taken for a drift.
        let audit = if more { Vec::new() } else { self.sum_up(snapshot, &request.audit).await? };
        let (today, oldest) = (now.date(), first.min(now).date());
        let calendar = self.calendars.get(oldest.min(today - civil::LEAST_DAYS), today)?;
        if schema.reads(COUNTERS) && !audit.is_empty() {
            let mut missed = self.missed.unwrap_or_else(|| Missed::since(today));
            let day = missed.next();
            let hours = [day, day + Days::new(1)].map(|date| hour_at(date.and_time(NaiveTime::MIN)));
            let is_affordable = self.positions.rows_in(hours[0]..hours[1]) <= AUDITED_ROWS;
            // The last statement: what is refused ends the transaction.
            if let Err(error) = missed.look(snapshot, today, oldest, is_affordable).await {
                tracing::warn!(error = error.text, "a day is not yet held against LiteLLM's own counters");
            }
            self.missed = Some(missed);
        }
        self.looked = Some(now);
        self.oldest = first;
        self.tells_owners = schema.tells_owners();
        Ok(Refresh {
            now: now.and_utc(),
            same_time_yesterday: civil::day_before(Tz::UTC, now.and_utc()),
            calendar,
            basis: self.basis(),
            tariff: String::new(),
            top: self.positions.top(),
            kept_since: Some(oldest),
            month_since: None,
            rows: batch.rows,
            more,
            refused: batch.refused,
            audit,
            lost_rows: false,
            resume_token: String::new(),
            zone_error: None,
        })
    }

    /// The sums of spans, as far as they have not too many rows: of the others only the number of rows by hour is known.
    async fn sum_up(&self, snapshot: &mut Snapshot, spans: &[TimeRange]) -> Result<Vec<Option<LedgerSum>>, ReadError> {
        let (mut sums, mut affordable, mut rows) = (Vec::with_capacity(spans.len()), AUDITED_ROWS, 0);
        for span in spans {
            let hours = hour_at(span.start.naive_utc())..hour_at(span.end.naive_utc());
            let known = self.positions.rows_in(hours.clone());
            // A day that is not remembered is taken for one like the day before it in turn.
            rows = if hours.start < self.positions.lowest() { known.max(rows) } else { known };
            let left = affordable.checked_sub(rows);
            affordable = left.unwrap_or(affordable);
            sums.push(match left {
                Some(_) => Some(statements::sum(snapshot, span).await?),
                None => None,
            });
        }
        Ok(sums)
    }

    /// What has no position yet: of the last minutes, and before an audit what is later. Some more than the limit at most.
    async fn find_new(
        &mut self,
        snapshot: &mut Snapshot,
        recent: Range<NaiveDateTime>,
        request: &RefreshRequest,
        now: NaiveDateTime,
        tells_arrivals: bool,
    ) -> Result<BTreeSet<RowKey>, ReadError> {
        let limit = request.limit as usize;
        let mut new = BTreeSet::new();
        let mut found = statements::keys(snapshot, recent).await?;
        if let Some(looked) = self.looked.filter(|_| tells_arrivals) {
            found.extend(statements::arrivals(snapshot, looked.max(now - LONGEST_LOOK) - IN_DOUBT).await?);
        }
        for key in found {
            if key.hour() >= self.positions.lowest() && self.positions.find(&key).is_none() {
                new.insert(key);
            }
        }
        let mut spans = self.uncounted.clone();
        spans.extend(spans_to_count(&request.audit, now));
        if new.len() <= limit {
            self.find_late(snapshot, &spans, limit, &mut new).await?;
        }
        self.uncounted = if new.len() > limit { spans } else { Vec::new() };
        Ok(new)
    }

    /// Adds to `new` what has appeared behind the last minutes, as the number of rows by hour tells; some more than
    /// `limit` at most.
    async fn find_late(
        &mut self,
        snapshot: &mut Snapshot,
        spans: &[Range<NaiveDateTime>],
        limit: usize,
        new: &mut BTreeSet<RowKey>,
    ) -> Result<(), ReadError> {
        for span in spans {
            for (hour, rows) in statements::rows_by_hour(snapshot, span).await? {
                let coming = new.iter().filter(|key| key.hour() == hour).count();
                let known = self.positions.present(hour) + coming;
                if hour < self.positions.lowest() || rows == known {
                    continue;
                }
                let found = statements::keys(snapshot, start_of(hour)..start_of(hour + 1)).await?;
                let there = found.len();
                let mut late: BTreeSet<RowKey> =
                    found.into_iter().filter(|key| self.positions.find(key).is_none()).collect();
                self.positions.note_present(hour, there - late.len());
                new.append(&mut late);
                if new.len() > limit {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) async fn fetch(
        &mut self,
        snapshot: &mut Snapshot,
        schema: &Schema,
        what: &str,
        wanted: &[(i64, RowKey)],
    ) -> Result<Batch, ReadError> {
        let mut batch = Batch::default();
        let starts: Vec<NaiveDateTime> = wanted.iter().map(|(_, key)| key.start).collect();
        let (Some(first), Some(last)) = (starts.iter().min().copied(), starts.iter().max().copied()) else {
            return Ok(batch);
        };
        let positions: HashMap<&RowKey, i64> = wanted.iter().map(|(position, key)| (key, *position)).collect();
        let ids: Vec<&str> = wanted.iter().map(|(_, key)| &*key.id).collect();
        let text = schema.fit(include_str!("sql/rows.sql"));
        let query = sqlx::query(text).bind(ids).bind(&starts).bind(first).bind(last);
        for row in snapshot.fetch(what, query).await? {
            let key = row::key(&row).map_err(|error| snapshot.error(what, &error))?;
            let Some(position) = positions.get(&key) else { continue };
            // A position says nothing to people.
            let read = self.rows.read(&row, *position).map_err(|error| format!("started at {}: {error}", key.start));
            batch.rows.extend(batch.refused.sift(read, *position));
        }
        Ok(batch)
    }
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        Facts {
            list_cost: false,
            in_progress: false,
            imports: false,
            refunds: false,
            hits_of_cached: false,
            teams: self.tells_owners,
            ..Facts::ALL
        }
    }

    fn gives_positions(&self) -> bool {
        true
    }

    fn begin(&mut self) {
        self.positions.begin();
        self.listing = None;
    }

    fn first(&self) -> i64 {
        first_of(hour_at(self.oldest))
    }

    fn disorder(&self) -> TimeDelta {
        // Positions grow with the hour.
        TimeDelta::hours(1)
    }

    fn missed(&self) -> Option<u64> {
        self.missed.map(|missed| missed.total)
    }

    fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        let mut parts = self.positions.parts(all)?;
        parts.push(self.rows.deployments.part(all)?);
        parts.push(encoded(LOOK, &(self.looked.map(millis), millis(self.oldest), self.missed))?);
        Ok(parts)
    }

    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let positions = Positions::restored(parts)?;
        let (looked, oldest, missed): (Option<i64>, i64, Option<Missed>) = decoded(parts, LOOK)?;
        self.rows.deployments.restore(parts)?;
        let at = |millis| DateTime::from_timestamp_millis(millis).unwrap_or_default().naive_utc();
        (self.positions, self.looked, self.oldest) = (positions, looked.map(at), at(oldest));
        self.missed = missed;
        Ok(())
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        self.positions.take_back();
        self.listing = None;
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_refresh(&mut snapshot, &schema, request).await;
        self.end(snapshot, result).await
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        self.positions.take_back();
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_older(&mut snapshot, &schema, below, limit as usize).await;
        self.end(snapshot, result).await
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        self.positions.take_back();
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let range = range.start.naive_utc()..range.end.naive_utc();
        let result = self.read_between(&mut snapshot, &schema, &range, after, limit as usize).await;
        self.end(snapshot, result).await
    }
}

/// Before an audit, the rows of what it looks at are counted, and those of the last two days.
fn spans_to_count(audit: &[TimeRange], now: NaiveDateTime) -> Vec<Range<NaiveDateTime>> {
    let recently = now - COUNTED;
    let mut spans = Vec::new();
    let mut recent = recently..now;
    for span in audit {
        let span = span.start.naive_utc()..span.end.naive_utc();
        if span.end <= recently {
            spans.push(span);
        } else {
            recent = recent.start.min(span.start)..recent.end.max(span.end);
        }
    }
    if !audit.is_empty() {
        spans.push(recent);
    }
    spans
}

fn millis(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp_millis()
}
