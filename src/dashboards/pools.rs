//! What a relay pools: upstream accounts with their states and windows, upstream keys with their failures.

use serde_json::json;

use super::column::{SECONDS, column, thresholds};
use super::link::Link;
use super::panel::Panel;
use super::panel_types::{legend_table, stack, stat, table, timeline};
use super::promql::{Named, keyed};
use super::query::Query;
use super::variable::LENGTHS;
use crate::model::AccountState;

const BY: &str = "relay, provider_id";
/// Of states over time: more would lie on each other.
const ROWS: u32 = 12;
/// States last for minutes and more.
const POINTS: u32 = 400;
const ROW: [&str; 2] = ["relay", "provider_id"];

/// Which providers a dashboard looks at.
pub(crate) struct Among {
    /// Matchers of the provider.
    pub matchers: &'static str,
    /// What follows a selector.
    pub filter: &'static str,
}

impl Among {
    /// Every provider.
    pub(crate) const ALL: Self = Self { matchers: "", filter: "" };

    fn of(&self, metric: &str) -> String {
        format!("({metric}{{{}}}{})", self.matchers, self.filter)
    }
}

/// What can be wrong with an upstream account, by its label; normal is none of these.
const TROUBLES: [(&str, &str, &str); 9] = [
    (AccountState::RateLimited.label(), "Rate limited", "orange"),
    (AccountState::CoolingDown.label(), "Cooling down", "yellow"),
    (AccountState::Overloaded.label(), "Overloaded", "semi-dark-orange"),
    (AccountState::QuotaExceeded.label(), "Quota exceeded", "dark-orange"),
    (AccountState::Unauthorized.label(), "Unauthorized", "red"),
    (AccountState::Blocked.label(), "Blocked", "dark-red"),
    (AccountState::Error.label(), "Error", "semi-dark-red"),
    (AccountState::Paused.label(), "Paused", "blue"),
    (AccountState::Disabled.label(), "Disabled", "gray"),
];
/// The numbers that stand for [`TROUBLES`] in a chart; 0 is normal.
const NUMBERS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];

