//! A counter that a relay keeps itself, as it is shown: it never falls.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// What the relay has, and what it had before it began anew.
///
/// A store that has lost its last seconds (a crash, a fail-over, a restored dump) comes back a little lower: what has been
/// shown stays until the relay has passed it. A relay that has lost more than half has begun anew: what it counts
/// from then on is added to what it had. So a sum of such counters never falls, in whatever order they begin anew, and
/// Prometheus' `increase()` sees what was counted, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steady<T> {
    before: T,
    now: T,
}

impl<T: Copy + Default + Ord + Add<Output = T> + Sub<Output = T>> Steady<T> {
    /// The relay has `now`; tells whether it has begun anew. While it is known to be resetting its counters, any fall is
    /// a beginning.
    pub fn see(&mut self, now: T, resetting: bool) -> bool {
        let begins = now < self.now && (resetting || now < self.now - now);
        if begins {
            self.before = self.before + self.now;
        }
        if begins || now > self.now {
            self.now = now;
        }
        begins
    }

    /// What is shown.
    pub fn total(self) -> T {
        self.before + self.now
    }

    /// What the relay itself has, but for a small fall.
    pub const fn now(self) -> T {
        self.now
    }
}
