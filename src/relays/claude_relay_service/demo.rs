//! claude-relay-service: its Redis, written as v1.1.314 writes it (`src/models/redis.js`,
//! `src/services/apiKeyService.js`, `src/utils/upstreamErrorHelper.js`), with a few people and accounts.

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::ConnectionLike;
use redis::{Pipeline, RedisResult};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Offset;
use crate::demo::rhythm::{self, HOURS};
use crate::demo::{DemoOptions, Environment, Pace, Urls};
use crate::servers::{PrivateRedis, redis_connection};

/// Which traffic to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Days of history, today included.
    pub days: u32,
    /// Mean number of requests per day of the history.
    pub requests_per_day: u32,
    /// How many requests come from then on.
    pub pace: Pace,
    /// Of every choice that is made.
    pub seed: u64,
    /// The relay's clock.
    pub offset: Offset,
}

/// Requests of one key to one account with one model that have ended alike.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The key's id.
    pub key: String,
    /// `None` where the relay does not know the account.
    pub account: Option<String>,
    /// As the client wrote it.
    pub model: String,
    /// As the counters have it, without the route's prefix.
    pub counted_model: String,
    /// How many there are.
    pub requests: u64,
    /// Uncached input tokens of all of them.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Tokens read from a cache.
    pub cache_read: u64,
    /// Tokens written to a cache for 5 minutes.
    pub cache_write_5m: u64,
    /// Tokens written to a cache for an hour.
    pub cache_write_1h: u64,
    /// At list prices and at the relay's rates, in dollars.
    pub list_cost: f64,
    /// Dollars at the relay's rates.
    pub cost: f64,
    /// `None` on the routes that do not measure it.
    pub duration_ms: Option<u64>,
    /// When they ended.
    pub at: DateTime<Utc>,
}

const DAY: i64 = 86_400;

/// Books a request as `recordUsage` does: counters, cost, account, record.
pub fn book(pipe: &mut Pipeline, offset: Offset, usage: &Usage) {
    let mut book = Book { pipe, age: (Utc::now() - usage.at).num_seconds().max(0) };
    let local = offset.local(usage.at);
    let (day, hour) = (local.format("%Y-%m-%d").to_string(), local.format("%Y-%m-%d:%H").to_string());
    let month = local.format("%Y-%m").to_string();
    let (key, model) = (&usage.key, &usage.counted_model);

    book.totals(&format!("usage:{key}"), usage);
    for (span, at, ttl) in [("daily", &day, 32 * DAY), ("monthly", &month, 365 * DAY), ("hourly", &hour, 7 * DAY)] {
        book.hash(&format!("usage:{span}:{key}:{at}"), usage, ttl);
        book.hash(&format!("usage:model:{span}:{model}:{at}"), usage, ttl);
        let both = format!("usage:{key}:model:{span}:{model}:{at}");
        book.hash(&both, usage, ttl);
        book.micro(&both, usage);
        if let Some(account) = &usage.account {
            book.hash(&format!("account_usage:{span}:{account}:{at}"), usage, ttl);
            book.hash(&format!("account_usage:model:{span}:{account}:{model}:{at}"), usage, ttl);
        }
        if span != "monthly" {
            book.member(&format!("usage:{span}:index:{at}"), key, ttl);
            book.member(&format!("usage:keymodel:{span}:index:{at}"), &format!("{key}:{model}"), ttl);
            if let Some(account) = &usage.account {
                book.member(&format!("account_usage:{span}:index:{at}"), account, ttl);
                book.member(&format!("account_usage:model:{span}:index:{at}"), &format!("{account}:{model}"), ttl);
            }
        }
        book.member(&format!("usage:model:{span}:index:{at}"), model, ttl);
    }
    let alltime = format!("usage:{key}:model:alltime:{model}");
    if book.age < DAY {
        book.pipe.zadd("apikey:idx:lastUsedAt", key, usage.at.timestamp_millis()).ignore();
    }
    book.hash(&alltime, usage, i64::MAX);
    book.pipe.hdel(&alltime, "allTokens").ignore();
    book.micro(&alltime, usage);
    book.hash("usage:global:total", usage, i64::MAX);
    book.hash(&format!("usage:global:daily:{day}"), usage, 32 * DAY);
    book.hash(&format!("usage:global:monthly:{month}"), usage, 365 * DAY);
    let minute = format!("system:metrics:minute:{}", usage.at.timestamp() / 60);
    if book.age < 600 {
        book.pipe.hincr(&minute, "requests", usage.requests).ignore();
        book.pipe.hincr(&minute, "totalTokens", usage.all_tokens()).ignore();
        book.pipe.expire(&minute, 600 - book.age).ignore();
    }
    if usage.cost > 0.0 {
        book.dollars(&format!("usage:cost:total:{key}"), usage.cost, i64::MAX);
        book.dollars(&format!("usage:cost:daily:{key}:{day}"), usage.cost, 30 * DAY);
        book.dollars(&format!("usage:cost:monthly:{key}:{month}"), usage.cost, 90 * DAY);
        book.dollars(&format!("usage:cost:hourly:{key}:{hour}"), usage.cost, 7 * DAY);
        book.dollars(&format!("usage:cost:real:total:{key}"), usage.list_cost, i64::MAX);
        book.dollars(&format!("usage:cost:real:daily:{key}:{day}"), usage.list_cost, 30 * DAY);
        if model.contains("claude") {
            let week = offset.week_start(usage.at, 1, 0).format("%Y-%m-%dT%H");
            book.dollars(&format!("usage:opus:weekly:{key}:{week}"), usage.cost, 14 * DAY);
        }
    }
    if let Some(account) = &usage.account {
        book.totals(&format!("account_usage:{account}"), usage);
    }
    // One for each request, each with its part.
    let each = |sum: f64| sum / usage.requests as f64;
    let record = json!({
        "timestamp": usage.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "model": usage.model, "accountId": usage.account, "accountType": "claude-official", "statusCode": 200,
        "durationMs": usage.duration_ms, "inputTokens": usage.input, "outputTokens": usage.output,
        "totalTokens": usage.all_tokens(), "cost": each(usage.cost), "realCost": each(usage.list_cost),
    });
    let records = format!("usage:records:{key}");
    let all: Vec<String> = (0..usage.requests.min(200)).map(|_| record.to_string()).collect();
    book.pipe.lpush(&records, all).ignore().ltrim(&records, 0, 199).ignore();
    book.pipe.expire(&records, 90 * DAY).ignore();
}

