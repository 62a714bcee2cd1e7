//! The exporter on a living demo relay, scraped as Prometheus scrapes it, while its sources come and go.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions, Urls};
use llm_relay_exporter::relays::claude_code_hub;
use llm_relay_exporter::relays::claude_code_hub::demo::SimulateOptions;
use llm_relay_exporter::serve;
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis};
use llm_relay_exporter::settings::{Plan, RelayPlan};
use llm_relay_exporter::web::Protection;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::exposition::{Dialect, parse, series};

/// An exporter in this process, refreshing every second.
pub struct Exporter {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

type Page = BTreeMap<(String, BTreeMap<String, String>), f64>;

impl Exporter {
    fn start(urls: &Urls) -> Self {
        let second = Duration::from_secs(1);
        let relay = RelayPlan {
            database_url: urls.database_url.clone(),
            redis_url: urls.redis_url.clone(),
            interval: second,
            directory_interval: second,
            stale_after: 3 * second,
            timeout: 5 * second,
            history_budget: 60 * second,
            ..RelayPlan::new("demo", &claude_code_hub::PRODUCT)
        };
        let plan = Plan { relays: BTreeMap::from([("demo".to_owned(), relay)]), store: None };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let protection = Protection::load(None).unwrap();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { serve::run(&plan, listener, "/metrics", protection, stop).await });
        Self { address, shutdown, running }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn page(&self) -> Page {
        let text = tokio::task::block_in_place(|| self.get("/metrics"));
        series(&parse(text.as_bytes(), Dialect::Text))
    }

