//! Balances and quotas, as the relay keeps them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use llm_relay_exporter::model::{Scope, Usd, WindowRule};

use super::database::{Request, Store, parts, whole_view};

/// Limit and use in dollars, and whether the window has an end.
type Quota = (f64, f64, bool);

async fn quotas(store: &Store) -> BTreeMap<(Scope, i64, String), Quota> {
    let (directory, _) = parts(&store.plan()).await;
    let quota = |it: &llm_relay_exporter::model::Limit| {
        let WindowRule::Told { used, resets_at } = it.rule else { panic!("{it:?}") };
        let name = format!("{} {}", it.window.label(), it.part);
        (
            (it.scope, it.id.number().unwrap(), name.trim().to_owned()),
            (it.limit.unwrap().to_f64(), used.to_f64(), resets_at.is_some()),
        )
    };
    let quotas: BTreeMap<_, _> = directory.limits.iter().map(quota).collect();
    assert_eq!(quotas.len(), directory.limits.len(), "each once");
    quotas
}

#[tokio::test]
async fn windows_of_keys_are_open_or_of_nothing() {
    let mut store = Store::new("key_quotas").await;
    store.people().await;
    store
        .run(
            "update api_keys set quota = 10, quota_used = 10.5, rate_limit_5h = 1, usage_5h = 0.25, window_5h_start = now() - interval '1 hour',
               rate_limit_1d = 2, usage_1d = 1.5, window_1d_start = now() - interval '25 hours', rate_limit_7d = 7, usage_7d = 0 where id = 1;
             update api_keys set quota = 5, deleted_at = now() where id = 2",
        )
        .await;
    let key = |window: &str| (Scope::Key, 1, window.to_owned());
    let expected = [
        (key("total"), (10.0, 10.5, false)),
        (key("5h"), (1.0, 0.25, true)),
        (key("daily"), (2.0, 0.0, false)),
        (key("weekly"), (7.0, 0.0, false)),
    ];
    assert_eq!(quotas(&store).await, expected.into(), "no limit is none, and a deleted key has none");
}

