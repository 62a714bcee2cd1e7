//! The lines of a family, kept from page to page: what stands is neither written nor packed again.

use std::any::Any;
use std::collections::BTreeSet;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// The place of each sample among the lines, in the order in which they were emitted.
    ranks: Vec<u32>,
    /// Whose samples the last pass found, in its order.
    relays: Vec<Box<str>>,
    /// What it found in things that views share, in its order; `None` where it cannot be passed over.
    stretches: Vec<Option<Stretch>>,
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
    samples: Range<u32>,
}

#[derive(Debug)]
struct Segment {
    piece: Piece,
    /// A bit for each sample whose value has changed since it was written.
    changed: u128,
}

const _: () = assert!(SEGMENT <= u128::BITS as usize, "a bit for each sample");

impl Lines {
    /// Of a family without samples.
    pub(super) fn new(metric: &'static Metric) -> Self {
        Self::of(Family::empty(metric))
    }

    fn of(family: Family) -> Self {
        let ranks = family.ranks();
        let family = Arc::new(family);
        let mut all = String::new();
        open_metrics::write(&mut all, &family);
        let family = Arc::into_inner(family).expect("what wrote it has ended");
        let (head, lines) = all.split_at(all.match_indices('\n').nth(1).map_or(0, |(end, _)| end + 1));
        let mut text_head = String::new();
        text::head(&mut text_head, family.metric);

        let segment_samples = SEGMENT.div_ceil(family.sample_lines());
        let mut rest = lines;
        let mut segments = Vec::new();
        for first in (0..family.series()).step_by(segment_samples) {
            let lines = family.sample_lines() * segment_samples.min(family.series() - first);
            let text = take_lines(&mut rest, lines).to_owned();
            segments.push(Segment { piece: Piece::new(text, lines), changed: 0 });
        }
        let heads = [head.to_owned(), text_head].map(|head| Piece::new(head, 2));
        Self { family, ranks, relays: Vec::new(), stretches: Vec::new(), heads, segments, segment_samples }
    }

    /// Series, of which a histogram is one.
    pub(super) fn series(&self) -> usize {
        self.family.series()
    }

    /// Brings the lines up to what is shown now.
    pub(super) fn renew(&mut self, views: &[View], own: &ExporterInfo) {
        let relays = views.iter().map(|view| &*view.relay);
        if !relays.clone().eq(self.relays.iter().map(|relay| &**relay)) {
            self.relays = relays.map(Box::from).collect();
            self.stretches.clear();
        }
        let metric = self.family.metric;
        let mut update = Update::of(self);
        emit(metric, views, own, &mut update);
        if update.is_in_vain() {
            *self = Self::of(Family::gather(metric, views, own));
        } else {
            let stretches = update.stretch;
            self.stretches.truncate(stretches);
            self.rewrite();
        }
    }

    /// Nothing of a family without samples.
    pub(super) fn pieces(&self, format: Format) -> impl Iterator<Item = &Piece> {
        let head = (!self.segments.is_empty()).then_some(&self.heads[format as usize]);
        head.into_iter().chain(self.segments.iter().map(|segment| &segment.piece))
    }

    fn note_change(&mut self, index: usize) {
        let rank = self.ranks[index] as usize;
        self.segments[rank / self.segment_samples].changed |= 1 << (rank % self.segment_samples);
    }

    fn rewrite(&mut self) {
        let sample_lines = self.family.sample_lines();
        for (segment, first) in self.segments.iter_mut().zip((0..).step_by(self.segment_samples)) {
            let changed = mem::take(&mut segment.changed);
            if changed != 0 {
                let changed = (0..self.segment_samples).filter(|n| (changed >> n) & 1 == 1);
                let values = changed.map(|n| (n * sample_lines, self.family.value_of(first + n)));
                let text = rewritten(&segment.piece.text, values);
                segment.piece = Piece { text, version: next_version(), ..segment.piece };
            }
        }
    }
}

