//! Limits: how much is used, when they start anew, when they will be used up.

use serde_json::json;

use super::column::{column, thresholds};
use super::dashboard::{Dashboard, Row, row};
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::{legend_table, lines, stack, stat, table};
use super::pools;
use super::promql::{Named, Replicas, keyed};
use super::query::Query;
use super::variable::{JOB, LENGTHS, RELAY, RELAYS, SCOPE, Variable, WINDOW, WINDOWS};

const ALL: &str = r#"{scope=~"$scope",window=~"$window"}"#;

pub(crate) fn dashboard() -> Dashboard {
    let share = format!("(llm_relay_quota_used_usd{ALL} / (llm_relay_quota_limit_usd{ALL} > 0))");
    let limits_in_sight = format!("count(llm_relay_quota_limit_usd{ALL})");
    let running_out = format!("count(llm_relay_quota_exhaustion_timestamp_seconds{ALL})");
    // 0 where there are limits, nothing where there are none.
    let level = |title, count: String, color| {
        stat(title)
            .decimals(0)
            .note("Predictions follow the pace of the last five hours.")
            .levels(&[(None, "text"), (Some(0.0), "green"), (Some(1.0), color)])
            .query(Query::rows("now", format!("{count} or 0 * {limits_in_sight}")))
    };
    Dashboard {
        uid: "llm-relay-quotas",
        title: "Quotas",
        description: "Spending limits of users, keys, teams and providers.",
        refresh: "30s",
        from: "now-24h",
        replicas: Replicas::Fold,
        variables: vec![Variable::Source, JOB, RELAY, RELAYS, SCOPE, WINDOW],
        links: vec![],
        alerts: false,
        quick_ranges: false,
        rows: vec![
            row(
                4,
                [
                    (6, stat("Limits").decimals(0).query(Query::rows("now", limits_in_sight.clone()))),
                    (6, level("Used above 80 %", format!("count({share} > 0.8)"), "orange")),
                    (6, level("Used up", format!("count({share} >= 1)"), "red")),
                    (6, level("Used up before their reset", running_out, "orange")),
                ],
            ),
            row(
                10,
                [
                    (12, limits("Limits of users", Named::User, "user", "User", false)),
                    (12, limits("Limits of keys", Named::Key, "key", "Key", true)),
                ],
            )
            .under("Used and left (filters: Whose, Window)"),
            row(
                10,
                [(12, limits("Limits of providers", Named::Provider, "provider", "Provider", false)), (12, expiry())],
            ),
            teams(),
            row(9, [(12, sessions_of_keys()), (12, limits_of_users())])
                .under("Sessions, requests per minute and expiry"),
            row(9, [(24, nearest())]).under("Over time"),
            row(9, [(12, pools::subscriptions()), (12, accounts_over_time())]).under("Upstream subscriptions"),
            row(8, [(12, rate_limits()), (12, slots_of_keys())]).under("Rate limits, slots and queues of keys"),
            row(8, [(12, queues()), (12, waits())]),
        ],
    }
}

fn teams() -> Row {
    let teams = limits("Limits of teams", Named::Team, "team", "Team", true);
    let organizations = limits("Limits of organizations", Named::Organization, "organization", "Organization", true);
    row(8, [(12, teams), (12, organizations)]).under("Teams and organizations")
}

