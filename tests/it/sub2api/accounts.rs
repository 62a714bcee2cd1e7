//! Upstream accounts, slots and refused requests.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::model::{AccountState, Live, SubscriptionStatus};
use llm_relay_exporter::relay;

use super::database::{Store, parts};
use crate::claude_code_hub_live::{database, run};

/// A relay whose administrator has made the exporter's functions.
async fn relay_with_functions(name: &str) -> Store {
    let mut store = Store::new(name).await;
    store.grant().await;
    store
}

#[tokio::test]
async fn accounts_tell_one_state_each_and_when_they_come_back() {
    let mut store = relay_with_functions("states").await;
    let (past, soon) = ("now() - interval '1 minute'", "now() + interval '10 minutes'");
    let account = |columns: &str, values: &str| {
        format!("insert into accounts (name, platform, type{columns}) values ('a', 'openai', 'apikey'{values});")
    };
    for (columns, values) in [
        ("", "".to_owned()),
        (", overload_until", format!(", {soon}")),
        (", overload_until, rate_limit_reset_at", format!(", {past}, {soon}")),
        (", temp_unschedulable_until, schedulable", format!(", {soon}, false")),
        // 401: both marks.
        (", status, schedulable", ", 'error', false".to_owned()),
        (", status", ", 'disabled'".to_owned()),
        (", expires_at", format!(", {past}")),
        (", expires_at, auto_pause_on_expired", format!(", {past}, false")),
        (", schedulable", ", false".to_owned()),
        (", extra", ", '{\"quota_limit\": 5, \"quota_used\": 5.01}'".to_owned()),
        (", deleted_at", ", now()".to_owned()),
    ] {
        store.run(&account(columns, &values)).await;
    }
    let (directory, live) = parts(&store.plan()).await;
    use AccountState::{CoolingDown, Disabled, Error, Normal, Overloaded, Paused, QuotaExceeded, RateLimited};
    let states: Vec<_> = live.accounts.iter().map(|(_, state)| *state).collect();
    let expected =
        [Normal, Overloaded, RateLimited, CoolingDown, Error, Disabled, Paused, Normal, Paused, QuotaExceeded];
    assert_eq!(states, expected, "one that is deleted has none");
    let returns: Vec<_> = live.returns.iter().map(|it| (it.provider_id.number().unwrap(), it.models)).collect();
    assert_eq!(returns, [(2, "all"), (3, "all"), (4, "all")]);
    assert!(live.returns.iter().all(|it| (it.at - Utc::now() - TimeDelta::minutes(10)).abs() < TimeDelta::minutes(1)));
    let enabled: Vec<_> = directory.providers.iter().map(|it| it.enabled == Some(true)).collect();
    assert_eq!(enabled, [true, true, true, false, false, false, true, true, false, true, true]);
    assert!(directory.providers[10].deleted);
}

#[tokio::test]
async fn upstream_windows_are_told_until_they_end() {
    let mut store = relay_with_functions("windows").await;
    let later = (Utc::now() + TimeDelta::hours(2)).to_rfc3339();
    let past = (Utc::now() - TimeDelta::hours(2)).to_rfc3339();
    let second = (Utc::now() + TimeDelta::days(3)).timestamp();
    store
        .run(&format!(
            "insert into accounts (name, platform, type, session_window_end, session_window_status, extra) values
               ('claude', 'anthropic', 'oauth', now() + interval '1 hour', 'allowed_warning',
                 '{{\"session_window_utilization\": 0.75, \"passive_usage_7d_utilization\": \"0.5\", \"passive_usage_7d_reset\": {second}, \"passive_usage_7d_oi_utilization\": 0.11, \"passive_usage_7d_oi_reset\": {second}, \"passive_usage_sampled_at\": \"{past}\", \"planted\": \"planted-extra\"}}'),
               ('codex', 'openai', 'oauth', null, null,
                 '{{\"codex_5h_used_percent\": 20, \"codex_5h_reset_at\": \"{later}\", \"codex_7d_used_percent\": 99, \"codex_7d_reset_at\": \"{past}\", \"codex_usage_updated_at\": \"{past}\"}}'),
               ('over', 'anthropic', 'oauth', now() - interval '1 second', 'rejected', '{{\"session_window_utilization\": 1}}'),
               ('odd', 'anthropic', 'oauth', null, null, '[1]'), ('none', 'anthropic', 'oauth', null, null, '{{}}')"
        ))
        .await;
    let (_, live) = parts(&store.plan()).await;
    let told: Vec<_> = live
        .subscriptions
        .iter()
        .map(|it| (it.provider_id.number().unwrap(), it.window, it.used_ratio, it.status, it.told_at.is_some()))
        .collect();
    let expected = [
        (1, "5h", Some(0.75), Some(SubscriptionStatus::AllowedWarning), true),
        (1, "7d", Some(0.5), None, true),
        (1, "7d_fable", Some(0.11), None, true),
        (2, "5h", Some(0.2), None, true),
    ];
    assert_eq!(told, expected);
    assert!(!format!("{live:?}").contains("planted"));
    // Without the function, states are told and windows are not.
    store.run("drop function relay_exporter_account_windows()").await;
    let (_, live) = parts(&store.plan()).await;
    assert_eq!((live.accounts.len(), live.subscriptions.len()), (5, 0));
}

