//! Positions for rows that have no number: the hour of the start, and behind it the order in which the rows of that hour
//! were first seen.
//!
//! A row is told by its start and its id, of which eight bytes are remembered, by the hour. Positions of an hour have no
//! gaps, so that a set of them stays small; and when the rows of an hour that has been let go of are numbered anew, as
//! many of them are known as there were.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::parts::{Part, PartError, decoded, encoded};

/// Bits for the rows of one hour: 4600 in a second.
const ORDINAL_BITS: u32 = 24;
/// Rows are told apart for so many hours, however many they are.
const KEPT_HOURS: i64 = 50;
/// For longer, while they are no more than so many: eight megabytes.
const KEPT_ROWS: usize = 1 << 20;

const MARKS: &str = "positions";
const HOUR: &str = "positions/";

/// What tells a row from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowKey {
    pub start: NaiveDateTime,
    pub id: String,
}

impl RowKey {
    fn hash(&self) -> u64 {
        let millis = self.start.and_utc().timestamp_millis();
        let digest: [u8; 32] =
            Sha256::new().chain_update(millis.to_le_bytes()).chain_update(&self.id).finalize().into();
        digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }

    pub(super) fn hour(&self) -> i64 {
        hour_at(self.start)
    }
}

/// Hours since 1970.
pub(super) fn hour_at(at: NaiveDateTime) -> i64 {
    at.and_utc().timestamp().div_euclid(3600)
}

/// When an hour begins.
pub(super) fn start_of(hour: i64) -> NaiveDateTime {
    DateTime::UNIX_EPOCH.naive_utc() + TimeDelta::hours(hour)
}

/// The hour of a position.
pub(super) const fn hour_of(position: i64) -> i64 {
    position >> ORDINAL_BITS
}

/// The first position of an hour.
pub(super) const fn first_of(hour: i64) -> i64 {
    hour << ORDINAL_BITS
}

/// One hour's rows.
#[derive(Debug, Default)]
struct Hour {
    /// By position.
    hashes: Vec<u64>,
    /// So many of them were there when the reading of the past began, or came to this hour.
    history: usize,
    /// Rows that the store had at the last look.
    present: usize,
    /// Made when it is needed.
    index: Option<HashMap<u64, usize>>,
}

impl Hour {
    fn find(&mut self, hash: u64) -> Option<usize> {
        let hashes = &self.hashes;
        let index = self.index.get_or_insert_with(|| hashes.iter().enumerate().map(|(at, hash)| (*hash, at)).collect());
        index.get(&hash).copied()
    }

    fn push(&mut self, hash: u64) -> usize {
        self.hashes.push(hash);
        if let Some(index) = &mut self.index {
            index.insert(hash, self.hashes.len() - 1);
        }
        self.hashes.len() - 1
    }

