//! Providers: traffic, success, latency, slots and circuit breakers, errors, waste and value for money.

use serde_json::json;

use super::column::{SECONDS, column};
use super::dashboard::{Dashboard, Row, row};
use super::link::Link;
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::{heatmap, legend_table, lines, stack, table};
use super::pools::{self, Among};
use super::promql::{self, Named, Replicas, keyed};
use super::query::Query;
use super::shared::{self, JUDGED, OF_TYPE};
use super::variable::{JOB, MODEL, PROVIDER, RECORDED_SUMS, RELAY, RELAYS, RUNBOOKS, TYPE, Variable};
use crate::model::FailureClass;

const FILTER: &str = r#"provider_id=~"$provider",model=~"$model""#;
const PROVIDER_FILTER: &str = r#"provider_id=~"$provider""#;
const CHOSEN: Among = Among { matchers: PROVIDER_FILTER, filter: OF_TYPE };
const BY: &str = "relay, provider_id";
const ROW: [&str; 2] = ["relay", "provider_id"];

const DURATION: &str = "llm_relay_request_duration_seconds";
const FIRST_TOKEN: &str = "llm_relay_time_to_first_token_seconds";
const SPEED: &str = "llm_relay_output_tokens_per_second";

/// Classes of failures, and what else wastes money, in words.
const CLASSES: &[(&str, &str)] = &[
    (FailureClass::RateLimited.label(), "Rate limited"),
    (FailureClass::Overloaded.label(), "Overloaded"),
    (FailureClass::Auth.label(), "Unauthorized"),
    (FailureClass::Timeout.label(), "Timeout"),
    (FailureClass::Server.label(), "Server error"),
    (FailureClass::ClientAbort.label(), "Client went away"),
    (FailureClass::Caller.label(), "Wrong request"),
    (FailureClass::Policy.label(), "Refused by a rule"),
    (FailureClass::Unknown.label(), "Unknown"),
    ("failed", "Failed"),
];

/// Of quantiles and ratios: five minutes each over a day, three hours over a month.
const POINTS: u32 = 240;

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-relay-providers",
        title: "Providers",
        description: "How well each provider serves, and what it costs.",
        refresh: "30s",
        from: "now-6h",
        replicas: Replicas::FoldSummed,
        variables: vec![Variable::Source, JOB, RELAY, RELAYS, TYPE, PROVIDER, MODEL, RECORDED_SUMS, RUNBOOKS],
        links: vec![],
        alerts: true,
        quick_ranges: false,
        rows: vec![
            row(10, [(16, now()), (8, pools::calls_by_window())]).under("Now"),
            traffic(),
            quantiles(),
            latency(),
            usage(),
            capacity(),
            errors(),
            troubles(),
            row(9, [(13, pools::account_states(&CHOSEN)), (11, pools::accounts(&CHOSEN))]).under("Upstream accounts"),
            row(9, [(24, pools::channels(&CHOSEN))]).folded("Balances and keys of upstreams"),
            keys(),
            row(9, [(24, value())]).folded("Money"),
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

/// A quantile of a histogram.
fn quantile(q: &str, histogram: &str, range: &str, by: &str) -> String {
    let quantile = promql::quantile(q, histogram, by, |name| format!("increase({name}{{{FILTER}}}[{range}]){OF_TYPE}"));
    // Without requests it is not a number.
    format!("({quantile} >= 0)")
}

fn of_provider(q: &str, histogram: &str, range: &str) -> String {
    quantile(q, histogram, range, BY)
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
    keyed(&format!("({})", Named::Provider.of(expr)), &ROW, &Named::Provider.kept())
}

fn now() -> Panel {
    let enabled = json!([{"type": "value", "options": {
        "0": {"index": 0, "text": "✗", "color": "orange"}, "1": {"index": 1, "text": "✓", "color": "green"},
    }}]);
    let known = format!("sum by ({BY}) (llm_relay_provider_enabled{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let last = format!(
        "min by ({BY}) (time() - llm_relay_provider_last_request_timestamp_seconds{{{PROVIDER_FILTER}}}{OF_TYPE})"
    );
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
        .query(Query::rows("last", cell(&last)))
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("#enabled", "Enabled", "none")
                .width(80)
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("mappings", enabled),
            column("#requests", "Calls in 1 h", "locale").decimals(0).gauge(),
            column("#hour", "Success 1 h", "percentunit").success().width(95),
            column("#shift", "Success 8 h", "percentunit").success().width(95),
            column("#day", "Success 24 h", "percentunit").success().width(103),
            column("#p95", "Duration p95", SECONDS).decimals(1).width(110),
            column("#ttft", "First token p50", SECONDS).decimals(2).width(122),
            column("#last", "Last call before", "s").decimals(0).width(122),
        ])
        .sort("Calls in 1 h", true, Some(50))
}

