//! Relays that write as they do, with as little patience as they have, and an exporter that reads all of their past.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::{Directory, ReadError, Reason};
use llm_relay_exporter::relay::{self, Product, Usage};
use llm_relay_exporter::relays::{cpa_manager, gemini_balance, new_api};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::reading::view;

/// How a relay writes its file.
struct Writer {
    product: &'static Product,
    schema: String,
    journal: SqliteJournalMode,
    /// For how many seconds each of its writers waits for a lock before it gives up what it has to write.
    patience: &'static [u64],
    /// Appends `{rows}` rows, one every two seconds, the last of them now.
    append: &'static str,
}

/// Rows of the past: `FIRST_READING_ROWS=2000000 cargo test --test it sqlite::first_reading` for a long one.
fn rows() -> u64 {
    std::env::var("FIRST_READING_ROWS").map_or(60_000, |rows| rows.parse().unwrap())
}

fn append(writer: &Writer, rows: u64) -> AssertSqlSafe<String> {
    let series = "with recursive n(n) as (select 1 union all select n + 1 from n where n < {rows})";
    AssertSqlSafe(writer.append.replace("{series}", series).replace("{rows}", &rows.to_string()))
}

async fn nothing_is_lost(writer: Writer) {
    let writer = Arc::new(writer);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.db");
    // Locks are what is looked at, not this machine's disk.
    let options = SqliteConnectOptions::new().filename(&path).synchronous(SqliteSynchronous::Off);
    let options = options.disable_statement_logging();
    let mut first = options.clone().create_if_missing(true).journal_mode(writer.journal).connect().await.unwrap();
    first.execute(AssertSqlSafe(writer.schema.clone())).await.unwrap();
    first.execute(append(&writer, rows())).await.unwrap();
    if writer.journal == SqliteJournalMode::Delete {
        an_open_read_is_in_the_way(&writer, &options).await;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let relays = writer.patience.iter().map(|patience| {
        let (writer, stop, options) =
            (Arc::clone(&writer), Arc::clone(&stop), options.clone().busy_timeout(Duration::from_secs(*patience)));
        tokio::spawn(async move { write_until(&stop, &writer, &options).await })
    });
    let relays: Vec<_> = relays.collect();
    let (mut exporter, plan) = first_reading(&writer, &path).await;
    let audit = async |exporter: &mut Follower| {
        read_all(exporter).await;
        view(exporter, &plan, &Directory::default())
    };
    // What is written while a day is summed up is no drift.
    for _ in 0..4 {
        assert_eq!(audit(&mut exporter).await.audit.unwrap().drift_requests, 0.0);
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for relay in relays {
        let (more, lost, slowest) = relay.await.unwrap();
        println!("{more} rows written, {lost} lost, the slowest took {slowest:?}");
        assert_eq!(lost, 0);
        written += more;
    }
    // And once more for the audit.
    audit(&mut exporter).await;
    let view = audit(&mut exporter).await;
    let counted: u64 = view.counters.unwrap().traffic.iter().flat_map(|it| it.requests).sum();
    assert_eq!((counted, view.audit.unwrap().drift_requests), (rows() + written, 0.0));
}

/// The control: with a rollback journal an open read is what makes writers fail, here after 100 ms of patience.
async fn an_open_read_is_in_the_way(writer: &Writer, options: &SqliteConnectOptions) {
    let mut impatient = options.clone().busy_timeout(Duration::from_millis(100)).connect().await.unwrap();
    let mut reader = options.connect().await.unwrap();
    reader.execute("begin; select count(*) from sqlite_schema").await.unwrap();
    assert!(impatient.execute(append(writer, 1)).await.is_err());
}

/// Writes row after row; tells how many there are, how many were lost, and how long the slowest took.
async fn write_until(stop: &AtomicBool, writer: &Writer, options: &SqliteConnectOptions) -> (u64, u64, Duration) {
    let mut relay = options.connect().await.unwrap();
    let (mut written, mut lost, mut slowest) = (0, 0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        match relay.execute(append(writer, 1)).await {
            Ok(_) => written += 1,
            Err(_) => lost += 1,
        }
        slowest = slowest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (written, lost, slowest)
}

/// Names, state and the whole ledger of a relay.
async fn first_reading(writer: &Writer, path: &Path) -> (Follower, RelayPlan) {
    let plan = RelayPlan {
        database_url: format!("sqlite:{}", path.display()).into(),
        timeout: Duration::from_secs(30),
        timezone: Some(chrono_tz::UTC),
        audit_interval: Duration::ZERO,
        ..RelayPlan::new("test", writer.product)
    };
    let mut relay = relay::open(&plan).unwrap();
    let Usage::Rows(ledger) = relay.usage else { unreachable!("the relay keeps rows") };
    let mut exporter = Follower::new(ledger, &plan);
    let began = Instant::now();
    let mut locked = 0;
    let directory = loop {
        match relay.directory.read().await {
            Ok(directory) => break directory,
            Err(error) => locked += was_locked(&error),
        }
    };
    while let Err(error) = relay.live.as_mut().unwrap().read(&directory).await {
        locked += was_locked(&error);
    }
    locked += read_all(&mut exporter).await;
    let took = began.elapsed();
    println!("{} rows read in {took:.1?}; {locked} times the relay held the lock for too long", rows());
    (exporter, plan)
}

/// Once: there is no other reason to fail, and the next read comes.
fn was_locked(error: &ReadError) -> u32 {
    assert_eq!(error.reason, Reason::Timeout, "{error}");
    1
}

/// Reads until nothing is left to read, again where the relay's lock was in the way; tells how often it was.
async fn read_all(exporter: &mut Follower) -> u32 {
    let (mut rest, mut locked) = (Backlog::NewRows, 0);
    while rest != Backlog::Nothing {
        let read = match rest {
            Backlog::NewRows => exporter.refresh().await,
            _ => exporter.read_history().await,
        };
        match read {
            Ok(next) => rest = next,
            Err(error) => locked += was_locked(&error),
        }
    }
    locked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_whole_past_costs_new_api_no_row() {
    nothing_is_lost(Writer {
        product: &new_api::NEW_API,
        schema: new_api::SQLITE_SCHEMA.to_owned(),
        journal: SqliteJournalMode::Delete,
        // new-api waits for five seconds, one-api for three, and then they give up what they have charged for.
        patience: &[5, 3],
        append: r#"{series} insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens,
              completion_tokens, use_time, is_stream, content, other)
            select unixepoch() - 2 * ({rows} - n), case when n % 50 = 0 then 5 else 2 end, 1 + n % 3, 1 + n % 3, 1 + n % 3, 'gpt-4o', n % 9000, 1000, 200, 4, 1,
              'model ratio 1.25, completion ratio 4, group ratio 1',
              '{"admin_info":{"use_channel":["1"]},"cache_ratio":0.5,"cache_tokens":600,"completion_ratio":4,"error_type":"openai_error","frt":105,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"status_code":500,"stream_status":{"end_reason":"done","status":"ok"}}'
            from n"#,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_whole_past_costs_gemini_balance_no_row() {
    nothing_is_lost(Writer {
        product: &gemini_balance::PRODUCT,
        schema: gemini_balance::SQLITE_SCHEMA.to_owned(),
        journal: SqliteJournalMode::Delete,
        // Python's default.
        patience: &[5, 5],
        append:
            "{series} insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
            select strftime('%Y-%m-%d %H:%M:%f000', 'now', (-2 * ({rows} - n)) || ' seconds'), 'gemini-2.5-pro',
              'AIzaSy' || (n % 20), 1, 200, 900 from n",
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_whole_past_costs_a_cpa_manager_no_row() {
    nothing_is_lost(Writer {
        product: &cpa_manager::PRODUCT,
        schema: cpa_manager::least_schema(cpa_manager::Level::Plus).collect::<Vec<_>>().join(";\n"),
        journal: SqliteJournalMode::Wal,
        // It has five seconds of it; beside its write-ahead log it needs none.
        patience: &[0],
        append: "{series} insert into usage_events (event_hash, timestamp_ms, timestamp, model, provider, auth_index, api_key_hash,
              input_tokens, output_tokens, total_tokens, raw_json, created_at_ms)
            select hex(randomblob(16)), unixepoch() * 1000 - 2000 * ({rows} - n), '', 'gpt-5-codex', 'codex', n % 7, 'k' || n % 50,
              10, 10, 20, hex(zeroblob(300)), unixepoch() * 1000 - 2000 * ({rows} - n) + 900 from n",
    })
    .await;
}
