//! Samples of many instants as OpenMetrics with time stamps, for a Prometheus that was not there to scrape them.

use std::collections::BTreeMap;
use std::io;

use super::samples::{self, Labels, Value};
use super::text;
use crate::metrics::Metric;

/// What a page showed at each of some instants, series by series: OpenMetrics wants the samples of a family together
/// and those of a series in order of time.
#[derive(Default)]
pub(crate) struct Recording {
    families: BTreeMap<&'static str, Family>,
}

struct Family {
    metric: &'static Metric,
    /// By label values.
    tracks: BTreeMap<String, Track>,
}

/// One label set over time.
struct Track {
    labels: Vec<(&'static str, String)>,
    /// Unix seconds.
    times: Vec<i64>,
    /// Of a number, one for each instant; of a histogram, its sum and then each bucket's own count.
    values: Vec<f64>,
    /// Upper bounds of the buckets, the infinite one included; empty for a number.
    bounds: Vec<f64>,
}

impl Recording {
    /// Adds what is shown at an instant later than all before, in Unix seconds.
    pub(crate) fn add(&mut self, second: i64, families: &[samples::Family]) {
        for family in families {
            let metric = family.metric;
            let tracks = &mut self.families.entry(metric.name).or_insert_with(|| Family::new(metric)).tracks;
            for (labels, value) in family.samples() {
                // Most have been seen before: look without making a key.
                match tracks.get_mut(labels.values()) {
                    Some(track) => track.push(second, value),
                    None => {
                        let mut track = Track::new(labels, value);
                        track.push(second, value);
                        tracks.insert(labels.values().to_owned(), track);
                    }
                }
            }
        }
    }

    /// Writes everything down and ends it; `more` are labels that every sample gets beside its own.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub(crate) fn write(&self, out: &mut impl io::Write, more: &BTreeMap<String, String>) -> io::Result<()> {
        let mut text = String::new();
        for family in self.families.values() {
            head(&mut text, family.metric);
            for track in family.tracks.values() {
                track.write(&mut text, family.metric.name, more);
                out.write_all(text.as_bytes())?;
                text.clear();
            }
        }
        out.write_all(b"# EOF\n")
    }
}

impl Family {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, tracks: BTreeMap::new() }
    }
}

impl Track {
    fn new(labels: Labels, value: Value) -> Self {
        let bounds = match value {
            Value::Number(_) => Vec::new(),
            Value::Histogram { buckets, .. } => buckets.iter().map(|(bound, _)| *bound).collect(),
        };
        let labels = labels.pairs().map(|(name, value)| (name, value.to_owned())).collect();
        Self { labels, times: Vec::new(), values: Vec::new(), bounds }
    }

    fn push(&mut self, second: i64, value: Value) {
        self.times.push(second);
        match value {
            Value::Number(number) => self.values.push(number),
            Value::Histogram { sum, buckets } => {
                self.values.push(sum);
                // Counts below 2^53, of which a float holds each.
                self.values.extend(buckets.iter().map(|(_, own)| *own as f64));
            }
        }
    }

    fn write(&self, out: &mut String, name: &str, more: &BTreeMap<String, String>) {
        let own = self.labels.iter().map(|(label, value)| (*label, value.as_str()));
        let labels = own.chain(more.iter().map(|(label, value)| (label.as_str(), value.as_str())));
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (second, values) in self.times.iter().zip(self.values.chunks_exact(1 + self.bounds.len())) {
            let value = if self.bounds.is_empty() {
                Value::Number(values[0])
            } else {
                buckets.clear();
                buckets.extend(self.bounds.iter().zip(&values[1..]).map(|(bound, own)| (*bound, *own as u64)));
                Value::Histogram { sum: values[0], buckets: &buckets }
            };
            text::write_sample(out, name, labels.clone(), value, &format!(" {second}\n"));
        }
    }
}

fn head(out: &mut String, metric: &Metric) {
    let name = metric.family();
    out.extend(["# TYPE ", name, " ", metric.kind.label(), "\n# HELP ", name, " "]);
    text::escape(out, metric.help, true);
    out.push('\n');
}
