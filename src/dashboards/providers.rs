//! Providers: traffic, success, latency, slots and circuit breakers, errors, waste and value for money.

use serde_json::json;

use super::column::{Column, column};
use super::dashboard::{Dashboard, Row, row};
use super::kinds::{chart, heatmap, legend_table, stack, table};
use super::panel::{Money, NOTHING, Panel};
use super::promql::{Named, Replicas, keyed};
use super::query::Query;
use super::shared;
use super::variable::{JOB, MODEL, PROVIDER, RELAY, TYPE, Variable};

const OF_TYPE: &str = r#" unless on (relay, provider_id) (llm_relay_provider_info{type!~"$type"} @ end())"#;
const FILTER: &str = r#"provider_id=~"$provider",model=~"$model""#;
const PROVIDER_FILTER: &str = r#"{provider_id=~"$provider"}"#;
const BY: [&str; 2] = ["relay", "provider_id"];

pub fn dashboard() -> Dashboard {
    let mut rows = vec![success(), traffic()];
    rows.extend(latency());
    rows.push(capacity());
    rows.extend(errors());
    rows.extend(money());
    Dashboard {
        uid: "llm-relay-providers",
        title: "Providers",
        description: "How well each provider serves, and what it costs.",
        refresh: "30s",
        from: "now-6h",
        replicas: Replicas::Fold,
        variables: vec![Variable::Source, JOB, RELAY, TYPE, PROVIDER, MODEL],
        links: vec![],
        quick_ranges: false,
        rows,
    }
}

/// Successes divided by successes and failures: what is not the provider's fault is on neither side.
fn success_ratio(range: &str) -> String {
    let of = |outcome: &str| {
        format!(
            r#"sum by (relay, provider_id) (increase(llm_relay_requests_total{{outcome=~"{outcome}",{FILTER}}}[{range}]){OF_TYPE})"#
        )
    };
    // A provider that has no successes has no series of them: 0, not unknown.
    let all = of("success|failure");
    format!("(({} or 0 * {all}) / ({all} > 0))", of("success"))
}

fn of_provider(metric: &str, range: &str) -> String {
    format!("sum by (relay, provider_id) (increase({metric}{{{FILTER}}}[{range}]){OF_TYPE})")
}

fn quantile(q: &str, metric: &str, range: &str, by: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by}le) (rate({metric}_bucket{{{FILTER}}}[{range}]){OF_TYPE}))")
}

fn provider(title: &'static str) -> Column {
    column("provider", title, "")
}

fn success() -> Row {
    let requests = of_provider("llm_relay_requests_total", "1h");
    let row_of = |expr: &str| keyed(expr, &BY, &[]);
    let windows = |outcome: &str| {
        format!(
            r#"sum by (row) (label_replace(llm_relay_window_requests{{outcome=~"{outcome}"}}, "row", "$1", "window", "(.+)"))"#
        )
    };
    let window_ratio = format!("{} / ({} > 0)", windows("success"), windows("success|failure"));
    row(9, [
        (16, table("Providers")
            .note("Requests of the last hour; success in several spans; an absent percentage had nothing to judge.")
            .query(Query::rows("requests", keyed(&format!("({})", Named::Provider.of(&requests)), &BY, &["provider"])))
            .query(Query::rows("hour", row_of(&success_ratio("1h"))))
            .query(Query::rows("shift", row_of(&success_ratio("8h"))))
            .query(Query::rows("day", row_of(&success_ratio("24h"))))
            .query(Query::rows("p95", row_of(&quantile("0.95", "llm_relay_request_duration_seconds", "1h", "relay, provider_id, "))))
            .query(Query::rows("ttft", row_of(&quantile("0.5", "llm_relay_time_to_first_token_seconds", "1h", "relay, provider_id, "))))
            .query(Query::rows("enabled", row_of("llm_relay_provider_enabled")))
            .columns([
                provider("Provider"),
                column("#enabled", "Enabled", "none").width(80).with("mappings", json!([{"type": "value", "options": {
                    "0": {"index": 0, "text": "–", "color": "orange"}, "1": {"index": 1, "text": "✓", "color": "green"},
                }}])),
                column("#requests", "Calls in 1 h", "short").decimals(0).gauge(),
                column("#hour", "Success 1 h", "percentunit").success(),
                column("#shift", "Success 8 h", "percentunit").success(),
                column("#day", "Success 24 h", "percentunit").success(),
                column("#p95", "Duration p95", "s").decimals(1),
                column("#ttft", "First token p50", "s").decimals(2),
            ])
            .sort("Calls in 1 h", true, Some(50))),
        (8, table("Success of the relay by window")
            .note("Exact to the second, by the relay's own rule of success; all providers.")
            .query(Query::rows("requests", windows(".+")))
            .query(Query::rows("failures", windows("failure")))
            .query(Query::rows("ratio", window_ratio))
            .columns([
                column("row", "Window", ""),
                column("#requests", "Calls", "short").decimals(0),
                column("#failures", "Failed", "short").decimals(0),
                column("#ratio", "Success", "percentunit").success(),
            ])
            .sort("Calls", false, None)),
    ])
    .under("Now")
}

