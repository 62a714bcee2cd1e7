//! Which requests the counters have, by id: each is counted once in its life, however often its row is read.
//!
//! Ids are dense, so a set of them is a bitmap: an eighth of a byte per id at worst, some bytes per chunk where none is
//! missing. A chunk is written down by itself when it has changed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use roaring::RoaringBitmap;

use crate::parts::{PartBytes, into_exact_bytes};

/// Ids of one chunk: the low bits.
const CHUNK_BITS: u32 = 16;

/// A set of request ids.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// By the high bits. None is empty.
    chunks: BTreeMap<i64, RoaringBitmap>,
    /// Those that have changed since they were last taken.
    touched: BTreeSet<i64>,
}

impl Counted {
    /// What [`Self::take`] wrote down; `None` when a chunk cannot be understood.
    pub(crate) fn restore(chunks: impl IntoIterator<Item = (i64, Bytes)>) -> Option<Self> {
        let chunk = |(chunk, bytes): (i64, Bytes)| {
            let ids = RoaringBitmap::deserialize_from(&bytes[..]).ok()?;
            ids.max().is_none_or(|last| last < 1 << CHUNK_BITS).then_some((chunk, ids))
        };
        Some(Self { chunks: chunks.into_iter().map(chunk).collect::<Option<_>>()?, ..Self::default() })
    }

    /// All chunks, with the bytes of those that have changed since they were last taken, or of `all`.
    pub(crate) fn take(&mut self, all: bool) -> impl Iterator<Item = (i64, Option<PartBytes>)> {
        let touched = std::mem::take(&mut self.touched);
        self.chunks.iter_mut().map(move |(chunk, ids)| {
            let wanted = all || touched.contains(chunk);
            (*chunk, wanted.then(|| written(ids).into()))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(crate) fn contains(&self, id: i64) -> bool {
        let (chunk, low) = split(id);
        self.chunks.get(&chunk).is_some_and(|ids| ids.contains(low))
    }

    /// Tells whether it was not there.
    pub(crate) fn insert(&mut self, id: i64) -> bool {
        let (chunk, low) = split(id);
        let is_new = self.chunks.entry(chunk).or_default().insert(low);
        if is_new {
            self.touched.insert(chunk);
        }
        is_new
    }

    /// Tells whether it was there.
    pub(crate) fn remove(&mut self, id: i64) -> bool {
        let (chunk, low) = split(id);
        let Some(ids) = self.chunks.get_mut(&chunk) else { return false };
        let was_there = ids.remove(low);
        if was_there {
            self.touched.insert(chunk);
        }
        if ids.is_empty() {
            self.chunks.remove(&chunk);
        }
        was_there
    }

    /// Moves what is greater than an id to another set.
    pub(crate) fn move_above(&mut self, id: i64, to: &mut Self) {
        let (chunk, _) = split(id);
        let above: Vec<i64> = self
            .chunks
            .range(chunk..)
            .flat_map(|(chunk, ids)| ids.iter().map(|low| join(*chunk, low)))
            .filter(|it| *it > id)
            .collect();
        for id in above {
            self.remove(id);
            to.insert(id);
        }
    }
}

const fn split(id: i64) -> (i64, u32) {
    (id >> CHUNK_BITS, (id & ((1 << CHUNK_BITS) - 1)) as u32)
}

const fn join(chunk: i64, low: u32) -> i64 {
    (chunk << CHUNK_BITS) | low as i64
}

fn written(ids: &mut RoaringBitmap) -> Bytes {
    ids.optimize();
    let mut bytes = Vec::with_capacity(ids.serialized_size());
    // A vector takes everything.
    let _ = ids.serialize_into(&mut bytes);
    into_exact_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_set_of_ids_that_survives_being_written_chunk_by_chunk(
            steps in prop::collection::vec((prop_oneof![-3..70_000_i64, 65_530..65_540_i64, any::<i64>()], 0..8_u8), 0..200),
        ) {
            let (mut set, mut plain) = (Counted::default(), BTreeSet::new());
            let (mut moved, mut plainly_moved) = (Counted::default(), BTreeSet::new());
            let mut saved: BTreeMap<i64, Bytes> = BTreeMap::new();
            for (id, step) in steps {
                match step {
                    0 => prop_assert_eq!(set.remove(id), plain.remove(&id)),
                    1 => {
                        set.move_above(id, &mut moved);
                        plainly_moved.extend(plain.range(id..).copied().filter(|it| *it > id));
                        plain.retain(|it| *it <= id);
                    }
                    2 => {
                        let parts: Vec<_> = set.take(saved.is_empty()).collect();
                        saved.retain(|chunk, _| parts.iter().any(|(it, _)| it == chunk));
                        saved.extend(parts.into_iter().filter_map(|(chunk, bytes)| Some((chunk, bytes?.get()))));
                        set = Counted::restore(saved.clone()).unwrap();
                    }
                    _ => prop_assert_eq!(set.insert(id), plain.insert(id)),
                }
                prop_assert!(plain.iter().all(|id| set.contains(*id)));
                prop_assert!(plainly_moved.iter().all(|id| moved.contains(*id)));
                prop_assert_eq!(set.contains(id), plain.contains(&id));
                let count = |set: &Counted| set.chunks.values().map(RoaringBitmap::len).sum::<u64>();
                prop_assert_eq!((count(&set), count(&moved)), (plain.len() as u64, plainly_moved.len() as u64));
            }
        }
    }

    #[test]
    fn ten_million_ids_take_a_few_kilobytes_and_a_third_of_them_two_megabytes() {
        let bytes = |step: usize| {
            let mut set = Counted::default();
            (1..=10_000_000_i64).rev().step_by(step).for_each(|id| {
                set.insert(id);
            });
            set.take(true).filter_map(|(_, bytes)| bytes).map(|bytes| bytes.get().len()).sum::<usize>()
        };
        assert!(bytes(1) < 10_000, "{}", bytes(1));
        assert!(bytes(3) < 2_000_000, "{}", bytes(3));
    }
}
