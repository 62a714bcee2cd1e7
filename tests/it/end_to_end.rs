//! The exporter on a living demo relay, scraped as Prometheus scrapes it, while its sources come and go.

use std::time::Duration;

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions, Urls};
use llm_relay_exporter::relays::claude_code_hub;
use llm_relay_exporter::relays::claude_code_hub::demo::SimulateOptions;
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis};
use llm_relay_exporter::settings::{Plan, RelayPlan};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::dashboards::prometheus::Prometheus;
use crate::process::{Page, Serving, ask, total, value};
use crate::wait::{found, until};

/// An exporter in this process, refreshing every second.
fn exporter(urls: &Urls) -> Serving {
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
    Serving::start(Plan { relays: [("demo".to_owned(), relay)].into(), store: None })
}

fn has(page: &Page, name: &str) -> bool {
    page.keys().any(|(found, _)| found == name)
}

fn up(page: &Page, source: &str) -> f64 {
    value(page, "llm_relay_source_up", &[("source", source)]).unwrap()
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
    let exporter = exporter(&urls);
    let all_there =
        |page: &Page| [&FROM_LEDGER[..], &FROM_LIVE, &FROM_DIRECTORY].concat().iter().all(|it| has(page, it));
    exporter.until("everything is there", all_there).await;
    // The traffic would fail with its stores; what it wrote stays.
    stop.cancel();
    traffic.await.unwrap().unwrap();
    let before = exporter.page();
    let (_, ready) = tokio::task::block_in_place(|| ask(exporter.address, "GET", "/readyz")).unwrap();
    assert_eq!(ready.lines().next(), Some("ready"));

    redis.stop();
    let gone = exporter.until("live state vanishes", |page| FROM_LIVE.iter().all(|name| !has(page, name))).await;
    println!("Redis stopped: its series vanished after {:.1} s (stale_after is 3 s)", gone.as_secs_f64());
    exporter
        .until("the rest goes on", |page| {
            (up(page, "live"), up(page, "ledger"), up(page, "directory")) == (0.0, 1.0, 1.0)
                && FROM_LEDGER.iter().chain(&FROM_DIRECTORY).all(|name| has(page, name))
        })
        .await;
    assert!(total(&exporter.page(), "llm_relay_refresh_failures_total", "demo") > 0.0);

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
    let exporter = exporter(&Urls { database_url, redis_url: None });
    exporter.until("the ledger is read", |page| FROM_LEDGER.iter().all(|name| has(page, name))).await;
    let page = exporter.page();
    assert!(FROM_LIVE.iter().all(|name| !has(&page, name)));
    assert_eq!(value(&page, "llm_relay_source_up", &[("source", "live")]), None, "a source that is not configured");
    exporter.stop().await;
    postgres.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_demo_and_its_rates_agree_with_the_ledger() {
    let environment = (claude_code_hub::PRODUCT.demo)(DemoOptions {
        history: HistoryOptions { days: 2, requests_per_day: 300, ..HistoryOptions::default() },
        simulator: SimulatorOptions { pace: Pace::Steady(40.0), ..SimulatorOptions::default() },
    })
    .await
    .unwrap();
    let exporter = exporter(environment.urls());
    exporter.until("counters are there", |page| has(page, "llm_relay_requests_total")).await;
    let prometheus = tokio::task::block_in_place(|| Prometheus::scraping(exporter.address, ""));
    let number = |expression: &str| tokio::task::block_in_place(|| prometheus.number(expression));
    let scraped = "count_over_time(llm_relay_sessions_active[10m])";
    until("Prometheus scrapes", async || {
        let target = &prometheus.get("targets")["activeTargets"][0];
        // A page that is late, on a machine that stands still, is none that was refused.
        let error = target["lastError"].as_str().unwrap_or_default();
        assert!(error.is_empty() || error.contains("deadline exceeded"), "{error}");
        number(scraped) >= Some(25.0) && target["health"] == "up"
    })
    .await;

    // Rates times time against the counters' own difference, and the counters against the ledger.
    // A scrape that is late, on a machine that stands still, is late for 20 seconds.
    found("the rate is that of the counters, and the demo alive", async || {
        let rate = number("sum(rate(llm_relay_requests_total[20s])) * 20").unwrap_or_default();
        let difference = "sum(llm_relay_requests_total) - sum(llm_relay_requests_total offset 20s)";
        let difference = number(difference).unwrap_or_default();
        let agree = difference > 20.0 && (rate / difference - 1.0).abs() < 0.25;
        agree.then_some(()).ok_or((rate, difference))
    })
    .await;
    let midnight_passed = prometheus.number("changes(llm_relay_day_start_timestamp_seconds[1m]) > 0").is_some();
    for gauge in ["llm_relay_day_requests{day=\"today\"}", "llm_relay_day_cost_usd{day=\"today\"}"] {
        let risen = prometheus.number(&format!("{gauge} - {gauge} offset 20s")).unwrap();
        assert!(risen > 0.0 || midnight_passed, "{gauge} rises with the traffic");
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
    exporter
        .until("the last rows are counted", |page| total(page, "llm_relay_requests_total", "demo") == finals as f64)
        .await;
    let sum = "sum(llm_relay_requests_total)";
    until("Prometheus has the same number", async || number(sum) == Some(finals as f64)).await;
    exporter.stop().await;
    environment.tear_down().await;
}
