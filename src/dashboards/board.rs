//! Leaderboards, from the relay's own.

use super::column::{Column, SECONDS, column};
use super::link::Link;
use super::panel::{Money, NOTHING, Panel};
use super::panel_types::table;
use super::promql::{self, SHOWN_RELAY, keyed, shown_relay};
use super::query::Query;

/// A leaderboard of one scope in `$period`.
pub(crate) struct Board {
    pub scope: &'static str,
    pub heading: &'static str,
    /// Further matchers.
    pub matchers: &'static str,
    /// What follows each of its metrics, e.g. a filter.
    pub filter: &'static str,
}

/// What a leaderboard can show beside the name: one query and one column each.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    Cost,
    Requests,
    Tokens,
    Success,
    FirstToken,
    Speed,
    CacheHit,
    CostPerRequest,
    CostPerMillionTokens,
}

impl Board {
    /// `period` is the variable or one period.
    pub(crate) fn panel(&self, title: &'static str, period: &str, measures: &[Measure], limit: Option<u32>) -> Panel {
        let parts: &[&str] = if self.is_of_models() { &["id"] } else { &["relay", "id"] };
        let rows = |id, expr: &str, keep: &[&str]| Query::rows(id, keyed(expr, parts, keep));
        let by_cost = measures[0] == Measure::Cost;
        let names: &[&str] = if self.is_of_models() { &["id", "name"] } else { &["id", "name", "relay", SHOWN_RELAY] };
        let name = column("name", self.heading, "");
        // Names of models are long; those of others take what is left.
        let name = if self.is_of_models() { name.width(220) } else { name };
        let relay = (!self.is_of_models()).then(|| [column("relay", "Link", "").hidden(), shown_relay()]);
        let mut panel = table(title)
            .empty(NOTHING)
            .columns([name.link(self.link()), column("id", "ID", "").hidden()])
            .columns(relay.into_iter().flatten());
        if by_cost {
            // A relay that knows no cost ranks by requests.
            let order = promql::rank(&self.all(period, "cost_usd"), &self.all(period, "requests"));
            panel = panel.query(rows("order", &order, names));
        }
        for measure in measures {
            let (id, expr, column) = self.measured(*measure, period, by_cost);
            let keep: &[&str] = if !by_cost && *measure == measures[0] { names } else { &[] };
            panel = panel.query(rows(id, &expr, keep)).columns([column]);
        }
        let by = if by_cost { "#order" } else { "Cache hits" };
        panel
            .money(Money::Columns(&["#cost", "#per_request", "#per_million"]))
            .map("other", "Others", "")
            .sort(by, true, limit)
    }

    /// The query's id, its expression, and the column that shows it.
    fn measured(&self, measure: Measure, period: &str, by_cost: bool) -> (&'static str, String, Column) {
        let (all, mean) = (|of: &str| self.all(period, of), |of: &str| self.mean(period, of));
        let over = |by: &str| format!("{} / ({} > 0)", self.sum(period, "cost_usd"), self.sum(period, by));
        match measure {
            Measure::Cost => ("cost", all("cost_usd"), column("#cost", "Cost", "").gauge().decimals(2)),
            Measure::Requests => {
                ("requests", all("requests"), column("#requests", "Requests", "locale").decimals(0).width(85))
            }
            Measure::Tokens => {
                let (tokens, hits) = (all("tokens"), all("cache_hit_ratio"));
                let expr = if by_cost { tokens } else { format!("({tokens} and on (relay, id) {hits})") };
                ("tokens", expr, column("#tokens", "Tokens", "short").width(85))
            }
            Measure::Success => {
                let column = column("#success", "Success", "percentunit").success().width(90);
                ("success", mean("success_ratio"), column)
            }
            Measure::FirstToken => {
                ("ttft", mean("mean_ttft_seconds"), column("#ttft", "First token", SECONDS).decimals(2).width(95))
            }
            Measure::Speed => {
                let column = column("#speed", "Tokens/s", "short").decimals(1).width(80);
                ("speed", mean("mean_output_tokens_per_second"), column)
            }
            Measure::CacheHit => {
                let column = column("#cache", "Cache hits", "percentunit").decimals(1);
                ("cache", mean("cache_hit_ratio"), if by_cost { column.width(95) } else { column.gauge() })
            }
            Measure::CostPerRequest => {
                let column = column("#per_request", "Cost per request", "").decimals(4).width(122);
                ("per_request", over("requests"), column)
            }
            Measure::CostPerMillionTokens => {
                let column = column("#per_million", "Per 1M tokens", "").decimals(2).width(118);
                ("per_million", format!("1e6 * {}", over("tokens")), column)
            }
        }
    }

    /// One of the metrics of leaderboards, as each relay has it.
    fn all(&self, period: &str, of: &str) -> String {
        let Self { scope, matchers, filter, .. } = self;
        format!(r#"(llm_relay_leaderboard_{of}{{scope="{scope}",period="{period}"{matchers}}}{filter})"#)
    }

    fn link(&self) -> Option<Link> {
        match self.scope {
            "user" => Some(Link::USER),
            "key" => Some(Link::KEY),
            "provider" => Some(Link::PROVIDER),
            "model" => Some(Link::MODEL),
            _ => None,
        }
    }

    /// A model is the same in every relay, a user is not.
    fn is_of_models(&self) -> bool {
        self.scope == "model"
    }

    fn sum(&self, period: &str, of: &str) -> String {
        let all = self.all(period, of);
        if self.is_of_models() { format!("sum by (id, name) {all}") } else { all }
    }

    fn mean(&self, period: &str, of: &str) -> String {
        let (mean, requests) = (self.all(period, of), self.all(period, "requests"));
        if self.is_of_models() {
            format!("(sum by (id, name) ({mean} * {requests}) / sum by (id, name) ({requests} and {mean}))")
        } else {
            mean
        }
    }
}
