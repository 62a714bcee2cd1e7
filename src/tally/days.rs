//! The sums of each local day that boards and quotas may need.
//!
//! Today changes all the time, and another day for as long as its rows still come or are read; then it is only added up,
//! when a week or a month begins anew. A day of 15 000 entities takes 2 MB to work with and a sixth as it is written down
//! and deflated, so a day that rests lies packed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeFrom;

use bytes::Bytes;
use chrono::NaiveDate;

use super::sums::{BoardSums, Sums};
use crate::parts::{Deflated, PartBytes};

/// Days by date. One is ready or packed, never both.
#[derive(Debug, Default)]
pub(crate) struct Daily {
    ready: BTreeMap<NaiveDate, BoardSums>,
    packed: BTreeMap<NaiveDate, Packed>,
    /// Those that have changed since they were last taken.
    touched: BTreeSet<NaiveDate>,
    /// Those that have changed since [`Self::pack_before`].
    changed: BTreeSet<NaiveDate>,
}

#[derive(Debug)]
struct Packed {
    whole: Sums,
    day: Deflated,
}

impl Packed {
    fn of(day: &BoardSums) -> Option<Self> {
        Some(Self { whole: day.whole.clone(), day: Deflated::of(&written(day)?) })
    }

    fn unpacked(&self) -> Option<BoardSums> {
        understood(&self.day.bytes())
    }
}

impl Daily {
    /// What [`Self::take`] wrote down; `None` when a day cannot be understood. All are packed: five weeks of a large
    /// relay, ready at once, would take as much memory as all else.
    pub(crate) fn restore(days: impl IntoIterator<Item = (NaiveDate, Bytes)>) -> Option<Self> {
        let packed = |(date, bytes): (NaiveDate, Bytes)| {
            Some((date, Packed { whole: understood(&bytes)?.whole, day: Deflated::of(&bytes) }))
        };
        Some(Self { packed: days.into_iter().map(packed).collect::<Option<_>>()?, ..Self::default() })
    }

    /// All days, with the bytes of those that have changed since they were last taken, or of `all`.
    pub(crate) fn take(&mut self, all: bool) -> impl Iterator<Item = (NaiveDate, Option<PartBytes>)> {
        let touched = std::mem::take(&mut self.touched);
        let dates: BTreeSet<NaiveDate> = self.ready.keys().chain(self.packed.keys()).copied().collect();
        dates.into_iter().map(move |date| {
            let packed = || self.packed.get(&date).map(|it| PartBytes::Deflated(it.day.clone()));
            let bytes = || packed().or_else(|| Some(Bytes::from(written(self.ready.get(&date)?)?).into()));
            let wanted = all || touched.contains(&date);
            (date, wanted.then(bytes).flatten())
        })
    }

    /// A day that has not been packed.
    pub(crate) fn ready(&self, date: NaiveDate) -> Option<&BoardSums> {
        self.ready.get(&date)
    }

    /// All of a day; nothing where there was nothing.
    pub(crate) fn whole(&self, date: NaiveDate) -> Sums {
        let ready = self.ready.get(&date).map(|day| &day.whole);
        ready.or_else(|| self.packed.get(&date).map(|it| &it.whole)).cloned().unwrap_or_default()
    }

    /// The day, ready to be changed.
    pub(crate) fn entry(&mut self, date: NaiveDate) -> &mut BoardSums {
        self.touched.insert(date);
        self.changed.insert(date);
        let packed = self.packed.remove(&date);
        self.ready.entry(date).or_insert_with(|| packed.and_then(|it| it.unpacked()).unwrap_or_default())
    }

    pub(crate) fn remove(&mut self, date: NaiveDate) -> Option<BoardSums> {
        let packed = self.packed.remove(&date);
        self.ready.remove(&date).or_else(|| packed?.unpacked())
    }

    /// The days that are not packed, to be changed.
    pub(crate) fn all_ready(&mut self) -> impl Iterator<Item = &mut BoardSums> {
        self.touched.extend(self.ready.keys());
        self.ready.values_mut()
    }

    /// The boards of every day of a span.
    pub(crate) fn boards(&self, span: RangeFrom<NaiveDate>, mut act: impl FnMut(NaiveDate, &BoardSums)) {
        let packed = self.packed.range(span.clone()).filter_map(|(date, it)| Some((date, it.unpacked()?)));
        packed.for_each(|(date, day)| act(*date, &day));
        self.ready.range(span).for_each(|(date, day)| act(*date, day));
    }

    pub(crate) fn forget_before(&mut self, date: NaiveDate) {
        self.ready = self.ready.split_off(&date);
        self.packed = self.packed.split_off(&date);
    }

    /// Makes the days since a date ready: they may be packed when the clock was set back.
    pub(crate) fn unpack_since(&mut self, date: NaiveDate) {
        let since = self.packed.split_off(&date);
        self.ready.extend(since.into_iter().filter_map(|(date, it)| Some((date, it.unpacked()?))));
    }

    /// Packs the days before a date that have not changed since the last time.
    pub(crate) fn pack_before(&mut self, date: NaiveDate) {
        let changed = std::mem::take(&mut self.changed);
        self.ready.retain(|it, day| {
            if *it >= date || changed.contains(it) {
                return true;
            }
            let Some(packed) = Packed::of(day) else { return true };
            self.packed.insert(*it, packed);
            false
        });
    }
}

fn written(day: &BoardSums) -> Option<Vec<u8>> {
    postcard::to_stdvec(day).ok()
}

fn understood(bytes: &[u8]) -> Option<BoardSums> {
    match postcard::take_from_bytes(bytes) {
        Ok((day, [])) => Some(day),
        _ => None,
    }
}
