//! The big screen: 26 grid rows fill 1080 pixels without scrolling. All columns share the same breaks, because fitting to
//! a taller screen scales rows and rounds.

use serde_json::{Value, json};

use super::column::{column, thresholds};
use super::dashboard::{Dashboard, row};
use super::link::Link;
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::{ranking, stack, stat, table};
use super::pools::{self, Among};
use super::promql::{self, Named, Replicas, keyed};
use super::query::Query;
use super::shared::{self, JUDGED};
use super::variable::{ANY_JOB, ANY_RELAY, RELAYS, Variable};

/// The last 20 requests, by the relay's own rules.
const LAST_REQUESTS: &str = include_str!("claude_code_hub_activity.sql");

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-relay-wall",
        title: "Wall",
        description: "The big screen: no controls in kiosk mode, renewed every 2 seconds.",
        variables: vec![Variable::Source, ANY_JOB, ANY_RELAY, RELAYS],
        ..wall(activity(), active_users())
    }
}

/// The wall with single requests from the database of Claude Code Hub, through Grafana's PostgreSQL data source.
pub(crate) fn claude_code_hub() -> Dashboard {
    Dashboard {
        uid: "llm-relay-wall-cch",
        title: "Wall with single requests (Claude Code Hub)",
        description: "The big screen with the last 20 requests from the database of Claude Code Hub. Needs a PostgreSQL data source.",
        variables: vec![Variable::Source, Variable::Postgres, ANY_JOB, ANY_RELAY, RELAYS],
        ..wall(last_requests(), active_users())
    }
}

