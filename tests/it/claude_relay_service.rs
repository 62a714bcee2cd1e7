//! claude-relay-service: what the relay writes into a real Redis, against what the page says, as the ACL user of the
//! documentation.

mod accounts;
mod counters;
mod moved;
mod releases;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Datelike, Days, TimeDelta, Utc};
use llm_relay_exporter::check;
use llm_relay_exporter::follow::CounterFollower;
use llm_relay_exporter::model::{Reason, Source};
use llm_relay_exporter::page;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::relay::unsupported::unsupported_reason;
use llm_relay_exporter::relay::{self, DirectorySource, LiveState, Relay};
use llm_relay_exporter::relays::claude_relay_service::demo::{self as simulated, Usage};
use llm_relay_exporter::relays::claude_relay_service::{Offset, PRODUCT};
use llm_relay_exporter::serve;
use llm_relay_exporter::servers::{PrivateRedis, redis_connection};
use llm_relay_exporter::settings::{OwnValue, Plan, RelayPlan};
use llm_relay_exporter::tally::Presentation;
use llm_relay_exporter::view::View;
use llm_relay_exporter::web::Protection;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, cmd, from_redis_value, pipe};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::exposition::{self, Dialect};
use crate::full_view;
use crate::process::Serving;

async fn server() -> &'static PrivateRedis {
    static SERVER: OnceCell<PrivateRedis> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            let server = PrivateRedis::start().await.unwrap();
            let mut admin = redis_connection(&server.url()).await.unwrap();
            documented_user().exec_async(&mut admin).await.unwrap();
            server
        })
        .await
}

/// Makes the user of the documentation, or lets it search, too.
fn documented(which: usize) -> Cmd {
    let section = include_str!("../../docs/relays.md").split("## claude-relay-service").nth(1).unwrap();
    let line = section.lines().filter(|line| line.starts_with("ACL SETUSER")).nth(which).unwrap();
    let mut words = line.split(' ').map(|word| word.replace("PASSWORD", "planted-secret"));
    let mut acl = cmd(&words.next().unwrap());
    acl.arg(words.collect::<Vec<_>>());
    acl
}

pub fn documented_user() -> Cmd {
    documented(0)
}

pub fn plan(redis_url: &str) -> RelayPlan {
    let second = Duration::from_secs(1);
    RelayPlan {
        redis_url: Some(redis_url.into()),
        interval: second,
        directory_interval: second,
        ..RelayPlan::new("crs", &PRODUCT)
    }
}

/// A relay's Redis, and an exporter that reads it.
struct Scene {
    admin: MultiplexedConnection,
    plan: RelayPlan,
    exporter: Exporter,
}

/// The parts of an exporter without its timers.
struct Exporter {
    metered: CounterFollower,
    live: Box<dyn LiveState>,
    directory: Box<dyn DirectorySource>,
}

impl Exporter {
    fn open(plan: &RelayPlan) -> Self {
        let Relay { usage, live, directory } = relay::open(plan).unwrap();
        let relay::Usage::Counters(counters) = usage else { panic!("it keeps counters") };
        Self { metered: CounterFollower::new(counters), live: live.unwrap(), directory }
    }

    /// The page once everything has been read.
    async fn page(&mut self, plan: &RelayPlan) -> Page {
        loop {
            let page = self.refresh(plan).await;
            if one(&page, "llm_relay_history_loaded_ratio", &[]) == Some(1.0) {
                return page;
            }
        }
    }

    /// The page after one refresh of everything.
    async fn refresh(&mut self, plan: &RelayPlan) -> Page {
        let directory = self.directory.read().await.unwrap();
        let live = self.live.read(&directory).await.unwrap();
        // What is not done in time is left to the next one.
        if let Err(error) = self.metered.refresh(&directory).await {
            assert_eq!(error.reason, Reason::Timeout, "{error}");
        }
        let ledger = self.metered.view(&Presentation {
            directory: Some(&directory),
            live: Some(&live),
            boards: &plan.boards,
            series: &plan.series,
        });
        let view = View {
            relay: "crs".into(),
            kind: plan.product.label,
            names: plan.boards.names,
            ledger: ledger.map(Arc::new),
            live: Some(Arc::new(live)),
            directory: Some(Arc::new(directory)),
            sources: vec![full_view::healthy(Source::Ledger)],
            probe: None,
            store: None,
        };
        let page = page::Page::new(vec![view], full_view::own());
        let bytes = page.bytes(Format::Text, Coding::Identity);
        assert!(!String::from_utf8_lossy(bytes).contains("planted"), "a secret is on the page");
        let page = exposition::series(&exposition::parse(bytes, Dialect::Text));
        // What the exporter itself says of its sources is made up here.
        let mut of_relay = page.keys().filter(|(_, labels)| !labels.contains_key("source"));
        let denied = of_relay.find(|(name, _)| unsupported_reason(PRODUCT.unsupported, name).is_some());
        assert_eq!(denied, None, "the documentation says that the relay does not tell it");
        page
    }
}

