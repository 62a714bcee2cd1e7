//! Exporters killed at random moments, with `kill -9`, while a relay is busy. `STORE_KILLS=300` kills more often; then
//! the ledger is held against plain SQL every 25 lives, in a pause of the traffic.

use std::time::{Duration, Instant};

use llm_relay_exporter::demo::history::HistoryOptions;
use llm_relay_exporter::demo::simulator::SimulatorOptions;
use llm_relay_exporter::demo::{self, SimulateOptions, Urls};
use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::store::server;
use crate::store_process::{Counters, Process, assert_none_fell, equals_plain_sql};

/// Lives between two comparisons with plain SQL.
const ROUND: u32 = 25;

/// A relay's traffic until it is told to stop.
struct Traffic {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Traffic {
    fn start(url: &str, init: bool) -> Self {
        let options = SimulateOptions {
            urls: Urls { database_url: url.to_owned().into(), redis_url: None },
            init,
            history: HistoryOptions { days: 3, requests_per_day: 1500, ..HistoryOptions::default() },
            simulator: SimulatorOptions { rate: 20.0, seed: rand::rng().random(), ..SimulatorOptions::default() },
        };
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(demo::simulate(options, stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn survives(name: &str, store: &str) {
    let url = server().await.database(name).await.unwrap();
    let kills: u32 = std::env::var("STORE_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let mut last = Counters::new();
    let (mut lives, mut scrapes, mut silent, mut rounds) = (0, 0_u64, 0, 0);
    while lives < kills {
        let traffic = Traffic::start(&url, lives == 0);
        for _ in 0..ROUND.min(kills - lives) {
            // Half of them end while they start, perhaps before they have said anything; the others at work.
            let process = Process::start(&url, Some(store)).await;
            let before = scrapes;
            let (at_work, mut left) = (lives == 0 || rand::rng().random(), rand::rng().random_range(0..1500_u64));
            let patience = Instant::now() + Duration::from_secs(60);
            while left > 0 {
                if let Some(now) = process.counters().await {
                    assert_none_fell(&last, &now);
                    last = now;
                    scrapes += 1;
                }
                if Instant::now() > patience {
                    panic!("an exporter shows no counters for a minute:\n{}", process.sources().await);
                }
                let pause = left.min(10);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                left -= if at_work && scrapes == before { 0 } else { pause };
            }
            process.kill().await;
            silent += u32::from(scrapes == before);
            lives += 1;
        }
        traffic.stop().await;
        last = holds(&url, store, &last).await;
        rounds += 1;
        println!("{name}: {lives} kills, and it says what plain SQL says");
    }
    assert!(scrapes > u64::from(kills), "only {scrapes} pages were seen");
    println!("{name}: {kills} kills, {silent} of them before a page was seen, {scrapes} pages, {rounds} comparisons");
}

/// The next one goes on from the store and says the same as one that begins anew and as plain SQL.
async fn holds(url: &str, store: &str, last: &Counters) -> Counters {
    let restarted = Process::start(url, Some(store)).await;
    let afresh = Process::start(url, None).await;
    // Two refreshes later everything has been read.
    let deadline = Instant::now() + Duration::from_secs(30);
    let now = loop {
        let (ours, theirs) = (restarted.counters().await, afresh.counters().await);
        if let Some(ours) = &ours
            && theirs.as_ref() == Some(ours)
        {
            break ours.clone();
        }
        let different = || {
            let (ours, theirs) = (ours.clone().unwrap_or_default(), theirs.clone().unwrap_or_default());
            let all: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).cloned().collect();
            let all = all.into_iter().map(|series| (ours.get(&series).copied(), theirs.get(&series).copied(), series));
            all.filter(|(ours, theirs, _)| ours != theirs).collect::<Vec<_>>()
        };
        assert!(Instant::now() < deadline, "restarted and afresh differ: {:#?}", different());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_none_fell(last, &now);
    equals_plain_sql(url, &now).await;
    restarted.kill().await;
    afresh.kill().await;
    now
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_an_exporter_with_a_file_loses_nothing_and_counts_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    survives("kill_sqlite", &format!("sqlite:{}", directory.path().join("store.db").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_an_exporter_with_postgres_loses_nothing_and_counts_nothing_twice() {
    let store = server().await.database("kill_store").await.unwrap();
    survives("kill_postgres", &store).await;
}
