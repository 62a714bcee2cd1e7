//! The exporter's numbers against plain SQL over the same file at the same moment.
//!
//! Requests arrive in any order of their starts, old ones are imported, events are deleted, prices change, the exporter
//! is restarted with and without its store. After every step every number is compared. The SQL is written from the
//! manager's rules and shares nothing with the reader's.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Duration, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use llm_relay_exporter::model::Scope;
use llm_relay_exporter::relays::cpa_manager::{Level, key_id, provider_id};
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::Row;

use super::relay::{Event, Relay, hash_of, number, read_all, view};
use crate::reading::{self, Saved};
use crate::screens::{close, hold_board, hold_day, hold_window};
use crate::sums::{counter_sums, like};

/// Of a dollar.
const PARTS: f64 = 1e12;

/// What the manager's pages make of an event. Models of the test end in `(high)` or in nothing.
fn facts(level: Level) -> String {
    let (asked, billing, tier, read, written, input) = match level {
        Level::Plus => (
            "case when model like '%(high)' then substr(model, 1, length(model) - 6) else model end",
            "coalesce(nullif(resolved_model, ''), case when model like '%(high)' then substr(model, 1, length(model) - 6) else model end)",
            "lower(trim(coalesce(service_tier, '')))",
            "cache_read_tokens",
            "cache_creation_tokens",
            "coalesce(normalized_total_input_tokens, input_tokens)",
        ),
        _ => ("model", "model", "''", "0", "0", "input_tokens"),
    };
    let (ttft, outcome) = match level {
        Level::Plus => (
            "nullif(ttft_ms, 0)",
            "case when failed = 0 then 'success' when fail_status_code in (400, 404, 413, 422, 499) then 'excluded' else 'failure' end",
        ),
        _ => ("null", "case when failed = 0 then 'success' else 'failure' end"),
    };
    // Of the test's models, claude has a step at 200 000, gpt-5-codex a fast tier, gpt-5.4 OpenAI's long context.
    let priced = match level {
        Level::Plus => {
            "case
               when b = 'claude' and i > 200000 then (p * 6.0 + c * p_cache + r * iif(p_cache > 0, p_cache, 0.6) + w * 6.0 + o * p_out)
               when b = 'gpt-5-codex' and t in ('fast', 'priority') then (p * 7.5 + c * p_cache + r * iif(p_cache > 0, p_cache, 0.75) + w * 7.5 + o * p_out)
               else
                 ((p * p_in + c * p_cache + r * iif(p_cache > 0, p_cache, p_in * 0.1) + w * p_in) * iif(b = 'gpt-5.4' and i > 272000, 2.0, 1.0)
                   + o * p_out * iif(b = 'gpt-5.4' and i > 272000, 1.5, 1.0))
                 * case when t in ('flex', 'batch') then 0.5
                     when t in ('fast', 'priority') and b = 'gpt-5.4' and i <= 272000 then 2.0 else 1.0 end
             end"
        }
        _ => "p * p_in + c * p_cache + o * p_out",
    };
    format!(
        "create temp view facts as
         select *, coalesce({priced}, 0.0) / 1e6 as cost from (
           select *, (select prompt_per_1m from model_prices where model = found) as p_in,
             (select completion_per_1m from model_prices where model = found) as p_out,
             (select cache_per_1m from model_prices where model = found) as p_cache
           from (
             select *, max(i - c - r - w, 0) as p,
               case when b in (select model from model_prices) then b when a in (select model from model_prices) then a else m end as found
             from (
               select id, timestamp_ms as start, model as m, {asked} as a, {billing} as b, {tier} as t, {input} as i, output_tokens as o,
                 max(max(cached_tokens, cache_tokens) - {read} - {written}, 0) as c, {read} as r, {written} as w, total_tokens as total,
                 failed, {outcome} as outcome, nullif(latency_ms, 0) as latency, {ttft} as ttft,
                 created_at_ms - timestamp_ms >= 3600000 as imported, auth_index, provider, api_key_hash
               from usage_events
             )
           )
         )"
    )
}

