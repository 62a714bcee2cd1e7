//! Back-test: which alerts would have fired in the past of a relay, how often and for how long, and who would have been told.
//!
//! The past is back-filled into a private Prometheus ([`crate::backfill`]), the recording rules are evaluated over it level
//! by level and imported too ([`crate::bench`]), then every alert's expression is evaluated and held against its `for` and
//! `keep_firing_for` (`firing`). Prometheus does all the arithmetic. `notify` follows Alertmanager's routes and inhibitions,
//! `thresholds` holds each limit against quiet times, `report` tells it to people.

mod firing;
mod notify;
mod report;
mod thresholds;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::backfill::{Filling, Wanted, When};
use crate::bench::Bench;
use crate::model::Directory;
use crate::progress::Progress;
use crate::relay::plan::RelayPlan;
use crate::relay::{self, within};
use crate::rules::{Alert, Rules};
use crate::servers::prometheus::{PrivatePrometheus, Series};
use firing::{Episode, Firing};
use notify::Routing;
pub(crate) use report::{Line, Measured, Occurrence, Report, Told};
use thresholds::{Limit, Point, Quiet};

/// How far back rules look before the first instant that alerts are judged at: two weeks and an hour.
const LOOK_BACK: Duration = Duration::from_secs(15 * 24 * 3600);
/// Shares of the whole time, as measured, at which the back-fill, the recording rules and the alerts are done.
const FILLED: f64 = 0.55;
const RECORDED: f64 = 0.85;
const JUDGED: f64 = 0.93;

/// What to test.
#[derive(Clone, Debug)]
pub struct Options {
    /// The span that alerts are judged in, up to [`Self::to`].
    pub last: Duration,
    /// The last instant; `None` for now.
    pub to: Option<DateTime<Utc>>,
    /// Time between two evaluations.
    pub step: Duration,
    /// Directory with `rules`, `alerts` and `alertmanager.yml`; without one, the shipped ones.
    pub rules: Option<PathBuf>,
}

/// The past, and since when alerts are judged by which rules.
struct Judge<'a> {
    bench: Bench,
    from: i64,
    names: Directory,
    rules: &'a Rules,
    routing: &'a Routing,
    progress: &'a Progress,
}

/// Tests a relay's past. Nothing is left behind.
///
/// # Errors
/// When Prometheus is not installed, the ledger cannot be read, or a rule cannot be understood.
pub async fn run(plan: &RelayPlan, options: &Options) -> anyhow::Result<Report> {
    let rules = Rules::load(options.rules.as_deref())?;
    let routing = Routing::load(options.rules.as_deref())?;
    let prometheus = PrivatePrometheus::new()?;
    let progress = Progress::new("back-test");
    // Names are for people; without them there are ids.
    let names = within(plan.timeout, relay::open(plan)?.directory.read()).await.unwrap_or_else(|error| {
        tracing::warn!(relay = plan.name, error = error.text, "no names: the directory cannot be read");
        Directory::default()
    });
    let wanted = Wanted {
        from: When::Before(options.last + LOOK_BACK),
        to: options.to,
        step: options.step,
        labels: BTreeMap::from([("job".to_owned(), "llm-relay".to_owned())]),
        rules: None,
    };
    let mut filling = Filling::begin(plan, &wanted, None).await?;
    filling.only(rules.metrics());
    let step = options.step.as_secs().cast_signed();
    let align = |at: DateTime<Utc>| at.timestamp().div_euclid(step) * step;
    let (begin, to) = (align(filling.job().from), align(filling.job().to));
    let mut bench = Bench { prometheus, relay: plan.name.clone(), begin, to, step };
    fill(&mut bench, &mut filling, &progress).await?;
    let mut bench = bench.start().await?;
    record(&mut bench, &rules, &progress).await?;

    let from = begin.max(align(filling.job().to - options.last));
    let judge = Judge { bench, from, names, rules: &rules, routing: &routing, progress: &progress };
    let alerts = judge.lines().await?;
    let thresholds = judge.thresholds(&alerts).await?;
    let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
    Ok(Report {
        relay: plan.name.clone(),
        from: at(from),
        to: at(to),
        data_since: at(begin),
        zone: filling.zone(),
        alerts,
        thresholds,
        untestable: rules.untestable,
        rows: filling.rows_read(),
        seconds: progress.elapsed().as_secs_f64(),
    })
}

