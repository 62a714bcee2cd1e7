//! The last day of facts by second.
//!
//! A day of facts is most of what the exporter has in memory. A fact takes 152 bytes to work with, some 50 as it is
//! written down and half of that or less deflated in columns, so only those of the last minutes, which still change, are
//! kept ready; the others lie packed, ten minutes together, and are read from there when the edge of a window passes them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;

use super::sums::WindowFact;
use crate::parts::{DeflatedRecords, PartBytes};

/// Seconds of facts that are kept: a local day may have 25 hours, and the clock may be set back by one.
pub(crate) const KEPT_SECONDS: i64 = 26 * 3600;
/// Seconds of facts that are written down together.
const SLOT_SECONDS: i64 = 600;
/// One for the edge of each window that is longer than a slot.
const OPENED: usize = 8;

/// Facts by the second in which their requests started. A slot is ready or packed, never both.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// By second.
    ready: BTreeMap<i64, Vec<WindowFact>>,
    /// By the first second of the slot.
    packed: BTreeMap<i64, DeflatedRecords>,
    /// Packed slots that edges of windows are in, the one that was opened last first.
    opened: VecDeque<(i64, Written)>,
    /// First seconds of the slots that have changed since they were last taken.
    touched: BTreeSet<i64>,
}

/// The facts of one slot, written down. Seconds can be passed over without a look at their facts.
#[derive(Debug)]
struct Written(Bytes);

#[derive(Deserialize)]
struct Second<'a> {
    second: i64,
    /// How many they are, and each of them.
    facts: &'a [u8],
}

/// What each second begins with, and its facts.
fn records<'a>(seconds: impl Iterator<Item = (&'a i64, &'a Vec<WindowFact>)>) -> Option<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    for (second, facts) in seconds {
        let count = postcard::to_stdvec(&facts.len()).ok()?;
        let facts: Vec<_> = facts.iter().map(postcard::to_stdvec).collect::<Result<_, _>>().ok()?;
        let bytes = count.len() + facts.iter().map(Vec::len).sum::<usize>();
        records.push([postcard::to_stdvec(&(second, bytes)).ok()?, count].concat());
        records.extend(facts);
    }
    Some(records)
}

impl Written {
    /// As [`records`] tells them, where all can be understood and are of the slot that begins at `start`.
    fn records(&self, start: i64) -> Option<Vec<&[u8]>> {
        let (mut records, mut rest) = (Vec::new(), &*self.0);
        while !rest.is_empty() {
            let (Second { second, facts }, after) = postcard::take_from_bytes(rest).ok()?;
            let (count, mut left) = postcard::take_from_bytes::<usize>(facts).ok()?;
            records.push(&rest[..rest.len() - after.len() - left.len()]);
            for _ in 0..count {
                let (_, next) = postcard::take_from_bytes::<WindowFact>(left).ok()?;
                records.push(&left[..left.len() - next.len()]);
                left = next;
            }
            if slot(second) != start || !left.is_empty() {
                return None;
            }
            rest = after;
        }
        Some(records)
    }

    /// The facts of the seconds in `span`.
    fn each(&self, span: &Range<i64>, mut act: impl FnMut(i64, Vec<WindowFact>)) {
        const SOUND: &str = "it was written here, or looked through";
        let mut rest = &*self.0;
        while !rest.is_empty() {
            let (Second { second, facts }, after) = postcard::take_from_bytes(rest).expect(SOUND);
            rest = after;
            if span.contains(&second) {
                act(second, postcard::from_bytes(facts).expect(SOUND));
            }
        }
    }
}

impl Log {
    /// The log that [`Self::take`] wrote down; `None` when a slot cannot be understood.
    pub(crate) fn restore(slots: impl IntoIterator<Item = (i64, Bytes)>) -> Option<Self> {
        let mut log = Self::default();
        for (start, bytes) in slots {
            log.packed.insert(start, DeflatedRecords::of(Written(bytes).records(start)?));
        }
        Some(log)
    }

    /// First seconds of all slots, with the bytes of those that have changed since they were last taken, or of `all`.
    pub(crate) fn take(&mut self, all: bool) -> impl Iterator<Item = (i64, Option<PartBytes>)> {
        let touched = std::mem::take(&mut self.touched);
        let ready = self.ready.keys().map(|second| slot(*second));
        let starts: BTreeSet<i64> = ready.chain(self.packed.keys().copied()).collect();
        starts.into_iter().map(move |start| {
            let packed = || self.packed.get(&start).cloned().map(PartBytes::Records);
            let ready = || Some(PartBytes::Plain(records(self.ready.range(span(start)))?.concat().into()));
            let bytes = || packed().or_else(ready);
            let wanted = all || touched.contains(&start);
            (start, wanted.then(bytes).flatten())
        })
    }