struct Scene {
    relay: Relay,
    zone: Tz,
    rng: StdRng,
    /// Counters as they should be: what was read, at the price of that time.
    counted: BTreeMap<String, f64>,
    counted_to: i64,
}

impl Scene {
    async fn new(level: Level, zone: &str, now: DateTime<Utc>, seed: u64) -> Self {
        let mut relay = Relay::new(level, zone, now).await;
        relay.run(&facts(level)).await;
        for (model, prompt, completion, cache) in
            [("claude", 3.0, 15.0, 0.3), ("gpt-5-codex", 1.25, 10.0, 0.125), ("gpt-5.4", 2.5, 20.0, 0.0)]
        {
            relay.price(model, prompt, completion, cache).await;
        }
        if level == Level::Plus {
            relay
                .run(
                    "insert into model_price_context_tiers (model, threshold_tokens, prompt_per_1m, prompt_configured) values ('claude', 200000, 6, 1);
                     insert into model_price_service_tiers (model, mode, service_tier, prompt_per_1m, prompt_configured) values ('gpt-5-codex', 'fast', 'priority', 7.5, 1)",
                )
                .await;
        }
        if level >= Level::Snapshots {
            relay.run(&format!("insert into api_key_aliases values ('{}', 'Alice', 0)", hash_of("key 1"))).await;
        }
        let zone = zone.parse().unwrap();
        Self { relay, zone, rng: StdRng::seed_from_u64(seed), counted: BTreeMap::new(), counted_to: 0 }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn event(&mut self) -> Event {
        let failed = self.rng.random_bool(0.2);
        let cached = self.pick(&[0, 0, 500, 90_000]);
        Event {
            ago_ms: self.pick(&[0, 1, 900, 59_000, 61_000, 3_590_000, 3_610_000, 28_795_000, 86_395_000, 86_410_000]),
            recorded_after_ms: self.rng.random_range(0..200_000),
            provider: self.pick(&["codex", "claude", "gemini"]),
            auth_index: self.pick(&["0", "1", "2", ""]).into(),
            key: self.pick(&["key 1", "key 2", "key 3", "key 4", ""]).into(),
            model: self.pick(&["claude", "claude(high)", "gpt-5-codex", "gpt-5.4", "unknown", "-"]),
            resolved: self.pick(&["", "", "claude", "gpt-5.4"]),
            tier: self.pick(&["", "", "default", "flex", "Priority", "fast"]),
            input: self.pick(&[10, 5000, 200_000, 200_001, 272_000, 300_000]),
            output: self.rng.random_range(0..5000),
            cached,
            cache_read: self.pick(&[0, 0, 700]),
            cache_creation: self.pick(&[0, 0, 300]),
            latency_ms: self.pick(&[None, Some(0), Some(40), Some(3500), Some(1_200_000)]),
            ttft_ms: self.pick(&[None, Some(0), Some(350)]),
            failed,
            status: if failed { self.pick(&[None, Some(429), Some(500), Some(499), Some(400), Some(7)]) } else { None },
        }
    }

    async fn step(&mut self) -> &'static str {
        match self.rng.random_range(0..100) {
            0..50 => {
                for _ in 0..self.rng.random_range(1..4) {
                    let event = self.event();
                    self.relay.insert(&event).await;
                }
                "requests arrive"
            }
            50..60 => {
                for _ in 0..3 {
                    let recorded_after_ms = self.pick(&[3_599_999, 3_600_000, 90_000_000]);
                    let event = Event { ago_ms: recorded_after_ms + 5, recorded_after_ms, ..self.event() };
                    self.relay.insert(&event).await;
                }
                "old requests are imported"
            }
            60..68 => {
                let turn = self.rng.random_range(0..101);
                self.relay
                    .run(&format!(
                        "delete from usage_events where id in (select id from usage_events order by (id * 79 + {turn}) % 101 limit 2)"
                    ))
                    .await;
                "events are deleted"
            }
            68..72 => {
                self.relay.run("delete from usage_events where id = (select max(id) from usage_events)").await;
                "the newest event is deleted"
            }
            72..80 => {
                let model = self.pick(&["claude", "gpt-5-codex", "gpt-5.4", "unknown"]);
                let prompt = f64::from(self.rng.random_range(1..40_u32)) * 0.25;
                let cache = self.pick(&[0.0, 0.1]);
                self.relay.price(model, prompt, prompt * 4.0, cache).await;
                "a price changes"
            }
            _ => {
                let ahead = self.pick(&[1, 7, 61, 3600, 40_000, 90_000]);
                self.relay.set_clock(self.relay.now() + Duration::milliseconds(ahead * 1000 + 137));
                "time passes"
            }
        }
    }

