//! How far behind the newest row to read again: commits become visible out of the order of their ids.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A commit that becomes visible later than this after a greater id did is not waited for.
const SECONDS: i64 = 60;

/// The greatest ids of the last minute, oldest first: `(second, id)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overlap(VecDeque<(i64, i64)>);

impl Overlap {
    /// Ids behind the newest that are read again, at most: at about three ids per request (Claude Code Hub burns one on
    /// each update of a row), the requests of some busy seconds.
    pub(crate) const IDS: i64 = 2000;

    /// Rows up to an id have been read; what is above is still to come.
    pub(crate) fn after(second: i64, id: i64) -> Self {
        Self([(second, id)].into())
    }

    /// Rows up to the greatest id have been read.
    pub(crate) fn note(&mut self, second: i64, top: i64) {
        self.0.push_back((second, top));
        // The last one that is old enough stays in front.
        while self.0.len() > 1 && self.0[1].0 <= second - SECONDS {
            self.0.pop_front();
        }
    }

    /// The newest rows have been deleted; what is left has been read.
    pub(crate) fn cut(&mut self, top: i64) {
        self.0.iter_mut().for_each(|(_, id)| *id = top.min(*id));
    }

    /// The greatest id that has been read; 0 before the first.
    pub(crate) fn top(&self) -> i64 {
        self.0.back().map_or(0, |(_, top)| *top)
    }

    /// Rows up to this id need not be read again: where the top was a minute ago, but not too far back.
    pub(crate) fn floor(&self) -> i64 {
        self.0.front().map_or(0, |(_, top)| *top).max(self.top() - Self::IDS)
    }

    /// When the top was last noted.
    pub(crate) fn second(&self) -> Option<i64> {
        self.0.back().map(|(second, _)| *second)
    }
}
