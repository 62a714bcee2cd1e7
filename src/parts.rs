//! State cut into parts, to be written down and taken up again: a key and its bytes each.
//!
//! The bytes are postcard's, which do not describe themselves: whatever changes the shape of a written type must raise
//! [`crate::store::FORMAT`].

mod records;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use records::DeflatedRecords;

/// A part that exists: its bytes, or `None` where nothing in it has changed since the last time.
pub(crate) type Part = (String, Option<PartBytes>);

/// The bytes of a part. Those that lie deflated are inflated one after the other, as they are written.
#[derive(Clone, Debug)]
pub enum PartBytes {
    /// As they are.
    Plain(Bytes),
    /// Packed.
    Deflated(Deflated),
    /// Packed as records.
    Records(DeflatedRecords),
}

impl PartBytes {
    /// The bytes as they are written down.
    pub fn get(&self) -> Bytes {
        match self {
            Self::Plain(bytes) => bytes.clone(),
            Self::Deflated(packed) => packed.bytes(),
            Self::Records(packed) => packed.bytes(),
        }
    }
}

impl From<Bytes> for PartBytes {
    fn from(bytes: Bytes) -> Self {
        Self::Plain(bytes)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error("the part {0:?} is missing")]
    Missing(String),
    #[error("the part {0:?} cannot be understood")]
    Unreadable(String),
    #[error("the part {0:?} cannot be written")]
    Unwritable(String),
}

/// What has been written, in no more memory than it takes: the vector may have grown to twice of it.
pub(crate) fn into_exact_bytes(bytes: Vec<u8>) -> Bytes {
    bytes.into_boxed_slice().into()
}

/// Bytes that are kept for long and seldom looked at.
#[derive(Clone, Debug)]
pub struct Deflated(Bytes);

impl Deflated {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        const TAKES_ALL: &str = "a Vec takes every write";
        // The level below has no codes of its own for what it packs: sums of a day would hardly shrink.
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(2));
        encoder.write_all(bytes).expect(TAKES_ALL);
        Self(into_exact_bytes(encoder.finish().expect(TAKES_ALL)))
    }

    /// What it was made of.
    pub(crate) fn bytes(&self) -> Bytes {
        let mut bytes = Vec::new();
        DeflateDecoder::new(&*self.0).read_to_end(&mut bytes).expect("it was deflated here");
        bytes.into()
    }
}

/// A part with its bytes.
///
/// # Errors
/// When the value cannot be written.
pub(crate) fn encoded(key: &str, value: &impl Serialize) -> Result<Part, PartError> {
    let bytes = postcard::to_stdvec(value).map_err(|_| PartError::Unwritable(key.to_owned()))?;
    Ok((key.to_owned(), Some(Bytes::from(bytes).into())))
}

/// The value of a part.
///
/// # Errors
/// When the part is missing, cannot be understood, or has bytes to spare.
pub(crate) fn decoded<T: DeserializeOwned>(parts: &BTreeMap<String, Bytes>, key: &str) -> Result<T, PartError> {
    let bytes = parts.get(key).ok_or_else(|| PartError::Missing(key.to_owned()))?;
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(PartError::Unreadable(key.to_owned())),
    }
}
