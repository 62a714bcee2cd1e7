//! A relay on a machine of one core and a gigabyte, with its database and the exporter: how long its inserts take before,
//! during and after the exporter's first reading.
//!
//! `cargo bench --bench small_machine` for 100 000 rows on all engines, `cargo bench --bench small_machine -- sqlite 10000000`
//! for more on one. The bench does not make the machine small: `systemd-run --scope -p AllowedCPUs=0 -p MemoryMax=1G` before it
//! does. Needs PostgreSQL and MariaDB.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    #[allow(dead_code)] // What other benches need.
    pub mod cpu;
    #[allow(dead_code)]
    pub mod exporter;
    pub mod new_api;
    pub mod table;
}
#[path = "../tests/it/new_api/database.rs"]
#[allow(dead_code)] // What the tests alone need.
mod database;
#[path = "../tests/it/db.rs"]
#[allow(dead_code)]
mod db;
#[path = "../tests/it/reading.rs"]
#[allow(dead_code)]
mod reading;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::exporter::Exporter;
use common::new_api::fill;
use common::table;
use database::{Db, Place, Row, people};
use tempfile::TempDir;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Inserts of the relay's: four times those of 100 000 requests a day.
const PAUSE: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(60);
/// The first reading is watched for so long.
const WATCH: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let rows: u64 = arguments.iter().find_map(|it| it.parse().ok()).unwrap_or(100_000);
    let engines = ["sqlite", "postgres", "mariadb"];
    let is_named = |engine: &str| arguments.iter().any(|it| it == engine);
    let all = !engines.into_iter().any(is_named);
    let mut figures = Vec::new();
    for engine in engines.into_iter().filter(|engine| all || is_named(engine)) {
        figures.extend(measure(engine, rows).await?);
    }
    let head = ["p50", "p95", "p99", "most", "resident exporter, at most"];
    table::print(&["rows", "the relay's inserts", head[0], head[1], head[2], head[3], head[4]], &figures);
    Ok(())
}

async fn measure(engine: &str, rows: u64) -> anyhow::Result<Vec<[String; 7]>> {
    let place = match engine {
        "postgres" => Place::postgres().await,
        "mariadb" => Place::mariadb().await,
        _ => Place::sqlite(),
    };
    let (mut db, url) = place.relay("relay").await;
    people(&mut db).await;
    fill(&mut db, rows).await;
    let inserts = Arc::<Mutex<Vec<Duration>>>::default();
    let relay = tokio::spawn(write(Db::connect(&url).await, inserts.clone()));
    let mut figures = Vec::new();
    let mut note = |when: String, exporter: Option<&Exporter>| {
        let [p50, p95, p99, most] = latencies(std::mem::take(&mut inserts.lock().unwrap()));
        let memory = exporter.map_or(String::new(), |exporter| format!("{:.0} MiB", exporter.memory()[1]));
        figures.push([format!("{engine}, {rows}"), when, p50, p95, p99, most, memory]);
    };
    sleep(WINDOW).await;
    note("before".to_owned(), None);
    let folder = TempDir::new()?;
    let store = format!("[store]\nurl = \"sqlite:{}\"", folder.path().join("store.db").display());
    let mut exporter = Exporter::start(folder.path(), "new-api", &url, &store)?;
    let read = match timeout(WATCH, exporter.wait_until_complete()).await {
        Ok(took) => format!("complete after {:.0?}", took?),
        Err(_) => format!("{} of it after {WATCH:.0?}", exporter.history_loaded()),
    };
    note(format!("during the first reading ({read})"), Some(&exporter));
    sleep(WINDOW).await;
    note("the minute after that".to_owned(), Some(&exporter));
    exporter.stop()?;
    relay.abort();
    Ok(figures)
}

/// The relay's log, row by row, on the beat.
async fn write(mut db: Db, inserts: Arc<Mutex<Vec<Duration>>>) {
    let mut beat = interval(PAUSE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let began = Instant::now();
        db.run(&Row::default().insert()).await;
        inserts.lock().unwrap().push(began.elapsed());
    }
}

fn latencies(mut inserts: Vec<Duration>) -> [String; 4] {
    inserts.sort_unstable();
    [0.5, 0.95, 0.99, 1.0].map(|share| {
        let index = (inserts.len().saturating_sub(1) as f64 * share) as usize;
        format!("{:.1} ms", inserts.get(index).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3))
    })
}
