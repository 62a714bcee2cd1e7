//! Records that are alike, deflated in columns.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Deflated;

/// Bytes of the longest number: one of 128 bits.
const LONGEST: usize = 19;

/// Records of numbers as postcard writes them, kept for long and seldom looked at. What is at the same place in each of
/// them, lies together byte by byte: that deflates to a third of what whole rows do where the numbers follow a rule, and
/// to three quarters where they follow none.
#[derive(Clone, Debug)]
pub struct DeflatedRecords(Deflated);

#[derive(Default, Serialize, Deserialize)]
struct Columns {
    /// How many numbers each record has.
    numbers: Vec<usize>,
    /// By the place of a number in its record, and of a byte in its number.
    bytes: Vec<Vec<u8>>,
}

impl DeflatedRecords {
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut columns = Columns::default();
        for record in records {
            columns.add(record);
        }
        Self(Deflated::of(&postcard::to_stdvec(&columns).expect("a Vec takes every write")))
    }

    /// The records one after the other.
    pub(crate) fn bytes(&self) -> Bytes {
        let columns: Columns = postcard::from_bytes(&self.0.bytes()).expect("it was written here");
        columns.joined().into()
    }
}

impl Columns {
    fn add(&mut self, record: &[u8]) {
        let mut numbers = 0;
        for number in record.split_inclusive(|byte| is_last(*byte)) {
            let first = numbers * LONGEST;
            numbers += 1;
            if self.bytes.len() < first + LONGEST {
                self.bytes.resize(first + LONGEST, Vec::new());
            }
            self.bytes[first..].iter_mut().zip(number).for_each(|(column, byte)| column.push(*byte));
        }
        self.numbers.push(numbers);
    }

    fn joined(&self) -> Vec<u8> {
        let mut columns: Vec<_> = self.bytes.iter().map(|column| column.iter().copied()).collect();
        let mut joined = Vec::with_capacity(self.bytes.iter().map(Vec::len).sum());
        for numbers in &self.numbers {
            for number in columns.chunks_mut(LONGEST).take(*numbers) {
                for byte in number.iter_mut().map_while(Iterator::next) {
                    joined.push(byte);
                    if is_last(byte) {
                        break;
                    }
                }
            }
        }
        joined
    }
}

/// Whether a number ends with this byte.
const fn is_last(byte: u8) -> bool {
    byte < 0x80
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back_as_they_were(
            records in prop::collection::vec(prop::collection::vec(any::<(i128, Option<u32>, bool)>(), 0..4), 0..20),
        ) {
            let records: Vec<Vec<u8>> = records.iter().map(|it| postcard::to_stdvec(it).unwrap()).collect();
            let packed = DeflatedRecords::of(records.iter().map(Vec::as_slice));
            prop_assert_eq!(&packed.bytes()[..], records.concat());
        }
    }
}