fn nearest() -> Panel {
    let share = |matchers: &str, at: &str| {
        let [used, limit] = ["used", "limit"].map(|what| format!("llm_relay_quota_{what}_usd{{{matchers}}}{at}"));
        format!("{used} / ({limit} > 0)")
    };
    let filter = r#"scope=~"$scope",window=~"$window""#;
    let first = format!("topk(10, {})", share(filter, " @ end()"));
    let named = |of: Named| {
        let (id, label) = (of.id(), of.label());
        let all = share(&format!(r#"scope="{label}",{filter}"#), "");
        let all = format!("({all} and on (relay, scope, id, window, part) {first})");
        let all = format!(r#"sum by (relay, {id}, window, part) (label_replace({all}, "{id}", "$1", "id", "(.+)"))"#);
        format!(r#"label_replace({}, "name", "$1", "{label}", "(.+)")"#, of.in_chart(&all))
    };
    let whose = [Named::User, Named::Key, Named::Team, Named::Organization, Named::Provider];
    let all = whose.map(named).join(" or ");
    legend_table(lines("The ten nearest to their limit"), &[("lastNotNull", "Last *")])
        .unit("percentunit")
        .style("axisSoftMax", json!(1))
        .decimals(0)
        .words(WINDOWS)
        .words(LENGTHS)
        .query(Query::lines("share", all, "{{name}}, {{window}} {{part}}"))
}

/// Every limit of one scope; `with_soft`: also those that only alert.
fn limits(title: &'static str, of: Named, scope: &str, heading: &'static str, with_soft: bool) -> Panel {
    let id = of.id();
    let by = ["relay", id, "window", "part"];
    // The scope's own label instead of `id`, by which names are found.
    let all = |metric: &str| {
        format!(
            r#"sum by (relay, {id}, window, part) (label_replace({metric}{{scope="{scope}",scope=~"$scope",window=~"$window"}}, "{id}", "$1", "id", "(.+)"))"#
        )
    };
    let (used, limit) = (all("llm_relay_quota_used_usd"), all("llm_relay_quota_limit_usd"));
    let in_time = |metric: &str| format!("({} - time() > 0)", all(metric));
    let soft = all("llm_relay_quota_soft_limit_usd");
    let any = of.of(&if with_soft { format!("({limit} or {soft})") } else { limit.clone() });
    let kept = [&of.kept()[..], &["window", "part"]].concat();
    let mut panel = table(title)
        .words(WINDOWS)
        .words(LENGTHS)
        .empty(NOTHING)
        .money(Money::Columns(&["#limit", "#soft", "#used"]))
        .query(Query::rows("any", keyed(&format!("({any})"), &by, &kept)))
        .query(Query::rows("limit", keyed(&limit, &by, &[])))
        .query(Query::rows("used", keyed(&used, &by, &[])))
        .query(Query::rows("share", keyed(&format!("({used} / ({limit} > 0))"), &by, &[])))
        .query(Query::rows("reset", keyed(&in_time("llm_relay_quota_reset_timestamp_seconds"), &by, &[])))
        .query(Query::rows("empty", keyed(&in_time("llm_relay_quota_exhaustion_timestamp_seconds"), &by, &[])))
        .columns(of.columns(heading))
        .columns([
            column("window", "Window", "").width(95),
            column("part", "Of", "").width(80),
            column("#used", "Used", "").decimals(2).width(78),
            column("#limit", "Limit", "").decimals(2).width(78),
            column("#share", "Share", "percentunit").fill(),
            column("#reset", "Resets in", "s").decimals(1).width(90),
            column("#empty", "Used up in", "s")
                .decimals(1)
                .width(90)
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("color", json!({"mode": "thresholds"}))
                .with("thresholds", thresholds(&[(None, "text"), (Some(0.0), "orange")])),
        ])
        .sort("Share", true, None);
    if with_soft {
        let column = column("#soft", "Alert from", "").decimals(2).width(85);
        panel = panel.query(Query::rows("soft", keyed(&soft, &by, &[]))).columns([column]);
    }
    panel
}

fn expiry() -> Panel {
    let left = Named::Key.of("(llm_relay_key_expiry_timestamp_seconds - time())");
    table("Keys that expire")
        .empty(NOTHING)
        .note("Negative: expired.")
        .query(Query::rows("left", keyed(&format!("({left})"), &["relay", "key_id"], &Named::Key.kept())))
        .columns(Named::Key.columns("Key"))
        .columns([column("#left", "In", "s")
            .decimals(1)
            .with("custom.cellOptions", json!({"type": "color-text"}))
            .with("color", json!({"mode": "thresholds"}))
            .with(
                "thresholds",
                thresholds(&[(None, "red"), (Some(86400.0 * 7.0), "orange"), (Some(86400.0 * 30.0), "green")]),
            )])
        .sort("In", false, Some(100))
}

fn sessions_of_keys() -> Panel {
    let by = ["relay", "key_id"];
    let limit = "(llm_relay_key_sessions_limit > 0)";
    let used = format!("(llm_relay_key_sessions_active and on (relay, key_id) {limit} or 0 * {limit})");
    table("Sessions of keys")
        .note("Keys with a limit of their own or of their user.")
        .query(Query::rows("limit", keyed(&format!("({})", Named::Key.of(limit)), &by, &Named::Key.kept())))
        .query(Query::rows("used", keyed(&used, &by, &[])))
        .query(Query::rows("share", keyed(&format!("({used} / on (relay, key_id) {limit})"), &by, &[])))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("#used", "Used", "short").width(75),
            column("#limit", "Limit", "short").width(75),
            column("#share", "Share", "percentunit").fill(),
        ])
        .sort("Share", true, Some(100))
}

fn limits_of_users() -> Panel {
    let by = ["relay", "user_id"];
    let all = "(llm_relay_user_sessions_limit or llm_relay_user_requests_per_minute_limit or llm_relay_user_expiry_timestamp_seconds or llm_relay_user_requests_in_progress or llm_relay_user_balance_usd)";
    table("Users: what runs, and other limits")
        .query(Query::rows("all", keyed(&format!("({})", Named::User.of(all)), &by, &Named::User.kept())))
        .query(Query::rows("running", keyed("llm_relay_user_requests_in_progress", &by, &[])))
        .query(Query::rows("used", keyed("llm_relay_user_sessions_active", &by, &[])))
        .query(Query::rows("sessions", keyed("llm_relay_user_sessions_limit", &by, &[])))
        .query(Query::rows("minute", keyed("llm_relay_user_requests_per_minute_limit", &by, &[])))
        .query(Query::rows("left", keyed("(llm_relay_user_expiry_timestamp_seconds - time())", &by, &[])))
        .query(Query::rows("balance", keyed("llm_relay_user_balance_usd", &by, &[])))
        .money(Money::Columns(&["#balance"]))
        .columns(Named::User.columns("User"))
        .columns([
            column("#running", "In progress", "short").width(95),
            column("#used", "Sessions", "short").width(85),
            column("#sessions", "Of at most", "short").width(95),
            column("#minute", "Requests a minute", "short").width(140),
            column("#left", "Expires in", "s").decimals(1).width(105),
            column("#balance", "Balance", "").decimals(2).width(90),
        ])
        .sort("In progress", true, Some(100))
}

fn accounts_over_time() -> Panel {
    let first = "topk(10, llm_relay_account_utilization_ratio @ end())";
    let used = format!("(llm_relay_account_utilization_ratio and on (relay, provider_id, window) {first})");
    legend_table(lines("The ten fullest windows of accounts"), &[("lastNotNull", "Last *")])
        .unit("percentunit")
        .style("axisSoftMax", json!(1))
        .decimals(0)
        .words(LENGTHS)
        .query(Query::lines("used", Named::Provider.in_chart(&used), "{{provider}}, {{window}}"))
}

/// A metric by unit, with the unit as a label.
fn by_unit(metric: impl Fn(&str) -> String) -> String {
    let one = |unit| format!("label_replace({}, \"unit\", \"{unit}\", \"\", \"\")", metric(unit));
    format!("({})", ["requests", "tokens", "usd"].map(one).join(" or "))
}

fn rate_limits() -> Panel {
    let by = ["relay", "key_id", "unit"];
    let limit = by_unit(|unit| Named::Key.of(&format!("llm_relay_rate_limit_{unit}")));
    let used = by_unit(|unit| format!("llm_relay_rate_limit_used_{unit}"));
    let share = by_unit(|unit| format!("llm_relay_rate_limit_used_{unit} / (llm_relay_rate_limit_{unit} > 0)"));
    table("Rate limits of keys")
        .note("A window opens with a request; without a time to reset none is open.")
        .query(Query::rows("limit", keyed(&limit, &by, &[&Named::Key.kept()[..], &["unit"]].concat())))
        .query(Query::rows("used", keyed(&used, &by, &[])))
        .query(Query::rows("share", keyed(&share, &by, &[])))
        .query(Query::rows("reset", keyed("(llm_relay_rate_limit_reset_timestamp_seconds - time() > 0)", &by, &[])))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("unit", "What", "").width(90),
            column("#used", "Used", "short").width(75),
            column("#limit", "Limit", "short").width(75),
            column("#share", "Share", "percentunit").fill(),
            column("#reset", "Resets in", "s").decimals(1).width(95),
        ])
        .map("requests", "Requests", "")
        .map("tokens", "Tokens", "")
        .map("usd", "Dollars", "")
        .sort("Share", true, None)
}

