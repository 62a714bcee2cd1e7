//! The last day of facts by second.

use std::collections::{BTreeMap, BTreeSet};

use super::sums::Fact;

/// Seconds of facts that are kept: a local day may have 25 hours, and the clock may be set back by one.
pub const KEPT_SECONDS: i64 = 26 * 3600;
/// Seconds of facts that are written down together.
const SLOT_SECONDS: i64 = 600;

/// Facts by the second in which their requests started.
#[derive(Clone, Debug, Default)]
pub struct Log {
    seconds: BTreeMap<i64, Vec<Fact>>,
    /// First seconds of the slots that have changed since they were last taken.
    touched: BTreeSet<i64>,
}

/// The facts of one slot by second, as they were written down.
pub type Slot = Vec<(i64, Vec<Fact>)>;

/// The same, to be written down.
pub type SlotRef<'a> = Vec<(i64, &'a [Fact])>;

impl Log {
    pub fn restore(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self { seconds: slots.into_iter().flatten().collect(), touched: BTreeSet::new() }
    }

    /// First seconds of all slots, with the facts of those that have changed since they were last taken, or of `all`.
    pub fn take(&mut self, all: bool) -> impl Iterator<Item = (i64, Option<SlotRef<'_>>)> {
        let touched = std::mem::take(&mut self.touched);
        let seconds = &self.seconds;
        let mut from = i64::MIN;
        std::iter::from_fn(move || {
            let (second, _) = seconds.range(from..).next()?;
            let start = slot(*second);
            from = start + SLOT_SECONDS;
            // One slot at a time, and not a copy: a day of facts is most of what the exporter has.
            let facts = || seconds.range(start..from).map(|(second, facts)| (*second, &**facts)).collect();
            Some((start, (all || touched.contains(&start)).then(facts)))
        })
    }

    pub fn insert(&mut self, second: i64, fact: Fact) {
        self.touched.insert(slot(second));
        let facts = self.seconds.entry(second).or_default();
        if facts.len() == facts.capacity() {
            // Most seconds have one fact or a few: room for four of them, as a vector takes it, is most of a day's memory.
            facts.reserve_exact(1 + facts.len() / 4);
        }
        facts.push(fact);
    }

    pub fn remove(&mut self, second: i64, request_id: i64) {
        if let Some(facts) = self.seconds.get_mut(&second) {
            facts.retain(|fact| fact.request_id != request_id);
            self.touched.insert(slot(second));
            if facts.is_empty() {
                self.seconds.remove(&second);
            }
        }
    }

    pub fn forget_before(&mut self, second: i64) {
        // Not `split_off`: it counts what stays, a day of facts, on every refresh.
        while self.seconds.first_key_value().is_some_and(|(first, _)| *first < second) {
            self.seconds.pop_first();
        }
    }

    /// Takes the facts of a span out.
    pub fn cut(&mut self, span: std::ops::Range<i64>) {
        self.touched.extend(self.seconds.range(span.clone()).map(|(second, _)| slot(*second)));
        let mut tail = self.seconds.split_off(&span.start);
        let mut after = tail.split_off(&span.end);
        self.seconds.append(&mut after);
    }

    pub fn range(&self, span: std::ops::Range<i64>) -> impl Iterator<Item = &Fact> {
        // An empty span may come reversed when a clock was set back.
        let end = span.end.max(span.start);
        self.seconds.range(span.start..end).flat_map(|(_, facts)| facts)
    }

    pub fn since(&self, second: i64) -> impl Iterator<Item = &Fact> {
        self.seconds.range(second..).flat_map(|(_, facts)| facts)
    }
}

const fn slot(second: i64) -> i64 {
    second - second.rem_euclid(SLOT_SECONDS)
}
