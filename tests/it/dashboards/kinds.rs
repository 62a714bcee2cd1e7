//! Every panel with the relay chosen, once for each kind: data where the relay can tell, nothing where it cannot.

use std::collections::{BTreeMap, BTreeSet};

use llm_relay_exporter::dashboards::promql;
use llm_relay_exporter::lang::Lang;
use llm_relay_exporter::metrics::Metric;
use llm_relay_exporter::relays::PRODUCTS;
use promql_parser::label::MatchOp;
use promql_parser::parser::VectorSelector;
use serde_json::Value;

use super::demo::SPAN;
use super::prometheus::{Prometheus, Span};
use super::{Excuse, lint, of_kind, targets};

/// What one kind alone need not show within the demo's first minute, though its page has the metrics.
const NOTHING_YET: &[(&str, Excuse)] = &[
    ("claude-code-hub", ("Activity in the last minute", "failed", "too rare for one minute")),
    ("claude-relay-service", ("Sessions by provider", "sessions", "no account has a session")),
    ("claude-relay-service", ("Failures per minute by class", "failures", "too rare for one minute")),
    ("claude-relay-service", ("Failures in the time range", "count", "too rare for one minute")),
    ("claude-relay-service", ("Activity in the last minute", "failed", "failures are not counted as requests")),
    ("claude-relay-service", ("Activity in the last minute", "cost", "its cost is not kept by account")),
    ("claude-relay-service", ("Value for money in the time range", "per_request", "its cost is not kept by account")),
    ("claude-relay-service", ("Value for money in the time range", "per_million", "its cost is not kept by account")),
    ("cpa-manager", ("Activity in the last minute", "failed", "too rare for one minute")),
    ("gemini-balance", ("Activity in the last minute", "failed", "too rare for one minute")),
    ("litellm", ("Activity in the last minute", "failed", "too rare for one minute")),
    ("litellm", ("Tokens by type", "write", "too rare for one minute")),
    ("one-api", ("Activity in the last minute", "failed", "requests that failed leave no row")),
    ("one-api", ("Tokens by type", "read", "cached tokens are not told from the others")),
    ("one-api", ("Tokens by type", "write", "cached tokens are not told from the others")),
    ("one-api", ("Cache hit ratio", "hits", "cached tokens are not told from the others")),
];

/// What one query of a panel has for one kind of relay.
enum Answer {
    Data,
    Unsupported(String),
    Nothing(&'static str),
}

/// Prints the table of panels and kinds; what is wrong with them. `excused` holds for every kind.
pub fn ask(prometheus: &Prometheus, span: &Span, excused: &[Excuse]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut pages = Pages { prometheus, known: BTreeMap::new() };
    let mut panels: BTreeMap<(usize, String), BTreeMap<&str, Vec<Answer>>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for whole in lint::expressions() {
        let target = whole.number();
        let place = format!("{} | {}", target.dashboard, target.panel);
        let at = order.iter().position(|known| *known == place).unwrap_or_else(|| {
            order.push(place.clone());
            order.len() - 1
        });
        for kind in PRODUCTS.iter().map(|product| product.label) {
            let query = format!("{place} | {}, {}", target.id, kind);
            let why = pages.why_empty(&target.expr, kind);
            let able = whole.reason().and_then(|reason| reason.split("kind=~\"").nth(1)?.split('"').next());
            if able.is_some_and(|able| !able.split('|').any(|able| able == kind)) {
                let said = whole
                    .ask(prometheus, span, kind)
                    .map(|answer| answer.iter().map(|it| it["value"][1].clone()).collect());
                if said != Ok(vec![Value::from("-Inf")]) {
                    problems.push(format!("{query}: {said:?} instead of \"not told\""));
                }
            }
            let answer = match (target.ask(prometheus, span, kind), why) {
                (Ok(found), Why::CannotTell(why)) if !found.is_empty() => {
                    problems.push(format!("{query}: has numbers though the page lacks {why}: {}", found[0]));
                    Answer::Data
                }
                (Ok(found), _) if !found.is_empty() => Answer::Data,
                (Ok(_), Why::CannotTell(why) | Why::LacksPart(why)) => Answer::Unsupported(why),
                (Ok(_), Why::Must) => {
                    let own = NOTHING_YET.iter().filter(|(of, _)| *of == kind).map(|(_, excuse)| excuse);
                    let mut all = own.chain(excused);
                    let excuse = all.find(|(panel, id, _)| (*panel, *id) == (&*target.panel, &*target.id));
                    if excuse.is_none() {
                        problems.push(format!("{query}: no answer to {}", target.expr));
                    }
                    Answer::Nothing(excuse.map_or("", |excuse| excuse.2))
                }
                (Err(error), _) => {
                    problems.push(format!("{query}: {error}\n  {}", target.expr));
                    continue;
                }
            };
            panels.entry((at, place.clone())).or_default().entry(kind).or_default().push(answer);
        }
    }
    println!(
        "| dashboard | panel | {} |",
        PRODUCTS.iter().map(|product| product.label).collect::<Vec<_>>().join(" | ")
    );
    println!("|---|---|{}", "---|".repeat(PRODUCTS.len()));
    for ((_, place), kinds) in &panels {
        let cells =
            PRODUCTS.iter().map(|product| kinds.get(product.label).map_or_else(String::new, |answers| cell(answers)));
        let cells: Vec<_> = cells.collect();
        println!("| {place} | {} |", cells.join(" | "));
    }
    problems
}

/// Users of the same name in several relays are told apart, where several are chosen.
pub fn apart(prometheus: &Prometheus) -> Vec<String> {
    let mut problems = Vec::new();
    let all = lint::expressions();
    let of = |panel: &str| all.iter().find(|it| it.dashboard == "llm-relay-overview" && it.panel == panel).unwrap();
    for (chosen, label, shown) in [(".+", "relay", true), ("new-api", "none", false)] {
        let answer = of("variable apart").ask(prometheus, &SPAN, chosen).unwrap();
        if answer.len() != 1 || answer[0]["metric"]["apart"] != label {
            problems.push(format!("of {chosen}, relays are told apart by {answer:?}"));
        }
        let mut users = of("Top users").clone();
        users.expr = users.expr.replace("$apart", label);
        let users = users.ask(prometheus, &SPAN, chosen).unwrap();
        let relays: BTreeSet<&str> = users.iter().filter_map(|it| it["metric"]["shown_relay"].as_str()).collect();
        if users.is_empty() || (relays.len() > 1) != shown {
            problems.push(format!("users of {chosen} are of the relays {relays:?}"));
        }
    }
    problems
}

/// What the relays support and the demo does not show.
const BEYOND_THE_DEMO: [&str; 7] = [
    "llm_relay_http_",
    "llm_relay_replica_lag_seconds",
    "llm_relay_provider_slots_limit",
    "llm_relay_quota_",
    "llm_relay_key_expiry_timestamp_seconds",
    "llm_relay_unpriced_requests_total",
    "llm_relay_model_substitutions_total",
];

/// What is wrong with the dashboards of each kind: every query of them must be one that the relay's page can answer.
pub fn boards(prometheus: &Prometheus) -> Vec<String> {
    let mut pages = Pages { prometheus, known: BTreeMap::new() };
    let mut problems = Vec::new();
    for product in PRODUCTS {
        for target in of_kind(product, Lang::En).iter().flat_map(targets).map(|target| target.number()) {
            if let Why::CannotTell(why) = pages.why_empty(&target.expr, product.label)
                && !BEYOND_THE_DEMO.iter().any(|it| why.starts_with(it))
            {
                problems.push(format!("{}: {} | {}: {why}", product.label, target.dashboard, target.panel));
            }
        }
    }
    problems
}

/// A panel in a word: how many of its queries have data, and why the others do not.
fn cell(answers: &[Answer]) -> String {
    let data = answers.iter().filter(|answer| matches!(answer, Answer::Data)).count();
    let mut rest: Vec<String> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Data => None,
            Answer::Unsupported(why) => Some(format!("not told: {why}")),
            Answer::Nothing(why) => Some(format!("nothing yet: {why}")),
        })
        .collect();
    rest.dedup();
    match data {
        0 => rest.join("; "),
        all if all == answers.len() => "data".to_owned(),
        some => format!("data ({some} of {}; {})", answers.len(), rest.join("; ")),
    }
}

