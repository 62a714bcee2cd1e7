//! Panels that stand on more than one dashboard.

use serde_json::json;

use super::column::column;
use super::link::Link;
use super::panel::{Money, Panel, UNRECORDED};
use super::panel_types::{Better, chart, stat, table, timeline, versus};
use super::promql::{self, Named, keyed};
use super::query::Query;

/// Keeps the rows whose provider has a chosen type, or none any more.
pub(crate) const OF_TYPE: &str = r#" unless on (relay, provider_id) (llm_relay_provider_info{type!~"$type"} @ end())"#;

/// Keeps what belongs to relays that count failures: success is not known of the others.
pub(crate) const JUDGED: &str =
    r#" and on (relay) last_over_time(llm_relay_day_error_ratio{day="today"}[$__rate_interval] @ end())"#;

/// A gauge of now against the same gauge a day before.
fn day_before(metric: &str) -> String {
    promql::versus_by_relay(metric, &format!("{metric} offset 1d"))
}

pub(crate) fn sessions() -> Panel {
    versus("Concurrent sessions", Better::Neither)
        .decimals(0)
        .note("The change is against the same time yesterday, as Prometheus saw it.")
        .query(Query::rows("now", day_before("llm_relay_sessions_active")))
}

pub(crate) fn requests_per_minute() -> Panel {
    versus("RPM", Better::Neither)
        .decimals(0)
        .note("The change is against the same time yesterday, as Prometheus saw it.")
        .query(Query::rows("now", day_before("llm_relay_requests_last_minute")))
}

pub(crate) fn tokens_per_minute() -> Panel {
    versus("TPM", Better::Neither)
        .note("The change is against the same time yesterday, as Prometheus saw it.")
        .query(Query::rows("now", day_before("llm_relay_tokens_last_minute")))
}

