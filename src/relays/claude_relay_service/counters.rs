//! Durable totals, and a refresh of all that is counted.
//!
//! The totals of the relay, of its keys and of its accounts tell whose numbers have moved; only theirs are read. What is
//! shown never falls: see [`Steady`](crate::relay::steady::Steady). Beside that, everything is read once at the start, in
//! as many attempts as it takes, and then again little by little (`sweep`).

mod accounts;
mod checkpoint;
mod keys;
mod sweep;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use tokio::time::Instant;

use self::keys::Totals;
use self::sweep::Sweep;
use super::clock::Offset;
use super::days::TwoDays;
use super::directory::clock;
use super::events::Cursors;
use super::rankings::{Rankings, of_models};
use super::reader::Reader;
use super::totals::{Known, Pair, text};
use super::zone::Zone;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{CounterSnapshot, Directory, EntityId, Period, Ranked, Ranking, ReadError, Scope};
use crate::parts::{Part, PartError};
use crate::relay::Counters;
use crate::relay::plan::RelayPlan;

/// How long the relay may take to delete its statistics.
const RESET_TAKES: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// A day, or a year, is over when its last requests are booked.
const DAY_ENDS: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// `METRICS_WINDOW` where the relay does not tell.
const WINDOW_MINUTES: i64 = 5;
/// For the log.
const BEGINS: &str = "a counter of the relay has begun anew; what it counts is added to what it had";

pub(super) struct CounterReader {
    reader: Reader,
    zone: Zone,
    /// The part of a refresh in which more and more may be read.
    budget: Duration,
    known: Known,
    cursors: Cursors,
    progress: Progress,
}

/// What this process has read.
#[derive(Default)]
struct Progress {
    days: TwoDays,
    rankings: Rankings,
    sweep: Sweep,
    /// Requests of the whole relay.
    requests: Option<u64>,
    /// Refreshes in which something may still move, although the relay's total rests.
    stirred: u8,
    keys: Totals,
    /// Keys that have moved since they were read, or whose records were late.
    due: BTreeSet<Arc<str>>,
    /// When a key was used last, by the relay's own index, in its milliseconds.
    used_at: Option<f64>,
    /// Requests of a key that no model of it accounts for.
    rests: HashMap<Arc<str>, i128>,
    /// Keys that used a model that their records did not tell.
    strays: BTreeSet<Arc<str>>,
    /// They are not looked for again before.
    strays_rest: Option<DateTime<Utc>>,
    /// Requests by account.
    accounts: HashMap<Arc<str>, u64>,
    /// Accounts that had moved at the last look.
    moved_accounts: BTreeSet<Arc<str>>,
    reset_at: Option<DateTime<Utc>>,
    window_minutes: Option<i64>,
}

/// One refresh.
struct Span {
    now: DateTime<Utc>,
    /// Of the whole relay, where it tells and they have not fallen.
    requests: Option<u64>,
    today: NaiveDate,
    /// Requests of yesterday may still be booked.
    is_early: bool,
    /// Whose months are counted by account.
    year: i32,
    /// The last of them.
    last_month: u32,
    /// The relay deletes its statistics: any fall is a beginning.
    resetting: bool,
    /// Nothing more is begun then.
    until: Instant,
}

impl Span {
    fn is_up(&self) -> bool {
        Instant::now() >= self.until
    }
}

impl CounterReader {
    pub(super) fn new(redis: Redis, plan: &RelayPlan, zone: Zone) -> Self {
        Self {
            reader: Reader::new(redis),
            zone,
            budget: plan.timeout / 2,
            known: Known::default(),
            cursors: Cursors::default(),
            progress: Progress::default(),
        }
    }

    /// The relay's total of requests, and what it says about this refresh.
    async fn begin(&mut self) -> Result<Span, ReadError> {
        let until = Instant::now() + self.budget;
        let now = clock(self.reader.redis.now_ms().await?);
        self.reader.read = 0;
        self.zone.look(&mut self.reader.redis, now).await?;
        let global = self.reader.fields("reading totals", vec!["usage:global:total".to_owned()], &["requests"]).await?;
        let global = global.into_iter().flatten().next();
        let requests = global.as_ref().map(|fields| fields.count(0));
        // Its own traffic may have brought it halfway back since.
        if let Some(requests) = requests
            && self.known.requests.see(requests, requests < self.known.requests.now() / 2)
        {
            tracing::info!("the relay's statistics were reset; what it counts is added to what it had");
            self.progress.reset_at = Some(now);
            self.progress.sweep.begin_anew();
        }
        // Accounts are booked after keys. Releases without this total always move.
        let rests = global.is_some_and(|fields| !fields.is_empty()) && requests == self.progress.requests;
        self.progress.stirred = if rests { self.progress.stirred.saturating_sub(1) } else { 2 };
        let has_fallen = requests < self.progress.requests;
        self.progress.requests = requests;

        let offset = self.zone.offset();
        let today = offset.date(now);
        let (year, last_month) = counted_year(offset, now);
        let is_early = now - offset.start_of(today) < DAY_ENDS;
        let resetting = self.progress.reset_at.is_some_and(|at| now - at < RESET_TAKES);
        self.progress.days.begin(today);
        let requests = requests.filter(|requests| *requests > 0 && !has_fallen);
        Ok(Span { now, requests, today, is_early, year, last_month, resetting, until })
    }