type Page = BTreeMap<(String, BTreeMap<String, String>), f64>;

impl Scene {
    /// Each test has a database of its own on the shared server.
    async fn new(number: u32) -> Self {
        let server = server().await;
        let admin = redis_connection(&server.url().replace("/0", &format!("/{number}"))).await.unwrap();
        let port = server.port();
        let plan = plan(&format!("redis://llm_relay_exporter:planted-secret@127.0.0.1:{port}/{number}"));
        let exporter = Exporter::open(&plan);
        Self { admin, plan, exporter }
    }

    async fn write(&mut self, fill: impl FnOnce(&mut Pipeline)) {
        let mut pipe = pipe();
        fill(&mut pipe);
        pipe.exec_async(&mut self.admin).await.unwrap();
    }

    async fn run(&mut self, command: &str) {
        crate::claude_code_hub_live::run(&mut self.admin, command).await;
    }

    async fn add_key(&mut self, id: &str, fields: &[(&str, &str)]) {
        let mut all = vec![("id", id), ("name", "a key"), ("isActive", "true")];
        all.extend(fields);
        self.write(|pipe| {
            pipe.set("apikey:index:version", 2).sadd("apikey:idx:all", id).hset_multiple(format!("apikey:{id}"), &all);
        })
        .await;
    }

    async fn add_account(&mut self, index: &str, prefix: &str, id: &str, fields: &[(&str, &str)]) {
        let mut all = vec![("id", id), ("name", id), ("isActive", "true"), ("accessToken", "planted-token")];
        all.extend(fields);
        self.write(|pipe| {
            pipe.sadd(index, id).hset_multiple(format!("{prefix}{id}"), &all);
            pipe.set_nx("system:migrated:version", "1.1.314");
        })
        .await;
    }

    async fn book(&mut self, usage: &Usage) {
        let offset = Offset::default();
        self.write(|pipe| simulated::book(pipe, offset, usage)).await;
    }

    /// The exporter is started again, without a store.
    fn restart(&mut self) {
        self.exporter = Exporter::open(&self.plan);
    }

    async fn page(&mut self) -> Page {
        self.exporter.page(&self.plan).await
    }
}

/// Values of one metric by the values of some labels.
fn values(page: &Page, metric: &str, labels: &[&str]) -> BTreeMap<String, f64> {
    let of = page.iter().filter(|((name, _), _)| name == metric);
    of.map(|((_, all), value)| (labels.iter().map(|label| all[*label].as_str()).collect::<Vec<_>>().join(" "), *value))
        .collect()
}

fn one(page: &Page, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut of = page.iter().filter(|((name, all), _)| {
        name == metric && labels.iter().all(|(label, value)| all.get(*label).is_some_and(|it| it == value))
    });
    let value = of.next().map(|(_, value)| *value);
    assert!(of.next().is_none(), "{metric} {labels:?} is not one series");
    value
}

fn key_id(number: u32) -> String {
    format!("0a0b0c0d-0000-4000-8000-{number:012}")
}

fn account_id(number: u32) -> String {
    format!("acc00000-0000-4000-8000-{number:012}")
}

fn request(key: u32, account: u32) -> Usage {
    Usage {
        key: key_id(key),
        account: Some(account_id(account)),
        model: "claude-sonnet-4-5".to_owned(),
        counted_model: "claude-sonnet-4-5".to_owned(),
        requests: 1,
        input: 100,
        output: 50,
        cache_read: 1000,
        cache_write_5m: 20,
        cache_write_1h: 5,
        list_cost: 0.01,
        cost: 0.012,
        duration_ms: Some(1500),
        at: Utc::now(),
    }
}

/// Everything in the database, as text: hashes by field, sets and lists as they are, sorted sets with scores.
#[derive(Default)]
struct Raw {
    hashes: BTreeMap<String, BTreeMap<String, String>>,
    strings: BTreeMap<String, String>,
    sets: BTreeMap<String, BTreeSet<String>>,
    sorted: BTreeMap<String, Vec<(String, f64)>>,
    lists: BTreeMap<String, Vec<String>>,
}