impl Usage {
    const fn cache_create(&self) -> u64 {
        self.cache_write_5m + self.cache_write_1h
    }

    /// Of all types, as the relay adds them up.
    pub const fn all_tokens(&self) -> u64 {
        self.input + self.output + self.cache_create() + self.cache_read
    }
}

struct Book<'a> {
    pipe: &'a mut Pipeline,
    /// Seconds since the request ended.
    age: i64,
}

impl Book<'_> {
    fn totals(&mut self, key: &str, usage: &Usage) {
        for (field, count) in [
            ("totalTokens", usage.input + usage.output),
            ("totalInputTokens", usage.input),
            ("totalOutputTokens", usage.output),
            ("totalCacheCreateTokens", usage.cache_create()),
            ("totalCacheReadTokens", usage.cache_read),
            ("totalAllTokens", usage.all_tokens()),
            ("totalRequests", usage.requests),
        ] {
            self.pipe.hincr(key, field, count).ignore();
        }
    }

    fn hash(&mut self, key: &str, usage: &Usage, ttl: i64) {
        if ttl <= self.age {
            return;
        }
        for (field, count) in [
            ("requests", usage.requests),
            ("inputTokens", usage.input),
            ("outputTokens", usage.output),
            ("cacheCreateTokens", usage.cache_create()),
            ("cacheReadTokens", usage.cache_read),
            ("allTokens", usage.all_tokens()),
            ("ephemeral5mTokens", usage.cache_write_5m),
            ("ephemeral1hTokens", usage.cache_write_1h),
        ] {
            self.pipe.hincr(key, field, count).ignore();
        }
        self.expire(key, ttl);
    }

    /// Cost in millionths, present only above 0.
    fn micro(&mut self, key: &str, usage: &Usage) {
        for (field, cost) in [("ratedCostMicro", usage.cost), ("realCostMicro", usage.list_cost)] {
            let micro = (cost * 1e6).round() as i64;
            if micro > 0 {
                self.pipe.hincr(key, field, micro).ignore();
            }
        }
    }

    fn member(&mut self, key: &str, member: &str, ttl: i64) {
        if ttl > self.age {
            self.pipe.sadd(key, member).ignore();
            self.expire(key, ttl);
        }
    }

    fn dollars(&mut self, key: &str, cost: f64, ttl: i64) {
        if ttl > self.age {
            self.pipe.cmd("INCRBYFLOAT").arg(key).arg(cost).ignore();
            self.expire(key, ttl);
        }
    }

    fn expire(&mut self, key: &str, ttl: i64) {
        if ttl < i64::MAX {
            self.pipe.expire(key, ttl - self.age).ignore();
        }
    }
}

