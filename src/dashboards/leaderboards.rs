//! Who and what costs how much: the relay's leaderboards in every scope and period, and any time range by the counters.

use super::board::{Board, Measure};
use super::column::column;
use super::dashboard::{Dashboard, Row, row};
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::{stat, table};
use super::promql::{self, Named, Replicas, SHOWN_RELAY, keyed, shown_relay};
use super::query::Query;
use super::variable::{JOB, PERIOD, RECORDED, RELAY, RELAYS, TYPE, Variable};

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-relay-leaderboards",
        title: "Leaderboards",
        description: "Users, keys, teams, providers and models by cost, in the relay's own periods and in any time range.",
        refresh: "1m",
        from: "now/d",
        replicas: Replicas::FoldRecorded,
        variables: vec![Variable::Source, JOB, RELAY, RELAYS, RECORDED, PERIOD, TYPE],
        links: vec![],
        alerts: false,
        quick_ranges: true,
        rows: by_period()
            .into_iter()
            .chain([
                row(10, [(11, of_users()), (13, of_keys())]).under("In the dashboard's time range, by the counters"),
                row(10, [(12, of_providers()), (12, outcomes())]),
                row(10, [(14, models_of_keys()), (10, tags())]),
            ])
            .chain(teams())
            .chain([row(5, [(12, list_cost()), (12, renewed())]).under("List prices and age of the ranking")])
            .collect(),
    }
}

/// Cost by the tags of keys; a key with several counts with each.
fn tags() -> Panel {
    let over = |counter: &str, keep: &[&str]| {
        let of_keys = format!("(sum by (relay, key_id) (increase({counter}[$__range])) > 0)");
        let tagged = format!(
            "{of_keys} * on (relay, key_id) group_right () max by (relay, key_id, tag) (llm_relay_key_tag_info @ end())"
        );
        keyed(&format!("(sum by (relay, tag) ({tagged}))"), &["relay", "tag"], keep)
    };
    table("Keys by tag in the time range")
        .empty(NOTHING)
        .note("A key with several tags counts with each of them.")
        .money(Money::Columns(&["#cost"]))
        .query(Query::rows("cost", over("llm_relay_key_cost_usd_total", &["tag", SHOWN_RELAY])))
        .query(Query::rows("requests", over("llm_relay_key_requests_total", &[])))
        .columns([
            column("tag", "Tag", ""),
            shown_relay(),
            column("#cost", "Cost", "").gauge().decimals(2),
            column("#requests", "Requests", "locale").decimals(0).width(90),
        ])
        .sort("Cost", true, Some(50))
}

