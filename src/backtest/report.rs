//! The back-test, for people and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::model::{Directory, EntityId};

/// What would have fired. As JSON, instants are Unix seconds but for the head's, which are RFC 3339.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub relay: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The first instant that rules could look back to.
    pub data_since: DateTime<Utc>,
    pub zone: Tz,
    pub alerts: Vec<Line>,
    pub thresholds: Vec<Measured>,
    /// Alerts that need what the past does not tell, and what that is.
    pub untestable: super::Untestable,
    /// Rows of the ledger that were read.
    pub rows: u64,
    /// How long the test took.
    pub seconds: f64,
}

/// One alerting rule.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub alert: String,
    pub labels: BTreeMap<String, String>,
    /// By start.
    pub episodes: Vec<Occurrence>,
}

/// A span in which an alert fired, in Unix seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Occurrence {
    pub start: i64,
    /// When it resolved, or the end of what was looked at.
    pub end: i64,
    /// Of the series, without the relay.
    pub labels: BTreeMap<String, String>,
    /// Names behind ids: `user`, `key`, `provider`.
    pub names: BTreeMap<String, String>,
    /// The id of the user whose key it is about.
    #[serde(skip)]
    pub owner: Option<String>,
    pub told: Told,
}

/// What became of an episode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Who was told, if anybody was.
    pub receiver: Option<String>,
    /// When, in Unix seconds.
    pub at: Option<i64>,
    /// What kept it back, or kept it back at first: the alert that explains it, or the time intervals.
    pub kept_back_by: Option<String>,
}

/// A limit beside what it is held against.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub threshold: String,
    pub alert: String,
    pub severity: String,
    /// The alert looks for values below it.
    pub below: bool,
    pub present: f64,
    pub quiet_median: f64,
    pub quiet_worst: f64,
    pub suggested: f64,
    pub before: Count,
    pub after: Count,
    /// Every time at the suggested limit.
    pub episodes_after: Vec<Occurrence>,
}

/// How often an alert fired, and how often somebody was told.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Count {
    pub fired: usize,
    pub told: usize,
}

impl Line {
    pub(crate) fn count(&self) -> Count {
        let told = self.episodes.iter().filter(|it| it.told.receiver.is_some()).count();
        Count { fired: self.episodes.len(), told }
    }

    /// Rules of the same name differ in it.
    pub(crate) fn severity(&self) -> &str {
        self.labels.get("severity").map_or("", String::as_str)
    }

    /// Spans of several series one over the other count once.
    fn total(&self) -> i64 {
        let mut total = 0;
        let mut until = i64::MIN;
        for Occurrence { start, end, .. } in &self.episodes {
            total += (end - (*start).max(until)).max(0);
            until = until.max(*end);
        }
        total
    }
}

impl Occurrence {
    /// Where it fired, by names.
    fn place(&self) -> String {
        let unnamed = self.labels.iter().filter_map(|(label, value)| {
            let named = label.strip_suffix("_id").is_some_and(|entity| self.names.contains_key(entity));
            (!named).then_some((label, value))
        });
        let pairs: Vec<String> =
            self.names.iter().chain(unnamed).map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join(" ")
    }
}

/// The names behind the ids of some labels, by the words before `_id`.
pub(crate) fn names(labels: &BTreeMap<String, String>, directory: &Directory) -> BTreeMap<String, String> {
    let users = directory.users.iter().map(|it| ("user", &it.id, &it.name));
    let keys = directory.keys.iter().map(|it| ("key", &it.id, &it.name));
    let providers = directory.providers.iter().map(|it| ("provider", &it.id, &it.name));
    let wanted = |(entity, id, _): &(&str, &EntityId, _)| {
        let of = |label: &str| labels.get(label) == Some(&id.to_string());
        of(&format!("{entity}_id")) || labels.get("scope").is_some_and(|scope| scope == entity) && of("id")
    };
    let found = users.chain(keys).chain(providers).filter(wanted);
    found.map(|(entity, _, name)| (entity.to_owned(), name.clone())).collect()
}

