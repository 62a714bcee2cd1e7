//! The counters of a relay that counts for itself, and what has been made of them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::{Directory, ReadError};
use crate::parts::{Part, PartError};
use crate::relay::Counters;
use crate::store::Kept;
use crate::tally::{CounterState, Presentation};
use crate::view::LedgerView;

/// The counters of one relay, and their state.
pub struct CounterFollower {
    counters: Box<dyn Counters>,
    counter_state: CounterState,
}

impl CounterFollower {
    /// Nothing is read yet.
    pub fn new(counters: Box<dyn Counters>) -> Self {
        Self { counters, counter_state: CounterState::default() }
    }

    /// Goes on with counters that were opened anew, from where these were.
    pub fn reopened(self, mut counters: Box<dyn Counters>) -> Self {
        if let Err(error) = counters.take_over(self.counters) {
            tracing::warn!(%error, "what the relay's counters were is lost; they are read anew");
            return Self::new(counters);
        }
        Self { counters, counter_state: self.counter_state }
    }

    /// Reads the counters.
    ///
    /// # Errors
    /// When they cannot be read; what has been made of them is then as before.
    pub async fn refresh(&mut self, directory: &Directory) -> Result<(), ReadError> {
        self.counter_state.apply(self.counters.read(directory).await?);
        Ok(())
    }

    /// Redis keys (or the like) read since the start.
    pub(crate) const fn read(&self) -> u64 {
        self.counter_state.read()
    }

    /// The numbers as of the last refresh; `None` before the first.
    pub fn view(&self, with: &Presentation<'_>) -> Option<LedgerView> {
        self.counter_state.view(with)
    }
}

impl Kept for CounterFollower {
    fn parts(&mut self, all: bool) -> Result<Option<Vec<Part>>, PartError> {
        if !self.counter_state.has_begun() {
            return Ok(None);
        }
        let mut parts = self.counters.parts(all)?;
        parts.push(self.counter_state.part()?);
        Ok(Some(parts))
    }

    fn restore(&mut self, parts: BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let counter_state = CounterState::restore(&parts)?;
        self.counters.restore(&parts)?;
        self.counter_state = counter_state;
        Ok(())
    }
}
