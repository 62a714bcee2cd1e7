//! What takes bytes from outside: the tests and the fuzzer (`fuzz/`) come in here. Nothing may panic, hang or grow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llm_relay_exporter::connect::postgres::Database;
use llm_relay_exporter::connect::redis::{KeyCommand, Redis};
use llm_relay_exporter::exporter_info::ExporterInfo;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::page;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::relay::{self, Usage};
use llm_relay_exporter::relays::{cpa_manager, gemini_balance};
use llm_relay_exporter::settings::{self, RelayPlan};
use llm_relay_exporter::tally::{CounterState, Presentation};
use llm_relay_exporter::view::{LedgerView, View};
use llm_relay_exporter::web::Protection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A configuration file, and the value of a variable that overrides.
pub fn configuration(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let env = BTreeMap::from([(
        "LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVAL".to_owned(),
        String::from_utf8_lossy(bytes).into_owned(),
    )]);
    for env in [env, BTreeMap::new()] {
        if let Err(problems) = settings::load(Some(file.path()), &env) {
            assert!(!problems.to_string().is_empty());
        }
    }
}

/// A web configuration file.
pub fn web_configuration(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    if let Err(error) = Protection::load(Some(file.path())) {
        assert!(!error.problems.is_empty());
    }
}

/// Addresses of stores.
pub fn addresses(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for scheme in
        ["", "postgres://", "redis://", "rediss://", "redis+sentinel://", "rediss+cluster://", "redis+unix://"]
    {
        let url = format!("{scheme}{text}").into();
        let limit = Duration::from_secs(1);
        drop(Database::new(&url, limit));
        drop(Redis::new(&url, limit));
    }
    for scheme in ["", "mysql://", "sqlite:"] {
        let url = format!("{scheme}{text}").into();
        drop(llm_relay_exporter::connect::mysql::Database::new(&url, Duration::from_secs(1)));
        drop(llm_relay_exporter::connect::sqlite::File::new(&url, Duration::from_secs(1), Duration::from_secs(1)));
    }
}

/// Headers of a scraper.
pub fn accept(bytes: &[u8]) {
    let headers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    Format::negotiate(&headers);
    Coding::negotiate(&headers);
}

