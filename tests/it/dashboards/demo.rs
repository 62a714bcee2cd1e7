//! The demo relay with everything that happens on it, read by the exporter, scraped by a Prometheus every second.

use std::time::{Duration, Instant};

use llm_relay_exporter::demo::history::HistoryOptions;
use llm_relay_exporter::demo::simulator::SimulatorOptions;
use llm_relay_exporter::demo::{DemoOptions, Stage};
use llm_relay_exporter::settings::StorePlan;

use super::prometheus::{Prometheus, Span};
use crate::end_to_end::Exporter;

pub const SPAN: Span = Span { seconds: 60, step: 5, rate_interval: "20s", compare: "10s" };

pub struct Demo {
    stage: Stage,
    exporter: Exporter,
    pub prometheus: Prometheus,
    _store: tempfile::TempDir,
}

impl Demo {
    /// With a minute of samples, in which requests failed, and now with a circuit open for a while to come.
    pub async fn start() -> Self {
        let stage = Stage::set_up(DemoOptions {
            history: HistoryOptions { days: 3, requests_per_day: 600, ..HistoryOptions::default() },
            simulator: SimulatorOptions {
                rate: 40.0,
                trouble_period: Duration::from_secs(40),
                ..SimulatorOptions::default()
            },
        })
        .await
        .unwrap();
        let store = tempfile::tempdir().unwrap();
        let kept = StorePlan {
            save_interval: Duration::from_secs(1),
            ..StorePlan::new(format!("sqlite:{}", store.path().join("store.db").display()))
        };
        let exporter = Exporter::start_with(stage.urls(), Some(kept));
        let target = exporter.address();
        let prometheus = tokio::task::block_in_place(|| {
            let config = format!(
                "global: {{scrape_interval: 1s}}\n\
                 scrape_configs: [{{job_name: llm-relay, static_configs: [{{targets: ['{target}']}}]}}]\n"
            );
            let prometheus = Prometheus::start(tempfile::tempdir().unwrap(), &config);
            let began = Instant::now();
            for condition in [
                "count_over_time(llm_relay_sessions_active[10m]) >= 45",
                "llm_relay_provider_circuit_reopen_timestamp_seconds - time() > 9",
            ] {
                while prometheus.instant(condition).unwrap().is_empty() {
                    assert!(began.elapsed() < Duration::from_secs(240), "waited in vain for {condition}");
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
            prometheus
        });
        Self { stage, exporter, prometheus, _store: store }
    }

    pub async fn stop(self) {
        self.exporter.stop().await;
        self.stage.tear_down().await;
    }
}
