//! Expressions: written with full metric names, checked against the catalogue, and made right for every set-up.

use anyhow::{Context, bail};

use super::column::{Column, column};
use super::link::Link;
use crate::metrics::{CATALOGUE, Metric, MetricType};

/// Whether an expression sees the replicas of an exporter as one, and what it reads over long ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replicas {
    /// They expose the same numbers, which must not add up: the greatest counts.
    Fold,
    /// The same; counters may be read as they are recorded.
    FoldRecorded,
    /// The same; what is recorded of a provider's growth may stand for that of all its models.
    FoldSummed,
    /// Each speaks of itself.
    Each,
}

/// Counters that are recorded as they are, by level and metric, the parts of what is recorded.
const RECORDED: [(&str, &str); 19] = [
    ("llm_relay", "cost_usd"),
    ("llm_relay", "list_cost_usd"),
    ("llm_relay", "account_cost_usd"),
    ("llm_relay", "requests"),
    ("llm_relay", "responses"),
    ("llm_relay", "failures"),
    ("llm_relay", "recovered_attempts"),
    ("llm_relay", "tokens"),
    ("llm_relay", "wasted_cost_usd"),
    ("llm_relay", "cache_saved_usd"),
    ("llm_relay", "refunded_usd"),
    ("llm_relay_user", "cost_usd"),
    ("llm_relay_user", "requests"),
    ("llm_relay_user", "tokens"),
    ("llm_relay_key", "cost_usd"),
    ("llm_relay_key", "list_cost_usd"),
    ("llm_relay_key", "requests"),
    ("llm_relay_key", "outcomes"),
    ("llm_relay_key", "tokens"),
];

/// Whose growth is recorded by provider, all models together.
const SUMMED: [&str; 7] = [
    "llm_relay_requests_total",
    "llm_relay_cost_usd_total",
    "llm_relay_list_cost_usd_total",
    "llm_relay_tokens_total",
    "llm_relay_request_duration_seconds",
    "llm_relay_time_to_first_token_seconds",
    "llm_relay_output_tokens_per_second",
];

/// The metric behind a name in an expression: a family, or a part of a classic histogram.
pub fn family(name: &str) -> Option<&'static Metric> {
    let exact = CATALOGUE.iter().find(|metric| metric.name == name);
    exact.or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part))?;
        CATALOGUE.iter().find(|metric| metric.name == base && metric.kind == MetricType::Histogram)
    })
}

/// The metrics of an expression, in order of appearance.
///
/// # Errors
/// When a name is not in the catalogue.
pub fn families(text: &str) -> anyhow::Result<Vec<&'static Metric>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next_name(rest) {
        found.push(family(name).with_context(|| unknown(name, text))?);
        rest = after;
    }
    Ok(found)
}

