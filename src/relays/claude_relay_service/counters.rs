//! Durable totals, days and rankings.
//!
//! A refresh reads what traffic of today and yesterday can have changed; everything else is remembered as it was read.
//! All of it is read again now and then, and whenever the relay's statistics were reset.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use super::clock::Offset;
use super::directory::clock;
use super::events::{self, List, Record, Seen};
use super::keys::{self, counted_model, platform_of};
use crate::kv::{Ask, Kv};
use crate::model::{Directory, EntityId, FailureClass, ReadError, Scope, Tokens, Usd};
use crate::relays::{Counters, KeyReading, Ranked, Ranking, Reading, TrafficReading};
use crate::settings::RelayPlan;

/// Pause between two readings of everything.
const WHOLE_EVERY: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// How long the relay may take to delete its statistics.
const RESET_TAKES: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// Days of index sets, which live 32 days: who had traffic in them is not idle.
const INDEXED_DAYS: u64 = 32;
/// Combinations of key and model that are looked for when everything is read.
const MOST_PAIRS: usize = 50_000;
/// The relay keeps so many records per key, and so many errors per account.
const RECORDS: usize = 200;
const ERRORS: usize = 5000;
/// `METRICS_WINDOW` where the relay does not tell.
const WINDOW_MINUTES: i64 = 5;

type Pair = (Arc<str>, Arc<str>);

pub struct CounterReader {
    kv: Kv,
    offset: Offset,
    /// Indexes of traffic cannot be relied on: any key may have some.
    scan: bool,
    known: Known,
    cursors: Cursors,
    whole_at: Option<DateTime<Utc>>,
    reset_at: Option<DateTime<Utc>>,
    window_minutes: i64,
    read: u64,
}

/// What the relay's totals were when they were last read.
#[derive(Default)]
struct Known {
    /// Of the whole relay; falls only when the statistics are reset.
    requests: u64,
    keys: HashMap<Arc<str>, KeyTotals>,
    /// By key and model.
    pairs: HashMap<Pair, PairTotals>,
    /// By account and model, one for each month of the year.
    traffic: HashMap<Pair, BTreeMap<u32, (u64, Tokens)>>,
    year: i32,
}

#[derive(Clone, Copy, Default)]
struct KeyTotals {
    requests: u64,
    tokens: u64,
    cost: Usd,
    list_cost: Option<Usd>,
}

#[derive(Clone, Copy, Default)]
struct PairTotals {
    requests: u64,
    tokens: u64,
    cost: Usd,
    list_cost: Usd,
}

/// How far failures and durations have been taken.
#[derive(Clone, Default)]
struct Cursors {
    /// What is there at the first look is not new.
    began: bool,
    /// By account.
    errors: HashMap<EntityId, Seen>,
    /// By key, with the requests that it had.
    records: HashMap<Arc<str>, (u64, Seen)>,
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
    pub fn new(kv: Kv, plan: &RelayPlan) -> Self {
        Self {
            kv,
            offset: plan.timezone_offset,
            scan: plan.scan,
            known: Known::default(),
            cursors: Cursors::default(),
            whole_at: None,
            reset_at: None,
            window_minutes: WINDOW_MINUTES,
            read: 0,
        }
    }

    /// Some fields of hashes; a hash that is not there has none of them.
    async fn fields(
        &mut self,
        what: &str,
        keys: Vec<String>,
        names: &[&str],
    ) -> Result<Vec<Option<Fields>>, ReadError> {
        self.read += keys.len() as u64;
        let asks: Vec<Ask> = keys.into_iter().map(|key| Ask::new("HMGET", key).with(names)).collect();
        let answers = self.kv.each::<Vec<Option<String>>>(what, &asks).await?;
        Ok(answers.into_iter().map(|answer| answer.map(Fields)).collect())
    }

    async fn sets(&mut self, what: &str, keys: Vec<String>) -> Result<Vec<Vec<String>>, ReadError> {
        self.read += keys.len() as u64;
        let asks: Vec<Ask> = keys.into_iter().map(|key| Ask::new("SMEMBERS", key)).collect();
        let sets = self.kv.each::<Vec<String>>(what, &asks).await?;
        Ok(sets.into_iter().map(|set| keys::members(set.unwrap_or_default()).collect()).collect())
    }

