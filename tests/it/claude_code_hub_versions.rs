//! Claude Code Hub: every statement runs on every generation of the relay's schema and says the same.

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::model::{Outcome, Reason, Scope};
use llm_relay_exporter::relays::Ask;
use llm_relay_exporter::relays::claude_code_hub::STEPS;

use crate::claude_code_hub::{Store, all, plan, usage, usd};

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
        let ask = Ask { reread: vec![2, 99], audit: vec![now - TimeDelta::hours(1)..now], ..all() };
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
        let sum = refresh.audit[0];
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
    assert_eq!((refresh.rows.len(), refresh.refused, refresh.rows[0].request_id), (1, 1, 2));
}

#[tokio::test]
async fn an_upgrade_while_reading_is_noticed() {
    let mut store = Store::new("upgrade", "v0.5.2").await;
    store.people().await;
    let mut relay = store.relay();
    let before = usage(&mut relay).refresh(&Ask::default()).await.unwrap().basis;
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