/// How many accounts are in their normal state.
pub(crate) fn accounts_in_use() -> Panel {
    stat("Accounts that serve")
        .link(Link::PROVIDERS)
        .note("In their normal state: neither limited nor paused, failing or switched off.")
        .decimals(0)
        .levels(&[(None, "red"), (Some(1.0), "text")])
        .query(Query::rows("now", r#"sum(llm_relay_provider_account_state{state="normal"})"#))
}

/// The state of each account over time.
pub(crate) fn account_states(among: &Among) -> Panel {
    let matchers = among.matchers;
    let number = |((state, ..), number): (&(&str, &str, &str), &str)| {
        format!(r#"label_replace(vector({number}), "state", "{state}", "", "")"#)
    };
    let numbers: Vec<String> = TROUBLES.iter().zip(NUMBERS).map(number).collect();
    let state = format!(
        r#"(sum by ({BY}) (llm_relay_provider_account_state{{state!="normal",{matchers}}} * on (state) group_left () ({})){})"#,
        numbers.join(" or "),
        among.filter
    );
    let panel = timeline("State of upstream accounts", "{{provider}}")
        .option("perPage", json!(ROWS))
        .points(POINTS)
        .note("Begins with the first scrape: the past of states is not kept.")
        .query(Query::lines("state", Named::Provider.in_chart(&state), "{{provider}}"))
        .map("0", "Normal", "green");
    TROUBLES.iter().zip(NUMBERS).fold(panel, |panel, ((_, words, color), number)| panel.map(number, words, color))
}

fn named(expr: &str) -> String {
    keyed(&format!("({})", Named::Provider.of(expr)), &ROW, &Named::Provider.kept())
}

/// Each account: its plan, and when the relay means to use it again.
pub(crate) fn accounts(among: &Among) -> Panel {
    let known = format!("sum by ({BY}) ({})", among.of("llm_relay_provider_account_state"));
    let back = format!("({} - time())", among.of("llm_relay_account_return_timestamp_seconds"));
    let plan = format!("({} and on ({BY}) {known})", among.of("llm_relay_account_plan_info"));
    table("Upstream accounts")
        .needs("llm_relay_account_return_timestamp_seconds")
        .note("Back in: when the relay means to use the account again; below 0 it is late.")
        // First those that come back, the last of all before the others.
        .query(Query::rows("order", named(&format!("(1e9 + max by ({BY}) ({back}) or {known})"))))
        .query(Query::rows("plan", keyed(&plan, &ROW, &["plan"])))
        .query(Query::rows("back", keyed(&format!("max by ({BY}) ({back})"), &ROW, &[])))
        .columns(Named::Provider.columns("Provider"))
        .columns([column("plan", "Plan", "").width(65), column("#back", "Back in", "s").decimals(0).width(85)])
        .sort("#order", true, Some(100))
}

/// What a relay has asked its upstream accounts, and how many of their keys are left.
pub(crate) fn channels(among: &Among) -> Panel {
    let of = |metric: &str| format!("max by ({BY}) ({})", among.of(metric));
    let age = |metric: &str| format!("(time() - {})", of(metric));
    let (matchers, filter) = (among.matchers, among.filter);
    let keys = |state: &str| format!("sum by ({BY}) (llm_relay_account_keys{{{state},{matchers}}}{filter})");
    let any = ["balance", "test_duration_seconds", "keys"].map(|of| among.of(&format!("llm_relay_account_{of}")));
    let known = format!("sum by ({BY}) ({})", any.join(" or "));
    let cell = |expr: &str| keyed(expr, &ROW, &[]);
    table("Balances, tests and keys of upstream accounts")
        .note("A balance is in the upstream's currency. Keys: of accounts that have several.")
        .query(Query::rows("known", named(&known)))
        .query(Query::rows("balance", cell(&of("llm_relay_account_balance"))))
        .query(Query::rows("told", cell(&age("llm_relay_account_balance_timestamp_seconds"))))
        .query(Query::rows("test", cell(&of("llm_relay_account_test_duration_seconds"))))
        .query(Query::rows("tested", cell(&age("llm_relay_account_test_timestamp_seconds"))))
        .query(Query::rows("keys", cell(&keys(r#"state="normal""#))))
        .query(Query::rows("out", cell(&keys(r#"state!="normal""#))))
        .columns(Named::Provider.columns("Provider"))
        .columns([
            column("#balance", "Balance", "short").decimals(2),
            column("#told", "Told before", "s").decimals(0),
            column("#test", "Last test", SECONDS).decimals(2),
            column("#tested", "Tested before", "s").decimals(0),
            column("#keys", "Keys in use", "short").decimals(0),
            column("#out", "Keys out", "short").decimals(0),
        ])
        .sort("Balance", true, Some(100))
}

const FAILURES: &str = "llm_relay_key_consecutive_failures";

/// How many upstream keys there are.
pub(crate) fn keys() -> Panel {
    stat("Upstream keys").decimals(0).query(Query::rows("now", format!("count({FAILURES})")))
}

/// How many of them fail.
pub(crate) fn failing_keys() -> Panel {
    stat("Keys that fail")
        .note("At least three times in a row.")
        .decimals(0)
        .levels(&[(None, "green"), (Some(1.0), "orange")])
        .query(Query::rows("now", format!("count({FAILURES} >= 3) or 0 * count({FAILURES})")))
}

/// Each upstream key.
pub(crate) fn each_key() -> Panel {
    let of = |outcome: &str| {
        let counter = format!(r#"llm_relay_key_outcomes_total{{outcome=~"{outcome}"}}"#);
        format!("(sum by (relay, key_id) (increase({counter}[24h])) and on (relay, key_id) {FAILURES})")
    };
    let judged = format!("({} > 0)", of("success|failure"));
    let success = format!("(({} or 0 * {judged}) / {judged})", of("success"));
    let by = ["relay", "key_id"];
    table("Upstream keys")
        .query(Query::rows("failures", keyed(&format!("({})", Named::Key.of(FAILURES)), &by, &Named::Key.kept())))
        .query(Query::rows("day", keyed(&success, &by, &[])))
        .query(Query::rows("calls", keyed(&of(".+"), &by, &[])))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("#failures", "Failures in a row", "short")
                .with("custom.cellOptions", json!({"type": "color-text"}))
                .with("color", json!({"mode": "thresholds"}))
                .with("thresholds", thresholds(&[(None, "green"), (Some(1.0), "orange"), (Some(3.0), "red")])),
            column("#calls", "Calls in 24 h", "locale").decimals(0),
            column("#day", "Success 24 h", "percentunit").success(),
        ])
        .sort("Failures in a row", true, Some(100))
}

/// The relay's own error log.
pub(crate) fn error_log() -> Panel {
    let entries = "sum by (type, code) (rate(llm_relay_error_log_entries_total[$__rate_interval])) * 60";
    legend_table(stack("Entries of the error log per minute"), &[("mean", "Mean")])
        .query(Query::lines("entries", entries, "{{type}} {{code}}").step("2m"))
}

/// Calls of the last minute, hour and day, as relays of pooled keys show them.
pub(crate) fn calls_by_window() -> Panel {
    let of = |outcome: &str| {
        let requests = format!(r#"llm_relay_window_requests{{outcome=~"{outcome}"}}"#);
        format!(r#"sum by (row) (label_replace({requests}, "row", "$1", "window", "(.+)"))"#)
    };
    let windows =
        [("1m", "1 minute"), ("1h", "1 hour"), ("8h", "8 hours"), ("24h", "24 hours"), ("month", "This month")];
    let panel = table("Success of the relay by window")
        .note("Exact to the second, by the relay's own rule of success; all providers.")
        .query(Query::rows("requests", of(".+")))
        .query(Query::rows("failures", of("failure")))
        .query(Query::rows("ratio", format!("{} / ({} > 0)", of("success"), of("success|failure"))))
        .columns([
            column("row", "Window", ""),
            column("#requests", "Calls", "locale"),
            column("#failures", "Failed", "locale"),
            column("#ratio", "Success", "percentunit").success(),
        ])
        .sort("Calls", false, None);
    windows.into_iter().fold(panel, |panel, (window, words)| panel.map(window, words, ""))
}

/// Windows of subscriptions, as the upstream last told.
pub(crate) fn subscriptions() -> Panel {
    let by = ["relay", "provider_id", "window"];
    let reset = "(llm_relay_account_reset_timestamp_seconds - time() > 0)";
    let known = "(0 * (llm_relay_account_reset_timestamp_seconds or llm_relay_account_utilization_ratio))";
    let told = "(time() - llm_relay_account_utilization_timestamp_seconds)";
    let state = |state: &str| format!(r#"llm_relay_account_window_state{{state="{state}"}}"#);
    let state = format!("({} + ignoring (state) 2 * {})", state("allowed_warning"), state("rejected"));
    table("Windows of upstream accounts")
        .words(LENGTHS)
        .note("A share without its age is as old as the page; one that is out of date is left out. The upstream's word comes with each answer.")
        .query(Query::rows("known", keyed(&format!("({})", Named::Provider.of(known)), &by, &[&Named::Provider.kept()[..], &["window"]].concat())))
        .query(Query::rows("used", keyed("llm_relay_account_utilization_ratio", &by, &[])))
        .query(Query::rows("told", keyed(told, &by, &[])))
        .query(Query::rows("state", keyed(&state, &by, &[])))
        .query(Query::rows("reset", keyed(reset, &by, &[])))
        .columns(Named::Provider.columns("Account"))
        .columns([
            column("window", "Window", "").width(80),
            column("#used", "Share", "percentunit").fill(),
            column("#told", "Told before", "s").decimals(1).width(95),
            column("#state", "Upstream says", "").width(125).with(
                "mappings",
                json!([{"type": "value", "options": {
                    "0": {"text": "allowed", "color": "green"},
                    "1": {"text": "allowed_warning", "color": "orange"},
                    "2": {"text": "rejected", "color": "red"}
                }}]),
            ),
            column("#reset", "Resets in", "s").decimals(1).width(90),
        ])
        .sort("Share", true, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_an_account_has_its_colour() {
        assert_eq!(
            TROUBLES.map(|(state, ..)| state),
            AccountState::ALL[1..].iter().map(|state| state.label()).collect::<Vec<_>>()[..]
        );
    }
}