impl Raw {
    async fn read(admin: &mut MultiplexedConnection) -> Self {
        let mut raw = Self::default();
        let keys: Vec<String> = cmd("KEYS").arg("*").query_async(admin).await.unwrap();
        let mut types = pipe();
        keys.iter().for_each(|key| {
            types.cmd("TYPE").arg(key);
        });
        let types: Vec<String> = types.query_async(admin).await.unwrap();
        let mut contents = pipe();
        for (key, kind) in keys.iter().zip(&types) {
            match kind.as_str() {
                "hash" => contents.hgetall(key),
                "string" => contents.get(key),
                "set" => contents.smembers(key),
                "zset" => contents.zrange_withscores(key, 0, -1),
                "list" => contents.lrange(key, 0, -1),
                other => panic!("{key} is a {other}"),
            };
        }
        let contents: Vec<redis::Value> = contents.query_async(admin).await.unwrap();
        for ((key, kind), content) in keys.into_iter().zip(types).zip(contents) {
            match kind.as_str() {
                "hash" => drop(raw.hashes.insert(key, from_redis_value(content).unwrap())),
                "string" => drop(raw.strings.insert(key, from_redis_value(content).unwrap())),
                "set" => drop(raw.sets.insert(key, from_redis_value(content).unwrap())),
                "zset" => drop(raw.sorted.insert(key, from_redis_value(content).unwrap())),
                _ => drop(raw.lists.insert(key, from_redis_value(content).unwrap())),
            }
        }
        raw
    }

    fn count(&self, key: &str, field: &str) -> f64 {
        self.hashes.get(key).and_then(|hash| hash.get(field)).map_or(0.0, |text| text.parse().unwrap())
    }

    fn dollars(&self, key: &str) -> f64 {
        self.strings.get(key).map_or(0.0, |text| text.parse().unwrap())
    }
}

fn same(ours: &BTreeMap<String, f64>, theirs: &BTreeMap<String, f64>, what: &str) {
    let names = |of: &BTreeMap<String, f64>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "{what}");
    for (name, value) in theirs {
        let near = (ours[name] - value).abs() <= 1e-9 * value.abs().max(1.0);
        assert!(near, "{what} of {name}: {} on the page, {value} in Redis", ours[name]);
    }
}

