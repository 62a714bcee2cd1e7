//! Exporters killed at random moments, with `kill -9`, while a relay is busy. `STORE_KILLS=100` kills more often.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::history::HistoryOptions;
use llm_relay_exporter::demo::simulator::SimulatorOptions;
use llm_relay_exporter::demo::{self, SimulateOptions, Urls};
use llm_relay_exporter::metrics::{CATALOGUE, Kind};
use llm_relay_exporter::serve;
use llm_relay_exporter::settings::{Plan, StorePlan};
use rand::Rng;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::claude_code_hub::plan;
use crate::store::server;

const DATABASE: &str = "STORE_TEST_DATABASE";
const STORE: &str = "STORE_TEST_STORE";
const LISTENING: &str = "listening on ";

/// What a process counts of itself, and what it has seen change, which another one may find changed already.
const OF_A_PROCESS: [&str; 7] = [
    "llm_relay_refresh_",
    "llm_relay_rows_read_",
    "llm_relay_store_",
    "llm_relay_series_limited_",
    "llm_relay_ledger_corrections_",
    "llm_relay_unpriced_requests_",
    "process_",
];

/// The exporter of the tests below, which run it in a process of its own; alone it does nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the exporter that the other tests kill"]
async fn exporter() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let mut relay = plan(&database, None);
    relay.interval = Duration::from_millis(100);
    relay.audit_interval = Duration::from_secs(1);
    let save_interval = Duration::from_millis(150);
    let store = std::env::var(STORE).ok().map(|url| StorePlan { save_interval, ..StorePlan::new(url) });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    let plan = Plan { relays: [(relay.name.clone(), relay)].into(), store };
    let open = llm_relay_exporter::web::Protection::load(None).unwrap();
    serve::run(&plan, listener, "/metrics", open, CancellationToken::new()).await.unwrap();
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    async fn start(database: &str, store: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store_kill::exporter", "--ignored", "--nocapture"]);
        command.env(DATABASE, database).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(store) = store {
            command.env(STORE, store);
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the exporter has ended");
            if let Some((_, address)) = line.split_once(LISTENING) {
                return Self { child, address: address.to_owned() };
            }
        }
    }

    /// Its counters over the ledger, by series; `None` while it has none.
    async fn counters(&self) -> Option<BTreeMap<String, f64>> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let families: Vec<_> = CATALOGUE
            .iter()
            .filter(|metric| metric.kind == Kind::Counter && !OF_A_PROCESS.iter().any(|it| metric.name.starts_with(it)))
            .map(|metric| format!("{}{{", metric.name))
            .collect();
        let counters: BTreeMap<_, _> = answer
            .lines()
            .filter(|line| families.iter().any(|family| line.starts_with(family)))
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
            .collect();
        (!counters.is_empty()).then_some(counters)
    }

    /// SIGKILL.
    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn assert_none_fell(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, value) in before {
        let now = now.get(series).unwrap_or_else(|| panic!("{series} has gone"));
        // A sum of dollars is exact, its float is not.
        assert!(*now >= value - 1e-9, "{series} fell from {value} to {now}");
    }
}

async fn survives(name: &str, store: &str) {
    let url = server().await.database(name).await.unwrap();
    let options = SimulateOptions {
        urls: Urls { database_url: url.clone().into(), redis_url: None },
        init: true,
        history: HistoryOptions { days: 3, requests_per_day: 1500, ..HistoryOptions::default() },
        simulator: SimulatorOptions { rate: 60.0, ..SimulatorOptions::default() },
    };
    let stop = CancellationToken::new();
    let traffic = tokio::spawn(demo::simulate(options, stop.clone()));
    let kills = std::env::var("STORE_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let mut last = BTreeMap::new();
    let mut scrapes = 0;
    for life in 0..kills {
        // The first one lives until it has read the history; some end before they have said anything.
        let end = Instant::now() + Duration::from_millis(rand::rng().random_range(50..2500));
        let process = Process::start(&url, Some(store)).await;
        while Instant::now() < end || (life == 0 && scrapes < 20) {
            if let Some(now) = process.counters().await {
                assert_none_fell(&last, &now);
                last = now;
                scrapes += 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        process.kill().await;
    }
    assert!(scrapes > 20, "only {scrapes} pages were seen");

    stop.cancel();
    traffic.await.unwrap().unwrap();
    let restarted = Process::start(&url, Some(store)).await;
    let afresh = Process::start(&url, None).await;
    // Two refreshes later everything has been read.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let (ours, theirs) = (restarted.counters().await, afresh.counters().await);
        if let Some(ours) = &ours
            && theirs.as_ref() == Some(ours)
        {
            last.clone_from(ours);
            break;
        }
        let different = || {
            let (ours, theirs) = (ours.clone().unwrap_or_default(), theirs.clone().unwrap_or_default());
            let all: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).cloned().collect();
            let all = all.into_iter().map(|series| (ours.get(&series).copied(), theirs.get(&series).copied(), series));
            all.filter(|(ours, theirs, _)| ours != theirs).collect::<Vec<_>>()
        };
        assert!(Instant::now() < deadline, "restarted and afresh differ: {:#?}", different());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    equals_plain_sql(&url, &last).await;
    restarted.kill().await;
    afresh.kill().await;
}

async fn equals_plain_sql(url: &str, counters: &BTreeMap<String, f64>) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for (label, column) in [("user_id", "user_id"), ("provider_id", "final_provider_id")] {
        let (requests, cost) = match label {
            "user_id" => ("llm_relay_user_requests_total", "llm_relay_user_cost_usd_total"),
            _ => ("llm_relay_requests_total", "llm_relay_cost_usd_total"),
        };
        let sql = format!(
            "select {column}::bigint, count(*)::float8, sum(cost_usd)::float8 from usage_ledger
             where status_code is not null and blocked_by is null and not is_replay group by 1"
        );
        let rows = connection.fetch_all(AssertSqlSafe(sql)).await.unwrap();
        assert!(rows.len() > 3);
        for row in rows {
            let label = format!("{label}=\"{}\"", row.get::<i64, _>(0));
            let sum = |name: &str| -> f64 {
                let of =
                    |(series, _): &(&String, &f64)| series.starts_with(&format!("{name}{{")) && series.contains(&label);
                counters.iter().filter(of).map(|(_, value)| value).sum()
            };
            assert_eq!(sum(requests), row.get::<f64, _>(1), "requests of {label}");
            assert!((sum(cost) - row.get::<f64, _>(2)).abs() < 1e-6, "cost of {label}");
        }
    }
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
