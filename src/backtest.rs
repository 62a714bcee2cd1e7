//! Back-test: which alerts would have fired in the past of a relay, how often and for how long.
//!
//! The past is back-filled into a private Prometheus ([`crate::backfill`]), the recording rules are evaluated over it level
//! by level and imported too (`rules`), then every alert's expression is evaluated and held against its `for` and
//! `keep_firing_for` (`firing`). Prometheus does all the arithmetic. `report` tells it to people.

mod firing;
mod report;
mod rules;
mod thresholds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use indicatif::{ProgressBar, ProgressStyle};

use crate::backfill::{Filling, Wanted, When};
use crate::demo::prometheus::{PrivatePrometheus, Series};
use crate::settings::RelayPlan;
use firing::{Episode, Firing};
use report::Line;
pub use report::Report;
use rules::{Alert, Record, Rules};

/// How far back rules look before the first instant that alerts are judged at: two weeks and an hour.
const LOOK_BACK: Duration = Duration::from_secs(15 * 24 * 3600);
/// Seconds that are evaluated and imported at once; a span that a block of Prometheus may have.
const SPAN: i64 = 54 * 3600;
/// No target, no rule: everything is asked.
const CONFIGURATION: &str = "global: {scrape_interval: 1m}\n";

/// What to test.
#[derive(Clone, Debug)]
pub struct Options {
    pub last: Duration,
    pub to: Option<DateTime<Utc>>,
    /// Time between two evaluations.
    pub step: Duration,
    /// Directory with `rules` and `alerts`; without one, the shipped ones.
    pub rules: Option<PathBuf>,
}

/// The relay's past in a Prometheus of our own.
struct Bench {
    prometheus: PrivatePrometheus,
    bar: ProgressBar,
    /// Unix seconds: the first instant with data, the first and the last that alerts are judged at.
    begin: i64,
    from: i64,
    to: i64,
    step: i64,
    zone: Tz,
}

/// Tests a relay's past. Nothing is left behind.
///
/// # Errors
/// When Prometheus is not installed, the ledger cannot be read, or a rule cannot be understood.
pub async fn run(plan: &RelayPlan, options: &Options) -> anyhow::Result<Report> {
    let rules = Rules::load(options.rules.as_deref())?;
    let prometheus = PrivatePrometheus::new()?;
    let mut bench = Bench::fill(plan, options, rules.metrics(), prometheus).await?;
    for (level, records) in rules.levels.iter().enumerate() {
        bench.bar.set_message(format!("recording rules, level {} of {}", level + 1, rules.levels.len()));
        bench.record(records).await?;
    }
    let mut lines = Vec::new();
    for alert in &rules.alerts {
        bench.bar.set_message(alert.name.clone());
        lines.push(bench.judge(alert).await?);
    }
    bench.bar.set_message("thresholds");
    let mut thresholds = Vec::new();
    for limit in thresholds::find(&rules.alerts) {
        thresholds.extend(bench.measure(&limit).await?);
    }
    bench.bar.finish_and_clear();
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
    Ok(Report {
        relay: plan.name.clone(),
        from: at(bench.from),
        to: at(bench.to),
        data_since: at(bench.begin),
        zone: bench.zone,
        lines,
        thresholds,
        untold: rules.untold,
    })
}