/// Notes an upstream failure as `recordErrorHistory` does.
pub fn fail(pipe: &mut Pipeline, platform: &str, account: &str, status: u16, kind: &str) {
    let key = format!("error_history:{platform}:{account}");
    let time = Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let entry = json!({"time": time, "status": status, "errorType": kind, "context": {"path": "/v1/messages"}});
    pipe.lpush(&key, entry.to_string()).ignore().ltrim(&key, 0, 4999).ignore().expire(&key, 3 * DAY).ignore();
}

/// The key with a rate limit, and the length of its window.
const RATED: usize = 3;
const RATE_MINUTES: u32 = 10;
const KEYS: [&str; 5] = ["frontend", "backend", "data team", "ci", "on call"];
/// Platform, its name in error histories, key prefix, account, model, dollars per million output tokens.
const ACCOUNTS: [(&str, &str, &str, &str, &str, f64); 4] = [
    ("claude:account", "claude-official", "claude:account:", "max-1", "claude-sonnet-4-5", 15.0),
    ("claude:account", "claude-official", "claude:account:", "max-2", "claude-opus-4-5", 25.0),
    ("claude_console_account", "claude-console", "claude_console_account:", "console", "claude-haiku-4-5", 5.0),
    ("openai:account", "openai", "openai:account:", "codex-plus", "gpt-5-codex", 10.0),
];

/// What the relay writes now and then: how long requests waited, and who has spent most.
fn waits_and_rankings(pipe: &mut Pipeline, now: DateTime<Utc>) {
    pipe.rpush("concurrency:queue:wait_times:global", &[120, 480, 2300]).ignore();
    for (ranking, cost) in [("7days", 40.0), ("30days", 160.0)] {
        let renewed = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        pipe.hset(format!("cost_rank_meta:{ranking}"), "lastUpdate", renewed).ignore();
        pipe.zadd(format!("cost_rank:{ranking}"), key_id(0), cost).ignore();
    }
}

