//! gemini-balance with invented traffic: a pool of keys, attempts and retries, written as the relay writes them.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::{MYSQL_SCHEMA, SQLITE_SCHEMA};
use crate::demo::{DemoOptions, Environment, Pace, Urls, pick};
use crate::servers::host::Host;

/// Keys of the pool, and how many of them are used.
const POOL: u32 = 14;
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

/// Rows of both tables.
#[derive(Default)]
struct Rows {
    attempts: Vec<Value>,
    errors: Vec<Value>,
}

/// A statement in the dialects of both engines.
struct Text {
    mysql: &'static str,
    sqlite: &'static str,
}

macro_rules! dialects {
    ($name:literal) => {
        Text {
            mysql: include_str!(concat!("demo/", $name, "_mysql.sql")),
            sqlite: include_str!(concat!("demo/", $name, "_sqlite.sql")),
        }
    };
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
        match &mut simulator.store {
            Store::MySql(connection) => sqlx::raw_sql(schema).execute(connection).await.map(|_| ())?,
            Store::Sqlite(connection) => sqlx::raw_sql(schema).execute(connection).await.map(|_| ())?,
        }
        simulator.insert(dialects!("pool"), (0..POOL).map(|number| json!(key(number))).collect()).await?;
        Ok(simulator)
    }

    /// Traffic from `since` until now, so many requests on an average day. Returns the number of attempts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn fill(&mut self, since: DateTime<Utc>, requests_per_day: u32) -> Result<u64, sqlx::Error> {
        let mut rows = Rows::default();
        let mut written = 0;
        let mut at = since;
        while at < Utc::now() {
            self.request(at, &mut rows);
            if rows.attempts.len() >= BATCH {
                written += rows.attempts.len() as u64;
                self.write(std::mem::take(&mut rows)).await?;
            }
            let local = at.with_timezone(&self.zone).naive_local();
            at += Pace::Daily(requests_per_day).pause(local, &mut self.rng);
        }
        written += rows.attempts.len() as u64;
        self.write(rows).await?;
        Ok(written)
    }

    /// Traffic from now on: each attempt in a statement of its own, when it ends. Ends when this future is dropped.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn live(&mut self, pace: Pace) -> Result<(), sqlx::Error> {
        loop {
            let mut rows = Rows::default();
            self.request(Utc::now() - TimeDelta::seconds(1), &mut rows);
            self.write(rows).await?;
            let local = Utc::now().with_timezone(&self.zone).naive_local();
            tokio::time::sleep(pace.pause(local, &mut self.rng)).await;
        }
    }

    /// One request: attempts with one key after the other until one succeeds.
    fn request(&mut self, at: DateTime<Utc>, rows: &mut Rows) {
        let (model, _, typical) = *pick(&MODELS, |it| it.1, self.rng.random());
        let streams = !model.contains("embedding");
        let mut start = at;
        for _ in 0..ATTEMPTS {
            let key = self.rng.random_range(0..KEYS);
            let spread: f64 = self.rng.random_range(-0.9..1.6);
            let mut latency = typical * spread.exp();
            // The last key's quota is used up from the afternoon on, as that of free keys is.
            let exhausted = key == KEYS - 1 && start.with_timezone(&self.zone).hour() >= 15;
            let (status, error) = match self.rng.random_range(0..1000) {
                _ if exhausted => (json!(429), Some("quota")),
                0..25 => (json!(429), Some("quota")),
                25..34 => (json!(503), Some("overloaded")),
                34..38 => (json!(500), Some("internal")),
                38..43 => (json!(400), Some("invalid argument")),
                43..46 => (json!(403), Some("permission denied")),
                // A caller that goes away takes the relay's insert into SQLite with it.
                46..58 if matches!(self.store, Store::Sqlite(_)) => return,
                46..58 => (Value::Null, None),
                // A timeout, of which MySQL refuses the row, and the relay drops it.
                58..62 if matches!(self.store, Store::Sqlite(_)) => (json!(""), None),
                _ => (json!(200), None),
            };
            if status != 200 {
                latency = if status == "" { 300_000.0 } else { latency / 6.0 };
            }
            let at = start.with_timezone(&self.zone).format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            let (key, latency_ms) = (self::key(key), latency as u64);
            if let Some(error) = error {
                let kind = if streams { "gemini-chat-stream" } else { "gemini-embed-single" };
                let entry =
                    json!({"key": key, "model": model, "kind": kind, "error": error, "status": status, "at": at});
                rows.errors.push(entry);
            }
            let ends = [json!(200), json!(400), json!(""), Value::Null].contains(&status);
            rows.attempts
                .push(json!({"at": at, "model": model, "key": key, "status": status, "latency_ms": latency_ms}));
            if ends {
                return;
            }
            start += TimeDelta::milliseconds(latency as i64);
        }
    }

    async fn write(&mut self, rows: Rows) -> Result<(), sqlx::Error> {
        // The relay logs the error first.
        self.insert(dialects!("errors"), rows.errors).await?;
        self.insert(dialects!("attempts"), rows.attempts).await
    }

    async fn insert(&mut self, text: Text, rows: Vec<Value>) -> Result<(), sqlx::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = Value::from(rows).to_string();
        match &mut self.store {
            Store::MySql(connection) => sqlx::query(text.mysql).bind(rows).execute(connection).await.map(|_| ()),
            Store::Sqlite(connection) => sqlx::query(text.sqlite).bind(rows).execute(connection).await.map(|_| ()),
        }
    }
}

fn key(number: u32) -> String {
    format!("AIzaSyInvented{number:025}")
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
    relay.fill(since, history.requests_per_day).await?;
    let urls = Urls { database_url: url.into(), redis_url: None };
    Ok(Environment::until_stopped(urls, async move { relay.live(simulator.pace).await }, host))
}