    /// Dollars that the relay writes with `INCRBYFLOAT`; `None` within where there is no key.
    async fn dollars(&mut self, what: &str, keys: Vec<String>) -> Result<Vec<Option<Option<Usd>>>, ReadError> {
        self.read += keys.len() as u64;
        let asks: Vec<Ask> = keys.into_iter().map(|key| Ask::new("GET", key)).collect();
        let answers = self.kv.each::<Option<f64>>(what, &asks).await?;
        Ok(answers.into_iter().map(|answer| Some(answer?.and_then(Usd::from_f64))).collect())
    }

    async fn active(&mut self, today: NaiveDate, whole: bool) -> Result<Active, ReadError> {
        let what = "reading who had traffic";
        let days: Vec<String> =
            (0..if whole { INDEXED_DAYS } else { 2 }).map(|ago| keys::day(today - Days::new(ago))).collect();
        let names = |prefix: &str, days: &[String]| days.iter().map(|day| format!("{prefix}{day}")).collect();
        let mut active = Active::default();
        let mut daily = self.sets(what, names("usage:daily:index:", &days[..2])).await?.into_iter();
        let ids = |set: Option<Vec<String>>| set.into_iter().flatten().map(Arc::from).collect();
        active.today = ids(daily.next());
        active.yesterday = ids(daily.next());
        let pairs = self.sets(what, names("usage:keymodel:daily:index:", &days)).await?;
        active.today_pairs = pairs.first().into_iter().flatten().filter_map(|member| pair(member)).collect();
        active.pairs = pairs.iter().flatten().filter_map(|member| pair(member)).collect();
        let accounts = self.sets(what, names("account_usage:model:daily:index:", &days)).await?;
        active.accounts = accounts.iter().flatten().filter_map(|member| pair(member)).collect();
        Ok(active)
    }

    /// The relay's requests per minute and tokens per minute, the unfinished minute included (`getRealtimeSystemMetrics`).
    async fn pace(&mut self, now: DateTime<Utc>) -> Result<(f64, f64), ReadError> {
        let what = "reading the last minutes";
        let minute = now.timestamp().div_euclid(60);
        let name = |minute: i64| format!("system:metrics:minute:{minute}");
        // A minute lives for twice the window after its last write, which was in this minute.
        let left = self.kv.each::<i64>(what, &[Ask::new("TTL", name(minute))]).await?;
        if let Some(left) = left.into_iter().flatten().next().filter(|left| (1..=86_400).contains(left)) {
            self.window_minutes = (left + 119) / 120;
        }
        let minutes = (0..self.window_minutes).map(|ago| name(minute - ago)).collect();
        let sums = self.fields(what, minutes, &["requests", "totalTokens"]).await?;
        let mean = |field: usize| {
            let sum: u64 = sums.iter().flatten().map(|fields| fields.count(field)).sum();
            (sum as f64 / self.window_minutes as f64 * 100.0).round() / 100.0
        };
        Ok((mean(0), mean(1)))
    }

    async fn key_totals(&mut self, ids: Vec<Arc<str>>, whole: bool) -> Result<(), ReadError> {
        let what = "reading totals of keys";
        let names: Vec<String> = ids.iter().map(|id| format!("usage:{id}")).collect();
        let usage = self.fields(what, names, &["totalRequests", "totalAllTokens", "totalTokens"]).await?;
        let of = |prefix: &str| ids.iter().map(|id| format!("{prefix}{id}")).collect();
        let costs = self.dollars(what, of("usage:cost:total:")).await?;
        let list_costs = self.dollars(what, of("usage:cost:real:total:")).await?;
        for (((id, usage), cost), list_cost) in ids.into_iter().zip(usage).zip(costs).zip(list_costs) {
            let totals = self.known.keys.entry(id).or_default();
            if let Some(usage) = usage.filter(|usage| whole || !usage.is_empty()) {
                totals.requests = usage.count(0);
                // Old hashes have only the sum without caches.
                totals.tokens = usage.count(1).max(usage.count(2));
            }
            if let Some(cost) = cost.filter(|cost| whole || cost.is_some()) {
                totals.cost = cost.unwrap_or_default();
            }
            if let Some(cost) = list_cost.filter(|cost| whole || cost.is_some()) {
                totals.list_cost = cost;
            }
        }
        Ok(())
    }

