//! Claude Code Hub: the life of a request, as the ledger's reader sees it through the relay's own trigger.

mod database;

use chrono::{DateTime, TimeDelta, Utc};
use llm_relay_exporter::model::{
    Directory, FailureClass, Limit, Outcome, QuotaWindow, Scope, UsageRow, Usd, WindowRule,
};
use llm_relay_exporter::relay::{Refresh, RefreshRequest, Relay};

pub use database::*;

async fn rows(relay: &mut Relay) -> Vec<UsageRow> {
    let mut rows = usage(relay).refresh(&all()).await.unwrap().rows;
    rows.sort_by_key(|row| row.request_id);
    rows
}

async fn again(relay: &mut Relay, request_id: i64) -> Refresh {
    usage(relay).refresh(&RefreshRequest { reread: vec![request_id], ..RefreshRequest::default() }).await.unwrap()
}

#[tokio::test]
async fn a_request_is_seen_from_its_start_over_its_end_to_its_late_cost() {
    let mut store = Store::new("life", "v0.9.2").await;
    store.people().await;
    let mut relay = store.relay();
    let first = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    assert_eq!((first.top, first.rows.len()), (0, 0));

    store
        .run(
            "insert into message_request (provider_id, user_id, key, model, original_model, endpoint, cost_multiplier)
             values (1, 1, 'sk-ann', 'sonnet-cheap', 'sonnet', '/v1/messages', 1.0)",
        )
        .await;
    let running = &rows(&mut relay).await[0];
    assert!(running.counted && !running.is_final && !running.is_error);
    assert_eq!((running.outcome, running.failure, running.status), (None, None, None));
    assert_eq!((running.user_id, running.key_id, running.provider_id, running.cost), (1, Some(1), 1, Usd::ZERO));
    assert_eq!(running.model.as_deref(), Some("sonnet"), "the relay bills by the model that was asked for");
    assert_eq!(running.board_tokens, 0);

    store.run("update message_request set cost_usd = 0.123456789012345 where id = 1").await;
    let costed = again(&mut relay, 1).await.rows.remove(0);
    assert!(!costed.is_final, "the cost may come before the end");
    assert_eq!(costed.cost, usd("0.123456789012345"));

    store
        .run(
            r#"update message_request set status_code = 200, duration_ms = 2600, ttfb_ms = 900, first_byte_ms = 600,
               input_tokens = 100, output_tokens = 400, cache_creation_input_tokens = 60, cache_read_input_tokens = 1000,
               cache_creation_5m_input_tokens = 40, cache_creation_1h_input_tokens = 15,
               actual_response_model = 'sonnet-older', provider_id = 1,
               provider_chain = '[{"id": 1, "reason": "initial_selection"},
                                  {"id": 7, "reason": "hedge_winner", "statusCode": 200}]' where id = 1"#,
        )
        .await;
    let ended = again(&mut relay, 1).await.rows.remove(0);
    assert!(ended.is_final && ended.counted && !ended.is_error);
    assert_eq!((ended.outcome, ended.failure, ended.status), (Some(Outcome::Success), None, Some(200)));
    assert_eq!(ended.provider_id, 7, "the provider that answered last");
    assert_eq!(ended.answered_model.as_deref(), Some("sonnet-older"));
    let by_type = ended.tokens.by_type().map(|(_, count)| count);
    assert_eq!(by_type, [100, 400, 1000, 40, 15, 5]);
    assert_eq!(ended.board_tokens, 1560);
    assert_eq!((ended.duration_ms, ended.ttft_ms), (Some(2600), Some(900)));
    assert_eq!(ended.output_speed_micro, Some(200_000_000), "400 tokens in the 2 s after the first byte");

    store.run("update message_request set cost_usd = cost_usd + 1 where id = 1").await;
    let late = again(&mut relay, 1).await.rows.remove(0);
    assert_eq!(late.cost, usd("1.123456789012345"));
    assert_eq!(late.id, running.id, "an update keeps the row's place in the ledger");

    store.run("delete from usage_ledger where request_id = 1").await;
    assert_eq!(again(&mut relay, 1).await.rows.len(), 0, "a row that is gone is missing in the answer");
}

