//! A relay that writes like gemini-balance, with a rollback journal, and readers beside it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llm_relay_exporter::connect::sqlite::File;
use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relays::gemini_balance::SQLITE_SCHEMA;
use sqlx::Executor;
use sqlx::sqlite::SqliteJournalMode;

use super::{place, reader};
use crate::process::{Process, value};

/// What docs/relays.md allows.
const READERS: usize = 4;
const ROWS: u32 = 100_000;
const WRITES: u32 = 100;

/// Begins the file with a history of today.
const HISTORY: &str = "
import sqlite3, sys
path, schema, rows = sys.argv[1:]
file = sqlite3.connect(path)
file.executescript(schema)
file.execute('''insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
    with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)
    select strftime('%Y-%m-%d %H:%M:%f000', 'now', ((i - ?) / 1000.0) || ' seconds'), 'gemini-2.5-pro',
        'AIzaSy' || (i % 20), 1, 200, 900 from n''', (int(rows), int(rows)))
file.commit()
";

/// Writes as gemini-balance v2.2.8 does: each row with a connection of its own that commits at once and waits for a lock
/// for five seconds, Python's default (`app/database/connection.py`; `databases`' backend for SQLite). Says how many rows
/// it lost.
const RELAY: &str = "
import sqlite3, sys, threading, random, time
path, writes = sys.argv[1], int(sys.argv[2])
lost = []
def work():
    for _ in range(writes // 5):
        try:
            file = sqlite3.connect(path, isolation_level=None)
            # Locks are what is looked at, not this machine's disk.
            file.execute('pragma synchronous = off')
            file.execute('''insert into t_request_log (request_time, model_name, api_key, is_success, status_code,
                latency_ms) values (strftime('%Y-%m-%d %H:%M:%f000', 'now'), 'gemini-2.5-pro', 'AIzaSy', 1, 200, 900)''')
            file.close()
        except sqlite3.OperationalError as error:
            lost.append(str(error))
        time.sleep(random.random() / 20)
workers = [threading.Thread(target=work) for _ in range(5)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(len(lost))
";

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3").args(["-c", script]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn as_many_exporters_as_are_allowed_cost_the_relay_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("default_db").display().to_string();
    python(HISTORY, &[&path, SQLITE_SCHEMA, &ROWS.to_string()]);
    let config = format!(
        "[relays.g]\nkind = \"gemini-balance\"\ndatabase_url = \"sqlite:{path}\"\ntimezone = \"UTC\"\ninterval = \"1s\"\nhistory.budget = \"60s\"\n"
    );
    let exporters: Vec<_> = (0..READERS).map(|_| Process::start(&config, &[])).collect();
    let loaded = |exporter: &Process| value(&exporter.page(), "llm_relay_history_loaded_ratio", &[]);
    for exporter in &exporters {
        exporter.until("it reads", |page| value(page, "llm_relay_history_loaded_ratio", &[]) > Some(0.0));
    }
    let lost = python(RELAY, &[&path, &WRITES.to_string()]);
    assert_eq!(lost.trim(), "0", "rows were lost");
    for exporter in &exporters {
        assert!(loaded(exporter).unwrap() < 1.0, "it had nothing to read meanwhile");
    }
}

/// However much there is to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn most_of_the_time_is_the_relays() {
    let (_dir, path, mut relay) = place(SqliteJournalMode::Delete).await;
    let fill = "insert into t (text) with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000) \
                select hex(randomblob(50)) from n";
    relay.execute(fill).await.unwrap();
    let ends = AtomicBool::new(false);
    let file = reader(&path);
    let reading = async {
        let mut reads = 0;
        while !ends.load(Ordering::Relaxed) {
            let mut snapshot = file.snapshot().await.unwrap();
            snapshot.fetch("reading", sqlx::query("select max(length(text)) from t")).await.unwrap();
            snapshot.close().await;
            reads += 1;
        }
        reads
    };
    let writing = async {
        let (mut free, mut busy) = (0, 0);
        let (least, longest) = (Instant::now() + Duration::from_secs(3), Instant::now() + Duration::from_secs(60));
        // A reader that does not rest never leaves the writer most of the time, however long this takes.
        let is_enough = |free, busy| Instant::now() > longest || Instant::now() > least && free > 3 * busy;
        while !is_enough(free, busy) {
            match relay.execute("begin exclusive").await {
                Ok(_) => {
                    relay.execute("rollback").await.unwrap();
                    free += 1;
                }
                Err(_) => busy += 1,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ends.store(true, Ordering::Relaxed);
        (free, busy)
    };
    let (reads, (free, busy)) = tokio::join!(reading, writing);
    assert!(reads > 1, "{reads} reads");
    assert!(free > 3 * busy, "{free} times free, {busy} times busy");
}

#[tokio::test]
async fn no_statement_outlasts_the_relays_patience() {
    let (_dir, path, _relay) = place(SqliteJournalMode::Delete).await;
    let file = File::new(&format!("sqlite:{}", path.display()).into(), Duration::from_secs(60), Duration::from_secs(1))
        .unwrap();
    let mut snapshot = file.snapshot().await.unwrap();
    let endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n";
    let began = Instant::now();
    let error = snapshot.fetch("counting for ever", sqlx::query(endless)).await.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout, "{}", error.text);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    snapshot.close().await;
}
