//! new-api or one-api with invented traffic, in one SQLite file, written as the relay writes it.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, raw_sql};

use super::{Family, ONE_API_SCHEMA, SQLITE_SCHEMA};
use crate::demo::{DemoOptions, Environment, Pace, Urls, pick};
use crate::servers::host::Host;

/// Rows of one statement of history.
const BATCH: usize = 500;
/// Users with a key of theirs, and their share of the traffic.
const PEOPLE: [(i64, i64, f64); 6] =
    [(1, 1, 0.05), (2, 2, 0.30), (2, 3, 0.15), (3, 4, 0.25), (4, 5, 0.15), (5, 6, 0.10)];

/// A model: its share of the traffic, the channels that have it, its rates, seconds of an answer.
struct Model {
    name: &'static str,
    share: f64,
    channels: &'static [i64],
    ratio: f64,
    completion_ratio: f64,
    cache_ratio: f64,
    seconds: f64,
}

const MODELS: [Model; 5] = [
    model("gpt-4o", 0.30, &[1, 2], 1.25, 4.0, 0.5, 6.0),
    model("gpt-4o-mini", 0.25, &[2, 1], 0.075, 4.0, 0.5, 3.0),
    model("claude-sonnet-4", 0.30, &[3], 1.5, 5.0, 0.1, 14.0),
    model("gemini-2.5-pro", 0.12, &[4], 0.625, 8.0, 0.25, 11.0),
    // Free of charge.
    model("text-embedding-3-small", 0.03, &[1], 0.0, 1.0, 1.0, 0.4),
];

const fn model(
    name: &'static str,
    share: f64,
    channels: &'static [i64],
    ratio: f64,
    completion_ratio: f64,
    cache_ratio: f64,
    seconds: f64,
) -> Model {
    Model { name, share, channels, ratio, completion_ratio, cache_ratio, seconds }
}

/// A relay's file and the traffic that goes into it.
struct Simulator {
    family: Family,
    file: SqliteConnection,
    zone: Tz,
    rng: StdRng,
}

impl Simulator {
    async fn create(path: &std::path::Path, family: Family, zone: Tz, seed: u64) -> Result<Self, sqlx::Error> {
        // As the relay opens it: a rollback journal, and five seconds of patience.
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let options = options.busy_timeout(Duration::from_secs(5)).disable_statement_logging();
        let mut file = options.connect().await?;
        let scripts: &[&str] = match family {
            Family::NewApi => &[SQLITE_SCHEMA, include_str!("demo/people.sql"), include_str!("demo/new_api.sql")],
            Family::OneApi => &[ONE_API_SCHEMA, include_str!("demo/people.sql")],
        };
        for script in scripts {
            raw_sql(*script).execute(&mut file).await?;
        }
        Ok(Self { family, file, zone, rng: StdRng::seed_from_u64(seed) })
    }

    /// Traffic from `since` until now.
    async fn fill(&mut self, since: DateTime<Utc>, pace: Pace) -> Result<(), sqlx::Error> {
        let mut rows = Vec::new();
        let mut at = since;
        while at < Utc::now() {
            self.request(at, &mut rows);
            if rows.len() >= BATCH {
                self.write(std::mem::take(&mut rows)).await?;
            }
            at += pace.pause(at.with_timezone(&self.zone).naive_local(), &mut self.rng);
        }
        self.write(rows).await?;
        raw_sql(include_str!("demo/settle.sql")).execute(&mut self.file).await.map(drop)
    }

    /// Traffic from now on: each request when it ends. Ends when this future is dropped.
    async fn live(&mut self, pace: Pace) -> Result<(), sqlx::Error> {
        loop {
            let mut rows = Vec::new();
            self.request(Utc::now(), &mut rows);
            raw_sql("begin").execute(&mut self.file).await?;
            for row in &rows {
                self.charge(row).await?;
            }
            self.write(rows).await?;
            raw_sql("commit").execute(&mut self.file).await?;
            let local = Utc::now().with_timezone(&self.zone).naive_local();
            tokio::time::sleep(pace.pause(local, &mut self.rng)).await;
        }
    }

