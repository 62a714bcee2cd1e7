//! Quota windows of accounts that are silent, among thousands of observations of others.

use llm_relay_exporter::check;
use llm_relay_exporter::model::{Directory, Live};
use llm_relay_exporter::relays::cpa_manager::{Level, provider_id};

use super::relay::Relay;
use super::{noon, shanghai};

/// Observations of a weekly window, one a millisecond.
async fn observe(relay: &mut Relay, account: &str, used_percent: f64, plan: &str, times: u32) {
    let ends = noon().timestamp_millis() + 86_400_000;
    relay
        .run(&format!(
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < {times})
             insert into account_quota_snapshots (account_key, provider, provider_window_id, window_kind, model_scope_kind,
               model_scope_key, observed_at_ms, cycle_end_ms, used_percent, plan_type)
             select 'usage-account-history:2:file-index:61:{account}', 'codex', 'weekly', 'weekly', 'family', 'codex_main', i,
               {ends}, {used_percent}, '{plan}' from n"
        ))
        .await;
}

async fn live(relay: &Relay) -> Live {
    relay.open().live.unwrap().read(&Directory::default()).await.unwrap()
}

#[tokio::test]
async fn an_account_that_is_used_up_keeps_its_windows_and_plan_while_others_serve() {
    let mut relay = shanghai(Level::Plus).await;
    observe(&mut relay, "30", 100.0, "plus", 1).await;
    observe(&mut relay, "31", 20.0, "pro", 12_000).await;
    observe(&mut relay, "32", 50.0, "team", 1).await;
    relay.note_windows().await;
    // What an upstream no longer has is on no page of the relay.
    relay.run("update account_quota_windows set availability = 'inactive' where account_key like '%:32'").await;
    let live = live(&relay).await;
    let used: Vec<_> = live.subscriptions.iter().map(|it| (it.provider_id.clone(), it.used_ratio)).collect();
    let id = |index: &[u8]| provider_id(index, b"", b"").into();
    assert_eq!(used, [(id(b"0"), Some(1.0)), (id(b"1"), Some(0.2))]);
    assert!(live.subscriptions.iter().all(|it| it.resets_at.is_some()));
    assert_eq!(live.plans[..2], [(id(b"0"), "plus".to_owned()), (id(b"1"), "pro".to_owned())]);
    // And it is found by the index, not by walking over what was observed.
    let text = check::check(&relay.plan).await.unwrap().to_string();
    assert!(text.contains("all 12 recurring statements run, each by an index"), "{text}");
}

/// Before v1.12 there are no such tables; an index that the manager has put off is one that we cannot do without.
#[tokio::test]
async fn without_the_index_nothing_is_told_of_quota_windows_and_check_says_so() {
    for without in [
        "drop index idx_quota_snapshots_latest",
        "drop table account_quota_snapshots; drop table account_quota_windows",
    ] {
        let mut relay = shanghai(Level::Plus).await;
        observe(&mut relay, "30", 100.0, "plus", 1).await;
        relay.note_windows().await;
        relay.run(without).await;
        let live = live(&relay).await;
        assert!(live.collector.is_some() && live.subscriptions.is_empty() && live.plans.is_empty());
        let text = check::check(&relay.plan).await.unwrap().to_string();
        assert!(text.contains("no quota windows and plans") && text.contains("all 10 recurring statements"), "{text}");
    }
}
