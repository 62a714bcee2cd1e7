//! What a relay cannot tell: with the catalogue, a decision for every metric and every kind of relay, for the documentation.
//! Each relay's folder has its own list. What is listed is absent because its readers say `None`; tests hold them to it.

use crate::model::Scope;

/// What is absent for one reason.
#[derive(Debug)]
pub struct Unsupported {
    /// For the documentation, one sentence without a full stop.
    pub why: &'static str,
    /// Names of metrics; one that ends in `_` stands for all that begin so.
    pub metrics: &'static [&'static str],
    /// The samples of these, in every metric with the label `scope` or `dimension`.
    pub scopes: &'static [Scope],
}

impl Unsupported {
    /// Metrics that are absent as a whole.
    pub const fn metrics(why: &'static str, metrics: &'static [&'static str]) -> Self {
        Self { why, metrics, scopes: &[] }
    }

    /// Users and all that is counted by user.
    pub(crate) const fn users(why: &'static str) -> Self {
        Self { why, metrics: &["llm_relay_user_"], scopes: &[Scope::User] }
    }
}

/// Why a whole metric is absent; `None` when it is told.
pub fn unsupported_reason(unsupported: &[Unsupported], metric: &str) -> Option<&'static str> {
    let names = |name: &&str| *name == metric || (name.ends_with('_') && metric.starts_with(name));
    unsupported.iter().find(|it| it.metrics.iter().any(names)).map(|it| it.why)
}