/// Gives the bench what the ledger tells.
async fn fill(bench: &mut Bench, filling: &mut Filling, progress: &Progress) -> anyhow::Result<()> {
    while let Some(chunk) = filling.next_chunk() {
        let path = bench.prometheus.directory().join("chunk.om");
        filling.write(chunk, &path, |done, at| progress.at(done * FILLED, &format!("reading {at}"))).await?;
        bench.prometheus.import(&path, filling.job().block_seconds()).await?;
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// Gives the bench what recording rules make of that, level by level.
async fn record(bench: &mut Bench, rules: &Rules, progress: &Progress) -> anyhow::Result<()> {
    let all = rules.levels.len() as f64;
    for (level, records) in rules.levels.iter().enumerate() {
        let done = FILLED + (RECORDED - FILLED) * level as f64 / all;
        let spans = bench.spans(bench.begin);
        let (count, mut files) = (spans.len() as f64, Vec::new());
        for (index, span) in spans.enumerate() {
            let done = done + (RECORDED - FILLED) / all * index as f64 / count;
            progress.at(done, &format!("recording rules, level {} of {all}", level + 1));
            let path = bench.prometheus.directory().join(format!("rules-{index}.om"));
            bench.record(rules, &records.iter().collect::<Vec<_>>(), span, &path).await?;
            files.push(path);
        }
        for path in files {
            bench.prometheus.import(&path, crate::bench::SPAN).await?;
            fs::remove_file(&path)?;
        }
        bench.restart().await?;
    }
    Ok(())
}

impl Judge<'_> {
    /// What every alert would have done, and who would have been told.
    async fn lines(&self) -> anyhow::Result<Vec<Line>> {
        let alerts = &self.rules.alerts;
        let mut lines = Vec::new();
        for (index, alert) in alerts.iter().enumerate() {
            self.progress.at(RECORDED + (JUDGED - RECORDED) * index as f64 / alerts.len() as f64, &alert.name);
            lines.push(self.line(alert).await?);
        }
        self.routing.tell(&self.bench.relay, &mut lines);
        Ok(lines)
    }

    /// The limits that something came near.
    async fn thresholds(&self, lines: &[Line]) -> anyhow::Result<Vec<Measured>> {
        let limits = thresholds::find(&self.rules.alerts);
        let mut thresholds = Vec::new();
        for (index, limit) in limits.iter().enumerate() {
            self.progress.at(JUDGED + (1.0 - JUDGED) * index as f64 / limits.len() as f64, &limit.threshold);
            let (alert, line) = (&self.rules.alerts[limit.alert], &lines[limit.alert]);
            let Some((present, quiet)) = self.quiet(limit, alert, line).await? else { continue };
            // All alerts are told of anew: one that falls silent no longer explains others.
            let mut after = lines.to_vec();
            after[limit.alert] = self.line(&limit.alert_with(self.rules, quiet.suggested)).await?;
            self.routing.tell(&self.bench.relay, &mut after);
            let after = after.swap_remove(limit.alert);
            thresholds.push(Measured {
                threshold: limit.threshold.clone(),
                alert: line.alert.clone(),
                severity: line.severity().to_owned(),
                below: limit.below,
                present,
                quiet_median: quiet.median,
                quiet_worst: quiet.worst,
                suggested: quiet.suggested,
                before: line.count(),
                after: after.count(),
                episodes_after: after.episodes,
            });
        }
        Ok(thresholds)
    }

    /// When an alert would have fired, by labels of its series.
    async fn episodes(&self, alert: &Alert) -> anyhow::Result<Vec<(Episode, BTreeMap<String, String>)>> {
        let Bench { prometheus, to, step, .. } = &self.bench;
        let seconds = |span: Duration| span.as_secs().cast_signed();
        let stride = usize::try_from(*step)?;
        let mut firing: BTreeMap<BTreeMap<String, String>, (Firing, i64)> = BTreeMap::new();
        let new = || (Firing::new(seconds(alert.hold), seconds(alert.keep_firing)), self.from);
        let expr = alert.expr.to_string();
        for (first, last) in self.bench.spans(self.from) {
            for series in prometheus.range(&expr, first, last, *step).await? {
                let (firing, next) = firing.entry(series.metric.clone()).or_insert_with(new);
                for at in firing::instants(&series) {
                    (*next..at).step_by(stride).for_each(|gap| firing.evaluate(gap, false));
                    firing.evaluate(at, true);
                    *next = at + step;
                }
            }
        }
        let mut episodes: Vec<(Episode, BTreeMap<String, String>)> = Vec::new();
        for (mut labels, (mut firing, next)) in firing {
            (next..=*to).step_by(stride).for_each(|gap| firing.evaluate(gap, false));
            firing.finish(*to);
            labels.retain(|label, _| label != "relay" && label != "__name__");
            episodes.extend(firing.episodes.into_iter().map(|episode| (episode, labels.clone())));
        }
        episodes.sort_by_key(|(episode, _)| (episode.start, episode.end));
        Ok(episodes)
    }

    async fn line(&self, alert: &Alert) -> anyhow::Result<Line> {
        let episodes = self.episodes(alert).await?;
        let occurrence = |(Episode { start, end }, labels): (Episode, BTreeMap<String, String>)| Occurrence {
            start,
            end,
            names: report::names(&labels, &self.names),
            owner: report::owner(&labels, &self.names),
            labels,
            told: Told::default(),
        };
        let episodes = episodes.into_iter().map(occurrence).collect();
        Ok(Line { alert: alert.name.clone(), labels: alert.labels.clone(), episodes })
    }

    /// A limit, and what it is held against in quiet times.
    async fn quiet(&self, limit: &Limit, alert: &Alert, line: &Line) -> anyhow::Result<Option<(f64, Quiet)>> {
        let Bench { prometheus, relay, to, step, .. } = &self.bench;
        let present = prometheus.query(&format!("max({}{{relay={relay:?}}})", limit.series()), *to).await?;
        let Some(present) = number(&present) else { return Ok(None) };
        // One value per five minutes: as exact as thirty days need.
        let resolution = crate::bench::up(300, *step);
        let mut points = Vec::new();
        for (first, last) in self.bench.spans(self.from) {
            let first = crate::bench::up(first, resolution);
            // An expression that is more than it looks is no reason to lose the table.
            let found = prometheus.range(&limit.quantity, first, last, resolution).await.unwrap_or_default();
            let values = found.iter().flat_map(|series| &series.values);
            points.extend(values.filter_map(|(at, value)| {
                let value = value.parse().ok().filter(|value: &f64| value.is_finite())?;
                Some(Point { at: at.round() as i64, value })
            }));
        }
        let spans: Vec<Episode> = line.episodes.iter().map(|it| Episode { start: it.start, end: it.end }).collect();
        Ok(limit.quiet(&points, &spans, alert.hold, (self.from, *to)).map(|quiet| (present, quiet)))
    }
}

/// The value of an answer with one series.
fn number(answer: &[Series]) -> Option<f64> {
    let [Series { value: Some((_, text)), .. }] = answer else { return None };
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Rules that the past cannot tell, with what they need.
type Untestable = Vec<(String, BTreeSet<String>)>;
