//! Records that are alike, deflated in columns.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use super::Deflated;

/// Bytes of the longest number: one of 128 bits.
const LONGEST: usize = 19;

/// Records of numbers as postcard writes them, kept for long and seldom looked at. What is at the same place in each of
/// them, lies together byte by byte: that deflates to a third of what whole rows do where the numbers follow a rule, and
/// to three quarters where they follow none.
#[derive(Clone, Debug)]
pub struct DeflatedRecords(Deflated);

#[derive(Serialize, Deserialize)]
struct Columns<'a> {
    /// How many numbers each record has.
    numbers: Vec<usize>,
    /// Of each column: by the place of a number in its record, and of a byte in its number.
    lengths: Vec<usize>,
    /// All columns.
    #[serde(serialize_with = "at_once")]
    bytes: &'a [u8],
}

/// Not byte by byte.
fn at_once<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

impl DeflatedRecords {
    pub(crate) fn of(records: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let (mut numbers, mut columns) = (Vec::new(), Vec::new());
        for record in records {
            numbers.push(add(&mut columns, record.as_ref()));
        }
        let columns = Columns { numbers, lengths: columns.iter().map(Vec::len).collect(), bytes: &columns.concat() };
        Self(Deflated::of(&postcard::to_stdvec(&columns).expect("a Vec takes every write")))
    }

    /// The records one after the other.
    pub(crate) fn bytes(&self) -> Bytes {
        let inflated = self.0.bytes();
        let Columns { numbers, lengths, bytes } = postcard::from_bytes(&inflated).expect("it was written here");
        let mut rest = bytes;
        let mut columns: Vec<&[u8]> = lengths.into_iter().filter_map(|length| rest.split_off(..length)).collect();
        let mut joined = Vec::with_capacity(bytes.len());
        for count in numbers {
            columns.chunks_mut(LONGEST).take(count).for_each(|number| take(number, &mut joined));
        }
        joined.into()
    }
}

/// Adds a record to the columns; returns how many numbers it has.
fn add(columns: &mut Vec<Vec<u8>>, record: &[u8]) -> usize {
    let (mut count, mut at) = (0, 0);
    for byte in record {
        if columns.len() <= at {
            columns.resize((count + 1) * LONGEST, Vec::new());
        }
        columns[at].push(*byte);
        at += 1;
        if is_last(*byte) {
            count += 1;
            at = count * LONGEST;
        }
    }
    count
}

/// Takes one number from its columns.
fn take(columns: &mut [&[u8]], joined: &mut Vec<u8>) {
    for column in columns {
        let byte = *column.split_off_first().expect("a number has its last byte");
        joined.push(byte);
        if is_last(byte) {
            return;
        }
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
            let packed = DeflatedRecords::of(&records);
            prop_assert_eq!(&packed.bytes()[..], records.concat());
        }
    }
}