#[tokio::test]
async fn rows_that_the_relay_leaves_out_are_not_counted() {
    let mut store = Store::new("left_out", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, model, endpoint, blocked_by, status_code, is_replay, cost_usd)
             values (1, 1, 'sk-ann', 'm', '/v1/messages', null, 200, false, 1),
                    (0, 1, 'sk-ann', 'm', '/v1/messages', 'sensitive_word', 400, false, 0),
                    (0, 1, 'sk-ann', 'm', '/v1/messages', 'warmup', 200, false, 0),
                    (0, 1, 'sk-ann', 'm', '/v1/messages', null, 200, true, 5),
                    (1, 1, 'sk-ann', 'm', '/V1/messages/count_tokens//', null, 200, false, 0)",
        )
        .await;
    // An old row that a relay before v0.7.1 left in the ledger.
    store
        .run(
            "insert into usage_ledger (request_id, user_id, key, provider_id, final_provider_id, endpoint, created_at, is_success)
             values (900, 1, 'sk-ann', 1, 1, '/v1/responses/compact', now(), true)",
        )
        .await;
    let mut relay = store.relay();
    let rows = rows(&mut relay).await;
    let seen: Vec<(i64, bool)> = rows.iter().map(|row| (row.request_id, row.counted)).collect();
    assert_eq!(seen, [(1, true), (2, false), (4, false), (900, false)]);
    assert_eq!(rows[1].failure, Some(FailureClass::Policy));
    assert_eq!(rows[2].cost, Usd::ZERO, "a replay costs nothing");
    let now = Utc::now() + TimeDelta::minutes(1);
    let audit = vec![now - TimeDelta::hours(1)..now, now..now + TimeDelta::hours(1)];
    let sums = usage(&mut relay).refresh(&RefreshRequest { audit, ..RefreshRequest::default() }).await.unwrap().audit;
    let [first, second] = [sums[0].unwrap(), sums[1].unwrap()];
    assert_eq!((first.requests, first.cost, first.errors), (1, usd("1"), 0));
    assert_eq!(second.requests, 0);
}

#[tokio::test]
async fn errors_and_outcomes_follow_the_relay() {
    let mut store = Store::new("outcomes", "v0.9.2").await;
    store.people().await;
    let cases = [
        ("200, null, null", false, Outcome::Success, None),
        ("200, 'upstream sent an error event', null", true, Outcome::Success, None),
        ("404, 'not found', null", true, Outcome::Excluded, Some(FailureClass::Caller)),
        ("499, 'aborted', null", true, Outcome::Excluded, Some(FailureClass::ClientAbort)),
        ("529, 'overloaded', null", true, Outcome::Failure, Some(FailureClass::Overloaded)),
        (
            "500, 'x', '[{\"id\": 1, \"errorDetails\": {\"matchedRule\": {}}}]'",
            true,
            Outcome::Excluded,
            Some(FailureClass::Server),
        ),
        ("503, 'No available provider', null", true, Outcome::Excluded, Some(FailureClass::Overloaded)),
        ("null, 'socket hang up', null", true, Outcome::Failure, Some(FailureClass::Unknown)),
    ];
    for (values, ..) in &cases {
        store
            .run(&format!(
                "insert into message_request (provider_id, user_id, key, status_code, error_message, provider_chain)
                 values (1, 1, 'sk-ann', {values})"
            ))
            .await;
    }
    let rows = rows(&mut store.relay()).await;
    for ((values, is_error, outcome, failure), row) in cases.into_iter().zip(rows) {
        assert!(row.is_final, "{values}");
        assert_eq!((row.is_error, row.outcome, row.failure), (is_error, Some(outcome), failure), "{values}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_understood_does_not_take_the_rest_with_it() {
    let mut store = Store::new("refused", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, cost_usd, input_tokens, output_tokens, duration_ms, created_at)
             values (1, 1, 'sk-ann', 1, 5, 5, 10, now()),
                    (1, 1, 'sk-ann', 'NaN', 5, 5, 10, now()),
                    (1, 1, 'sk-ann', 2, 5, 5, 10, 'infinity'),
                    (1, 1, 'sk-ann', 3, 9223372036854775807, 9223372036854775807, -5, now()),
                    (1, 1, 'sk-ann', -4, -100, 5, 10, now())",
        )
        .await;
    let mut relay = store.relay();
    let now = Utc::now() + TimeDelta::minutes(1);
    let ask = RefreshRequest { audit: vec![now - TimeDelta::hours(1)..now], ..all() };
    let mut refresh = usage(&mut relay).refresh(&ask).await.unwrap();
    refresh.rows.sort_by_key(|row| row.request_id);
    assert_eq!(refresh.refused.ids.len(), 1, "no day holds an infinite time");
    let costs: Vec<Usd> = refresh.rows.iter().map(|row| row.cost).collect();
    assert_eq!(costs, [usd("1"), Usd::ZERO, usd("3"), usd("-4")]);
    assert_eq!(refresh.rows[2].board_tokens, u64::MAX - 1);
    assert_eq!((refresh.rows[3].tokens.input, refresh.rows[3].board_tokens), (0, 0));
    let sum = refresh.audit[0].unwrap();
    assert_eq!((sum.requests, sum.cost), (4, Usd::ZERO), "the audit sees the same rows and costs");
    assert_eq!(sum.board_tokens, refresh.rows.iter().map(|row| row.board_tokens).fold(0, u64::saturating_add));
}

#[tokio::test]
async fn history_is_read_downwards_to_its_bottom_and_by_span_upwards() {
    let mut store = Store::new("history", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, cost_usd, created_at)
             select 1, 1, 'sk-ann', n, now() - make_interval(hours => 25 - n) from generate_series(1, 25) n",
        )
        .await;
    let mut relay = store.relay();
    let end = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    let mut below = end.top + 1;
    let mut ids = Vec::new();
    loop {
        let older = usage(&mut relay).older(below, 10).await.unwrap();
        ids.extend(older.rows.iter().map(|row| row.request_id));
        below = older.rows.iter().map(|row| row.id).min().unwrap_or(0);
        if older.bottom {
            break;
        }
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=25).collect::<Vec<_>>());

    let span = end.now - TimeDelta::minutes(330)..end.now + TimeDelta::minutes(1);
    let first = usage(&mut relay).rows_between(span.clone(), 0, 4).await.unwrap();
    let second = usage(&mut relay).rows_between(span.clone(), first[3].id, 4).await.unwrap();
    let seen: Vec<i64> = first.iter().chain(&second).map(|row| row.request_id).collect();
    assert_eq!(seen, [20, 21, 22, 23, 24, 25]);
    for (scope, id) in [(Scope::User, 1), (Scope::Key, 1), (Scope::Provider, 1)] {
        assert_eq!(usage(&mut relay).spent(scope, id, span.clone()).await.unwrap(), usd("135"), "{scope:?}");
        assert_eq!(usage(&mut relay).spent(scope, 2, span.clone()).await.unwrap(), Usd::ZERO, "{scope:?}");
    }

    let new = usage(&mut relay)
        .refresh(&RefreshRequest { after: Some(0), limit: 10, ..RefreshRequest::default() })
        .await
        .unwrap();
    assert!(new.more && new.rows.len() == 10);
    let last = usage(&mut relay)
        .refresh(&RefreshRequest { after: Some(end.top - 5), limit: 10, ..RefreshRequest::default() })
        .await
        .unwrap();
    assert!(!last.more && last.rows.len() == 5);
}

