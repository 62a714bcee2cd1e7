//! The relay's error log in numbers. It is read with live state and kept with the ledger, so that what the relay deletes
//! after seven days stays counted in a restart.
//!
//! Entries of the last minute are read again: on MySQL they may become visible out of the order of their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::store::{ErrorEntry, STEP, Session};
use crate::model::{ErrorCount, ReadError, Reason};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::overlap::Overlap;

/// Kinds of entries that are kept apart; the relay's code has 14.
const MOST_KINDS: usize = 50;
const PART: &str = "error_log";

/// What has been counted; a clone is another handle to it.
#[derive(Clone, Default)]
pub(super) struct ErrorLog(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    counted: Counted,
    /// This account may not read the error log, or there is none: no numbers, and nothing else suffers.
    is_closed: bool,
}

/// Entries by type and code, since the oldest that was there at the first read.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Counted {
    overlap: Option<Overlap>,
    /// Up to the overlap.
    settled: BTreeMap<(String, String), u64>,
    /// Entries in the overlap, also those that have been deleted since.
    recent: BTreeSet<ErrorEntry>,
}

impl ErrorLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn catch_up(&self, session: &mut Session, second: i64) -> Result<(), ReadError> {
        if self.state().is_closed {
            return Ok(());
        }
        match self.read(session, second).await {
            Err(error) if matches!(error.reason, Reason::Permission | Reason::Schema) => {
                tracing::warn!(error = error.text, "the error log cannot be counted");
                self.state().is_closed = true;
                Ok(())
            }
            other => other,
        }
    }

    async fn read(&self, session: &mut Session, second: i64) -> Result<(), ReadError> {
        let top = session.top_error().await?;
        let floor = self.state().counted.floor(second, top);
        let (mut entries, mut after) = (Vec::new(), floor);
        while after < top {
            let upto = (after + STEP).min(top);
            entries.extend(session.errors(after, upto).await?);
            after = upto;
        }
        self.state().counted.count(floor, (second, top), entries);
        Ok(())
    }

    /// By type and code; `None` when it cannot be read.
    pub(super) fn counts(&self) -> Option<Vec<ErrorCount>> {
        let state = self.state();
        if state.is_closed {
            return None;
        }
        let mut counts = state.counted.settled.clone();
        state.counted.recent.iter().for_each(|entry| add(&mut counts, entry));
        Some(counts.into_iter().map(|((kind, code), count)| ErrorCount { kind, code, count }).collect())
    }

    pub(super) fn part(&self) -> Result<Part, PartError> {
        encoded(PART, &self.state().counted)
    }

    /// Goes on where the one that wrote the part was. A store of before it was kept has no such part.
    pub(super) fn restore(&self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        if parts.contains_key(PART) {
            self.state().counted = decoded(parts, PART)?;
        }
        Ok(())
    }
}

impl Counted {
    /// Entries up to this id need not be read again.
    fn floor(&mut self, second: i64, top: i64) -> i64 {
        let overlap = self.overlap.get_or_insert_with(|| Overlap::after(second, 0));
        // The newest entries were deleted, or a backup was restored: what is left has been counted.
        overlap.cut(top);
        overlap.floor()
    }

    /// Entries from a floor up to the top.
    fn count(&mut self, floor: i64, (second, top): (i64, i64), entries: Vec<ErrorEntry>) {
        // What was kept has been taken up meanwhile: the next read goes on from there.
        let Some(overlap) = self.overlap.as_mut().filter(|overlap| overlap.floor() == floor) else { return };
        self.recent.extend(entries);
        overlap.note(second, top);
        let floor = overlap.floor();
        while self.recent.first().is_some_and(|entry| entry.id <= floor)
            && let Some(entry) = self.recent.pop_first()
        {
            add(&mut self.settled, &entry);
        }
    }
}

fn add(counts: &mut BTreeMap<(String, String), u64>, entry: &ErrorEntry) {
    let mut kind = entry.kind.as_deref().unwrap_or("none");
    if counts.len() >= MOST_KINDS * 10 || kind.len() > 50 {
        kind = "other";
    }
    let code = entry.code.filter(|code| (100..600).contains(code));
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    *counts.entry((kind.to_owned(), code)).or_default() += 1;
}
