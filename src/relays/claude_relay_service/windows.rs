//! The windows in which keys are limited, as their hashes say: read with the names of keys, needed with live state.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::EntityId;

/// Fields of `apikey:{id}` that tell of them: window, requests, tokens, cost, day and hour of the week's beginning.
pub(super) const FIELDS: usize = 6;

/// Of the keys that have some; shared by the parts of one relay.
#[derive(Clone, Default)]
pub(super) struct Windows(Arc<Mutex<HashMap<EntityId, KeyWindows>>>);

impl Windows {
    pub(super) fn replace(&self, all: HashMap<EntityId, KeyWindows>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    pub(super) fn all(&self) -> HashMap<EntityId, KeyWindows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Of one key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct KeyWindows {
    pub rate_minutes: i64,
    requests: f64,
    tokens: f64,
    usd: f64,
    /// Day (1 is Monday) and hour at which the week begins.
    pub week: (u32, u32),
}

impl KeyWindows {
    /// From the values of the [`FIELDS`].
    pub(super) fn of(values: &[Option<String>]) -> Self {
        let number = |at: usize| values.get(at).and_then(|text| text.as_ref()?.parse::<f64>().ok()).unwrap_or(0.0);
        let positive = |at: usize| number(at).max(0.0);
        Self {
            rate_minutes: positive(0).min(1e6) as i64,
            requests: positive(1),
            tokens: positive(2),
            usd: positive(3),
            week: (if positive(4) >= 1.0 { positive(4) as u32 } else { 1 }, positive(5) as u32),
        }
    }

    /// Place of the value among the window's keys, unit, limit; a limit of tokens replaces that of dollars
    /// (v1.1.314 `src/middleware/auth.js`).
    pub(super) fn rate_limits(self) -> impl Iterator<Item = (usize, &'static str, f64)> {
        let spending = if self.tokens > 0.0 { (2, "tokens", self.tokens) } else { (3, "usd", self.usd) };
        [(1, "requests", self.requests), spending].into_iter().filter(|(_, _, limit)| *limit > 0.0)
    }
}