    /// Waits until the page satisfies a condition; how long it took.
    async fn until(&self, what: &str, holds: impl Fn(&Page) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let page = self.page();
            if holds(&page) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn has(page: &Page, name: &str) -> bool {
    page.keys().any(|(found, _)| found == name)
}

fn value(page: &Page, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    page.iter()
        .find(|((found, all), _)| found == name && labels.iter().all(|(k, v)| all.get(*k).is_some_and(|it| it == v)))
        .map(|(_, value)| *value)
}

fn up(page: &Page, source: &str) -> f64 {
    value(page, "llm_relay_source_up", &[("source", source)]).unwrap()
}

fn total(page: &Page, name: &str) -> f64 {
    page.iter().filter(|((found, _), _)| found == name).map(|(_, value)| value).sum()
}

const FROM_LEDGER: [&str; 5] = [
    "llm_relay_day_requests",
    "llm_relay_requests_total",
    "llm_relay_request_duration_seconds_bucket",
    "llm_relay_leaderboard_cost_usd",
    "llm_relay_quota_used_usd",
];
const FROM_LIVE: [&str; 3] =
    ["llm_relay_sessions_active", "llm_relay_provider_slots_used", "llm_relay_provider_circuit_state"];
const FROM_DIRECTORY: [&str; 3] = ["llm_relay_user_info", "llm_relay_provider_enabled", "llm_relay_info"];

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_vanishes_alone_and_returns_by_itself() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let mut redis = PrivateRedis::start().await.unwrap();
    let urls = Urls {
        database_url: postgres.database("claude_code_hub").await.unwrap().into(),
        redis_url: Some(redis.url().into()),
    };
    let stop = CancellationToken::new();
    let simulate = SimulateOptions {
        urls: urls.clone(),
        init: true,
        history: HistoryOptions { days: 3, requests_per_day: 300, ..HistoryOptions::default() },
        simulator: SimulatorOptions { pace: Pace::Steady(20.0), ..SimulatorOptions::default() },
    };
    let traffic = tokio::spawn(claude_code_hub::demo::simulate(simulate, stop.clone()));
    let exporter = Exporter::start(&urls);
    let all_there =
        |page: &Page| [&FROM_LEDGER[..], &FROM_LIVE, &FROM_DIRECTORY].concat().iter().all(|it| has(page, it));
    exporter.until("everything is there", all_there).await;
    // The traffic would fail with its stores; what it wrote stays.
    stop.cancel();
    traffic.await.unwrap().unwrap();
    let before = exporter.page();
    assert_eq!(exporter.get("/readyz").lines().next(), Some("ready"));

    redis.stop();
    let gone = exporter.until("live state vanishes", |page| FROM_LIVE.iter().all(|name| !has(page, name))).await;
    println!("Redis stopped: its series vanished after {:.1} s (stale_after is 3 s)", gone.as_secs_f64());
    let page = exporter.page();
    assert_eq!((up(&page, "live"), up(&page, "ledger"), up(&page, "directory")), (0.0, 1.0, 1.0));
    assert!(FROM_LEDGER.iter().chain(&FROM_DIRECTORY).all(|name| has(&page, name)), "the rest goes on");
    assert!(total(&page, "llm_relay_refresh_failures_total") > 0.0);

    postgres.stop();
    let gone = exporter
        .until("ledger and directory vanish", |page| {
            FROM_LEDGER.iter().chain(&FROM_DIRECTORY).all(|name| !has(page, name))
        })
        .await;
    println!("PostgreSQL stopped: its series vanished after {:.1} s", gone.as_secs_f64());
    let page = exporter.page();
    assert_eq!((up(&page, "live"), up(&page, "ledger"), up(&page, "directory")), (0.0, 0.0, 0.0));
    assert!(!page.iter().any(|((name, _), value)| name == "llm_relay_sessions_active" && *value == 0.0));
    assert!(
        value(&page, "llm_relay_refresh_failures_total", &[("source", "ledger"), ("reason", "connection")]) > Some(0.0)
    );

    redis.restart().await.unwrap();
    postgres.restart().await.unwrap();
    let back = exporter.until("everything returns", all_there).await;
    println!("both started again: everything was back after {:.1} s", back.as_secs_f64());
    let page = exporter.page();
    assert_eq!((up(&page, "live"), up(&page, "ledger"), up(&page, "directory")), (1.0, 1.0, 1.0));
    for ((name, labels), old) in &before {
        if name.starts_with("llm_relay_requests_total") || name.starts_with("llm_relay_cost_usd_total") {
            assert!(page[&(name.clone(), labels.clone())] >= *old, "{name} {labels:?} fell");
        }
    }
    exporter.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_else_is_there() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let database_url = postgres.database("claude_code_hub").await.unwrap().into();
    let history = HistoryOptions { days: 2, requests_per_day: 200, ..HistoryOptions::default() };
    claude_code_hub::demo::create(&database_url, &history).await.unwrap();
    let exporter = Exporter::start(&Urls { database_url, redis_url: None });
    exporter.until("the ledger is read", |page| FROM_LEDGER.iter().all(|name| has(page, name))).await;
    let page = exporter.page();
    assert!(FROM_LIVE.iter().all(|name| !has(&page, name)));
    assert_eq!(value(&page, "llm_relay_source_up", &[("source", "live")]), None, "a source that is not configured");
    exporter.stop().await;
    postgres.stop();
}

/// A Prometheus that scrapes one target every second.
struct Prometheus {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = directory.path().join("prometheus.yml");
        std::fs::write(
            &config,
            format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: t, static_configs: [{{targets: ['{target}']}}]}}]\n"),
        )
        .unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, port, _directory: directory }
    }

    fn get(&self, path: &str) -> Option<serde_json::Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: t\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The value of a query that gives one number.
    fn query(&self, expression: &str) -> Option<f64> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"))?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_demo_and_its_rates_agree_with_the_ledger() {
    let environment = (claude_code_hub::PRODUCT.demo)(DemoOptions {
        history: HistoryOptions { days: 2, requests_per_day: 300, ..HistoryOptions::default() },
        simulator: SimulatorOptions { pace: Pace::Steady(40.0), ..SimulatorOptions::default() },
    })
    .await
    .unwrap();
    let exporter = Exporter::start(environment.urls());
    exporter.until("counters are there", |page| has(page, "llm_relay_requests_total")).await;
    let prometheus = Prometheus::start(exporter.address);
    let scraped = |n: f64| {
        let began = Instant::now();
        while prometheus.query("count_over_time(llm_relay_sessions_active[10m])").is_none_or(|count| count < n) {
            assert!(began.elapsed() < Duration::from_secs(90), "Prometheus does not scrape");
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    tokio::task::block_in_place(|| scraped(25.0));

    let targets = prometheus.get("/api/v1/targets").unwrap();
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["lastError"].as_str()), (Some("up"), Some("")));
    assert_eq!(prometheus.query("min_over_time(up[10m])"), Some(1.0), "never down, so no page was refused");

    // Rates times time against the counters' own difference, and the counters against the ledger.
    let rate = prometheus.query("sum(rate(llm_relay_requests_total[20s])) * 20").unwrap();
    let difference =
        prometheus.query("sum(llm_relay_requests_total) - sum(llm_relay_requests_total offset 20s)").unwrap();
    assert!(difference > 20.0, "the demo is alive");
    assert!((rate / difference - 1.0).abs() < 0.25, "rate says {rate}, the difference {difference}");
    for gauge in ["llm_relay_day_requests{day=\"today\"}", "llm_relay_day_cost_usd{day=\"today\"}"] {
        let risen = prometheus.query(&format!("{gauge} - {gauge} offset 20s")).unwrap();
        assert!(risen > 0.0, "{gauge} rises with the traffic, or midnight passed just now");
    }

    // When the traffic has stopped, page, Prometheus and ledger agree to the digit.
    let mut ledger =
        PgConnection::connect(secrecy::ExposeSecret::expose_secret(&environment.urls().database_url)).await.unwrap();
    sqlx::query("alter table message_request rename to message_request_stopped").execute(&mut ledger).await.unwrap();
    let finals: i64 = sqlx::query_scalar(
        "select count(*) from usage_ledger where blocked_by is null and not is_replay and (status_code is not null or success_rate_outcome is not null) \
         and (endpoint is null or lower(regexp_replace(endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact'))",
    )
    .fetch_one(&mut ledger)
    .await
    .unwrap();
    exporter.until("the last rows are counted", |page| total(page, "llm_relay_requests_total") == finals as f64).await;
    let began = Instant::now();
    tokio::task::block_in_place(|| {
        while prometheus.query("sum(llm_relay_requests_total)") != Some(finals as f64) {
            assert!(began.elapsed() < Duration::from_secs(20), "Prometheus has another number");
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    exporter.stop().await;
    environment.tear_down().await;
}
