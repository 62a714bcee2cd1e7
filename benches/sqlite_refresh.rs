//! A steady refresh of a CPA-Manager's file of 200 000 rows: what it costs, and that the manager never waits for it.
//!
//! `cargo bench --bench sqlite_refresh`
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod table;
}

use std::time::{Duration, Instant};

use chrono::Utc;
use common::table;
use llm_relay_exporter::exporter_info::Process;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relay::{self, RefreshRequest, Relay, Usage};
use llm_relay_exporter::relays::cpa_manager::{self, Level, least_schema};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, SqliteConnection};

const ROWS: i64 = 200_000;
const ROUNDS: u32 = 500;
/// Rows that are new in a refresh, and rows that are looked at again.
const NEW: i64 = 20;
const AGAIN: i64 = 100;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("usage.sqlite");
    // The manager, without any patience: whoever stands in its way ends the bench.
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).busy_timeout(Duration::ZERO);
    let mut manager = options.journal_mode(SqliteJournalMode::Wal).disable_statement_logging().connect().await?;
    for script in least_schema(Level::Plus) {
        manager.execute(script).await?;
    }
    write(&mut manager, ROWS).await?;

    let Relay { usage, live, mut directory } = relay::open(&plan(format!("sqlite:{}", path.display())))?;
    let (Usage::Rows(mut ledger), Some(mut live)) = (usage, live) else { anyhow::bail!("a file of rows") };
    let ask = RefreshRequest {
        after: Some(ROWS - NEW),
        limit: 20_000,
        reread: (ROWS - NEW - AGAIN + 1..=ROWS - NEW).collect(),
        ..RefreshRequest::default()
    };
    let names = directory.read().await?;
    ledger.refresh(&ask).await?;
    live.read(&Directory::default()).await?;

    let mut figures = Vec::new();
    for what in ["ledger", "live state", "names, every 30 s"] {
        let mut times = Vec::new();
        let before = cpu();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            match what {
                "ledger" => anyhow::ensure!(ledger.refresh(&ask).await?.rows.len() as i64 == NEW + AGAIN),
                "live state" => drop(live.read(&names).await?),
                _ => drop(directory.read().await?),
            }
            times.push(began.elapsed());
        }
        let each = (cpu() - before) * 1e3 / f64::from(ROUNDS);
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64() * 1e3;
        figures.push([what.to_owned(), format!("{median:.2} ms"), format!("{each:.2} ms")]);
    }
    table::print(&["", "median by the clock", "processor time, the exporter's own work included"], &figures);

    // While the manager writes without a pause. A write that is refused is an error here.
    let writing = tokio::spawn(async move {
        for _ in 0..1_000 {
            write(&mut manager, 1).await?;
        }
        // With the last connection SQLite removes the log that a refresh reads: the manager stays until that has ended.
        anyhow::Ok(manager)
    });
    let mut refreshes = 0;
    while !writing.is_finished() {
        ledger.refresh(&ask).await?;
        live.read(&names).await?;
        refreshes += 1;
    }
    drop(writing.await??);
    println!("1000 writes without patience beside {refreshes} refreshes: none was refused");
    Ok(())
}

fn cpu() -> f64 {
    Process::read().cpu_seconds.unwrap_or(f64::NAN)
}

/// Appends events, one a second, the last of them now.
async fn write(manager: &mut SqliteConnection, rows: i64) -> sqlx::Result<()> {
    let now = Utc::now().timestamp_millis();
    let events = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {rows})
         insert into usage_events (event_hash, timestamp_ms, timestamp, model, provider, auth_index, api_key_hash,
           input_tokens, output_tokens, total_tokens, raw_json, created_at_ms)
         select hex(randomblob(16)), {now} - ({rows} - i) * 1000, '', 'gpt-5-codex', 'codex', i % 7, 'k' || i % 50, 10, 10,
           20, hex(zeroblob(300)), {now} - ({rows} - i) * 1000 + 900 from n"
    );
    manager.execute(AssertSqlSafe(events)).await.map(drop)
}

fn plan(database_url: String) -> RelayPlan {
    let second = Duration::from_secs(1);
    RelayPlan {
        database_url: database_url.into(),
        interval: second,
        directory_interval: second,
        timeout: 30 * second,
        timezone_fallback: chrono_tz::UTC,
        history_budget: second,
        ..RelayPlan::new("bench", &cpa_manager::PRODUCT)
    }
}