fn traffic() -> Row {
    let requests = format!("({} * 60)", rate("llm_relay_requests_total", FILTER, BY));
    let requests = Named::Provider.in_chart(&requests);
    let success = Named::Provider.in_chart(&success("$__rate_interval"));
    let requests = legend_table(stack("Requests per minute by provider"), &[("mean", "Mean"), ("max", "Max")])
        .query(Query::lines("requests", requests, "{{provider}}").step("2m"));
    let mut success = legend_table(lines("Success ratio by provider"), &[("mean", "Mean"), ("min", "Min")])
        .points(POINTS)
        .unit("percentunit")
        .set("max", json!(1))
        .set("min", json!(null))
        .style("axisSoftMin", json!(0.8))
        .decimals(1)
        .query(Query::lines("success", success, "{{provider}}").step("10m"));
    // The worst at the top.
    success.options["legend"]["sortDesc"] = json!(false);
    row(9, [(12, requests), (12, success)]).under("Over time (filters: Provider, Provider type, Model)")
}

fn quantiles() -> Row {
    let of = |panel: Panel, histogram: &str| {
        let total = |part: &str| format!("sum(increase({histogram}{part}{{{FILTER}}}[$__rate_interval]){OF_TYPE})");
        let mean = format!("{} / ({} > 0)", total("_sum"), total("_count"));
        let native = format!("histogram_sum({0}) / (histogram_count({0}) > 0)", total(""));
        let at = |q: &str| quantile(q, histogram, "$__rate_interval", "");
        panel
            .points(POINTS)
            .query(Query::line("p50", at("0.5"), "p50").step("5m"))
            .query(Query::line("p95", at("0.95"), "p95").step("5m"))
            .query(Query::line("p99", at("0.99"), "p99").step("5m"))
            .query(Query::line("mean", mean, "Mean").or_native(native).step("5m"))
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
    let buckets = growth(&format!("{FIRST_TOKEN}_bucket"), FILTER, "$__rate_interval", "le");
    let native = format!("sum(increase({FIRST_TOKEN}{{{FILTER}}}[$__rate_interval]){OF_TYPE})");
    let ttft = Named::Provider.in_chart(&of_provider("0.95", FIRST_TOKEN, "$__rate_interval"));
    let speed = Named::Provider.in_chart(&of_provider("0.5", SPEED, "$__rate_interval"));
    let all = heatmap("Time to first token, all requests")
        .points(POINTS)
        .query(Query::buckets("ttft", buckets).or_native(native).step("5m"));
    let ttft = lines("Time to first token by provider, p95")
        .unit("s")
        .points(POINTS)
        .query(Query::lines("ttft", ttft, "{{provider}}").step("10m"));
    let speed = lines("Output speed by provider, p50")
        .points(POINTS)
        .note("Tokens per second of single requests.")
        .query(Query::lines("speed", speed, "{{provider}}").step("10m"));
    row(9, [(8, all), (8, ttft), (8, speed)])
}

/// How full each provider is.
fn usage() -> Row {
    let used = format!("(llm_relay_provider_slots_used{{{PROVIDER_FILTER}}}{OF_TYPE})");
    let used = lines("Slots in use").query(Query::lines("used", Named::Provider.in_chart(&used), "{{provider}}"));
    row(8, [(12, used), (12, shared::slots("Slots now", None))]).under("Capacity")
}

fn capacity() -> Row {
    let reopen = "llm_relay_provider_circuit_reopen_timestamp_seconds";
    let reopen = format!("(({reopen}{{{PROVIDER_FILTER}}} - time()) > 0)");
    let reopen = table("Open circuits try again in")
        .empty(NOTHING)
        .query(Query::rows("reopen", named_cell(&reopen)))
        .columns(Named::Provider.columns("Provider"))
        .columns([column("#reopen", "In", "s").decimals(0)])
        .sort("In", false, None);
    row(8, [(16, shared::circuits("Circuit breakers")), (8, reopen)])
}

fn errors() -> Row {
    let failures = format!("{} * 60 > 0", rate("llm_relay_failures_total", PROVIDER_FILTER, "class"));
    let responses = format!("{} * 60 > 0", rate("llm_relay_responses_total", PROVIDER_FILTER, "code"));
    let by = format!("{BY}, class");
    let in_range = format!("({} > 0)", growth("llm_relay_failures_total", PROVIDER_FILTER, "$__range", &by));
    let in_range = format!("({})", Named::Provider.of(&in_range));
    let in_range =
        keyed(&in_range, &["relay", "provider_id", "class"], &[&Named::Provider.kept()[..], &["class"]].concat());
    let failures = legend_table(stack("Failures per minute by class"), &[("mean", "Mean")])
        .empty(NOTHING)
        .words(CLASSES)
        .link(Link::CLASS)
        .query(Query::lines("failures", failures, "{{class}}").step("5m"));
    let responses = legend_table(stack("Responses per minute by status"), &[("mean", "Mean")])
        .words(&[("none", "No status")])
        .query(Query::lines("responses", responses, "{{code}}").step("5m"));
    let in_range = table("Failures in the time range")
        .empty(NOTHING)
        .words(CLASSES)
        .query(Query::rows("count", in_range))
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("class", "Class", "").link(Link::CLASS),
            column("#count", "Requests", "short").decimals(0).gauge(),
        ])
        .sort("Requests", true, Some(100));
    row(9, [(8, failures), (8, responses), (8, in_range)]).under("Errors")
}