pub(crate) fn cost_today() -> Panel {
    let day = |day: &str| format!(r#"llm_relay_day_cost_usd{{day="{day}"}}"#);
    versus("Cost today", Better::Lower)
        .link(Link::TRENDS)
        .money(Money::All)
        .decimals(2)
        .note("The change is against yesterday up to the same local time, by the relay's own numbers.")
        .query(Query::rows("now", promql::versus_by_relay(&day("today"), &day("yesterday_same_time"))))
}

pub(crate) fn requests_today() -> Panel {
    let day = |day: &str| format!(r#"llm_relay_day_requests{{day="{day}"}}"#);
    versus("Requests today", Better::Neither)
        .link(Link::TRENDS)
        .note("The change is against yesterday up to the same local time, by the relay's own numbers.")
        .query(Query::rows("now", promql::versus_by_relay(&day("today"), &day("yesterday_same_time"))))
}

pub(crate) fn response_time() -> Panel {
    let day = |day: &str| {
        let (mean, requests) = (
            format!(r#"llm_relay_day_mean_duration_seconds{{day="{day}"}}"#),
            format!(r#"llm_relay_day_requests{{day="{day}"}}"#),
        );
        format!("(sum({mean} * {requests}) / sum({requests} and {mean}))")
    };
    versus("Mean response time", Better::Lower)
        .link(Link::PROVIDERS)
        .unit("s")
        .decimals(1)
        .note("The change is against yesterday up to the same local time, by the relay's own numbers.")
        .query(Query::rows("now", promql::versus(&day("today"), &day("yesterday_same_time"))))
}

pub(crate) fn error_ratio() -> Panel {
    let day = |day: &str| {
        let (ratio, requests) = (
            format!(r#"llm_relay_day_error_ratio{{day="{day}"}}"#),
            format!(r#"llm_relay_day_requests{{day="{day}"}}"#),
        );
        // A day without requests has the ratio 0, as on the relay's screen.
        format!("(sum({ratio} * {requests}) / (sum({requests} and on (relay) {ratio}) > 0) or sum({ratio}))")
    };
    versus("Error rate today", Better::Lower)
        .link(Link::PROVIDERS)
        .unit("percentunit")
        .decimals(1)
        .levels(&[(None, "text"), (Some(0.0), "green"), (Some(0.02), "orange"), (Some(0.1), "red")])
        .untold(UNRECORDED)
        .note("The change is in percentage points, against yesterday up to the same local time, by the relay's own numbers.")
        .query(Query::rows("now", promql::versus_in_points(&day("today"), &day("yesterday_same_time"))))
}

/// The time of day where the relay is, and the name of its zone.
pub(crate) fn clock() -> Panel {
    let since_midnight = "(time() - max by (relay) (llm_relay_day_start_timestamp_seconds))";
    let zones = "max by (relay, timezone) (llm_relay_info)";
    stat("Time of the relay")
        .unit("dthms")
        // Beside other zones Grafana would write it in the smallest letters.
        .option("text", json!({"titleSize": 16, "valueSize": 26}))
        .set("displayName", json!("${__field.labels.timezone}"))
        .note("Since the relay's midnight, in its time zone: on the day of a clock change it is an hour off.")
        .query(Query::values(
            "now",
            format!("max by (timezone) ({since_midnight} * on (relay) group_left (timezone) {zones})"),
            "{{timezone}}",
        ))
}

/// Age of the numbers of requests and live state, whichever is older.
pub(crate) fn data_age() -> Panel {
    stat("Data age")
        .unit("s")
        .decimals(0)
        .levels(&[(None, "red"), (Some(0.0), "transparent"), (Some(30.0), "dark-orange"), (Some(60.0), "red")])
        .option("colorMode", json!("background_solid"))
        .note("How long ago requests and live state were last read, whichever is longer.")
        .empty("NO DATA")
        .query(Query::rows(
            "now",
            r#"max(time() - llm_relay_source_last_success_timestamp_seconds{source=~"ledger|live"})"#,
        ))
}

/// 0 all is well, 1 a source is down, 2 data are old, 3 nothing is scraped.
pub(crate) const STATE: &str = r#"(max(1 - llm_relay_source_up) > 0 or max(2 * (time() - llm_relay_source_last_success_timestamp_seconds{source=~"ledger|live"} > bool 60))) or vector(3)"#;

/// Quiet while all is well.
pub(crate) fn state(title: &'static str) -> Panel {
    stat(title)
        .link(Link::SOURCES)
        .option("colorMode", json!("background_solid"))
        .levels(&[(None, "red")])
        .note("Live: all sources of all relays are being read. Numbers that cannot be renewed disappear instead of growing old. Not scraped: the exporter does not answer Prometheus.")
        .empty("NO DATA")
        .query(Query::rows("now", STATE))
        .map("0", "Live", "transparent")
        .map("1", "A SOURCE IS DOWN", "red")
        .map("2", "DATA ARE OLD", "red")
        .map("3", "NOT SCRAPED", "red")
}

/// Cost and calls over time, yesterday dashed. `step` is the shortest span that one point stands for.
pub(crate) fn cost_and_calls(step: &'static str) -> Panel {
    let hourly = |metric: &str, at: &str| format!("sum(rate({metric}[$__rate_interval]{at})) * 3600");
    let dashed = || {
        vec![
            ("custom.lineStyle", json!({"fill": "dash", "dash": [6, 6]})),
            ("custom.fillOpacity", json!(0)),
            ("custom.lineWidth", json!(1)),
        ]
    };
    let right = |mut properties: Vec<(&'static str, serde_json::Value)>| {
        properties.push(("custom.axisPlacement", json!("right")));
        properties.push(("unit", json!("short")));
        properties
    };
    let color = |color: &str| ("color", json!({"mode": "fixed", "fixedColor": color}));
    chart("Cost and calls")
        .money(Money::Legends(&["Cost per hour", "Cost per hour, yesterday"]))
        .unit("currencyUSD")
        .style("fillOpacity", json!(25))
        .style("gradientMode", json!("opacity"))
        .style("showPoints", json!("never"))
        .note("At each moment: what one hour at this pace costs, and how many calls it makes. Dashed: 24 hours before.")
        .query(Query::line("cost", hourly("llm_relay_cost_usd_total", ""), "Cost per hour").step(step))
        .query(Query::line("calls", hourly("llm_relay_requests_total", ""), "Calls per hour").step(step))
        .query(
            Query::line("cost_before", hourly("llm_relay_cost_usd_total", " offset 1d"), "Cost per hour, yesterday")
                .step(step),
        )
        .query(
            Query::line("calls_before", hourly("llm_relay_requests_total", " offset 1d"), "Calls per hour, yesterday")
                .step(step),
        )
        .legend("Cost per hour", vec![color("blue")])
        .legend("Cost per hour, yesterday", [dashed(), vec![color("light-blue")]].concat())
        .legend("Calls per hour", right(vec![color("orange")]))
        .legend("Calls per hour, yesterday", right([dashed(), vec![color("light-orange")]].concat()))
}

/// Providers by the share of their slots that is in use.
pub(crate) fn slots(title: &'static str, limit: Option<u32>) -> Panel {
    let row = |expr: &str, keep: &[&str]| keyed(expr, &["relay", "provider_id"], keep);
    let used = Named::Provider.of("llm_relay_provider_slots_used");
    let share = "(llm_relay_provider_slots_used / on (relay, provider_id) (llm_relay_provider_slots_limit > 0))";
    let order = promql::rank(share, "llm_relay_provider_slots_used");
    // Of rows that have a name alone.
    let limits = "llm_relay_provider_slots_limit and on (relay, provider_id) llm_relay_provider_slots_used";
    // Without its mark at the beginning of an empty bar.
    let no_limit = json!([{"type": "special", "options": {
        "match": "null", "result": {"text": "–", "color": "transparent", "index": 0},
    }}]);
    table(title)
        .query(Query::rows("order", row(&order, &[])))
        .query(Query::rows("used", row(&format!("({used})"), &Named::Provider.kept())))
        .query(Query::rows("limit", row(&format!("({limits})"), &[])))
        .query(Query::rows("share", row(share, &[])))
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("#used", "Used", "short").width(70),
            column("#limit", "Slots", "short").width(80).with("noValue", json!("∞")),
            column("#share", "In use", "percentunit").fill().with("mappings", no_limit),
        ])
        .sort("#order", true, limit)
}

/// States of circuit breakers over time.
pub(crate) fn circuits(title: &'static str) -> Panel {
    let open = r#"llm_relay_provider_circuit_state{state="open"} * 2"#;
    let half_open = r#"llm_relay_provider_circuit_state{state="half_open"}"#;
    let state = format!("sum by (relay, provider_id) ({open} or {half_open})");
    timeline(title, "{{provider}}")
        .note("Closed lets requests through, half-open tries, open refuses. Begins with the first scrape: the past of states is not kept.")
        .query(Query::lines("state", Named::Provider.in_chart(&state), "{{provider}}"))
        .map("0", "Closed", "green")
        .map("1", "Half-open", "yellow")
        .map("2", "Open", "red")
}
