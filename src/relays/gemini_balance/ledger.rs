//! The usage ledger: attempts by id.
//!
//! No time has an index, so nothing here asks for times over the whole table. A span of time is first turned into a span
//! of ids, by a binary search with room for attempts that took long and for clocks that were put back; then it is read
//! in slices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use super::PROVIDER;
use super::attempt::Attempt;
use super::clock::{self, Clock};
use super::error_log::ErrorLog;
use super::store::{Ends, Group, Session, Which};
use crate::connect::sql::Database;
use crate::model::{Facts, LedgerSum, Outcome, ReadError, UsageRow};
use crate::parts::{Part, PartError};
use crate::relay::civil::Calendars;
use crate::relay::shared_names::SharedNames;
use crate::relay::stable_ids::{RowIdentity, StableIds};
use crate::relay::{Ledger, Older, Refresh, RefreshRequest, Refused, TimeRange, civil};

/// Ids of one statement that sums, or that looks into every row: some 10 ms of SQLite.
const SLICE: i64 = 20_000;
/// A ledger of so many ids is summed without a search.
const SMALL: i64 = 100_000;
/// How far an attempt's start may lie from the order of ids: its own time (`TIME_OUT`, 300 s), and clock changes.
const DISORDER: TimeDelta = TimeDelta::hours(2);
/// Ids in one list.
const LIST: usize = 1000;
/// Rows in a row that must agree on how wrong the zone is, and how often somebody is told.
const AGREEING_ROWS: u32 = 3;
const TELL_EVERY: Duration = Duration::from_secs(3600);
/// A row is as new as the pause since the last refresh, if that was short.
const SHORT_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct LedgerReader {
    database: Database,
    clock: Clock,
    stable_ids: Option<StableIds>,
    names: SharedNames,
    calendars: Calendars,
    /// Rows have been deleted that were not the oldest, and no audit has looked since.
    lost_rows: bool,
    zone_watch: ZoneWatch,
    error_log: ErrorLog,
}

fn identity(attempt: &Attempt) -> RowIdentity {
    RowIdentity { id: attempt.id, at: attempt.at, key: attempt.key }
}

/// Rows as they came: some may be refused.
struct Batch {
    attempts: Vec<Attempt>,
    rows: Vec<UsageRow>,
    refused: Refused,
    read: usize,
}

impl LedgerReader {
    pub(super) fn new(database: Database, clock: Clock, error_log: ErrorLog) -> Self {
        Self {
            database,
            clock,
            stable_ids: None,
            names: SharedNames::default(),
            calendars: Calendars::new(clock.zone()),
            lost_rows: false,
            zone_watch: ZoneWatch::default(),
            error_log,
        }
    }

    fn stable_ids(&mut self) -> &mut StableIds {
        self.stable_ids.get_or_insert_default()
    }

    async fn read_refresh(&mut self, session: &mut Session, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        if self.stable_ids.is_none() {
            self.stable_ids = StableIds::restore(&request.resume_token);
        }
        let ends = session.ends().await?;
        let lost_rows = self.notice_lost_rows(session, ends).await?;
        let oldest = ends.first.and_then(|(_, at)| self.clock.instant(at));
        let first = oldest.map_or(ends.now, |at| at.min(ends.now));
        let today = self.clock.date(ends.now);
        // What the relay has deleted may still be counted: the days of a month do not go with their rows.
        let calendar = self.calendars.get(self.clock.date(first).min(today - civil::LEAST_DAYS), today)?;

        let mut rows = Vec::new();
        let mut refused = Refused::default();
        let mut more = false;
        if let Some(after) = request.after {
            let after = self.stable_ids().id_up_to(after);
            let which = Which::After { after, upto: ends.top, limit: request.limit.into() };
            let batch = self.batch(session, "reading new rows", which).await?;
            more = batch.read >= request.limit as usize;
            let newest = self.stable_ids().identity();
            self.zone_watch.note(&batch.attempts, newest, self.clock, ends.now);
            self.stable_ids().remember(batch.attempts.iter().map(identity));
            rows = batch.rows;
            refused = batch.refused;
        }
        let again: Vec<i64> = request.reread.iter().filter_map(|position| self.stable_ids().id(*position)).collect();
        for ids in again.chunks(LIST) {
            let batch = self.batch(session, "reading rows again", Which::Ids(ids)).await?;
            rows.extend(batch.rows);
            refused.merge(batch.refused);
        }
        let mut audit = Vec::with_capacity(request.audit.len());
        for span in &request.audit {
            audit.push(Some(self.sum(session, span, ends).await?));
        }
        // The clean-up deletes from the old end. Where the new end was deleted, nothing of it is worth keeping.
        let kept_since = (!self.lost_rows).then(|| self.clock.date(first));
        if !request.audit.is_empty() && !lost_rows {
            self.lost_rows = false;
        }
        Ok(Refresh {
            now: ends.now,
            same_time_yesterday: civil::day_before(self.clock.zone(), ends.now),
            calendar,
            basis: self.clock.zone().name().to_owned(),
            tariff: String::new(),
            top: self.stable_ids().top(ends.top),
            kept_since,
            month_since: oldest,
            rows,
            more,
            refused,
            audit,
            lost_rows,
            resume_token: self.stable_ids().resume_token(),
            zone_error: self.zone_watch.error,
        })
    }