async fn live(store: &Store, redis_url: Option<&str>) -> Live {
    let mut plan = store.plan();
    plan.redis_url = redis_url.map(Into::into);
    let mut relay = relay::open(&plan).unwrap();
    let directory = relay.directory.read().await.unwrap();
    relay.live.as_mut().unwrap().read(&directory).await.unwrap()
}

#[tokio::test]
async fn slots_are_counted_without_a_write_and_only_where_there_are_any() {
    let mut store = Store::new("slots").await;
    store.people().await;
    store.run("update accounts set concurrency = 0 where id = 2; insert into api_keys (user_id, key, name) values (2, 'planted-4', 'four')").await;
    let without = live(&store, None).await;
    assert!(
        without.slots_used.is_none() && without.requests_in_progress.is_none() && without.key_slots_used.is_empty()
    );
    assert_eq!(without.accounts.len(), 3, "states are PostgreSQL's");

    let (url, mut redis) = database(9).await;
    let now = Utc::now().timestamp();
    for (key, score) in [
        ("account:1", now),
        ("account:1", now - 1700),
        // Expired, and left for the relay to delete.
        ("account:1", now - 1900),
        ("live:account:1", now - 5),
        ("live:account:1", now - 90),
        // No slots are tracked for it: what is left there is of another time.
        ("account:2", now),
        ("api_key:2", now),
        ("api_key:4", now),
        ("live:api_key:4", now),
        ("api_key:3", now - 7200),
    ] {
        run(&mut redis, &format!("ZADD concurrency:{key} {score} {key}:{score}")).await;
    }
    run(&mut redis, "SET concurrency:account:3 planted").await;
    run(
        &mut redis,
        "ACL SETUSER relay_exporter on >planted-secret resetkeys %R~concurrency:* -@all +time +zcount +select",
    )
    .await;
    let narrow = format!(
        "redis://relay_exporter:planted-secret@{}",
        url.split('@').next_back().unwrap().trim_start_matches("redis://")
    );
    let live = live(&store, Some(&narrow)).await;
    let number = |counts: Vec<(llm_relay_exporter::model::EntityId, u64)>| -> BTreeMap<i64, u64> {
        counts.into_iter().map(|(id, count)| (id.number().unwrap(), count)).collect()
    };
    assert_eq!(number(live.slots_used.unwrap()), [(1, 3)].into(), "a key of another type says nothing");
    assert_eq!(number(live.key_slots_used), [(2, 1), (4, 2)].into());
    assert_eq!(number(live.requests_in_progress.unwrap()), [(2, 3)].into());
    let left: Vec<String> =
        redis::cmd("ZRANGE").arg("concurrency:account:1").arg(0).arg(-1).query_async(&mut redis).await.unwrap();
    assert_eq!(left.len(), 3, "nothing was deleted");
}

