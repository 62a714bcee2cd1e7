//! An audit that cannot be afforded is none: it tells no drift, not one of 0.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Directory, Facts, ReadError, Scope, UsageRow, Usd};
use llm_relay_exporter::relay::{Ledger, Older, Refresh, RefreshRequest};

use crate::claude_code_hub::{Store, ledger, plan};
use crate::reading::{settle, view};

/// A ledger of which some spans are too long to be summed up.
struct Long {
    ledger: Box<dyn Ledger>,
    /// So many of the first spans are.
    too_long: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Ledger for Long {
    fn facts(&self) -> Facts {
        self.ledger.facts()
    }

    async fn refresh(&mut self, ask: &RefreshRequest) -> Result<Refresh, ReadError> {
        self.asked.fetch_add(ask.audit.len(), Ordering::Relaxed);
        let mut refresh = self.ledger.refresh(ask).await?;
        refresh.audit.iter_mut().take(self.too_long.load(Ordering::Relaxed)).for_each(|sum| *sum = None);
        Ok(refresh)
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

#[tokio::test]
async fn days_that_are_too_long_to_be_summed_up_tell_no_drift() {
    let mut store = Store::new("audit", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms, created_at)
             select 1, 1, 'sk-ann', 'sonnet', 200, 0.25, 900, now() - n * interval '12 hours' from generate_series(0, 5) n",
        )
        .await;
    let mut plan = plan(&store.url, None);
    let (too_long, asked) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::default());
    let long = Long { ledger: ledger(&plan), too_long: Arc::clone(&too_long), asked: Arc::clone(&asked) };
    let mut follower = Follower::new(Box::new(long), &plan);
    settle(&mut follower).await;
    let directory = Directory::default();
    assert_eq!(view(&mut follower, &plan, &directory).audit, None);
    let once = asked.load(Ordering::Relaxed);
    assert!(once > 0);
    settle(&mut follower).await;
    assert_eq!(asked.load(Ordering::Relaxed), once, "it is not asked again before the interval has passed");

    // Where one is, the others are compared.
    too_long.store(1, Ordering::Relaxed);
    plan.audit_interval = std::time::Duration::ZERO;
    let long = Long { ledger: ledger(&plan), too_long, asked };
    let mut follower = Follower::new(Box::new(long), &plan);
    settle(&mut follower).await;
    assert_eq!(view(&mut follower, &plan, &directory).audit.unwrap().drift_requests, 0.0);
}