/// An expression that can be parsed: with a span of time, or a number, for each of Grafana's variables that stand for one.
pub(crate) fn filled(text: &str) -> String {
    let spans = ["$__rate_interval", "$__range", "$bucket", "$compare"].map(|variable| (variable, "5m"));
    let numbers = ["$__to", "$__interval_ms"].map(|variable| (variable, "1"));
    let all = spans.iter().chain(&numbers);
    all.fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

/// Adds the matchers of the variables `job` and `relay` (and `instance`) to every selector and folds replicas:
/// `sum(increase(x[5m]))` becomes `sum(max by (relay, ...) (increase(x{job=~"$job",relay=~"$relay"}[5m])))`.
///
/// Errors name what is not in the catalogue, and a range that is not the only argument of a function.
pub(crate) fn scope(text: &str, replicas: Replicas) -> anyhow::Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = next_name(rest) {
        let metric = family(name).with_context(|| unknown(name, text))?;
        out.push_str(before);
        let (matchers, after) = enclosed(after, '{', '}');
        let (range, after) = enclosed(after, '[', ']');
        let (modifiers, after) = modifiers(after);
        rest = after;

        let by_relay = metric.is_of_relay();
        let mut all = vec![r#"job=~"$job""#];
        all.extend((replicas == Replicas::Each).then_some(r#"instance=~"$instance""#));
        all.extend(by_relay.then_some(r#"relay=~"$relay""#));
        all.extend((!matchers.is_empty()).then_some(matchers));
        let selector = Selector { name, matchers: all.join(","), range, modifiers };

        // Facts are joined, not added up; a join picks one of several by itself.
        if replicas == Replicas::Each || !by_relay || name.ends_with("_info") {
            out.push_str(&selector.of(name));
            continue;
        }
        let labels = metric.labels.iter().copied().chain(name.ends_with("_bucket").then_some("le"));
        let labels: Vec<&str> = std::iter::once("relay").chain(labels).collect();
        let mut values = selector.of(name);
        if !range.is_empty() {
            let call =
                out.strip_suffix('(').with_context(|| format!("no function around {name}[{range}] in {text}"))?;
            let start = call.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
            values = selector.under(&call[start..], metric, replicas);
            out.truncate(start);
            rest = rest.strip_prefix(')').with_context(|| format!("{name}[{range}] is not alone in {text}"))?;
        }
        // The greatest of native histograms there is not.
        let fold = if metric.name == name && metric.kind == MetricType::Histogram { "avg" } else { "max" };
        out.push_str(&format!("{fold} by ({}) ({values})", labels.join(", ")));
    }
    out.push_str(rest);
    if out.matches('(').count() != out.matches(')').count() {
        bail!("brackets do not match in {text}");
    }
    Ok(out)
}

/// A part of an expression that names a metric.
struct Selector<'a> {
    name: &'a str,
    matchers: String,
    range: &'a str,
    modifiers: &'a str,
}

impl Selector<'_> {
    /// The same of another metric, whose name may depend on the variable `sep`.
    fn of(&self, name: &str) -> String {
        let Self { matchers, range, modifiers, .. } = self;
        let range = if range.is_empty() { String::new() } else { format!("[{range}]") };
        if name.contains('$') {
            format!(r#"{{__name__="{name}",{matchers}}}{range}{modifiers}"#)
        } else {
            format!("{name}{{{matchers}}}{range}{modifiers}")
        }
    }

    /// Under a function of its range. Where `sep` is `:` instead of `_`, a name is that of what is recorded, or of nothing.
    fn under(&self, function: &str, metric: &Metric, replicas: Replicas) -> String {
        let name = self.name;
        // What is recorded lags behind: it is none of the last hour.
        let recorded = self.range.starts_with('$') && matches!(replicas, Replicas::FoldRecorded | Replicas::FoldSummed);
        if recorded && replicas == Replicas::FoldSummed && function == "increase" && SUMMED.contains(&metric.name) {
            let own = name.trim_start_matches("llm_relay_");
            let counted = self.of(&format!("llm_relay${{sep}}{own}"));
            let own = own.trim_end_matches("_total");
            let summed = self.of(&format!("llm_relay_provider${{sep}}{own}${{sep}}increase20m"));
            return format!("increase({counted}) or sum_over_time({summed})");
        }
        let mut parts = RECORDED.iter().filter(|(level, metric)| format!("{level}_{metric}_total") == name);
        match parts.next().filter(|_| recorded) {
            Some((level, metric)) => {
                format!("{function}({})", self.of(&format!("{level}${{sep}}{metric}${{sep}}total")))
            }
            None => format!("{function}({})", self.of(name)),
        }
    }
}

fn unknown(name: &str, text: &str) -> String {
    format!("{name} in {text} is not in the catalogue of metrics")
}

/// What stands before the next metric name outside of quotes, the name, and what follows. What is recorded of metrics is
/// none.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        if c == '"' {
            quoted = !quoted;
        }
        let begins = !quoted && !previous.is_ascii_alphanumeric() && previous != '_' && previous != '$';
        if begins && (text[at..].starts_with("llm_relay_") || text[at..].starts_with("process_")) {
            let length = text[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len() - at);
            let after = &text[at + length..];
            if !after.starts_with(':') {
                return Some((&text[..at], &text[at..at + length], after));
            }
        }
        previous = c;
    }
    None
}

fn enclosed(text: &str, open: char, close: char) -> (&str, &str) {
    text.strip_prefix(open).and_then(|inner| inner.split_once(close)).unwrap_or(("", text))
}

/// ` offset 1d` and ` @ end()`, in this order.
fn modifiers(text: &str) -> (&str, &str) {
    const OFFSET: &str = " offset ";
    const END: &str = " @ end()";
    let mut length = 0;
    if let Some(rest) = text.strip_prefix(OFFSET) {
        length = OFFSET.len() + rest.find([' ', ')', ',']).unwrap_or(rest.len());
    }
    if text[length..].starts_with(END) {
        length += END.len();
    }
    text.split_at(length)
}

/// What has a name in an info metric.
#[derive(Clone, Copy)]
pub(crate) enum Named {
    User,
    Key,
    Team,
    Organization,
    Provider,
}

impl Named {
    /// The label with the id in counters and gauges.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::User => "user_id",
            Self::Key => "key_id",
            Self::Team => "team_id",
            Self::Organization => "organization_id",
            Self::Provider => "provider_id",
        }
    }

    /// The label that [`Named::of`] adds.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Key => "key",
            Self::Team => "team",
            Self::Organization => "organization",
            Self::Provider => "provider",
        }
    }

    /// Where its rows lead.
    pub(crate) const fn link(self) -> Option<Link> {
        match self {
            Self::User => Some(Link::USER),
            Self::Key => Some(Link::KEY),
            Self::Team | Self::Organization => None,
            Self::Provider => Some(Link::PROVIDER),
        }
    }

    /// What a table's first query keeps for [`Named::columns`].
    pub(crate) const fn kept(self) -> [&'static str; 4] {
        [self.label(), self.id(), "relay", SHOWN_RELAY]
    }

    /// The first columns of a table: whom a row is about, and what its link needs. An id alone may be one of several relays.
    pub(crate) fn columns(self, heading: &'static str) -> [Column; 4] {
        [
            column(self.label(), heading, "").link(self.link()),
            column(self.id(), "ID", "").hidden(),
            column("relay", "Link", "").hidden(),
            shown_relay(),
        ]
    }

    /// Adds the name as of the end of the time range, so that a renamed user is one line; a scrape that fails just there
    /// takes no name away. What has no name (deleted, or folded into `other`) keeps its id: totals stay whole. `expr`
    /// carries `relay` and the id.
    pub(crate) fn of(self, expr: &str) -> String {
        self.join(expr, "[$__rate_interval] @ end()")
    }

    /// The same for a chart or bars, whose names alone tell relays apart.
    pub(crate) fn in_chart(self, expr: &str) -> String {
        told_apart(self.label(), &self.of(expr))
    }

    /// The same for a chart of `$bucket`s, whose last step begins before now.
    pub(crate) fn of_buckets(self, expr: &str) -> String {
        told_apart(self.label(), &self.join(expr, "[$bucket] offset -$bucket @ end()"))
    }

    fn join(self, expr: &str, at: &str) -> String {
        let (id, label) = (self.id(), self.label());
        let fact = |name: &str| format!("last_over_time({name}{at})");
        // One of two, should replicas disagree for a moment.
        let one = |id: &str, fact: String| format!("topk by (relay, {id}) (1, {fact})");
        let names = match self {
            Self::User => one(id, fact("llm_relay_user_info")),
            Self::Team => one(id, fact("llm_relay_team_info")),
            Self::Organization => one(id, fact("llm_relay_organization_info")),
            Self::Provider => one(id, fact("llm_relay_provider_info")),
            // A key that belongs to nobody has its own name alone.
            Self::Key => {
                let key = one(id, fact("llm_relay_key_info"));
                format!(
                    r#"(label_join({key} * on (relay, user_id) group_left (user) {}, "key", " / ", "user", "key") or on (relay, key_id) {key})"#,
                    one("user_id", fact("llm_relay_user_info")),
                )
            }
        };
        format!(
            r#"{expr} * on (relay, {id}) group_left ({label}) {names} or on (relay, {id}) label_replace({expr}, "{label}", "$1", "{id}", "(.+)")"#
        )
    }
}

