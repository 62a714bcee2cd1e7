//! The counters of a view as sums with names, to be held against sums of a test's own.

use std::collections::BTreeMap;

use llm_relay_exporter::model::Outcome;
use llm_relay_exporter::view::CountersView;

pub type Sums = BTreeMap<String, i64>;

/// As `requests provider 3 success`, `cost key 7`, `tokens all output`; those that are 0 are left out. A dollar has so many
/// parts.
pub fn counter_sums(counters: &CountersView, parts: f64) -> Sums {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    let mut add = |name: String, value: f64| *sums.entry(name).or_default() += value;
    let outcomes = |counts: [u64; 3]| Outcome::ALL.iter().map(|it| it.label()).zip(counts.map(|count| count as f64));
    let whose = |provider: &str, model: &str| {
        let (of_provider, of_model) = (format!("provider {provider}"), format!("model {model}"));
        ["all".to_owned(), of_provider, of_model, format!("series {provider} {model}")]
    };
    for it in counters.traffic.iter() {
        for whose in whose(&it.provider_id, &it.model) {
            outcomes(it.requests).for_each(|(outcome, count)| add(format!("requests {whose} {outcome}"), count));
            for (what, usd) in
                [("cost", it.cost_usd), ("list cost", it.list_cost_usd), ("account cost", it.account_cost_usd)]
            {
                add(format!("{what} {whose}"), usd.unwrap_or_default() * parts);
            }
            it.tokens.iter().for_each(|(kind, count)| add(format!("tokens {whose} {kind}"), *count as f64));
        }
    }
    for it in counters.latency.iter() {
        for whose in whose(&it.provider_id, &it.model) {
            for (what, histogram) in [("duration", &it.duration), ("ttft", &it.ttft)] {
                add(format!("{what} count {whose}"), histogram.count() as f64);
                add(format!("{what} ms {whose}"), histogram.sum * 1000.0);
            }
        }
    }
    for (what, classes) in [("failures", &counters.failures), ("recovered", &counters.recovered)] {
        for (provider, class, count) in classes {
            add(format!("{what} provider {provider} {class}"), *count as f64);
            add(format!("{what} all {class}"), *count as f64);
        }
    }
    counters.refunds.iter().for_each(|(provider, usd)| add(format!("refunded provider {provider}"), usd * parts));
    for (model, count) in &counters.unpriced {
        add(format!("unpriced model {model}"), *count as f64);
        add("unpriced all".to_owned(), *count as f64);
    }
    add("imported all".to_owned(), counters.imported.unwrap_or_default() as f64);
    for (scope, entities) in [
        ("user", &counters.users),
        ("key", &counters.keys),
        ("team", &counters.teams),
        ("organization", &counters.organizations),
    ] {
        for it in entities.iter() {
            let whose = format!("{scope} {}", it.id);
            add(format!("requests {whose}"), it.requests as f64);
            let told = it.outcomes.into_iter().flat_map(outcomes);
            told.for_each(|(outcome, count)| add(format!("outcome {whose} {outcome}"), count));
            add(format!("cost {whose}"), it.cost_usd.unwrap_or_default() * parts);
            add(format!("list cost {whose}"), it.list_cost_usd.unwrap_or_default() * parts);
        }
    }
    let whole = sums.into_iter().map(|(name, value)| (name, value.round() as i64));
    whole.filter(|(_, value)| *value != 0).collect()
}

/// Those of some families; `{}` stands for anything.
pub fn like<'a>(sums: Sums, families: impl IntoIterator<Item = &'a str>) -> Sums {
    let families: Vec<_> = families.into_iter().map(|it| it.split_once("{}").unwrap_or((it, ""))).collect();
    let is_of = |name: &str, (begin, end): &(&str, &str)| name.starts_with(begin) && name.ends_with(end);
    sums.into_iter().filter(|(name, _)| families.iter().any(|family| is_of(name, family))).collect()
}