/// What the relay's keys amount to, by a walk over all of them.
fn compare(page: &Page, raw: &Raw, now: DateTime<Utc>) {
    let local = now + TimeDelta::hours(8);
    let (today, year) = (local.format("%Y-%m-%d").to_string(), local.year().to_string());
    let yesterday = (local - Days::new(1)).format("%Y-%m-%d").to_string();
    let keys = &raw.sets["apikey:idx:all"];
    let of_keys = |value: &dyn Fn(&str) -> f64| -> BTreeMap<String, f64> {
        keys.iter().map(|id| (id.clone(), value(id))).collect()
    };
    let metric = |name: &str, labels: &[&str]| values(page, name, labels);
    same(
        &metric("llm_relay_key_requests_total", &["key_id"]),
        &of_keys(&|id| raw.count(&format!("usage:{id}"), "totalRequests")),
        "requests",
    );
    same(
        &metric("llm_relay_key_tokens_total", &["key_id"]),
        &of_keys(&|id| raw.count(&format!("usage:{id}"), "totalAllTokens")),
        "tokens",
    );
    same(
        &metric("llm_relay_key_cost_usd_total", &["key_id"]),
        &of_keys(&|id| raw.dollars(&format!("usage:cost:total:{id}"))),
        "cost",
    );
    let mut list_cost = of_keys(&|id| raw.dollars(&format!("usage:cost:real:total:{id}")));
    list_cost.retain(|id, _| raw.strings.contains_key(&format!("usage:cost:real:total:{id}")));
    same(&metric("llm_relay_key_list_cost_usd_total", &["key_id"]), &list_cost, "list cost");

    let (mut requests, mut tokens) = (BTreeMap::new(), BTreeMap::new());
    let (mut cost, mut list_cost) = (BTreeMap::new(), BTreeMap::new());
    let (mut model_today, mut model_ever) = (BTreeMap::new(), BTreeMap::new());
    for (key, hash) in &raw.hashes {
        let count = |field: &str| hash.get(field).map_or(0.0, |text| text.parse().unwrap());
        if let Some(rest) = key.strip_prefix("account_usage:model:monthly:") {
            let (pair, month) = rest.rsplit_once(':').unwrap();
            let (account, model) = pair.split_once(':').unwrap();
            if !month.starts_with(&year) {
                continue;
            }
            *requests.entry(format!("{account} {model} success")).or_default() += count("requests");
            let (five_minutes, hour) = (count("ephemeral5mTokens"), count("ephemeral1hTokens"));
            for (kind, count) in [
                ("input", count("inputTokens")),
                ("output", count("outputTokens")),
                ("cache_read", count("cacheReadTokens")),
                ("cache_write_5m", five_minutes),
                ("cache_write_1h", hour),
                ("cache_write", count("cacheCreateTokens") - five_minutes - hour),
            ] {
                if count > 0.0 {
                    *tokens.entry(format!("{account} {model} {kind}")).or_default() += count;
                }
            }
        }
        if let Some((_, model)) = key.split_once(":model:alltime:") {
            *cost.entry(model.to_owned()).or_default() += count("ratedCostMicro") / 1e6;
            *list_cost.entry(model.to_owned()).or_default() += count("realCostMicro") / 1e6;
            *model_ever.entry(model.to_owned()).or_default() += count("requests");
        }
        if let Some((_, rest)) = key.split_once(":model:daily:")
            && key.starts_with("usage:0a0b")
            && let Some(model) = rest.strip_suffix(&format!(":{today}"))
        {
            *model_today.entry(model.to_owned()).or_default() += count("requests");
        }
    }
    same(&metric("llm_relay_requests_total", &["provider_id", "model", "outcome"]), &requests, "requests by account");
    same(&metric("llm_relay_tokens_total", &["provider_id", "model", "type"]), &tokens, "tokens by account");
    same(&metric("llm_relay_cost_usd_total", &["model"]), &cost, "cost by model");
    same(&metric("llm_relay_list_cost_usd_total", &["model"]), &list_cost, "list cost by model");

    let board = |scope: &str, period: &str, metric: &str| -> BTreeMap<String, f64> {
        let of = page.iter().filter(|((name, labels), _)| {
            name == metric && labels["scope"] == scope && labels["period"] == period && labels["id"] != "other"
        });
        of.map(|((_, labels), value)| (labels["id"].clone(), *value)).collect()
    };
    same(&board("model", "all", "llm_relay_leaderboard_requests"), &model_ever, "models ever");
    same(&board("model", "all", "llm_relay_leaderboard_cost_usd"), &cost, "cost of models ever");
    same(&board("model", "today", "llm_relay_leaderboard_requests"), &model_today, "models today");
    let no_keys = BTreeSet::new();
    for (label, day) in [("today", &today), ("yesterday", &yesterday)] {
        let active: Vec<&String> =
            raw.sets.get(&format!("usage:daily:index:{day}")).unwrap_or(&no_keys).iter().collect();
        let of_day = |value: &dyn Fn(&str) -> f64| -> BTreeMap<String, f64> {
            active.iter().map(|id| ((*id).clone(), value(id))).collect()
        };
        let requests = of_day(&|id| raw.count(&format!("usage:daily:{id}:{day}"), "requests"));
        let cost = of_day(&|id| raw.dollars(&format!("usage:cost:daily:{id}:{day}")));
        let sum = |of: &BTreeMap<String, f64>| BTreeMap::from([(label.to_owned(), of.values().sum())]);
        let day_of = |metric: &str| BTreeMap::from([(label.to_owned(), one(page, metric, &[("day", label)]).unwrap())]);
        same(&day_of("llm_relay_day_requests"), &sum(&requests), "requests of a day");
        same(&day_of("llm_relay_day_cost_usd"), &sum(&cost), "cost of a day");
        if label == "today" {
            same(&board("key", "today", "llm_relay_leaderboard_requests"), &requests, "keys today");
            same(&board("key", "today", "llm_relay_leaderboard_cost_usd"), &cost, "cost of keys today");
        }
    }

    let leases = of_keys(&|id| {
        let set = raw.sorted.get(&format!("concurrency:{id}")).cloned().unwrap_or_default();
        set.iter().filter(|(_, end)| *end > now.timestamp_millis() as f64).count() as f64
    });
    same(&metric("llm_relay_key_slots_used", &["key_id"]), &leases, "leases");
    let daily: BTreeMap<String, f64> = of_keys(&|id| raw.dollars(&format!("usage:cost:daily:{id}:{today}")));
    let quotas =
        page.iter().filter(|((name, labels), _)| name == "llm_relay_quota_used_usd" && labels["window"] == "daily");
    same(&quotas.map(|((_, labels), value)| (labels["id"].clone(), *value)).collect(), &daily, "daily quotas");

    let minute = now.timestamp() / 60;
    let recent = |field: &str| {
        let sum: f64 = (0..5).map(|ago| raw.count(&format!("system:metrics:minute:{}", minute - ago), field)).sum();
        (sum / 5.0 * 100.0).round() / 100.0
    };
    assert_eq!(one(page, "llm_relay_requests_last_minute", &[]), Some(recent("requests")));
    assert_eq!(one(page, "llm_relay_tokens_last_minute", &[]), Some(recent("totalTokens")));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_traffic_gives_the_numbers_that_are_in_redis() {
    let mut scene = Scene::new(1).await;
    let mut random = StdRng::seed_from_u64(11);
    for key in 0..6 {
        let fields = [("concurrencyLimit", "3"), ("dailyCostLimit", "10")];
        scene.add_key(&key_id(key), &fields).await;
    }
    for account in 0..4 {
        scene.add_account("claude:account:index", "claude:account:", &account_id(account), &[]).await;
    }
    let models = [
        ("claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("us-east-1.anthropic.claude-opus-4-v1:0", "claude-opus-4"),
        ("gpt-oss:20b", "gpt-oss:20b"),
        ("qwen/coder[1m]", "qwen/coder[1m]"),
        ("llama3:latest", "llama3"),
    ];
    let (mut failures, mut observed) = (BTreeMap::<String, f64>::new(), 0.0);
    // Idle for weeks when the exporter starts.
    for days in [3, 9, 20] {
        let usage = request(random.random_range(0..6), random.random_range(0..4));
        scene.book(&Usage { at: Utc::now() - TimeDelta::days(days), ..usage }).await;
    }
    scene.page().await;
    let mut last = BTreeMap::new();
    for step in 0..40 {
        let restarts = step % 15 == 14;
        for _ in 0..random.random_range(0..12) {
            let (model, counted_model) = models[random.random_range(0..models.len())];
            let cost = if random.random_bool(0.2) { 0.0 } else { random.random_range(1..9_000_000) as f64 / 1e8 };
            // What is booked belongs to the present day; a new exporter finds the days before.
            let days = if restarts && random.random_bool(0.5) { 1 } else { 0 };
            let usage = Usage {
                model: model.to_owned(),
                counted_model: counted_model.to_owned(),
                input: random.random_range(0..5000),
                output: random.random_range(0..5000),
                cache_read: random.random_range(0..90_000),
                cache_write_5m: random.random_range(0..900),
                cache_write_1h: random.random_range(0..900),
                cost,
                list_cost: cost / 1.3,
                duration_ms: random.random_bool(0.8).then(|| random.random_range(10..600_000)),
                at: Utc::now() - TimeDelta::days(days),
                ..request(random.random_range(0..6), random.random_range(0..4))
            };
            scene.book(&usage).await;
            observed += f64::from(usage.duration_ms.is_some());
        }
        if random.random_bool(0.5) {
            let account = account_id(random.random_range(0..4));
            let kinds =
                [(429, "rate_limit", "rate_limited"), (529, "overload", "overloaded"), (403, "auth_error", "auth")];
            let (status, kind, class) = kinds[random.random_range(0..3)];
            for _ in 0..random.random_range(1..9) {
                scene.write(|pipe| simulated::fail(pipe, "claude-official", &account, status, kind)).await;
                *failures.entry(format!("{account} {class}")).or_default() += 1.0;
            }
        }
        let slots = format!("concurrency:{}", key_id(random.random_range(0..6)));
        let end = Utc::now().timestamp_millis() + if random.random_bool(0.5) { 600_000 } else { -600_000 };
        scene.run(&format!("ZADD {slots} {end} request-{step}")).await;

        if restarts {
            // A new exporter has the same totals at once, and counts events from nothing.
            scene.restart();
            (failures, observed) = (BTreeMap::new(), 0.0);
            last.clear();
        }
        // Around a turn of the minute or the day the two looks may differ: look until they were in one minute.
        let (page, raw, now) = loop {
            let before = Utc::now().timestamp() / 60;
            let (page, raw, now) = (scene.page().await, Raw::read(&mut scene.admin).await, Utc::now());
            if now.timestamp() / 60 == before {
                break (page, raw, now);
            }
        };
        compare(&page, &raw, now);
        let mut shown = values(&page, "llm_relay_failures_total", &["provider_id", "class"]);
        shown.retain(|_, count| *count > 0.0);
        same(&shown, &failures, "failures");
        let durations: f64 =
            values(&page, "llm_relay_request_duration_seconds_count", &["provider_id", "model"]).values().sum();
        assert_eq!(durations, observed, "durations");
        assert_eq!(one(&page, "llm_relay_requests_missed_total", &[]), Some(0.0));
        for ((name, labels), value) in page.iter().filter(|((name, _), _)| name.ends_with("_total")) {
            let before = last.insert((name.clone(), labels.clone()), *value).unwrap_or(0.0);
            assert!(*value >= before, "{name} {labels:?} fell from {before} to {value}");
        }
    }
}

#[tokio::test]
async fn the_word_index_in_an_index_and_a_set_where_a_hash_should_be_change_nothing() {
    let mut scene = Scene::new(2).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&request(1, 1)).await;
    let before = scene.page().await;
    let day = (Utc::now() + TimeDelta::hours(8)).format("%Y-%m-%d");
    for set in [
        format!("usage:daily:index:{day}"),
        format!("usage:keymodel:daily:index:{day}"),
        format!("account_usage:model:daily:index:{day}"),
        "claude:account:index".to_owned(),
    ] {
        scene.run(&format!("SADD {set} index")).await;
    }
    scene.run(&format!("SADD usage:keymodel:daily:index:{day} index:{day}")).await;
    // A cut name of a model with a colon: there is no such hash.
    scene.run(&format!("SADD usage:keymodel:daily:index:{day} {}:gpt-oss", key_id(1))).await;
    scene.run(&format!("SADD account_usage:model:daily:index:{day} {}:gpt-oss", account_id(1))).await;
    scene.add_key(&key_id(2), &[]).await;
    scene.run(&format!("SADD usage:{} wrong type", key_id(2))).await;
    scene.run(&format!("LPUSH concurrency:queue:{} wrong type", key_id(2))).await;
    let after = scene.page().await;
    for metric in
        ["llm_relay_requests_total", "llm_relay_tokens_total", "llm_relay_cost_usd_total", "llm_relay_day_requests"]
    {
        let of = |page: &Page| {
            page.iter().filter(|((name, _), _)| name == metric).map(|(k, v)| (k.clone(), *v)).collect::<Vec<_>>()
        };
        assert_eq!(of(&after), of(&before), "{metric}");
    }
    assert_eq!(one(&after, "llm_relay_key_requests_total", &[("key_id", &key_id(1))]), Some(1.0));
}

#[tokio::test]
async fn tokens_that_the_relay_counts_twice_are_shown_as_it_counts_them() {
    let mut scene = Scene::new(3).await;
    scene.add_key(&key_id(4), &[]).await;
    // 1000 cached tokens without a split: `outputTokens` gets them too, in the key's counters alone.
    scene
        .book(&Usage {
            key: key_id(4),
            input: 0,
            output: 0,
            cache_read: 1000,
            cache_write_5m: 0,
            cache_write_1h: 0,
            ..request(4, 7)
        })
        .await;
    scene.run(&format!("HINCRBY usage:{} totalAllTokens 1000", key_id(4))).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_key_tokens_total", &[("key_id", &key_id(4))]), Some(2000.0));
    assert_eq!(
        values(&page, "llm_relay_tokens_total", &["provider_id", "type"])[&format!("{} cache_read", account_id(7))],
        1000.0
    );
}

#[tokio::test]
async fn colons_in_model_names_are_part_of_the_name() {
    let mut scene = Scene::new(3).await;
    scene.add_key(&key_id(1), &[]).await;
    let model = "registry:5000/gpt-oss:20b".to_owned();
    scene.book(&Usage { model: model.clone(), counted_model: model.clone(), ..request(1, 1) }).await;
    let page = scene.page().await;
    assert_eq!(
        one(&page, "llm_relay_requests_total", &[("model", &model), ("provider_id", &account_id(1))]),
        Some(1.0)
    );
    assert_eq!(one(&page, "llm_relay_cost_usd_total", &[("model", &model)]), Some(0.012));
}

#[tokio::test]
async fn deleted_keys_keep_their_counters_and_leave_the_boards() {
    let mut scene = Scene::new(4).await;
    for (key, deleted) in [(1, "false"), (2, "true")] {
        scene.add_key(&key_id(key), &[("isDeleted", deleted), ("dailyCostLimit", "5")]).await;
        scene.book(&request(key, 1)).await;
    }
    // Not used for a year: the hash is gone, the counters are not.
    scene.run(&format!("SADD apikey:idx:all {}", key_id(3))).await;
    scene.run(&format!("HSET usage:{} totalRequests 7", key_id(3))).await;
    let page = scene.page().await;
    let requests = values(&page, "llm_relay_key_requests_total", &["key_id"]);
    assert_eq!(requests.values().copied().collect::<Vec<_>>(), [1.0, 1.0, 7.0]);
    assert_eq!(values(&page, "llm_relay_key_info", &["key_id"]).len(), 1);
    assert_eq!(values(&page, "llm_relay_quota_limit_usd", &["id"]).len(), 1, "a deleted key has no limit");
    let board =
        |id: &str| one(&page, "llm_relay_leaderboard_cost_usd", &[("scope", "key"), ("period", "all"), ("id", id)]);
    assert_eq!((board(&key_id(1)), board(&key_id(2)), board("other")), (Some(0.012), None, Some(0.012)));
}

#[tokio::test]
async fn a_key_deleted_for_good_lowers_no_sum() {
    let mut scene = Scene::new(5).await;
    for key in [1, 2] {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&request(key, 1)).await;
    }
    scene.page().await;
    // What the relay leaves behind: `usage:{id}` and its models.
    scene.run(&format!("SREM apikey:idx:all {}", key_id(2))).await;
    scene
        .run(&format!("DEL apikey:{0} usage:cost:total:{0} usage:cost:real:total:{0} usage:records:{0}", key_id(2)))
        .await;
    let page = scene.page().await;
    assert_eq!(values(&page, "llm_relay_key_requests_total", &["key_id"]).len(), 2);
    assert_eq!(values(&page, "llm_relay_key_cost_usd_total", &["key_id"]).values().sum::<f64>(), 0.024);
    assert_eq!(one(&page, "llm_relay_cost_usd_total", &[]), Some(0.024));
    let board = values(&page, "llm_relay_leaderboard_requests", &["scope", "period", "id"]);
    assert_eq!(board["key all other"], 1.0, "it counts among the others");
    scene.restart();
    assert_eq!(one(&scene.page().await, "llm_relay_cost_usd_total", &[]), Some(0.024), "after a restart");
}

