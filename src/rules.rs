//! Rule files: what they record, what they alert on, and which of it the past can tell.

pub(crate) mod shipped;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde::Deserialize;

use crate::metrics::{CATALOGUE, Metric, MetricType};
use shipped::SHIPPED;

/// Recorded of every relay that is there, with the value 0: thresholds rest on it. Whoever replays a past takes the relay
/// for known throughout.
pub(crate) const KNOWN: &str = "llm_relay:known:zero";
/// Before the name of a threshold, in that of its series.
pub(crate) const THRESHOLD: &str = "llm_relay:threshold:";
/// In the names of series that replace a threshold's default.
const OVERRIDE: &str = ":override:";
/// What not every relay has, no past tells, and rules only hold back by: taken for absent.
const ASIDE: [&str; 6] = [
    "llm_relay:all_shut:info",
    "llm_relay_http_up",
    "llm_relay_info",
    "llm_relay_key_consecutive_failures",
    "llm_relay_replica_lag_seconds",
    "llm_relay_sessions_active",
];

#[derive(Deserialize)]
struct RuleFile {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    interval: Option<String>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
struct RawRule {
    record: Option<String>,
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for")]
    hold: Option<String>,
    keep_firing_for: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A recording rule.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub name: String,
    pub expr: Expr,
    pub labels: BTreeMap<String, String>,
    /// Of its group; the server's own where that says nothing.
    pub interval: Option<Duration>,
}

/// An alerting rule.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub name: String,
    pub expr: Expr,
    pub labels: BTreeMap<String, String>,
    pub hold: Duration,
    pub keep_firing: Duration,
}

/// What the past can tell of a set of rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Recording rules by level: each needs only metrics and what lower levels record.
    pub levels: Vec<Vec<Record>>,
    pub alerts: Vec<Alert>,
    /// Alerts that need what the past does not tell, with the names of that.
    pub untestable: Vec<(String, BTreeSet<String>)>,
}

impl Rules {
    /// The shipped rules, or those of a directory with `rules` and `alerts` in it.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub(crate) fn load(directory: Option<&Path>) -> anyhow::Result<Self> {
        let files: Vec<(String, String)> = match directory {
            None => SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            Some(directory) => read(directory)?,
        };
        let mut records = Vec::new();
        let mut alerts = Vec::new();
        for (name, text) in files {
            let file: RuleFile = serde_saphyr::from_str(&text).with_context(|| format!("{name} is not a rule file"))?;
            let rules = file.groups.into_iter().flat_map(|group| {
                let interval = group.interval;
                group.rules.into_iter().map(move |rule| (interval.clone(), rule))
            });
            for (interval, rule) in rules {
                let RawRule { record, alert, expr, hold, keep_firing_for, labels } = rule;
                let expr = parser::parse(&expr).map_err(|error| anyhow!("{name}: {expr}: {error}"))?;
                match (record, alert) {
                    // The past is known: see `KNOWN`.
                    (Some(name), None) if name == KNOWN => {}
                    (Some(name), None) => {
                        let interval = interval.as_deref().map(|text| duration(Some(text))).transpose()?;
                        records.push(Record { name, expr, labels, interval });
                    }
                    (None, Some(name)) => {
                        let (hold, keep_firing) = (duration(hold.as_deref())?, duration(keep_firing_for.as_deref())?);
                        alerts.push(Alert { name, expr, labels, hold, keep_firing });
                    }
                    _ => bail!("{name}: a rule is either `record` or `alert`"),
                }
            }
        }
        Ok(Self::sort(records, alerts))
    }

    /// The metrics of the relay that the rules need.
    pub(crate) fn metrics(&self) -> BTreeSet<&'static str> {
        let expressions = self.levels.iter().flatten().map(|record| &record.expr);
        let needed: BTreeSet<String> =
            expressions.chain(self.alerts.iter().map(|alert| &alert.expr)).flat_map(names).collect();
        let is_needed = |metric: &&Metric| series(metric).iter().any(|name| needed.contains(name));
        CATALOGUE.iter().filter(is_needed).map(|metric| metric.name).collect()
    }

    fn sort(mut records: Vec<Record>, alerts: Vec<Alert>) -> Self {
        let mut rules = Self::default();
        let mut told = past_metrics();
        told.insert(KNOWN.to_owned());
        told.extend(ASIDE.map(str::to_owned));
        // What nobody overrides is known to be nothing.
        let all = records.iter().map(|record| &record.expr).chain(alerts.iter().map(|alert| &alert.expr));
        let named: BTreeSet<String> = all.flat_map(names).collect();
        let is_recorded = |name: &String| records.iter().any(|record| record.name == *name);
        told.extend(named.into_iter().filter(|name| name.contains(OVERRIDE) && !is_recorded(name)));
        loop {
            // All rules of one name at once: what they record is complete only then.
            let waiting = |name: &str, records: &[Record]| {
                records.iter().any(|it| it.name == name && !names(&it.expr).is_subset(&told))
            };
            let (level, rest): (Vec<_>, Vec<_>) =
                records.iter().cloned().partition(|record| !waiting(&record.name, &records));
            if level.is_empty() {
                break;
            }
            told.extend(level.iter().map(|record| record.name.clone()));
            rules.levels.push(level);
            records = rest;
        }
        let metrics = past_metrics();
        for alert in alerts {
            let needs = names(&alert.expr);
            let missing: BTreeSet<String> = needs.difference(&told).cloned().collect();
            // One that looks at nothing, or at thresholds alone, tells nothing about the relay.
            let about_relay = needs.iter().any(|name| rules.rests_on(name, &metrics));
            if about_relay && missing.is_empty() {
                rules.alerts.push(alert);
            } else {
                let aside = needs.iter().filter(|name| ASIDE.contains(&name.as_str()));
                let missing = missing.iter().chain(aside).flat_map(|name| unrecorded(name, &records, &told)).collect();
                rules.untestable.push((alert.name, missing));
            }
        }
        rules
    }

    /// Whether anything of the ledger is in what a rule records: a threshold is the same at any time.
    pub(crate) fn tells_of_the_past(&self, record: &Record) -> bool {
        self.rests_on(&record.name, &past_metrics())
    }

    /// The rule behind a name that is a function of thresholds and of nothing else.
    pub(crate) fn of_limits_alone(&self, name: &str) -> Option<&Record> {
        let record = self.levels.iter().flatten().find(|record| record.name == name)?;
        names(&record.expr).iter().all(|name| name.starts_with(THRESHOLD)).then_some(record)
    }

    /// Whether a name is of the past's own metrics, or recorded from one.
    fn rests_on(&self, name: &str, metrics: &BTreeSet<String>) -> bool {
        metrics.contains(name)
            || self
                .levels
                .iter()
                .flatten()
                .filter(|record| record.name == name)
                .any(|record| names(&record.expr).iter().any(|name| self.rests_on(name, metrics)))
    }
}

