//! The error log: what is known of a failure beside its row.

use std::collections::VecDeque;

use super::store::{ErrorEntry, Session, Table};
use crate::model::{FailureClass, ReadError, Reason};

/// Entries that are kept: far more than five minutes of them.
const KEPT: usize = 20_000;
/// Entries of one statement.
const STEP: i64 = 5_000;
/// How far an entry may be from the start of its attempt (before v2.2.5 `app/service/stats/stats_service.py`).
const MATCH_MICROS: i64 = 5 * 60 * 1_000_000;

/// The newest entries, to find the one that belongs to an attempt. The relay lets its administrators do this by hand;
/// here it tells why an attempt failed whose row has no status code.
#[derive(Default)]
pub(super) struct ErrorLog {
    entries: VecDeque<ErrorEntry>,
    cursor: Option<i64>,
    /// This account may not read the keys, or there is no such table: nothing can be matched.
    is_closed: bool,
}

impl ErrorLog {
    /// Reads what is new.
    pub(super) async fn catch_up(&mut self, session: &mut Session) -> Result<(), ReadError> {
        if self.is_closed {
            return Ok(());
        }
        match self.read(session).await {
            Err(error) if matches!(error.reason, Reason::Permission | Reason::Schema) => {
                tracing::warn!(
                    error = error.text,
                    "failures without a status code cannot be matched with the error log"
                );
                self.is_closed = true;
                Ok(())
            }
            other => other,
        }
    }

    async fn read(&mut self, session: &mut Session) -> Result<(), ReadError> {
        let top = session.top(Table::Errors).await?;
        // Administrators may delete entries at any time, and SQLite gives their ids out again.
        if self.cursor.is_some_and(|cursor| cursor > top) {
            self.entries.clear();
            self.cursor = None;
        }
        let mut after = self.cursor.unwrap_or((top - KEPT as i64).max(0));
        while after < top {
            let upto = (after + STEP).min(top);
            let which = format!("id > {after} and id <= {upto} order by id");
            self.entries.extend(session.errors(&which, true).await?);
            after = upto;
        }
        self.cursor = Some(top);
        let over = self.entries.len().saturating_sub(KEPT);
        self.entries.drain(..over);
        Ok(())
    }

    /// Why an attempt of `key` that began at `at` failed, by the nearest entry within five minutes: since v2.2.5 an
    /// entry has its attempt's time.
    pub(super) fn class_of(&self, key: i64, at: i64) -> Option<FailureClass> {
        let near =
            |entry: &&ErrorEntry| entry.key == Some(key) && entry.at.is_some_and(|it| (it - at).abs() <= MATCH_MICROS);
        let apart = |entry: &&ErrorEntry| (entry.at.map(|it| (it - at).abs()), std::cmp::Reverse(entry.id));
        let entry = self.entries.iter().filter(near).min_by_key(apart)?;
        let code = u16::try_from(entry.code?).ok().filter(|code| (100..600).contains(code))?;
        Some(FailureClass::of_status(Some(code)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_without_a_code_takes_its_class_from_the_nearest_entry_of_its_key() {
        let entry = |id, minutes: i64, key, code| ErrorEntry {
            id,
            at: Some(minutes * 60_000_000),
            key: Some(key),
            kind: None,
            code: Some(code),
        };
        let entries = [entry(1, 10, 7, 503), entry(2, 12, 7, 429), entry(3, 12, 8, 401), entry(4, 99, 7, 500)];
        let log = ErrorLog { entries: entries.into(), ..ErrorLog::default() };
        assert_eq!(log.class_of(7, 12 * 60_000_000), Some(FailureClass::RateLimited));
        assert_eq!(log.class_of(7, 8 * 60_000_000), Some(FailureClass::Overloaded));
        assert_eq!(log.class_of(7, 60_000_000), None);
        assert_eq!(log.class_of(9, 12 * 60_000_000), None);
    }
}
