//! A CPA-Manager's file, written as the manager writes it, with a clock that the test turns.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::reading::{plan, rows_of};
pub use crate::reading::{read_all, view};
use chrono::{DateTime, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::relays::cpa_manager::{self, Level, least_schema};
use llm_relay_exporter::settings::{Boards, RelayPlan};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, SqliteConnection};
use tempfile::TempDir;

pub struct Relay {
    pub level: Level,
    pub path: PathBuf,
    pub writer: SqliteConnection,
    pub plan: RelayPlan,
    clock: Arc<Mutex<DateTime<Utc>>>,
    hashes: u64,
    _dir: TempDir,
}

/// A request, as far as tests care.
#[derive(Clone, Debug)]
pub struct Event {
    pub ago_ms: i64,
    /// From its start to its record.
    pub recorded_after_ms: i64,
    pub provider: &'static str,
    pub auth_index: String,
    pub key: String,
    pub model: &'static str,
    pub resolved: &'static str,
    pub tier: &'static str,
    pub input: i64,
    pub output: i64,
    pub cached: i64,
    pub cache_read: i64,
    pub cache_creation: i64,
    pub latency_ms: Option<i64>,
    pub ttft_ms: Option<i64>,
    pub failed: bool,
    pub status: Option<i64>,
}

impl Default for Event {
    fn default() -> Self {
        Self {
            ago_ms: 1000,
            recorded_after_ms: 900,
            provider: "codex",
            auth_index: "0".into(),
            key: "alice".into(),
            model: "gpt-5-codex",
            resolved: "",
            tier: "",
            input: 1000,
            output: 100,
            cached: 200,
            cache_read: 0,
            cache_creation: 0,
            latency_ms: Some(800),
            ttft_ms: Some(200),
            failed: false,
            status: None,
        }
    }
}

/// What the manager keeps of a client key: any 64 hexadecimal digits do.
pub fn hash_of(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex:0<64}")[..64].to_owned()
}

impl Relay {
    pub async fn new(level: Level, zone: &str, now: DateTime<Utc>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.sqlite");
        // As the manager opens it, but not durable and with no patience: whoever stands in its way is found out.
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .busy_timeout(Duration::ZERO)
            .disable_statement_logging();
        let mut writer = options.connect().await.unwrap();
        for script in least_schema(level) {
            writer.execute(script).await.unwrap();
        }
        let plan = RelayPlan {
            timezone: Some(zone.parse().unwrap()),
            timezone_fallback: chrono_tz::UTC,
            boards: Boards { top_users: 3, top_keys: 3, top_providers: 2, top_models: 2, ..Boards::default() },
            ..plan(&format!("sqlite:{}", path.display()), &cpa_manager::PRODUCT)
        };
        Self { level, path, writer, plan, clock: Arc::new(Mutex::new(now)), hashes: 0, _dir: dir }
    }

    pub fn now(&self) -> DateTime<Utc> {
        *self.clock.lock().unwrap()
    }

    pub fn set_clock(&self, now: DateTime<Utc>) {
        *self.clock.lock().unwrap() = now;
    }

    pub fn open(&self) -> llm_relay_exporter::relay::Relay {
        let clock = Arc::clone(&self.clock);
        cpa_manager::open_at(&self.plan, Arc::new(move || *clock.lock().unwrap())).unwrap()
    }

    pub fn follower(&self) -> Follower {
        Follower::new(rows_of(self.open().usage), &self.plan)
    }

    pub async fn run(&mut self, sql: &str) {
        self.writer.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    pub async fn rows(&mut self, sql: &str) -> Vec<SqliteRow> {
        self.writer.fetch_all(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// One row of numbers; null is not a number.
    pub async fn numbers(&mut self, sql: &str) -> Vec<f64> {
        let row = self.rows(sql).await.pop().unwrap();
        (0..row.len()).map(|i| number(&row, i)).collect()
    }

    pub async fn price(&mut self, model: &str, prompt: f64, completion: f64, cache: f64) {
        let now = self.now().timestamp_millis();
        self.run(&format!(
            "insert into model_prices (model, prompt_per_1m, completion_per_1m, cache_per_1m, updated_at_ms)
             values ('{model}', {prompt}, {completion}, {cache}, {now})
             on conflict (model) do update set prompt_per_1m = excluded.prompt_per_1m,
               completion_per_1m = excluded.completion_per_1m, cache_per_1m = excluded.cache_per_1m,
               updated_at_ms = excluded.updated_at_ms"
        ))
        .await;
    }

    /// The manager keeps a row for each quota window that it has heard of, beside what it has heard.
    pub async fn note_windows(&mut self) {
        self.run(
            "insert into account_quota_windows (account_key, provider, provider_window_id, window_kind, model_scope_kind,
               model_scope_key, scope_fingerprint, availability)
             select account_key, provider, provider_window_id, window_kind, model_scope_kind, model_scope_key, '', 'active'
             from account_quota_snapshots group by 1, 2, 3, 4, 5, 6 order by min(id)",
        )
        .await;
    }

    pub async fn insert(&mut self, event: &Event) {
        self.hashes += 1;
        let start = self.now().timestamp_millis() - event.ago_ms;
        let Event { provider, auth_index, model, input, output, cached, .. } = event;
        let total = input + output;
        let null = |value: Option<i64>| value.map_or("null".to_owned(), |value| value.to_string());
        let mut columns =
            "event_hash, timestamp_ms, timestamp, provider, model, endpoint, auth_type, auth_index, source,
            source_hash, api_key_hash, input_tokens, output_tokens, cached_tokens, total_tokens, latency_ms, failed,
            raw_json, created_at_ms"
                .to_owned();
        let mut values = format!(
            "'{}', {start}, '', '{provider}', '{model}', 'POST /v1/responses', 'oauth', '{auth_index}', 'ali***@example.com',
             '{}', '{}', {input}, {output}, {cached}, {total}, {}, {}, '{{\"secret\": \"raw\"}}', {}",
            self.hashes,
            hash_of(&format!("source {auth_index}")),
            if event.key.is_empty() { String::new() } else { hash_of(&event.key) },
            null(event.latency_ms),
            event.failed,
            start + event.recorded_after_ms,
        );
        if self.level >= Level::Snapshots {
            columns += ", resolved_model, account_snapshot";
            values += &format!(", '{}', 'alice@example.com'", event.resolved);
        }
        if self.level == Level::Plus {
            columns +=
                ", service_tier, cache_read_tokens, cache_creation_tokens, normalized_total_input_tokens, ttft_ms,
                fail_status_code, client_ip";
            values += &format!(
                ", '{}', {}, {}, {}, {}, {}, '203.0.113.7'",
                event.tier,
                event.cache_read,
                event.cache_creation,
                input + event.cache_read + event.cache_creation,
                null(event.ttft_ms),
                null(event.status),
            );
        }
        self.run(&format!("insert into usage_events ({columns}) values ({values})")).await;
    }
}

pub fn number(row: &SqliteRow, i: usize) -> f64 {
    let whole = row.try_get::<Option<i64>, _>(i).map(|whole| whole.map(|whole| whole as f64));
    whole.or_else(|_| row.try_get::<Option<f64>, _>(i)).unwrap().unwrap_or(f64::NAN)
}