fn traffic() -> Row {
    let rate = format!(
        "sum by (relay, provider_id) (rate(llm_relay_requests_total{{{FILTER}}}[$__rate_interval]){OF_TYPE}) * 60"
    );
    row(
        9,
        [
            (
                12,
                legend_table(stack("Requests per minute by provider"), &["mean", "max"]).query(
                    Query::lines("requests", Named::Provider.of(&format!("({rate})")), "{{provider}}").step("2m"),
                ),
            ),
            (
                12,
                legend_table(chart("Success ratio by provider"), &["mean", "min"])
                    .unit("percentunit")
                    .set("max", json!(1))
                    .decimals(1)
                    .query(
                        Query::lines("success", Named::Provider.of(&success_ratio("$__rate_interval")), "{{provider}}")
                            .step("10m"),
                    ),
            ),
        ],
    )
    .under("Over time (filters: Provider, Provider type, Model)")
}

fn latency() -> [Row; 2] {
    let quantiles = |panel: Panel, metric: &str| {
        let mean = |part: &str| format!("sum(rate({metric}_{part}{{{FILTER}}}[$__rate_interval]){OF_TYPE})");
        panel
            .query(Query::line("p50", quantile("0.5", metric, "$__rate_interval", ""), "p50").step("5m"))
            .query(Query::line("p95", quantile("0.95", metric, "$__rate_interval", ""), "p95").step("5m"))
            .query(Query::line("p99", quantile("0.99", metric, "$__rate_interval", ""), "p99").step("5m"))
            .query(Query::line("mean", format!("{} / ({} > 0)", mean("sum"), mean("count")), "Mean").step("5m"))
            .legend("Mean", vec![("custom.lineStyle", json!({"fill": "dash", "dash": [6, 6]}))])
    };
    let by_provider =
        |metric: &str, q: &str| Named::Provider.of(&quantile(q, metric, "$__rate_interval", "relay, provider_id, "));
    [
        row(8, [
            (8, quantiles(chart("Duration").unit("s"), "llm_relay_request_duration_seconds")),
            (8, quantiles(chart("Time to first token").unit("s"), "llm_relay_time_to_first_token_seconds")),
            (8, quantiles(chart("Output speed").note("Tokens per second of single requests."), "llm_relay_output_tokens_per_second")),
        ]),
        row(9, [
            (8, heatmap("Time to first token, all requests").query(
                Query::buckets("ttft", format!("sum by (le) (increase(llm_relay_time_to_first_token_seconds_bucket{{{FILTER}}}[$__rate_interval]){OF_TYPE})")).step("5m"),
            )),
            (8, chart("Time to first token by provider, p95").unit("s").query(
                Query::lines("ttft", by_provider("llm_relay_time_to_first_token_seconds", "0.95"), "{{provider}}").step("10m"),
            )),
            (8, chart("Output speed by provider, p50").note("Tokens per second of single requests.").query(
                Query::lines("speed", by_provider("llm_relay_output_tokens_per_second", "0.5"), "{{provider}}").step("10m"),
            )),
        ]),
    ]
}

fn capacity() -> Row {
    let used = format!("(llm_relay_provider_slots_used{PROVIDER_FILTER}{OF_TYPE})");
    let reopen = format!("((llm_relay_provider_circuit_reopen_timestamp_seconds{PROVIDER_FILTER} - time()) > 0)");
    row(
        9,
        [
            (8, chart("Slots in use").query(Query::lines("used", Named::Provider.of(&used), "{{provider}}"))),
            (6, shared::slots("Slots now", None)),
            (6, shared::circuits("Circuit breakers")),
            (
                4,
                table("Open circuits try again in")
                    .empty(NOTHING)
                    .query(Query::rows(
                        "reopen",
                        keyed(&format!("({})", Named::Provider.of(&reopen)), &BY, &["provider"]),
                    ))
                    .columns([provider("Provider"), column("#reopen", "In", "s").decimals(0)])
                    .sort("In", false, None),
            ),
        ],
    )
    .under("Capacity")
}