    /// Whether rows that were read have gone from the log since, other than by the clean-up.
    async fn notice_lost_rows(&mut self, session: &mut Session, ends: Ends) -> Result<bool, ReadError> {
        let lost_rows = self
            .stable_ids()
            .notice_lost("the request log", ends.first, ends.top, None, session, |session, first, last| {
                Box::pin(identities(session, first, last))
            })
            .await?;
        self.lost_rows |= lost_rows;
        Ok(lost_rows)
    }

    async fn batch(&mut self, session: &mut Session, what: &str, which: Which<'_>) -> Result<Batch, ReadError> {
        let read = session.attempts(what, which).await?;
        let mut batch = Batch {
            attempts: Vec::with_capacity(read.len()),
            rows: Vec::new(),
            refused: Refused::default(),
            read: read.len(),
        };
        let stable_ids = self.stable_ids.get_or_insert_default();
        for row in read {
            let id = row.as_ref().err().and_then(|(id, _)| *id).unwrap_or(0);
            batch.attempts.extend(batch.refused.sift(row.map_err(|(_, error)| error), stable_ids.of(id)));
        }
        for attempt in &batch.attempts {
            let position = stable_ids.of(attempt.id);
            let row = attempt.row(position, self.clock, &mut self.names).ok_or("it has no time");
            batch.rows.extend(batch.refused.sift(row, position));
        }
        Ok(batch)
    }

    /// The ids `(after, upto]` that hold every row of a span of time, with room for disorder.
    async fn ids_of(&self, session: &mut Session, span: &TimeRange, ends: Ends) -> Result<(i64, i64), ReadError> {
        let Some((first, _)) = ends.first else { return Ok((0, 0)) };
        let bottom = first - 1;
        if ends.top - bottom <= SMALL {
            return Ok((bottom, ends.top));
        }
        let from = self.clock.micros(span.start - DISORDER);
        let to = self.clock.micros(span.end + DISORDER);
        let after = first_since(session, from, bottom, ends.top).await?;
        let upto = first_since(session, to, after, ends.top).await?;
        Ok((after, upto))
    }

    async fn sum(&self, session: &mut Session, span: &TimeRange, ends: Ends) -> Result<LedgerSum, ReadError> {
        let (from, to) = (self.clock.text(span.start), self.clock.text(span.end));
        let (mut after, upto) = self.ids_of(session, span, ends).await?;
        let mut sum = LedgerSum::default();
        while after < upto {
            let next = (after + SLICE).min(upto);
            for Group { model, outcome, requests } in session.groups((after, next), &from, &to).await? {
                sum.count(PROVIDER, model.as_deref(), Some(outcome), requests);
                sum.errors += if outcome == Outcome::Failure { requests } else { 0 };
            }
            after = next;
        }
        Ok(sum)
    }
}

/// The greatest id in `[after, top]` below which every row in order is older than a naive time.
async fn first_since(session: &mut Session, since: i64, after: i64, top: i64) -> Result<i64, ReadError> {
    let (mut low, mut high) = (after, top);
    while low < high {
        let middle = low + (high - low) / 2;
        match session.timed_after(middle, top).await? {
            Some((id, at)) if at < since => low = id.min(high),
            _ => high = middle,
        }
    }
    Ok(low)
}

