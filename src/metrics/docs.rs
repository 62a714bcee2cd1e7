//! The catalogue as Markdown: `docs/metrics.md` is this text, and a test holds it to it.

use std::fmt::Write;

use super::{CATALOGUE, Emit, Group, Metric};
use crate::relay::Product;
use crate::relay::unsupported::{unsupported_reason, unsupported_scopes};
use crate::relays::PRODUCTS;

const INTRODUCTION: &str = "\
# Metrics

This page is printed by `llm-relay-exporter metrics` from the catalogue in the code; do not edit it.

The names are the product's public interface: a renamed metric is a breaking change.

* **Every relay metric has the label `relay`**, the relay's name in the configuration. It is not repeated below.
* **Missing is never zero.** What cannot be read, is not given by the relay, or has not been read far enough back yet is
  absent; `llm_relay_source_up` says why. What is known to be nothing is 0. An entity without a limit has no limit series.
* **Counters are seeded from the relay's own ledger.** Their value is the total since the ledger's first row, so it is the
  same after a restart and on every replica. They are absent until the history has been read
  (`llm_relay_history_loaded_ratio`). A request is added once, when it is final; cost that comes later is added when it
  appears. A correction downwards never makes a counter fall; it is counted in `llm_relay_ledger_corrections_total`.
* **Gauges follow the relay's screens**, number by number, with the relay's own rules. Windows are exact to one second.
* **Money is US dollars** by the relay's own accounting. The currency of the relay's screens is a symbol only
  (`llm_relay_currency_info`).
* **Names live in `*_info` metrics**: `llm_relay_user_cost_usd_total * on (relay, user_id) group_left (user)
  llm_relay_user_info`. Leaderboards carry them, because they are a bounded top-N. No label ever holds a key, an e-mail
  address, an IP address, a session or request id, or free error text: a name with an `@` in it, but for a model's, is shown as
  `user-`, `key-`, `team-`, `organization-` or `provider-` and the id.
* **Label values are bounded.** Each dimension that clients can grow admits a budgeted number of values in the order of
  their first appearance in the ledger (a model: of its first success); further ones count as `other`. A counter without
  traffic for 35 days is hidden until traffic returns.
* Numbers are read on the exporter's own timer (`interval`), not at the scrape: two Prometheus servers do not double the
  load on the relay's database.
";

/// The headings, in the order of the page, each with what is said below it.
const GROUPS: [(Group, &str, &str); 8] = [
    (Group::Overview, "Overview", "Equal to the relay's own screen."),
    (Group::Counters, "Counters and histograms", "For rates, quantiles and any time range."),
    (Group::Leaderboards, "Leaderboards", "Ranked by cost, exact, with `other`, so that the sum is the total."),
    (Group::Live, "Live state", "From the relay's live store."),
    (Group::Quotas, "Quotas", "As the relay's quota pages show them."),
    (Group::Facts, "Facts", "Constant 1; join on the id."),
    (Group::Health, "The relay itself", "Whether it answers; only with a `health_url`."),
    (Group::Exporter, "The exporter and its sources", "Also there when a source cannot be read."),
];

/// A heading of the page and what stands under it.
pub(crate) struct Section {
    pub title: &'static str,
    text: &'static str,
    pub metrics: Vec<&'static Metric>,
}

/// All metrics, in the order of the page.
pub(crate) fn sections() -> impl Iterator<Item = Section> {
    GROUPS.into_iter().map(|(group, title, text)| {
        let metrics = CATALOGUE.iter().filter(|metric| metric.group == group).collect();
        Section { title, text, metrics }
    })
}

/// The whole page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for Section { title, text, metrics } in sections() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {title}\n\n{text}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        for metric in metrics {
            let kind = metric.kind.label();
            let mut labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            if let Emit::Exporter(_) = metric.emit {
                labels.push("(no `relay`)".to_owned());
            }
            let _ = writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help);
        }
    }
    page
}

/// Which relay tells which metric, as a table, and below it the reasons why not.
pub fn relay_table() -> String {
    let mut reasons: Vec<&str> = Vec::new();
    let mut number = |why: &'static str| {
        let known = reasons.iter().position(|it| *it == why);
        known.unwrap_or_else(|| {
            reasons.push(why);
            reasons.len() - 1
        }) + 1
    };
    let all = |cell: fn(&Product) -> String| PRODUCTS.iter().map(|product| cell(product)).collect::<String>();
    let mut text = format!("| metric |{}\n", all(|product| format!(" {} |", product.label)));
    text += &format!("|---|{}\n", all(|_| "---|".to_owned()));
    for section in sections() {
        text += &format!("| **{}** |{}\n", section.title, all(|_| " |".to_owned()));
        for metric in section.metrics.into_iter().filter(|metric| metric.is_of_relay()) {
            text += &format!("| `{}` |", metric.name);
            for product in PRODUCTS {
                let scoped = metric.labels.iter().any(|label| matches!(*label, "scope" | "dimension"));
                text += &match unsupported_reason(product.unsupported, metric.name) {
                    Some(why) => format!(" no ({}) |", number(why)),
                    None => {
                        let absent = unsupported_scopes(product.unsupported, metric.name).filter(|_| scoped);
                        let absent = absent.map(|(scope, why)| format!(", no `{}` ({})", scope.label(), number(why)));
                        format!(" yes{} |", absent.collect::<String>())
                    }
                };
            }
            text.push('\n');
        }
    }
    text.push('\n');
    for (n, why) in reasons.iter().enumerate() {
        text += &format!("{}. {why}\n", n + 1);
    }
    text
}
