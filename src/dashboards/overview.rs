//! Everything at a glance: the relay's own dashboard, panel by panel.

use serde_json::json;

use super::board::{Board, Measure};
use super::dashboard::{Dashboard, Row, row};
use super::panel::Panel;
use super::panel_types::{ranking, stat};
use super::pools::{self, Among};
use super::promql::{Named, Replicas};
use super::query::Query;
use super::shared;
use super::variable::{JOB, PERIOD, RECORDED, RELAY, RELAYS, Variable};

pub(crate) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "llm-relay-overview",
        title: "Overview",
        description: "Sessions, traffic, cost and quality of the relay now, against yesterday at the same time.",
        refresh: "5s",
        from: "now/d",
        replicas: Replicas::FoldRecorded,
        variables: vec![Variable::Source, JOB, RELAY, RELAYS, RECORDED, PERIOD],
        links: vec![(
            "Wall",
            "/d/llm-relay-wall{suffix}?kiosk&refresh=2s&_dash.hideTimePicker&_dash.hideVariables&_dash.hideLinks&var-datasource=${datasource}",
        )],
        alerts: true,
        quick_ranges: true,
        rows: vec![
            row(
                5,
                [
                    (6, shared::sessions()),
                    (6, shared::requests_per_minute()),
                    (6, shared::cost_today()),
                    (6, shared::response_time()),
                ],
            )
            .or([(6, pools::accounts_in_use()), (6, pools::keys()), (6, pools::failing_keys())]),
            row(
                4,
                [
                    (5, shared::requests_today()),
                    (5, shared::error_ratio()),
                    (4, shared::tokens_per_minute()),
                    (4, in_progress()),
                    (3, shared::data_age()),
                    (3, shared::state("Sources")),
                ],
            ),
            course(),
            row(8, boards())
                .or([(6, top("Top keys", "key", "Key", &[Measure::Cost, Measure::Requests, Measure::Tokens]))]),
            row(10, [(10, shared::slots("Provider slots by usage", None)), (14, shared::circuits("Circuit breakers"))])
                .or([(14, pools::account_states(&Among::ALL)), (12, pools::each_key()), (10, pools::error_log())]),
        ],
    }
}

/// What the day was like, and who is at work.
fn course() -> Row {
    row(
        9,
        [
            (12, shared::cost_and_calls("10m")),
            (4, live("Sessions by user", Named::User, "llm_relay_user_sessions_active", "{{user}}")),
            (4, live("Sessions by key", Named::Key, "llm_relay_key_sessions_active", "{{key}}")),
            (4, live("Sessions by provider", Named::Provider, "llm_relay_provider_slots_used", "{{provider}}")),
        ],
    )
    .or([
        (8, pools::subscriptions()),
        (4, pools::accounts(&Among::ALL)),
        (12, pools::channels(&Among::ALL)),
        (8, pools::calls_by_window()),
    ])
}

fn boards() -> [(u32, Panel); 3] {
    use Measure::{Cost, FirstToken, Requests, Speed, Success, Tokens};
    [
        (7, top("Top users", "user", "User", &[Cost, Requests, Tokens])),
        (10, top("Top providers", "provider", "Provider", &[Cost, Requests, Success, FirstToken, Speed])),
        (7, top("Top models", "model", "Model", &[Cost, Requests, Tokens])),
    ]
}

fn top(title: &'static str, scope: &'static str, heading: &'static str, measures: &[Measure]) -> Panel {
    let board = Board { scope, heading, matchers: r#",id!="other""#, filter: "" };
    board.panel(title, "$period", measures, Some(5))
}

fn in_progress() -> Panel {
    stat("Requests in progress").decimals(0).query(Query::rows("now", "sum(llm_relay_requests_in_progress)"))
}

fn live(title: &'static str, of: Named, metric: &str, legend: &'static str) -> Panel {
    let expr = format!("sort_desc(topk(6, {}) > 0)", of.in_chart(metric));
    ranking(title).decimals(0).option("namePlacement", json!("top")).query(Query::values("sessions", expr, legend))
}