/// What tells the rows of a range of ids, both ends included.
async fn identities(session: &mut Session, first: i64, last: i64) -> Result<Vec<RowIdentity>, ReadError> {
    let which = Which::After { after: first - 1, upto: last, limit: i64::MAX };
    Ok(session.attempts("looking at the newest rows again", which).await?.iter().flatten().map(identity).collect())
}

#[async_trait]
impl Ledger for LedgerReader {
    fn facts(&self) -> Facts {
        Facts {
            users: false,
            cost: false,
            list_cost: false,
            tokens: false,
            in_progress: false,
            imports: false,
            refunds: false,
            teams: false,
            ..Facts::ALL
        }
    }

    async fn refresh(&mut self, request: &RefreshRequest) -> Result<Refresh, ReadError> {
        let mut session = Session(self.database.session().await?);
        let result = self.read_refresh(&mut session, request).await;
        self.database.finish(session.0).await;
        result
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        let upto = self.stable_ids().id_up_to(below.saturating_sub(1));
        let mut session = Session(self.database.session().await?);
        let which = Which::Before { upto, limit: limit.into() };
        let result = self.batch(&mut session, "reading older rows", which).await;
        self.database.finish(session.0).await;
        let batch = result?;
        Ok(Older { rows: batch.rows, bottom: batch.read < limit as usize, refused: batch.refused })
    }

    async fn rows_between(&mut self, range: TimeRange, after: i64, limit: u32) -> Result<Vec<UsageRow>, ReadError> {
        let mut session = Session(self.database.session().await?);
        let result = async {
            let ends = session.ends().await?;
            let (low, high) = self.ids_of(&mut session, &range, ends).await?;
            let after = low.max(self.stable_ids().id_up_to(after));
            let (from, to) = (self.clock.text(range.start), self.clock.text(range.end));
            let which = Which::Began { after, upto: high, from: &from, to: &to, limit: limit.into() };
            Ok(self.batch(&mut session, "reading rows of a span", which).await?.rows)
        }
        .await;
        self.database.finish(session.0).await;
        result
    }

    fn parts(&mut self, _: bool) -> Result<Vec<Part>, PartError> {
        Ok(vec![self.error_log.part()?])
    }

    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        self.error_log.restore(parts)
    }
}

/// How old new rows are, by the configured zone: if by whole hours, it is not the relay's.
#[derive(Default)]
struct ZoneWatch {
    last_refresh: Option<Instant>,
    /// The seconds that the latest rows agree on, and how many they are.
    latest: Option<(i64, u32)>,
    /// What enough of them agreed on.
    error: Option<i64>,
    told: Option<Instant>,
}

impl ZoneWatch {
    fn note(&mut self, attempts: &[Attempt], newest: Option<RowIdentity>, clock: Clock, now: DateTime<Utc>) {
        let fresh = self.last_refresh.replace(Instant::now()).is_some_and(|last| last.elapsed() < SHORT_PAUSE);
        let Some(newest) = newest.filter(|_| fresh) else { return };
        for attempt in attempts.iter().filter(|attempt| attempt.id > newest.id) {
            let Some(started) = attempt.at.and_then(|at| clock.instant(at)) else { continue };
            let ended = started + TimeDelta::milliseconds(attempt.latency_ms.unwrap_or(0));
            let error = clock::error((now - ended).num_seconds());
            self.latest = error.map(|error| match self.latest {
                Some((same, rows)) if same == error => (error, rows + 1),
                _ => (error, 1),
            });
            if let Some((error, AGREEING_ROWS..)) = self.latest {
                self.error = Some(error);
            }
        }
        if let Some(error) = self.error.filter(|error| *error != 0)
            && self.told.is_none_or(|told| told.elapsed() > TELL_EVERY)
        {
            self.told = Some(Instant::now());
            let hours = clock::hours(error);
            tracing::warn!(
                hours,
                zone = clock.zone().name(),
                "new rows are {hours:+} hours old when they appear: set `timezone` to the zone of the relay's process"
            );
        }
    }
}
