//! sub2api's side of its databases, and an exporter of it.

use std::collections::BTreeMap;

use crate::db::Db;
use crate::reading;
pub use crate::reading::{Saved, follower, parts, settle, view, whole_view};
use llm_relay_exporter::relays::sub2api;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{Boards, RelayPlan};
use tokio::sync::{Mutex, OnceCell};

/// A server of these tests' own: the role that they make is of the whole server.
pub async fn postgres() -> &'static PrivatePostgres {
    static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivatePostgres::start().await.unwrap()).await
}

/// The relay's connection.
pub struct Store {
    pub url: String,
    owner: Db,
}

impl Store {
    /// An empty relay of a release.
    pub async fn of_release(name: &str, release: &str) -> Self {
        let url = postgres().await.database(name).await.unwrap();
        let mut store = Self { owner: Db::connect(&url).await, url };
        let steps = sub2api::STEPS.iter().position(|(step, _)| *step == release).unwrap();
        for (_, script) in &sub2api::STEPS[..=steps] {
            store.run(script).await;
        }
        store
    }

    pub async fn new(name: &str) -> Self {
        Self::of_release(name, "0.1.177").await
    }

    /// Three users, keys and accounts.
    pub async fn people(&mut self) {
        self.run(
            "insert into users (email, password_hash, username, role, balance) values
               ('root@planted.example', 'planted-hash', 'root', 'admin', 0), ('alice@planted.example', 'planted-hash', 'alice', 'user', 12.5),
               ('bo@planted.example', 'planted-hash', '', 'user', -0.75);
             insert into api_keys (user_id, key, name) values (1, 'planted-1', 'one'), (2, 'planted-2', 'two'), (3, 'planted-3', 'three');
             insert into accounts (name, platform, type, credentials) values ('north', 'anthropic', 'oauth', '{\"access_token\": \"planted-token\"}'),
               ('south', 'openai', 'apikey', '{\"api_key\": \"planted-key\"}'), ('east@planted.example', 'gemini', 'oauth', '{}')",
        )
        .await;
    }

    /// What the administrator runs. Roles are of the whole server, where one test at a time may change them.
    pub async fn grant(&mut self) {
        static ONE: Mutex<()> = Mutex::const_new(());
        let _guard = ONE.lock().await;
        self.run(sub2api::READONLY_ROLE).await;
    }

    pub async fn run(&mut self, sql: &str) {
        self.owner.run(sql).await;
    }

    /// A text and some whole numbers by row.
    pub async fn table(&mut self, sql: &str) -> BTreeMap<String, Vec<i64>> {
        self.owner.table(sql).await
    }

    pub fn plan(&self) -> RelayPlan {
        plan(&self.url)
    }
}

pub fn plan(url: &str) -> RelayPlan {
    RelayPlan {
        boards: Boards { top_users: 3, top_keys: 3, top_providers: 3, top_models: 3, ..Boards::default() },
        ..reading::plan(url, &sub2api::PRODUCT)
    }
}

/// A row of `usage_logs`, as the relay writes it.
#[derive(Clone, Debug)]
pub struct Request {
    /// An expression of SQL.
    pub at: String,
    pub user: i64,
    pub key: i64,
    pub account: i64,
    pub model: &'static str,
    pub input: i64,
    pub output: i64,
    pub read: i64,
    pub written: [i64; 3],
    /// In millionths of a dollar: at list prices, and of them what the uncached input cost.
    pub list: i64,
    pub input_cost: i64,
    /// In ten thousandths.
    pub rate: i64,
    pub account_rate: Option<i64>,
    pub duration: Option<i64>,
    pub first_token: Option<i64>,
    pub kind: i64,
    pub request_id: Option<String>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            at: "now()".to_owned(),
            user: 2,
            key: 2,
            account: 1,
            model: "claude-sonnet-4",
            input: 100,
            output: 50,
            read: 0,
            written: [0; 3],
            list: 1000,
            input_cost: 300,
            rate: 10_000,
            account_rate: None,
            duration: Some(3000),
            first_token: Some(500),
            kind: 2,
            request_id: None,
        }
    }
}

impl Request {
    pub fn insert(&self) -> String {
        let Self { at, user, key, account, model, input, output, read, written, list, input_cost, rate, kind, .. } =
            self;
        let [five_minutes, hour, rest] = written;
        let or_null = |number: Option<i64>| number.map_or("null".to_owned(), |number| number.to_string());
        let request_id = self.request_id.as_ref().map_or("null".to_owned(), |id| format!("'{id}'"));
        format!(
            "insert into usage_logs (created_at, user_id, api_key_id, account_id, model, input_tokens, output_tokens,
               cache_read_tokens, cache_creation_5m_tokens, cache_creation_1h_tokens, cache_creation_tokens, total_cost,
               actual_cost, input_cost, cache_read_cost, rate_multiplier, account_rate_multiplier, duration_ms,
               first_token_ms, request_type, request_id)
             values ({at}, {user}, {key}, {account}, '{model}', {input}, {output}, {read}, {five_minutes}, {hour},
               {five_minutes} + {hour} + {rest}, {list} / 1e6, {list}::numeric * {rate} / 1e10, {input_cost} / 1e6,
               {read} * 0.0000003, {rate} / 1e4, {} / 1e4, {}, {}, {kind}, {request_id})
             on conflict (request_id, api_key_id) do nothing",
            or_null(self.account_rate),
            or_null(self.duration),
            or_null(self.first_token),
        )
    }
}

/// A row of `ops_error_logs`, as the relay writes it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub at: String,
    pub phase: &'static str,
    pub status: i64,
    pub upstream: Option<i64>,
    pub limited: bool,
    pub counts_tokens: bool,
    pub account: Option<i64>,
    pub model: &'static str,
}

impl Default for Failure {
    fn default() -> Self {
        Self {
            at: "now()".to_owned(),
            phase: "upstream",
            status: 502,
            upstream: Some(500),
            limited: false,
            counts_tokens: false,
            account: Some(1),
            model: "claude-sonnet-4",
        }
    }
}

impl Failure {
    pub fn insert(&self) -> String {
        let Self { at, phase, status, limited, counts_tokens, model, .. } = self;
        let or_null = |number: Option<i64>| number.map_or("null".to_owned(), |number| number.to_string());
        format!(
            "insert into ops_error_logs (created_at, client_request_id, user_id, api_key_id, account_id, model, error_phase,
               error_type, status_code, upstream_status_code, is_business_limited, is_count_tokens, error_message, client_ip)
             values ({at}, gen_random_uuid()::text, 2, 2, {}, '{model}', '{phase}', 'upstream_error', {status}, {},
               {limited}, {counts_tokens}, 'planted-message', '192.0.2.7')",
            or_null(self.account),
            or_null(self.upstream),
        )
    }
}
