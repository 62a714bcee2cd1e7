//! Durable totals, and a refresh of all that is counted.
//!
//! A refresh reads what traffic of today and yesterday can have changed; everything else is remembered as it was read.
//! All of it is read again now and then, and while the relay resets its statistics. What is shown never falls: see
//! [`Steady`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::clock::Offset;
use super::directory::clock;
use super::events::{Cursors, Seen};
use super::keys;
use super::product;
use super::rankings::{self, by_model, day_sum};
use super::reader::{PAIR_FIELDS, Reader, TOKEN_FIELDS};
use super::totals::{KeyTotals, Known, MonthTotals, Pair, PairTotals, text};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{CounterSnapshot, Ranked, Ranking};
use crate::model::{Directory, EntityId, ReadError, Scope, Usd};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::Counters;
use crate::relay::plan::RelayPlan;
use crate::relay::steady::Steady;

/// Pause between two readings of everything.
const WHOLE_EVERY: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// How long the relay may take to delete its statistics.
const RESET_TAKES: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// Days of index sets, which live 32 days: who had traffic in them is not idle.
const INDEXED_DAYS: u64 = 32;
/// A year is over when its last requests are booked: until then the counters by account stay with it.
const YEAR_ENDS: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// Combinations that are looked for in one step.
const SEARCHED_AT_ONCE: usize = 5_000;
/// `METRICS_WINDOW` where the relay does not tell.
const WINDOW_MINUTES: i64 = 5;
/// For the log.
const BEGINS: &str = "a counter of the relay has begun anew; what it counts is added to what it had";
const RELAY: &str = "relay";
const KEY: &str = "key/";
const ACCOUNT: &str = "account/";

pub(super) struct CounterReader {
    reader: Reader,
    offset: Offset,
    /// Indexes of traffic cannot be relied on: any key may have some.
    scan: bool,
    known: Known,
    cursors: Cursors,
    /// Keys and accounts whose idle models have been looked for.
    searched: HashSet<Arc<str>>,
    whole_at: Option<DateTime<Utc>>,
    reset_at: Option<DateTime<Utc>>,
    window_minutes: i64,
}

/// Which totals are read.
struct Span {
    today: NaiveDate,
    /// Whose months are counted by account.
    year: i32,
    /// The last of them.
    last_month: u32,
    whole: bool,
}

/// A part of a checkpoint: the relay as a whole.
#[derive(Serialize, Deserialize)]
struct RelayPart<M> {
    requests: Steady<u64>,
    year: i32,
    models: M,
    began: bool,
}

/// A key: its totals, those by model, and the cursor of its records.
#[derive(Serialize, Deserialize)]
struct KeyPart {
    totals: Option<KeyTotals>,
    models: BTreeMap<Arc<str>, PairTotals>,
    records: Option<(u64, Seen)>,
}

/// An account: its months by model, and the cursor of its errors.
#[derive(Serialize, Deserialize)]
struct AccountPart {
    models: BTreeMap<Arc<str>, BTreeMap<u32, MonthTotals>>,
    errors: Option<Seen>,
}

/// Who had traffic, by day.
#[derive(Default)]
struct Active {
    today: BTreeSet<Arc<str>>,
    yesterday: BTreeSet<Arc<str>>,
    today_pairs: BTreeSet<Pair>,
    /// Of all days that were asked for.
    pairs: BTreeSet<Pair>,
    accounts: BTreeSet<Pair>,
}

impl CounterReader {
    pub(super) fn new(redis: Redis, plan: &RelayPlan) -> Self {
        Self {
            reader: Reader::new(redis),
            offset: product::offset(plan),
            scan: product::may_scan(plan),
            known: Known::default(),
            cursors: Cursors::default(),
            searched: HashSet::new(),
            whole_at: None,
            reset_at: None,
            window_minutes: WINDOW_MINUTES,
        }
    }

