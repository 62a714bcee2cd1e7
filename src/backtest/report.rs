//! The back-test, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::firing::Episode;
use super::thresholds::Measured;

/// What would have fired.
#[derive(Clone, Debug)]
pub struct Report {
    pub relay: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The first instant that rules could look back to.
    pub data_since: DateTime<Utc>,
    pub zone: Tz,
    pub lines: Vec<Line>,
    pub thresholds: Vec<Measured>,
    /// Alerts that need what the past does not tell, and what that is.
    pub untold: Vec<(String, BTreeSet<String>)>,
}

/// One alerting rule.
#[derive(Clone, Debug)]
pub struct Line {
    pub alert: String,
    pub labels: BTreeMap<String, String>,
    /// By start, with the labels of the series.
    pub episodes: Vec<(Episode, BTreeMap<String, String>)>,
}

impl Line {
    /// Spans of several series one over the other count once.
    fn total(&self) -> i64 {
        let mut total = 0;
        let mut until = i64::MIN;
        for (episode, _) in &self.episodes {
            total += (episode.end - episode.start.max(until)).max(0);
            until = until.max(episode.end);
        }
        total
    }

    /// Which series fired, most often first.
    fn places(&self) -> String {
        const SHOWN: usize = 3;
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        for (_, labels) in &self.episodes {
            let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            *times.entry(pairs.join(",")).or_default() += 1;
        }
        times.remove("");
        let mut places: Vec<(String, u32)> = times.into_iter().collect();
        places.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        let more = places.len().saturating_sub(SHOWN);
        let mut shown: Vec<String> =
            places.into_iter().take(SHOWN).map(|(place, times)| format!("{place} ({times})")).collect();
        if more > 0 {
            shown.push(format!("{more} more"));
        }
        shown.join(" ")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = |at: DateTime<Utc>| at.with_timezone(&self.zone).format("%Y-%m-%d %H:%M").to_string();
        let second = |at: i64| DateTime::from_timestamp(at, 0).map_or_else(String::new, local);
        writeln!(f, "relay {}, {} to {} ({})", self.relay, local(self.from), local(self.to), self.zone)?;
        if self.data_since + super::LOOK_BACK > self.from {
            let since = local(self.data_since);
            writeln!(f, "the past is known since {since}: what compares with last week is silent for a while")?;
        }
        let mut rows = vec![
            ["alert", "severity", "fired", "total", "longest", "first", "last", "where"].map(str::to_owned).to_vec(),
        ];
        for line in &self.lines {
            let window = line.labels.get("window").map_or_else(String::new, |window| format!(" ({window})"));
            let name = format!("{}{window}", line.alert);
            let severity = line.labels.get("severity").cloned().unwrap_or_default();
            let longest = line.episodes.iter().map(|(episode, _)| episode.end - episode.start).max();
            let (Some(longest), Some((first, _)), Some((last, _))) =
                (longest, line.episodes.first(), line.episodes.last())
            else {
                rows.push(vec![name, severity, "0".to_owned()]);
                continue;
            };
            rows.push(vec![
                name,
                severity,
                line.episodes.len().to_string(),
                span(line.total()),
                span(longest),
                second(first.start),
                second(last.start),
                line.places(),
            ]);
        }
        table(f, &rows)?;
        if !self.thresholds.is_empty() {
            writeln!(
                f,
                "\nthresholds, beside what they were held against while the alert's other conditions held; \
                 at the suggestion it would have been worse for 1 % of that time"
            )?;
            let mut rows =
                vec![["threshold", "alert", "now", "half", "suggested", "worst"].map(str::to_owned).to_vec()];
            for Measured { limit, present, values } in &self.thresholds {
                let name = limit.name.trim_start_matches("llm_relay:threshold:");
                let mut row = vec![name.to_owned(), limit.alert.clone(), short(*present)];
                row.extend(values.iter().map(|value| short(*value)));
                rows.push(row);
            }
            table(f, &rows)?;
        }
        if !self.untold.is_empty() {
            writeln!(f, "\nnot tested, for the ledger does not tell")?;
            let mut seen = BTreeSet::new();
            for (alert, missing) in self.untold.iter().filter(|(alert, _)| seen.insert(alert)) {
                let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
                writeln!(
                    f,
                    "  {alert}: {}",
                    if missing.is_empty() { "it is about Prometheus itself" } else { "" }.to_owned()
                        + &missing.join(", ")
                )?;
            }
        }
        Ok(())
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