/// The same lines with other values, each with the number of its first line.
fn rewritten<'a>(text: &str, values: impl Iterator<Item = (usize, Value<'a>)>) -> String {
    // Values take a digit more now and then.
    let mut out = String::with_capacity(text.len() + text.len() / 32);
    let (mut rest, mut passed) = (text, 0);
    for (first, value) in values {
        out.push_str(take_lines(&mut rest, first - passed));
        passed = first;
        let mut line = |write: &dyn Fn(&mut String)| {
            let line = take_lines(&mut rest, 1);
            passed += 1;
            out.push_str(&line[..=line.rfind(' ').unwrap_or(0)]);
            write(&mut out);
            out.push('\n');
        };
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
    out.push_str(rest);
    out
}

/// The first lines of a text, which it is left without.
fn take_lines<'a>(text: &mut &'a str, count: usize) -> &'a str {
    let last = count.checked_sub(1).and_then(|last| text.match_indices('\n').nth(last));
    let (lines, rest) = text.split_at(last.map_or(0, |(last, _)| last + 1));
    *text = rest;
    lines
}

/// As prometheus-client writes it.
fn push_number(out: &mut String, number: f64) {
    match whole(number) {
        Some(whole) => out.push_str(itoa::Buffer::new().format(whole)),
        None => out.push_str(dtoa::Buffer::new().format(number)),
    }
}

/// Compares what is emitted with what stands.
struct Update<'a> {
    lines: &'a mut Lines,
    relay: Option<&'a str>,
    /// How many things that views share have come.
    stretch: usize,
    /// The sample that follows if they come as they came before.
    next: usize,
    /// All samples before this one have come,
    reached: usize,
    /// and these behind it.
    strays: BTreeSet<usize>,
    /// Samples that came before their turn, or again.
    disorder: usize,
    /// There are series that the family does not have.
    has_others: bool,
}

impl<'a> Update<'a> {
    fn of(lines: &'a mut Lines) -> Self {
        Self {
            lines,
            relay: None,
            stretch: 0,
            next: 0,
            reached: 0,
            strays: BTreeSet::new(),
            disorder: 0,
            has_others: false,
        }
    }

    /// Whether the family has to be gathered anew. Where much is out of order the next page shall find it at once.
    fn is_in_vain(&self) -> bool {
        let series = self.lines.series();
        self.has_others || self.reached < series || self.disorder > (series / 8).max(16)
    }

    fn set(&mut self, labels: &[&str], set: impl FnOnce(&mut Family, usize) -> Option<bool>) {
        if self.has_others {
            return;
        }
        let family = &self.lines.family;
        let is_next = self.next < family.series() && family.is_labelled(self.next, self.relay, labels);
        let index = if is_next { Some(self.next) } else { family.find(self.relay, labels) };
        let Some(index) = index else {
            self.has_others = true;
            return;
        };
        self.next = index + 1;
        // Of series with the same labels the first stays.
        if self.is_first(index) {
            match set(&mut self.lines.family, index) {
                Some(false) => {}
                Some(true) => self.lines.note_change(index),
                None => self.has_others = true,
            }
        }
    }

    /// Notes that a sample has come.
    fn is_first(&mut self, index: usize) -> bool {
        if index != self.reached {
            self.disorder += 1;
            return index > self.reached && self.strays.insert(index);
        }
        self.reached += 1;
        while self.strays.first() == Some(&self.reached) {
            self.strays.pop_first();
            self.reached += 1;
        }
        true
    }

    /// Passes over the samples of the same thing that was here before, where it is their turn. What must come after them has
    /// not come yet, so there is no need for a look at them, nor at the thing: that there are many is what costs.
    fn passes_over<T>(&mut self, shared: &Arc<T>) -> bool {
        let Some(Some(Stretch { from, samples })) = self.lines.stretches.get(self.stretch) else { return false };
        let stands = Arc::as_ptr(from).cast::<T>() == Arc::as_ptr(shared)
            && samples.start as usize == self.reached
            && self.strays.is_empty();
        if stands {
            self.reached = samples.end as usize;
            self.next = self.reached;
            self.stretch += 1;
        }
        stands
    }
}

impl<'a> RelaySink<'a> for Update<'a> {
    fn of_relay(&mut self, relay: &'a str) {
        self.relay = Some(relay);
    }

    fn of_shared<T: Any + Send + Sync>(&mut self, shared: &Arc<T>, emit: impl Fn(&T, &mut dyn Sink)) {
        if self.passes_over(shared) {
            return;
        }
        let (first, disorder, is_behind) = (self.reached, self.disorder, self.strays.is_empty());
        emit(shared, self);
        let is_whole = is_behind && self.disorder == disorder;
        let samples = first as u32..self.reached as u32;
        let stretch = is_whole.then(|| Stretch { from: shared.clone(), samples });
        match self.lines.stretches.get_mut(self.stretch) {
            Some(before) => *before = stretch,
            None => self.lines.stretches.push(stretch),
        }
        self.stretch += 1;
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
