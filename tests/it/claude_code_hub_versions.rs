//! Claude Code Hub: every statement runs on every generation of the relay's schema and says the same.

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Outcome, Reason, Scope};
use llm_relay_exporter::relay::RefreshRequest;
use llm_relay_exporter::relays::claude_code_hub::STEPS;

use crate::claude_code_hub::{Store, all, ledger, plan, usage, usd};
use crate::reading::{read_all, view};

#[tokio::test]
async fn every_release_is_read_alike() {
    let labels = [
        "up to v0.3.36",
        "v0.3.37 to v0.5.1",
        "v0.3.37 to v0.5.1",
        "v0.5.2 to v0.5.8",
        "v0.5.9 to v0.6.8",
        "v0.5.9 to v0.6.8",
        "v0.5.9 to v0.6.8",
        "v0.7.1 to v0.8.10",
        "v0.7.1 to v0.8.10",
        "v0.9.0+",
    ];
    for ((release, _), label) in STEPS.into_iter().zip(labels) {
        let mut store = Store::new(&format!("release_{}", release.replace(['.', 'v'], "_")), release).await;
        store.people().await;
        store
            .run(
                "update keys set expires_at = '2027-01-01 00:00Z';
                 insert into message_request (provider_id, user_id, key, model) values (1, 1, 'sk-ann', 'm');
                 update message_request set status_code = 200, cost_usd = 2, input_tokens = 10, output_tokens = 5,
                   cache_read_input_tokens = 100, duration_ms = 1500 where id = 1;
                 insert into message_request (provider_id, user_id, key, model, status_code, error_message)
                   values (1, 1, 'sk-ann', 'm', 500, 'boom'), (1, 1, 'sk-ann', 'm', null, 'socket hang up');
                 insert into message_request (provider_id, user_id, key, model, status_code, error_message, cost_usd)
                   values (1, 1, 'sk-ann', 'm', 499, 'aborted', 1);
                 insert into message_request (provider_id, user_id, key, model) values (1, 1, 'sk-ann', 'm');
                 insert into message_request (provider_id, user_id, key, model, blocked_by, status_code)
                   values (0, 1, 'sk-ann', 'm', 'warmup', 200)",
            )
            .await;
        let mut relay = store.relay();
        let now = Utc::now() + TimeDelta::minutes(1);
        let ask = RefreshRequest { reread: vec![2, 99], audit: vec![now - TimeDelta::hours(1)..now], ..all() };
        let mut refresh = usage(&mut relay).refresh(&ask).await.unwrap();
        assert_eq!(refresh.rows.iter().filter(|row| row.request_id == 2).count(), 2, "{release}: new and read again");
        refresh.rows.sort_by_key(|row| row.request_id);
        refresh.rows.dedup_by_key(|row| row.request_id);
        let seen: Vec<_> = refresh
            .rows
            .iter()
            .filter(|row| row.counted)
            .map(|row| (row.request_id, row.is_error, row.outcome))
            .collect();
        // Before the ledger an error was a status of at least 400.
        let has_ledger = !label.starts_with("up to") && !label.ends_with("v0.5.1") && !label.ends_with("v0.5.8");
        let expected = [
            (1, false, Some(Outcome::Success)),
            (2, true, Some(Outcome::Failure)),
            (3, has_ledger, Some(Outcome::Failure)),
            (4, true, Some(Outcome::Excluded)),
            (5, false, None),
        ];
        assert_eq!(seen, expected, "{release}");
        let sum = refresh.audit[0].unwrap();
        assert_eq!(
            (sum.requests, sum.cost, sum.board_tokens, sum.errors),
            (5, usd("3"), 115, 2 + u64::from(has_ledger)),
            "{release}"
        );
        assert!(refresh.basis.ends_with(label), "{release}: {}", refresh.basis);
        assert_eq!(
            usage(&mut relay).older(refresh.top + 1, 100).await.unwrap().rows.len(),
            refresh.rows.len(),
            "{release}"
        );
        let span = refresh.now - TimeDelta::hours(1)..now;
        assert_eq!(
            usage(&mut relay).rows_between(span.clone(), 0, 100).await.unwrap().len(),
            refresh.rows.len(),
            "{release}"
        );
        for scope in [Scope::User, Scope::Key, Scope::Provider] {
            assert_eq!(usage(&mut relay).spent(scope, 1, span.clone()).await.unwrap(), usd("3"), "{release} {scope:?}");
        }
        let directory = relay.directory.read().await.unwrap();
        assert_eq!(
            (directory.version.as_str(), directory.users.len(), directory.keys.len()),
            (label, 1, 1),
            "{release}"
        );
        assert_eq!(directory.keys[0].expires_at, "2027-01-01T00:00:00Z".parse().ok(), "{release}");
        let report = check::check(&plan(&store.url, None)).await.unwrap();
        assert!(report.worst() < Level::Problem, "{release}\n{report}");
    }
}

