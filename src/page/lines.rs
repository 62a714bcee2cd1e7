//! The lines of a family, kept from page to page: what stands is neither written nor packed again.

use std::any::Any;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec;

use super::accept::Format;
use super::samples::{Family, RelaySink, Value, can_be_told, emit, whole};
use super::{open_metrics, text};
use crate::exporter_info::ExporterInfo;
use crate::metrics::{Metric, Sink};
use crate::view::{HistogramView, View};

/// Lines that are written again together when one of them changes. Fewer make more of a page stand; more pack better.
pub(super) const SEGMENT: usize = 128;

/// A part of a page.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) text: String,
    pub(super) lines: usize,
    /// Texts with the same number are the same.
    pub(super) version: u64,
}

impl Piece {
    pub(super) fn new(text: String, lines: usize) -> Self {
        Self { text, lines, version: next_version() }
    }
}

fn next_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(0);
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}

/// The lines of one family.
#[derive(Debug)]
pub(super) struct Lines {
    family: Family,
    /// The place of each sample among the lines.
    ranks: Vec<u32>,
    /// The pass in which each sample was last emitted.
    emitted_in: Vec<u32>,
    pass: u32,
    /// What the last pass found in things that views share, by relay and in its order; `None` where it cannot be passed over.
    stretches: Vec<(Box<str>, Vec<Option<Stretch>>)>,
    /// In the order of [`Format::ALL`].
    heads: [Piece; Format::ALL.len()],
    segments: Vec<Segment>,
    /// Samples of a whole segment.
    segment_samples: usize,
}

/// Samples that follow each other and come from one thing alone. While it is the same thing, they stand.
#[derive(Debug)]
struct Stretch {
    from: Arc<dyn Any + Send + Sync>,
    samples: Range<usize>,
}

#[derive(Debug)]
struct Segment {
    piece: Piece,
    /// Values have changed since it was written.
    is_stale: bool,
}

impl Lines {
    /// Of a family without samples.
    pub(super) fn new(metric: &'static Metric) -> Self {
        Self::of(Family::empty(metric))
    }

    fn of(family: Family) -> Self {
        let (ranks, emitted_in) = (family.ranks(), vec![0; family.series()]);
        let family = Arc::new(family);
        let mut all = String::new();
        open_metrics::write(&mut all, &family);
        let family = Arc::into_inner(family).expect("what wrote it has ended");
        let (head, lines) = all.split_at(all.match_indices('\n').nth(1).map_or(0, |(end, _)| end + 1));
        let mut text_head = String::new();
        text::head(&mut text_head, family.metric);

        let sample_lines = family.values_of(0..family.series()).next().map_or(1, line_count);
        let segment_samples = SEGMENT.div_ceil(sample_lines);
        let mut rest = lines.split_inclusive('\n');
        let mut segments = Vec::new();
        for first in (0..family.series()).step_by(segment_samples) {
            let samples = first..family.series().min(first + segment_samples);
            let lines = family.values_of(samples).map(line_count).sum();
            let text = rest.by_ref().take(lines).collect();
            segments.push(Segment { piece: Piece::new(text, lines), is_stale: false });
        }
        let heads = [head.to_owned(), text_head].map(|head| Piece::new(head, 2));
        Self { family, ranks, emitted_in, pass: 0, stretches: Vec::new(), heads, segments, segment_samples }
    }

    /// Series, of which a histogram is one.
    pub(super) fn series(&self) -> usize {
        self.family.series()
    }

    /// Brings the lines up to what is shown now.
    pub(super) fn renew(&mut self, views: &[View], own: &ExporterInfo) {
        self.pass = self.pass.wrapping_add(1);
        let metric = self.family.metric;
        let before = mem::take(&mut self.stretches).into_iter();
        let mut update = Update {
            lines: self,
            before,
            of_relay: Vec::new().into_iter(),
            relay: None,
            next: 0,
            found: 0,
            looked_for: 0,
            has_others: false,
        };
        emit(metric, views, own, &mut update);
        let series = update.lines.series();
        // Where many have moved the next page shall find them at once.
        let has_moved = update.looked_for > (series / 8).max(16);
        if update.has_others || update.found < series || has_moved {
            *self = Self::of(Family::gather(metric, views, own));
        } else {
            self.rewrite();
        }
    }

