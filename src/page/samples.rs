//! The samples of a page, gathered from the catalogue and sorted by label values.

use std::any::Any;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::exporter_info::ExporterInfo;
use crate::metrics::{CATALOGUE, Emit, Metric, MetricType, Sink};
use crate::view::{Blocks, HistogramView, View};

/// The samples of one metric, by label values.
pub(crate) struct Family {
    /// Its entry in the catalogue.
    pub(crate) metric: &'static Metric,
    /// Label values of all samples as they were emitted, one after the other, each followed by a zero byte.
    values: String,
    /// Where each label value ends in `values`, before its zero byte.
    ends: Vec<u32>,
    /// The value of each; of a histogram its sum.
    numbers: Vec<f64>,
    /// Upper bound and own count of each bucket, as many for each histogram.
    buckets: Vec<(f64, u64)>,
    /// Indices of the samples by label values.
    sorted: Vec<u32>,
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

/// The families that can be told of an instant of the past.
pub(crate) fn past(view: &View) -> Vec<Family> {
    let told = CATALOGUE.iter().filter(|metric| metric.is_backfillable());
    let own = ExporterInfo::default();
    let families = told.map(|metric| Family::gather(metric, std::slice::from_ref(view), &own));
    families.filter(|family| family.series() > 0).collect()
}

impl Family {
    /// Without samples.
    pub(super) fn empty(metric: &'static Metric) -> Self {
        Self {
            metric,
            values: String::new(),
            ends: Vec::new(),
            numbers: Vec::new(),
            buckets: Vec::new(),
            sorted: Vec::new(),
        }
    }

    pub(super) fn gather(metric: &'static Metric, views: &[View], own: &ExporterInfo) -> Self {
        let mut family = Self::empty(metric);
        emit(metric, views, own, &mut Gather { family: &mut family, relay: None });
        family.sort();
        family
    }

    /// By label values; of samples with the same labels, which would make the page invalid, the first stays.
    fn sort(&mut self) {
        let emitted = self.numbers.len();
        let mut sorted: Vec<u32> = (0..).take(emitted).collect();
        // One comparison of bytes stands for that of all values: the zero byte sorts a value before its extensions.
        sorted.sort_by_key(|index| self.key(*index as usize));
        let same = |later: usize, kept: usize| self.values(later).eq(self.values(kept));
        sorted.dedup_by(|later, kept| same(*later as usize, *kept as usize));
        if sorted.len() < emitted {
            let mut kept = sorted.clone();
            kept.sort_unstable();
            let mut first = Self::empty(self.metric);
            for index in kept.iter().map(|index| *index as usize) {
                self.values(index).for_each(|label| first.push_label(label));
                first.numbers.push(self.numbers[index]);
                first.buckets.extend_from_slice(self.own_buckets(index));
            }
            *self = first;
            let place = |index: &u32| kept.partition_point(|it| it < index);
            sorted.iter_mut().for_each(|index| *index = index_of(place(index)));
        }
        self.sorted = sorted;
    }

    fn push_label(&mut self, label: &str) {
        self.values.push_str(label);
        self.ends.push(index_of(self.values.len()));
        self.values.push('\0');
    }

    fn label_count(&self) -> usize {
        self.metric.labels.len() + usize::from(self.metric.is_of_relay())
    }

    /// The places in `ends` of the label values of a sample.
    fn places(&self, index: usize) -> Range<usize> {
        let count = self.label_count();
        index * count..(index + 1) * count
    }

    fn key(&self, index: usize) -> &str {
        let places = self.places(index);
        let Some(last) = places.clone().last() else { return "" };
        &self.values[self.start(places.start)..self.ends[last] as usize]
    }

    fn values(&self, index: usize) -> impl Iterator<Item = &str> + Clone {
        self.places(index).map(|place| &self.values[self.start(place)..self.ends[place] as usize])
    }

    fn start(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    /// Label sets.
    pub(crate) fn series(&self) -> usize {
        self.sorted.len()
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = (Labels<'_>, Value<'_>)> {
        let indices = self.sorted.iter().map(|index| *index as usize);
        indices.map(|index| (Labels { family: self, index }, self.value(index)))
    }

    fn value(&self, index: usize) -> Value<'_> {
        let number = self.numbers[index];
        if self.buckets.is_empty() {
            return Value::Number(number);
        }
        Value::Histogram { sum: number, buckets: self.own_buckets(index) }
    }

    fn own_buckets(&self, index: usize) -> &[(f64, u64)] {
        let count = self.bucket_count();
        &self.buckets[index * count..][..count]
    }

    /// The value of the sample of a rank.
    pub(super) fn value_of(&self, rank: usize) -> Value<'_> {
        self.value(self.sorted[rank] as usize)
    }

