//! Limits and what they are held against, found in the alerts' expressions: `quantity > on (relay) limit` and
//! `quantity > usual * on (relay) limit`. A suggestion rests on quiet times: an incident is not its own limit.

use std::convert::Infallible;
use std::time::Duration;

use promql_parser::parser::token::{T_DIV, T_GTE, T_GTR, T_LSS, T_LTE, T_MUL, TokenType};
use promql_parser::parser::{self, BinaryExpr, Expr, ParenExpr};
use promql_parser::util::visitor::{ExprVisitorMut, walk_expr_mut};

use super::firing::Episode;
use crate::rules::{Alert, Rules, THRESHOLD as PREFIX, names};

/// These say below what an alert says nothing. They are no limits: what lies above them is ordinary.
const FLOORS: [&str; 12] = [
    "min_requests",
    "outage_requests",
    "vanished_requests",
    "latency_requests",
    "cost_surge_floor_usd",
    "spender_surge_floor_usd",
    "wasted_usd",
    "duration_floor_seconds",
    "first_token_floor_seconds",
    "substitutions",
    "cache_hit_floor",
    "cache_input_tokens",
];
/// Around an episode, the windows of an alert still hold something of it, and something of it before it has fired.
const AROUND: i64 = 3600;
/// An alert that fires more often than once in so many seconds tells of ordinary times as well.
const ORDINARY: i64 = 3 * 24 * 3600;
/// Fewer values of quiet times, each of five minutes, tell nothing of them.
const ENOUGH: usize = 36;
/// Between the worst of quiet times and the limit.
const HEADROOM: f64 = 1.25;

/// A limit in one alert.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Without [`PREFIX`].
    pub threshold: String,
    /// Index of the alert.
    pub alert: usize,
    /// What is compared with it, where the rest of the alert's condition holds.
    pub quantity: String,
    /// The alert looks for values below the limit.
    pub below: bool,
}

/// One value of a limit's quantity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    pub at: i64,
    pub value: f64,
}

/// What the quantity of a limit was in quiet times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quiet {
    pub median: f64,
    pub worst: f64,
    pub suggested: f64,
}

impl Limit {
    /// The series that holds the limit.
    pub(crate) fn series(&self) -> String {
        format!("{PREFIX}{}", self.threshold)
    }

    /// The alert with another limit.
    pub(crate) fn alert_with(&self, rules: &Rules, value: f64) -> Alert {
        let alert = &rules.alerts[self.alert];
        Alert { expr: self.replaced(&alert.expr, value, rules), ..alert.clone() }
    }

    /// An expression with another limit, also behind what is recorded of limits alone.
    fn replaced(&self, expr: &Expr, value: f64, rules: &Rules) -> Expr {
        struct Replace<'a>(&'a Limit, f64, &'a Rules);
        impl ExprVisitorMut for Replace<'_> {
            type Error = Infallible;
            fn pre_visit(&mut self, _: &mut Expr) -> Result<bool, Infallible> {
                Ok(true)
            }
            fn post_visit(&mut self, expr: &mut Expr) -> Result<bool, Infallible> {
                let (Self(limit, value, rules), Expr::VectorSelector(selector)) = (&*self, &*expr) else {
                    return Ok(true);
                };
                let (name, series) = (selector.name.as_deref().unwrap_or_default(), limit.series());
                if name == series {
                    // A number and a name always are an expression.
                    parser::parse(&format!("(0 * {series} + {value})")).into_iter().for_each(|other| *expr = other);
                } else if let Some(record) = rules.of_limits_alone(name) {
                    let inner = Box::new(limit.replaced(&record.expr, *value, rules));
                    *expr = Expr::Paren(ParenExpr { expr: inner });
                }
                Ok(true)
            }
        }
        let mut expr = expr.clone();
        let Ok(_) = walk_expr_mut(&mut Replace(self, value, rules), &mut expr);
        expr
    }

    /// What the quantity was outside of incidents. Where an alert fires too often for those, only the quarter of the
    /// episodes with the worst values is left out. `None` when too little is left.
    pub(crate) fn quiet(
        &self,
        points: &[Point],
        episodes: &[Episode],
        hold: Duration,
        tested: (i64, i64),
    ) -> Option<Quiet> {
        let worse = |one: f64, other: f64| if self.below { other.total_cmp(&one) } else { one.total_cmp(&other) };
        let lead = AROUND + hold.as_secs().cast_signed();
        let is_in = |point: &Point, it: &Episode| (it.start..=it.end).contains(&point.at);
        let mut around: Vec<Episode> =
            episodes.iter().map(|it| Episode { start: it.start - lead, end: it.end + AROUND }).collect();
        // What several series tell at a time is one incident.
        let mut incidents: Vec<Episode> = Vec::new();
        for it in &around {
            match incidents.last_mut() {
                Some(last) if it.start <= last.end => last.end = last.end.max(it.end),
                _ => incidents.push(*it),
            }
        }
        let (span, loud) = (tested.1 - tested.0, incidents.iter().map(|it| it.end - it.start).sum::<i64>());
        if incidents.len() as i64 > span / ORDINARY || loud > span / 4 {
            let peak = |it: &Episode| {
                let values = points.iter().filter(|point| is_in(point, it)).map(|point| point.value);
                values.max_by(|one, other| worse(*one, *other)).unwrap_or(if self.below { f64::MAX } else { f64::MIN })
            };
            around.sort_by(|one, other| worse(peak(other), peak(one)));
            around.truncate(around.len().div_ceil(4));
            incidents = around;
        }
        let is_quiet = |point: &&Point| !incidents.iter().any(|it| is_in(point, it));
        let mut values: Vec<f64> = points.iter().filter(is_quiet).map(|point| point.value).collect();
        values.sort_by(|one, other| worse(*one, *other));
        if values.len() < ENOUGH {
            return None;
        }
        let (median, worst) = (*values.get(values.len() / 2)?, *values.last()?);
        let suggested = two_digits(if self.below { worst / HEADROOM } else { worst * HEADROOM });
        Some(Quiet { median, worst, suggested })
    }
}

