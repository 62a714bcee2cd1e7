//! 26 hours of every metric of the catalogue, as two replicas of the exporter expose them: what a demo of a minute cannot show.

use std::fmt::Write as _;
use std::process::Command;
use std::time::SystemTime;

use llm_relay_exporter::metrics::{CATALOGUE, Metric, MetricType};
use llm_relay_exporter::model::Scope;

use super::prometheus::{Prometheus, Span};

pub const SPAN: Span = Span { seconds: 86_400, step: 300, rate_interval: "10m", compare: "1d" };

pub fn prometheus() -> Prometheus {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    // Twenty past noon of the day before, whatever the hour.
    let now = now / 86_400 * 86_400 - 42_000;
    filled(tempfile::tempdir().unwrap(), now)
}

/// The same, with what the rules for Trends would have recorded.
pub fn recorded(plain: &Prometheus) -> Prometheus {
    let (now, directory) = (plain.time(), tempfile::tempdir().unwrap());
    // From the begin of a block: promtool ends at the first one in which nothing is due.
    let start = (now - 26 * 3600) / 7200 * 7200;
    let made = Command::new("promtool")
        .args(["tsdb", "create-blocks-from", "rules", "--url", &plain.url()])
        .args(["--start", &start.to_string(), "--end", &now.to_string(), "--output-dir"])
        .arg(directory.path().join("data"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/prometheus/rules/trends.yml"))
        .output()
        .expect("promtool is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    filled(directory, now)
}

fn filled(directory: tempfile::TempDir, now: i64) -> Prometheus {
    let samples = directory.path().join("samples.om");
    std::fs::write(&samples, exposition(now)).unwrap();
    let made = Command::new("promtool")
        // It reads all of the samples for each block.
        .args(["tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=54h"])
        .args([&samples, &directory.path().join("data")])
        .output()
        .expect("promtool is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut server = Prometheus::start(directory, "{}\n");
    server.now = Some(now);
    server
}

/// Every metric, from 26 hours ago until `now`, in OpenMetrics.
fn exposition(now: i64) -> String {
    // Every four minutes, and at the end every 15 seconds, as counters of one minute need it.
    let coarse = (now - 26 * 3600..now - 1800).step_by(240);
    let times: Vec<i64> = coarse.chain((now - 1800..=now).step_by(15)).collect();
    let mut out = String::new();
    for metric in CATALOGUE {
        let kind = match metric.kind {
            MetricType::Gauge => "gauge",
            MetricType::Counter => "counter",
            MetricType::Histogram => "histogram",
        };
        let family =
            if metric.kind == MetricType::Counter { metric.name.trim_end_matches("_total") } else { metric.name };
        let _ = writeln!(out, "# TYPE {family} {kind}");
        for instance in ["one:9879", "two:9879"] {
            for (index, labels) in label_sets(metric, instance).iter().enumerate() {
                series(&mut out, metric, labels, index, &times, now);
            }
        }
    }
    for name in ["scrape_samples_scraped", "scrape_duration_seconds"] {
        let _ = writeln!(out, "# TYPE {name} gauge");
        for at in &times {
            let _ = writeln!(out, "{name}{{job=\"llm-relay\",instance=\"one:9879\"}} 0.5 {at}");
        }
    }
    out + "# EOF\n"
}

fn series(out: &mut String, metric: &Metric, labels: &str, index: usize, times: &[i64], now: i64) {
    let since = times[0];
    for at in times {
        let elapsed = (at - since) as f64;
        match metric.kind {
            MetricType::Histogram => {
                let count = (elapsed / 10.0 * (index + 1) as f64).floor();
                for (bound, share) in [("0.5", 0.1), ("2.0", 0.5), ("10.0", 0.9), ("60.0", 0.98), ("+Inf", 1.0)] {
                    let _ = writeln!(
                        out,
                        "{}_bucket{{{labels},le=\"{bound}\"}} {} {at}",
                        metric.name,
                        (count * share).floor()
                    );
                }
                let _ = writeln!(out, "{}_sum{{{labels}}} {} {at}", metric.name, count * 4.0);
                let _ = writeln!(out, "{}_count{{{labels}}} {count} {at}", metric.name);
            }
            // One replica was not scraped for half an hour; the other's ledger begins later.
            MetricType::Counter if labels.contains("one:") && (30_000.0..31_800.0).contains(&elapsed) => {}
            MetricType::Counter => {
                let begins = if labels.contains("one:") { 1_000_000.0 } else { 1000.0 };
                let _ = writeln!(
                    out,
                    "{}{{{labels}}} {} {at}",
                    metric.name,
                    begins + (elapsed / 7.0 * (index + 1) as f64).floor()
                );
            }
            MetricType::Gauge => {
                let _ =
                    writeln!(out, "{}{{{labels}}} {} {at}", metric.name, gauge(metric.name, labels, index, *at, now));
            }
        }
    }
}

fn gauge(name: &str, labels: &str, index: usize, at: i64, now: i64) -> f64 {
    let has = |text: &str| labels.contains(text);
    match name {
        "llm_relay_source_up" | "llm_relay_provider_enabled" | "llm_relay_history_loaded_ratio" => 1.0,
        "llm_relay_day_cost_usd" if has("today") => 12.5,
        "llm_relay_day_cost_usd" => 10.0,
        "llm_relay_provider_slots_limit" => 10.0,
        "llm_relay_provider_circuit_state" => {
            let present = if has(r#"provider_id="3""#) { "open" } else { "closed" };
            f64::from(u8::from(has(&format!(r#"state="{present}""#))))
        }
        "llm_relay_quota_limit_usd" => 100.0,
        "llm_relay_quota_used_usd" => 20.0 + 9.0 * index as f64,
        "llm_relay_source_last_success_timestamp_seconds" => (at - 3) as f64,
        "process_start_time_seconds" | "llm_relay_day_start_timestamp_seconds" => (now - 90_000) as f64,
        _ if name.ends_with("_info") => 1.0,
        _ if name.contains("reopen")
            || name.contains("reset_time")
            || name.contains("exhaustion")
            || name.contains("expiry") =>
        {
            (now + 3600 * (index as i64 + 1)) as f64
        }
        _ if name.ends_with("_timestamp_seconds") => (at - 60) as f64,
        _ if name.ends_with("_ratio") => 0.9 - 0.05 * (index % 8) as f64,
        _ => 1.0 + index as f64,
    }
}

/// The label sets of a metric: the product of its labels' values, with names that follow from ids.
fn label_sets(metric: &Metric, instance: &str) -> Vec<String> {
    let mut sets = vec![format!(r#"job="llm-relay",instance="{instance}""#)];
    if metric.is_of_relay() {
        sets[0] += r#",relay="main""#;
    }
    for label in metric.labels {
        sets = sets
            .into_iter()
            .flat_map(|set| {
                values(metric.name, label, &set).into_iter().map(move |value| format!(r#"{set},{label}="{value}""#))
            })
            .collect();
    }
    sets
}

fn values(metric: &str, label: &str, set: &str) -> Vec<String> {
    let of =
        |label: &str| set.split(&format!("{label}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("");
    let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    match label {
        // Names follow ids; the replicas disagree about one of them, as they may for a moment.
        "user" if of("user_id") == "2" && set.contains("two:") => list(&["renamed"]),
        "user" => vec![format!("user {}", of("user_id"))],
        "key" => vec![format!("key {}", of("key_id"))],
        "provider" => vec![format!("provider {}", of("provider_id"))],
        "team" => vec![format!("team {}", of("team_id"))],
        "organization" => vec![format!("organization {}", of("organization_id"))],
        "name" if of("id") == "other" => list(&["other"]),
        "name" => vec![format!("{} {}", of("scope"), of("id"))],
        "user_id" if metric.ends_with("key_info") => vec![of("key_id").to_owned()],
        // 9 has traffic and was deleted: it has no name any more.
        "organization_id" if metric.ends_with("team_info") => list(&["1"]),
        "user_id" | "key_id" | "team_id" | "organization_id" | "provider_id"
            if metric.ends_with("_info") || metric.contains("_provider_") =>
        {
            list(&["1", "2", "3"])
        }
        "user_id" | "key_id" | "team_id" | "organization_id" | "provider_id" => list(&["1", "2", "3", "9"]),
        "id" if metric.contains("leaderboard") => list(&["1", "2", "other"]),
        "id" => list(&["1", "2"]),
        "scope" if metric.contains("leaderboard") => Scope::ALL.map(|scope| scope.label().to_owned()).into(),
        "scope" => Scope::LIMITED.map(|scope| scope.label().to_owned()).into(),
        "model" => list(&["claude-sonnet", "gpt"]),
        "answered_model" => list(&["claude-haiku"]),
        "window" if metric.contains("quota") => list(&["5h", "daily"]),
        "window" => list(&["1m", "1h", "24h"]),
        "outcome" if metric.contains("window") => list(&["success", "failure", "unknown"]),
        "outcome" => list(&["success", "failure", "excluded"]),
        "type" if metric.contains("tokens") => list(&["input", "output", "cache_read", "cache_write_5m"]),
        "day" => list(&["today", "yesterday_same_time", "yesterday"]),
        "period" => list(&["today", "week"]),
        "state" if metric.contains("window_state") => list(&["allowed", "allowed_warning", "rejected"]),
        "state" if metric.contains("account") => list(&["normal", "rate_limited"]),
        "state" => list(&["closed", "open", "half_open"]),
        "source" => list(&["ledger", "live", "directory"]),
        "code" if metric.contains("currency") => list(&["CNY"]),
        "code" => list(&["200", "429", "none"]),
        "class" => list(&["rate_limited", "server"]),
        "reason" if metric.contains("refresh") => list(&["timeout"]),
        "reason" => list(&["failed", "client_abort"]),
        "kind" if metric.contains("corrections") => list(&["late_cost", "lowered"]),
        "unit" if metric.contains("currency") => list(&["currency:¥"]),
        "unit" => list(&["requests", "usd"]),
        _ => list(&["x"]),
    }
}
