//! The demo's CPA-Manager: believable, alive, and gone without a trace.

use std::time::{Duration, Instant};

use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{AccountState, Directory};
use llm_relay_exporter::relay;
use llm_relay_exporter::relays::cpa_manager;
use secrecy::ExposeSecret;

use super::relay::{Relay, read_all, view};
use crate::reading::rows_of;
use crate::wait::PATIENCE;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_needs_no_server_and_leaves_nothing() {
    let history = HistoryOptions { days: 3, requests_per_day: 1000, ..HistoryOptions::default() };
    let simulator = SimulatorOptions {
        pace: Pace::Steady(40.0),
        trouble_period: Duration::from_secs(2),
        ..SimulatorOptions::default()
    };
    let environment = (cpa_manager::PRODUCT.demo)(DemoOptions { history, simulator }).await.unwrap();
    let mut plan = Relay::new(cpa_manager::Level::Plus, "Asia/Shanghai", chrono::Utc::now()).await.plan.clone();
    plan.database_url = environment.urls().database_url.clone();
    plan.audit_interval = Duration::from_secs(60);
    let mut relay = relay::open(&plan).unwrap();
    let mut follower = Follower::new(rows_of(relay.usage), &plan);
    read_all(&mut follower).await;
    let directory = relay.directory.read().await.unwrap();
    let first = view(&mut follower, &plan, &directory);

    // Believable: some failures, money, several of everything, names.
    let counters = first.counters.as_ref().unwrap();
    let requests: u64 = counters.traffic.iter().flat_map(|it| it.requests).sum();
    let failures: u64 = counters.failures.iter().map(|(_, _, count)| count).sum();
    assert!(requests > 600 && failures > 10 && failures * 5 < requests, "{failures} of {requests} fail");
    assert!(counters.traffic.iter().filter_map(|it| it.cost_usd).sum::<f64>() > 1.0);
    assert!(counters.latency.iter().any(|it| it.ttft.count() > 0) && counters.keys.iter().count() > 5);
    assert!(directory.providers.len() > 4 && directory.keys.iter().any(|key| key.name == "alice macbook"));
    assert_eq!(counters.imported, Some(0));
    assert_eq!(first.days.len(), 3);

    // Alive.
    let began = Instant::now();
    loop {
        read_all(&mut follower).await;
        let now = view(&mut follower, &plan, &directory);
        let live = relay.live.as_mut().unwrap().read(&Directory::default()).await.unwrap();
        let more: u64 = now.counters.as_ref().unwrap().traffic.iter().flat_map(|it| it.requests).sum();
        // A credential was switched off for a while, and is on again.
        let is_back = live.accounts.iter().any(|(_, state)| *state == AccountState::Normal);
        if more > requests + 10 && is_back && !live.subscriptions.is_empty() && !live.plans.is_empty() {
            assert!(live.collector.unwrap().delay_seconds.unwrap() < 60.0);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "nothing happens: {requests}, then {more}; {live:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let report = check::check(&plan).await.unwrap();
    assert!(report.worst() < Level::Problem, "{report}");

    let path = environment.urls().database_url.expose_secret().strip_prefix("sqlite:").unwrap().to_owned();
    let home = std::path::Path::new(&path).parent().unwrap();
    assert!(home.exists());
    environment.tear_down().await;
    assert!(!home.exists());
}