#[tokio::test]
async fn the_calendar_is_the_databases_own_and_reaches_back_to_a_row_that_comes_late() {
    let mut store = Store::new("calendar", "v0.9.2").await;
    store.people().await;
    store.run("update system_settings set timezone = 'America/New_York'").await;
    store.run("insert into message_request (provider_id, user_id, key) values (1, 1, 'sk-ann')").await;
    let mut relay = store.relay();
    let before = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    let today = before.calendar.date(before.now).unwrap();
    assert_eq!((before.calendar.zone(), before.calendar.first_date()), ("America/New_York", today));
    assert!(before.calendar.start(today.succ_opt().unwrap().succ_opt().unwrap()).is_some());

    store
        .run("insert into message_request (provider_id, user_id, key, created_at) values (1, 1, 'sk-ann', '2026-03-01 12:00Z')")
        .await;
    let after = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    let start = |text: &str| after.calendar.start(text.parse().unwrap()).unwrap();
    assert_eq!(start("2026-03-08"), "2026-03-08T05:00:00Z".parse::<DateTime<Utc>>().unwrap());
    assert_eq!(start("2026-03-09"), "2026-03-09T04:00:00Z".parse::<DateTime<Utc>>().unwrap(), "a day of 23 hours");
    assert_eq!(after.basis, before.basis);

    store.run("update system_settings set timezone = 'Asia/Tokyo', billing_model_source = 'redirected'").await;
    let moved = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    assert_eq!(moved.calendar.zone(), "Asia/Tokyo");
    assert_ne!(moved.basis, after.basis, "the tally has to start over");
    store.run("update system_settings set timezone = 'Mars/Olympus'").await;
    let fallback = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    assert_eq!(fallback.calendar.zone(), "Asia/Shanghai");
}

