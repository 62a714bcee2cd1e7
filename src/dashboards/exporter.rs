//! The exporter about itself, each replica on its own.

use serde_json::json;

use super::column::column;
use super::dashboard::{Dashboard, row};
use super::kinds::{chart, legend_table, stat, table, timeline};
use super::panel::{Money, NOTHING};
use super::promql::{Replicas, keyed};
use super::query::Query;
use super::shared;
use super::variable::{INSTANCE, JOB_SHOWN, RELAY, Variable};

pub fn dashboard() -> Dashboard {
    let rate = |metric: &str, by: &str| format!("sum by ({by}) (rate({metric}[$__rate_interval]))");
    let duration = |q: &str| {
        format!(
            "histogram_quantile({q}, sum by (relay, source, le) (rate(llm_relay_refresh_duration_seconds_bucket[$__rate_interval])))"
        )
    };
    let facts = |metric: &str, labels: &str| format!("max by ({labels}) ({metric})");
    Dashboard {
        uid: "llm-relay-exporter",
        title: "Exporter health",
        description: "Whether the numbers can be trusted: sources, age, drift against the ledger, and the exporter's own cost.",
        refresh: "30s",
        from: "now-6h",
        replicas: Replicas::Each,
        variables: vec![Variable::Source, JOB_SHOWN, INSTANCE, RELAY],
        links: vec![],
        quick_ranges: false,
        rows: vec![
            row(4, [
                (4, shared::state("Sources", false)),
                (4, shared::data_age()),
                (4, stat("History read").unit("percentunit").decimals(0)
                    .levels(&[(None, "orange"), (Some(1.0), "green")])
                    .query(Query::rows("now", "min(llm_relay_history_loaded_ratio)"))),
                (4, stat("Drift of requests").decimals(0)
                    .levels(&[(None, "red"), (Some(-0.5), "green"), (Some(0.5), "red")])
                    .query(Query::rows("now", "sum(llm_relay_audit_drift_requests)"))),
                (4, stat("Drift of cost").money(Money::All).decimals(4)
                    .levels(&[(None, "red"), (Some(-0.005), "green"), (Some(0.005), "red")])
                    .query(Query::rows("now", "sum(llm_relay_audit_drift_cost_usd)"))),
                (4, stat("Last audit").unit("s").decimals(0)
                    .note("Time since.")
                    .query(Query::rows("now", "max(time() - llm_relay_audit_last_run_timestamp_seconds)"))),
            ]),
            row(8, [
                (10, timeline("Sources over time")
                    .query(Query::lines("up", "min by (instance, relay, source) (llm_relay_source_up)", "{{instance}} {{relay}} {{source}}"))
                    .map("0", "Down", "red")
                    .map("1", "Up", "green")),
                (7, chart("Age of data by source").unit("s")
                    .query(Query::lines("age", "time() - llm_relay_source_last_success_timestamp_seconds", "{{instance}} {{relay}} {{source}}"))),
                (7, chart("Ledger lag").unit("s")
                    .note("Grows while nobody sends requests; only a lag under traffic is a fault.")
                    .query(Query::lines("lag", "llm_relay_ledger_lag_seconds", "{{instance}} {{relay}}"))),
            ])
            .under("Sources"),
            row(8, [
                (8, chart("Refresh duration p50 and p99").unit("s")
                    .query(Query::lines("p50", duration("0.5"), "p50 {{relay}} {{source}}").step("5m"))
                    .query(Query::lines("p99", duration("0.99"), "p99 {{relay}} {{source}}").step("5m"))),
                (8, chart("Failed refreshes per minute").empty(NOTHING)
                    .query(Query::lines("failures", format!("{} * 60", rate("llm_relay_refresh_failures_total", "relay, source, reason")), "{{relay}} {{source}} {{reason}}").step("2m"))),
                (8, chart("Refreshes per minute, and skipped ones")
                    .query(Query::lines("refreshes", format!("{} * 60", rate("llm_relay_refresh_duration_seconds_count", "relay, source")), "{{relay}} {{source}}").step("2m"))
                    .query(Query::line("skipped", "sum(rate(llm_relay_refresh_skipped_total[$__rate_interval])) * 60", "Skipped").step("2m"))
                    .legend("Skipped", vec![("color", json!({"mode": "fixed", "fixedColor": "red"}))])),
            ]),
            row(8, [
                (8, chart("Rows read per second")
                    .query(Query::lines("rows", rate("llm_relay_rows_read_total", "relay, source"), "{{relay}} {{source}}").step("2m"))),
                (8, chart("Corrections per hour").empty(NOTHING)
                    .note("Rows that changed after they were counted. The counters stay monotone.")
                    .query(Query::lines("corrections", format!("{} * 3600", rate("llm_relay_ledger_corrections_total", "relay, kind")), "{{relay}} {{kind}}").step("10m"))),
                (8, chart("Drift found by audits")
                    .query(Query::lines("requests", "llm_relay_audit_drift_requests", "{{instance}} {{relay}}"))
                    .set("min", json!(null))),
            ])
            .under("Work and truth"),
            row(8, [
                (8, chart("Samples per scrape").note("How many series Prometheus takes at each scrape: the size of the page.").query(Query::lines("samples", r#"scrape_samples_scraped{job=~"$job",instance=~"$instance"}"#, "{{instance}}"))),
                (8, chart("Scrape duration").note("How long Prometheus takes to fetch the page.").unit("s").query(Query::lines("scrape", r#"scrape_duration_seconds{job=~"$job",instance=~"$instance"}"#, "{{instance}}"))),
                (8, table("Values folded into other by the series budget")
                    .query(Query::rows("limited", keyed("llm_relay_series_limited_total", &["relay", "instance", "dimension"], &["relay", "dimension"])))
                    .columns([
                        column("relay", "Relay", ""),
                        column("dimension", "Dimension", ""),
                        column("#limited", "Values", "short").decimals(0)
                            .with("custom.cellOptions", json!({"type": "color-text"}))
                            .with("color", json!({"mode": "thresholds"}))
                            .with("thresholds", super::column::thresholds(&[(None, "green"), (Some(1.0), "orange")])),
                    ])
                    .sort("Values", true, None)),
            ])
            .under("Size"),
            row(8, [
                (6, chart("CPU").unit("percentunit").query(Query::lines("cpu", "rate(process_cpu_seconds_total[$__rate_interval])", "{{instance}}"))),
                (6, legend_table(chart("Memory").unit("bytes"), &["lastNotNull"])
                    .query(Query::lines("resident", "process_resident_memory_bytes", "{{instance}}"))),
                (6, chart("Open files of those allowed").unit("percentunit").decimals(1)
                            .query(Query::lines("share", "process_open_fds / process_max_fds", "{{instance}}"))),
                (6, table("Up since")
                    .query(Query::rows("up", "max by (instance) (time() - process_start_time_seconds)"))
                    .columns([column("instance", "Instance", ""), column("#up", "For", "s").decimals(1)])),
            ])
            .under("Process"),
            row(6, [
                (12, table("Relays")
                    .query(Query::rows("info", facts("llm_relay_info * on (job, instance, relay) group_left () (time() - llm_relay_day_start_timestamp_seconds)", "relay, kind, version, timezone")))
                    .columns([
                        column("relay", "Relay", ""),
                        column("kind", "Product", ""),
                        column("version", "Version", ""),
                        column("timezone", "Time zone", ""),
                        column("#info", "Today began before", "s").decimals(1),
                    ])),
                (12, table("Exporters")
                    .query(Query::rows("build", facts("llm_relay_exporter_build_info", "instance, version, revision, rustc")))
                    .columns([
                        column("instance", "Instance", ""),
                        column("version", "Version", ""),
                        column("revision", "Revision", ""),
                        column("rustc", "Rust", ""),
                    ])),
            ])
            .under("Versions"),
        ],
    }
}