#[tokio::test]
async fn output_speed_has_no_base_in_rows_from_before_the_true_first_byte() {
    for (name, release, speed) in [("speed_8", "v0.8.5", Some(100_000_000)), ("speed_9", "v0.9.2", None)] {
        let mut store = Store::new(name, release).await;
        store.people().await;
        store
            .run(
                "insert into message_request (provider_id, user_id, key, status_code, output_tokens, duration_ms, ttfb_ms)
                 values (1, 1, 'sk-ann', 200, 100, 1500, 500)",
            )
            .await;
        let rows = usage(&mut store.relay()).refresh(&all()).await.unwrap().rows;
        assert_eq!(rows[0].output_speed_micro, speed, "{release}");
    }
}

#[tokio::test]
async fn a_log_row_without_a_time_is_left_out() {
    let mut store = Store::new("timeless", "v0.3.31").await;
    store.people().await;
    store
        .run(
            "insert into message_request (provider_id, user_id, key, created_at)
             values (1, 1, 'sk-ann', null), (1, 1, 'sk-ann', now()), (1, 1, 'sk-ann', now());
             update message_request set deleted_at = now() where id = 3",
        )
        .await;
    let refresh = usage(&mut store.relay()).refresh(&all()).await.unwrap();
    assert_eq!((refresh.rows.len(), refresh.refused.ids.len(), refresh.rows[0].request_id), (1, 1, 2));
}

#[tokio::test]
async fn an_upgrade_while_reading_is_noticed() {
    let mut store = Store::new("upgrade", "v0.5.2").await;
    store.people().await;
    let mut relay = store.relay();
    let before = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap().basis;
    for (_, script) in STEPS.into_iter().skip(4) {
        store.run(script).await;
    }
    // Without an error it is noticed some minutes later.
    store.run("alter table message_request rename column provider_id to first_provider_id").await;
    let error = usage(&mut relay).refresh(&all()).await.unwrap_err();
    assert!(error.reason == Reason::Schema && error.text.contains("provider_id"), "{error}");
    let after = usage(&mut relay).refresh(&all()).await.unwrap().basis;
    assert!(before.ends_with("v0.5.2 to v0.5.8") && after.ends_with("v0.9.0+"), "{before} / {after}");
}

/// Requests by [`Outcome`], dollars, and requests of users, all since the ledger began.
async fn counted(follower: &mut Follower) -> ([u64; 3], f64, u64) {
    for _ in 0..3 {
        read_all(follower).await;
    }
    let counters = view(follower, &plan("postgres://unused", None), None).counters.unwrap();
    let mut sums = ([0; 3], 0.0, counters.users.iter().map(|it| it.requests).sum());
    for it in counters.traffic.iter() {
        sums.0.iter_mut().zip(it.requests).for_each(|(sum, more)| *sum += more);
        sums.1 += it.cost_usd.unwrap_or_default();
    }
    sums
}

