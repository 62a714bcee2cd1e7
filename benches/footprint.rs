//! Memory and CPU of the release binary with a store, read from and scraped every 5 s: idle and at work, with few series
//! and with 100 000.
//!
//! `cargo bench --bench footprint`, or `-- small`, `-- middle`, `-- large` alone. Needs PostgreSQL.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
    #[allow(dead_code)] // What other benches need.
    pub mod exporter;
    pub mod ledger;
    pub mod relay;
    pub mod table;
}

use std::time::Duration;

use common::exporter::Exporter;
use common::ledger::{Ledger, Shape};
use common::relay::Relay;
use common::table;
use tempfile::TempDir;
use tokio::time::sleep;

const KIND: &str = "claude-code-hub";
const REFRESH: Duration = Duration::from_secs(5);
const LENGTH: Duration = Duration::from_secs(60);
/// Until the first requests have ended.
const SETTLING: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let a_day = 100_000.0 / 86_400.0;
    let mut figures = Vec::new();
    if wants("small") {
        let shape =
            Shape { requests: 100_000, requests_per_day: 100_000, older: 0, users: 20, providers: 5, models: 10 };
        let name = "small: 20 users, 5 providers, 10 models, one day of history";
        let traffic = [("idle", 0.0), ("100 000 a day", a_day), ("100 a second", 100.0)];
        figures.extend(measure(name, shape, "", &traffic).await?);
    }
    if wants("middle") {
        let shape =
            Shape { requests: 1_000_000, requests_per_day: 100_000, older: 0, users: 200, providers: 30, models: 40 };
        let name = "middle: 200 users, 400 keys, 30 providers, 40 models, ten days of history";
        figures.extend(measure(name, shape, "", &[("100 000 a day", a_day)]).await?);
    }
    if wants("large") {
        let shape = Shape {
            requests: 2_000_000,
            requests_per_day: 1_000_000,
            older: 3_500_000,
            users: 5000,
            providers: 30,
            models: 40,
        };
        let series = "[relays.main.series]\nmax_users = 100000\nmax_keys = 100000";
        let name = "large: 5 000 users, 10 000 keys, all shown, 1 M requests a day for two days, five weeks of history";
        figures.extend(measure(name, shape, series, &[("idle", 0.0), ("1 M a day", 10.0 * a_day)]).await?);
    }
    table::print(&["relay", "traffic", "CPU of one core", "per hour", "resident now, at most"], &figures);
    Ok(())
}

/// `traffic` are rates by the second, with their names.
async fn measure(
    name: &str,
    shape: Shape,
    settings: &str,
    traffic: &[(&str, f64)],
) -> anyhow::Result<Vec<[String; 5]>> {
    let ledger = Ledger::start(shape).await?;
    let url = ledger.reader("exporter").await?;
    let place = TempDir::new()?;
    let store = format!(
        "[relays.main.history]\nbudget = \"1m\"\n{settings}\n[store]\nurl = \"sqlite:{}\"",
        place.path().join("store.db").display()
    );
    let mut exporter = Exporter::start(place.path(), KIND, &url, &store)?;
    let complete = exporter.wait_until_complete().await?;
    let page = exporter.page().unwrap_or_default();
    let lines = page.lines().filter(|line| !line.starts_with('#')).count();
    exporter.keep_scraping(REFRESH);
    let named = format!("{name}, a page of {lines} lines");
    let first = format!("the first reading, complete after {complete:.1?}");
    let mut figures = vec![[named, first, String::new(), String::new(), memory(&exporter)]];
    for (traffic, rate) in traffic {
        let relay = (*rate > 0.0).then(|| Relay::start(&ledger.pool, *rate));
        sleep(SETTLING).await;
        let before = exporter.cpu();
        sleep(LENGTH).await;
        let share = (exporter.cpu() - before).as_secs_f64() / LENGTH.as_secs_f64();
        let (percent, hourly) = (format!("{:.2} %", 100.0 * share), format!("{:.0} s", 3600.0 * share));
        figures.push([String::new(), (*traffic).to_owned(), percent, hourly, memory(&exporter)]);
        if let Some(relay) = relay {
            let written = relay.inserts().len() as f64 / (LENGTH + SETTLING).as_secs_f64();
            println!("{name}: {written:.1} requests a second were written");
            relay.stop().await;
        }
    }
    exporter.stop()?;
    let mut exporter = Exporter::start(place.path(), KIND, &url, &store)?;
    let complete = exporter.wait_until_complete().await?;
    exporter.keep_scraping(REFRESH);
    sleep(LENGTH / 4).await;
    let restart = format!("after a restart with the store, complete after {complete:.2?}");
    figures.push([String::new(), restart, String::new(), String::new(), memory(&exporter)]);
    exporter.stop()?;
    Ok(figures)
}

fn memory(exporter: &Exporter) -> String {
    let [now, most] = exporter.memory();
    format!("{now:.0}, {most:.0} MiB")
}