    async fn active(&mut self, today: NaiveDate, whole: bool) -> Result<Active, ReadError> {
        let what = "reading who had traffic";
        let days: Vec<String> =
            (0..if whole { INDEXED_DAYS } else { 2 }).map(|ago| keys::day(today - Days::new(ago))).collect();
        let names = |prefix: &str, days: &[String]| days.iter().map(|day| format!("{prefix}{day}")).collect();
        let mut active = Active::default();
        let mut daily = self.reader.sets(what, names("usage:daily:index:", &days[..2])).await?.into_iter();
        let ids = |set: Option<Vec<String>>| set.into_iter().flatten().map(Arc::from).collect();
        active.today = ids(daily.next());
        active.yesterday = ids(daily.next());
        let pairs = self.reader.sets(what, names("usage:keymodel:daily:index:", &days)).await?;
        active.today_pairs = pairs.first().into_iter().flatten().filter_map(|member| pair(member)).collect();
        active.pairs = pairs.iter().flatten().filter_map(|member| pair(member)).collect();
        let accounts = self.reader.sets(what, names("account_usage:model:daily:index:", &days)).await?;
        active.accounts = accounts.iter().flatten().filter_map(|member| pair(member)).collect();
        Ok(active)
    }

    /// The relay's requests per minute and tokens per minute, the unfinished minute included (`getRealtimeSystemMetrics`).
    async fn pace(&mut self, now: DateTime<Utc>) -> Result<(f64, f64), ReadError> {
        let what = "reading the last minutes";
        let minute = now.timestamp().div_euclid(60);
        let name = |minute: i64| format!("system:metrics:minute:{minute}");
        // A minute lives for twice the window after its last write, which was in this minute.
        let left = self.reader.redis.each::<i64>(what, &[KeyCommand::new("TTL", name(minute))]).await?;
        if let Some(left) = left.into_iter().flatten().next().filter(|left| (1..=86_400).contains(left)) {
            self.window_minutes = (left + 119) / 120;
        }
        let minutes = (0..self.window_minutes).map(|ago| name(minute - ago)).collect();
        let sums = self.reader.fields(what, minutes, &["requests", "totalTokens"]).await?;
        let mean = |field: usize| {
            let sum: u64 = sums.iter().flatten().map(|fields| fields.count(field)).sum();
            (sum as f64 / self.window_minutes as f64 * 100.0).round() / 100.0
        };
        Ok((mean(0), mean(1)))
    }

    async fn key_totals(&mut self, ids: Vec<Arc<str>>, resetting: bool) -> Result<(), ReadError> {
        let what = "reading totals of keys";
        let names: Vec<String> = ids.iter().map(|id| format!("usage:{id}")).collect();
        let usage = self.reader.fields(what, names, &["totalRequests", "totalAllTokens", "totalTokens"]).await?;
        let of = |prefix: &str| ids.iter().map(|id| format!("{prefix}{id}")).collect();
        let costs = self.reader.dollars(what, of("usage:cost:total:")).await?;
        let list_costs = self.reader.dollars(what, of("usage:cost:real:total:")).await?;
        for (((id, usage), cost), list_cost) in ids.into_iter().zip(usage).zip(costs).zip(list_costs) {
            // Of a key that has never been read whole, nothing is told.
            if !self.known.keys.contains_key(&id) && (usage.is_none() || cost.is_none()) {
                continue;
            }
            let totals = self.known.keys.entry(id.clone()).or_default();
            let before = *totals;
            let mut begins = false;
            // What is not there has been reset, or belonged to a key that was deleted for good.
            if let Some(usage) = usage.filter(|usage| resetting || !usage.is_empty()) {
                begins |= totals.requests.see(usage.count(0), resetting);
                // Old hashes have only the sum without caches.
                begins |= totals.tokens.see(usage.count(1).max(usage.count(2)), resetting);
            }
            let told = |cost: Option<Option<Usd>>| cost.and_then(|cost| cost.or(resetting.then_some(Usd::ZERO)));
            if let Some(cost) = told(cost) {
                begins |= totals.cost.see(cost, resetting);
            }
            if let Some(cost) = told(list_cost).filter(|cost| totals.list_cost.is_some() || cost.is_positive()) {
                begins |= totals.list_cost.get_or_insert_default().see(cost, resetting);
            }
            if begins && !resetting {
                tracing::info!(key = &*id, "{BEGINS}");
            }
            if before != *totals {
                self.known.changed.insert(id);
            }
        }
        Ok(())
    }