#[tokio::test]
async fn noise_of_floats_never_looks_like_a_reset() {
    let mut scene = Scene::new(6).await;
    for key in 0..3 {
        scene.add_key(&key_id(key), &[]).await;
    }
    let mut last = BTreeMap::new();
    for step in 0..60 {
        // 0.1 and 0.2 are the classics; the relay's strings end like `3.03104525999999994`.
        scene.book(&Usage { cost: 0.1 + f64::from(step) * 1e-9, list_cost: 0.2, ..request(step % 3, 1) }).await;
        let page = scene.page().await;
        for ((name, labels), value) in page.iter().filter(|((name, _), _)| name.ends_with("cost_usd_total")) {
            let before = last.insert((name.clone(), labels.clone()), *value).unwrap_or(0.0);
            assert!(*value >= before, "{name} {labels:?} fell from {before} to {value}");
        }
    }
}

#[tokio::test]
async fn a_redis_that_is_back_a_second_older_lowers_no_counter() {
    let mut scene = Scene::new(21).await;
    for key in [1, 2] {
        scene.add_key(&key_id(key), &[]).await;
        for _ in 0..20 {
            scene.book(&request(key, 1)).await;
        }
    }
    let all = |page: &Page| -> BTreeMap<_, _> {
        let totals = ["llm_relay_key_requests_total", "llm_relay_key_cost_usd_total", "llm_relay_key_tokens_total"];
        let more = ["llm_relay_requests_total", "llm_relay_cost_usd_total", "llm_relay_tokens_total"];
        let counter = |name: &str| totals.contains(&name) || more.contains(&name);
        page.iter().filter(|((name, _), _)| counter(name)).map(|(series, value)| (series.clone(), *value)).collect()
    };
    let dump = Contents::read(&mut scene.admin).await;
    let before = all(&scene.page().await);
    scene.book(&request(1, 1)).await;
    let newest = all(&scene.page().await);
    assert_ne!(before, newest);
    // As after a crash, a fail-over or a restored dump: the last request is gone; then traffic goes on.
    dump.write(&mut scene.admin).await;
    assert_eq!(all(&scene.page().await), newest, "what has been shown stays");
    scene.book(&request(1, 1)).await;
    assert_eq!(all(&scene.page().await), newest, "the relay has what was shown");
    scene.book(&request(1, 1)).await;
    let after = all(&scene.page().await);
    let key = |counters: &BTreeMap<(String, BTreeMap<String, String>), f64>| {
        one(counters, "llm_relay_key_requests_total", &[("key_id", &key_id(1))])
    };
    assert_eq!((key(&newest), key(&after)), (Some(21.0), Some(22.0)));
}

