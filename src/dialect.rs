//! Expressions for servers that are no Prometheus but speak nearly its language.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Functions of which MetricsQL has another idea: the first sample of a series is growth from 0 where it is small, and what
/// stood before the span counts too. A total that begins with a ledger is no growth.
static GROWTH: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\b(increase|rate|delta|changes)\(").expect("a regular expression"));

/// The language in which a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// That of Prometheus, Mimir and Thanos.
    #[default]
    Promql,
    /// That of VictoriaMetrics and vmalert.
    Metricsql,
}

impl Dialect {
    /// A text with expressions in PromQL, whose functions this dialect calls by other names.
    pub(crate) fn of(self, promql: &str) -> Cow<'_, str> {
        match self {
            Self::Promql => promql.into(),
            Self::Metricsql => GROWTH.replace_all(promql, "${1}_prometheus("),
        }
    }
}