    /// What has been read since is counted now, as the relay prices it now.
    async fn count(&mut self) {
        let sql = format!(
            "select auth_index, provider, api_key_hash, a, outcome, count(*), sum(cost) * {PARTS:?}, sum(p), sum(o), sum(c + r), sum(w),
               count(latency), sum(latency), sum(cost = 0 and p + o + c + r + w > 0 and outcome = 'success')
             from facts where id > {} and not imported group by 1, 2, 3, 4, 5",
            self.counted_to
        );
        for row in self.relay.rows(&sql).await {
            let text = |i: usize| row.get::<Option<String>, _>(i).unwrap_or_default();
            let provider = provider(&text(0), &text(1));
            let key = key_id(text(2).as_bytes()).map_or("other".to_owned(), |id| id.to_string());
            let outcome = text(4);
            let mut add = |name: String, i: usize| {
                let value = number(&row, i);
                *self.counted.entry(name).or_default() += if value.is_nan() { 0.0 } else { value };
            };
            add(format!("requests provider {provider} {outcome}"), 5);
            add(format!("cost provider {provider}"), 6);
            add(format!("requests key {key}"), 5);
            add(format!("outcome key {key} {outcome}"), 5);
            add(format!("cost key {key}"), 6);
            for (kind, i) in [("input", 7), ("output", 8), ("cache_read", 9), ("cache_write", 10)] {
                add(format!("tokens provider {provider} {kind}"), i);
            }
            add(format!("duration count provider {provider}"), 11);
            add(format!("duration ms provider {provider}"), 12);
            add("unpriced all".into(), 13);
        }
        let sql = format!("select count(*) from facts where id > {} and imported", self.counted_to);
        *self.counted.entry("imported all".into()).or_default() += self.relay.numbers(&sql).await[0];
        let top = "select coalesce((select seq from sqlite_sequence where name = 'usage_events'), 0)";
        self.counted_to = self.relay.numbers(top).await[0] as i64;
    }

    fn compare_counters(&self, view: &LedgerView) {
        let counters = view.counters.as_ref().unwrap();
        // Per provider, whatever the model: admission of models is another test's.
        let families = [
            "requests provider {}",
            "cost provider {}",
            "tokens provider {}",
            "duration count provider {}",
            "duration ms provider {}",
            "requests key {}",
            "outcome key {}",
            "cost key {}",
            "unpriced all",
            "imported all",
        ];
        let mine = like(counter_sums(counters, PARTS), families);
        let is_some = |(_, value): &(&String, &f64)| value.round() != 0.0;
        assert_eq!(
            mine.keys().collect::<Vec<_>>(),
            self.counted.iter().filter(is_some).map(|it| it.0).collect::<Vec<_>>()
        );
        for (name, value) in &mine {
            close(*value as f64, self.counted[name], name);
        }
    }

    fn start(&self, date: NaiveDate) -> i64 {
        self.zone.from_local_datetime(&date.into()).earliest().unwrap().timestamp_millis()
    }

