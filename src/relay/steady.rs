//! A counter that a relay keeps itself, as it is shown: it never falls.

use serde::{Deserialize, Serialize};

use crate::model::Usd;

/// What the relay has, and what it had before it began anew.
///
/// A store that has lost its last seconds (a crash, a fail-over, a restored dump) comes back a little lower: what has been
/// shown stays until the relay has passed it. A counter that has lost nearly all has begun anew: what is counted from
/// then on is added to what it had. So a sum of such counters never falls, in whatever order they begin anew, and
/// Prometheus' `increase()` sees what was counted, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Steady<T> {
    before: T,
    now: T,
}

/// Something that can be counted.
pub(crate) trait Amount: Copy + Ord {
    /// The sum, at most the greatest there is.
    fn plus(self, other: Self) -> Self;
    /// The part of it that a counter has at most when it has begun anew.
    fn nearly_nothing(self) -> Self;
}

impl Amount for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn nearly_nothing(self) -> Self {
        self / 16
    }
}

impl Amount for Usd {
    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn nearly_nothing(self) -> Self {
        Self::from_femto(self.femto() / 16)
    }
}

impl<T: Amount> Steady<T> {
    /// The relay has `now`; tells whether it has begun anew. While the relay is known to reset its counters, any fall is a
    /// beginning.
    pub(crate) fn see(&mut self, now: T, resetting: bool) -> bool {
        let begins = now < self.now && (resetting || now <= self.now.nearly_nothing());
        if begins {
            self.before = self.before.plus(self.now);
        }
        if begins || now > self.now {
            self.now = now;
        }
        begins
    }

    /// What is shown.
    pub(crate) fn total(self) -> T {
        self.before.plus(self.now)
    }

    /// What the relay itself has, but for a small fall.
    pub(crate) const fn now(self) -> T {
        self.now
    }
}