/// What the relay knows of a subscription of Claude; the first has no Opus left for this week.
fn subscription(pipe: &mut Pipeline, id: &str, now: DateTime<Utc>) {
    let at = |hours| (now + TimeDelta::hours(hours)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let windows = [
        ("claudeFiveHourUtilization", "42".to_owned()),
        ("claudeFiveHourResetsAt", at(3)),
        ("claudeSevenDayUtilization", "61".to_owned()),
        ("claudeSevenDayResetsAt", at(70)),
        ("claudeUsageUpdatedAt", at(0)),
        ("sessionWindowEnd", at(3)),
        ("sessionWindowStatus", "allowed".to_owned()),
    ];
    let limits = [("opusRateLimitedAt", at(-5)), ("opusRateLimitEndAt", at(70))];
    pipe.hset_multiple(format!("claude:account:{id}"), &windows).ignore();
    if id == "max-1" {
        pipe.hset_multiple(format!("claude:account:{id}"), &limits).ignore();
    }
}

/// Makes an empty Redis that of a relay with people, accounts and a history.
///
/// # Errors
/// When Redis cannot be written.
pub async fn fill(redis: &mut impl ConnectionLike, options: &Options) -> RedisResult<()> {
    let mut pipe = redis::pipe();
    pipe.set("apikey:index:version", 2).ignore().set("system:migrated:version", "1.1.314").ignore();
    let now = Utc::now();
    for (n, name) in KEYS.iter().enumerate() {
        let id = key_id(n);
        let created = (now - TimeDelta::days(i64::from(options.days))).to_rfc3339();
        let limit = |on: bool, value: &str| if on { value.to_owned() } else { "0".to_owned() };
        let fields = [
            ("id", id.clone()),
            ("name", (*name).to_owned()),
            ("isActive", "true".to_owned()),
            ("createdAt", created),
            ("concurrencyLimit", limit(n != 1, "5")),
            ("dailyCostLimit", limit(n == 0 || n == 2, "40")),
            ("weeklyOpusCostLimit", limit(n == 2, "150")),
            ("rateLimitWindow", limit(n == RATED, &RATE_MINUTES.to_string())),
            ("rateLimitRequests", limit(n == RATED, "60")),
            ("rateLimitCost", limit(n == RATED, "2.5")),
            ("tags", if n % 2 == 0 { "[\"team-a\"]" } else { "[]" }.to_owned()),
        ];
        pipe.hset_multiple(format!("apikey:{id}"), &fields).ignore().sadd("apikey:idx:all", &id).ignore();
    }
    for (index, _, prefix, id, ..) in ACCOUNTS {
        let state = [("name", id), ("isActive", "true"), ("status", "active"), ("schedulable", "true")];
        pipe.sadd(format!("{index}:index"), id).ignore().hset_multiple(format!("{prefix}{id}"), &state).ignore();
        if prefix == "claude:account:" {
            subscription(&mut pipe, id, now);
        }
    }
    waits_and_rankings(&mut pipe, now);
    pipe.exec_async(redis).await?;
    let mut random = StdRng::seed_from_u64(options.seed);
    for ago in (0..i64::from(options.days)).rev() {
        for (at, weight) in spread(options.offset, now, ago) {
            let mut pipe = redis::pipe();
            for key in 0..KEYS.len() {
                for account in 0..ACCOUNTS.len() {
                    let share = weight * random.random_range(0.2..1.8) / (KEYS.len() * ACCOUNTS.len()) as f64;
                    let requests = f64::from(options.requests_per_day) * share + random.random::<f64>();
                    if requests >= 1.0 {
                        book(&mut pipe, options.offset, &usage(&mut random, key, account, requests as u64, at));
                    }
                }
            }
            // Nobody may have asked in an hour of the night.
            if !pipe.is_empty() {
                pipe.exec_async(redis).await?;
            }
        }
    }
    Ok(())
}

/// When requests of a day that is so many days ago are booked, with their share of it: by the hour of today and yesterday,
/// which are compared, as far as they are over; else at once.
fn spread(offset: Offset, now: DateTime<Utc>, days_ago: i64) -> Vec<(DateTime<Utc>, f64)> {
    let local = offset.local(now) - TimeDelta::days(days_ago);
    let (midnight, weight) = (local.date().and_time(NaiveTime::MIN), rhythm::day(local.date()));
    let instant =
        |hour: f64| now - TimeDelta::days(days_ago) - (local - midnight) + TimeDelta::seconds((hour * 3600.0) as i64);
    if days_ago > 1 {
        return vec![(instant(12.0), weight)];
    }
    let whole: f64 = HOURS.iter().sum();
    let over = HOURS.iter().enumerate().filter(|(hour, _)| instant(*hour as f64 + 1.0) <= now);
    over.map(|(hour, share)| (instant(hour as f64 + 0.5), weight * share / whole)).collect()
}

/// Writes live traffic until `stop`. A Redis that fails for a while is waited for.
pub async fn run(redis: &mut (impl ConnectionLike + Send), options: &Options, stop: CancellationToken) {
    let mut random = StdRng::seed_from_u64(options.seed ^ 1);
    let mut was_down = false;
    loop {
        let pause = options.pace.pause(options.offset.local(Utc::now()), &mut random);
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        let ticked = tick(redis, options.offset, &mut random).await;
        if let (Err(error), false) = (&ticked, was_down) {
            tracing::warn!(error = %error.category(), "a request is not written");
        }
        was_down = ticked.is_err();
    }
}

/// One request: it takes a slot, ends or fails, and is booked.
///
/// # Errors
/// When Redis cannot be written.
pub async fn tick(redis: &mut impl ConnectionLike, offset: Offset, random: &mut StdRng) -> RedisResult<()> {
    let (key, account) = (random.random_range(0..KEYS.len()), random.random_range(0..ACCOUNTS.len()));
    let (_, platform, _, id, ..) = ACCOUNTS[account];
    let now = Utc::now();
    let mut pipe = redis::pipe();
    let (slots, ms) = (format!("concurrency:{}", key_id(key)), now.timestamp_millis());
    pipe.zrembyscore(&slots, "-inf", ms).ignore();
    // Leases of the simulator end by themselves, soon after the request would have.
    pipe.zadd(&slots, random.random::<u64>(), ms + random.random_range(2_000..20_000)).ignore();
    pipe.pexpire(&slots, 330_000).ignore();
    if random.random_bool(0.03) {
        let (status, kind) = [(429, "rate_limit"), (529, "overload"), (500, "server_error")][random.random_range(0..3)];
        fail(&mut pipe, platform, id, status, kind);
    } else {
        let usage = usage(random, key, account, 1, now);
        book(&mut pipe, offset, &usage);
        if key == RATED {
            open_window(&mut pipe, &usage, ms);
        }
    }
    if random.random_bool(0.05) {
        queue(&mut pipe, &key_id(key), random.random_bool(0.1));
    }
    pipe.exec_async(redis).await
}

/// Counts a request in the key's rate limit window; the first one opens it.
fn open_window(pipe: &mut Pipeline, usage: &Usage, ms: i64) {
    let name = |what| format!("rate_limit:{what}:{}", usage.key);
    for (what, first) in [("window_start", ms), ("requests", 0), ("cost", 0)] {
        pipe.cmd("SET").arg(name(what)).arg(first).arg("NX").arg("EX").arg(RATE_MINUTES * 60).ignore();
    }
    pipe.incr(name("requests"), 1).ignore().cmd("INCRBYFLOAT").arg(name("cost")).arg(usage.cost).ignore();
}

/// A request that waited for a slot, in vain or not; another one is waiting for some seconds.
fn queue(pipe: &mut Pipeline, key: &str, in_vain: bool) {
    let stats = format!("concurrency:queue:stats:{key}");
    pipe.hincr(&stats, "entered", 1).ignore();
    pipe.hincr(&stats, if in_vain { "timeout" } else { "success" }, 1).ignore();
    pipe.cmd("SET").arg(format!("concurrency:queue:{key}")).arg(1).arg("EX").arg(20).ignore();
}

fn usage(random: &mut StdRng, key: usize, account: usize, requests: u64, at: DateTime<Utc>) -> Usage {
    let (.., id, model, price) = ACCOUNTS[account];
    let mut tokens = |mean: f64| (requests as f64 * mean * random.random_range(0.5..1.5)) as u64;
    let (input, output, cache_read, cache_write_5m) = (tokens(900.0), tokens(700.0), tokens(30_000.0), tokens(1_500.0));
    let list_cost = (output as f64 + input as f64 / 5.0 + cache_read as f64 / 50.0) * price / 1e6;
    Usage {
        key: key_id(key),
        account: Some(id.to_owned()),
        model: model.to_owned(),
        counted_model: model.to_owned(),
        requests,
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h: 0,
        list_cost,
        cost: list_cost * 1.1,
        duration_ms: Some(random.random_range(800..60_000)),
        at,
    }
}

fn key_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A claude-relay-service: a private Redis. Dropping the future leaves nothing behind.
///
/// # Errors
/// When Redis is not installed (the text says how to get it) or does not start.
pub async fn set_up(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Environment> {
    simulator.check()?;
    let redis = PrivateRedis::start().await?;
    let options = Options {
        days: history.days,
        requests_per_day: history.requests_per_day,
        pace: simulator.pace,
        seed: history.seed,
        offset: Offset::default(),
    };
    let mut connection = redis_connection(&redis.url()).await?;
    fill(&mut connection, &options).await?;
    let urls = Urls { database_url: "".into(), redis_url: Some(redis.url().into()) };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let traffic = async move {
        run(&mut connection, &options, stopped).await;
        Ok(())
    };
    Ok(Environment::live(urls, traffic, stop, redis))
}
