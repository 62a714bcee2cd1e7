//! Providers: traffic, success, latency, slots and circuit breakers, errors, waste and value for money.

use serde_json::json;

use super::column::{column, thresholds};
use super::dashboard::{Dashboard, Row, row};
use super::panel::{Money, NOTHING, Panel, UNRECORDED};
use super::panel_types::{heatmap, legend_table, lines, stack, stat, table, timeline};
use super::promql::{self, Named, Replicas, keyed};
use super::query::Query;
use super::shared::{self, JUDGED, OF_TYPE};
use super::variable::{JOB, MODEL, PROVIDER, RELAY, TYPE, Variable};

const FILTER: &str = r#"provider_id=~"$provider",model=~"$model""#;
const PROVIDER_FILTER: &str = r#"provider_id=~"$provider""#;
const BY: &str = "relay, provider_id";
const ROW: [&str; 2] = ["relay", "provider_id"];

const DURATION: &str = "llm_relay_request_duration_seconds";
const FIRST_TOKEN: &str = "llm_relay_time_to_first_token_seconds";
const SPEED: &str = "llm_relay_output_tokens_per_second";

pub(crate) fn dashboard() -> Dashboard {
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
        rows: vec![
            row(10, [(16, now()), (8, windows())]).under("Now"),
            traffic(),
            quantiles(),
            latency(),
            capacity(),
            errors(),
            pools(),
            row(9, [(24, channels())]),
            keys(),
            models(),
            row(9, [(24, value())]).under("Money"),
            money(),
        ],
    }
}

/// The growth of a counter, summed `by` labels.
fn growth(counter: &str, matchers: &str, range: &str, by: &str) -> String {
    format!("sum by ({by}) (increase({counter}{{{matchers}}}[{range}]){OF_TYPE})")
}

/// The same per second.
fn rate(counter: &str, matchers: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({counter}{{{matchers}}}[$__rate_interval]){OF_TYPE})")
}

/// A quantile of a histogram; `by` is empty or ends in a comma.
fn quantile(q: &str, histogram: &str, range: &str, by: &str) -> String {
    format!("histogram_quantile({q}, sum by ({by} le) (rate({histogram}_bucket{{{FILTER}}}[{range}]){OF_TYPE}))")
}

fn of_provider(q: &str, histogram: &str, range: &str) -> String {
    quantile(q, histogram, range, &format!("{BY},"))
}