/// The id of the user whose key it is.
pub(crate) fn owner(labels: &BTreeMap<String, String>, directory: &Directory) -> Option<String> {
    let id = labels.get("key_id")?;
    let key = directory.keys.iter().find(|key| key.id.to_string() == *id)?;
    key.user_id.as_ref().map(ToString::to_string)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "relay {}, {} to {} ({})", self.relay, self.local(self.from), self.local(self.to), self.zone)?;
        writeln!(f, "{} rows, tested in {}", self.rows, span(self.seconds as i64))?;
        if self.data_since + super::LOOK_BACK > self.from {
            let since = self.local(self.data_since);
            writeln!(f, "the past is known since {since}: what compares with last week is silent for a while")?;
        }
        self.write_alerts(f)?;
        self.write_episodes(f)?;
        self.write_thresholds(f)?;
        self.write_untestable(f)
    }
}

impl Report {
    fn local(&self, at: DateTime<Utc>) -> String {
        at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M").to_string()
    }

    fn write_alerts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["alert", "severity", "fired", "told", "total", "longest"].map(str::to_owned).to_vec()];
        for line in &self.alerts {
            let Count { fired, told } = line.count();
            let mut row = vec![line.alert.clone(), line.severity().to_owned(), fired.to_string()];
            if let Some(longest) = line.episodes.iter().map(|it| it.end - it.start).max() {
                row.extend([told.to_string(), span(line.total()), span(longest)]);
            }
            rows.push(row);
        }
        table(f, &rows)
    }

    fn write_episodes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<_> =
            self.alerts.iter().flat_map(|line| line.episodes.iter().map(move |it| (line, it))).collect();
        all.sort_by_key(|(_, it)| it.start);
        if all.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nevery time, and who was told (by the routes and inhibitions of Alertmanager)")?;
        let mut rows = vec![["from", "for", "alert", "severity", "where", "told"].map(str::to_owned).to_vec()];
        for (line, it) in all {
            let from = DateTime::from_timestamp(it.start, 0).map_or_else(String::new, |at| self.local(at));
            let (length, severity) = (span(it.end - it.start), line.severity().to_owned());
            rows.push(vec![from, length, line.alert.clone(), severity, it.place(), it.told.words(it.start)]);
        }
        table(f, &rows)
    }

    fn write_thresholds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.thresholds.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nlimits that something came near, beside what they were held against in quiet times (around what fired is not \
             quiet, unless it is often); suggested: the worst of quiet times and a quarter more, and what would fire then"
        )?;
        const HEAD: &str = "threshold alert severity now half worst fired told suggested fired told";
        let mut rows = vec![HEAD.split(' ').map(str::to_owned).collect()];
        for it in &self.thresholds {
            let mut row = vec![it.threshold.clone(), it.alert.clone(), it.severity.clone()];
            row.extend([it.present, it.quiet_median, it.quiet_worst].map(short));
            row.extend([it.before.fired, it.before.told].map(|it| it.to_string()));
            row.push(short(it.suggested));
            row.extend([it.after.fired, it.after.told].map(|it| it.to_string()));
            rows.push(row);
        }
        table(f, &rows)
    }

    fn write_untestable(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.untestable.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nnot tested, for the ledger does not tell")?;
        let mut seen = BTreeSet::new();
        for (alert, missing) in self.untestable.iter().filter(|(alert, _)| seen.insert(alert)) {
            let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
            let why = if missing.is_empty() { "it is about Prometheus itself".to_owned() } else { missing.join(", ") };
            writeln!(f, "  {alert}: {why}")?;
        }
        Ok(())
    }
}

impl Told {
    /// Of an episode that began at `start`.
    fn words(&self, start: i64) -> String {
        match self {
            Self { receiver: Some(receiver), at: Some(at), kept_back_by: Some(by) } => {
                format!("{receiver}, after {} ({by})", span(at - start))
            }
            Self { receiver: Some(receiver), .. } => receiver.clone(),
            Self { kept_back_by, .. } => format!("nobody: {}", kept_back_by.as_deref().unwrap_or("no receiver")),
        }
    }
}

/// Columns as wide as their widest cell.
fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn span(seconds: i64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.unsigned_abs())).to_string()
}

/// Three digits.
fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    format!("{}", (value * scale).round() / scale)
}