/// What such a relay shows as today's cost: before its own rates.
fn list_cost() -> Panel {
    stat("Today at list prices")
        .money(Money::All)
        .decimals(2)
        .query(Query::rows("now", r#"sum(llm_relay_day_list_cost_usd{day="today"})"#))
}

fn renewed() -> Panel {
    stat("Ranking renewed before")
        .unit("s")
        .decimals(0)
        .note("Boards of 7 and 30 days are the relay's own ranking, which it renews every half hour and every hour.")
        .query(Query::rows("now", "max(time() - llm_relay_leaderboard_timestamp_seconds)"))
}

/// Keys by what became of their requests: what is not the provider's fault is on neither side of the ratio.
fn outcomes() -> Panel {
    let by = ["relay", "key_id"];
    let of = |outcome: &str| {
        let counter = format!(r#"llm_relay_key_outcomes_total{{outcome=~"{outcome}"}}"#);
        format!("sum by (relay, key_id) (increase({counter}[$__range]))")
    };
    let all = format!("({} > 0)", of(".+"));
    let judged = format!("({} > 0)", of("success|failure"));
    let success = format!("(({} or 0 * {judged}) / {judged})", of("success"));
    let failed = format!("({} or 0 * {all})", of("failure"));
    table("Outcomes of keys in the time range")
        .empty(NOTHING)
        .query(Query::rows("requests", keyed(&format!("({})", Named::Key.of(&all)), &by, &Named::Key.kept())))
        .query(Query::rows("success", keyed(&success, &by, &[])))
        .query(Query::rows("failed", keyed(&failed, &by, &[])))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("#requests", "Requests", "locale").decimals(0).gauge(),
            column("#failed", "Failed", "locale").decimals(0).width(95),
            column("#success", "Success", "percentunit").success(),
        ])
        .map("other", "Others", "")
        .sort("Requests", true, Some(50))
}

fn models_of_keys() -> Panel {
    let requests = format!("({})", Named::Key.of("llm_relay_key_model_requests"));
    table("Models of keys, last 24 hours")
        .empty(NOTHING)
        .query(Query::rows(
            "requests",
            keyed(&requests, &["relay", "key_id", "model"], &[&Named::Key.kept()[..], &["model"]].concat()),
        ))
        .columns(Named::Key.columns("Key"))
        .columns([
            column("model", "Model", "").width(220),
            column("#requests", "Requests", "locale").decimals(0).gauge(),
        ])
        .map("other", "Others", "")
        .sort("Requests", true, Some(100))
}

fn by_period() -> Vec<Row> {
    use Measure::{CacheHit, Cost, CostPerMillionTokens, CostPerRequest, FirstToken, Requests, Speed, Success, Tokens};
    let board = |scope, heading| Board { scope, heading, matchers: "", filter: "" };
    let users = board("user", "User");
    let providers = Board {
        filter: r#" unless on (relay, id) label_replace(llm_relay_provider_info{type!~"$type"}, "id", "$1", "provider_id", "(.+)")"#,
        ..board("provider", "Provider")
    };
    // A model's id is its name.
    let models = Board { ..board("model", "Model") };
    let of = |board: &Board, title, measures: &[Measure]| board.panel(title, "$period", measures, None);
    let of_providers =
        [Cost, Requests, Tokens, Success, FirstToken, Speed, CostPerRequest, CostPerMillionTokens, CacheHit];
    // Their cache hits have a board of their own.
    let of_users = [Cost, Requests, Tokens, CostPerRequest, CostPerMillionTokens];
    let of_models = [Cost, Requests, Tokens, Success, CostPerRequest, CostPerMillionTokens, CacheHit];
    let of_keys = [Cost, Requests, Tokens, Success, CostPerRequest, CostPerMillionTokens];
    // What is folded into "other" has no ratio of its own.
    let cached =
        |board: &Board, title| of(&Board { matchers: r#",id!="other""#, ..*board }, title, &[CacheHit, Tokens]);
    vec![
        row(11, [(24, of(&providers, "Providers", &of_providers))]).under("By period (filters: Period, Provider type)"),
        row(11, [(24, of(&models, "Models", &of_models))]),
        row(11, [(12, of(&users, "Users", &of_users)), (12, of(&board("key", "Key"), "Keys", &of_keys))]),
        row(11, [(12, cached(&users, "Users by cache hits")), (12, cached(&providers, "Providers by cache hits"))]),
    ]
}

fn teams() -> [Row; 2] {
    use Measure::{Cost, CostPerMillionTokens, CostPerRequest, Requests, Success, Tokens};
    let of = |scope, heading, title| {
        let measures = [Cost, Requests, Tokens, Success, CostPerRequest, CostPerMillionTokens];
        Board { scope, heading, matchers: "", filter: "" }.panel(title, "$period", &measures, None)
    };
    let teams = ranked("Teams in the time range", Named::Team, "Team", "llm_relay_team", false);
    let organizations =
        ranked("Organizations in the time range", Named::Organization, "Organization", "llm_relay_organization", false);
    [
        row(7, [(13, of("team", "Team", "Teams")), (11, teams)]).under("Teams and organizations"),
        row(7, [(13, of("organization", "Organization", "Organizations")), (11, organizations)]),
    ]
}

fn of_users() -> Panel {
    ranked("Users in the time range", Named::User, "User", "llm_relay_user", false)
}

fn of_keys() -> Panel {
    ranked("Keys in the time range", Named::Key, "Key", "llm_relay_key", true)
}

fn of_providers() -> Panel {
    ranked("Providers in the time range", Named::Provider, "Provider", "llm_relay", true)
}

/// A board of any span, from counters whose names begin with `prefix`: what Prometheus has seen of it. `with_list` adds
/// the cost at the upstream's list prices, of those that a relay keeps it for.
fn ranked(title: &'static str, of: Named, heading: &'static str, prefix: &str, with_list: bool) -> Panel {
    let by = ["relay", of.id()];
    let over = |counter| format!("(sum by (relay, {}) (increase({prefix}_{counter}_total[$__range])) > 0)", of.id());
    let (cost, requests) = (over("cost_usd"), over("requests"));
    let order = keyed(&format!("({})", of.of(&promql::rank(&cost, &requests))), &by, &of.kept());
    let mut panel = table(title)
        .empty(NOTHING)
        .money(Money::Columns(&["#cost", "#list"]))
        .query(Query::rows("order", order))
        .query(Query::rows("cost", keyed(&cost, &by, &[])))
        .query(Query::rows("requests", keyed(&requests, &by, &[])))
        .query(Query::rows("tokens", keyed(&over("tokens"), &by, &[])))
        .columns(of.columns(heading))
        .columns([column("#cost", "Cost", "").gauge().decimals(2)]);
    if with_list {
        let list = column("#list", "At list prices", "").decimals(2).width(110);
        panel = panel.query(Query::rows("list", keyed(&over("list_cost_usd"), &by, &[]))).columns([list]);
    }
    panel
        .columns([
            column("#requests", "Requests", "locale").decimals(0).width(90),
            column("#tokens", "Tokens", "short").width(95),
        ])
        .map("other", "Others", "")
        .sort("#order", true, Some(50))
}