    async fn compare(&mut self, view: &LedgerView) {
        let now = self.relay.now();
        let (second, local) = (now.timestamp() * 1000, now.with_timezone(&self.zone));
        let today = local.date_naive();
        let yesterday = today.pred_opt().unwrap();
        let same_time = self.zone.from_local_datetime(&(local.naive_local() - Duration::days(1))).earliest().unwrap();
        let same_time = same_time.timestamp() * 1000;
        for (day, from, to) in [
            ("today", self.start(today), self.start(today.succ_opt().unwrap())),
            ("yesterday", self.start(yesterday), self.start(today)),
            ("yesterday_same_time", self.start(yesterday), same_time),
        ] {
            let sql = format!(
                "select count(*), coalesce(sum(cost), 0), avg(latency) / 1000.0, sum(failed) from facts where start >= {from} and start < {to}"
            );
            let sql = self.relay.numbers(&sql).await;
            hold_day(view, day, &sql);
        }
        let month = self.start(today.with_day(1).unwrap());
        for (window, from) in [
            ("1m", second - 60_000),
            ("1h", second - 3_600_000),
            ("8h", second - 8 * 3_600_000),
            ("24h", second - 24 * 3_600_000),
            ("month", month),
        ] {
            let sql = format!(
                "select count(*) filter (where not failed), count(*) filter (where failed), count(*), coalesce(sum(total), 0)
                 from facts where start >= {from}"
            );
            let sql = self.relay.numbers(&sql).await;
            hold_window(view, window, &sql);
        }
        self.compare_key_models(view, second - 24 * 3_600_000).await;
        let monday = today - Duration::days(today.weekday().num_days_from_monday().into());
        let ever = i64::MAX;
        for (period, from, to) in [
            ("today", self.start(today), self.start(today.succ_opt().unwrap())),
            ("last24h", second - 24 * 3_600_000, ever),
            ("week", self.start(monday), ever),
            ("month", month, ever),
            ("all", i64::MIN, ever),
        ] {
            self.compare_boards(view, period, &format!("start >= {from} and start < {to}")).await;
        }
    }

    /// The models of each key that is on the board of the last 24 hours.
    async fn compare_key_models(&mut self, view: &LedgerView, since: i64) {
        let sql = format!("select api_key_hash, a, count(*) from facts where start >= {since} group by 1, 2");
        let mut theirs: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for row in self.relay.rows(&sql).await {
            let text = |i: usize| row.get::<Option<String>, _>(i).unwrap_or_default();
            let Some(key) = key_id(text(0).as_bytes()) else { continue };
            theirs.entry(key.to_string()).or_default().push((row.get::<i64, _>(2) as u64, text(1)));
        }
        let board = view.boards.iter().find(|it| (it.scope, it.period.label()) == (Scope::Key, "last24h")).unwrap();
        let mut expected = Vec::new();
        for entry in &board.entries {
            let Some(models) = theirs.get_mut(&entry.id) else { continue };
            let all: u64 = models.iter().map(|(requests, _)| requests).sum();
            models.retain(|(_, model)| !model.is_empty());
            models.sort_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
            models.truncate(self.relay.plan.boards.top_models);
            let rest = all - models.iter().map(|(requests, _)| requests).sum::<u64>();
            expected.extend(models.iter().map(|(requests, model)| (entry.id.clone(), model.clone(), *requests)));
            if rest > 0 {
                expected.push((entry.id.clone(), "other".to_owned(), rest));
            }
        }
        assert_eq!(view.key_models, expected);
    }

