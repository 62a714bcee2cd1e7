//! The exporter about itself, each replica on its own.

use serde_json::json;

use super::column::{column, thresholds};
use super::dashboard::{Dashboard, Row, row};
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::{chart, legend_table, lines, stat, table, timeline};
use super::promql::{self, Replicas, keyed};
use super::query::Query;
use super::shared;
use super::variable::{INSTANCE, JOB_SHOWN, RELAY, REPLICAS, Variable};

const EACH: &str = "{{relay}}";
const SOURCE: &str = "{{relay}} {{source}}";
const CORRECTIONS: &[(&str, &str)] = &[
    ("late_cost", "Late cost"),
    ("lowered", "Lowered"),
    ("rewritten", "Rewritten"),
    ("reclassified", "Reclassified"),
    ("deleted", "Deleted"),
];

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-relay-exporter",
        title: "Exporter health",
        description: "Whether the numbers can be trusted: sources, age, drift against the ledger, and the exporter's own cost.",
        refresh: "30s",
        from: "now-6h",
        replicas: Replicas::Each,
        variables: vec![Variable::Source, JOB_SHOWN, INSTANCE, RELAY, REPLICAS],
        links: vec![],
        alerts: false,
        quick_ranges: false,
        rows: vec![
            glance(),
            rest(),
            sources(),
            delays(),
            truth(),
            corrections(),
            relay(),
            database(),
            processes(),
            refreshes(),
            size(),
            store(),
            process(),
            versions(),
        ],
    }
}

/// Lines of each relay, and of each replica where there are several.
fn each(id: &'static str, expr: &str, names: &'static str) -> Query {
    Query::lines(id, promql::told_apart("relay", expr), names)
}

fn per_minute(counter: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({counter}[$__rate_interval])) * 60")
}

fn glance() -> Row {
    let history = stat("History read")
        .unit("percentunit")
        .decimals(0)
        .levels(&[(None, "orange"), (Some(1.0), "green")])
        .query(Query::rows("now", "min(llm_relay_history_loaded_ratio)"));
    let drift_of_requests = stat("Drift of requests")
        .decimals(0)
        .levels(&[(None, "red"), (Some(-0.5), "green"), (Some(0.5), "red")])
        .query(Query::rows("now", "sum(llm_relay_audit_drift_requests)"));
    let drift_of_cost = stat("Drift of cost")
        .money(Money::All)
        .decimals(4)
        .levels(&[(None, "red"), (Some(-0.005), "green"), (Some(0.005), "red")])
        .query(Query::rows("now", "sum(llm_relay_audit_drift_cost_usd)"));
    let audit = stat("Last audit")
        .unit("s")
        .decimals(0)
        .note("Time since.")
        .query(Query::rows("now", "max(time() - llm_relay_audit_last_run_timestamp_seconds)"));
    row(
        4,
        [
            (4, shared::state("Sources")),
            (4, shared::data_age()),
            (4, history),
            (4, drift_of_requests),
            (4, drift_of_cost),
            (4, audit),
        ],
    )
}

/// One number of each part below that is folded, or that only trouble fills.
fn rest() -> Row {
    // What is not set up is said no louder than a number.
    let small = |title| stat(title).option("text", json!({"valueSize": 26}));
    let count = |title, expr: &str| {
        small(title)
            .decimals(0)
            .levels(&[(None, "text"), (Some(0.0), "green"), (Some(1.0), "orange")])
            .query(Query::rows("now", expr))
    };
    let well = |title, expr: &str, bad, good| {
        small(title).query(Query::rows("now", expr)).map("0", bad, "red").map("1", good, "green")
    };
    let failed = count("Failed refreshes in 1 h", "sum(round(increase(llm_relay_refresh_failures_total[1h])))");
    let refused = count("Refused statements", "sum(llm_relay_statement_refused)");
    let answers = well("The relays themselves", "min(llm_relay_http_up)", "Down", "Up").empty("No health address");
    let folded =
        count("Values folded", "sum(llm_relay_series_folded)").note("Values folded into other by the series budget.");
    let store = well("Store", "min(llm_relay_store_up)", "Down", "Up").empty("No store");
    let configuration =
        well("Configuration", "min(llm_relay_exporter_config_last_reload_successful)", "Invalid", "Valid")
            .empty("No file");
    row(3, [(4, failed), (4, refused), (4, answers), (4, folded), (4, store), (4, configuration)])
}

