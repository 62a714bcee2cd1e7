//! new-api's side of a database of any of the three engines, and an exporter of it.

use std::sync::{Arc, Mutex};

pub use crate::db::Db;
use crate::reading;
use chrono::{DateTime, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::relay::Relay;
use llm_relay_exporter::relays::new_api::{self, Family};
use llm_relay_exporter::servers::{PrivateMariaDb, PrivatePostgres};
use llm_relay_exporter::settings::{Boards, RelayPlan};
use tempfile::TempDir;

pub const fn schema(db: &Db) -> &'static str {
    match db {
        Db::Postgres(_) => new_api::POSTGRES_SCHEMA,
        Db::MySql(_) => new_api::MYSQL_SCHEMA,
        Db::Sqlite(_) => new_api::SQLITE_SCHEMA,
    }
}

/// Where a database is, until it is dropped.
pub enum Place {
    Postgres(PrivatePostgres),
    MySql(PrivateMariaDb),
    Sqlite(TempDir),
}

impl Place {
    pub async fn postgres() -> Self {
        Self::Postgres(PrivatePostgres::start().await.unwrap())
    }

    pub async fn mariadb() -> Self {
        Self::MySql(PrivateMariaDb::start().await.unwrap())
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// An empty database.
    pub async fn database(&self, name: &str) -> (Db, String) {
        let url = match self {
            Self::Postgres(server) => server.database(name).await.unwrap(),
            Self::MySql(server) => server.database(name).await.unwrap(),
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join(name).display()),
        };
        (Db::connect(&url).await, url)
    }

    /// One with new-api's tables.
    pub async fn relay(&self, name: &str) -> (Db, String) {
        let (mut db, url) = self.database(name).await;
        db.run(schema(&db)).await;
        (db, url)
    }
}

pub fn plan(url: &str, zone: &str) -> RelayPlan {
    RelayPlan {
        timezone: Some(zone.parse().unwrap()),
        timezone_fallback: chrono_tz::UTC,
        boards: Boards { top_users: 3, top_keys: 3, top_providers: 3, top_models: 3, ..Boards::default() },
        ..reading::plan(url, &new_api::NEW_API)
    }
}

/// A clock that stands until it is set; only a SQLite file needs one.
pub type TestClock = Arc<Mutex<DateTime<Utc>>>;

pub fn open(plan: &RelayPlan, clock: &TestClock) -> Relay {
    let clock = Arc::clone(clock);
    new_api::open_at(plan, Family::NewApi, Arc::new(move || *clock.lock().unwrap())).unwrap()
}

pub fn follower(plan: &RelayPlan, clock: &TestClock) -> Follower {
    Follower::new(reading::rows_of(open(plan, clock).usage), plan)
}

/// A row of the log, as the relay writes it.
#[derive(Clone, Debug)]
pub struct Row {
    pub created_at: i64,
    pub kind: i64,
    pub user: i64,
    pub token: i64,
    pub channel: i64,
    pub model: &'static str,
    pub quota: i64,
    pub prompt: i64,
    pub completion: i64,
    pub use_time: i64,
    pub stream: bool,
    pub other: String,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            created_at: Utc::now().timestamp(),
            kind: 2,
            user: 1,
            token: 1,
            channel: 1,
            model: "gpt-4o",
            quota: 1000,
            prompt: 100,
            completion: 50,
            use_time: 3,
            stream: false,
            other: String::new(),
        }
    }
}

impl Row {
    pub fn insert(&self) -> String {
        let Self { created_at, kind, user, token, channel, model, quota, prompt, completion, use_time, stream, other } =
            self;
        format!(
            "insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens,
               completion_tokens, use_time, is_stream, other)
             values ({created_at}, {kind}, {user}, {token}, {channel}, '{model}', {quota}, {prompt}, {completion},
               {use_time}, {stream}, '{other}')"
        )
    }
}

/// Three users, keys and channels.
pub async fn people(db: &mut Db) {
    let key = db.quoted("key");
    db.run(&format!(
        "insert into users (id, username, password, role, quota, used_quota) values
           (1, 'root', 'x', 100, 1000000, 0), (2, 'alice', 'x', 1, 500000, 250000), (3, 'bo', 'x', 1, -375, 1000);
         insert into tokens (id, user_id, {key}, name, remain_quota, used_quota, unlimited_quota) values
           (1, 1, 'sk-1', 'one', 100, 0, true), (2, 2, 'sk-2', 'two', -375, 1375, false), (3, 3, 'sk-3', 'three', 500000, 0, false);
         insert into channels (id, type, {key}, status, name) values
           (1, 1, 'sk-a', 1, 'north'), (2, 14, 'sk-b', 1, 'south'), (3, 24, 'sk-c', 2, 'east')"
    ))
    .await;
}
