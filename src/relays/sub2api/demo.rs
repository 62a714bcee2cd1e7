//! sub2api with invented traffic, in a PostgreSQL and a Redis of the demo's own, written as the relay writes it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, PgConnection, Row, raw_sql};

use super::least_schema::{READONLY_ROLE, STEPS};
use crate::demo::{DemoOptions, Environment, Pace, Urls, pick};
use crate::servers::{PrivatePostgres, PrivateRedis, redis_connection};

/// Rows of one statement of history.
const BATCH: usize = 500;
/// How often requests under way are looked at.
const STEP: Duration = Duration::from_millis(100);
/// What comes once a minute.
const MINUTE: TimeDelta = TimeDelta::seconds(60);
/// Users, their keys and the groups of these, and their share of the traffic.
const PEOPLE: [(i64, i64, i64, f64); 5] =
    [(1, 1, 1, 0.05), (2, 2, 1, 0.35), (2, 3, 2, 0.25), (3, 4, 3, 0.25), (4, 5, 4, 0.10)];

/// The account whose requests at a time are not limited.
const UNLIMITED: i64 = 4;

/// A model: the groups and accounts that have it, dollars for a token of input, seconds of an answer.
struct Model {
    name: &'static str,
    groups: &'static [i64],
    accounts: &'static [i64],
    price: f64,
    seconds: f64,
}

const MODELS: [Model; 5] = [
    Model { name: "claude-sonnet-4", groups: &[1, 3], accounts: &[1, 2], price: 3e-6, seconds: 12.0 },
    Model { name: "claude-opus-4", groups: &[1, 3], accounts: &[2, 1], price: 15e-6, seconds: 20.0 },
    Model { name: "gpt-5", groups: &[2], accounts: &[3, 4], price: 2e-6, seconds: 9.0 },
    Model { name: "gpt-5-mini", groups: &[2, 4], accounts: &[4, 3], price: 2.5e-7, seconds: 4.0 },
    // The relay knows no price for it.
    Model { name: "gpt-oss", groups: &[4], accounts: &[4], price: 0.0, seconds: 3.0 },
];

/// What is written of one request: errors, and what was answered.
#[derive(Default)]
struct Written {
    errors: Vec<Value>,
    answers: Vec<Value>,
}

/// A request under way.
struct Running {
    ends_at: DateTime<Utc>,
    key: i64,
    account: i64,
    member: String,
    written: Written,
}

struct Simulator {
    database: PgConnection,
    redis: Option<MultiplexedConnection>,
    zone: Tz,
    rng: StdRng,
}

impl Simulator {
    async fn create(url: &str, redis: Option<&PrivateRedis>, zone: Tz, seed: u64) -> anyhow::Result<Self> {
        let mut database = url.parse::<PgConnectOptions>()?.disable_statement_logging().connect().await?;
        let schema = STEPS.iter().map(|(_, script)| *script);
        for script in schema.chain([include_str!("demo/people.sql"), READONLY_ROLE]) {
            raw_sql(script).execute(&mut database).await?;
        }
        sqlx::query(include_str!("demo/zone.sql")).bind(zone.name()).execute(&mut database).await?;
        let redis = match redis {
            Some(server) => Some(redis_connection(&server.url()).await?),
            None => None,
        };
        Ok(Self { database, redis, zone, rng: StdRng::seed_from_u64(seed) })
    }

    /// Traffic from `since` until now.
    async fn fill(&mut self, since: DateTime<Utc>, pace: Pace) -> anyhow::Result<()> {
        let mut written = Written::default();
        let mut at = since;
        while at < Utc::now() {
            let one = self.request(at).1;
            written.errors.extend(one.errors);
            written.answers.extend(one.answers);
            if written.answers.len() >= BATCH {
                self.write(std::mem::take(&mut written)).await?;
            }
            at += pace.pause(at.with_timezone(&self.zone).naive_local(), &mut self.rng);
        }
        self.write(written).await?;
        raw_sql(include_str!("demo/settle.sql")).execute(&mut self.database).await?;
        Ok(())
    }

