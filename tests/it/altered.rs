//! A ledger of which every refresh is altered on its way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use llm_relay_exporter::model::{Facts, ReadError, Reason, Scope, UsageRow, Usd};
use llm_relay_exporter::relay::{Ledger, Older, Refresh, RefreshRequest};

pub struct Altered<F> {
    pub ledger: Box<dyn Ledger>,
    /// What becomes of the answer to a request; `None` of one that takes too long.
    pub alter: F,
    /// Whose spending cannot be summed up, and how often it was asked for.
    pub no_sum_of: Option<(Scope, i64)>,
    pub sums_refused: Arc<AtomicUsize>,
}

impl<F> Altered<F> {
    pub fn new(ledger: Box<dyn Ledger>, alter: F) -> Self {
        Self { ledger, alter, no_sum_of: None, sums_refused: Arc::default() }
    }
}

fn too_slow() -> ReadError {
    ReadError::new(Reason::Timeout, "the test's ledger does not answer")
}

#[async_trait]
impl<F: FnMut(&RefreshRequest, Refresh) -> Option<Refresh> + Send + Sync> Ledger for Altered<F> {
    fn facts(&self) -> Facts {
        self.ledger.facts()
    }

    async fn refresh(&mut self, ask: &RefreshRequest) -> Result<Refresh, ReadError> {
        let refresh = self.ledger.refresh(ask).await?;
        (self.alter)(ask, refresh).ok_or_else(too_slow)
    }

    async fn older(&mut self, below: i64, limit: u32) -> Result<Older, ReadError> {
        self.ledger.older(below, limit).await
    }

    async fn rows_between(
        &mut self,
        range: Range<DateTime<Utc>>,
        after: i64,
        limit: u32,
    ) -> Result<Vec<UsageRow>, ReadError> {
        self.ledger.rows_between(range, after, limit).await
    }

    async fn spent(&mut self, scope: Scope, id: i64, range: Range<DateTime<Utc>>) -> Result<Usd, ReadError> {
        if self.no_sum_of == Some((scope, id)) {
            self.sums_refused.fetch_add(1, Ordering::Relaxed);
            return Err(too_slow());
        }
        self.ledger.spent(scope, id, range).await
    }
}
