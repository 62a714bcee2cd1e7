//! Who and what costs how much: the relay's leaderboards in every scope and period, and any time range by the counters.

use super::column::column;
use super::dashboard::{Dashboard, row};
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::table;
use super::promql::{self, Named, Replicas, keyed};
use super::query::Query;
use super::shared::{Board, Measure};
use super::variable::{JOB, PERIOD, RELAY, TYPE, Variable};

pub(crate) fn dashboard() -> Dashboard {
    use Measure::{CacheHit, Cost, CostPerMillionTokens, CostPerRequest, FirstToken, Requests, Speed, Success, Tokens};
    let board = |scope, heading| Board { scope, heading, matchers: "", filter: "", ids: true };
    let providers = Board {
        filter: r#" unless on (relay, id) label_replace(llm_relay_provider_info{type!~"$type"}, "id", "$1", "provider_id", "(.+)")"#,
        ..board("provider", "Provider")
    };
    // What is folded into "other" has no ratio of its own.
    let cached = |board: Board| Board { matchers: r#",id!="other""#, ids: false, ..board };
    Dashboard {
        uid: "llm-relay-leaderboards",
        title: "Leaderboards",
        description: "Users, keys, providers and models by cost, in the relay's own periods and in any time range.",
        refresh: "1m",
        from: "now/d",
        replicas: Replicas::Fold,
        variables: vec![Variable::Source, JOB, RELAY, PERIOD, TYPE],
        links: vec![],
        quick_ranges: true,
        rows: vec![
            row(
                11,
                [(
                    24,
                    providers.panel(
                        "Providers",
                        "$period",
                        &[
                            Cost,
                            Requests,
                            Tokens,
                            Success,
                            FirstToken,
                            Speed,
                            CostPerRequest,
                            CostPerMillionTokens,
                            CacheHit,
                        ],
                        None,
                    ),
                )],
            )
            .under("By period (filters: Period, Provider type)"),
            row(
                11,
                [
                    (
                        12,
                        board("user", "User").panel(
                            "Users",
                            "$period",
                            &[Cost, Requests, Tokens, CostPerRequest, CostPerMillionTokens, CacheHit],
                            None,
                        ),
                    ),
                    (
                        12,
                        // A model's id is its name.
                        Board { ids: false, ..board("model", "Model") }.panel(
                            "Models",
                            "$period",
                            &[Cost, Requests, Tokens, Success, CostPerRequest, CostPerMillionTokens],
                            None,
                        ),
                    ),
                ],
            ),
            row(
                11,
                [
                    (
                        12,
                        board("key", "Key").panel(
                            "Keys",
                            "$period",
                            &[Cost, Requests, Tokens, CostPerRequest, CostPerMillionTokens],
                            None,
                        ),
                    ),
                    (
                        6,
                        cached(board("user", "User")).panel(
                            "Users by cache hits",
                            "$period",
                            &[CacheHit, Tokens],
                            None,
                        ),
                    ),
                    (6, cached(providers).panel("Providers by cache hits", "$period", &[CacheHit, Tokens], None)),
                ],
            ),
            row(
                10,
                [
                    (
                        7,
                        in_range(
                            "Users in the time range",
                            Named::User,
                            [
                                "llm_relay_user_cost_usd_total",
                                "llm_relay_user_requests_total",
                                "llm_relay_user_tokens_total",
                            ],
                            None,
                            "User",
                        ),
                    ),
                    (
                        9,
                        in_range(
                            "Keys in the time range",
                            Named::Key,
                            [
                                "llm_relay_key_cost_usd_total",
                                "llm_relay_key_requests_total",
                                "llm_relay_key_tokens_total",
                            ],
                            Some("llm_relay_key_list_cost_usd_total"),
                            "Key",
                        ),
                    ),
                    (
                        8,
                        in_range(
                            "Providers in the time range",
                            Named::Provider,
                            ["llm_relay_cost_usd_total", "llm_relay_requests_total", "llm_relay_tokens_total"],
                            Some("llm_relay_list_cost_usd_total"),
                            "Provider",
                        ),
                    ),
                ],
            )
            .under("In the dashboard's time range, by the counters"),
        ],
    }
}

/// A board of any span, from counters: what Prometheus has seen of it.
///
/// `list` is the cost at the upstream's list prices, of those that a relay keeps it for.
fn in_range(title: &'static str, of: Named, counters: [&str; 3], list: Option<&str>, heading: &'static str) -> Panel {
    let by = ["relay", of.id()];
    let over = |counter: &str| format!("(sum by (relay, {}) (increase({counter}[$__range])) > 0)", of.id());
    let [cost, requests, tokens] = counters.map(over);
    let order = keyed(&format!("({})", of.of(&promql::rank(&cost, &requests))), &by, &[of.label()]);
    let mut panel = table(title)
        .empty(NOTHING)
        .money(Money::Columns(&["#cost", "#list"]))
        .query(Query::rows("order", order))
        .query(Query::rows("cost", keyed(&cost, &by, &[])))
        .query(Query::rows("requests", keyed(&requests, &by, &[])))
        .query(Query::rows("tokens", keyed(&tokens, &by, &[])))
        .columns([column(of.label(), heading, ""), column("#cost", "Cost", "").gauge().decimals(2)]);
    if let Some(list) = list {
        panel = panel.query(Query::rows("list", keyed(&over(list), &by, &[]))).columns([column(
            "#list",
            "At list prices",
            "",
        )
        .decimals(2)
        .width(110)]);
    }
    panel
        .columns([
            column("#requests", "Requests", "locale").decimals(0).width(90),
            column("#tokens", "Tokens", "short").width(95),
        ])
        .map("other", "Others", "")
        .sort("#order", true, Some(50))
}
