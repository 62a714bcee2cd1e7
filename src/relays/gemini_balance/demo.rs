//! gemini-balance with invented traffic: a pool of keys, attempts and retries, written as the relay writes them.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use super::{MYSQL_SCHEMA, SQLITE_SCHEMA};
use crate::demo::{DemoOptions, Environment, Urls, rhythm};
use crate::servers::host::Host;

const KEYS: u32 = 12;
/// Model, share of the traffic, typical latency in milliseconds.
const MODELS: [(&str, f64, f64); 5] = [
    ("gemini-2.5-flash", 0.45, 2_400.0),
    ("gemini-2.5-pro", 0.30, 11_000.0),
    ("gemini-2.5-flash-lite", 0.12, 900.0),
    ("gemini-2.5-pro-search", 0.08, 15_000.0),
    ("gemini-embedding-001", 0.05, 350.0),
];
/// Attempts of one request, at most (the relay's `MAX_RETRIES`).
const ATTEMPTS: u32 = 3;
/// Rows of one statement of history.
const BATCH: usize = 500;

/// A relay's database and the traffic that goes into it.
pub struct Simulator {
    store: Store,
    zone: Tz,
    rng: StdRng,
}

enum Store {
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// Rows of both tables, as values in SQL.
#[derive(Default)]
struct Rows {
    attempts: Vec<String>,
    errors: Vec<String>,
}

impl Simulator {
    /// Connects, to a SQLite file that need not exist or to a database of MySQL or MariaDB, and makes the relay's tables,
    /// which must not be there.
    ///
    /// # Errors
    /// When the database cannot be used or has tables of these names.
    pub async fn create(url: &str, zone: Tz, seed: u64) -> Result<Self, sqlx::Error> {
        let (store, schema) = if let Some(path) = url.strip_prefix("sqlite:") {
            // As the relay opens it: a rollback journal, and five seconds of patience.
            let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
            let options = options.busy_timeout(Duration::from_secs(5)).disable_statement_logging();
            (Store::Sqlite(options.connect().await?), SQLITE_SCHEMA)
        } else {
            (Store::MySql(MySqlConnection::connect(url).await?), MYSQL_SCHEMA)
        };
        let mut simulator = Self { store, zone, rng: StdRng::seed_from_u64(seed) };
        simulator.run(schema.to_owned()).await?;
        Ok(simulator)
    }

    /// Traffic from `since` until now, so many requests on an average day. Returns the number of attempts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn fill(&mut self, since: DateTime<Utc>, requests_per_day: f64) -> Result<u64, sqlx::Error> {
        let mut rows = Rows::default();
        let mut written = 0;
        let mut at = since;
        while at < Utc::now() {
            self.request(at, &mut rows);
            if rows.attempts.len() >= BATCH {
                written += rows.attempts.len() as u64;
                self.write(std::mem::take(&mut rows)).await?;
            }
            let local = at.with_timezone(&self.zone);
            let rate = requests_per_day * rhythm::day(local.date_naive()) * rhythm::HOURS[local.hour() as usize];
            // Requests come by chance, so many in a day of 24 hours that weigh 0.57 on average.
            let mean = 86_400.0 * 0.57 / rate.max(0.1);
            let pause = -mean * (1.0 - self.rng.random::<f64>()).ln();
            at += TimeDelta::milliseconds((pause * 1000.0).clamp(1.0, 36e5) as i64);
        }
        written += rows.attempts.len() as u64;
        self.write(rows).await?;
        Ok(written)
    }