fn two_digits(value: f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powi(1 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// Every limit of the alerts, once for each rule that has it.
pub(crate) fn find(alerts: &[Alert]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for (alert, rule) in alerts.iter().enumerate() {
        for index in 0.. {
            let mut take = Take { index, taken: None };
            let mut rest = rule.expr.clone();
            let Ok(_) = walk_expr_mut(&mut take, &mut rest);
            let Some(comparison) = take.taken else { break };
            let Some((threshold, quantity)) = held_against(&comparison) else { continue };
            let below = matches!(comparison.op.id(), T_LSS | T_LTE);
            let seen = limits.iter().any(|it| it.alert == alert && it.threshold == threshold);
            if !seen && !FLOORS.contains(&&*threshold) {
                limits.push(Limit { threshold, alert, quantity: format!("({quantity}) and ({rest})"), below });
            }
        }
    }
    limits
}

/// Takes the comparison of this index out of an expression and leaves what was compared.
struct Take {
    index: usize,
    taken: Option<BinaryExpr>,
}

impl ExprVisitorMut for Take {
    type Error = Infallible;

    fn pre_visit(&mut self, _: &mut Expr) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn post_visit(&mut self, expr: &mut Expr) -> Result<bool, Infallible> {
        if let Expr::Binary(binary) = expr
            && matches!(binary.op.id(), T_GTR | T_GTE | T_LSS | T_LTE)
        {
            if self.index == 0 {
                let left = Expr::Paren(ParenExpr { expr: binary.lhs.clone() });
                self.taken = Some(binary.clone());
                *expr = left;
                return Ok(false);
            }
            self.index -= 1;
        }
        Ok(true)
    }
}

/// The threshold on the right side, and what it is a limit of.
fn held_against(comparison: &BinaryExpr) -> Option<(String, Expr)> {
    let left = Expr::Paren(ParenExpr { expr: comparison.lhs.clone() });
    let right = bare(&comparison.rhs);
    if let Some(threshold) = threshold(right) {
        return Some((threshold, left));
    }
    // A factor: the quantity is a ratio.
    let Expr::Binary(product) = right else { return None };
    let (threshold, usual) = match (threshold(bare(&product.lhs)), threshold(bare(&product.rhs))) {
        (None, Some(threshold)) => (threshold, &product.lhs),
        (Some(threshold), None) => (threshold, &product.rhs),
        _ => return None,
    };
    if product.op.id() != T_MUL || names(usual).is_empty() {
        return None;
    }
    let usual = parser::parse(&format!("({usual} > 0)")).ok()?;
    let ratio =
        BinaryExpr { op: TokenType::new(T_DIV), lhs: Box::new(left), rhs: Box::new(usual), ..comparison.clone() };
    Some((threshold, Expr::Binary(ratio)))
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(paren) => bare(&paren.expr),
        other => other,
    }
}

fn threshold(expr: &Expr) -> Option<String> {
    let Expr::VectorSelector(selector) = expr else { return None };
    Some(selector.name.as_ref()?.strip_prefix(PREFIX)?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(expr: &str) -> Vec<(String, String, bool)> {
        let alert = Alert {
            name: "A".into(),
            expr: parser::parse(expr).unwrap(),
            labels: Default::default(),
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
        };
        find(&[alert]).into_iter().map(|limit| (limit.threshold, limit.quantity, limit.below)).collect()
    }

    fn same(one: &str, other: &str) {
        assert_eq!(parser::parse(one).unwrap(), parser::parse(other).unwrap());
    }

    #[test]
    fn a_limit_is_found_with_what_is_compared_with_it() {
        let slots = found("r:slots{id!=\"0\"} >= on (relay) group_left () llm_relay:threshold:slots_ratio");
        same(&slots[0].1, "((r:slots{id!=\"0\"})) and ((r:slots{id!=\"0\"}))");
        assert_eq!((slots.len(), &*slots[0].0, slots[0].2), (1, "slots_ratio", false));
        // A floor is none; a factor is held against a ratio.
        let cost = found(
            "r:cost > on (relay) group_left () llm_relay:threshold:cost_surge_floor_usd
             and r:cost < max by (relay) (r:past) * on (relay) group_left () llm_relay:threshold:factor",
        );
        assert_eq!((cost.len(), &*cost[0].0, cost[0].2), (1, "factor", true));
        same(
            &cost[0].1,
            "((r:cost) / (max by (relay) (r:past) > 0))
             and (r:cost > on (relay) group_left () llm_relay:threshold:cost_surge_floor_usd and (r:cost))",
        );
    }

    #[test]
    fn floors_are_thresholds_that_are_shipped_and_limits_are_found_in_the_shipped_alerts() {
        let shipped = include_str!("../../prometheus/rules/thresholds.yml");
        for floor in FLOORS {
            assert!(shipped.contains(&format!("\"{PREFIX}{floor}\"")), "{floor}");
        }
        let limits = find(&Rules::load(None).unwrap().alerts);
        for limit in ["error_ratio_spike", "cost_surge_factor", "spender_surge_factor", "spender_ceiling_usd"] {
            assert!(limits.iter().any(|it| it.threshold == limit), "{limit}");
        }
        assert!(limits.iter().all(|it| parser::parse(&it.quantity).is_ok()));
    }

    #[test]
    fn a_limit_is_replaced_wherever_it_stands() {
        let limit = Limit { threshold: "x".into(), alert: 0, quantity: String::new(), below: false };
        let expr =
            parser::parse("a > on (relay) llm_relay:threshold:x or b > c * on (relay) llm_relay:threshold:x").unwrap();
        let other = parser::parse(
            "a > on (relay) (0 * llm_relay:threshold:x + 2.5) or b > c * on (relay) (0 * llm_relay:threshold:x + 2.5)",
        );
        assert_eq!(limit.replaced(&expr, 2.5, &Rules::default()), other.unwrap());
        // The page's limit of the error ratio is recorded: it follows the budget.
        let rules = Rules::load(None).unwrap();
        let page = rules.alerts.iter().find(|alert| alert.name == "LLMRelayErrorBudgetBurn").unwrap();
        let budget = Limit { threshold: "error_budget".into(), ..limit };
        let replaced = budget.replaced(&page.expr, 0.05, &rules).to_string();
        assert!(replaced.contains("14.4 * (0 * llm_relay:threshold:error_budget + 0.05)"), "{replaced}");
        assert!(!replaced.contains("error_limit"), "{replaced}");
    }

    const DAY: i64 = 86400;

    /// A month of five-minute values that are 1 to 2, with incidents of an hour and their values.
    fn month(incidents: &[(i64, f64)]) -> (Vec<Point>, Vec<Episode>) {
        let value = |at: i64| {
            let incident = incidents.iter().find(|(start, _)| (*start..*start + 3600).contains(&at));
            incident.map_or(1.0 + (at % DAY) as f64 / DAY as f64, |(_, value)| *value)
        };
        let points = (0..30 * DAY).step_by(300).map(|at| Point { at, value: value(at) }).collect();
        let episodes = incidents.iter().map(|(start, _)| Episode { start: *start + 300, end: *start + 3600 }).collect();
        (points, episodes)
    }

    #[test]
    fn an_incident_is_not_its_own_limit() {
        let limit = Limit { threshold: "x".into(), alert: 0, quantity: String::new(), below: false };
        let hold = Duration::from_secs(300);
        let (points, episodes) = month(&[(5 * DAY, 80.0), (9 * DAY, 40.0)]);
        let quiet = limit.quiet(&points, &episodes, hold, (0, 30 * DAY)).unwrap();
        assert!(quiet.worst < 2.0 && quiet.suggested == 2.5, "{quiet:?}");
        // Two alerts of one incident are one incident, also in a week with another one.
        let mut twice = episodes.clone();
        twice.insert(1, Episode { start: 5 * DAY + 5400, end: 5 * DAY + 6000 });
        let week = limit.quiet(&points[..(10 * DAY / 300) as usize], &twice, hold, (3 * DAY, 10 * DAY)).unwrap();
        assert_eq!(week.suggested, 2.5);
        // What fires every day is ordinary; the incident among it is not.
        let mut often: Vec<(i64, f64)> = (0..29).map(|day| (day * DAY + 7 * 3600, 3.0)).collect();
        often.push((20 * DAY + 12 * 3600, 80.0));
        let (points, episodes) = month(&often);
        let quiet = limit.quiet(&points, &episodes, hold, (0, 30 * DAY)).unwrap();
        assert_eq!((quiet.worst, quiet.suggested), (3.0, 3.8));
        // Too little was ever quiet.
        assert_eq!(limit.quiet(&points[..ENOUGH - 1], &[], hold, (0, 30 * DAY)), None);
        let always = [Episode { start: 0, end: 30 * DAY }];
        assert_eq!(limit.quiet(&points, &always, hold, (0, 30 * DAY)), None);
    }
}