/// Successes divided by successes and failures: what is not the provider's fault is on neither side.
fn success(range: &str) -> String {
    let of =
        |outcome: &str| growth("llm_relay_requests_total", &format!(r#"outcome=~"{outcome}",{FILTER}"#), range, BY);
    // A provider that has no successes has no series of them: 0, not unknown.
    let all = format!("({}{JUDGED})", of("success|failure"));
    format!("(({} or 0 * {all}) / ({all} > 0))", of("success"))
}

/// A column of numbers, and the first one, which brings the names.
fn cell(expr: &str) -> String {
    keyed(expr, &ROW, &[])
}

fn named_cell(expr: &str) -> String {
    keyed(&format!("({})", Named::Provider.of(expr)), &ROW, &["provider"])
}

fn now() -> Panel {
    let enabled = json!([{"type": "value", "options": {
        "0": {"index": 0, "text": "–", "color": "orange"}, "1": {"index": 1, "text": "✓", "color": "green"},
    }}]);
    let known = format!("sum by ({BY}) (llm_relay_provider_enabled{{{PROVIDER_FILTER}}}{OF_TYPE})");
    // One that was never asked has no series: 0 calls.
    let all = format!("sum by ({BY}) (llm_relay_provider_info{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let requests = format!("({} or 0 * {all})", growth("llm_relay_requests_total", FILTER, "1h", BY));
    table("Providers")
        .note("Requests of the last hour; success in several spans; an absent percentage had nothing to judge.")
        .query(Query::rows("requests", named_cell(&requests)))
        .query(Query::rows("hour", cell(&success("1h"))))
        .query(Query::rows("shift", cell(&success("8h"))))
        .query(Query::rows("day", cell(&success("24h"))))
        .query(Query::rows("p95", cell(&of_provider("0.95", DURATION, "1h"))))
        .query(Query::rows("ttft", cell(&of_provider("0.5", FIRST_TOKEN, "1h"))))
        .query(Query::rows("enabled", cell(&known)))
        .columns([
            column("provider", "Provider", ""),
            column("#enabled", "Enabled", "none").width(80).with("mappings", enabled),
            column("#requests", "Calls in 1 h", "locale").decimals(0).gauge(),
            column("#hour", "Success 1 h", "percentunit").success(),
            column("#shift", "Success 8 h", "percentunit").success(),
            column("#day", "Success 24 h", "percentunit").success(),
            column("#p95", "Duration p95", "s").decimals(1),
            column("#ttft", "First token p50", "s").decimals(2),
        ])
        .sort("Calls in 1 h", true, Some(50))
}

fn windows() -> Panel {
    let of = |outcome: &str| {
        let requests = format!(r#"llm_relay_window_requests{{outcome=~"{outcome}"}}"#);
        format!(r#"sum by (row) (label_replace({requests}, "row", "$1", "window", "(.+)"))"#)
    };
    table("Success of the relay by window")
        .note("Exact to the second, by the relay's own rule of success; all providers.")
        .empty(UNRECORDED)
        .query(Query::rows("requests", of(".+")))
        .query(Query::rows("failures", of("failure")))
        .query(Query::rows("ratio", format!("{} / ({} > 0)", of("success"), of("success|failure"))))
        .columns([
            column("row", "Window", ""),
            column("#requests", "Calls", "locale"),
            column("#failures", "Failed", "locale"),
            column("#ratio", "Success", "percentunit").success(),
        ])
        .sort("Calls", false, None)
}

fn traffic() -> Row {
    let requests = format!("({} * 60)", rate("llm_relay_requests_total", FILTER, BY));
    let requests = Named::Provider.of(&requests);
    let success = Named::Provider.of(&success("$__rate_interval"));
    let requests = legend_table(stack("Requests per minute by provider"), &[("mean", "Mean"), ("max", "Max")])
        .query(Query::lines("requests", requests, "{{provider}}").step("2m"));
    let success = legend_table(lines("Success ratio by provider"), &[("mean", "Mean"), ("min", "Min")])
        .unit("percentunit")
        .set("max", json!(1))
        .set("min", json!(null))
        .style("axisSoftMin", json!(0.8))
        .decimals(1)
        .empty(UNRECORDED)
        .query(Query::lines("success", success, "{{provider}}").step("10m"));
    row(9, [(12, requests), (12, success)]).under("Over time (filters: Provider, Provider type, Model)")
}

fn quantiles() -> Row {
    let of = |panel: Panel, histogram: &str| {
        let total = |part: &str| format!("sum(rate({histogram}_{part}{{{FILTER}}}[$__rate_interval]){OF_TYPE})");
        let at = |q: &str| quantile(q, histogram, "$__rate_interval", "");
        panel
            .query(Query::line("p50", at("0.5"), "p50").step("5m"))
            .query(Query::line("p95", at("0.95"), "p95").step("5m"))
            .query(Query::line("p99", at("0.99"), "p99").step("5m"))
            .query(Query::line("mean", format!("{} / ({} > 0)", total("sum"), total("count")), "Mean").step("5m"))
            .legend("Mean", vec![("custom.lineStyle", json!({"fill": "dash", "dash": [6, 6]}))])
    };
    let speed = lines("Output speed").note("Tokens per second of single requests.");
    row(
        8,
        [
            (8, of(lines("Duration").unit("s"), DURATION)),
            (8, of(lines("Time to first token").unit("s"), FIRST_TOKEN)),
            (8, of(speed, SPEED)),
        ],
    )
}

fn latency() -> Row {
    let buckets = growth("llm_relay_time_to_first_token_seconds_bucket", FILTER, "$__rate_interval", "le");
    let ttft = Named::Provider.of(&of_provider("0.95", FIRST_TOKEN, "$__rate_interval"));
    let speed = Named::Provider.of(&of_provider("0.5", SPEED, "$__rate_interval"));
    let all = heatmap("Time to first token, all requests").query(Query::buckets("ttft", buckets).step("5m"));
    let ttft = lines("Time to first token by provider, p95")
        .unit("s")
        .query(Query::lines("ttft", ttft, "{{provider}}").step("10m"));
    let speed = lines("Output speed by provider, p50")
        .note("Tokens per second of single requests.")
        .query(Query::lines("speed", speed, "{{provider}}").step("10m"));
    row(9, [(8, all), (8, ttft), (8, speed)])
}

fn capacity() -> Row {
    let used = format!("(llm_relay_provider_slots_used{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let reopen = "llm_relay_provider_circuit_reopen_timestamp_seconds";
    let reopen = format!("(({reopen}{{{PROVIDER_FILTER}}} - time()) > 0)");
    let used = lines("Slots in use").query(Query::lines("used", Named::Provider.of(&used), "{{provider}}"));
    let reopen = table("Open circuits try again in")
        .empty(NOTHING)
        .query(Query::rows("reopen", named_cell(&reopen)))
        .columns([column("provider", "Provider", ""), column("#reopen", "In", "s").decimals(0)])
        .sort("In", false, None);
    row(9, [(8, used), (6, shared::slots("Slots now", None)), (6, shared::circuits("Circuit breakers")), (4, reopen)])
        .under("Capacity")
}

fn errors() -> Row {
    let failures = format!("{} * 60 > 0", rate("llm_relay_failures_total", PROVIDER_FILTER, "class"));
    let responses = format!("{} * 60 > 0", rate("llm_relay_responses_total", PROVIDER_FILTER, "code"));
    let by = format!("{BY}, class");
    let in_range = format!("({} > 0)", growth("llm_relay_failures_total", PROVIDER_FILTER, "$__range", &by));
    let in_range = format!("({})", Named::Provider.of(&in_range));
    let in_range = keyed(&in_range, &["relay", "provider_id", "class"], &["provider", "class"]);
    let failures = legend_table(stack("Failures per minute by class"), &[("mean", "Mean")])
        .empty(NOTHING)
        .query(Query::lines("failures", failures, "{{class}}").step("5m"));
    let responses = legend_table(stack("Responses per minute by status"), &[("mean", "Mean")])
        .query(Query::lines("responses", responses, "{{code}}").step("5m"));
    let in_range = table("Failures in the time range")
        .empty(NOTHING)
        .query(Query::rows("count", in_range))
        .columns([
            column("provider", "Provider", ""),
            column("class", "Class", ""),
            column("#count", "Requests", "short").decimals(0).gauge(),
        ])
        .sort("Requests", true, Some(100));
    row(9, [(8, failures), (8, responses), (8, in_range)]).under("Errors")
}

/// What can be wrong with an upstream account, by its label; normal is none of these.
const TROUBLES: [(&str, &str, &str); 9] = [
    ("rate_limited", "Rate limited", "orange"),
    ("cooling_down", "Cooling down", "yellow"),
    ("overloaded", "Overloaded", "semi-dark-orange"),
    ("quota_exceeded", "Quota exceeded", "dark-orange"),
    ("unauthorized", "Unauthorized", "red"),
    ("blocked", "Blocked", "dark-red"),
    ("error", "Error", "semi-dark-red"),
    ("paused", "Paused", "blue"),
    ("disabled", "Disabled", "gray"),
];
/// The numbers that stand for [`TROUBLES`] in a chart; 0 is normal.
const NUMBERS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// Relays that share keys and accounts among all: which of them serve.
fn pools() -> Row {
    let of = |(state, number): (&str, &str)| {
        format!(r#"llm_relay_provider_account_state{{state="{state}",{PROVIDER_FILTER}}} * {number}"#)
    };
    let states: Vec<String> = TROUBLES.iter().zip(NUMBERS).map(|((state, ..), number)| of((state, number))).collect();
    let state = format!("(sum by (relay, provider_id) ({}){OF_TYPE})", states.join(" or "));
    let state = timeline("State of upstream accounts", "{{provider}}")
        .query(Query::lines("state", Named::Provider.of(&state), "{{provider}}"))
        .map("0", "Normal", "green");
    let state =
        TROUBLES.iter().zip(NUMBERS).fold(state, |state, ((_, words, color), number)| state.map(number, words, color));

    let back = format!("(llm_relay_account_return_timestamp_seconds{{{PROVIDER_FILTER}}}{OF_TYPE} - time())");
    let plan = format!("llm_relay_account_plan_info{{{PROVIDER_FILTER}}}{OF_TYPE}");
    let plan = keyed(&format!("({plan})"), &ROW, &["plan"]);
    let known = format!("sum by ({BY}) (llm_relay_provider_account_state{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let accounts = table("Upstream accounts")
        .note("Back in: when the relay means to use the account again; below 0 it is late.")
        .query(Query::rows("known", named_cell(&known)))
        .query(Query::rows("plan", plan))
        .query(Query::rows("back", cell(&format!("max by ({BY}) ({back})"))))
        .columns([
            column("provider", "Provider", ""),
            column("plan", "Plan", "").width(90),
            column("#back", "Back in", "s").decimals(0).width(110),
        ])
        .sort("Back in", true, Some(100));
    row(9, [(16, state), (8, accounts)])
        .under("Pools (states of claude-relay-service, CPA-Manager-Plus, new-api and one-api, keys and error log of gemini-balance)")
}

/// What a relay has asked its upstream accounts, and how many of their keys are left.
fn channels() -> Panel {
    let of = |metric: &str| format!("max by ({BY}) ({metric}{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let age = |metric: &str| format!("(time() - {})", of(metric));
    let keys = |state: &str| format!("sum by ({BY}) (llm_relay_account_keys{{{state},{PROVIDER_FILTER}}}{OF_TYPE})");
    let known = format!(
        "sum by ({BY}) (llm_relay_account_balance{{{PROVIDER_FILTER}}}{OF_TYPE} or llm_relay_account_test_duration_seconds{{{PROVIDER_FILTER}}}{OF_TYPE} or llm_relay_account_keys{{{PROVIDER_FILTER}}}{OF_TYPE})"
    );
    table("Balances, tests and keys of upstream accounts")
        .note("A balance is in the upstream's currency. Keys: of accounts that have several.")
        .query(Query::rows("known", named_cell(&known)))
        .query(Query::rows("balance", cell(&of("llm_relay_account_balance"))))
        .query(Query::rows("told", cell(&age("llm_relay_account_balance_timestamp_seconds"))))
        .query(Query::rows("test", cell(&of("llm_relay_account_test_duration_seconds"))))
        .query(Query::rows("tested", cell(&age("llm_relay_account_test_timestamp_seconds"))))
        .query(Query::rows("keys", cell(&keys(r#"state="normal""#))))
        .query(Query::rows("out", cell(&keys(r#"state!="normal""#))))
        .columns([
            column("provider", "Provider", ""),
            column("#balance", "Balance", "short").decimals(2),
            column("#told", "Told before", "s").decimals(0),
            column("#test", "Last test", "s").decimals(2),
            column("#tested", "Tested before", "s").decimals(0),
            column("#keys", "Keys in use", "short").decimals(0),
            column("#out", "Keys out", "short").decimals(0),
        ])
        .sort("Balance", true, Some(100))
}

/// Upstream keys of relays that share one upstream among many.
fn keys() -> Row {
    const FAILURES: &str = "llm_relay_key_consecutive_failures";
    let all = stat("Upstream keys").decimals(0).query(Query::rows("now", format!("count({FAILURES})")));
    let failing = stat("Keys that fail")
        .note("At least three times in a row.")
        .decimals(0)
        .levels(&[(None, "green"), (Some(1.0), "orange")])
        .query(Query::rows("now", format!("count({FAILURES} >= 3) or 0 * count({FAILURES})")));
    let of = |outcome: &str| {
        let counter = format!(r#"llm_relay_key_outcomes_total{{outcome=~"{outcome}"}}"#);
        format!("(sum by (relay, key_id) (increase({counter}[24h])) and on (relay, key_id) {FAILURES})")
    };
    let judged = format!("({} > 0)", of("success|failure"));
    let success = format!("(({} or 0 * {judged}) / {judged})", of("success"));
    let by = ["relay", "key_id"];
    let each = table("Upstream keys")
        .query(Query::rows("failures", keyed(&format!("({})", Named::Key.of(FAILURES)), &by, &["key"])))
        .query(Query::rows("day", keyed(&success, &by, &[])))
        .query(Query::rows("calls", keyed(&of(".+"), &by, &[])))
        .columns([
            column("key", "Key", ""),
            column("#failures", "Failures in a row", "short")
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("color", json!({"mode": "thresholds"}))
                .with("thresholds", thresholds(&[(None, "green"), (Some(1.0), "orange"), (Some(3.0), "red")])),
            column("#calls", "Calls in 24 h", "locale").decimals(0),
            column("#day", "Success 24 h", "percentunit").success(),
        ])
        .sort("Failures in a row", true, Some(100));

    let entries = "sum by (type, code) (rate(llm_relay_error_log_entries_total[$__rate_interval])) * 60";
    let entries = legend_table(stack("Entries of the error log per minute"), &[("mean", "Mean")])
        .query(Query::lines("entries", entries, "{{type}} {{code}}").step("2m"));
    row(9, [(3, all), (3, failing), (9, each), (9, entries)])
}

fn models() -> Row {
    let by = format!("{BY}, model, answered_model");
    let answered = growth("llm_relay_model_substitutions_total", FILTER, "$__range", &by);
    let answered = format!("({})", Named::Provider.of(&format!("({answered} > 0)")));
    let parts = ["relay", "provider_id", "model", "answered_model"];
    let answered = keyed(&answered, &parts, &["provider", "model", "answered_model"]);
    let unpriced = r#"llm_relay_unpriced_requests_total{model=~"$model"}"#;
    let unpriced = format!("sum by (model) (increase({unpriced}[$__rate_interval])) > 0");
    let answered = table("Answered by another model than asked for")
        .empty(NOTHING)
        .note("In the time range.")
        .query(Query::rows("count", answered))
        .columns([
            column("provider", "Provider", ""),
            column("model", "Asked for", ""),
            column("answered_model", "Answered by", ""),
            column("#count", "Requests", "short").decimals(0),
        ])
        .sort("Requests", true, Some(100));
    let unpriced = stack("Requests without a price")
        .empty(NOTHING)
        .note("Successful requests that used tokens and cost nothing: the relay knows no price for the model.")
        .query(Query::lines("unpriced", unpriced, "{{model}}").step("10m"));
    row(8, [(14, answered), (10, unpriced)])
}

fn value() -> Panel {
    // Of relays whose totals do not tell providers apart, what their records of single requests tell.
    let cost = [("llm_relay_cost_usd_total", FILTER), ("llm_relay_provider_cost_usd_total", PROVIDER_FILTER)];
    let cost = cost.map(|(counter, filter)| growth(counter, filter, "$__range", BY));
    let cost = format!("({})", cost.join(" or "));
    let list = growth("llm_relay_list_cost_usd_total", FILTER, "$__range", BY);
    let requests = growth("llm_relay_requests_total", FILTER, "$__range", BY);
    let tokens = growth("llm_relay_tokens_total", FILTER, "$__range", BY);
    let wasted = growth("llm_relay_wasted_cost_usd_total", PROVIDER_FILTER, "$__range", BY);
    table("Value for money in the time range")
        .money(Money::Columns(&["#cost", "#list", "#per_request", "#per_million", "#wasted"]))
        .query(Query::rows("order", named_cell(&promql::rank(&cost, &requests))))
        .query(Query::rows("requests", cell(&requests)))
        .query(Query::rows("cost", cell(&cost)))
        .query(Query::rows("list", cell(&list)))
        .query(Query::rows("per_request", cell(&format!("({cost} / ({requests} > 0))"))))
        .query(Query::rows("per_million", cell(&format!("(1e6 * {cost} / ({tokens} > 0))"))))
        .query(Query::rows("success", cell(&success("$__range"))))
        .query(Query::rows("ttft", cell(&of_provider("0.5", FIRST_TOKEN, "$__range"))))
        .query(Query::rows("speed", cell(&of_provider("0.5", SPEED, "$__range"))))
        .query(Query::rows("wasted", cell(&wasted)))
        .columns([
            column("provider", "Provider", ""),
            column("#requests", "Calls", "locale").decimals(0),
            column("#cost", "Cost", "").gauge().decimals(2),
            column("#list", "At list prices", "").decimals(2),
            column("#per_request", "Cost per request", "").decimals(4),
            column("#per_million", "Cost per 1M tokens", "").decimals(2),
            column("#success", "Success", "percentunit").success(),
            column("#ttft", "First token p50", "s").decimals(2),
            column("#speed", "Tokens/s p50", "short").decimals(1),
            column("#wasted", "Wasted", "").decimals(2),
        ])
        .sort("#order", true, Some(50))
}

fn money() -> Row {
    let wasted = format!("{} * 3600", rate("llm_relay_wasted_cost_usd_total", PROVIDER_FILTER, "reason"));
    let saved = format!("{} * 3600 > 0", rate("llm_relay_cache_saved_usd_total", FILTER, "model"));
    let wasted = stack("Wasted money per hour")
        .money(Money::All)
        .empty(NOTHING)
        .query(Query::lines("wasted", wasted, "{{reason}}").step("10m"));
    let saved = stack("Saved by caches per hour")
        .money(Money::All)
        .query(Query::lines("saved", saved, "{{model}}").step("10m"));
    let refunded = rate("llm_relay_refunded_usd_total", PROVIDER_FILTER, BY);
    let refunded = Named::Provider.of(&format!("({refunded} * 3600)"));
    let refunded = stack("Given back per hour")
        .money(Money::All)
        .empty(NOTHING)
        .query(Query::lines("refunded", refunded, "{{provider}}").step("10m"));
    row(8, [(8, wasted), (8, saved), (8, refunded)])
}
