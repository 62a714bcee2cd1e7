//! A range of ids in pieces that SQLite reads in no time.

use crate::connect::sql::{Session, Value};
use crate::model::ReadError;

/// Ids of one statement: some 20 ms of SQLite.
const SLICE: i64 = 20_000;

pub(super) const UP: &str = "id > ? and id <= ? and type in ({types}) order by id limit ?";
const DOWN: &str = "id > ? and id <= ? and type in ({types}) order by id desc limit ?";
const WITHIN: &str =
    "id > ? and id <= ? and created_at >= ? and created_at < ? and type in ({types}) order by id limit ?";

const NEXT_ID: &str = include_str!("sql/next_id.sql");
const PREVIOUS_ID: &str = include_str!("sql/previous_id.sql");

/// A range of ids, perhaps of a span of time, read slice by slice.
pub(super) struct Slices {
    pub after: i64,
    pub upto: i64,
    pub seconds: Option<(i64, i64)>,
    pub newest_first: bool,
}

impl Slices {
    /// The next range of ids.
    pub(super) fn next(&self) -> Option<(i64, i64)> {
        if self.after >= self.upto {
            return None;
        }
        Some(if self.newest_first {
            (self.after.max(self.upto - SLICE), self.upto)
        } else {
            (self.after, self.upto.min(self.after.saturating_add(SLICE)))
        })
    }

    pub(super) const fn condition(&self) -> &'static str {
        match self.seconds {
            Some(_) => WITHIN,
            None if self.newest_first => DOWN,
            None => UP,
        }
    }

    pub(super) fn values(&self, (after, upto): (i64, i64), limit: i64) -> Vec<Value<'static>> {
        let seconds = self.seconds.into_iter().flat_map(|(from, to)| [from, to]);
        [after, upto].into_iter().chain(seconds).chain([limit]).map(Value::Int).collect()
    }

    /// Goes on after a range, or after the last of its rows when there may be more.
    pub(super) const fn advance(&mut self, (after, upto): (i64, i64), last: Option<i64>) {
        match (self.newest_first, last) {
            (false, Some(last)) => self.after = last,
            (false, None) => self.after = upto,
            (true, Some(last)) => self.upto = last - 1,
            (true, None) => self.upto = after,
        }
    }

    /// Goes on at the next row that there is, after a range without any: the next id may be any number away.
    ///
    /// # Errors
    /// Those of looking for it.
    pub(super) async fn skip_gap(&mut self, session: &mut Session) -> Result<(), ReadError> {
        let text = if self.newest_first { PREVIOUS_ID } else { NEXT_ID };
        let ends = [self.after, self.upto].map(Value::Int);
        let next = session.fetch_one("looking for the next row", text, &ends, |row| row.int("id")).await?;
        match (next, self.newest_first) {
            (Some(id), false) => self.after = id - 1,
            (Some(id), true) => self.upto = id,
            (None, _) => self.after = self.upto,
        }
        Ok(())
    }
}