fn slots_of_keys() -> Panel {
    let by = ["relay", "key_id"];
    let limit = Named::Key.of("llm_relay_key_slots_limit");
    // Of rows that have a name alone.
    let listed =
        |metric: &str| keyed(&format!("({metric} and on (relay, key_id) llm_relay_key_slots_limit)"), &by, &[]);
    table("Slots of keys")
        .query(Query::rows("limit", keyed(&format!("({limit})"), &by, &Named::Key.kept())))
        .query(Query::rows("used", listed("llm_relay_key_slots_used")))
        .query(Query::rows("share", keyed("(llm_relay_key_slots_used / (llm_relay_key_slots_limit > 0))", &by, &[])))
        .query(Query::rows("waiting", listed("llm_relay_queue_waiting")))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("#used", "Used", "short").width(65),
            column("#limit", "Slots", "short").width(65),
            column("#share", "In use", "percentunit").fill(),
            column("#waiting", "Waiting", "short").width(80),
        ])
        .sort("In use", true, None)
}

/// What becomes of a request that waits for a slot, by the word of claude-relay-service.
const QUEUE_EVENTS: &[(&str, &str)] = &[
    ("entered", "Began to wait"),
    ("success", "Got a slot"),
    ("timeout", "Timeout"),
    ("cancelled", "Client went away"),
    ("socket_changed", "Connection changed"),
    ("rejected_overload", "Refused, too many wait"),
];

fn waits() -> Panel {
    let waits = "max by (percentile) (llm_relay_queue_wait_seconds)";
    lines("Waited for a slot")
        .unit("s")
        .empty(NOTHING)
        .note("Percentiles of the newest 2000 requests of a day that had to wait.")
        .query(Query::lines("waits", waits, "p{{percentile}}").step("2m"))
}

fn queues() -> Panel {
    let events = "sum by (event) (rate(llm_relay_queue_events_total[$__rate_interval])) * 60 > 0";
    stack("Queue events per minute")
        .empty(NOTHING)
        .words(QUEUE_EVENTS)
        .query(Query::lines("events", events, "{{event}}").step("2m"))
}