    /// Buckets of each histogram; 0 where there is none.
    fn bucket_count(&self) -> usize {
        self.buckets.len() / self.numbers.len().max(1)
    }

    /// Lines of each sample.
    pub(super) fn sample_lines(&self) -> usize {
        match self.bucket_count() {
            0 => 1,
            // Its sum and its count have lines of their own.
            buckets => buckets + 2,
        }
    }

    /// The rank of each sample, in the order in which they were emitted.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut ranks = vec![0; self.sorted.len()];
        for (rank, index) in (0..).zip(&self.sorted) {
            ranks[*index as usize] = rank;
        }
        ranks
    }

    /// Whether a sample has these labels.
    pub(super) fn is_labelled(&self, index: usize, relay: Option<&str>, labels: &[&str]) -> bool {
        let places = self.places(index);
        let mut start = self.start(places.start);
        let labels = relay.into_iter().chain(labels.iter().copied());
        labels.zip(&self.ends[places]).all(|(label, end)| {
            let value = &self.values.as_bytes()[start..*end as usize];
            start = *end as usize + 1;
            value == label.as_bytes()
        })
    }

    /// The index of the sample with these labels.
    pub(super) fn find(&self, relay: Option<&str>, labels: &[&str]) -> Option<usize> {
        let labels: Vec<_> = labels.iter().map(|label| bounded(label)).collect();
        let labels: Vec<_> = labels.iter().map(AsRef::as_ref).collect();
        let key = relay.into_iter().chain(labels.iter().copied()).collect::<Vec<_>>().join("\0");
        let rank = self.sorted.binary_search_by(|index| self.key(*index as usize).cmp(&key)).ok()?;
        let index = self.sorted[rank] as usize;
        self.is_labelled(index, relay, &labels).then_some(index)
    }

    /// Whether the number was another; `None` where the sample has none.
    pub(super) fn set_number(&mut self, index: usize, number: f64) -> Option<bool> {
        self.buckets
            .is_empty()
            .then(|| std::mem::replace(&mut self.numbers[index], number).to_bits() != number.to_bits())
    }

    /// Whether the histogram was another; `None` where the sample has none with these bounds.
    pub(super) fn set_histogram(&mut self, index: usize, value: &HistogramView) -> Option<bool> {
        let count = self.bucket_count();
        let kept = &mut self.buckets[index * count..][..count];
        if !kept.iter().map(|(bound, _)| *bound).eq(buckets(value).map(|(bound, _)| bound)) {
            return None;
        }
        let mut changed = std::mem::replace(&mut self.numbers[index], value.sum).to_bits() != value.sum.to_bits();
        for ((_, kept), own) in kept.iter_mut().zip(&value.buckets) {
            changed |= std::mem::replace(kept, *own) != *own;
        }
        Some(changed)
    }
}

/// The labels of one sample.
#[derive(Clone, Copy)]
pub(crate) struct Labels<'a> {
    family: &'a Family,
    index: usize,
}

impl<'a> Labels<'a> {
    pub(crate) fn is_empty(self) -> bool {
        self.family.label_count() == 0
    }

    /// The values, each but the last followed by a zero byte.
    pub(crate) fn values(self) -> &'a str {
        self.family.key(self.index)
    }

    /// Names and values, `relay` first where there is one.
    pub(crate) fn pairs(self) -> impl Iterator<Item = (&'static str, &'a str)> + Clone {
        let relay = self.family.metric.is_of_relay().then_some("relay");
        relay.into_iter().chain(self.family.metric.labels.iter().copied()).zip(self.family.values(self.index))
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").field("name", &self.metric.name).field("samples", &self.series()).finish()
    }
}

/// A sink that is told where samples come from.
pub(super) trait RelaySink<'a>: Sink + Sized {
    /// What follows is of this relay.
    fn of_relay(&mut self, relay: &'a str);

    /// Takes the samples that `emit` makes of something that views share, and of nothing else.
    fn of_shared<T: Any + Send + Sync>(&mut self, shared: &Arc<T>, emit: impl Fn(&T, &mut dyn Sink));
}

