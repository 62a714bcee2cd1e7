//! Thresholds and what they are held against, found in the alerts' expressions: `quantity > scalar(threshold)` and
//! `quantity > scalar(threshold) * other`.

use super::rules::{Alert, names};

const OPEN: &str = "scalar(llm_relay:threshold:";

/// A threshold in one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The series that holds the threshold.
    pub name: String,
    pub alert: String,
    /// What is compared with it, where the rest of the alert's condition holds.
    pub quantity: String,
    /// The alert looks for values below the threshold.
    pub below: bool,
}

/// A threshold beside what it is held against.
#[derive(Clone, Debug)]
pub struct Measured {
    pub limit: Limit,
    pub present: f64,
    /// By [`Limit::shares`].
    pub values: [f64; 3],
}

impl Limit {
    /// Shares of the time in which the quantity was no worse.
    pub const fn shares(&self) -> [&'static str; 3] {
        if self.below { ["0.5", "0.01", "0"] } else { ["0.5", "0.99", "1"] }
    }

    /// How one number is made of many series.
    pub const fn worst(&self) -> &'static str {
        if self.below { "min" } else { "max" }
    }
}

/// Every threshold of the alerts, once for each alert that has it.
pub fn find(alerts: &[Alert]) -> Vec<Limit> {
    let mut limits: Vec<Limit> = Vec::new();
    for alert in alerts {
        for (at, _) in alert.expr.match_indices(OPEN) {
            let Some(limit) = limit(alert, at) else { continue };
            if !limits.iter().any(|it| it.name == limit.name && it.alert == limit.alert) {
                limits.push(limit);
            }
        }
    }
    limits
}

/// The threshold whose `scalar(` stands at `at`; `None` where its other side is more than a selector.
fn limit(alert: &Alert, at: usize) -> Option<Limit> {
    let (before, after) = alert.expr.split_at(at);
    let (name, after) = after.strip_prefix("scalar(")?.split_once(')')?;
    let compared = before.trim_end().trim_end_matches('=');
    let below = compared.ends_with('<');
    let left = compared.strip_suffix(['<', '>'])?.trim_end();
    let quantity = selector_at_end(left)?;
    // A factor: the quantity is a ratio, and the right side ends with its line.
    let (right, rest) = after.split_at(after.find('\n').unwrap_or(after.len()));
    let (quantity, rest) = match right.trim().strip_prefix('*') {
        Some(right) => (format!("{quantity} / ({} > 0)", right.trim()), rest),
        None => (quantity.to_owned(), after),
    };
    // The rest of the condition, without this comparison.
    let rest = format!("{left} {rest}");
    let holds = if names(&rest).len() > 1 { format!("({quantity}) and ({rest})") } else { quantity };
    Some(Limit { name: name.to_owned(), alert: alert.name.clone(), quantity: holds, below })
}

/// The series selector that a text ends with.
fn selector_at_end(text: &str) -> Option<&str> {
    let bare = match text.strip_suffix('}') {
        Some(inner) => &inner[..inner.rfind('{')?],
        None => text,
    };
    let start = bare.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).map_or(0, |at| at + 1);
    // A duration or a number is none.
    bare[start..].starts_with(|first: char| first.is_ascii_alphabetic()).then(|| &text[start..])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn found(expr: &str) -> Vec<(String, String, bool)> {
        let alert = Alert {
            name: "A".into(),
            expr: expr.into(),
            labels: Default::default(),
            hold: Duration::ZERO,
            keep_firing: Duration::ZERO,
        };
        find(&[alert]).into_iter().map(|limit| (limit.name, limit.quantity, limit.below)).collect()
    }

    #[test]
    fn a_threshold_is_found_with_what_is_compared_with_it() {
        assert_eq!(
            found("r:slots:avg5m{id!=\"0\"} >= scalar(llm_relay:threshold:slots)\n"),
            [("llm_relay:threshold:slots".into(), "r:slots:avg5m{id!=\"0\"}".into(), false)]
        );
        let cost = "r:cost > scalar(llm_relay:threshold:floor)\nand r:cost\n  > scalar(llm_relay:threshold:factor) * max by (relay) (r:past)\n";
        let found = found(cost);
        assert_eq!(found[0].0, "llm_relay:threshold:floor");
        assert_eq!(found[1].0, "llm_relay:threshold:factor");
        assert!(found[1].1.starts_with("(r:cost / (max by (relay) (r:past) > 0)) and (r:cost > scalar("), "{found:?}");
    }
}
