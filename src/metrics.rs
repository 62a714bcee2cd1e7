//! The catalogue: the only list of metrics. A metric is one entry in the file of its family; the page, the documentation,
//! the relay table, both languages of the dashboards and the lints are derived from it.
//!
//! Conventions: base units, counters end in `_total`, help is one sentence, every relay metric has the label `relay`
//! first (it is not listed in an entry). Names of people and things live in `*_info` metrics and in the bounded
//! leaderboards. Missing is never zero: an entry that has nothing to say emits no sample.

pub mod docs;

mod accounting;
mod accounts;
mod boards;
mod directory;
mod latency;
mod live;
mod overview;
mod process;
mod quota;
mod sources;
mod trust;
mod usage;

use chrono::{DateTime, Utc};

use crate::exporter_info::ExporterInfo;
use crate::model::{self, Directory};
use crate::view::{
    Blocks, CountersView, EntityCounters, HistogramView, LatencyView, LedgerView, QuotaView, TrafficView, View,
};

/// The families, in the order of the page.
const FAMILIES: [&[Metric]; 12] = [
    overview::METRICS,
    usage::METRICS,
    latency::METRICS,
    accounting::METRICS,
    live::METRICS,
    accounts::METRICS,
    quota::METRICS,
    boards::METRICS,
    directory::METRICS,
    sources::METRICS,
    trust::METRICS,
    process::METRICS,
];

/// Every metric, in the order of the page.
pub static CATALOGUE: &[Metric] = &{
    let mut all = [overview::METRICS[0]; count(&FAMILIES)];
    let (mut family, mut filled) = (0, 0);
    while family < FAMILIES.len() {
        let (_, rest) = all.split_at_mut(filled);
        let (place, _) = rest.split_at_mut(FAMILIES[family].len());
        place.copy_from_slice(FAMILIES[family]);
        filled += FAMILIES[family].len();
        family += 1;
    }
    all
};

const fn count(families: &[&[Metric]]) -> usize {
    match families {
        [] => 0,
        [first, rest @ ..] => first.len() + count(rest),
    }
}

/// One metric family.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Full name; a counter's ends in `_total`.
    pub name: &'static str,
    /// How samples change, in Prometheus' words.
    pub kind: MetricType,
    /// Its heading in the documentation.
    pub group: Group,
    /// Label names after `relay`.
    pub labels: &'static [&'static str],
    /// `HELP`: one sentence in English, with unit and label values.
    pub help: &'static str,
    /// The same in Chinese, for the dashboards.
    pub help_zh: &'static str,
    /// Its samples.
    pub emit: Emit,
}

/// The types of Prometheus that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// May rise and fall.
    Gauge,
    /// Only rises; a fall is a restart from 0.
    Counter,
    /// Counts by upper bound, with their sum.
    Histogram,
}

impl MetricType {
    /// The type's name in the text formats.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// A heading of the documentation; [`docs`] has its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The numbers of the relay's own screen.
    Overview,
    /// Counters and histograms since the ledger began.
    Counters,
    /// The first by cost, and `other`.
    Leaderboards,
    /// The live store's sessions, slots, circuits.
    Live,
    /// Limits, and what is used of them.
    Quotas,
    /// Names behind ids; constant 1.
    Facts,
    /// Whether the relay answers.
    Health,
    /// How reading goes, and the process itself.
    Exporter,
}

/// Where the samples come from.
#[derive(Clone, Copy)]
pub enum Emit {
    /// Once per relay.
    Relay(fn(&View, &mut dyn Sink)),
    /// Once per relay, from the rows of its ledger alone: so it can be told of any instant of the past too.
    Backfillable(fn(&View, &mut dyn Sink)),
    /// From each relay's directory alone.
    Directory(fn(&Directory, &mut dyn Sink)),
    /// From each limit by itself.
    Quota(fn(&QuotaView, &mut dyn Sink)),
    /// From the counters of each provider and model by themselves; backfillable.
    Traffic(fn(&TrafficView, &mut dyn Sink)),
    /// From the histograms of each provider and model by themselves; backfillable.
    Latency(fn(&LatencyView, &mut dyn Sink)),
    /// From the counters of each user, or key, ..., by themselves; backfillable.
    Spender(fn(&CountersView) -> &Blocks<EntityCounters>, fn(&EntityCounters, &mut dyn Sink)),
    /// Once per process; without the label `relay`.
    Exporter(fn(&ExporterInfo, &mut dyn Sink)),
}

impl Metric {
    /// Whether it has the label `relay`.
    pub const fn is_of_relay(&self) -> bool {
        !matches!(self.emit, Emit::Exporter(_))
    }

    /// Whether the rows of the ledger alone tell it, so that it can be told of any instant of the past.
    pub const fn is_backfillable(&self) -> bool {
        matches!(self.emit, Emit::Backfillable(_) | Emit::Traffic(_) | Emit::Latency(_) | Emit::Spender(..))
    }

    /// The name of the family in OpenMetrics: a counter's is without `_total`.
    pub(crate) fn family(&self) -> &'static str {
        match self.kind {
            MetricType::Counter => self.name.strip_suffix("_total").unwrap_or(self.name),
            MetricType::Gauge | MetricType::Histogram => self.name,
        }
    }
}

/// Takes the samples of one family. Label values stand in the order of [`Metric::labels`].
pub trait Sink {
    /// One value.
    fn sample(&mut self, labels: &[&str], value: f64);
    /// One histogram.
    fn histogram(&mut self, labels: &[&str], value: &HistogramView);

    /// A sample where the value is known, else none.
    fn known(&mut self, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.sample(labels, value);
        }
    }
}

fn ledger(view: &View) -> Option<&LedgerView> {
    view.ledger.as_deref()
}

fn counters(view: &View) -> Option<&CountersView> {
    ledger(view)?.counters.as_ref()
}

fn live(view: &View) -> Option<&model::Live> {
    view.live.as_deref()
}

fn users(directory: &Directory) -> impl Iterator<Item = &model::User> {
    directory.users.iter().filter(|user| !user.deleted)
}

fn keys(directory: &Directory) -> impl Iterator<Item = &model::Key> {
    directory.keys.iter().filter(|key| !key.deleted)
}

fn providers(directory: &Directory) -> impl Iterator<Item = &model::Provider> {
    directory.providers.iter().filter(|provider| !provider.deleted)
}

fn float(count: Option<u64>) -> Option<f64> {
    count.map(|count| count as f64)
}

fn unix(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