    pub(crate) fn insert(&mut self, second: i64, fact: WindowFact) {
        self.change(second);
        self.ready.entry(second).or_default().push(fact);
    }

    pub(crate) fn remove(&mut self, second: i64, request_id: i64) {
        self.change(second);
        if let Some(facts) = self.ready.get_mut(&second) {
            facts.retain(|fact| fact.request_id != request_id);
            if facts.is_empty() {
                self.ready.remove(&second);
            }
        }
    }

    /// Makes the slot of a second ready to be changed.
    fn change(&mut self, second: i64) {
        let start = slot(second);
        self.touched.insert(start);
        self.opened.retain(|(opened, _)| *opened != start);
        if let Some(packed) = self.packed.remove(&start) {
            Written(packed.bytes()).each(&span(start), |second, facts| {
                self.ready.insert(second, facts);
            });
        }
    }

    /// Packs the slots that ended at or before a second.
    pub(crate) fn pack_before(&mut self, second: i64) {
        while let Some(start) = self.ready.first_key_value().map(|(first, _)| slot(*first))
            && start + SLOT_SECONDS <= second
            && let Some(records) = records(self.ready.range(span(start)))
        {
            self.packed.insert(start, DeflatedRecords::of(records));
            let_go_before(&mut self.ready, start + SLOT_SECONDS);
        }
    }

    /// Lets go of the slots that ended before a second, and of the facts before it that are ready.
    pub(crate) fn forget_before(&mut self, second: i64) {
        let_go_before(&mut self.ready, second);
        let_go_before(&mut self.packed, slot(second));
    }

    /// Takes the facts of a span out.
    pub(crate) fn cut(&mut self, span: Range<i64>) {
        // Slots across the ends stay in part.
        for second in [span.start, span.end] {
            self.change(second);
        }
        let packed: Vec<i64> = self.packed.range(span.clone()).map(|(start, _)| *start).collect();
        for start in packed {
            self.packed.remove(&start);
            self.touched.insert(start);
        }
        let ready: Vec<i64> = self.ready.range(span).map(|(second, _)| *second).collect();
        for second in ready {
            self.ready.remove(&second);
            self.touched.insert(slot(second));
        }
    }

    /// Every fact of a span, with its second.
    pub(crate) fn each(&mut self, span: Range<i64>, mut act: impl FnMut(i64, &WindowFact)) {
        // An empty span may come reversed when a clock was set back.
        if span.is_empty() {
            return;
        }
        let mut each = |second, facts: &[WindowFact]| facts.iter().for_each(|fact| act(second, fact));
        for (start, packed) in self.packed.range(slot(span.start)..span.end) {
            let opened = self.opened.iter().position(|(opened, _)| opened == start);
            let opened = opened.and_then(|at| self.opened.remove(at));
            let written = opened.map_or_else(|| Written(packed.bytes()), |(_, written)| written);
            written.each(&span, |second, facts| each(second, &facts));
            // The edge of a window passes a slot in many steps.
            if span.end < start + SLOT_SECONDS {
                self.opened.truncate(OPENED - 1);
                self.opened.push_front((*start, written));
            }
        }
        for (second, facts) in self.ready.range(span) {
            each(*second, facts);
        }
    }
}

/// Lets go of what lies before a key. Not `split_off`: it counts what stays, which is much more.
fn let_go_before<T>(map: &mut BTreeMap<i64, T>, key: i64) {
    while map.first_key_value().is_some_and(|(first, _)| *first < key) {
        map.pop_first();
    }
}

const fn slot(second: i64) -> i64 {
    second - second.rem_euclid(SLOT_SECONDS)
}

const fn span(start: i64) -> Range<i64> {
    start..start + SLOT_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(log: &mut Log, span: Range<i64>) -> Vec<i64> {
        let mut ids = Vec::new();
        log.each(span, |_, fact| ids.push(fact.request_id));
        ids
    }

    #[test]
    fn what_comes_late_into_a_slot_that_an_edge_passes_is_passed_as_well() {
        let mut log = Log::default();
        (0..SLOT_SECONDS).for_each(|second| log.insert(second, WindowFact::bare(second)));
        log.pack_before(SLOT_SECONDS);
        assert_eq!(passed(&mut log, 0..5), [0, 1, 2, 3, 4]);
        log.insert(7, WindowFact::bare(1007));
        log.remove(8, 8);
        log.pack_before(SLOT_SECONDS);
        assert_eq!(passed(&mut log, 5..10), [5, 6, 7, 1007, 9]);
        assert_eq!(passed(&mut log, 10..SLOT_SECONDS + 1).len(), 590);
    }
}