/// What was made good, refused or answered otherwise.
fn troubles() -> Row {
    let recovered = format!("{} * 60 > 0", rate("llm_relay_recovered_attempts_total", PROVIDER_FILTER, "class"));
    let recovered = stack("Recovered attempts per minute")
        .note("Attempts that failed and that another provider made good.")
        .empty(NOTHING)
        .words(CLASSES)
        .query(Query::lines("recovered", recovered, "{{class}}").step("5m"));
    let rejected = "sum by (reason) (rate(llm_relay_rejected_requests_total[$__rate_interval])) * 60 > 0";
    let rejected = stack("Refused requests per minute")
        .note("Refused by the relay itself.")
        .empty(NOTHING)
        .query(Query::lines("rejected", rejected, "{{reason}}").step("5m"));
    let by = format!("{BY}, model, answered_model");
    let answered = growth("llm_relay_model_substitutions_total", FILTER, "$__range", &by);
    let answered = format!("({})", Named::Provider.of(&format!("({answered} > 0)")));
    let parts = ["relay", "provider_id", "model", "answered_model"];
    let answered = keyed(&answered, &parts, &[&Named::Provider.kept()[..], &["model", "answered_model"]].concat());
    let unpriced = r#"llm_relay_unpriced_requests_total{model=~"$model"}"#;
    let unpriced = format!("sum by (model) (increase({unpriced}[$__rate_interval])) > 0");
    let answered = table("Answered by another model than asked for")
        .empty(NOTHING)
        .note("In the time range.")
        .query(Query::rows("count", answered))
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("model", "Asked for", ""),
            column("answered_model", "Answered by", ""),
            column("#count", "Requests", "short").decimals(0),
        ])
        .sort("Requests", true, Some(100));
    let unpriced = stack("Requests without a price")
        .empty(NOTHING)
        .note("Successful requests that used tokens and cost nothing: the relay knows no price for the model.")
        .query(Query::lines("unpriced", unpriced, "{{model}}").step("10m"));
    row(8, [(5, recovered), (5, rejected), (5, unpriced), (9, answered)])
}

/// Upstream keys of relays that share one upstream among many.
fn keys() -> Row {
    row(9, [(3, pools::keys()), (3, pools::failing_keys()), (9, pools::each_key()), (9, pools::error_log())])
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
        .needs("llm_relay_cost_usd_total")
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
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("#requests", "Calls", "locale").decimals(0),
            column("#cost", "Cost", "").gauge().decimals(2),
            column("#list", "At list prices", "").decimals(2),
            column("#per_request", "Cost per request", "").decimals(4),
            column("#per_million", "Per 1M tokens", "").decimals(2),
            column("#success", "Success", "percentunit").success(),
            column("#ttft", "First token p50", SECONDS).decimals(2),
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
        .words(CLASSES)
        .query(Query::lines("wasted", wasted, "{{reason}}").step("10m"));
    let saved = stack("Saved by caches per hour")
        .money(Money::All)
        .query(Query::lines("saved", saved, "{{model}}").step("10m"));
    let refunded = rate("llm_relay_refunded_usd_total", PROVIDER_FILTER, BY);
    let refunded = Named::Provider.in_chart(&format!("({refunded} * 3600)"));
    let refunded = stack("Given back per hour")
        .money(Money::All)
        .empty(NOTHING)
        .query(Query::lines("refunded", refunded, "{{provider}}").step("10m"));
    let billed = rate("llm_relay_account_cost_usd_total", FILTER, BY);
    let billed = Named::Provider.in_chart(&format!("({billed} * 3600)"));
    let billed = stack("Cost at the rates of accounts, per hour")
        .money(Money::All)
        .empty(NOTHING)
        .query(Query::lines("billed", billed, "{{provider}}").step("10m"));
    row(8, [(6, wasted), (6, saved), (6, refunded), (6, billed)])
}