/// A quantile of a histogram's growth, `by` labels: `growth` makes an expression of a name. Prometheus has the histogram as
/// a native one, of the metric's own name, or as buckets.
pub(crate) fn quantile(q: &str, histogram: &str, by: &str, growth: impl Fn(&str) -> String) -> String {
    let (native, buckets) = (growth(histogram), growth(&format!("{histogram}_bucket")));
    let separator = if by.is_empty() { "" } else { ", " };
    format!("histogram_quantile({q}, sum by ({by}) ({native}) or on ({by}) sum by ({by}{separator}le) ({buckets}))")
}

/// Two rows, `at` 1 before and 2 now, of which a stat panel shows the second and its change against the first.
/// Without a `now` there is nothing, never yesterday's number; without a `before` the change is hidden: a change against
/// infinity is not a number. Both have no labels.
pub(crate) fn versus(now: &str, before: &str) -> String {
    // The last digits of a float are no change.
    let rounded = |expr: &str| format!("round(1e9 * {expr}) / 1e9");
    let (now, before) = (rounded(now), rounded(before));
    format!(
        r#"label_replace({now}, "at", "2", "", "") or label_replace({before} > 0 and {now} or {now} * 0 + Inf, "at", "1", "", "")"#
    )
}

/// [`versus`] of shares, whose change is in points: from 4 % to 5 % it is 1 %. Grafana divides the change by the first row,
/// which is therefore made to fit. Without requests that count there is no change, and one of
/// 0 is hidden: Grafana would colour it as bad news.
pub(crate) fn versus_in_points(now: &str, before: &str) -> String {
    // As exact as the number is shown.
    let [now, before] = [now, before].map(|share| format!("round({share}, 0.001)"));
    versus(&now, &format!("({now} / (1 + ({now} - {before} != 0)))"))
}

