//! An audit that cannot be afforded is none: it tells no drift, not one of 0.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Directory, Scope};
use llm_relay_exporter::relay::{self, Refresh, RefreshRequest};
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
        Some(refresh)
    };
    Follower::new(Box::new(Altered::new(ledger(plan), alter)), plan)
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
        Some(refresh)
    };
    let mut follower = Follower::new(Box::new(Altered::new(ledger(&plan), alter)), &plan);
    let directory = Directory::default();
    settle(&mut follower).await;
    settle(&mut follower).await;
    let view = view(&mut follower, &plan, &directory);
    assert_eq!(view.counters.unwrap().traffic.iter().map(|it| it.requests.iter().sum::<u64>()).sum::<u64>(), 10);
    assert!(follower.rows_read() >= 20, "{} rows", follower.rows_read());
}

/// A sum that does not come to its end takes nothing else along: what is new is told, and the next audit waits.
#[tokio::test]
async fn an_audit_that_takes_too_long_takes_no_number_away() {
    let mut store = Store::new("audit_too_long", "v0.9.2").await;
    store.people().await;
    let plan = plan(&store.url, None);
    let audits = Arc::new(AtomicUsize::new(0));
    let asked = audits.clone();
    let alter = move |ask: &RefreshRequest, refresh: Refresh| {
        asked.fetch_add(usize::from(!ask.audit.is_empty()), Ordering::Relaxed);
        ask.audit.is_empty().then_some(refresh)
    };
    let mut follower = Follower::new(Box::new(Altered::new(ledger(&plan), alter)), &plan);
    for requests in 1..=3 {
        store
            .run("insert into message_request (provider_id, user_id, key, status_code) values (1, 1, 'sk-ann', 200)")
            .await;
        settle(&mut follower).await;
        let view = view(&mut follower, &plan, &Directory::default());
        assert_eq!((view.days[0].1.requests, view.audit), (requests, None));
    }
    assert_eq!(audits.load(Ordering::Relaxed), 1);
}

/// Of two users whose spending was reset long ago, one has too much of it.
#[tokio::test]
async fn a_sum_that_fails_keeps_no_other_quota_from_being_told() {
    let mut store = Store::new("sum_too_long", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into users (name) values ('bob');
             update users set limit_total_usd = 10, cost_reset_at = now() - interval '100 days';
             insert into message_request (provider_id, user_id, key, status_code, cost_usd, created_at)
             select 1, who, 'sk-' || who, 200, 1.5, now() - n * interval '30 days'
             from generate_series(0, 4) n, generate_series(1, 2) who",
        )
        .await;
    let plan = plan(&store.url, None);
    let directory = relay::open(&plan).unwrap().directory.read().await.unwrap();
    let altered = Altered::new(ledger(&plan), |_: &RefreshRequest, refresh| Some(refresh));
    let refused = altered.sums_refused.clone();
    let mut follower = Follower::new(Box::new(Altered { no_sum_of: Some((Scope::User, 1)), ..altered }), &plan);
    for _ in 0..3 {
        settle(&mut follower).await;
        view(&mut follower, &plan, &directory);
    }
    let quotas = view(&mut follower, &plan, &directory).quotas;
    let used: Vec<_> = quotas.iter().map(|quota| (quota.id.number(), quota.used_usd)).collect();
    assert_eq!(used, [(Some(1), None), (Some(2), Some(6.0))]);
    assert_eq!(refused.load(Ordering::Relaxed), 1);
}