    /// The relay's requests per minute and tokens per minute, the unfinished minute included (`getRealtimeSystemMetrics`).
    async fn pace(&mut self, now: DateTime<Utc>) -> Result<(f64, f64), ReadError> {
        let what = "reading the last minutes";
        let minute = now.timestamp().div_euclid(60);
        let name = |minute: i64| format!("system:metrics:minute:{minute}");
        // A minute lives for twice the window after its last write, which was in this minute.
        let left = self.reader.redis.each::<i64>(what, &[KeyCommand::new("TTL", name(minute))]).await?;
        if let Some(left) = left.into_iter().flatten().next().filter(|left| (1..=86_400).contains(left)) {
            self.progress.window_minutes = Some((left + 119) / 120);
        }
        let window = self.progress.window_minutes.unwrap_or(WINDOW_MINUTES);
        let minutes = (0..window).map(|ago| name(minute - ago)).collect();
        let sums = self.reader.fields(what, minutes, &["requests", "totalTokens"]).await?;
        let mean = |field: usize| {
            let sum: u64 = sums.iter().flatten().map(|fields| fields.count(field)).sum();
            (sum as f64 / window as f64 * 100.0).round() / 100.0
        };
        Ok((mean(0), mean(1)))
    }

    /// What is known, once all of it has been read.
    fn reading(&mut self, directory: &Directory, span: &Span, mut rankings: Vec<Ranking>) -> CounterSnapshot {
        let loaded = self.progress.sweep.loaded();
        if loaded < 1.0 {
            return CounterSnapshot { loaded, ..CounterSnapshot::default() };
        }
        let days = &self.progress.days;
        let keys = self.known.readings(directory);
        let ever = self.known.keys.iter().filter(|(_, totals)| totals.listed.is_some());
        let ever = ever.map(|(id, totals)| Ranked {
            id: EntityId::Text(id.clone()),
            cost: totals.cost.now(),
            requests: Some(totals.requests.now()),
            tokens: Some(totals.tokens.now()),
        });
        let of_keys = |period, entries| Ranking { scope: Scope::Key, period, entries, renewed_at: None };
        rankings.push(of_keys(Period::All, ever.collect()));
        rankings.push(of_models(Period::All, self.known.models_now()));
        let mut reading = CounterSnapshot {
            loaded,
            traffic: self.known.traffic(),
            keys,
            models: self.known.models.clone(),
            ..CounterSnapshot::default()
        };
        // Numbers of another day than the relay's are no numbers of today.
        if self.zone.relays().is_none() {
            reading.day_start = Some(self.zone.offset().start_of(span.today));
            let both = [days.today.reading("today"), days.yesterday.reading("yesterday")];
            reading.days = both.into_iter().flatten().collect();
            rankings.push(of_keys(Period::Today, days.today.keys()));
            rankings.push(of_models(Period::Today, days.today.models()));
        }
        reading.rankings = rankings;
        reading
    }
}

/// The year whose months are counted by account, and the last of them: for the first minutes of a year, those of the one before.
fn counted_year(offset: Offset, now: DateTime<Utc>) -> (i32, u32) {
    let (today, year) = (offset.date(now), offset.date(now - DAY_ENDS).year());
    (year, if year == today.year() { today.month() } else { 12 })
}

#[async_trait]
impl Counters for CounterReader {
    async fn read(&mut self, directory: &Directory) -> Result<CounterSnapshot, ReadError> {
        let span = self.begin().await?;
        let has_begun = self.progress.sweep.loaded() >= 1.0;
        if has_begun && self.progress.stirred > 0 || !self.progress.due.is_empty() {
            self.moved_keys(directory, &span).await?;
            self.moved_accounts(directory, &span).await?;
        }
        self.sweep(directory, &span).await?;
        let (requests_per_minute, tokens_per_minute) = self.pace(span.now).await?;
        let rankings = self.progress.rankings.read(&mut self.reader, directory).await?;
        self.cursors.failures(&mut self.reader, directory, &mut self.known.changed).await?;
        if self.progress.sweep.loaded() >= 1.0 {
            self.cursors.began = true;
        }
        let reading = self.reading(directory, &span, rankings);
        let events = mem::take(&mut self.cursors.events);
        Ok(CounterSnapshot {
            requests_per_minute: Some(requests_per_minute),
            tokens_per_minute: Some(tokens_per_minute),
            failures: events.failures.into_iter().map(|((id, class), count)| (id, class, count)).collect(),
            durations: events.durations,
            spent: events.spent.into_iter().collect(),
            missed: Some(events.missed),
            read: self.reader.read,
            ..reading
        })
    }

    fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        self.checkpoint(all)
    }

    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        self.go_on_from(parts)
    }

    /// Where it is the same Redis, nothing has to be read again.
    fn take_over(&mut self, before: Box<dyn Counters>) -> Result<(), PartError> {
        let before: Box<dyn Any> = before;
        let before: Box<Self> = before.downcast().map_err(|_| PartError::Unreadable("counters".to_owned()))?;
        let Self { reader, zone, known, cursors, progress, budget: _ } = *before;
        (self.known, self.cursors) = (known, cursors);
        if reader.redis.endpoint() == self.reader.redis.endpoint() && self.zone.take_over(&zone) {
            self.progress = progress;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_of_a_year_are_read_before_the_next_begins() {
        for (now, counted) in [
            ("2026-12-31T15:59:59Z", (2026, 12)),
            ("2026-12-31T16:09:59Z", (2026, 12)),
            ("2026-12-31T16:10:00Z", (2027, 1)),
            ("2027-01-31T16:00:00Z", (2027, 2)),
        ] {
            assert_eq!(counted_year(Offset::hours(8), now.parse().unwrap()), counted, "{now}");
        }
    }
}