    /// Nothing of a family without samples.
    pub(super) fn pieces(&self, format: Format) -> impl Iterator<Item = &Piece> {
        let head = (!self.segments.is_empty()).then_some(&self.heads[format as usize]);
        head.into_iter().chain(self.segments.iter().map(|segment| &segment.piece))
    }

    fn rewrite(&mut self) {
        for (n, segment) in self.segments.iter_mut().enumerate() {
            if mem::take(&mut segment.is_stale) {
                let first = n * self.segment_samples;
                let samples = first..self.family.series().min(first + self.segment_samples);
                let text = rewritten(&segment.piece.text, self.family.values_of(samples));
                segment.piece = Piece { text, version: next_version(), ..segment.piece };
            }
        }
    }
}

/// The same lines with other values.
fn rewritten<'a>(text: &str, values: impl Iterator<Item = Value<'a>>) -> String {
    // Values take a digit more now and then.
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let mut lines = text.split_inclusive('\n').map(|line| &line[..=line.rfind(' ').unwrap_or(0)]);
    let mut line = |write: &dyn Fn(&mut String)| {
        out.push_str(lines.next().unwrap_or_default());
        write(&mut out);
        out.push('\n');
    };
    for value in values {
        match value {
            Value::Number(number) => line(&|out| push_number(out, number)),
            Value::Histogram { sum, buckets } => {
                let count: u64 = buckets.iter().map(|(_, own)| own).sum();
                line(&|out| out.push_str(dtoa::Buffer::new().format(sum)));
                line(&|out| out.push_str(itoa::Buffer::new().format(count)));
                let mut cumulative = 0;
                for (_, own) in buckets {
                    cumulative += own;
                    line(&|out| out.push_str(itoa::Buffer::new().format(cumulative)));
                }
            }
        }
    }
    out
}

/// As prometheus-client writes it.
fn push_number(out: &mut String, number: f64) {
    match whole(number) {
        Some(whole) => out.push_str(itoa::Buffer::new().format(whole)),
        None => out.push_str(dtoa::Buffer::new().format(number)),
    }
}

fn line_count(value: Value) -> usize {
    match value {
        Value::Number(_) => 1,
        Value::Histogram { buckets, .. } => buckets.len() + 2,
    }
}

/// Compares what is emitted with what stands.
struct Update<'a> {
    lines: &'a mut Lines,
    /// The relays of the last pass that are still to come.
    before: vec::IntoIter<(Box<str>, Vec<Option<Stretch>>)>,
    /// The stretches of this relay that are still to come.
    of_relay: vec::IntoIter<Option<Stretch>>,
    relay: Option<&'a str>,
    /// The sample that follows if they come as they came before.
    next: usize,
    found: usize,
    /// Samples that stood elsewhere.
    looked_for: usize,
    /// There are series that the family does not have.
    has_others: bool,
}

impl Update<'_> {
    fn set(&mut self, labels: &[&str], set: impl FnOnce(&mut Family, usize) -> Option<bool>) {
        if self.has_others {
            return;
        }
        let lines = &mut *self.lines;
        let is_next = self.next < lines.series() && lines.family.is_labelled(self.next, self.relay, labels);
        self.looked_for += usize::from(!is_next);
        let index = if is_next { Some(self.next) } else { lines.family.find(self.relay, labels) };
        let Some(index) = index else {
            self.has_others = true;
            return;
        };
        self.next = index + 1;
        if mem::replace(&mut lines.emitted_in[index], lines.pass) == lines.pass {
            // Of series with the same labels the first stays.
            return;
        }
        self.found += 1;
        match set(&mut lines.family, index) {
            Some(false) => {}
            Some(true) => lines.segments[lines.ranks[index] as usize / lines.segment_samples].is_stale = true,
            None => self.has_others = true,
        }
    }

    /// Whether a stretch is of this thing, and none of its samples has come from elsewhere in this pass.
    fn stands<T>(&self, stretch: &Stretch, shared: &Arc<T>) -> bool {
        // Without a look at the thing itself: that there are many is what costs.
        let is_same = Arc::as_ptr(&stretch.from).cast::<T>() == Arc::as_ptr(shared);
        is_same && self.lines.emitted_in[stretch.samples.clone()].iter().all(|pass| *pass != self.lines.pass)
    }

    fn keep(&mut self, stretch: Option<Stretch>) {
        if let Some((_, stretches)) = self.lines.stretches.last_mut() {
            stretches.push(stretch);
        }
    }

    fn pass_over(&mut self, stretch: Stretch) {
        let samples = stretch.samples.clone();
        if !samples.is_empty() {
            self.lines.emitted_in[samples.clone()].fill(self.lines.pass);
            self.found += samples.len();
            self.next = samples.end;
        }
        self.keep(Some(stretch));
    }
}

