//! How the last day went: requests and cost of each half hour.

use std::collections::BTreeMap;

use super::sums::{Sliding, WindowFact};
use crate::model::Usd;

pub(crate) const STEP_SECONDS: i64 = 1800;
const KEPT_SECONDS: i64 = 24 * 3600;

/// Steps by the clock, so that a request stays in its step.
#[derive(Debug, Default)]
pub(crate) struct Course {
    edge: i64,
    /// By first second; only those with rows.
    steps: BTreeMap<i64, Step>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub requests: u64,
    pub cost: Usd,
}

impl Course {
    /// The first second of the first step at a moment: so many whole steps precede the running one.
    pub(crate) const fn edge_at(now: i64) -> i64 {
        now - now.rem_euclid(STEP_SECONDS) - KEPT_SECONDS
    }

    /// Every step up to the running one, with its first second.
    pub(crate) fn steps(&self, now: i64) -> impl Iterator<Item = (i64, Step)> {
        let starts = (self.edge..=now).step_by(STEP_SECONDS as usize);
        starts.map(|start| (start, self.steps.get(&start).copied().unwrap_or_default()))
    }

    fn change(&mut self, second: i64, change: impl FnOnce(&mut Step)) {
        if second >= self.edge {
            change(self.steps.entry(second - second.rem_euclid(STEP_SECONDS)).or_default());
        }
    }
}

impl Sliding for Course {
    fn edge(&self) -> i64 {
        self.edge
    }

    fn begin_at(&mut self, edge: i64) {
        self.edge = edge;
        self.steps = self.steps.split_off(&edge);
    }

    fn add(&mut self, second: i64, fact: &WindowFact) {
        self.change(second, |step| {
            step.requests = step.requests.wrapping_add(fact.requests);
            step.cost += fact.cost;
        });
    }

    fn sub(&mut self, second: i64, fact: &WindowFact) {
        self.change(second, |step| {
            step.requests = step.requests.wrapping_sub(fact.requests);
            step.cost -= fact.cost;
        });
    }
}
