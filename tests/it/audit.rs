//! An audit that cannot be afforded is none: it tells no drift, not one of 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relay::{Refresh, RefreshRequest};
use llm_relay_exporter::settings::RelayPlan;

use crate::altered::Altered;
use crate::claude_code_hub::{Store, ledger, plan};
use crate::reading::{settle, view};

/// A follower of a ledger of which the first spans are too long to be summed up, so many. Counts those that it is asked for.
fn follower(plan: &RelayPlan, too_long: usize, asked: &Arc<AtomicUsize>) -> Follower {
    let asked = Arc::clone(asked);
    let alter = move |ask: &RefreshRequest, mut refresh: Refresh| {
        asked.fetch_add(ask.audit.len(), Ordering::Relaxed);
        refresh.audit.iter_mut().take(too_long).for_each(|sum| *sum = None);
        refresh
    };
    Follower::new(Box::new(Altered { ledger: ledger(plan), alter }), plan)
}

#[tokio::test]
async fn days_that_are_too_long_to_be_summed_up_tell_no_drift() {
    let mut store = Store::new("audit", "v0.9.2").await;
    store.people().await;
    store.requests(6, "12 hours").await;
    let mut plan = plan(&store.url, None);
    let asked = Arc::default();
    let mut long = follower(&plan, usize::MAX, &asked);
    settle(&mut long).await;
    let directory = Directory::default();
    assert_eq!(view(&mut long, &plan, &directory).audit, None);
    let once = asked.load(Ordering::Relaxed);
    assert!(once > 0);
    settle(&mut long).await;
    assert_eq!(asked.load(Ordering::Relaxed), once, "it is not asked again before the interval has passed");

    // Where one is, the others are compared.
    plan.audit_interval = std::time::Duration::ZERO;
    let mut long = follower(&plan, 1, &asked);
    settle(&mut long).await;
    assert_eq!(view(&mut long, &plan, &directory).audit.unwrap().drift_requests, 0.0);
}

/// Of a large day not all rows are held at once: the ledger is read anew, step by step.
#[tokio::test]
async fn a_drift_of_a_day_that_is_too_large_to_hold_is_mended_by_reading_all_again() {
    let mut store = Store::new("large_day", "v0.9.2").await;
    store.people().await;
    store.requests(10, "12 hours").await;
    let plan = plan(&store.url, None);
    let mut audits = 0;
    let alter = move |ask: &RefreshRequest, mut refresh: Refresh| {
        audits += usize::from(!ask.audit.is_empty());
        if audits == 1
            && let Some(Some(today)) = refresh.audit.first_mut()
        {
            today.requests += 300_000;
        }
        refresh
    };
    let mut follower = Follower::new(Box::new(Altered { ledger: ledger(&plan), alter }), &plan);
    let directory = Directory::default();
    settle(&mut follower).await;
    settle(&mut follower).await;
    let view = view(&mut follower, &plan, &directory);
    assert_eq!(view.counters.unwrap().traffic.iter().map(|it| it.requests.iter().sum::<u64>()).sum::<u64>(), 10);
    assert!(follower.rows_read() >= 20, "{} rows", follower.rows_read());
}