/// Hands over every sample of a metric, in the order of the views.
pub(super) fn emit<'a>(metric: &Metric, views: &'a [View], own: &ExporterInfo, sink: &mut impl RelaySink<'a>) {
    if let Emit::Exporter(emit) = metric.emit {
        emit(own, sink);
        return;
    }
    for view in views {
        sink.of_relay(&view.relay);
        let ledger = view.ledger.as_deref();
        let counters = ledger.and_then(|ledger| ledger.counters.as_ref());
        match metric.emit {
            Emit::Relay(emit) | Emit::Backfillable(emit) => emit(view, sink),
            Emit::Directory(emit) => view.directory.iter().for_each(|directory| sink.of_shared(directory, emit)),
            Emit::Quota(emit) => each(ledger.map(|it| &it.quotas), emit, sink),
            Emit::Traffic(emit) => each(counters.map(|it| &it.traffic), emit, sink),
            Emit::Latency(emit) => each(counters.map(|it| &it.latency), emit, sink),
            Emit::Spender(of, emit) => each(counters.map(of), emit, sink),
            Emit::Exporter(_) => {}
        }
    }
}

fn each<'a, T: Any + Send + Sync>(
    items: Option<&Blocks<T>>,
    emit: fn(&T, &mut dyn Sink),
    sink: &mut impl RelaySink<'a>,
) {
    for block in items.into_iter().flat_map(Blocks::blocks) {
        sink.of_shared(block, |block, sink| block.iter().for_each(|item| emit(item, sink)));
    }
}

/// Neither format has a meaning for a number that is not finite here, nor for a negative counter.
pub(super) fn can_be_told(metric: &Metric, value: f64) -> bool {
    value.is_finite() && (metric.kind != MetricType::Counter || value >= 0.0)
}

/// The buckets of a histogram with their upper bounds, the infinite one included.
pub(super) fn buckets(value: &HistogramView) -> impl Iterator<Item = (f64, u64)> {
    value.bounds.iter().copied().chain([f64::INFINITY]).zip(value.buckets.iter().copied())
}

/// Takes the samples of one family.
struct Gather<'a> {
    family: &'a mut Family,
    relay: Option<&'a str>,
}

impl<'a> RelaySink<'a> for Gather<'a> {
    fn of_relay(&mut self, relay: &'a str) {
        self.relay = Some(relay);
    }

    fn of_shared<T: Any + Send + Sync>(&mut self, shared: &Arc<T>, emit: impl Fn(&T, &mut dyn Sink)) {
        emit(shared, self);
    }
}

impl Gather<'_> {
    fn push(&mut self, labels: &[&str], number: f64) {
        let family = &mut *self.family;
        debug_assert_eq!(labels.len(), family.metric.labels.len(), "labels of {}", family.metric.name);
        self.relay.iter().chain(labels).for_each(|label| family.push_label(&bounded(label)));
        family.numbers.push(number);
    }
}

fn index_of(length: usize) -> u32 {
    u32::try_from(length).expect("the text of a family is far below 4 GB")
}

/// Prometheus refuses a whole scrape for one label value that is longer than the limit that its user has set. Of a longer
/// one the beginning stays, and enough of a checksum to tell it from others that begin alike.
pub(super) fn bounded(label: &str) -> Cow<'_, str> {
    const LONGEST: usize = 256;
    const CHECKSUM: usize = 4;
    if label.len() <= LONGEST {
        return label.into();
    }
    let end = label.floor_char_boundary(LONGEST - "…".len() - 2 * CHECKSUM);
    let digest = Sha256::digest(label);
    let checksum = digest[..CHECKSUM].iter().map(|byte| format!("{byte:02x}"));
    format!("{}…{}", &label[..end], checksum.collect::<String>()).into()
}

impl Sink for Gather<'_> {
    fn sample(&mut self, labels: &[&str], value: f64) {
        if can_be_told(self.family.metric, value) {
            self.push(labels, value);
        }
    }

    fn histogram(&mut self, labels: &[&str], value: &HistogramView) {
        if value.sum.is_finite() {
            self.family.buckets.extend(buckets(value));
            self.push(labels, value.sum);
        }
        debug_assert_eq!(
            self.family.buckets.len(),
            self.family.numbers.len() * (value.bounds.len() + 1),
            "buckets of {}",
            self.family.metric.name
        );
    }
}
