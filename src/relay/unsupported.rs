//! What a relay cannot tell: with the catalogue, a decision for every metric and every kind of relay, for the documentation.
//! Each relay's folder has its own list. What is listed is absent because its readers say `None`; tests hold them to it.

use crate::model::Scope;

/// What is absent for one reason.
#[derive(Debug)]
pub struct Unsupported {
    /// For the documentation, one sentence without a full stop.
    pub why: &'static str,
    /// The same in Chinese, where a screen shows it.
    pub why_zh: &'static str,
    /// Names of metrics; one that ends in `_` stands for all that begin so.
    pub metrics: &'static [&'static str],
    /// In metrics whose names begin so, the samples whose label `scope` or `dimension` has one of these values.
    pub scopes: Option<(&'static str, &'static [Scope])>,
}

impl Unsupported {
    /// What a gateway has and a relay for few does not.
    pub(crate) const PEOPLE: Self = Self::metrics(
        "nothing is told of people behind the callers, and of the relay's own processes",
        &["llm_relay_end_users_active", "llm_relay_workers_alive", "llm_relay_unaccounted_requests"],
    );
    /// What is never refused.
    pub(crate) const STATEMENTS: Self = Self::metrics(
        "no recurring statement can become expensive: all are bounded by an index",
        &["llm_relay_statement_refused"],
    );

    /// Metrics that are absent as a whole.
    pub const fn metrics(why: &'static str, metrics: &'static [&'static str]) -> Self {
        Self { why, why_zh: "", metrics, scopes: None }
    }

    pub(crate) const fn zh(mut self, why_zh: &'static str) -> Self {
        self.why_zh = why_zh;
        self
    }

    /// Users and all that is counted by user.
    pub(crate) const fn users(why: &'static str) -> Self {
        Self { why, why_zh: "", metrics: &["llm_relay_user_"], scopes: Some(("llm_relay_", &[Scope::User])) }
    }

    /// Teams and organizations, and all that is counted by them.
    pub(crate) const fn teams(why: &'static str) -> Self {
        const METRICS: &[&str] = &["llm_relay_team_", "llm_relay_organization_"];
        const SCOPES: &[Scope] = &[Scope::Team, Scope::Organization];
        Self { why, why_zh: "", metrics: METRICS, scopes: Some(("llm_relay_", SCOPES)) }
    }

    /// Leaderboards of scopes.
    pub(crate) const fn leaderboards(why: &'static str, scopes: &'static [Scope]) -> Self {
        Self { why, why_zh: "", metrics: &[], scopes: Some(("llm_relay_leaderboard_", scopes)) }
    }
}

/// Why a whole metric is absent; `None` when it is told.
pub fn unsupported_reason(unsupported: &[Unsupported], metric: &str) -> Option<&'static str> {
    let names = |name: &&str| *name == metric || (name.ends_with('_') && metric.starts_with(name));
    unsupported.iter().find(|it| it.metrics.iter().any(names)).map(|it| it.why)
}

/// The scopes that are absent from a metric that has one, and why.
pub fn unsupported_scopes(
    unsupported: &'static [Unsupported],
    metric: &str,
) -> impl Iterator<Item = (Scope, &'static str)> {
    let of =
        move |it: &'static Unsupported| Some((it.scopes.filter(|(prefix, _)| metric.starts_with(prefix))?.1, it.why));
    unsupported.iter().filter_map(of).flat_map(|(scopes, why)| scopes.iter().map(move |scope| (*scope, why)))
}