    /// One request that ends at an instant: attempts that fail, and one that does not, most of the time.
    fn request(&mut self, at: DateTime<Utc>, rows: &mut Vec<Value>) {
        let (user, token, _) = pick(&PEOPLE, |it| it.2, self.rng.random());
        let model = pick(&MODELS, |it| it.share, self.rng.random());
        let row = |kind: i64, channel: i64| {
            json!({"at": at.timestamp(), "type": kind, "user": user, "token": token, "channel": channel,
                "model": model.name, "quota": 0, "prompt": 0, "completion": 0, "ms": 0, "stream": 0})
        };
        let mut tried = Vec::new();
        for channel in model.channels {
            tried.push(channel.to_string());
            let status = match self.rng.random_range(0..1000) {
                0..18 => 429,
                18..24 => 500,
                24..28 => 400,
                28..30 => 401,
                _ => {
                    rows.push(self.success(row(2, *channel), model, &tried));
                    return;
                }
            };
            let mut attempt = row(5, *channel);
            attempt["other"] = json!({"admin_info": {"use_channel": tried}, "channel_id": channel,
                "error_code": "invented", "error_type": "openai_error", "status_code": status})
            .to_string()
            .into();
            rows.push(attempt);
            if status == 400 {
                return;
            }
        }
        // Jobs, of new-api alone: one is paid for at once, and fails.
        if self.rng.random_bool(0.2) && self.family == Family::NewApi {
            let quota = self.rng.random_range(1_000..50_000);
            for (kind, other) in
                [(2, json!({"is_task": true, "model_price": 0.1})), (6, json!({"task_id": "invented"}))]
            {
                let mut job = row(kind, model.channels[0]);
                job["quota"] = json!(quota);
                job["other"] = other.to_string().into();
                rows.push(job);
            }
        }
    }

    fn success(&mut self, mut row: Value, model: &Model, tried: &[String]) -> Value {
        let spread: f64 = self.rng.random_range(-0.9..1.4);
        let prompt = (9_000.0 * spread.exp()) as i64;
        let completion = if model.seconds < 1.0 { 0 } else { self.rng.random_range(40..1_800) };
        let cached = if self.rng.random_bool(0.6) { prompt * 7 / 10 } else { 0 };
        let is_claude = model.name.starts_with("claude");
        let written = if is_claude && cached > 0 { prompt / 10 } else { 0 };
        let input = prompt - cached - written;
        let weighed = input as f64 + cached as f64 * model.cache_ratio + written as f64 * 1.25;
        let quota = (weighed + completion as f64 * model.completion_ratio) * model.ratio;
        let ms = (model.seconds * 1e3 * spread.exp()) as i64;
        let stream = model.seconds >= 1.0 && self.rng.random_bool(0.8);
        let end = match self.rng.random_range(0..100) {
            0..3 => json!({"status": "error", "end_reason": "client_gone"}),
            3 => json!({"status": "error", "end_reason": "timeout"}),
            _ => json!({"status": "ok", "end_reason": "done"}),
        };
        let mut other = json!({"admin_info": {"use_channel": tried}, "billing_source": "wallet",
            "model_ratio": model.ratio, "completion_ratio": model.completion_ratio, "model_price": -1, "group_ratio": 1,
            "cache_ratio": model.cache_ratio, "cache_tokens": cached});
        if stream {
            other["frt"] = (ms / 8).into();
            other["stream_status"] = end;
        }
        if is_claude {
            other["claude"] = true.into();
            other["usage_semantic"] = "anthropic".into();
            other["cache_creation_tokens"] = written.into();
            other["cache_creation_tokens_5m"] = written.into();
        }
        row["quota"] = (quota as i64).into();
        // Anthropic's counts are without what its cache had and got.
        row["prompt"] = if is_claude { input } else { prompt }.into();
        row["completion"] = completion.into();
        row["ms"] = ms.into();
        row["stream"] = i64::from(stream).into();
        row["other"] = other.to_string().into();
        row
    }

    async fn charge(&mut self, row: &Value) -> Result<(), sqlx::Error> {
        let number = |key: &str| row[key].as_i64().unwrap_or(0);
        if number("type") == 2 {
            let user = sqlx::query(include_str!("demo/charge_user.sql")).bind(number("quota")).bind(number("user"));
            user.execute(&mut self.file).await?;
            let token = sqlx::query(include_str!("demo/charge_token.sql")).bind(number("quota")).bind(number("token"));
            token.execute(&mut self.file).await?;
        }
        Ok(())
    }

    async fn write(&mut self, rows: Vec<Value>) -> Result<(), sqlx::Error> {
        let text = match self.family {
            Family::NewApi => include_str!("demo/log.sql"),
            Family::OneApi => include_str!("demo/log_one_api.sql"),
        };
        sqlx::query(text).bind(Value::from(rows).to_string()).execute(&mut self.file).await.map(drop)
    }
}

/// A relay in one SQLite file in a temporary directory, on any machine.
///
/// # Errors
/// When there is no place for temporary files.
pub(super) async fn set_up(
    DemoOptions { history, simulator }: DemoOptions,
    family: Family,
) -> anyhow::Result<Environment> {
    simulator.check()?;
    let host = Host::new("TERM", "KILL").context("the demo's SQLite file has no place to be")?;
    let path = host.path().join("one-api.db");
    let mut relay = Simulator::create(&path, family, history.zone, history.seed).await?;
    let since = Utc::now() - TimeDelta::days(i64::from(history.days));
    relay.fill(since, Pace::Daily(history.requests_per_day)).await?;
    let urls = Urls { database_url: format!("sqlite:{}", path.display()).into(), redis_url: None };
    Ok(Environment::until_stopped(urls, async move { relay.live(simulator.pace).await }, host))
}