    /// Traffic from now on. Ends when this future is dropped.
    async fn live(&mut self, pace: Pace) -> anyhow::Result<()> {
        let mut running: Vec<Running> = Vec::new();
        let (mut next, mut minute) = (Utc::now(), Utc::now());
        loop {
            let now = Utc::now();
            if now >= minute {
                raw_sql(include_str!("demo/minute.sql")).execute(&mut self.database).await?;
                minute = now + MINUTE;
            }
            while next <= now {
                let begun = self.begin(next).await?;
                running.push(begun);
                next += pace.pause(next.with_timezone(&self.zone).naive_local(), &mut self.rng);
            }
            for it in running.extract_if(.., |it| it.ends_at <= now).collect::<Vec<_>>() {
                self.end(it).await?;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    async fn begin(&mut self, at: DateTime<Utc>) -> anyhow::Result<Running> {
        let (ms, written) = self.request(at);
        let of = |row: &Value, column: &str| row[column].as_i64().unwrap_or(0);
        let last = written.answers.first().or(written.errors.last()).cloned().unwrap_or_default();
        let running = Running {
            ends_at: at + TimeDelta::milliseconds(ms),
            key: of(&last, "key_id"),
            account: of(&last, "account_id"),
            member: format!("{:016x}", self.rng.random::<u64>()),
            written,
        };
        // What was refused holds no slot, and an account without a limit has none.
        if let Some(redis) = self.redis.as_mut().filter(|_| running.account > 0) {
            let second = at.timestamp();
            let mut slots = redis::pipe();
            slots.zadd(format!("concurrency:api_key:{}", running.key), &running.member, second);
            if running.account != UNLIMITED {
                slots.zadd(format!("concurrency:account:{}", running.account), &running.member, second);
            }
            slots.exec_async(redis).await?;
        }
        Ok(running)
    }

    /// The slots are given back, then the request is written and charged.
    async fn end(&mut self, running: Running) -> anyhow::Result<()> {
        if let Some(redis) = &mut self.redis {
            redis::pipe()
                .zrem(format!("concurrency:account:{}", running.account), &running.member)
                .zrem(format!("concurrency:api_key:{}", running.key), &running.member)
                .exec_async(redis)
                .await?;
        }
        let mut written = running.written;
        let now = Utc::now();
        written.errors.iter_mut().chain(&mut written.answers).for_each(|row| row["at"] = json!(now));
        for answer in self.write(written).await? {
            self.charge(&answer).await?;
        }
        Ok(())
    }

    async fn charge(&mut self, answer: &PgRow) -> anyhow::Result<()> {
        let id = |column: &str| answer.try_get::<i64, _>(column);
        let (user, key, group) = (id("user_id")?, id("api_key_id")?, id("group_id")?);
        let charged: Decimal = answer.try_get("actual_cost")?;
        for (text, whose) in [(include_str!("demo/charge_key.sql"), key), (include_str!("demo/charge_user.sql"), user)]
        {
            sqlx::query(text).bind(whose).bind(charged).execute(&mut self.database).await?;
        }
        for text in [include_str!("demo/charge_subscription.sql"), include_str!("demo/charge_platform.sql")] {
            sqlx::query(text).bind(user).bind(charged).bind(group).execute(&mut self.database).await?;
        }
        Ok(())
    }

    /// One request that ends at an instant, and how long it takes: an account that fails, another one, most of the time.
    fn request(&mut self, at: DateTime<Utc>) -> (i64, Written) {
        let (user, key, group, _) = *pick(&PEOPLE, |it| it.3, self.rng.random());
        let models: Vec<&Model> = MODELS.iter().filter(|model| model.groups.contains(&group)).collect();
        let model = models[self.rng.random_range(0..models.len())];
        let spread: f64 = self.rng.random_range(-0.9..1.2);
        let ms = (model.seconds * 1e3 * spread.exp()) as i64;
        let mut written = Written::default();
        let failed = |account: Option<i64>, phase: &str, status: i64, upstream: Option<i64>| {
            json!({"at": at, "user_id": user, "key_id": key, "account_id": account, "group_id": group, "model": model.name,
                "phase": phase, "status": status, "upstream": upstream, "limited": phase != "upstream"})
        };
        match self.rng.random_range(0..1000) {
            0..25 => {
                let (upstream, told) = [(500, 502), (429, 429), (529, 503)][self.rng.random_range(0..3)];
                let recovered = model.accounts.len() > 1 && self.rng.random_bool(0.7);
                let status = if recovered { 200 } else { told };
                written.errors.push(failed(Some(model.accounts[0]), "upstream", status, Some(upstream)));
                if !recovered {
                    return (ms / 4, written);
                }
            }
            25..30 => {
                written.errors.push(failed(Some(model.accounts[0]), "upstream", 400, Some(400)));
                return (400, written);
            }
            30..34 => {
                written.errors.push(failed(None, "routing", 503, None));
                return (50, written);
            }
            34..38 => {
                written.errors.push(failed(None, "request", 403, None));
                return (50, written);
            }
            _ => {}
        }
        let is_recovered = !written.errors.is_empty();
        let account = model.accounts[usize::from(is_recovered) % model.accounts.len()];
        let prompt = (8_000.0 * spread.exp()) as i64;
        let cached = if self.rng.random_bool(0.6) { prompt * 7 / 10 } else { 0 };
        let created = if cached > 0 && model.name.starts_with("claude") { prompt / 10 } else { 0 };
        let answered = self.rng.random_bool(0.01).then(|| format!("{}-fallback", model.name));
        written.answers.push(
            json!({"at": at, "user_id": user, "key_id": key, "account_id": account, "group_id": group,
            "model": model.name, "answered": answered, "input": prompt - cached - created,
            "output": self.rng.random_range(40..1_800), "cached": cached, "written": created, "price": model.price,
            "ms": ms, "first_token_ms": self.rng.random_bool(0.8).then_some(ms / 8)}),
        );
        (ms, written)
    }

    /// Gives back what was charged for each answer.
    async fn write(&mut self, written: Written) -> anyhow::Result<Vec<PgRow>> {
        let list = |rows: Vec<Value>| Value::from(rows).to_string();
        if !written.errors.is_empty() {
            sqlx::query(include_str!("demo/errors.sql")).bind(list(written.errors)).execute(&mut self.database).await?;
        }
        let answers = sqlx::query(include_str!("demo/requests.sql")).bind(list(written.answers));
        Ok(answers.fetch_all(&mut self.database).await?)
    }
}

/// A sub2api. Takes some seconds, most of them for the history. Dropping the future leaves nothing behind.
///
/// # Errors
/// When PostgreSQL is not installed or a server does not start. A missing Redis is only told on stderr: the demo then has
/// no slots.
pub(super) async fn set_up(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Environment> {
    simulator.check()?;
    let postgres = PrivatePostgres::start().await?;
    let redis = PrivateRedis::start_if_installed("no slots").await?;
    let url = postgres.database("sub2api").await?;
    let mut relay = Simulator::create(&url, redis.as_ref(), history.zone, history.seed).await?;
    let since = Utc::now() - TimeDelta::days(i64::from(history.days));
    relay.fill(since, Pace::Daily(history.requests_per_day)).await?;
    let urls = Urls { database_url: url.into(), redis_url: redis.as_ref().map(|redis| redis.url().into()) };
    Ok(Environment::until_stopped(urls, async move { relay.live(simulator.pace).await }, (postgres, redis)))
}