    async fn pair_totals(&mut self, pairs: Vec<Pair>, whole: bool) -> Result<(), ReadError> {
        let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:alltime:{model}")).collect();
        let answers = self.fields("reading totals of keys by model", names, &PAIR_FIELDS).await?;
        for (pair, fields) in pairs.into_iter().zip(answers) {
            match fields {
                Some(fields) if !fields.is_empty() => {
                    self.known.pairs.insert(pair, fields.pair_totals());
                }
                // Gone, not merely unreadable.
                Some(_) if whole => {
                    self.known.pairs.remove(&pair);
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn account_totals(&mut self, pairs: BTreeSet<Pair>, today: NaiveDate, whole: bool) -> Result<(), ReadError> {
        if self.known.year != today.year() {
            self.known.traffic.clear();
            self.known.year = today.year();
        }
        if whole {
            self.known.traffic.retain(|pair, _| pairs.contains(pair));
        }
        let mut asked = Vec::new();
        for pair in pairs {
            let first = match self.known.traffic.contains_key(&pair) && !whole {
                // Past months stay as they are, but for what was under way at midnight.
                true if today.day() > 1 => today.month(),
                true => today.month().saturating_sub(1).max(1),
                false => 1,
            };
            asked.extend((first..=today.month()).map(|month| (pair.clone(), month)));
        }
        let names = asked
            .iter()
            .map(|((account, model), month)| {
                format!("account_usage:model:monthly:{account}:{model}:{}", keys::month(today.year(), *month))
            })
            .collect();
        let answers = self.fields("reading totals of accounts by model", names, &TOKEN_FIELDS).await?;
        for ((pair, month), fields) in asked.into_iter().zip(answers) {
            let months = self.known.traffic.entry(pair).or_default();
            match fields {
                Some(fields) if !fields.is_empty() => {
                    months.insert(month, (fields.count(0), fields.tokens()));
                }
                Some(_) if whole => {
                    months.remove(&month);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Each key's requests, tokens and cost on a day.
    async fn day(&mut self, ids: &BTreeSet<Arc<str>>, date: NaiveDate) -> Result<Vec<Ranked>, ReadError> {
        let what = "reading a day";
        let date = keys::day(date);
        let names = ids.iter().map(|id| format!("usage:daily:{id}:{date}")).collect();
        let usage = self.fields(what, names, &["requests", "allTokens"]).await?;
        let costs = self.dollars(what, ids.iter().map(|id| format!("usage:cost:daily:{id}:{date}")).collect()).await?;
        let ranked = ids.iter().zip(usage).zip(costs).map(|((id, usage), cost)| Ranked {
            id: EntityId::Text(id.clone()),
            cost: cost.flatten().unwrap_or_default(),
            requests: usage.as_ref().map(|usage| usage.count(0)),
            tokens: usage.as_ref().map(|usage| usage.count(1)),
        });
        Ok(ranked.collect())
    }

    async fn models_today(&mut self, pairs: &BTreeSet<Pair>, date: NaiveDate) -> Result<Vec<Ranked>, ReadError> {
        let date = keys::day(date);
        let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:daily:{model}:{date}")).collect();
        let answers = self.fields("reading models of a day", names, &PAIR_FIELDS).await?;
        Ok(by_model(pairs.iter().zip(answers).filter_map(|((_, model), fields)| {
            // The relay's migration cuts names at a colon: then there is no hash.
            let fields = fields.filter(|fields| !fields.is_empty())?;
            Some((model, fields.pair_totals()))
        })))
    }

    /// The relay's own rankings, which it renews every half hour and every hour.
    async fn rankings(&mut self) -> Result<Vec<Ranking>, ReadError> {
        let periods = [("7d", "cost_rank:7days"), ("30d", "cost_rank:30days")];
        let asks = periods.map(|(_, key)| Ask::new("ZRANGE", key).with(&["0", "-1", "WITHSCORES"]));
        let answers = self.kv.each::<Vec<(String, f64)>>("reading rankings", &asks).await?;
        let ranking = |(period, members): (&'static str, Vec<(String, f64)>)| {
            let entries = members.into_iter().filter_map(|(id, cost)| {
                Some(Ranked { id: id.as_str().into(), cost: Usd::from_f64(cost)?, requests: None, tokens: None })
            });
            Ranking { scope: Scope::Key, period, entries: entries.collect() }
        };
        let found = periods.iter().zip(answers).filter_map(|((period, _), members)| Some((*period, members?)));
        Ok(found.filter(|(_, members)| !members.is_empty()).map(ranking).collect())
    }

    async fn failures(
        &mut self,
        directory: &Directory,
        cursors: &mut Cursors,
    ) -> Result<Vec<(EntityId, FailureClass, u64)>, ReadError> {
        let accounts: Vec<(&EntityId, String)> = directory
            .providers
            .iter()
            .filter_map(|account| {
                let platform = platform_of(&account.kind)?;
                Some((&account.id, format!("error_history:{}:{}", platform.in_errors, account.id)))
            })
            .collect();
        let lists: Vec<List> = accounts
            .iter()
            .map(|(id, key)| List {
                key: key.clone(),
                seen: cursors.errors.get(*id).cloned().or_else(|| cursors.began.then(Seen::default)),
                expected: 0,
            })
            .collect();
        self.read += lists.len() as u64;
        let news = events::news(&mut self.kv, "reading failures", &lists, ERRORS).await?;
        let mut failures: BTreeMap<(&EntityId, FailureClass), u64> = BTreeMap::new();
        for ((id, _), news) in accounts.iter().zip(news) {
            let Some(news) = news else { continue };
            for entry in &news.entries {
                *failures.entry((id, events::failure_class(entry))).or_default() += 1;
            }
            cursors.errors.insert((*id).clone(), news.seen);
        }
        Ok(failures.into_iter().map(|((id, class), count)| (id.clone(), class, count)).collect())
    }

    /// Durations since the last reading, and how many requests left none.
    async fn durations(&mut self, cursors: &mut Cursors) -> Result<(Vec<(EntityId, Arc<str>, u64)>, u64), ReadError> {
        let mut changed: Vec<(Arc<str>, u64, Option<Seen>, u64)> = Vec::new();
        for (id, totals) in &self.known.keys {
            match cursors.records.get(id) {
                Some((before, _)) if *before == totals.requests => {}
                Some((before, seen)) => {
                    changed.push((
                        id.clone(),
                        totals.requests.saturating_sub(*before),
                        Some(seen.clone()),
                        totals.requests,
                    ));
                }
                None => changed.push((id.clone(), totals.requests, cursors.began.then(Seen::default), totals.requests)),
            }
        }
        let lists: Vec<List> = changed
            .iter()
            .map(|(id, grown, seen, _)| List {
                key: format!("usage:records:{id}"),
                seen: seen.clone(),
                expected: if seen.is_some() { usize::try_from(*grown).unwrap_or(RECORDS).min(RECORDS) } else { 0 },
            })
            .collect();
        self.read += lists.len() as u64;
        let news = events::news(&mut self.kv, "reading records", &lists, RECORDS).await?;
        let (mut durations, mut missed) = (Vec::new(), 0);
        for ((id, grown, seen, requests), news) in changed.into_iter().zip(news) {
            let Some(news) = news else { continue };
            if seen.is_some() && (news.torn || news.entries.len() >= RECORDS) {
                missed += grown.saturating_sub(news.entries.len() as u64);
            }
            for record in news.entries.iter().rev().filter_map(|entry| serde_json::from_str::<Record>(entry).ok()) {
                if let Some(ms) = record.duration_ms.filter(|ms| (0.0..1e12).contains(ms)) {
                    let account = record.account_id.as_deref().filter(|id| !id.is_empty()).unwrap_or("unknown");
                    let model = counted_model(record.model.as_deref().unwrap_or("unknown")).as_ref().into();
                    durations.push((account.into(), model, ms.round() as u64));
                }
            }
            cursors.records.insert(id, (requests, news.seen));
        }
        Ok((durations, missed))
    }

    /// The totals that may have changed; all of them when `whole`.
    async fn totals(
        &mut self,
        directory: &Directory,
        active: &Active,
        today: NaiveDate,
        whole: bool,
    ) -> Result<(), ReadError> {
        let listed: Vec<Arc<str>> = directory.keys.iter().map(|key| text(&key.id)).collect();
        let mut ids: BTreeSet<Arc<str>> = active.today.union(&active.yesterday).cloned().collect();
        ids.extend(listed.iter().filter(|id| whole || !self.known.keys.contains_key(*id)).cloned());
        self.key_totals(ids.into_iter().collect(), whole).await?;
        let mut pairs = active.pairs.clone();
        if whole {
            // Idle ones are in no index, but their cost is in the sum of the model.
            let models: BTreeSet<Arc<str>> = pairs.iter().map(|(_, model)| model.clone()).collect();
            if listed.len().saturating_mul(models.len()) <= MOST_PAIRS {
                let every = listed.iter().flat_map(|id| models.iter().map(move |model| (id.clone(), model.clone())));
                pairs.extend(every);
            }
            pairs.extend(self.known.pairs.keys().cloned());
        }
        self.pair_totals(pairs.into_iter().collect(), whole).await?;
        self.account_totals(active.accounts.clone(), today, whole).await
    }
}

#[async_trait]
impl Counters for CounterReader {
    async fn read(&mut self, directory: &Directory) -> Result<Reading, ReadError> {
        let now = clock(self.kv.now_ms().await?);
        let today = self.offset.date(now);
        self.read = 0;
        let global = self.fields("reading totals", vec!["usage:global:total".to_owned()], &["requests"]).await?;
        let requests = global.into_iter().flatten().next().map_or(self.known.requests, |fields| fields.count(0));
        if requests < self.known.requests {
            tracing::info!("the relay's statistics were reset; its counters start again");
            self.known = Known::default();
            self.reset_at = Some(now);
        }
        self.known.requests = requests;
        let recent = |at: Option<DateTime<Utc>>, span| at.is_some_and(|at| now - at < span);
        let whole = !recent(self.whole_at, WHOLE_EVERY) || recent(self.reset_at, RESET_TAKES);

        let mut active = self.active(today, whole).await?;
        if self.scan {
            for ids in [&mut active.today, &mut active.yesterday] {
                ids.extend(directory.keys.iter().map(|key| text(&key.id)));
            }
        }
        self.totals(directory, &active, today, whole).await?;
        let (requests_per_minute, tokens_per_minute) = self.pace(now).await?;
        let days = [self.day(&active.today, today).await?, self.day(&active.yesterday, today - Days::new(1)).await?];
        let models_today = self.models_today(&active.today_pairs, today).await?;
        let mut rankings = self.rankings().await?;
        // Events count once: the cursors move with the reading that tells of them, or not at all.
        let mut cursors = self.cursors.clone();
        let failures = self.failures(directory, &mut cursors).await?;
        let (durations, missed) = self.durations(&mut cursors).await?;
        self.cursors = Cursors { began: true, ..cursors };
        if whole {
            self.whole_at = Some(now);
        }

        let keys = self.known.readings(directory);
        let [today_keys, yesterday_keys] = days;
        let days = vec![day_sum("today", &today_keys), day_sum("yesterday", &yesterday_keys)];
        let ever = keys.iter().map(|key| Ranked {
            id: key.id.clone(),
            cost: key.cost,
            requests: Some(key.requests),
            tokens: Some(key.tokens),
        });
        rankings.push(Ranking { scope: Scope::Key, period: "all", entries: ever.collect() });
        rankings.push(Ranking { scope: Scope::Key, period: "today", entries: today_keys });
        rankings.push(Ranking { scope: Scope::Model, period: "today", entries: models_today });
        let models = by_model(self.known.pairs.iter().map(|((_, model), totals)| (model, *totals)));
        rankings.push(Ranking { scope: Scope::Model, period: "all", entries: models });
        Ok(Reading {
            day_start: self.offset.start_of(today),
            requests_per_minute: Some(requests_per_minute),
            tokens_per_minute: Some(tokens_per_minute),
            days,
            traffic: self.known.traffic(),
            keys,
            rankings,
            failures,
            durations,
            missed,
            read: self.read,
        })
    }
}

impl Known {
    fn readings(&self, directory: &Directory) -> Vec<KeyReading> {
        let reading = |id: &EntityId| {
            let totals = self.keys.get(&text(id))?;
            let KeyTotals { requests, tokens, cost, list_cost } = *totals;
            Some(KeyReading { id: id.clone(), requests, tokens, cost, list_cost })
        };
        directory.keys.iter().filter_map(|key| reading(&key.id)).collect()
    }

    /// Requests and tokens by account and model, cost by model.
    fn traffic(&self) -> Vec<TrafficReading> {
        let mut traffic = Vec::new();
        for ((account, model), months) in self.traffic.iter().filter(|(_, months)| !months.is_empty()) {
            let (requests, tokens) = months.values().fold((0_u64, Tokens::default()), |(requests, tokens), month| {
                (requests.saturating_add(month.0), tokens.plus(month.1))
            });
            let provider = Some(EntityId::Text(account.clone()));
            let requests = Some(requests);
            traffic.push(TrafficReading {
                provider,
                model: model.clone(),
                requests,
                tokens,
                cost: None,
                list_cost: None,
            });
        }
        let mut costs: BTreeMap<&Arc<str>, (Usd, Usd)> = BTreeMap::new();
        for ((_, model), totals) in &self.pairs {
            let sum = costs.entry(model).or_default();
            sum.0 += totals.cost;
            sum.1 += totals.list_cost;
        }
        traffic.extend(costs.into_iter().map(|(model, (cost, list_cost))| TrafficReading {
            model: model.clone(),
            cost: Some(cost),
            list_cost: Some(list_cost),
            ..TrafficReading::default()
        }));
        traffic
    }
}

const TOKEN_FIELDS: [&str; 7] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "cacheReadTokens",
    "cacheCreateTokens",
    "ephemeral5mTokens",
    "ephemeral1hTokens",
];
const PAIR_FIELDS: [&str; 7] = [
    "requests",
    "inputTokens",
    "outputTokens",
    "cacheReadTokens",
    "cacheCreateTokens",
    "ratedCostMicro",
    "realCostMicro",
];

/// Fields of one hash, in the order in which they were asked for.
struct Fields(Vec<Option<String>>);

impl Fields {
    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// A whole number; 0 for what is absent or is none.
    fn count(&self, field: usize) -> u64 {
        self.0.get(field).and_then(|text| text.as_ref()?.parse().ok()).unwrap_or(0)
    }

    /// Of [`TOKEN_FIELDS`].
    fn tokens(&self) -> Tokens {
        let (cache_write_5m, cache_write_1h) = (self.count(5), self.count(6));
        Tokens {
            input: self.count(1),
            output: self.count(2),
            cache_read: self.count(3),
            cache_write_5m,
            cache_write_1h,
            cache_write: self.count(4).saturating_sub(cache_write_5m.saturating_add(cache_write_1h)),
        }
    }

    /// Of [`PAIR_FIELDS`].
    fn pair_totals(&self) -> PairTotals {
        let micro = |field| Usd::from_femto(i128::from(self.count(field)) * 1_000_000_000);
        PairTotals {
            requests: self.count(0),
            tokens: (1..=4).fold(0_u64, |sum, field| sum.saturating_add(self.count(field))),
            cost: micro(5),
            list_cost: micro(6),
        }
    }
}

fn by_model<'a>(totals: impl Iterator<Item = (&'a Arc<str>, PairTotals)>) -> Vec<Ranked> {
    let mut models: BTreeMap<&Arc<str>, PairTotals> = BTreeMap::new();
    for (model, totals) in totals {
        let sum = models.entry(model).or_default();
        sum.requests = sum.requests.saturating_add(totals.requests);
        sum.tokens = sum.tokens.saturating_add(totals.tokens);
        sum.cost += totals.cost;
    }
    let ranked = models.into_iter().map(|(model, sum)| Ranked {
        id: EntityId::Text(model.clone()),
        cost: sum.cost,
        requests: Some(sum.requests),
        tokens: Some(sum.tokens),
    });
    ranked.collect()
}

fn day_sum(day: &'static str, keys: &[Ranked]) -> (&'static str, u64, Usd) {
    (day, keys.iter().filter_map(|key| key.requests).sum(), keys.iter().map(|key| key.cost).sum())
}

fn pair(member: &str) -> Option<Pair> {
    keys::pair(member).map(|(id, model)| (id.into(), model.into()))
}

fn text(id: &EntityId) -> Arc<str> {
    match id {
        EntityId::Text(text) => text.clone(),
        EntityId::Number(number) => number.to_string().into(),
    }
}