fn sources() -> Row {
    let up = "min by (instance, relay, source) (llm_relay_source_up)";
    let over_time = timeline("Sources over time", SOURCE)
        // More would lie on each other.
        .option("perPage", json!(12))
        .query(each("up", up, SOURCE))
        .map("0", "Down", "red")
        .map("1", "Up", "green");
    let age = "time() - llm_relay_source_last_success_timestamp_seconds";
    let age = legend_table(lines("Age of data by source"), &[("lastNotNull", "Last *"), ("max", "Max")])
        .unit("s")
        .query(each("age", age, SOURCE));
    row(9, [(10, over_time), (14, age)]).under("Sources")
}

fn relay() -> Row {
    const NO_ADDRESS: &str = "No health address is configured";
    let answers = timeline("The relay itself", EACH)
        .empty(NO_ADDRESS)
        .note("Whether its health address answers; told apart from its stores.")
        .query(each("up", "min by (instance, relay) (llm_relay_http_up)", EACH))
        .map("0", "Down", "red")
        .map("1", "Up", "green");
    let duration = lines("Duration of the probe").unit("s").empty(NO_ADDRESS).query(each(
        "duration",
        "llm_relay_http_probe_duration_seconds",
        EACH,
    ));
    let failures = per_minute("llm_relay_http_probe_failures_total", "relay, reason");
    let failed = lines("Failed probes per minute")
        .style("showPoints", json!("auto"))
        .empty(NOTHING)
        .query(Query::lines("failures", format!("{failures} > 0"), "{{relay}} {{reason}}").step("2m"));
    row(7, [(8, answers), (8, duration), (8, failed)]).folded("The relays and their stores")
}

fn delays() -> Row {
    let failures = per_minute("llm_relay_refresh_failures_total", "relay, source, reason");
    let lag = lines("Ledger lag")
        .unit("s")
        .note("Grows while nobody sends requests; only a lag under traffic is a fault.")
        .query(each("lag", "llm_relay_ledger_lag_seconds", EACH))
        .query(Query::lines("replica", "llm_relay_replica_lag_seconds", "{{relay}} replica"));
    let delay = lines("Delay of the relay's collector").unit("s").query(each(
        "delay",
        "llm_relay_collector_delay_seconds",
        EACH,
    ));
    let failed = lines("Failed refreshes per minute")
        // One failure is a point, not a line.
        .style("showPoints", json!("auto"))
        .empty(NOTHING)
        .query(Query::lines("failures", format!("{failures} > 0"), "{{relay}} {{source}} {{reason}}").step("2m"));
    row(8, [(8, failed), (8, lag), (8, delay)])
}

fn processes() -> Row {
    let of = |title, expr: &str, names: &'static str| lines(title).decimals(0).query(each("now", expr, names));
    let workers = of("Workers of the relay that are alive", "llm_relay_workers_alive", EACH);
    let waiting = of("Requests that its own counters lack", "llm_relay_unaccounted_requests", "{{relay}} {{state}}")
        .note("What is pending is seconds old; what is parked the relay has given up on.");
    let people = of("End users today", "llm_relay_end_users_active", EACH);
    row(7, [(8, workers), (8, waiting), (8, people)])
}

fn database() -> Row {
    let bytes = lines("Size of the relay's database")
        .unit("bytes")
        .empty("Its database is a server")
        .note("The file, and its write-ahead log, which must not grow for ever.")
        .query(each("bytes", "llm_relay_database_bytes", "{{relay}} {{file}}"));
    let record = lines("Age of the collector's last record").unit("s").query(each(
        "record",
        "time() - llm_relay_collector_last_record_timestamp_seconds",
        EACH,
    ));
    let zone = lines("Error of the time zone")
        .unit("s")
        .set("min", json!(null))
        .note("How old rows seem when they appear because the configured zone is not the relay's; below 0: of the future.")
        .query(each("error", "llm_relay_timezone_error_seconds", EACH));
    row(8, [(8, bytes), (8, record), (8, zone)])
}