#[tokio::test]
async fn what_is_no_number_is_absent_and_never_0() {
    let mut scene = Scene::new(22).await;
    for key in [1, 2, 3] {
        scene.add_key(&key_id(key), &[]).await;
        scene.book(&request(key, 1)).await;
    }
    scene.run(&format!("HSET usage:{} totalRequests -7", key_id(2))).await;
    scene.run(&format!("SET usage:cost:total:{} NaN", key_id(3))).await;
    let page = scene.page().await;
    for name in ["llm_relay_key_requests_total", "llm_relay_key_cost_usd_total"] {
        assert_eq!(values(&page, name, &["key_id"]).len(), 1, "{name} of a key that cannot be read");
    }
    // What has been read stays until it can be read again.
    scene.run(&format!("HSET usage:{} totalRequests 12.0", key_id(1))).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_key_requests_total", &[]), Some(1.0));
    let day = keys_of_today(&mut scene).await;
    scene.run(&format!("HSET {day} requests many")).await;
    scene.restart();
    assert_eq!(one(&scene.page().await, "llm_relay_day_requests", &[("day", "today")]), None);
}

async fn keys_of_today(scene: &mut Scene) -> String {
    let keys: Vec<String> =
        cmd("KEYS").arg(format!("usage:daily:{}:*", key_id(1))).query_async(&mut scene.admin).await.unwrap();
    keys.into_iter().next().unwrap()
}