    async fn compare_boards(&mut self, view: &LedgerView, period: &str, span: &str) {
        for (scope, size) in [(Scope::Key, 3), (Scope::Provider, 2), (Scope::Model, 2)] {
            let sql = format!(
                "select auth_index, provider, api_key_hash, a, count(*), coalesce(sum(cost), 0), coalesce(sum(total), 0),
                   count(*) filter (where not failed) * 1.0, count(*),
                   coalesce(sum(ttft), 0) / 1000.0, count(ttft),
                   coalesce(sum(o * 1000.0 / latency) filter (where o > 0), 0), count(*) filter (where o > 0 and latency is not null),
                   coalesce(sum(c + r), 0), coalesce(sum(p + c + r + w), 0)
                 from facts where {span} group by 1, 2, 3, 4"
            );
            let mut theirs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            let mut whole = [0.0; 3];
            for row in self.relay.rows(&sql).await {
                let text = |i: usize| row.get::<Option<String>, _>(i).unwrap_or_default();
                let id = match scope {
                    Scope::Key => key_id(text(2).as_bytes()).map(|id| id.to_string()),
                    Scope::Provider => Some(provider(&text(0), &text(1))),
                    _ => Some(text(3)),
                };
                let numbers: Vec<f64> = (4..row.len()).map(|i| number(&row, i)).collect();
                whole.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum += number);
                let Some(id) = id else { continue };
                let sums = theirs.entry(id).or_insert_with(|| vec![0.0; numbers.len()]);
                sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
            }
            let mean = |sum: f64, count: f64| if count > 0.0 { sum / count } else { f64::NAN };
            let means = theirs.iter().map(|(id, it)| {
                let means = [3, 5, 7, 9].map(|i| mean(it[i], it[i + 1]));
                (id.clone(), [&it[..3], &means].concat())
            });
            let (ranked, other) = hold_board(view, (scope, size), period, &means.collect());
            let mut rest = whole;
            for entry in ranked {
                rest.iter_mut().zip(&theirs[&entry.id]).for_each(|(rest, number)| *rest -= number);
            }
            assert_eq!(other.requests.unwrap() as f64, rest[0], "other {scope:?} {period}");
            close(other.cost_usd.unwrap() + 1.0, rest[1] + 1.0, &format!("other {scope:?} {period}"));
        }
    }
}

fn provider(auth_index: &str, provider: &str) -> String {
    let source = hash_of(&format!("source {auth_index}"));
    provider_id(auth_index.as_bytes(), source.as_bytes(), provider.as_bytes()).to_string()
}

async fn play(level: Level, zone: &str, start: DateTime<Utc>, seed: u64, steps: usize) {
    let mut scene = Scene::new(level, zone, start, seed).await;
    let mut follower = scene.relay.follower();
    let mut directory_source = scene.relay.open().directory;
    let mut saved = Saved::default();
    for n in 0..steps {
        if n % 17 == 16 {
            // A new exporter knows nothing: it reads everything, at the prices of now.
            follower = scene.relay.follower();
            saved = Saved::default();
            (scene.counted, scene.counted_to) = (BTreeMap::new(), 0);
        } else if n % 5 == 4 {
            // One that goes on from its store has counted what it had counted.
            follower = saved.restored(scene.relay.follower());
        }
        let step = scene.step().await;
        println!("{level:?} {zone} seed {seed} step {n}: {step}");
        // A day that drifted long ago has its turn in the audit, and then all rows are read anew.
        for _ in 0..8 {
            read_all(&mut follower).await;
        }
        scene.count().await;
        let directory = directory_source.read().await.unwrap();
        let view = view(&mut follower, &scene.relay.plan, &directory);
        scene.compare(&view).await;
        scene.compare_counters(&view);
        saved.save(&mut follower);
    }
}

async fn all_generations(zone: &str, start: DateTime<Utc>, seed: u64) {
    let seed = reading::seed(seed);
    for (n, level) in Level::ALL.into_iter().rev().enumerate() {
        play(level, zone, start, seed + n as u64, 60).await;
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_shanghai() {
    all_generations("Asia/Shanghai", Utc.with_ymd_and_hms(2026, 5, 31, 15, 58, 30).unwrap(), 100).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_new_york_while_the_clocks_go_back() {
    all_generations("America/New_York", Utc.with_ymd_and_hms(2024, 11, 3, 3, 50, 0).unwrap(), 200).await;
}
