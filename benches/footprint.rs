//! Memory and CPU of the release binary with a store, read from and scraped every 5 s: idle and at work, with few series
//! and with 100 000.
//!
//! `cargo bench --bench footprint`, or `-- small`, `-- middle`, `-- large` alone. Needs PostgreSQL.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
    pub mod exporter;
    pub mod ledger;
    pub mod relay;
}

use std::time::Duration;

use common::exporter::Exporter;
use common::ledger::{Ledger, Shape};
use common::relay::Relay;
use tempfile::TempDir;
use tokio::time::sleep;

const REFRESH: Duration = Duration::from_secs(5);
const LENGTH: Duration = Duration::from_secs(60);
/// Until the first requests have ended.
const SETTLING: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let a_day = 100_000.0 / 86_400.0;
    if wants("small") {
        println!("\n== small: 100 000 requests a day, one day of them, 20 users, 5 providers, 10 models");
        let shape =
            Shape { requests: 100_000, requests_per_day: 100_000, older: 0, users: 20, providers: 5, models: 10 };
        measure(shape, "", &[0.0, a_day, 100.0]).await?;
    }
    if wants("middle") {
        println!("\n== middle: 100 000 requests a day, ten days of them, 200 users, 30 providers, 40 models");
        let shape =
            Shape { requests: 1_000_000, requests_per_day: 100_000, older: 0, users: 200, providers: 30, models: 40 };
        measure(shape, "", &[a_day]).await?;
    }
    if wants("large") {
        println!(
            "\n== large: 1 000 000 requests a day, two days of them and 100 000 a day for five weeks before, 5000 users \
             with two keys each, all shown, 30 providers, 40 models"
        );
        let shape = Shape {
            requests: 2_000_000,
            requests_per_day: 1_000_000,
            older: 3_500_000,
            users: 5000,
            providers: 30,
            models: 40,
        };
        let series = "[relays.main.series]\nmax_users = 100000\nmax_keys = 100000";
        measure(shape, series, &[0.0, 10.0 * a_day]).await?;
    }
    Ok(())
}

async fn measure(shape: Shape, settings: &str, rates: &[f64]) -> anyhow::Result<()> {
    let ledger = Ledger::start(shape).await?;
    let url = ledger.reader("exporter").await?;
    let place = TempDir::new()?;
    let store = format!(
        "[relays.main.history]\nbudget = \"1m\"\n{settings}\n[store]\nurl = \"sqlite:{}\"",
        place.path().join("store.db").display()
    );
    let mut exporter = Exporter::start(place.path(), &url, &store)?;
    let complete = exporter.wait_until_complete().await?;
    let page = exporter.page().unwrap_or_default();
    let series = page.lines().filter(|line| line.starts_with("llm_relay_") || line.starts_with("process_")).count();
    let bytes = page.len() >> 10;
    exporter.keep_scraping(REFRESH);
    println!("first start {complete:.1?}; a page of {series} lines, {bytes} KiB; {}", memory(&exporter));
    for rate in rates {
        let relay = (*rate > 0.0).then(|| Relay::start(&ledger.pool, *rate));
        sleep(SETTLING).await;
        let before = exporter.cpu();
        sleep(LENGTH).await;
        let share = (exporter.cpu() - before).as_secs_f64() / LENGTH.as_secs_f64();
        let (text, percent, hourly) = (memory(&exporter), 100.0 * share, 3600.0 * share);
        println!("{rate:6.2} requests/s: {percent:6.2} % of a core, {hourly:5.0} s an hour; {text}");
        if let Some(relay) = relay {
            let written = relay.inserts().len() as f64 / (LENGTH + SETTLING).as_secs_f64();
            println!("  {written:.1} requests/s were written");
            relay.stop().await;
        }
    }
    exporter.stop()?;
    let mut exporter = Exporter::start(place.path(), &url, &store)?;
    let complete = exporter.wait_until_complete().await?;
    exporter.keep_scraping(REFRESH);
    sleep(LENGTH / 4).await;
    println!("restart with the store {complete:.2?}; {}", memory(&exporter));
    exporter.stop()
}

fn memory(exporter: &Exporter) -> String {
    let [now, most] = exporter.memory();
    format!("resident {now:.0} MiB, at most {most:.0} MiB")
}
