//! A ledger of which every refresh is altered on its way.

use std::ops::Range;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use llm_relay_exporter::model::{Facts, ReadError, Scope, UsageRow, Usd};
use llm_relay_exporter::relay::{Ledger, Older, Refresh, RefreshRequest};

pub struct Altered<F> {
    pub ledger: Box<dyn Ledger>,
    /// What becomes of the answer to a request.
    pub alter: F,
}

#[async_trait]
impl<F: FnMut(&RefreshRequest, Refresh) -> Refresh + Send + Sync> Ledger for Altered<F> {
    fn facts(&self) -> Facts {
        self.ledger.facts()
    }

    async fn refresh(&mut self, ask: &RefreshRequest) -> Result<Refresh, ReadError> {
        let refresh = self.ledger.refresh(ask).await?;
        Ok((self.alter)(ask, refresh))
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
        self.ledger.spent(scope, id, range).await
    }
}