impl<'a> RelaySink<'a> for Update<'a> {
    fn of_relay(&mut self, relay: &'a str) {
        self.relay = Some(relay);
        let before = self.before.next().filter(|(before, _)| **before == *relay);
        self.of_relay = before.map_or_else(Vec::new, |(_, stretches)| stretches).into_iter();
        self.lines.stretches.push((relay.into(), Vec::with_capacity(self.of_relay.len())));
    }

    fn of_shared<T: Any + Send + Sync>(&mut self, shared: &Arc<T>, emit: impl Fn(&T, &mut dyn Sink)) {
        let stretch = self.of_relay.next().flatten();
        if let Some(stretch) = stretch.filter(|stretch| self.stands(stretch, shared)) {
            self.pass_over(stretch);
            return;
        }
        let (first, found, looked_for) = (self.next, self.found, self.looked_for);
        emit(shared, self);
        let samples = first..self.next;
        let is_whole = self.looked_for == looked_for && self.found - found == samples.len();
        self.keep(is_whole.then(|| Stretch { from: shared.clone(), samples }));
    }
}

impl Sink for Update<'_> {
    fn sample(&mut self, labels: &[&str], value: f64) {
        if can_be_told(self.lines.family.metric, value) {
            self.set(labels, |family, index| family.set_number(index, value));
        }
    }

    fn histogram(&mut self, labels: &[&str], value: &HistogramView) {
        if value.sum.is_finite() {
            self.set(labels, |family, index| family.set_histogram(index, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CATALOGUE;
    use crate::view::{CountersView, EntityCounters, LedgerView, NameMode};

    fn views(requests: &[u64]) -> Vec<View> {
        let user = |(n, requests): (usize, &u64)| EntityCounters {
            id: format!("{n:03}"),
            requests: *requests,
            ..EntityCounters::default()
        };
        let users = requests.iter().enumerate().map(user).collect();
        let counters = CountersView { users, ..CountersView::default() };
        vec![View {
            relay: "main".into(),
            kind: "claude-code-hub",
            names: NameMode::Id,
            ledger: Some(Arc::new(LedgerView { counters: Some(counters), ..LedgerView::default() })),
            live: None,
            directory: None,
            sources: Vec::new(),
            probe: None,
            store: None,
        }]
    }

    #[test]
    fn only_the_segment_of_a_value_that_changed_is_written_again() {
        let metric = CATALOGUE.iter().find(|metric| metric.name == "llm_relay_user_requests_total").unwrap();
        let (mut lines, own) = (Lines::new(metric), ExporterInfo::default());
        let versions = |lines: &Lines| lines.pieces(Format::Text).map(|piece| piece.version).collect::<Vec<_>>();
        let mut requests = vec![1; 3 * SEGMENT];
        lines.renew(&views(&requests), &own);
        let first = versions(&lines);
        assert_eq!(first.len(), 4, "the head and three segments");
        lines.renew(&views(&requests), &own);
        assert_eq!(versions(&lines), first);
        requests[SEGMENT + 5] = 2;
        lines.renew(&views(&requests), &own);
        let changed: Vec<bool> = versions(&lines).iter().zip(&first).map(|(now, before)| now != before).collect();
        assert_eq!(changed, [false, false, true, false]);
    }
}