    async fn pair_totals(&mut self, pairs: Vec<Pair>, resetting: bool) -> Result<(), ReadError> {
        let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:alltime:{model}")).collect();
        let answers = self.reader.fields("reading totals of keys by model", names, &PAIR_FIELDS).await?;
        for (pair, fields) in pairs.into_iter().zip(answers) {
            // A cut name of a model has no hash.
            let known = self.known.pairs.contains_key(&pair);
            let Some(fields) = fields.filter(|fields| !fields.is_empty() || resetting && known) else { continue };
            let totals = self.known.pairs.entry(pair.clone()).or_default();
            let before = *totals;
            if totals.see(fields.pair_counts(), resetting) && !resetting {
                tracing::info!(key = &*pair.0, model = &*pair.1, "{BEGINS}");
            }
            if before != *totals {
                self.known.changed.insert(pair.0);
            }
        }
        Ok(())
    }

    /// Totals of accounts by month of a year.
    async fn month_totals(&mut self, asked: Vec<(Pair, u32)>, resetting: bool) -> Result<(), ReadError> {
        let year = self.known.year;
        let name = |((account, model), month): &(Pair, u32)| {
            format!("account_usage:model:monthly:{account}:{model}:{}", keys::month(year, *month))
        };
        let names = asked.iter().map(name).collect();
        let answers = self.reader.fields("reading totals of accounts by model", names, &TOKEN_FIELDS).await?;
        for ((pair, month), fields) in asked.into_iter().zip(answers) {
            let months = self.known.traffic.entry(pair.clone()).or_default();
            let known = months.contains_key(&month);
            let Some(fields) = fields.filter(|fields| !fields.is_empty() || resetting && known) else { continue };
            let totals = months.entry(month).or_default();
            let before = *totals;
            if totals.see(fields.count(0), fields.tokens(), resetting) && !resetting {
                tracing::info!(account = &*pair.0, model = &*pair.1, "{BEGINS}");
            }
            if before != *totals {
                self.known.changed.insert(pair.0);
            }
        }
        Ok(())
    }

    async fn account_totals(
        &mut self,
        mut pairs: BTreeSet<Pair>,
        span: &Span,
        resetting: bool,
    ) -> Result<(), ReadError> {
        if self.known.year != span.year {
            let accounts = self.known.traffic.drain().map(|((account, _), _)| account);
            self.known.changed.extend(accounts);
            self.known.year = span.year;
        }
        if span.whole {
            pairs.extend(self.known.traffic.keys().cloned());
        }
        let mut asked = Vec::new();
        for pair in pairs {
            let first = match self.known.traffic.contains_key(&pair) && !span.whole {
                // Past months stay as they are, but for what was under way at midnight.
                true if span.today.day() > 1 => span.last_month,
                true => span.last_month.saturating_sub(1).max(1),
                false => 1,
            };
            asked.extend((first..=span.last_month).map(|month| (pair.clone(), month)));
        }
        self.month_totals(asked, resetting).await
    }