impl Bench {
    async fn fill(
        plan: &RelayPlan,
        options: &Options,
        metrics: BTreeSet<&'static str>,
        mut prometheus: PrivatePrometheus,
    ) -> anyhow::Result<Self> {
        let wanted = Wanted {
            from: When::Before(options.last + LOOK_BACK),
            to: options.to,
            step: options.step,
            labels: BTreeMap::from([("job".to_owned(), "llm-relay".to_owned())]),
        };
        let mut filling = Filling::begin(plan, &wanted, None).await?;
        filling.only(metrics);
        while let Some(chunk) = filling.next_chunk() {
            let path = prometheus.directory().join("chunk.om");
            filling.write(chunk, &path).await?;
            prometheus.import(&path, filling.job().block_seconds()).await?;
            fs::remove_file(&path)?;
        }
        let job = filling.job();
        let step = options.step.as_secs().cast_signed();
        let align = |at: DateTime<Utc>| at.timestamp().div_euclid(step) * step;
        let (begin, to) = (align(job.from), align(job.to));
        let from = begin.max(align(job.to - options.last));
        let zone = filling.zone();
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("back-test {spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        prometheus.start(CONFIGURATION).await?;
        Ok(Self { prometheus, bar, begin, from, to, step, zone })
    }

    /// Spans of at most [`SPAN`], cut as Prometheus cuts its blocks.
    fn spans(&self, from: i64) -> impl Iterator<Item = (i64, i64)> + use<> {
        let (to, step) = (self.to, self.step);
        let blocks = from.div_euclid(SPAN)..=to.div_euclid(SPAN);
        blocks.map(move |block| {
            let up = |at: i64| (at + step - 1).div_euclid(step) * step;
            (up(block * SPAN).max(from), (up((block + 1) * SPAN) - step).min(to))
        })
    }

    /// Evaluates recording rules over the whole past and imports what they record.
    async fn record(&mut self, records: &[Record]) -> anyhow::Result<()> {
        let mut files = Vec::new();
        for (first, last) in self.spans(self.begin) {
            let mut page = String::new();
            for (name, records) in by_name(records) {
                let _ = writeln!(page, "# TYPE {name} gauge");
                for record in records {
                    for series in self.prometheus.range(&record.expr, first, last, self.step).await? {
                        samples(&mut page, record, series);
                    }
                }
            }
            page.push_str("# EOF\n");
            let path = self.prometheus.directory().join(format!("rules-{first}.om"));
            fs::write(&path, page).context("cannot write into the temporary directory")?;
            files.push(path);
        }
        for path in files {
            self.prometheus.import(&path, SPAN).await?;
            fs::remove_file(&path)?;
        }
        Ok(self.prometheus.start(CONFIGURATION).await?)
    }

    async fn judge(&self, alert: &Alert) -> anyhow::Result<Line> {
        let seconds = |span: Duration| span.as_secs().cast_signed();
        let mut firing: BTreeMap<BTreeMap<String, String>, (Firing, i64)> = BTreeMap::new();
        let new = || (Firing::new(seconds(alert.hold), seconds(alert.keep_firing)), self.from);
        for (first, last) in self.spans(self.from) {
            for series in self.prometheus.range(&alert.expr, first, last, self.step).await? {
                let (firing, next) = firing.entry(series.metric.clone()).or_insert_with(new);
                for at in firing::instants(&series) {
                    (*next..at).step_by(self.step as usize).for_each(|gap| firing.evaluate(gap, false));
                    firing.evaluate(at, true);
                    *next = at + self.step;
                }
            }
        }
        let mut episodes: Vec<(Episode, BTreeMap<String, String>)> = Vec::new();
        for (mut labels, (mut firing, next)) in firing {
            (next..=self.to).step_by(self.step as usize).for_each(|gap| firing.evaluate(gap, false));
            firing.finish(self.to);
            labels.retain(|label, _| label != "relay" && label != "__name__");
            episodes.extend(firing.episodes.into_iter().map(|episode| (episode, labels.clone())));
        }
        episodes.sort_by_key(|(episode, _)| (episode.start, episode.end));
        Ok(Line { alert: alert.name.clone(), labels: alert.labels.clone(), episodes })
    }

    /// Where a limit lies within what it is held against.
    async fn measure(&self, limit: &thresholds::Limit) -> anyhow::Result<Option<thresholds::Measured>> {
        let present = self.prometheus.query(&format!("max({})", limit.name), self.to).await?;
        let Some(present) = number(&present) else { return Ok(None) };
        let seconds = self.to - self.from;
        // One value per five minutes: as exact as thirty days need.
        let resolution = self.step.max(300);
        let mut values = [0.0; 3];
        for (value, share) in values.iter_mut().zip(limit.shares()) {
            let over = format!("quantile_over_time({share}, ({})[{seconds}s:{resolution}s])", limit.quantity);
            // An expression that is more than it looks is no reason to lose the table.
            let found = self.prometheus.query(&format!("{}({over})", limit.worst()), self.to).await.unwrap_or_default();
            let Some(found) = number(&found) else { return Ok(None) };
            *value = found;
        }
        Ok(Some(thresholds::Measured { limit: limit.clone(), present, values }))
    }
}

/// The value of an answer with one series.
fn number(answer: &[Series]) -> Option<f64> {
    let [Series { value: Some((_, text)), .. }] = answer else { return None };
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Rules by the name that they record, because a family stands together.
fn by_name(records: &[Record]) -> BTreeMap<&str, Vec<&Record>> {
    let mut names: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        names.entry(&record.name).or_default().push(record);
    }
    names
}

/// What a rule records of a series.
fn samples(page: &mut String, record: &Record, series: Series) {
    let mut labels = series.metric;
    labels.remove("__name__");
    labels.extend(record.labels.clone());
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let labels = labels.join(",");
    for (at, value) in series.values {
        let _ = writeln!(page, "{}{{{labels}}} {value} {at}", record.name);
    }
}
