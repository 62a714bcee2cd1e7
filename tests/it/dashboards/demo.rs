//! The demo's relays with everything that happens on them, read by one exporter, scraped by a Prometheus every second.

use std::time::{Duration, Instant};

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, SimulatorOptions};
use llm_relay_exporter::relay::demo::set_up;
use llm_relay_exporter::relays::PRODUCTS;

use super::prometheus::{Prometheus, Span, hurried};
use crate::process::Process;

pub const SPAN: Span = Span { seconds: 60, step: 5, rate_interval: "20s", compare: "10s" };

/// With half a minute of samples, in which requests failed, and nobody there any more. Each relay goes by the label of its
/// kind. The shipped rules and alerts are evaluated.
pub async fn scraped() -> Prometheus {
    let environments = set_up(
        &DemoOptions {
            history: HistoryOptions { days: 3, requests_per_day: 600, ..HistoryOptions::default() },
            simulator: SimulatorOptions {
                pace: Pace::Steady(20.0),
                trouble_period: Duration::from_secs(15),
                ..SimulatorOptions::default()
            },
        },
        PRODUCTS,
    )
    .await
    .unwrap();
    assert_eq!(environments.len(), PRODUCTS.len(), "a relay of the demo cannot run here");
    let (store, rules) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config =
        format!("[store]\nurl = \"sqlite:{}\"\nsave_interval = \"1s\"\n", store.path().join("store.db").display());
    for (product, environment) in &environments {
        let label = product.label;
        config += &format!(
            "[relays.{label}]\nkind = \"{label}\"\ninterval = \"1s\"\ndirectory_interval = \"1s\"\nstale_after = \"30s\"\n"
        );
        environment.urls().settings().for_each(|(path, url)| config += &format!("{path} = \"{url}\"\n"));
    }
    let exporter = Process::start(&config, &[]);
    let config = format!(
        "global: {{scrape_interval: 1s}}\n{}\
         scrape_configs: [{{job_name: llm-relay, static_configs: [{{targets: ['{}']}}]}}]\n",
        hurried(rules.path()),
        exporter.address
    );
    let prometheus = tokio::task::block_in_place(|| {
        let mut prometheus = Prometheus::start(tempfile::tempdir().unwrap(), &config);
        // One moment at which everything had been scraped: on a busy machine the next scrape may fail.
        // claude-relay-service has no ledger to audit.
        let (relays, sources, audited) = (PRODUCTS.len(), 3 * PRODUCTS.len(), PRODUCTS.len() - 1);
        let ready = format!(
            "count(count by (relay) (count_over_time(llm_relay_requests_total[10m]) >= 25)) == {relays} \
             and count(llm_relay_source_up == 1) == {sources} \
             and count(llm_relay_audit_last_run_timestamp_seconds) == {audited} and on () llm_relay_queue_waiting \
             and on () llm_relay_rate_limit_reset_timestamp_seconds"
        );
        let began = Instant::now();
        while prometheus.now.is_none() {
            assert!(began.elapsed() < Duration::from_secs(240), "waited in vain for {ready}");
            std::thread::sleep(Duration::from_millis(500));
            let now = prometheus.time();
            prometheus.now = (!prometheus.instant_at(&ready, now).unwrap().is_empty()).then_some(now);
        }
        prometheus
    });
    drop(exporter);
    for (_, environment) in environments {
        environment.tear_down().await;
    }
    prometheus
}