const TRAFFIC: &str = "
    insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd, created_at)
      select 1, 1, 'sk-ann', 'cheap', 'dear', 200, 1, now() - n * interval '7 minutes' from generate_series(1, 60) n;
    insert into message_request (provider_id, user_id, key, model, original_model, status_code, error_message, created_at)
      select 1, 1, 'sk-ann', 'dear', 'dear', 500, 'boom', now() - n * interval '7 minutes' from generate_series(1, 30) n;
    insert into message_request (provider_id, user_id, key, model, original_model, status_code, error_message, created_at)
      select 1, 1, 'sk-ann', 'dear', 'dear', 499, 'aborted', now() - n * interval '7 minutes' from generate_series(1, 10) n;";

#[tokio::test]
async fn an_upgrade_to_outcomes_counts_no_row_again_whenever_the_relays_back_fill_comes() {
    // `success_rate_outcome` came with v0.7.1 (`drizzle/0095`); rows of before have none until the relay's own
    // back-fill, which begins right after the migration and commits as a whole (`ledger-backfill/service.ts`).
    for back_fill_first in [false, true] {
        let mut store = Store::new(&format!("upgrade_{back_fill_first}"), "v0.6.5").await;
        store.people().await;
        store.run(TRAFFIC).await;
        let plan = plan(&store.url, None);
        let mut follower = Follower::new(ledger(&plan), &plan);
        let before = counted(&mut follower).await;
        assert_eq!(before, ([60, 30, 10], 60.0, 100));

        store.run("alter table usage_ledger add success_rate_outcome varchar(16)").await;
        let back_fill = "update usage_ledger set success_rate_outcome = case
            when status_code = 200 then 'success' when status_code = 499 then 'excluded' else 'failure' end";
        if back_fill_first {
            store.run(back_fill).await;
        }
        // The columns are looked at now and then; a reader that is opened anew looks at once.
        follower = follower.reopened(ledger(&plan), &plan);
        assert_eq!(counted(&mut follower).await, before, "back-fill first: {back_fill_first}");
        store.run(back_fill).await;
        assert_eq!(counted(&mut follower).await, before, "after the back-fill");
        assert_eq!(counted(&mut Follower::new(ledger(&plan), &plan)).await, before, "of a new exporter");
    }
}

#[tokio::test]
async fn a_switch_of_the_billing_model_there_and_back_counts_no_row_again() {
    let mut store = Store::new("billing_switch", "v0.9.2").await;
    store.people().await;
    store.run(TRAFFIC).await;
    let plan = plan(&store.url, None);
    let mut follower = Follower::new(ledger(&plan), &plan);
    let before = counted(&mut follower).await;
    assert_eq!((before.0.iter().sum::<u64>(), before.1, before.2), (100, 60.0, 100));
    for model in ["redirected", "original", "redirected"] {
        store.run(&format!("update system_settings set billing_model_source = '{model}'")).await;
        assert_eq!(counted(&mut follower).await, before, "{model}");
    }
    store.run("insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd) values (1, 1, 'sk-ann', 'cheap', 'dear', 200, 5)").await;
    let after = counted(&mut follower).await;
    assert_eq!((after.0.iter().sum::<u64>(), after.1, after.2), (101, 65.0, 101), "what is new counts");
}

#[tokio::test]
async fn a_migration_that_has_stopped_half_way_is_no_release() {
    // The relay adds this column ahead of all other migrations (v0.9.0 `session-replay-index-preflight.ts`).
    let mut store = Store::new("half_way", "v0.6.5").await;
    store.people().await;
    store.run(TRAFFIC).await;
    store.run("alter table usage_ledger add is_replay boolean not null default false").await;
    let basis = usage(&mut store.relay()).refresh(&all()).await.unwrap().basis;
    assert!(basis.ends_with("v0.5.9 to v0.6.8"), "{basis}");
}