/// [`versus`] of sums over relays, each side by relay. The change is that of the relays which have both numbers: one
/// that cannot tell `before` would look like growth.
pub(crate) fn versus_by_relay(now: &str, before: &str) -> String {
    let all = format!("sum({now})");
    let both = format!("sum({now} and on (relay) {before})");
    let before = format!("sum({before} and on (relay) {now})");
    versus(&all, &format!("({before} * ({all} / ({both} > 0) or ({all} == 0) + 1))"))
}

/// Stands for a number that no relay asked for can tell. No number is like it, and it has no change in percent.
pub(crate) const UNTOLD_VALUE: &str = "-Infinity";
/// Stands for a ranking in which there is nothing.
pub(crate) const NONE_VALUE: &str = "Infinity";
/// What stands for an answer when all sources are read.
pub(crate) const NONE: &str = "(min(llm_relay_source_up) == 1) * Inf";

/// What stands for the answer of relays of other kinds than these.
pub(crate) fn untold(told_by: &[&str]) -> String {
    let can = format!(r#"group(llm_relay_info{{kind=~"{}"}})"#, told_by.join("|"));
    format!("(group(llm_relay_info) unless {can}) * -Inf")
}

/// A number that is nobody's, in a chart whose names are those of a label: without a name Grafana would call it "Value".
pub(crate) fn nameless(expr: &str, label: &str) -> String {
    format!("label_replace({expr}, \"{label}\", \"\u{a0}\", \"\", \"\")")
}

/// What rows are sorted by: a number, and below all that have it, another one.
pub(crate) fn rank(by: &str, otherwise: &str) -> String {
    format!("({by} or {otherwise} * 1e-9)")
}

/// A column `row` that tells lines of a table apart, by which its queries are joined.
pub(crate) fn keyed(expr: &str, parts: &[&str], keep: &[&str]) -> String {
    let parts = parts.iter().map(|part| format!(r#""{part}""#)).collect::<Vec<_>>().join(", ");
    let keep: Vec<&str> = std::iter::once("row").chain(keep.iter().copied()).collect();
    let rows = format!(r#"label_join({expr}, "row", "/", {parts})"#);
    let rows = if keep.contains(&SHOWN_RELAY) { named_relay(&rows, "$1") } else { rows };
    format!("sum by ({}) ({rows})", keep.join(", "))
}

/// The label with the relay's name where several are chosen. Where there is one, nobody needs it: it is not there.
pub(crate) const SHOWN_RELAY: &str = "shown_relay";

/// Its column in a table, which is not there either.
pub(crate) fn shown_relay() -> Column {
    column(SHOWN_RELAY, "Relay", "").width(175)
}

fn named_relay(expr: &str, text: &str) -> String {
    format!(r#"label_replace({expr}, "{SHOWN_RELAY}", "{text}", "$apart", "(.+)")"#)
}

/// Puts what tells series apart, such as the relay's name, behind the name in a label.
pub(crate) fn told_apart(label: &str, expr: &str) -> String {
    format!(r#"label_join({}, "{label}", "", "{label}", "{SHOWN_RELAY}")"#, named_relay(expr, " · $1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_folded_by_the_labels_of_the_catalogue() {
        let scoped =
            scope(r#"sum(increase(llm_relay_user_cost_usd_total{user_id="1"}[5m] offset 1d)) * 2"#, Replicas::Fold);
        assert_eq!(
            scoped.unwrap(),
            r#"sum(max by (relay, user_id) (increase(llm_relay_user_cost_usd_total{job=~"$job",relay=~"$relay",user_id="1"}[5m] offset 1d))) * 2"#
        );
    }

    #[test]
    fn a_metric_that_is_not_in_the_catalogue_is_refused() {
        let error = scope("sum(llm_relay_no_such_thing)", Replicas::Fold).unwrap_err().to_string();
        assert!(error.contains("llm_relay_no_such_thing in sum("), "{error}");
    }
}