#[tokio::test]
async fn usage_of_a_shared_secret_counts_for_one_key() {
    let mut store = Store::new("shared_secret", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into keys (user_id, key, name, is_enabled, deleted_at) values
               (1, 'sk-same', 'deleted', true, now()), (1, 'sk-same', 'off', false, null),
               (1, 'sk-same', 'on', true, null), (1, 'sk-same', 'also on', true, null);
             insert into message_request (provider_id, user_id, key, cost_usd)
             values (1, 1, 'sk-same', 2), (1, 1, 'sk-nobody', 3)",
        )
        .await;
    let mut relay = store.relay();
    let rows = rows(&mut relay).await;
    assert_eq!((rows[0].key_id, rows[1].key_id), (Some(4), None));
    let directory = relay.directory.read().await.unwrap();
    let counts_as: Vec<(i64, i64)> =
        directory.keys.iter().filter_map(|key| Some((key.id.number()?, key.counts_as.number()?))).collect();
    assert_eq!(counts_as, [(1, 1), (2, 4), (3, 4), (4, 4), (5, 4)]);
    let ever = "2000-01-01T00:00:00Z".parse().unwrap()..Utc::now() + TimeDelta::minutes(1);
    assert_eq!(usage(&mut relay).spent(Scope::Key, 5, ever).await.unwrap(), usd("2"), "the relay sums by secret");
}

#[tokio::test]
async fn a_key_is_what_its_user_is_and_has_its_users_limit_of_sessions() {
    let mut store = Store::new("keys_of_users", "v0.9.2").await;
    store
        .run(
            "insert into users (name, is_enabled, deleted_at, expires_at, limit_concurrent_sessions, rpm_limit) values
               ('ann', true, null, '2100-01-01Z', 3, 60), ('gone', true, now(), null, null, null),
               ('off', false, null, null, null, 0), ('late', true, null, now() - interval '1 minute', 0, null);
             insert into keys (user_id, key, name, is_enabled, limit_concurrent_sessions, limit_5h_usd) values
               (1, 'sk-1', 'own', true, 2, null), (1, 'sk-2', 'of the user', true, 0, null), (1, 'sk-3', 'off', false, null, null),
               (2, 'sk-4', 'of nobody', true, 5, 9), (3, 'sk-5', 'of a disabled one', true, null, null),
               (4, 'sk-6', 'of an expired one', true, null, null)",
        )
        .await;
    let directory = store.relay().directory.read().await.unwrap();
    let keys: Vec<_> = directory.keys.iter().map(|key| (key.enabled.unwrap(), key.deleted, key.sessions)).collect();
    let off = (false, false, None);
    assert_eq!(keys[..3], [(true, false, Some(2)), (true, false, Some(3)), (false, false, Some(3))]);
    assert!(keys[3].1, "its user is gone");
    assert_eq!(keys[4..], [off, off]);
    assert_eq!(directory.limits, [], "who is gone has no limit");
    let users: Vec<_> = directory.users.iter().map(|it| (it.sessions, it.requests_per_minute)).collect();
    assert_eq!(users, [(Some(3), Some(60)), (None, None), (None, None), (None, None)]);
    assert_eq!(directory.users[0].expires_at, Some("2100-01-01T00:00:00Z".parse().unwrap()));
}

#[tokio::test]
async fn cache_reads_save_what_the_price_of_their_time_says() {
    let mut store = Store::new("savings", "v0.9.2").await;
    store.people().await;
    store
        .run(
            r#"insert into model_prices (model_name, price_data, created_at) values
                 ('opus', '{"input_cost_per_token": 5e-06, "cache_read_input_token_cost": 5e-07}', '2026-01-01Z'),
                 ('opus', '{"input_cost_per_token": "0.000003", "cache_read_input_token_cost": 1e-06}', '2026-06-01Z'),
                 ('odd', '{"input_cost_per_token": "many", "cache_read_input_token_cost": 1}', '2026-01-01Z');
               insert into message_request (provider_id, user_id, key, model, cache_read_input_tokens, created_at,
                 cost_multiplier, group_cost_multiplier) values
                 (1, 1, 'sk-ann', 'opus', 1000000, '2025-12-01Z', 1, null),
                 (1, 1, 'sk-ann', 'opus', 1000000, '2026-02-01Z', 0.5, 1.2),
                 (1, 1, 'sk-ann', 'opus', 1000000, '2026-07-01Z', null, null),
                 (1, 1, 'sk-ann', 'odd', 1000000, '2026-07-01Z', 1, 1)"#,
        )
        .await;
    let saved: Vec<Option<Usd>> = rows(&mut store.relay()).await.iter().map(|row| row.cache_saved).collect();
    assert_eq!(saved, [Some(usd("4.5")), Some(usd("2.7")), Some(usd("2")), None]);
}

