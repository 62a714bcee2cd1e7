//! Sums over a ledger, to hold one against another.

use serde::{Deserialize, Serialize};

use super::{Outcome, Usd};

/// The store's own sum over counted rows, or the exporter's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSum {
    /// Counted rows.
    pub requests: u64,
    /// Their cost.
    pub cost: Usd,
    /// Their cost at list prices; `None` where they do not tell.
    pub list_cost: Option<Usd>,
    /// Their tokens, added up as on the relay's boards ([`UsageRow::board_tokens`](super::UsageRow)).
    pub board_tokens: u64,
    /// Those that are errors by the relay's own definition.
    pub errors: u64,
    /// Milliseconds of durations and of times to first token; `None` where a row has them when it appears, or never.
    pub millis: Option<u64>,
    /// The sum of [`Self::labels_of`]: which providers, models and outcomes the rows have. `None` where a row has them when
    /// it appears, and its relay's SQL does not tell them.
    pub labels: Option<u64>,
    /// Successes and failures.
    pub outcomes: [u64; 2],
}

impl LedgerSum {
    /// Adds requests of one provider, model and outcome.
    pub fn count(&mut self, provider_id: i64, model: Option<&str>, outcome: Option<Outcome>, requests: u64) {
        let labels = Self::labels_of(provider_id, model, outcome);
        self.requests = self.requests.wrapping_add(requests);
        self.labels = Some(self.labels.unwrap_or(0).wrapping_add(labels.wrapping_mul(requests)));
        match outcome {
            Some(Outcome::Success) => self.outcomes[0] = self.outcomes[0].wrapping_add(requests),
            Some(Outcome::Failure) => self.outcomes[1] = self.outcomes[1].wrapping_add(requests),
            Some(Outcome::Excluded) | None => {}
        }
    }

    /// Takes requests away again.
    pub fn uncount(&mut self, provider_id: i64, model: Option<&str>, outcome: Option<Outcome>, requests: u64) {
        self.count(provider_id, model, outcome, requests.wrapping_neg());
    }

    /// Success, failure and neither.
    pub const fn by_outcome(&self) -> [u64; 3] {
        let [successes, failures] = self.outcomes;
        [successes, failures, self.requests.wrapping_sub(successes).wrapping_sub(failures)]
    }

    /// One row's part in [`Self::labels`]: FNV-1a over its provider, model and outcome. An absent model is an empty one.
    fn labels_of(provider_id: i64, model: Option<&str>, outcome: Option<Outcome>) -> u64 {
        let outcome = outcome.map_or("", Outcome::label);
        let bytes = provider_id.to_le_bytes().into_iter().chain(outcome.bytes()).chain([0]);
        bytes
            .chain(model.unwrap_or_default().bytes())
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}