/// Every key of a database as `DUMP` has it.
struct Contents(Vec<(String, Vec<u8>)>);

impl Contents {
    async fn read(admin: &mut MultiplexedConnection) -> Self {
        let keys: Vec<String> = cmd("KEYS").arg("*").query_async(admin).await.unwrap();
        let mut contents = Vec::new();
        for key in keys {
            let bytes = cmd("DUMP").arg(&key).query_async(admin).await.unwrap();
            contents.push((key, bytes));
        }
        Self(contents)
    }

    /// At once, as when a server takes over: who reads meanwhile sees no empty database.
    async fn write(&self, admin: &mut MultiplexedConnection) {
        let mut all = pipe();
        all.atomic().cmd("FLUSHDB").ignore();
        for (key, bytes) in &self.0 {
            all.cmd("RESTORE").arg(key).arg(0).arg(&bytes[..]).ignore();
        }
        all.exec_async(admin).await.unwrap();
    }
}

#[tokio::test]
async fn counters_go_on_after_a_reset_of_the_statistics_and_boards_follow_the_relay() {
    let mut scene = Scene::new(7).await;
    scene.add_key(&key_id(1), &[]).await;
    for _ in 0..5 {
        scene.book(&request(1, 1)).await;
    }
    assert_eq!(one(&scene.page().await, "llm_relay_key_requests_total", &[]), Some(5.0));
    let keys: Vec<String> = cmd("KEYS").arg("usage:*").query_async(&mut scene.admin).await.unwrap();
    cmd("DEL").arg(keys).exec_async(&mut scene.admin).await.unwrap();
    scene.book(&request(1, 1)).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_key_requests_total", &[]), Some(6.0));
    assert_eq!(one(&page, "llm_relay_key_cost_usd_total", &[]), Some(0.072));
    assert_eq!(one(&page, "llm_relay_cost_usd_total", &[]), Some(0.072));
    assert_eq!(one(&page, "llm_relay_requests_total", &[]), Some(6.0), "accounts are not reset");
    let board = [("scope", "key"), ("period", "all"), ("id", &key_id(1))];
    assert_eq!(one(&page, "llm_relay_leaderboard_requests", &board), Some(1.0), "as on the relay's screen");
}