    /// The totals that may have changed; all of them when the whole is read.
    async fn totals(
        &mut self,
        directory: &Directory,
        active: &Active,
        span: &Span,
        resetting: bool,
    ) -> Result<(), ReadError> {
        let listed: Vec<Arc<str>> = directory.keys.iter().map(|key| text(&key.id)).collect();
        let mut ids: BTreeSet<Arc<str>> = active.today.union(&active.yesterday).cloned().collect();
        ids.extend(listed.iter().filter(|id| span.whole || !self.known.keys.contains_key(*id)).cloned());
        let mut pairs = active.pairs.clone();
        if span.whole {
            ids.extend(self.known.keys.keys().cloned());
            pairs.extend(self.known.pairs.keys().cloned());
        }
        self.key_totals(ids.into_iter().collect(), resetting).await?;
        self.pair_totals(pairs.into_iter().collect(), resetting).await?;
        self.account_totals(active.accounts.clone(), span, resetting).await?;
        let models = if span.whole { self.search(directory, span).await? } else { Vec::new() };
        self.known.order_models(models);
        Ok(())
    }

    /// Looks once for models that a key or an account has not used for so long that no index names them. Their sums tell
    /// who has some. What has been found stays found when the time is up.
    async fn search(&mut self, directory: &Directory, span: &Span) -> Result<Vec<Arc<str>>, ReadError> {
        let models = self.models(span.today).await?;
        let mut found: HashMap<Arc<str>, u64> = HashMap::new();
        for ((key, _), totals) in &self.known.pairs {
            *found.entry(key.clone()).or_default() += totals.requests.now();
        }
        let of = |id: &Arc<str>| found.get(id).copied().unwrap_or(0);
        let keys = self.known.keys.iter().filter(|(id, _)| !self.searched.contains(*id));
        let missing = keys.filter(|(id, totals)| totals.requests.now() > of(id)).map(|(id, _)| id.clone());
        let missing: Vec<Arc<str>> = missing.collect();
        for some in missing.chunks(SEARCHED_AT_ONCE.div_ceil(models.len().max(1))) {
            let pairs = some.iter().flat_map(|id| models.iter().map(move |model| (id.clone(), model.clone())));
            self.pair_totals(pairs.collect(), false).await?;
            self.searched.extend(some.iter().cloned());
        }

        let accounts = directory.providers.iter().map(|account| text(&account.id));
        let accounts: BTreeSet<Arc<str>> = accounts.filter(|id| !self.searched.contains(id)).collect();
        let months = accounts.iter().flat_map(|id| (1..=span.last_month).map(move |month| (id, month)));
        let months: Vec<(&Arc<str>, u32)> = months.collect();
        let name =
            |(id, month): &(&Arc<str>, u32)| format!("account_usage:monthly:{id}:{}", keys::month(span.year, *month));
        let names = months.iter().map(name).collect();
        let sums = self.reader.fields("reading totals of accounts", names, &["requests"]).await?;
        let mut found: HashMap<(&Arc<str>, u32), u64> = HashMap::new();
        for ((account, _), of_months) in &self.known.traffic {
            for (month, totals) in of_months {
                *found.entry((account, *month)).or_default() += totals.requests.now();
            }
        }
        let missing = months
            .iter()
            .zip(sums)
            .filter(|(at, sum)| sum.as_ref().is_some_and(|sum| sum.count(0) > found.get(*at).copied().unwrap_or(0)));
        let missing: Vec<(Arc<str>, u32)> = missing.map(|((id, month), _)| ((*id).clone(), *month)).collect();
        for some in missing.chunks(SEARCHED_AT_ONCE.div_ceil(models.len().max(1))) {
            let asked =
                some.iter().flat_map(|(id, month)| models.iter().map(move |it| ((id.clone(), it.clone()), *month)));
            self.month_totals(asked.collect(), false).await?;
        }
        self.searched.extend(accounts);
        Ok(models)
    }