/// Replies of a Redis, whatever it was asked: in turn, a part for each command. The relay that lives in Redis alone
/// makes a page of them.
pub async fn redis_replies(replies: Vec<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let replies = replies.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                let mut replies = replies.iter().cycle();
                while let Ok(count @ 1..) = client.read(&mut bytes).await {
                    // As many replies as there were commands; never mind where reads end.
                    for _ in 0..bytes[..count].iter().filter(|byte| **byte == b'*').count().min(10) {
                        let Some(reply) = replies.next() else { return };
                        if client.write_all(reply).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    let limit = Duration::from_millis(300);
    let url = format!("redis://127.0.0.1:{port}/0");
    let mut redis = Redis::new(&url.clone().into(), limit).unwrap();
    let asks = || {
        vec![
            KeyCommand::new("GET", "a"),
            KeyCommand::new("HGETALL", "b"),
            KeyCommand::new("ZRANGE", "c").with(&["0", "-1"]),
        ]
    };
    let began = std::time::Instant::now();
    let _ = redis.each::<Option<String>>("asking", &asks()).await;
    let _ = redis.each::<Vec<String>>("asking", &asks()).await;
    let _ = redis.now_ms().await;
    let mut plan = plan(&format!("kind = \"claude-relay-service\"\nredis_url = \"{url}\""));
    plan.timeout = limit;
    read(&plan).await;
    // Six questions with a limit each; the rest is a busy machine's.
    assert!(began.elapsed() < 100 * limit, "{:?}", began.elapsed());
    server.abort();
}

/// Rows of the relays that keep theirs in SQLite, of any type in any column, as SQLite takes them: read, counted and
/// written on a page.
pub async fn rows(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let mut values = Values(bytes);
    let manager = cpa_manager::least_schema(cpa_manager::Level::Plus).collect();
    for (kind, schema) in [("cpa-manager", manager), ("gemini-balance", vec![gemini_balance::SQLITE_SCHEMA])] {
        let path = folder.path().join(kind);
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let options = options.pragma("synchronous", "off").pragma("journal_mode", "off").disable_statement_logging();
        let mut relay = options.connect().await.unwrap();
        for script in schema {
            sqlx::raw_sql(script).execute(&mut relay).await.unwrap();
        }
        let tables: Vec<String> =
            sqlx::query_scalar("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")
                .fetch_all(&mut relay)
                .await
                .unwrap();
        for table in tables {
            for _ in 0..3 {
                values.insert(&mut relay, &table).await;
            }
        }
        relay.close().await.unwrap();
        read(&plan(&format!("kind = \"{kind}\"\ndatabase_url = \"sqlite:{}\"", path.display()))).await;
    }
}

/// Values out of bytes, until those are used up; null from then on.
struct Values<'a>(&'a [u8]);

impl Values<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut bytes = [0; N];
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    fn byte(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    /// One row of any values; one that the table refuses is none.
    async fn insert(&mut self, relay: &mut SqliteConnection, table: &str) {
        let columns = sqlx::query(AssertSqlSafe(format!("pragma table_info({table})"))).fetch_all(&mut *relay).await;
        let columns: Vec<String> = columns.unwrap().iter().map(|column| column.get("name")).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let insert = format!("insert or ignore into {table} ({}) values ({marks})", columns.join(", "));
        let mut insert = sqlx::query(AssertSqlSafe(insert));
        for _ in columns {
            let now = || chrono::Utc::now().timestamp_millis();
            insert = match self.byte() % 8 {
                0 => insert.bind(None::<i64>),
                1 => insert.bind(i64::from_be_bytes(self.take())),
                2 => insert.bind(f64::from_be_bytes(self.take())),
                3 => insert.bind(now() - i64::from(u32::from_be_bytes(self.take()))),
                4 => insert.bind(i64::from(i8::from_be_bytes(self.take()))),
                kind => {
                    let length = usize::from(self.byte());
                    let (text, rest) = self.0.split_at(length.min(self.0.len()));
                    self.0 = rest;
                    // Any bytes are a text to SQLite.
                    match (kind, String::from_utf8(text.to_vec())) {
                        (5 | 6, Ok(text)) => insert.bind(text),
                        _ => insert.bind(text.to_vec()),
                    }
                }
            };
        }
        let _ = insert.execute(relay).await;
    }
}

/// The plan of one relay with these settings.
fn plan(settings: &str) -> RelayPlan {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("[relays.fuzz]\n{settings}\n")).unwrap();
    let mut loaded = settings::load(Some(file.path()), &BTreeMap::new()).unwrap();
    loaded.plan.relays.remove("fuzz").unwrap()
}

/// All parts of a relay, some refreshes of each, and the page that they make.
async fn read(plan: &RelayPlan) {
    let parts = relay::open(plan).unwrap();
    let (mut source, mut live) = (parts.directory, parts.live);
    let directory = source.read().await.unwrap_or_default();
    let live = match &mut live {
        Some(live) => live.read(&directory).await.ok(),
        None => None,
    };
    let with =
        Presentation { directory: Some(&directory), live: live.as_ref(), boards: &plan.boards, series: &plan.series };
    let ledger: Option<LedgerView> = match parts.usage {
        Usage::Rows(ledger) => {
            let mut follower = Follower::new(ledger, plan);
            let mut rest = follower.refresh().await;
            for _ in 0..10 {
                rest = match rest {
                    Ok(Backlog::History | Backlog::RecentHistory) => follower.read_history().await,
                    _ => follower.refresh().await,
                };
            }
            follower.view(&with)
        }
        Usage::Counters(mut counters) => {
            let mut meter = CounterState::default();
            for _ in 0..2 {
                if let Ok(reading) = counters.read(&directory).await {
                    meter.apply(reading);
                }
            }
            meter.view(&with)
        }
    };
    let view = View {
        relay: "fuzz".into(),
        kind: plan.product.label,
        names: plan.boards.names,
        ledger: ledger.map(Arc::new),
        live: live.map(Arc::new),
        directory: Some(Arc::new(directory)),
        sources: Vec::new(),
        probe: None,
        store: None,
    };
    let page = page::Page::new(vec![view], ExporterInfo::default());
    for format in [Format::Text, Format::OpenMetrics] {
        let text = std::str::from_utf8(page.bytes(format, Coding::Identity)).unwrap();
        // Nothing that was read begins a line of its own.
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("llm_relay_")), "{text}");
    }
}