#[tokio::test]
async fn records_that_were_pushed_out_are_counted_as_missed() {
    let mut scene = Scene::new(8).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.book(&request(1, 1)).await;
    let page = scene.page().await;
    assert!(values(&page, "llm_relay_request_duration_seconds_count", &["model"]).is_empty(), "old ones are not new");
    for _ in 0..230 {
        scene.book(&request(1, 1)).await;
    }
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_request_duration_seconds_count", &[]), Some(200.0));
    assert_eq!(one(&page, "llm_relay_requests_missed_total", &[]), Some(30.0));
    scene.book(&Usage { duration_ms: None, ..request(1, 1) }).await;
    scene.book(&request(1, 1)).await;
    let page = scene.page().await;
    assert_eq!(one(&page, "llm_relay_request_duration_seconds_count", &[]), Some(201.0));
    assert_eq!(one(&page, "llm_relay_requests_missed_total", &[]), Some(30.0));
}

#[tokio::test]
async fn failures_of_one_millisecond_each_count_once() {
    let mut scene = Scene::new(9).await;
    scene.add_key(&key_id(1), &[]).await;
    scene.add_account("gemini_account:index", "gemini_account:", "g1", &[]).await;
    let push = |count| {
        let entry =
            r#"{"time":"2026-01-01T00:00:00.000Z","status":503,"errorType":"service_unavailable","context":null}"#;
        move |pipe: &mut Pipeline| {
            (0..count).for_each(|_| {
                pipe.lpush("error_history:gemini:g1", entry);
            });
        }
    };
    scene.write(push(2)).await;
    scene.page().await;
    scene.run("LPUSH error_history:gemini:g1 {\"status\":401,\"errorType\":\"other\"}").await;
    scene.write(push(1)).await;
    scene.run("LPUSH error_history:gemini:g1 nonsense").await;
    for _ in 0..2 {
        let failures = values(&scene.page().await, "llm_relay_failures_total", &["class"]);
        let none = [("rate_limited", 0.0), ("server", 0.0), ("timeout", 0.0)];
        let expected = [("auth", 1.0), ("overloaded", 1.0), ("unknown", 1.0)].into_iter().chain(none);
        assert_eq!(failures, expected.map(|(class, count)| (class.to_owned(), count)).collect());
    }
}