#[tokio::test]
async fn releases_without_slots_of_keys_tell_no_running_requests() {
    let mut store = Store::of_release("slots_old", "0.1.131").await;
    store.people().await;
    let (url, _redis) = database(10).await;
    let live = live(&store, Some(&url)).await;
    assert!(live.slots_used.is_some() && live.requests_in_progress.is_none());
}

#[tokio::test]
async fn refused_requests_are_counted_from_the_start_on_and_outlive_their_minutes() {
    let mut store = Store::new("rejects").await;
    store.run(crate::db::CLOCK).await;
    let at = |time: &str| format!("update clock.hand set at = '2026-11-20 {time}Z'");
    store.run(&at("12:00:30")).await;
    let reject = |minute: &str, reason: &str, count: i64, ip: &str| {
        format!(
            "insert into ops_ingress_reject_aggregates (bucket_start, reject_reason, client_ip, request_count)
             values ('{minute}Z', '{reason}', '{ip}', {count})
             on conflict (bucket_start, reject_reason, route_family, protocol, client_ip, user_id, api_key_id)
             do update set request_count = ops_ingress_reject_aggregates.request_count + excluded.request_count"
        )
    };
    store.run(&reject("2026-10-01 09:00", "long_ago", 9, "192.0.2.3")).await;
    store.run(&reject("2026-11-19 13:00", "ip_restricted", 4, "192.0.2.3")).await;
    store.run(&reject("2026-11-20 12:00", "invalid_api_key", 5, "192.0.2.1")).await;
    let directory = relay::open(&store.plan()).unwrap().directory.read().await.unwrap();
    let open = |store: &Store| relay::open(&store.plan()).unwrap().live.unwrap();
    let told = |live: Live| live.rejected.unwrap().into_iter().collect::<BTreeMap<_, _>>();
    let of = |invalid, denied| [("invalid_api_key".to_owned(), invalid), ("ip_restricted".to_owned(), denied)].into();
    let mut reader = open(&store);
    assert_eq!(told(reader.read(&directory).await.unwrap()), of(0, 0), "what was before is no increase");

    store.run(&at("12:01:10")).await;
    store.run(&reject("2026-11-20 12:01", "invalid_api_key", 2, "192.0.2.1")).await;
    store.run(&reject("2026-11-20 12:01", "invalid_api_key", 1, "192.0.2.2")).await;
    assert_eq!(told(reader.read(&directory).await.unwrap()), of(3, 0));
    // The minute grows, and others come; long after, the relay deletes them.
    store.run(&reject("2026-11-20 12:01", "invalid_api_key", 10, "192.0.2.1")).await;
    store.run(&reject("2026-11-20 12:20", "ip_restricted", 7, "192.0.2.3")).await;
    store.run(&at("12:20:30")).await;
    assert_eq!(told(reader.read(&directory).await.unwrap()), of(13, 7));
    store.run("delete from ops_ingress_reject_aggregates where bucket_start < '2026-11-20 12:10Z'").await;
    for time in ["12:20:40", "12:45:00"] {
        store.run(&at(time)).await;
        assert_eq!(told(reader.read(&directory).await.unwrap()), of(13, 7), "{time}");
    }
    let restarted = told(open(&store).read(&directory).await.unwrap());
    assert_eq!(restarted, [("ip_restricted".to_owned(), 0)].into(), "a restart begins at 0");
}

/// An attack makes this table large, and a migration locks it.
#[tokio::test]
async fn refused_requests_that_cannot_be_read_take_nothing_else_with_them() {
    let mut store = Store::new("locked_rejects").await;
    store.people().await;
    let mut parts = relay::open(&store.plan()).unwrap();
    let directory = parts.directory.read().await.unwrap();
    let live = parts.live.as_mut().unwrap();
    store.run("begin; lock table ops_ingress_reject_aggregates").await;
    let locked = live.read(&directory).await.unwrap();
    assert_eq!((locked.accounts.len(), locked.rejected), (3, None));
    store.run("rollback").await;
    let free = live.read(&directory).await.unwrap();
    assert_eq!((free.accounts.len(), free.rejected), (3, Some(Vec::new())));
}