fn errors() -> [Row; 2] {
    let by = |metric: &str, label: &str| {
        format!("sum by ({label}) (rate({metric}{PROVIDER_FILTER}[$__rate_interval]){OF_TYPE}) * 60 > 0")
    };
    let failures = Named::Provider.of("(sum by (relay, provider_id, class) (increase(llm_relay_failures_total{provider_id=~\"$provider\"}[$__range])) > 0)");
    let accounts = Named::Provider.of("(sum by (relay, provider_id, model, answered_model) (increase(llm_relay_model_substitutions_total{provider_id=~\"$provider\",model=~\"$model\"}[$__range])) > 0)");
    [
        row(9, [
            (8, legend_table(stack("Failures per minute by class"), &["mean"]).empty(NOTHING)
                .query(Query::lines("failures", by("llm_relay_failures_total", "class"), "{{class}}").step("5m"))),
            (8, legend_table(stack("Responses per minute by status"), &["mean"])
                .query(Query::lines("responses", by("llm_relay_responses_total", "code"), "{{code}}").step("5m"))),
            (8, table("Failures in the time range").empty(NOTHING)
                .query(Query::rows("count", keyed(&format!("({failures})"), &["relay", "provider_id", "class"], &["provider", "class"])))
                .columns([
                    provider("Provider"),
                    column("class", "Class", ""),
                    column("#count", "Requests", "short").decimals(0).gauge(),
                ])
                .sort("Requests", true, Some(100))),
        ])
        .under("Errors"),
        row(8, [
            (14, table("Answered by another model than asked for").empty(NOTHING)
                .note("In the time range.")
                .query(Query::rows("count", keyed(&format!("({accounts})"), &["relay", "provider_id", "model", "answered_model"], &["provider", "model", "answered_model"])))
                .columns([
                    provider("Provider"),
                    column("model", "Asked for", ""),
                    column("answered_model", "Answered by", ""),
                    column("#count", "Requests", "short").decimals(0),
                ])
                .sort("Requests", true, Some(100))),
            (10, stack("Requests without a price").empty(NOTHING)
                .note("Successful requests that used tokens and cost nothing: the relay knows no price for the model.")
                .query(Query::lines("unpriced", r#"sum by (model) (increase(llm_relay_unpriced_requests_total{model=~"$model"}[$__rate_interval])) > 0"#, "{{model}}").step("10m"))),
        ]),
    ]
}

fn money() -> [Row; 2] {
    let cost = of_provider("llm_relay_cost_usd_total", "$__range");
    let requests = of_provider("llm_relay_requests_total", "$__range");
    let tokens = of_provider("llm_relay_tokens_total", "$__range");
    let wasted =
        format!("sum by (relay, provider_id) (increase(llm_relay_wasted_cost_usd_total{PROVIDER_FILTER}[$__range]))");
    let row_of = |expr: &str| keyed(expr, &BY, &[]);
    [
        row(9, [(24, table("Value for money in the time range")
            .money(Money::Columns(&["#cost", "#per_request", "#per_million", "#wasted"]))
            .query(Query::rows("cost", keyed(&format!("({})", Named::Provider.of(&cost)), &BY, &["provider"])))
            .query(Query::rows("per_request", row_of(&format!("({cost} / ({requests} > 0))"))))
            .query(Query::rows("per_million", row_of(&format!("(1e6 * {cost} / ({tokens} > 0))"))))
            .query(Query::rows("success", row_of(&success_ratio("$__range"))))
            .query(Query::rows("ttft", row_of(&quantile("0.5", "llm_relay_time_to_first_token_seconds", "$__range", "relay, provider_id, "))))
            .query(Query::rows("speed", row_of(&quantile("0.5", "llm_relay_output_tokens_per_second", "$__range", "relay, provider_id, "))))
            .query(Query::rows("wasted", row_of(&wasted)))
            .columns([
                provider("Provider"),
                column("#cost", "Cost", "").gauge().decimals(2),
                column("#per_request", "Cost per request", "").decimals(4),
                column("#per_million", "Cost per 1M tokens", "").decimals(2),
                column("#success", "Success", "percentunit").success(),
                column("#ttft", "First token p50", "s").decimals(2),
                column("#speed", "Tokens/s p50", "short").decimals(1),
                column("#wasted", "Wasted", "").decimals(2),
            ])
            .sort("Cost", true, Some(50)))])
        .under("Money"),
        row(8, [
            (12, stack("Wasted money per hour").money(Money::All).empty(NOTHING)
                .query(Query::lines("wasted", format!("sum by (reason) (rate(llm_relay_wasted_cost_usd_total{PROVIDER_FILTER}[$__rate_interval]){OF_TYPE}) * 3600"), "{{reason}}").step("10m"))),
            (12, stack("Saved by caches per hour").money(Money::All)
                .query(Query::lines("saved", format!("sum by (model) (rate(llm_relay_cache_saved_usd_total{{{FILTER}}}[$__rate_interval]){OF_TYPE}) * 3600 > 0"), "{{model}}").step("10m"))),
        ]),
    ]
}
