//! Claude Code Hub's side of its stores, and an exporter of them.

use std::time::Duration;

pub use crate::reading::ledger;
use llm_relay_exporter::demo::HistoryOptions;
use llm_relay_exporter::model::Usd;
use llm_relay_exporter::relay::{self, Ledger, RefreshRequest, Relay, Usage};
use llm_relay_exporter::relays::claude_code_hub::{self, least_schema};
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::OnceCell;

pub async fn postgres() -> &'static PrivatePostgres {
    static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivatePostgres::start().await.unwrap()).await
}

pub async fn redis_server() -> &'static PrivateRedis {
    static SERVER: OnceCell<PrivateRedis> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivateRedis::start().await.unwrap()).await
}

/// A relay's database of one release, and its owner's connection.
pub struct Store {
    pub url: String,
    pub owner: PgConnection,
}

impl Store {
    pub async fn new(name: &str, release: &str) -> Self {
        Self::on(postgres().await.database(name).await.unwrap(), release).await
    }

    /// In an empty database of any server.
    pub async fn on(url: String, release: &str) -> Self {
        let mut store = Self { owner: PgConnection::connect(&url).await.unwrap(), url };
        for script in least_schema(release) {
            sqlx::raw_sql(script).execute(&mut store.owner).await.unwrap();
        }
        store
    }

    pub async fn run(&mut self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut self.owner).await.unwrap();
    }

    /// A user, a key, a provider: id 1 each.
    pub async fn people(&mut self) {
        self.run(
            "insert into users (name) values ('ann');
             insert into keys (user_id, key, name) values (1, 'sk-ann', 'laptop');
             insert into providers (name, url, key) values ('north', 'https://north.example', 'sk-north');
             insert into system_settings (site_title) values ('hub')",
        )
        .await;
    }

    /// Requests of Ann's so long apart, the last of them so long ago.
    pub async fn requests(&mut self, count: u32, apart: &str) {
        self.run(&format!(
            "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms, created_at)
             select 1, 1, 'sk-ann', 'sonnet', 200, 0.25, 900, now() - n * interval '{apart}' from generate_series(1, {count}) n"
        ))
        .await;
    }

    pub fn relay(&self) -> Relay {
        relay::open(&plan(&self.url, None)).unwrap()
    }
}

/// A database with a history and nothing alive.
pub async fn filled(server: &PrivatePostgres, name: &str, history: &HistoryOptions) -> String {
    let url = server.database(name).await.unwrap();
    claude_code_hub::demo::create(&url.clone().into(), history).await.unwrap();
    url
}

/// The same database for another role.
pub fn as_role(url: &str, role: &str, password: &str) -> String {
    let mut url: url::Url = url.parse().unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some(password)).unwrap();
    url.into()
}

pub fn plan(database: &str, redis: Option<&str>) -> RelayPlan {
    RelayPlan {
        database_url: database.into(),
        redis_url: redis.map(Into::into),
        directory_interval: Duration::from_secs(60),
        history_budget: Duration::from_secs(60),
        ..RelayPlan::new("hub", &claude_code_hub::PRODUCT)
    }
}

pub fn usd(text: &str) -> Usd {
    Usd::from_decimal(text.parse().unwrap())
}

pub fn usage(relay: &mut Relay) -> &mut dyn Ledger {
    match &mut relay.usage {
        Usage::Rows(ledger) => &mut **ledger,
        Usage::Counters(_) => unreachable!("Claude Code Hub keeps rows"),
    }
}

pub fn all() -> RefreshRequest {
    RefreshRequest { after: Some(0), limit: 1000, ..RefreshRequest::default() }
}
