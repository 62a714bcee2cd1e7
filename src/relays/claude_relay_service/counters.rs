//! Durable totals, and a refresh of all that is counted.
//!
//! A refresh reads what traffic of today and yesterday can have changed; everything else is remembered as it was read.
//! All of it is read again now and then, and whenever the relay's statistics were reset.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use super::clock::Offset;
use super::directory::clock;
use super::events::Cursors;
use super::keys;
use super::rankings::{self, by_model, day_sum};
use super::reader::{PAIR_FIELDS, Reader, TOKEN_FIELDS};
use super::totals::{Known, Pair, held, held_tokens, text};
use crate::kv::{Ask, Kv};
use crate::model::{Directory, ReadError, Scope};
use crate::relays::{Counters, Ranked, Ranking, Reading};
use crate::settings::RelayPlan;

/// Pause between two readings of everything.
const WHOLE_EVERY: chrono::TimeDelta = chrono::TimeDelta::minutes(10);
/// How long the relay may take to delete its statistics.
const RESET_TAKES: chrono::TimeDelta = chrono::TimeDelta::minutes(1);
/// Days of index sets, which live 32 days: who had traffic in them is not idle.
const INDEXED_DAYS: u64 = 32;
/// Combinations of key and model that are looked for when everything is read.
const MOST_PAIRS: usize = 50_000;
/// `METRICS_WINDOW` where the relay does not tell.
const WINDOW_MINUTES: i64 = 5;

pub struct CounterReader {
    reader: Reader,
    offset: Offset,
    /// Indexes of traffic cannot be relied on: any key may have some.
    scan: bool,
    known: Known,
    cursors: Cursors,
    whole_at: Option<DateTime<Utc>>,
    reset_at: Option<DateTime<Utc>>,
    window_minutes: i64,
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
            reader: Reader::new(kv),
            offset: plan.timezone_offset,
            scan: plan.scan,
            known: Known::default(),
            cursors: Cursors::default(),
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
        let left = self.reader.kv.each::<i64>(what, &[Ask::new("TTL", name(minute))]).await?;
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

    async fn key_totals(&mut self, ids: Vec<Arc<str>>, whole: bool) -> Result<(), ReadError> {
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
            let totals = self.known.keys.entry(id).or_default();
            if let Some(usage) = usage.filter(|usage| whole || !usage.is_empty()) {
                totals.requests = held(totals.requests, usage.count(0));
                // Old hashes have only the sum without caches.
                totals.tokens = held(totals.tokens, usage.count(1).max(usage.count(2)));
            }
            if let Some(cost) = cost.filter(|cost| whole || cost.is_some()) {
                totals.cost = held(totals.cost, cost.unwrap_or_default());
            }
            if let Some(cost) = list_cost.filter(|cost| whole || cost.is_some()) {
                totals.list_cost = cost.map(|cost| held(totals.list_cost.unwrap_or_default(), cost));
            }
        }
        Ok(())
    }

    async fn pair_totals(&mut self, pairs: Vec<Pair>, whole: bool) -> Result<(), ReadError> {
        let names = pairs.iter().map(|(key, model)| format!("usage:{key}:model:alltime:{model}")).collect();
        let answers = self.reader.fields("reading totals of keys by model", names, &PAIR_FIELDS).await?;
        for (pair, fields) in pairs.into_iter().zip(answers) {
            match fields {
                Some(fields) if !fields.is_empty() => {
                    let totals = self.known.pairs.entry(pair).or_default();
                    *totals = totals.held(fields.pair_totals());
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
        let answers = self.reader.fields("reading totals of accounts by model", names, &TOKEN_FIELDS).await?;
        for ((pair, month), fields) in asked.into_iter().zip(answers) {
            let months = self.known.traffic.entry(pair).or_default();
            match fields {
                Some(fields) if !fields.is_empty() => {
                    let (requests, tokens) = months.entry(month).or_default();
                    *requests = held(*requests, fields.count(0));
                    *tokens = held_tokens(*tokens, fields.tokens());
                }
                Some(_) if whole => {
                    months.remove(&month);
                }
                _ => {}
            }
        }
        Ok(())
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
        let now = clock(self.reader.kv.now_ms().await?);
        let today = self.offset.date(now);
        self.reader.read = 0;
        let global = self.reader.fields("reading totals", vec!["usage:global:total".to_owned()], &["requests"]).await?;
        let requests = global.into_iter().flatten().next().map_or(self.known.requests, |fields| fields.count(0));
        let requests = held(self.known.requests, requests);
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
        let reader = &mut self.reader;
        let today_keys = rankings::day(reader, &active.today, today).await?;
        let yesterday_keys = rankings::day(reader, &active.yesterday, today - Days::new(1)).await?;
        let models_today = rankings::models_today(reader, &active.today_pairs, today).await?;
        let mut rankings = rankings::rankings(reader).await?;
        // Events count once: the cursors move with the reading that tells of them, or not at all.
        let mut cursors = self.cursors.clone();
        let failures = cursors.failures(reader, directory).await?;
        let (durations, missed) = cursors.durations(reader, &self.known.keys).await?;
        cursors.began = true;
        self.cursors = cursors;
        if whole {
            self.whole_at = Some(now);
        }

        let keys = self.known.readings(directory);
        let days = [day_sum("today", &today_keys), day_sum("yesterday", &yesterday_keys)];
        let days = days.into_iter().flatten().collect();
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
            read: self.reader.read,
        })
    }
}

fn pair(member: &str) -> Option<Pair> {
    keys::pair(member).map(|(id, model)| (id.into(), model.into()))
}