fn refreshes() -> Row {
    const DURATION: &str = "llm_relay_refresh_duration_seconds";
    let rate = |name: &str| format!("rate({name}[$__rate_interval])");
    let quantile = |q: &str| promql::quantile(q, DURATION, "relay, source", rate);
    let all = per_minute(&format!("{DURATION}_count"), "relay, source");
    let native = format!("histogram_count(sum by (relay, source) ({})) * 60", rate(DURATION));
    let skipped = "sum(rate(llm_relay_refresh_skipped_total[$__rate_interval])) * 60";
    let duration = legend_table(lines("Refresh duration p50 and p99"), &[("max", "Max")])
        .unit("s")
        .query(Query::lines("p50", quantile("0.5"), "p50 {{relay}} {{source}}").step("5m"))
        .query(Query::lines("p99", quantile("0.99"), "p99 {{relay}} {{source}}").step("5m"));
    let done = legend_table(lines("Refreshes per minute, and skipped ones"), &[("mean", "Mean")])
        .query(Query::lines("refreshes", all, "{{relay}} {{source}}").or_native(native).step("2m"))
        .query(Query::line("skipped", skipped, "Skipped").step("2m"))
        .legend("Skipped", vec![("color", json!({"mode": "fixed", "fixedColor": "red"}))]);
    let read = "sum by (relay, source) (rate(llm_relay_rows_read_total[$__rate_interval]))";
    let rows = legend_table(lines("Rows read per second"), &[("mean", "Mean")])
        .query(Query::lines("rows", read, "{{relay}} {{source}}").step("2m"));
    row(9, [(8, duration), (8, done), (8, rows)]).folded("Work")
}

/// What audits found, and what the relay's ledger does not have or is not asked for.
fn truth() -> Row {
    let drift = lines("Drift found by audits")
        .note("Requests here minus those of the ledger, before the repair; with ?: rows that cannot be understood.")
        .set("min", json!(null))
        .query(each("requests", "llm_relay_audit_drift_requests", EACH))
        .query(each("left_out", "llm_relay_ledger_rows_left_out", "{{relay}} ?"));
    // Replicas see the same.
    let hourly = |counter: &str| format!("sum(max by (relay) (rate({counter}[$__rate_interval]))) * 3600");
    let apart = lines("Requests beside the ledger, per hour")
        .note("Imported: recorded long after they happened. Not understood: the relay's collector has set them aside. Missed: counted by the relay, but their records were gone before they were read.")
        .query(Query::line("imported", hourly("llm_relay_imported_requests_total"), "Imported").step("10m"))
        .query(Query::line("dead", hourly("llm_relay_dead_letters_total"), "Not understood").step("10m"))
        .query(Query::line("missed", hourly("llm_relay_requests_missed_total"), "Missed").step("10m"));
    let parts = ["instance", "relay", "source", "statement"];
    let refused = keyed("(llm_relay_statement_refused > 0)", &parts, &["relay", "source", "statement"]);
    let refused = table("Statements that are refused").empty(NOTHING).query(Query::rows("refused", refused)).columns([
        column("relay", "Relay", ""),
        column("source", "Source", ""),
        column("statement", "Statement", ""),
    ]);
    row(8, [(8, drift), (8, apart), (8, refused)]).under("Truth")
}

fn corrections() -> Row {
    let hourly = |counter: &str| format!("sum by (relay, kind) (rate({counter}[$__rate_interval])) * 3600 > 0");
    let of = |title, counter: &str| {
        legend_table(lines(title), &[("mean", "Mean")])
            .style("showPoints", json!("auto"))
            .empty(NOTHING)
            .words(CORRECTIONS)
            .query(Query::lines("corrections", hourly(counter), "{{relay}}, {{kind}}").step("10m"))
    };
    let corrected = of("Corrections per hour", "llm_relay_ledger_corrections_total")
        .note("Rows that changed after they were counted. The counters stay monotone.");
    let dollars = of("Corrections in dollars per hour", "llm_relay_ledger_corrections_usd_total")
        .unit("currencyUSD")
        .note("Cost that came, fell or was written anew after its request was counted.");
    row(8, [(12, corrected), (12, dollars)])
}