    fn written(&self) -> Bytes {
        let head = [self.history as u64, self.present as u64];
        head.iter().chain(&self.hashes).flat_map(|number| number.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map(u64::from_le_bytes).ok());
        let mut numbers = numbers.collect::<Option<Vec<u64>>>()?.into_iter();
        let mut count = || usize::try_from(numbers.next()?).ok();
        let (history, present) = (count()?, count()?);
        Some(Self { hashes: numbers.collect(), history, present, index: None })
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Marks {
    /// From this hour on every row that has been seen is remembered.
    lowest: i64,
    /// Nothing before this hour will be: the last that was let go of is the one before it.
    least: i64,
    /// The greatest position given.
    top: i64,
}

/// The positions that have been given.
#[derive(Debug, Default)]
pub(super) struct Positions {
    hours: BTreeMap<i64, Hour>,
    marks: Marks,
    /// What was given since the last [`Self::keep`]: what each hour had before.
    given: BTreeMap<i64, (usize, usize)>,
    marks_before: Marks,
    /// Hours that have changed since they were last written.
    touched: BTreeSet<i64>,
}

impl Positions {
    /// Without any, from an hour on.
    pub(super) fn since(hour: i64) -> Self {
        // Below every position of that hour.
        let marks = Marks { lowest: hour, least: i64::MIN, top: first_of(hour) - 1 };
        Self { marks, marks_before: marks, ..Self::default() }
    }

    pub(super) const fn lowest(&self) -> i64 {
        self.marks.lowest
    }

    pub(super) const fn top(&self) -> i64 {
        self.marks.top
    }

    /// A row's position, if it has one.
    pub(super) fn find(&mut self, key: &RowKey) -> Option<i64> {
        let hour = key.hour();
        self.hours.get_mut(&hour)?.find(key.hash()).map(|at| position(hour, at))
    }

    /// Gives a row a position that has none. `None` when its hour is full.
    pub(super) fn give(&mut self, key: &RowKey) -> Option<i64> {
        let hour = key.hour();
        let it = self.hours.entry(hour).or_default();
        self.given.entry(hour).or_insert((it.hashes.len(), it.present));
        if it.hashes.len() >> ORDINAL_BITS > 0 {
            return None;
        }
        let position = position(hour, it.push(key.hash()));
        it.present += 1;
        self.marks.top = self.marks.top.max(position);
        self.touched.insert(hour);
        Some(position)
    }

    /// Rows that the store should have of an hour, as far as is known.
    pub(super) fn present(&self, hour: i64) -> usize {
        self.hours.get(&hour).map_or(0, |it| it.present)
    }

    /// The same of a span of hours, whose last is excluded.
    pub(super) fn rows_in(&self, hours: std::ops::Range<i64>) -> usize {
        self.hours.range(hours).map(|(_, it)| it.present).sum()
    }

    /// The store has so many rows of an hour, all of which have positions.
    pub(super) fn note_present(&mut self, hour: i64, rows: usize) {
        if let Some(it) = self.hours.get_mut(&hour) {
            it.present = rows;
            self.touched.insert(hour);
        }
    }

    /// Whether the row at a position was there when the reading of the past began.
    pub(super) fn is_history(&self, at: i64) -> bool {
        self.hours.get(&hour_of(at)).is_some_and(|it| at < position(hour_of(at), it.history))
    }

    /// All rows so far are of the past.
    pub(super) fn begin(&mut self) {
        for (hour, it) in &mut self.hours {
            it.history = it.hashes.len();
            self.touched.insert(*hour);
        }
    }

    /// The reading of the past has come to hours before all others; what has a position there is of the past.
    pub(super) fn open(&mut self, hours: std::ops::Range<i64>) {
        if hours.is_empty() {
            return;
        }
        // The reading goes on below what has been let go of meanwhile.
        self.marks.lowest = self.marks.lowest.min(hours.start).max(self.marks.least);
        for (hour, it) in self.hours.range_mut(hours) {
            it.history = it.hashes.len();
            self.touched.insert(*hour);
        }
    }

    /// What was given has been read. At `now`, lets go of what is too much.
    pub(super) fn keep(&mut self, now: NaiveDateTime) {
        self.given.clear();
        let needed = hour_at(now) - KEPT_HOURS;
        let mut rows: usize = self.hours.values().map(|it| it.hashes.len()).sum();
        while rows > KEPT_ROWS
            && let Some(first) = self.hours.first_entry().filter(|first| *first.key() < needed)
        {
            self.marks.least = self.marks.least.max(first.key() + 1);
            rows -= first.remove().hashes.len();
        }
        self.marks.lowest = self.marks.lowest.max(self.marks.least);
        for it in self.hours.range_mut(..hour_at(now) - 1).map(|(_, it)| it) {
            it.index = None;
        }
        self.marks_before = self.marks;
    }

    /// What was given since the last [`Self::keep`] has not been read.
    pub(super) fn take_back(&mut self) {
        for (hour, (rows, present)) in std::mem::take(&mut self.given) {
            if let Some(it) = self.hours.get_mut(&hour) {
                it.hashes.truncate(rows);
                it.present = present;
                it.index = None;
            }
        }
        self.marks = self.marks_before;
    }

    /// What was given but not read is none of them: a checkpoint may follow a refresh that has failed.
    pub(super) fn parts(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        self.take_back();
        let mut parts = vec![encoded(MARKS, &self.marks)?];
        let touched = std::mem::take(&mut self.touched);
        parts.extend(self.hours.iter().map(|(hour, it)| {
            let wanted = all || touched.contains(hour);
            (format!("{HOUR}{hour}"), wanted.then(|| it.written().into()))
        }));
        Ok(parts)
    }

    /// # Errors
    /// When a part is missing or cannot be understood.
    pub(super) fn restored(parts: &BTreeMap<String, Bytes>) -> Result<Self, PartError> {
        let marks: Marks = decoded(parts, MARKS)?;
        let hours = parts.iter().filter_map(|(name, bytes)| Some((name, name.strip_prefix(HOUR)?, bytes)));
        let hours = hours.map(|(name, hour, bytes)| {
            let read = hour.parse().ok().zip(Hour::read(bytes));
            read.ok_or_else(|| PartError::Unreadable(name.clone()))
        });
        Ok(Self { hours: hours.collect::<Result<_, _>>()?, marks, marks_before: marks, ..Self::default() })
    }
}

const fn position(hour: i64, at: usize) -> i64 {
    first_of(hour) + at as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(hour: i64, n: u16) -> RowKey {
        RowKey { start: start_of(hour) + TimeDelta::milliseconds(n.into()), id: n.to_string() }
    }

    #[test]
    fn a_row_takes_eight_bytes_for_fifty_hours_and_longer_while_there_are_few() {
        let mut positions = Positions::since(1000);
        for n in 0..1000 {
            positions.give(&key(1000, n)).unwrap();
        }
        positions.keep(start_of(9000));
        let bytes: usize =
            positions.parts(true).unwrap().iter().flat_map(|(_, bytes)| bytes).map(|bytes| bytes.get().len()).sum();
        assert!(bytes < 8 * 1000 + 100, "{bytes}");
        assert!(positions.parts(false).unwrap().iter().all(|(name, bytes)| name == MARKS || bytes.is_none()));
        let many = Hour { hashes: vec![0; KEPT_ROWS], ..Hour::default() };
        positions.hours.insert(9000, many);
        positions.keep(start_of(9001));
        assert_eq!((positions.lowest(), positions.find(&key(1000, 1))), (1001, None));
    }

    #[test]
    fn what_was_let_go_of_while_the_past_is_read_backwards_is_not_taken_for_new() {
        let mut positions = Positions::since(9000);
        for hour in [8000, 7990, 7980] {
            positions.give(&key(hour, 1)).unwrap();
            positions.hours.get_mut(&hour).unwrap().hashes.resize(KEPT_ROWS + 1, 0);
            positions.open(hour..positions.lowest());
            positions.keep(start_of(9001));
            assert!(positions.find(&key(hour, 1)).is_none() && hour < positions.lowest(), "{hour}");
        }
        assert!(8000 < positions.lowest(), "{}", positions.lowest());
    }

    proptest! {
        #[test]
        fn a_row_has_one_position_of_its_own_but_what_was_not_read_has_none(
            steps in prop::collection::vec((1000_i64..1004, 0_u16..200, 0..12_u8), 1..300),
        ) {
            let mut positions = Positions::since(1000);
            let (mut kept, mut given): (BTreeMap<_, i64>, BTreeMap<_, i64>) = Default::default();
            for (hour, n, step) in steps {
                match step {
                    0 => {
                        positions.keep(start_of(1004));
                        kept.append(&mut given);
                    }
                    1 | 2 => {
                        // A refresh has failed; the other time a restart comes before the next.
                        if step == 2 {
                            let parts = positions.parts(true).unwrap();
                            let parts = parts.into_iter().filter_map(|(name, bytes)| Some((name, bytes?.get()))).collect();
                            positions = Positions::restored(&parts).unwrap();
                        } else {
                            positions.take_back();
                        }
                        for (hour, n) in std::mem::take(&mut given).into_keys() {
                            prop_assert_eq!(positions.find(&key(hour, n)), None, "it would never be read");
                        }
                    }
                    _ if positions.find(&key(hour, n)).is_none() => {
                        given.insert((hour, n), positions.give(&key(hour, n)).unwrap());
                    }
                    _ => {}
                }
                for ((hour, n), position) in kept.iter().chain(&given) {
                    prop_assert_eq!(positions.find(&key(*hour, *n)), Some(*position));
                    prop_assert!(*position <= positions.top() && hour_of(*position) == *hour);
                }
                let all: BTreeSet<_> = kept.values().chain(given.values()).collect();
                prop_assert_eq!(all.len(), kept.len() + given.len());
            }
        }
    }
}