fn wall(activity: Panel, active: Panel) -> Dashboard {
    let circuits_open = stat("Open circuits")
        .decimals(0)
        // What is not known is not green.
        .levels(&[(None, "transparent"), (Some(0.0), "transparent"), (Some(1.0), "red")])
        .option("colorMode", json!("background_solid"))
        .untold("not told")
        .query(Query::rows("now", r#"sum(llm_relay_provider_circuit_state{state="open"})"#));
    Dashboard {
        uid: "",
        title: "",
        description: "",
        refresh: "2s",
        from: "now/d",
        replicas: Replicas::Fold,
        variables: Vec::new(),
        links: Vec::new(),
        alerts: false,
        quick_ranges: false,
        rows: vec![
            row(
                6,
                [
                    (5, shared::sessions()),
                    (5, shared::requests_today()),
                    (5, shared::cost_today()),
                    (5, shared::response_time()),
                    (4, shared::error_ratio()),
                ],
            )
            .or([
                (5, pools::accounts_in_use()),
                (4, pools::keys()),
                (5, pools::failing_keys()),
                (5, shared::requests_per_minute()),
            ]),
            row(
                2,
                [(10, state()), (4, shared::data_age().slim()), (4, circuits_open.slim()), (6, shared::clock().slim())],
            ),
            row(9, [(6, board("Users today", "user")), (8, traffic()), (10, activity)])
                .or([(6, board("Keys today", "key")), (6, pools::calls_by_window())]),
            row(9, [(6, board("Providers today", "provider")), (4, slots()), (4, models()), (10, active)]).or([
                (8, pools::subscriptions()),
                (6, pools::account_states(&Among::ALL)),
                (11, pools::each_key()),
            ]),
        ],
    }
}

/// Its words are long where they matter, and Grafana would write them the smaller.
fn state() -> Panel {
    shared::state("State of the data").slim().option("text", json!({"titleSize": 20, "valueSize": 34}))
}

/// Bars that can be read from afar.
fn bars(title: &'static str) -> Panel {
    ranking(title)
        .option("text", json!({"titleSize": 16, "valueSize": 18}))
        .option("maxVizHeight", json!(60))
        .option("namePlacement", json!("top"))
}

/// The first of a leaderboard by cost.
fn board(title: &'static str, scope: &str) -> Panel {
    let cost = format!(r#"llm_relay_leaderboard_cost_usd{{scope="{scope}",period="today",id!="other"}} > 0"#);
    bars(title).money(Money::All).decimals(2).query(Query::values(
        "cost",
        format!("sort_desc({})", promql::told_apart("name", &format!("topk(6, sum by (relay, id, name) ({cost}))"))),
        "{{name}}",
    ))
}

fn traffic() -> Panel {
    let show = |color: &str| ("color", json!({"mode": "fixed", "fixedColor": color}));
    stack("Requests per minute")
        .query(
            Query::lines(
                "requests",
                "sum by (outcome) (rate(llm_relay_requests_total[$__rate_interval])) * 60",
                "{{outcome}}",
            )
            .step("5m"),
        )
        .rename("success", "Successful", vec![show("green")])
        .rename("excluded", "Not the provider's fault", vec![show("yellow")])
        .rename("failure", "Failure", vec![show("red")])
}

/// The fullest providers: one query, unlike the table on the overview.
fn slots() -> Panel {
    let share = "(llm_relay_provider_slots_used / on (relay, provider_id) (llm_relay_provider_slots_limit > 0))";
    let first = format!("sort_desc(topk(6, {}))", Named::Provider.in_chart(share));
    let unlimited = promql::nameless("group(llm_relay_provider_slots_used) * -1", "provider");
    bars("Provider slots by usage")
        .needs("llm_relay_provider_slots_limit")
        .unit("percentunit")
        .decimals(0)
        .set("max", json!(1))
        .levels(&[(None, "green"), (Some(0.7), "orange"), (Some(0.9), "red")])
        .option("displayMode", json!("lcd"))
        .map("-1", "No limits", "gray")
        .query(Query::values("share", format!("{first} or on () {unlimited}"), "{{provider}}"))
}

fn models() -> Panel {
    let board = |metric: &str| format!(r#"llm_relay_leaderboard_{metric}{{scope="model",period="today",id!="other"}}"#);
    let (requests, cost) = (board("requests"), board("cost_usd"));
    let order = promql::rank(&cost, &requests);
    let first = format!("sort_desc(sum by (name) ({requests}) and topk(6, sum by (name) {order}))");
    bars("Models today")
        .decimals(0)
        .unit("locale")
        .note("The six first by cost; the bar is the number of requests, as on the relay's screen.")
        .query(Query::values("models", first, "{{name}}"))
}

/// What the last minute brought, from counters: bounded by the number of providers and models, whatever the traffic.
fn activity() -> Panel {
    let labels = ["relay", "provider_id", "model"];
    let minute = |counter: &str| format!("sum by (relay, provider_id, model) (increase({counter}[1m]))");
    let count = |matchers: &str| {
        let counter = format!("llm_relay_requests_total{matchers}");
        format!("(sum by (relay, provider_id, model) (round(increase({counter}[1m]))) > 0)")
    };
    let requests = format!("({})", Named::Provider.in_chart(&count("")));
    // Of relays that count failures.
    let failed = format!(r#"({} or 0 * ({}{JUDGED}))"#, count(r#"{outcome="failure"}"#), count(""));
    let duration = |part: &str| minute(&format!("llm_relay_request_duration_seconds{part}"));
    // Of rows that have a name alone.
    let listed = format!("and on (relay, provider_id, model) {}", count(""));
    let mean = format!("({} / ({} > 0) {listed})", duration("_sum"), duration("_count"));
    let native = format!("(histogram_sum({0}) / (histogram_count({0}) > 0) {listed})", duration(""));
    let cost = format!("({} > 0 {listed})", minute("llm_relay_cost_usd_total"));
    table("Activity in the last minute")
        .empty(NOTHING)
        .note(
            "What ended within the last minute, by model and provider. Needs a scrape interval of at most 15 seconds.",
        )
        .money(Money::Columns(&["#cost"]))
        .query(Query::rows("requests", keyed(&requests, &labels, &["model", "provider"])))
        .query(Query::rows("failed", keyed(&failed, &labels, &[])))
        .query(Query::rows("mean", keyed(&mean, &labels, &[])).or_native(keyed(&native, &labels, &[])))
        .query(Query::rows("cost", keyed(&cost, &labels, &[])))
        .columns([
            column("model", "Model", "").link(Link::MODEL),
            column("provider", "Provider", "").width(250),
            column("#requests", "Calls", "short").width(75),
            failed_column(),
            column("#mean", "Mean", "s").decimals(1).width(70),
            column("#cost", "Cost", "").decimals(3).width(75),
        ])
        .sort("Calls", true, Some(6))
}

fn failed_column() -> super::column::Column {
    column("#failed", "Failed", "short")
        .width(60)
        .with("custom.cellOptions", json!({"type": "color-text"}))
        .with("color", json!({"mode": "thresholds"}))
        .with("thresholds", thresholds(&[(None, "text"), (Some(1.0), "red")]))
}

fn active_users() -> Panel {
    let labels = ["relay", "user_id"];
    let sessions = Named::User.of("llm_relay_user_sessions_active");
    let requests =
        "round(increase(llm_relay_user_requests_total[1m])) and on (relay, user_id) llm_relay_user_sessions_active";
    table("Active users")
        .empty(NOTHING)
        .note("Users with live sessions, and how many of their requests ended within the last minute.")
        .query(Query::rows("sessions", keyed(&format!("({sessions})"), &labels, &Named::User.kept())))
        .query(Query::rows("requests", keyed(&format!("({requests})"), &labels, &[])))
        .columns(Named::User.columns("User"))
        .columns([column("#sessions", "Sessions", "short").gauge(), column("#requests", "Calls", "short").width(75)])
        .sort("Sessions", true, Some(6))
}

fn last_requests() -> Panel {
    let postgres = json!({"type": "grafana-postgresql-datasource", "uid": "${postgres}"});
    let color = |from: i32, to: i32, color: &str| json!({"type": "range", "options": {"from": from, "to": to, "result": {"color": color}}});
    let mut panel = table("Last 20 requests")
        .empty(NOTHING)
        .note("The newest requests that are neither deleted nor replays, warm-ups and refused ones included; 0 is a request that is still running.")
        .columns([
            column("at", "Time", "time:HH:mm:ss").width(75),
            column("user", "User", ""),
            column("model", "Model", ""),
            column("provider", "Provider", ""),
            column("latency", "Latency", "ms").width(75),
            column("status", "Status", "none")
                .width(60)
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("mappings", json!([color(0, 0, "blue"), color(200, 299, "green"), color(300, 499, "orange"), color(500, 599, "red")])),
            column("cost", "Cost", "currencyUSD").decimals(4).width(85),
        ]);
    panel.foreign = Some(foreign(&postgres));
    panel
}

fn foreign(datasource: &Value) -> Value {
    json!({"datasource": datasource, "refId": "requests", "rawSql": LAST_REQUESTS, "format": "table", "rawQuery": true, "editorMode": "code"})
}