    /// The names of the models of a year, by the month and, in the last weeks, by the day of their first appearance, then by
    /// name: the same order in every process.
    async fn models(&mut self, today: NaiveDate) -> Result<Vec<Arc<str>>, ReadError> {
        let oldest_day = today - Days::new(INDEXED_DAYS - 1);
        let month = |date: NaiveDate| format!("usage:model:monthly:index:{}", keys::month(date.year(), date.month()));
        let months = (0..=12).rev().map(|ago| month(oldest_day - Months::new(ago)));
        let days = oldest_day.iter_days().take(INDEXED_DAYS as usize);
        let days = days.map(|day| format!("usage:model:daily:index:{}", keys::day(day)));
        let rest = [today - Months::new(1), today].map(month);
        let sets = self.reader.sets("reading the names of models", months.chain(days).chain(rest).collect()).await?;
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for set in sets {
            let names: BTreeSet<Arc<str>> = set.into_iter().map(Arc::from).collect();
            all.extend(names.into_iter().filter(|name| seen.insert(name.clone())));
        }
        Ok(all)
    }
}

#[async_trait]
impl Counters for CounterReader {
    async fn read(&mut self, directory: &Directory) -> Result<CounterSnapshot, ReadError> {
        let now = clock(self.reader.redis.now_ms().await?);
        let today = self.offset.date(now);
        self.reader.read = 0;
        let global = self.reader.fields("reading totals", vec!["usage:global:total".to_owned()], &["requests"]).await?;
        let requests = global.into_iter().flatten().next().map(|fields| fields.count(0));
        // Its own traffic may have brought it halfway back since.
        if let Some(requests) = requests
            && self.known.requests.see(requests, requests < self.known.requests.now() / 2)
        {
            tracing::info!("the relay's statistics were reset; what it counts is added to what it had");
            self.reset_at = Some(now);
        }
        let recent = |at: Option<DateTime<Utc>>, span| at.is_some_and(|at| now - at < span);
        let resetting = recent(self.reset_at, RESET_TAKES);
        let whole = resetting || !recent(self.whole_at, WHOLE_EVERY);

        let mut active = self.active(today, whole).await?;
        if self.scan {
            for ids in [&mut active.today, &mut active.yesterday] {
                ids.extend(directory.keys.iter().map(|key| text(&key.id)));
            }
        }
        let year = self.offset.date(now - YEAR_ENDS).year();
        let last_month = if year == today.year() { today.month() } else { 12 };
        let span = Span { today, year, last_month, whole };
        self.totals(directory, &active, &span, resetting).await?;
        let (requests_per_minute, tokens_per_minute) = self.pace(now).await?;
        let reader = &mut self.reader;
        let today_keys = rankings::day(reader, &active.today, today).await?;
        let yesterday_keys = rankings::day(reader, &active.yesterday, today - Days::new(1)).await?;
        let models_today = rankings::models_today(reader, &active.today_pairs, today).await?;
        let mut rankings = rankings::rankings(reader).await?;
        // Events count once: the cursors move with the reading that tells of them, or not at all.
        let mut cursors = self.cursors.clone();
        let failures = cursors.failures(reader, directory, &mut self.known.changed).await?;
        let (durations, missed) = cursors.durations(reader, &self.known.keys, &mut self.known.changed).await?;
        cursors.began = true;
        self.cursors = cursors;
        if whole {
            self.whole_at = Some(now);
        }

        let keys = self.known.readings(directory);
        let days = [day_sum("today", &today_keys), day_sum("yesterday", &yesterday_keys)];
        let days = days.into_iter().flatten().collect();
        let ever = self.known.keys.iter().filter(|(_, totals)| totals.listed.is_some());
        let ever = ever.map(|(id, totals)| Ranked {
            id: EntityId::Text(id.clone()),
            cost: totals.cost.now(),
            requests: Some(totals.requests.now()),
            tokens: Some(totals.tokens.now()),
        });
        rankings.push(Ranking { scope: Scope::Key, period: "all", entries: ever.collect() });
        rankings.push(Ranking { scope: Scope::Key, period: "today", entries: today_keys });
        rankings.push(Ranking { scope: Scope::Model, period: "today", entries: models_today });
        let models = by_model(self.known.pairs.iter().map(|((_, model), totals)| (model, totals.now())));
        rankings.push(Ranking { scope: Scope::Model, period: "all", entries: models });
        Ok(CounterSnapshot {
            day_start: self.offset.start_of(today),
            requests_per_minute: Some(requests_per_minute),
            tokens_per_minute: Some(tokens_per_minute),
            days,
            traffic: self.known.traffic(),
            keys,
            models: self.known.models.clone(),
            rankings,
            failures,
            durations,
            missed,
            read: self.reader.read,
        })
    }

    fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        let changed = mem::take(&mut self.known.changed);
        let wanted = |id: &Arc<str>| all || changed.contains(id);
        let mut keys: BTreeMap<&Arc<str>, Option<KeyPart>> = BTreeMap::new();
        let mut accounts: BTreeMap<&Arc<str>, Option<AccountPart>> = BTreeMap::new();
        for (id, totals) in &self.known.keys {
            let part = || KeyPart { totals: Some(*totals), models: BTreeMap::new(), records: None };
            keys.insert(id, wanted(id).then(part));
        }
        for ((id, model), totals) in &self.known.pairs {
            let part = || KeyPart { totals: None, models: BTreeMap::new(), records: None };
            if let Some(part) = keys.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.models.insert(model.clone(), *totals);
            }
        }
        for (id, seen) in &self.cursors.records {
            // Only keys that are known have one.
            if let Some(Some(part)) = keys.get_mut(id) {
                part.records = Some(seen.clone());
            }
        }
        let part = || AccountPart { models: BTreeMap::new(), errors: None };
        for ((id, model), months) in self.known.traffic.iter().filter(|(_, months)| !months.is_empty()) {
            if let Some(part) = accounts.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.models.insert(model.clone(), months.clone());
            }
        }
        for (id, seen) in &self.cursors.errors {
            if let Some(part) = accounts.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.errors = Some(seen.clone());
            }
        }
        let Known { requests, year, models, .. } = &self.known;
        let relay = RelayPart { requests: *requests, year: *year, models, began: self.cursors.began };
        let mut parts = vec![encoded(RELAY, &relay)?];
        for (id, part) in keys {
            let name = format!("{KEY}{id}");
            parts.push(part.map_or_else(|| Ok((name.clone(), None)), |part| encoded(&name, &part))?);
        }
        for (id, part) in accounts {
            let name = format!("{ACCOUNT}{id}");
            parts.push(part.map_or_else(|| Ok((name.clone(), None)), |part| encoded(&name, &part))?);
        }
        Ok(parts)
    }

    fn restore(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let RelayPart { requests, year, models, began } = decoded::<RelayPart<Vec<Arc<str>>>>(parts, RELAY)?;
        let mut known = Known { requests, year, models, ..Known::default() };
        let mut cursors = Cursors { began, ..Cursors::default() };
        for name in parts.keys() {
            if let Some(id) = name.strip_prefix(KEY) {
                let (id, part) = (Arc::<str>::from(id), decoded::<KeyPart>(parts, name)?);
                known.keys.extend(part.totals.map(|totals| (id.clone(), totals)));
                known.pairs.extend(part.models.into_iter().map(|(model, totals)| ((id.clone(), model), totals)));
                cursors.records.extend(part.records.map(|seen| (id, seen)));
            } else if let Some(id) = name.strip_prefix(ACCOUNT) {
                let (id, part) = (Arc::<str>::from(id), decoded::<AccountPart>(parts, name)?);
                known.traffic.extend(part.models.into_iter().map(|(model, months)| ((id.clone(), model), months)));
                cursors.errors.extend(part.errors.map(|seen| (id, seen)));
            }
        }
        (self.known, self.cursors) = (known, cursors);
        self.whole_at = None;
        Ok(())
    }
}

fn pair(member: &str) -> Option<Pair> {
    keys::pair(member).map(|(id, model)| (id.into(), model.into()))
}