fn size() -> Row {
    // Prometheus's own metrics about the scrape.
    let of_scrape = |name: &str| format!(r#"{name}{{job=~"$job",instance=~"$instance"}}"#);
    let samples = chart("Samples per scrape")
        .note("How many series Prometheus takes at each scrape: the size of the page.")
        .query(Query::lines("samples", of_scrape("scrape_samples_scraped"), "{{instance}}"));
    let duration = chart("Scrape duration")
        .unit("s")
        .note("How long Prometheus takes to fetch the page.")
        .query(Query::lines("scrape", of_scrape("scrape_duration_seconds"), "{{instance}}"));
    let parts = ["relay", "instance", "dimension"];
    let limited = keyed("llm_relay_series_folded", &parts, &["relay", "dimension"]);
    let values = column("#limited", "Values", "short")
        .decimals(0)
        .with("custom.cellOptions", json!({"type": "color-text"}))
        .with("color", json!({"mode": "thresholds"}))
        .with("thresholds", thresholds(&[(None, "green"), (Some(1.0), "orange")]));
    let folded = table("Values folded into other by the series budget")
        .query(Query::rows("limited", limited))
        .columns([column("relay", "Relay", ""), column("dimension", "Dimension", ""), values])
        .sort("Values", true, None);
    row(8, [(8, samples), (8, duration), (8, folded)]).folded("Size")
}

fn store() -> Row {
    let of = |panel: Panel, expr: &str| panel.empty("No store is configured").query(each("each", expr, EACH));
    let up = of(chart("Store in use"), "llm_relay_store_up");
    let writer = of(chart("Saves the checkpoint"), "llm_relay_store_writer");
    let age = "time() - llm_relay_store_last_save_timestamp_seconds";
    let age = of(chart("Age of the last save").unit("s"), age);
    let failures = "sum by (instance, relay) (rate(llm_relay_store_failures_total[$__rate_interval]))";
    let failures = of(chart("Failures of the store per second"), failures);
    let bytes = of(chart("Size of the checkpoint").unit("bytes"), "llm_relay_store_bytes");
    row(6, [(4, up), (5, writer), (5, age), (5, failures), (5, bytes)]).folded("Store")
}

fn process() -> Row {
    let each = |panel: Panel, expr: &str| panel.query(Query::lines("each", expr, "{{instance}}"));
    let up = "max by (instance) (time() - process_start_time_seconds)";
    let cpu = each(chart("CPU").unit("percentunit"), "rate(process_cpu_seconds_total[$__rate_interval])");
    let memory = each(chart("Memory").unit("bytes"), "process_resident_memory_bytes");
    let files = each(chart("Open files of those allowed").unit("percentunit"), "process_open_fds / process_max_fds");
    let since = table("Up since")
        .query(Query::rows("up", up))
        .columns([column("instance", "Instance", ""), column("#up", "For", "s").decimals(1)]);
    row(8, [(6, cpu), (6, memory), (6, files), (6, since)]).folded("Process")
}

fn versions() -> Row {
    let since_midnight = "(time() - llm_relay_day_start_timestamp_seconds)";
    let relays = format!(
        "max by (relay, kind, version, timezone) (llm_relay_info * on (job, instance, relay) group_left () {since_midnight})"
    );
    let builds = "max by (instance, version, revision, rustc) (llm_relay_exporter_build_info)";
    let relays = table("Relays").query(Query::rows("info", relays)).columns([
        column("relay", "Relay", ""),
        column("kind", "Product", ""),
        column("version", "Version", ""),
        column("timezone", "Time zone", ""),
        column("#info", "Today began before", "s").decimals(1),
    ]);
    let exporters = table("Exporters").query(Query::rows("build", builds)).columns([
        column("instance", "Instance", ""),
        column("version", "Version", ""),
        column("revision", "Revision", ""),
        column("rustc", "Rust", ""),
    ]);
    let parts = ["instance", "config"];
    let read = "(time() - llm_relay_exporter_config_last_reload_success_timestamp_seconds)";
    let verdict = json!([{"type": "value", "options": {
        "0": {"index": 0, "text": "✗", "color": "red"}, "1": {"index": 1, "text": "✓", "color": "green"},
    }}]);
    let configuration = table("Configuration")
        .empty(NOTHING)
        .note("✗: the last reading failed, and the version before it is in force.")
        .query(Query::rows(
            "valid",
            keyed("llm_relay_exporter_config_last_reload_successful", &parts, &["instance", "config"]),
        ))
        .query(Query::rows("read", keyed(read, &parts, &[])))
        .columns([
            column("instance", "Instance", ""),
            column("config", "Configuration", ""),
            column("#valid", "Valid", "none")
                .width(70)
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("mappings", verdict),
            column("#read", "Read before", "s").decimals(1).width(110),
        ]);
    row(10, [(10, relays), (7, exporters), (7, configuration)]).folded("Versions and configuration")
}
