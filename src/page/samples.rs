//! The samples of a page, gathered from the catalogue and sorted by label values.

use std::fmt::Write;
use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::exporter_info::ExporterInfo;
use crate::metrics::{CATALOGUE, Emit, Metric, MetricType, Sink};
use crate::view::{HistogramView, View};

/// The samples of one metric.
pub struct Family {
    /// Its entry in the catalogue.
    pub metric: &'static Metric,
    /// Label values of all samples, one after the other, each followed by a zero byte.
    values: String,
    /// Where each label value ends in `values`, before its zero byte.
    ends: Vec<usize>,
    samples: Vec<Sample>,
    /// Upper bound and own count of the buckets of all histograms.
    buckets: Vec<(f64, u64)>,
}

#[derive(Clone, Debug)]
struct Sample {
    /// Index in `ends` of the sample's first label value.
    labels: usize,
    value: Stored,
}

#[derive(Clone, Debug)]
enum Stored {
    Number(f64),
    Histogram { sum: f64, buckets: Range<usize> },
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Number(f64),
    /// Each bucket with its upper bound and its own count; the last bound is infinite.
    Histogram {
        sum: f64,
        buckets: &'a [(f64, u64)],
    },
}

/// The number as an integer where it is one that a float holds exactly, to be written without a fraction.
pub(crate) fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

/// The families that have samples, in the order of the catalogue, each gathered when it is asked for.
pub fn gather<'a>(views: &'a [View], own: &'a ExporterInfo) -> impl Iterator<Item = Family> + 'a {
    families(CATALOGUE.iter(), views, own)
}

/// The families that can be told of an instant of the past.
pub(crate) fn past(view: &View) -> Vec<Family> {
    let told = CATALOGUE.iter().filter(|metric| matches!(metric.emit, Emit::Backfillable(_)));
    families(told, std::slice::from_ref(view), &ExporterInfo::default()).collect()
}

fn families<'a>(
    metrics: impl Iterator<Item = &'static Metric> + 'a,
    views: &'a [View],
    own: &'a ExporterInfo,
) -> impl Iterator<Item = Family> + 'a {
    metrics.map(|metric| Family::gather(metric, views, own)).filter(|family| !family.samples.is_empty())
}

impl Family {
    fn gather(metric: &'static Metric, views: &[View], own: &ExporterInfo) -> Self {
        let mut family =
            Self { metric, values: String::new(), ends: Vec::new(), samples: Vec::new(), buckets: Vec::new() };
        match metric.emit {
            Emit::Relay(emit) | Emit::Backfillable(emit) => {
                for view in views {
                    emit(view, &mut Gather { family: &mut family, relay: Some(&view.relay) });
                }
            }
            Emit::Exporter(emit) => emit(own, &mut Gather { family: &mut family, relay: None }),
        }
        family.sort();
        family
    }

    /// By label values; of samples with the same labels, which would make the page invalid, the first stays.
    fn sort(&mut self) {
        let samples = std::mem::take(&mut self.samples);
        let mut keyed: Vec<(&str, Sample)> = samples.into_iter().map(|sample| (self.key(&sample), sample)).collect();
        // One comparison of bytes stands for that of all values: the zero byte sorts a value before its extensions.
        keyed.sort_by_key(|(key, _)| *key);
        keyed.dedup_by(|later, kept| later.0 == kept.0 && self.values(&later.1).eq(self.values(&kept.1)));
        let samples = keyed.into_iter().map(|(_, sample)| sample).collect();
        self.samples = samples;
    }

    fn label_count(&self) -> usize {
        self.metric.labels.len() + usize::from(self.metric.is_of_relay())
    }

    fn key(&self, sample: &Sample) -> &str {
        match sample.labels + self.label_count() {
            end if end == sample.labels => "",
            end => &self.values[self.start(sample.labels)..self.ends[end - 1]],
        }
    }

    fn values(&self, sample: &Sample) -> impl Iterator<Item = &str> + Clone {
        (sample.labels..sample.labels + self.label_count())
            .map(|label| &self.values[self.start(label)..self.ends[label]])
    }

    fn start(&self, label: usize) -> usize {
        label.checked_sub(1).map_or(0, |before| self.ends[before] + 1)
    }

    /// Label sets.
    pub(crate) fn series(&self) -> usize {
        self.samples.len()
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = (Labels<'_>, Value<'_>)> {
        self.samples.iter().map(|sample| {
            let value = match &sample.value {
                Stored::Number(number) => Value::Number(*number),
                Stored::Histogram { sum, buckets } => {
                    Value::Histogram { sum: *sum, buckets: &self.buckets[buckets.clone()] }
                }
            };
            (Labels { family: self, sample }, value)
        })
    }
}

/// The labels of one sample.
#[derive(Clone, Copy)]
pub(crate) struct Labels<'a> {
    family: &'a Family,
    sample: &'a Sample,
}

impl<'a> Labels<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.family.label_count() == 0
    }

    /// The values, each but the last followed by a zero byte.
    pub(crate) fn values(self) -> &'a str {
        self.family.key(self.sample)
    }

    /// Names and values, `relay` first where there is one.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (&'static str, &'a str)> + Clone {
        let relay = self.family.metric.is_of_relay().then_some("relay");
        relay.into_iter().chain(self.family.metric.labels.iter().copied()).zip(self.family.values(self.sample))
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").field("name", &self.metric.name).field("samples", &self.samples.len()).finish()
    }
}

/// Takes the samples of one family from one relay.
struct Gather<'a> {
    family: &'a mut Family,
    relay: Option<&'a str>,
}

impl Gather<'_> {
    fn push(&mut self, labels: &[&str], value: Stored) {
        let family = &mut *self.family;
        debug_assert_eq!(labels.len(), family.metric.labels.len(), "labels of {}", family.metric.name);
        let first = family.ends.len();
        for label in self.relay.iter().chain(labels) {
            push_bounded(&mut family.values, label);
            family.ends.push(family.values.len());
            family.values.push('\0');
        }
        family.samples.push(Sample { labels: first, value });
    }
}

/// Prometheus refuses a whole scrape for one label value that is longer than the limit that its user has set. Of a longer
/// one the beginning stays, and enough of a checksum to tell it from others that begin alike.
fn push_bounded(values: &mut String, label: &str) {
    const LONGEST: usize = 256;
    const CHECKSUM: usize = 4;
    if label.len() <= LONGEST {
        values.push_str(label);
        return;
    }
    let end = label.floor_char_boundary(LONGEST - "…".len() - 2 * CHECKSUM);
    values.push_str(&label[..end]);
    values.push('…');
    for byte in &Sha256::digest(label)[..CHECKSUM] {
        // A String takes every write.
        let _ = write!(values, "{byte:02x}");
    }
}

impl Sink for Gather<'_> {
    fn sample(&mut self, labels: &[&str], value: f64) {
        // Neither format has a meaning for a number that is not finite here, nor for a negative counter.
        if value.is_finite() && (self.family.metric.kind != MetricType::Counter || value >= 0.0) {
            self.push(labels, Stored::Number(value));
        }
    }

    fn histogram(&mut self, labels: &[&str], value: &HistogramView) {
        if value.sum.is_finite() {
            let start = self.family.buckets.len();
            let bounds = value.bounds.iter().copied().chain([f64::INFINITY]);
            self.family.buckets.extend(bounds.zip(value.buckets.iter().copied()));
            let buckets = start..self.family.buckets.len();
            self.push(labels, Stored::Histogram { sum: value.sum, buckets });
        }
    }
}