#[tokio::test]
async fn the_model_is_the_one_that_the_relay_bills_by() {
    let mut store = Store::new("billing", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, original_model, model, actual_response_model) values
               (1, 1, 'sk-ann', 'asked', 'sent', 'sent'), (1, 1, 'sk-ann', null, 'sent', 'other'),
               (1, 1, 'sk-ann', '', 'sent', ''), (1, 1, 'sk-ann', 'asked', null, 'other'), (1, 1, 'sk-ann', null, null, null)",
        )
        .await;
    let mut relay = store.relay();
    let name = |name: &Option<std::sync::Arc<str>>| name.as_deref().unwrap_or("none").to_owned();
    let asked = rows(&mut relay).await;
    assert_eq!(
        asked.iter().map(|row| name(&row.model)).collect::<Vec<_>>(),
        ["asked", "sent", "none", "asked", "none"]
    );
    let answered: Vec<_> = asked.iter().map(|row| name(&row.answered_model)).collect();
    assert_eq!(answered, ["none", "other", "none", "other", "none"]);
    store.run("update system_settings set billing_model_source = 'redirected'").await;
    let sent = rows(&mut relay).await;
    assert_eq!(sent.iter().map(|row| name(&row.model)).collect::<Vec<_>>(), ["sent", "sent", "sent", "asked", "none"]);
}

#[tokio::test]
async fn limits_follow_the_relays_windows_and_resets() {
    let mut store = Store::new("limits", "v0.9.2").await;
    store
        .run(
            "insert into users (name, limit_5h_usd, daily_limit_usd, daily_reset_time, limit_total_usd, limit_weekly_usd,
               cost_reset_at, limit_5h_cost_reset_at)
             values ('ann', 5, 10, '08:30', 0, null, '2026-10-01Z', '2026-10-02Z'), ('gone', 5, 5, '00:00', 5, 5, null, null);
             update users set deleted_at = now() where name = 'gone';
             insert into keys (user_id, key, name, limit_5h_usd, limit_5h_reset_mode, limit_daily_usd, daily_reset_mode,
               limit_monthly_usd, cost_reset_at)
             values (1, 'sk-ann', 'laptop', 1, 'fixed', 2, 'rolling', 3, '2026-09-01Z');
             insert into providers (name, url, key, limit_weekly_usd, limit_total_usd, total_cost_reset_at,
               limit_concurrent_sessions, group_tag, circuit_breaker_failure_threshold)
             values ('north', 'u', 'k', 7, 70, '2026-08-01Z', 4, 'fast,cheap', 5), ('south', 'u', 'k', -1, null, null, 0, null, 0)",
        )
        .await;
    let directory: Directory = store.relay().directory.read().await.unwrap();
    let at = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
    let limit = |scope, window, rule, dollars, since| Limit {
        scope,
        id: 1.into(),
        window,
        part: "".into(),
        rule,
        limit: Some(usd(dollars)),
        soft_limit: None,
        since,
    };
    let (october, later) = (at("2026-10-01T00:00:00Z"), at("2026-10-02T00:00:00Z"));
    let expected = [
        limit(Scope::User, QuotaWindow::FiveHours, WindowRule::Rolling { hours: 5 }, "5", later),
        limit(Scope::User, QuotaWindow::Daily, WindowRule::DailyAt { hour: 8, minute: 30 }, "10", october),
        limit(Scope::Key, QuotaWindow::FiveHours, WindowRule::Live, "1", october),
        limit(Scope::Key, QuotaWindow::Daily, WindowRule::Rolling { hours: 24 }, "2", october),
        limit(Scope::Key, QuotaWindow::Monthly, WindowRule::Monthly, "3", october),
        limit(Scope::Provider, QuotaWindow::Weekly, WindowRule::Weekly, "7", None),
        limit(Scope::Provider, QuotaWindow::Total, WindowRule::Total, "70", at("2026-08-01T00:00:00Z")),
    ];
    assert_eq!(directory.limits, expected);
    assert_eq!(directory.providers[0].slots, Some(4));
    assert_eq!(directory.providers[1].slots, None);
    assert_eq!(directory.without_breaker, [2.into()]);
    assert_eq!(
        (directory.providers[0].group.as_str(), directory.providers[1].group.as_str()),
        ("fast,cheap", "default")
    );
    assert!(directory.users[1].deleted, "rows still refer to a deleted user");
    assert!(!directory.sessions_untracked);
    store
        .run("insert into system_settings (enable_high_concurrency_mode, currency_display) values (true, 'CNY')")
        .await;
    let busy = store.relay().directory.read().await.unwrap();
    assert_eq!((busy.sessions_untracked, busy.currency.as_deref()), (true, Some("CNY")));
    assert_eq!((directory.timezone.as_str(), directory.version.as_str()), ("Asia/Shanghai", "v0.9.0+"));
}