/// Whether an expression may have no answer for a kind of relay.
enum Why {
    Must,
    /// One of its metrics is not told: it depends on the expression.
    LacksPart(String),
    /// None of them is: there must be none.
    CannotTell(String),
}

/// What the page has of each kind: a metric that is not there is not told. That the demo shows all that a kind can tell is
/// no question of dashboards.
struct Pages<'a> {
    prometheus: &'a Prometheus,
    known: BTreeMap<String, bool>,
}

impl Pages<'_> {
    fn why_empty(&mut self, expr: &str, kind: &str) -> Why {
        let selectors = lint::selectors(expr);
        let mut asked: Vec<(&Metric, &VectorSelector)> =
            selectors.iter().filter_map(|of| Some((promql::family(of.name.as_deref()?)?, of))).collect();
        // Names are joined to numbers and can be missing; alone they are what is asked for.
        let is_name = |metric: &Metric| {
            ["_user_info", "_key_info", "_provider_info"].iter().any(|end| metric.name.ends_with(end))
        };
        if asked.iter().any(|(metric, _)| !is_name(metric)) {
            asked.retain(|(metric, _)| !is_name(metric));
        }
        let missing: Vec<Option<String>> =
            asked.iter().map(|(metric, selector)| self.missing(metric, selector, kind)).collect();
        match missing.iter().flatten().next() {
            None => Why::Must,
            Some(why) if missing.iter().all(Option::is_some) => Why::CannotTell(why.clone()),
            Some(why) => Why::LacksPart(why.clone()),
        }
    }

    /// The selector's metric, with its scope, when the page of this kind has none of it.
    fn missing(&mut self, metric: &Metric, selector: &VectorSelector, kind: &str) -> Option<String> {
        if !metric.is_of_relay() {
            return None;
        }
        let exact = selector.matchers.matchers.iter().filter(|matcher| matches!(matcher.op, MatchOp::Equal));
        let scope = exact.filter(|matcher| matcher.name == "scope").map(|matcher| matcher.value.clone()).next();
        let scope = scope.map_or_else(String::new, |scope| format!(r#",scope="{scope}""#));
        let name = selector.name.as_deref().unwrap_or_default();
        let told = format!(r#"last_over_time({name}{{relay="{kind}"{scope}}}[10m])"#);
        let prometheus = self.prometheus;
        let found =
            self.known.entry(told).or_insert_with_key(|told| !prometheus.instant(told).unwrap_or_default().is_empty());
        (!*found).then(|| format!("{}{}", metric.name, scope.replace(',', " of ")))
    }
}
