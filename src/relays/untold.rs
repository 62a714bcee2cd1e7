//! What a relay cannot tell: with the catalogue, a decision for every metric and every kind of relay. Each relay's folder
//! has its own list; what is listed is absent from every page, because 0 would be a number.

use crate::model::Scope;
use crate::relays::PRODUCTS;

/// What is absent for one reason.
#[derive(Debug)]
pub struct Untold {
    pub why: &'static str,
    /// Names of metrics; one that ends in `_` stands for all that begin so.
    pub metrics: &'static [&'static str],
    /// The samples of these, in every metric with the label `scope` or `dimension`.
    pub scopes: &'static [Scope],
}

impl Untold {
    pub const fn metrics(why: &'static str, metrics: &'static [&'static str]) -> Self {
        Self { why, metrics, scopes: &[] }
    }

    /// Users and all that is counted by user.
    pub const fn users(why: &'static str) -> Self {
        Self { why, metrics: &["llm_relay_user_"], scopes: &[Scope::User] }
    }
}

/// What the product with this label cannot tell; nothing for a label that is none.
pub fn untold_by(label: &str) -> &'static [Untold] {
    PRODUCTS.iter().find(|product| product.label == label).map_or(&[], |product| product.untold)
}

/// Why a whole metric is absent; `None` when it is told.
pub fn why_absent(untold: &[Untold], metric: &str) -> Option<&'static str> {
    let names = |name: &&str| *name == metric || (name.ends_with('_') && metric.starts_with(name));
    untold.iter().find(|it| it.metrics.iter().any(names)).map(|it| it.why)
}

/// Why a sample with these labels is absent from a metric that is told.
pub fn why_left_out(untold: &[Untold], names: &[&str], values: &[&str]) -> Option<&'static str> {
    let mut scoped = names.iter().zip(values).filter(|(name, _)| matches!(**name, "scope" | "dimension"));
    scoped.find_map(|(_, value)| {
        untold.iter().find(|it| it.scopes.iter().any(|scope| scope.label() == *value)).map(|it| it.why)
    })
}