/// What is missing behind a name: the metrics that its rules need.
fn unrecorded(name: &str, records: &[Record], told: &BTreeSet<String>) -> BTreeSet<String> {
    let rules: Vec<&Record> = records.iter().filter(|record| record.name == name).collect();
    if rules.is_empty() {
        return BTreeSet::from([name.to_owned()]);
    }
    let needs = rules.iter().flat_map(|record| names(&record.expr));
    needs
        .filter(|need| !told.contains(need) && need != name)
        .flat_map(|need| unrecorded(&need, records, told))
        .collect()
}

fn read(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for part in ["rules", "alerts"] {
        let folder = directory.join(part);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                files.push((path.display().to_string(), text));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// `for` and the like.
fn duration(text: Option<&str>) -> anyhow::Result<Duration> {
    text.map_or(Ok(Duration::ZERO), |text| {
        humantime::parse_duration(text).with_context(|| format!("{text} is not a duration"))
    })
}

/// Every series name that the past can tell.
fn past_metrics() -> BTreeSet<String> {
    let told = CATALOGUE.iter().filter(|metric| metric.is_backfillable());
    told.flat_map(series).collect()
}

/// The names of a metric's series.
fn series(metric: &Metric) -> Vec<String> {
    match metric.kind {
        // Its own name is that of a native histogram.
        MetricType::Histogram => {
            ["", "_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name)).to_vec()
        }
        MetricType::Gauge | MetricType::Counter => vec![metric.name.to_owned()],
    }
}

/// The names of series in an expression.
pub(crate) fn names(expr: &Expr) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl ExprVisitor for Names {
        type Error = Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
            match expr {
                Expr::VectorSelector(selector) => self.0.extend(selector.name.clone()),
                Expr::MatrixSelector(selector) => self.0.extend(selector.vs.name.clone()),
                _ => {}
            }
            Ok(true)
        }
    }
    let mut names = Names(BTreeSet::new());
    let Ok(_) = walk_expr(&mut names, expr);
    names.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_series_and_nothing_else() {
        let expr = "sum by (relay) (max without (instance) (increase(a_total{b=\"x}\",c!='d'}[5m] offset 1w)))\n\
                    / on (relay) group_left (type) (b:c:d > bool 1e6) and on () vector(time() - 300) > scalar(e) # f";
        let found = names(&parser::parse(expr).unwrap());
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["a_total", "b:c:d", "e"]);
    }

    #[test]
    fn of_the_shipped_alerts_those_are_tested_that_the_ledger_tells() {
        let rules = Rules::load(None).unwrap();
        let tested = |name: &str| rules.alerts.iter().any(|alert| alert.name == name);
        for alert in ["ErrorSpike", "CostSurge", "UserCostSurge", "NoTraffic", "Outage", "TrafficVanished"] {
            let alert = format!("LLMRelay{alert}");
            assert!(tested(&alert), "{alert} is not tested: {:?}", rules.untestable);
        }
        for alert in ["LLMRelayWatchdog", "LLMRelayExporterDown", "LLMRelayProviderCircuitOpen", "LLMRelayUnreachable"]
        {
            assert!(!tested(alert), "{alert} cannot be told by the past");
        }
        let missing = &rules.untestable.iter().find(|(alert, _)| alert == "LLMRelayProviderSlotsNearlyFull").unwrap().1;
        assert_eq!(missing.len(), 2, "what is missing is named: {missing:?}");
    }

    #[test]
    fn all_shipped_files_are_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus");
        let files = read(&root).unwrap();
        assert_eq!(files.len(), SHIPPED.len());
        assert!(files.iter().all(|(name, text)| SHIPPED.iter().any(|it| name.ends_with(it.0) && it.1 == text)));
    }
}
