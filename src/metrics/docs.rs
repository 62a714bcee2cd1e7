//! The catalogue as Markdown: `docs/metrics.md` is this text, and a test holds it to it.

use std::fmt::Write;

use super::{CATALOGUE, Emit, Kind, Metric};

const INTRODUCTION: &str = "\
# Metrics

This page is printed by `llm-relay-exporter metrics` from the catalogue in the code; do not edit it.

The names are the product's public interface: a renamed metric is a breaking change.

* **Every relay metric has the label `relay`**, the relay's name in the configuration. It is not repeated below.
* **Missing is never zero.** What cannot be read, is not given by the relay, or has not been read far enough back yet is
  absent; `llm_relay_source_up` says why. What is known to be nothing is 0. An entity without a limit has no limit series.
* **Counters are seeded from the relay's own ledger.** Their value is the total since the ledger's first row, so it is the
  same after a restart and on every replica. They are absent until the history has been read
  (`llm_relay_history_loaded_ratio`). A request is added once, when it is final; cost that comes later is added when it
  appears. A correction downwards never makes a counter fall; it is counted in `llm_relay_ledger_corrections_total`.
* **Gauges follow the relay's screens**, number by number, with the relay's own rules. Windows are exact to one second.
* **Money is US dollars** by the relay's own accounting. The currency of the relay's screens is a symbol only
  (`llm_relay_currency_info`).
* **Names live in `*_info` metrics**: `llm_relay_user_cost_usd_total * on (relay, user_id) group_left (user)
  llm_relay_user_info`. Leaderboards carry them, because they are a bounded top-N. No label ever holds a key, an e-mail
  address, an IP address, a session or request id, or free error text.
* **Label values are bounded.** Each dimension that clients can grow admits a budgeted number of values in the order of
  their first appearance in the ledger (a model: of its first success); further ones count as `other`. A counter without
  traffic for 35 days is hidden until traffic returns.
* Numbers are read on the exporter's own timer (`interval`), not at the scrape: two Prometheus servers do not double the
  load on the relay's database.
";

/// Headings, each with the names that it holds.
const GROUPS: &[(&str, &str, &[&str])] = &[
    (
        "Overview",
        "Equal to the relay's own screen.",
        &[
            "llm_relay_sessions_active",
            "llm_relay_requests_in_progress",
            "llm_relay_requests_last_",
            "llm_relay_tokens_last_",
            "llm_relay_day_",
            "llm_relay_window_",
        ],
    ),
    ("Leaderboards", "Ranked by cost, exact, with `other`, so that the sum is the total.", &["llm_relay_leaderboard_"]),
    (
        "Live state",
        "From the relay's live store.",
        &[
            "llm_relay_provider_slots_",
            "llm_relay_provider_enabled",
            "llm_relay_provider_circuit_",
            "llm_relay_user_sessions_",
            "llm_relay_key_sessions_",
            "llm_relay_collector_",
            "llm_relay_key_consecutive_failures",
            "llm_relay_error_log_",
            "llm_relay_key_slots_",
            "llm_relay_queue_waiting",
            "llm_relay_queue_events_",
            "llm_relay_provider_account_",
            "llm_relay_account_",
        ],
    ),
    (
        "Quotas",
        "As the relay's quota pages show them.",
        &["llm_relay_quota_", "llm_relay_rate_limit", "llm_relay_key_expiry_"],
    ),
    (
        "Facts",
        "Constant 1; join on the id.",
        &[
            "llm_relay_info",
            "llm_relay_user_info",
            "llm_relay_key_info",
            "llm_relay_provider_info",
            "llm_relay_currency_info",
        ],
    ),
    ("The relay itself", "Whether it answers; only with a `health_url`.", &["llm_relay_http_"]),
    (
        "The exporter and its sources",
        "Also there when a source cannot be read.",
        &[
            "llm_relay_source_",
            "llm_relay_refresh_",
            "llm_relay_rows_read_",
            "llm_relay_statement_",
            "llm_relay_ledger_lag_",
            "llm_relay_audit_",
            "llm_relay_history_",
            "llm_relay_series_",
            "llm_relay_store_",
            "llm_relay_exporter_",
            "process_",
        ],
    ),
];

/// A heading of the page and what stands under it.
pub struct Section {
    pub title: &'static str,
    text: &'static str,
    pub metrics: Vec<&'static Metric>,
}

/// All metrics, in the order of the page; those of no group are its second section.
pub fn sections() -> Vec<Section> {
    let group = |metric: &Metric| {
        GROUPS.iter().position(|(_, _, names)| names.iter().any(|name| metric.name.starts_with(name)))
    };
    let section = |title, text, wanted: Option<usize>| {
        let metrics = CATALOGUE.iter().filter(|metric| group(metric) == wanted).collect();
        Section { title, text, metrics }
    };
    let grouped = GROUPS.iter().enumerate().map(|(index, (title, text, _))| section(title, text, Some(index)));
    let mut sections: Vec<Section> = grouped.collect();
    sections.insert(1, section("Counters and histograms", "For rates, quantiles and any time range.", None));
    sections
}

/// The whole page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for Section { title, text, metrics } in sections() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {title}\n\n{text}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for metric in metrics {
            let kind = match metric.kind {
                Kind::Gauge => "gauge",
                Kind::Counter => "counter",
                Kind::Histogram => "histogram",
            };
            let mut labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            if let Emit::Exporter(_) = metric.emit {
                labels.push("(no `relay`)".to_owned());
            }
            let _ = writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help);
        }
    }
    page
}