#[tokio::test]
async fn users_have_quotas_by_group_and_by_platform() {
    let mut store = Store::new("user_quotas").await;
    store.people().await;
    store
        .run(
            "update usage_group_rollup_state set timezone_name = 'UTC';
             insert into groups (name, platform, subscription_type, daily_limit_usd, weekly_limit_usd, monthly_limit_usd) values
               ('vip', 'anthropic', 'subscription', 5, 20, null), ('openai', 'openai', 'subscription', 1, 0, 50),
               ('gone', 'openai', 'subscription', 9, 9, 9);
             update groups set deleted_at = now() where name = 'gone';
             insert into user_subscriptions (user_id, group_id, status, starts_at, expires_at, daily_usage_usd, daily_window_start,
               weekly_usage_usd, weekly_window_start, monthly_usage_usd, monthly_window_start) values
               (2, 1, 'active', now() - interval '9 days', now() + interval '20 days', 1.5, date_trunc('day', now() at time zone 'UTC') at time zone 'UTC', 3, now() - interval '8 days', 0, null),
               (2, 2, 'active', now() - interval '9 days', now() + interval '2 hours', 0.75, now() - interval '1 day', 9, null, 12.5, now() - interval '9 days'),
               (2, 3, 'active', now(), now() + interval '20 days', 1, now(), 1, now(), 1, now()),
               (3, 1, 'expired', now() - interval '40 days', now() - interval '10 days', 1, now(), 1, now(), 1, now()),
               (3, 2, 'active', now() - interval '20 hours', now() + interval '4 hours', 0.5, now() - interval '20 hours', 0, null, 0, null);
             insert into user_platform_quotas (user_id, platform, daily_limit_usd, monthly_limit_usd, daily_usage_usd, daily_window_start) values
               (2, 'openai', 3, null, 0.5, date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'), (3, 'gemini', null, 0, 0, null)",
        )
        .await;
    let user = |id, name: &str| (Scope::User, id, name.to_owned());
    let expected = [
        (user(2, "daily group:vip"), (5.0, 1.5, true)),
        (user(2, "weekly group:vip"), (20.0, 0.0, false)),
        (user(2, "daily group:openai"), (1.0, 0.0, false)),
        (user(2, "monthly group:openai"), (50.0, 12.5, true)),
        // A day's subscription has one daily quota, whenever midnight is.
        (user(3, "daily group:openai"), (1.0, 0.5, true)),
        (user(3, "monthly group:openai"), (50.0, 0.0, false)),
        (user(2, "daily platform:openai"), (3.0, 0.5, true)),
        // Nothing is let through.
        (user(3, "monthly platform:gemini"), (0.0, 0.0, false)),
    ];
    assert_eq!(quotas(&store).await, expected.into());
    let (directory, _) = parts(&store.plan()).await;
    let reset = |part: &str, window: &str| -> DateTime<Utc> {
        let limit = directory
            .limits
            .iter()
            .find(|it| (it.id.number(), &*it.part, it.window.label()) == (Some(2), part, window))
            .unwrap();
        let WindowRule::Told { resets_at, .. } = limit.rule else { unreachable!() };
        resets_at.unwrap()
    };
    let midnight = (Utc::now().date_naive() + TimeDelta::days(1)).and_hms_opt(0, 0, 0).unwrap().and_utc();
    assert_eq!(reset("group:vip", "daily"), midnight);
    assert!(reset("group:openai", "monthly") < Utc::now() + TimeDelta::hours(3), "not past its end");
}

#[tokio::test]
async fn before_0_1_172_a_subscriptions_day_is_of_24_hours() {
    let mut store = Store::of_release("user_quotas_old", "0.1.161").await;
    store.people().await;
    store
        .run(
            "insert into groups (name, subscription_type, daily_limit_usd) values ('vip', 'subscription', 5);
             insert into user_subscriptions (user_id, group_id, starts_at, expires_at, daily_usage_usd, daily_window_start) values
               (2, 1, now() - interval '9 days', now() + interval '20 days', 1.5, now() - interval '23 hours'),
               (3, 1, now() - interval '9 days', now() + interval '20 days', 1.5, now() - interval '25 hours')",
        )
        .await;
    let used: Vec<f64> = quotas(&store).await.values().map(|it| it.1).collect();
    assert_eq!(used, [1.5, 0.0]);
}

#[tokio::test]
async fn accounts_that_are_billed_by_use_have_limits() {
    let mut store = Store::new("account_quotas").await;
    store.grant().await;
    store.run("insert into accounts (name, platform, type, extra) values ('a', 'openai', 'apikey', '{\"quota_limit\": 100, \"quota_used\": 40.5, \"quota_daily_limit\": \"10\"}'), ('b', 'openai', 'apikey', '{\"quota_limit\": 0}')").await;
    let account = |window: &str| (Scope::Provider, 1, window.to_owned());
    let expected = [(account("total"), (100.0, 40.5, false)), (account("daily"), (10.0, 0.0, false))];
    assert_eq!(quotas(&store).await, expected.into());
}

#[tokio::test]
async fn balances_may_be_below_nothing_and_people_have_no_addresses() {
    let mut store = Store::new("balances").await;
    store.people().await;
    store.run("update users set rpm_limit = 30 where id = 2; update users set deleted_at = now(), username = 'ann@planted.example' where id = 1").await;
    store.run("update api_keys set status = 'quota_exhausted' where id = 2; update api_keys set expires_at = now() - interval '1 hour' where id = 3").await;
    let (directory, _) = parts(&store.plan()).await;
    let users: Vec<_> = directory
        .users
        .iter()
        .map(|it| (it.name.as_str(), it.balance.map(Usd::to_f64), it.requests_per_minute))
        .collect();
    assert_eq!(users, [("user-1", Some(0.0), None), ("alice", Some(12.5), Some(30)), ("user-3", Some(-0.75), None)]);
    assert!(directory.users[0].deleted);
    let keys: Vec<_> = directory.keys.iter().map(|it| it.enabled).collect();
    assert_eq!(keys, [Some(true), Some(false), Some(false)]);
    assert_eq!(directory.providers[2].name, "account-3");
    assert!(!format!("{directory:?}").contains("planted"));
}

#[tokio::test]
async fn a_quota_ends_at_the_pace_of_the_last_hours() {
    let mut store = Store::new("pace").await;
    store.people().await;
    store.run("update api_keys set quota = 2, quota_used = 1 where id = 2").await;
    let at = "now() - interval '1 hour'".to_owned();
    store.run(&Request { at, list: 500_000, ..Request::default() }.insert()).await;
    let whole = whole_view(&store.plan()).await;
    let quota = whole.quotas.iter().find(|it| it.scope == Scope::Key).unwrap();
    let hours = (quota.exhausted_at.unwrap() - Utc::now()).num_minutes() as f64 / 60.0;
    assert!((9.9..10.1).contains(&hours), "half a dollar in five hours, and one is left: {hours}");
}