    /// Traffic from now on: each attempt in a statement of its own, when it ends. Ends when this future is dropped.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn live(&mut self, requests_per_minute: f64) -> Result<(), sqlx::Error> {
        loop {
            let mut rows = Rows::default();
            self.request(Utc::now() - TimeDelta::seconds(1), &mut rows);
            self.write(rows).await?;
            let pause = -(1.0 - self.rng.random::<f64>()).ln() * 60.0 / requests_per_minute;
            tokio::time::sleep(Duration::from_secs_f64(pause.min(60.0))).await;
        }
    }

    /// One request: attempts with one key after the other until one succeeds.
    fn request(&mut self, at: DateTime<Utc>, rows: &mut Rows) {
        let mut draw: f64 = self.rng.random();
        let (model, _, typical) = MODELS
            .into_iter()
            .find(|(_, share, _)| {
                draw -= share;
                draw <= 0.0
            })
            .unwrap_or(MODELS[0]);
        let streams = !model.contains("embedding");
        let mut start = at;
        for _ in 0..ATTEMPTS {
            let key = self.rng.random_range(0..KEYS);
            let spread: f64 = self.rng.random_range(-0.9..1.6);
            let mut latency = typical * spread.exp();
            // The last key's quota is used up from the afternoon on, as that of free keys is.
            let exhausted = key == KEYS - 1 && start.with_timezone(&self.zone).hour() >= 15;
            let (status, text) = match self.rng.random_range(0..1000) {
                _ if exhausted => ("429", Some("quota")),
                0..25 => ("429", Some("quota")),
                25..34 => ("503", Some("overloaded")),
                34..38 => ("500", Some("internal")),
                38..43 => ("400", Some("invalid argument")),
                43..46 => ("403", Some("permission denied")),
                46..58 => ("null", None),
                // MySQL refuses the row of a timeout, and the relay drops it.
                58..62 if matches!(self.store, Store::Sqlite(_)) => ("''", None),
                _ => ("200", None),
            };
            if status != "200" {
                latency = if status == "''" { 300_000.0 } else { latency / 6.0 };
            }
            let time = start.with_timezone(&self.zone).format("%Y-%m-%d %H:%M:%S%.6f");
            let key = format!("AIzaSyInvented{key:025}");
            let success = u8::from(status == "200");
            rows.attempts.push(format!("('{time}', '{model}', '{key}', {success}, {status}, {})", latency as u64));
            if let Some(text) = text {
                let kind = if streams { "gemini-chat-stream" } else { "gemini-embed-single" };
                rows.errors.push(format!("('{key}', '{model}', '{kind}', '{text}', {status}, 'null', '{time}')"));
            }
            if matches!(status, "200" | "400" | "null" | "''") {
                return;
            }
            start += TimeDelta::milliseconds(latency as i64);
        }
    }

    async fn write(&mut self, rows: Rows) -> Result<(), sqlx::Error> {
        // The relay logs the error first.
        if !rows.errors.is_empty() {
            let columns = "gemini_key, model_name, error_type, error_log, error_code, request_msg, request_time";
            self.run(format!("insert into t_error_logs ({columns}) values {}", rows.errors.join(","))).await?;
        }
        if !rows.attempts.is_empty() {
            let columns = "request_time, model_name, api_key, is_success, status_code, latency_ms";
            self.run(format!("insert into t_request_log ({columns}) values {}", rows.attempts.join(","))).await?;
        }
        Ok(())
    }

    async fn run(&mut self, statements: String) -> Result<(), sqlx::Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        match &mut self.store {
            Store::MySql(connection) => statements.execute(connection).await.map(|_| ()),
            Store::Sqlite(connection) => statements.execute(connection).await.map(|_| ()),
        }
    }
}

/// A gemini-balance: one SQLite file in a temporary directory, on any machine.
///
/// # Errors
/// When there is no place for temporary files.
pub async fn set_up(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Environment> {
    simulator.check()?;
    let host = Host::new("TERM", "KILL").context("the demo's SQLite file has no place to be")?;
    let url = format!("sqlite:{}", host.path().join("default_db").display());
    let mut relay = Simulator::create(&url, history.zone, history.seed).await?;
    let since = Utc::now() - TimeDelta::days(i64::from(history.days));
    relay.fill(since, f64::from(history.requests_per_day)).await?;
    let urls = Urls { database_url: url.into(), redis_url: None };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let traffic = async move {
        let live = relay.live(60.0 * simulator.rate);
        stopped.run_until_cancelled(live).await.unwrap_or(Ok(())).map_err(Into::into)
    };
    Ok(Environment::live(urls, traffic, stop, host))
}
