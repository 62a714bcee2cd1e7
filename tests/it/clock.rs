//! A store whose clock jumps: back an hour, forward a day, over the change to summer time and home again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::Duration;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::relay::{Refresh, RefreshRequest};
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;

use crate::altered::Altered;
use crate::claude_code_hub::{Store, ledger, plan};
use crate::reading::{read_all, view};
use crate::tally::counter_lines;

/// A follower of a ledger whose clock is some seconds ahead.
fn follower(plan: &RelayPlan, ahead: &Arc<AtomicI64>) -> Follower {
    let ahead = Arc::clone(ahead);
    let alter = move |_: &RefreshRequest, refresh: Refresh| {
        let ahead = Duration::seconds(ahead.load(Ordering::Relaxed));
        let same_time_yesterday = refresh.same_time_yesterday + ahead;
        Some(Refresh { now: refresh.now + ahead, same_time_yesterday, ..refresh })
    };
    Follower::new(Box::new(Altered::new(ledger(plan), alter)), plan)
}

async fn read(follower: &mut Follower, plan: &RelayPlan) -> LedgerView {
    read_all(follower).await;
    view(follower, plan, None)
}

/// Counters, and the sums of today and yesterday.
fn lines(view: &LedgerView) -> Vec<String> {
    let mut lines = counter_lines(view.counters.as_ref().unwrap());
    lines.extend(view.days.iter().filter(|(day, _)| *day != "yesterday_same_time").map(|it| format!("{it:?}")));
    lines
}

#[tokio::test]
async fn a_clock_that_jumps_counts_nothing_twice_and_nothing_falls() {
    let mut store = Store::new("clock", "v0.9.2").await;
    store.people().await;
    // Across two days and the hours before now.
    store.requests(300, "11 minutes").await;
    for zone in ["Asia/Shanghai", "Europe/Berlin", "America/New_York"] {
        let mut plan = plan(&store.url, None);
        plan.timezone = Some(zone.parse().unwrap());
        plan.audit_interval = std::time::Duration::from_secs(1);
        let ahead = Arc::new(AtomicI64::new(0));
        let mut follower = follower(&plan, &ahead);
        let before = read(&mut follower, &plan).await;
        let requests = |view: &LedgerView| {
            view.counters.as_ref().unwrap().traffic.iter().map(|it| it.requests.iter().sum::<u64>()).sum::<u64>()
        };
        let mut counted = requests(&before);
        for jump in [-3600, 0, 3600, 86_400, 82_800, 0, -86_400, 0, 1] {
            ahead.store(jump, Ordering::Relaxed);
            store.requests(1, "0 s").await;
            counted += 1;
            for _ in 0..3 {
                let view = read(&mut follower, &plan).await;
                assert_eq!(requests(&view), counted, "{zone}: {jump} s");
            }
        }
        ahead.store(0, Ordering::Relaxed);
        let after = read(&mut follower, &plan).await;
        let afresh = read(&mut Follower::new(ledger(&plan), &plan), &plan).await;
        assert_eq!(lines(&after), lines(&afresh), "{zone}: back home all is as if nothing had happened");
    }
}

#[tokio::test]
async fn a_clock_that_was_a_day_ahead_for_one_refresh_leaves_nothing_behind() {
    let mut store = Store::new("clock_ahead", "v0.9.2").await;
    store.people().await;
    // None of them near an edge of a window.
    store.requests(300, "11 minutes").await;
    let plan = plan(&store.url, None);
    let ahead = Arc::new(AtomicI64::new(0));
    let mut follower = follower(&plan, &ahead);
    let before = read(&mut follower, &plan).await;
    ahead.store(86_400, Ordering::Relaxed);
    read(&mut follower, &plan).await;
    ahead.store(0, Ordering::Relaxed);
    // The second time with an audit.
    read(&mut follower, &plan).await;
    let after = read(&mut follower, &plan).await;
    let mut fresh = Follower::new(ledger(&plan), &plan);
    read(&mut fresh, &plan).await;
    let afresh = read(&mut fresh, &plan).await;
    assert_eq!(after.windows, afresh.windows);
    assert_eq!(lines(&after), lines(&afresh));
    let counters = |view: &LedgerView| counter_lines(view.counters.as_ref().unwrap());
    assert_eq!(counters(&after), counters(&before));
    let audit = after.audit.unwrap();
    assert!(audit.at < afresh.audit.unwrap().at, "the next audit would be a day away: {audit:?}");
}
