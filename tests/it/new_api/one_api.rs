//! one-api v0.6.10 and v0.6.11: the same log with less in it.

use std::collections::BTreeMap;

use llm_relay_exporter::model::Scope;
use llm_relay_exporter::relay;
use llm_relay_exporter::relays::new_api;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;

use super::database::{Db, Place, plan, settle, view};
use crate::claude_code_hub::ledger;

async fn relay(place: &Place) -> (Db, RelayPlan) {
    let (mut db, url) = place.database("one-api.db").await;
    db.run(new_api::ONE_API_SCHEMA).await;
    db.run(
        "insert into users (id, username, password, role, status, quota, used_quota) values
           (1, 'root', 'x', 100, 1, 500000000000000, 4500), (2, 'alice', 'x', 1, 1, 9000, 4500),
           (3, 'deleted_0123456789abcdef0123456789abcdef', 'x', 1, 3, 0, 0);
         insert into tokens (id, user_id, key, name, remain_quota, used_quota, unlimited_quota) values
           (1, 1, 'sk-1', 'default', 0, 0, true), (2, 2, 'sk-2', 'default', -4500, 13500, false),
           (3, 2, 'sk-3', 'twice', 0, 0, true), (4, 2, 'sk-4', 'twice', 0, 0, true), (5, 3, 'sk-5', 'default', 0, 0, true);
         insert into channels (id, type, key, status, name) values (1, 36, 'sk', 1, 'a'), (2, 1, 'sk', 3, 'b')",
    )
    .await;
    (db, RelayPlan { product: &new_api::ONE_API, ..plan(&url, "UTC") })
}

async fn whole(plan: &RelayPlan) -> LedgerView {
    let directory = relay::open(plan).unwrap().directory.read().await.unwrap();
    let mut follower = llm_relay_exporter::follow::Follower::new(ledger(plan), plan);
    settle(&mut follower).await;
    view(&mut follower, plan, &directory)
}

const COLUMNS: &str =
    "created_at, type, user_id, token_name, channel_id, model_name, quota, prompt_tokens, completion_tokens";

#[tokio::test]
async fn requests_are_told_by_the_name_of_their_key_and_failures_are_not() {
    let place = Place::sqlite();
    let (mut db, plan) = relay(&place).await;
    db.run(&format!(
        "insert into logs ({COLUMNS}, elapsed_time) values
           (unixepoch(), 2, 1, 'default', 1, 'gpt-4o', 4500, 1000, 200, 2500),
           (unixepoch(), 2, 2, 'default', 1, 'gpt-4o', 4500, 1000, 200, 500),
           (unixepoch(), 2, 2, 'twice', 1, 'gpt-4o', 10, 1, 2, 100),
           (unixepoch(), 2, 2, 'renamed', 2, 'dall-e-3', 20000, 0, 0, 0),
           (unixepoch(), 2, 3, 'default', 2, 'whisper-1', 37, 37, 0, 0),
           (unixepoch(), 2, 1, 'default', 2, 'speech', 50, 50, 0, 0),
           (unixepoch(), 5, 0, '', 1, 'gpt-4o', 0, 0, 0, 900), (unixepoch(), 1, 2, '', 0, '', 500000, 0, 0, 0)"
    ))
    .await;
    let view = whole(&plan).await;
    assert_eq!((view.days[0].1.requests, view.days[0].1.cost_usd), (6, Some(0.058194)));
    assert_eq!(view.days[0].1.mean_duration_seconds, Some(3100.0 / 3.0 / 1e3));
    assert_eq!(view.tokens_last_minute, Some(2403.0), "speech is charged where the tokens belong");
    assert_eq!(view.windows, [], "nothing fails in its log");
    let counters = view.counters.unwrap();
    let keys: BTreeMap<_, _> = counters.keys.iter().map(|key| (key.id.as_str(), key.requests)).collect();
    assert_eq!(keys, BTreeMap::from([("1", 2), ("2", 1), ("5", 1), ("other", 2)]));
    assert_eq!((counters.responses.len(), counters.failures.len(), counters.refunds.len()), (0, 0, 0));
    let of = |scope, id: i64| {
        let found = view.quotas.iter().find(|it| (it.scope, it.id.number()) == (scope, Some(id)));
        found.map(|it| (it.limit_usd.unwrap(), it.used_usd))
    };
    assert_eq!(of(Scope::Key, 2), Some((0.018, Some(0.027))), "three got through with the last of it");
    assert_eq!((of(Scope::User, 2), of(Scope::User, 3)), (Some((0.027, Some(0.009))), None));
    assert_eq!(of(Scope::User, 1), Some((1_000_000_000.009, Some(0.009))));
    assert_eq!(view.audit.unwrap().drift_cost_usd, Some(0.0));
    db.run("update users set status = 2 where id = 1").await;
    let directory = relay::open(&plan).unwrap().directory.read().await.unwrap();
    let keys: Vec<_> = directory.keys.iter().map(|key| (key.enabled, key.deleted)).collect();
    let (on, off, gone) = ((Some(true), false), (Some(false), false), (Some(false), true));
    assert_eq!(keys, [off, on, on, on, gone], "a key is what its user is");
    assert_eq!((directory.version.as_str(), directory.providers[0].kind.as_str()), ("one-api v0.6.11", "deepseek"));
}

#[tokio::test]
async fn before_v0_6_11_no_request_has_a_duration() {
    let place = Place::sqlite();
    let (mut db, plan) = relay(&place).await;
    db.run(
        "alter table logs drop column elapsed_time; alter table logs drop column is_stream;
         alter table logs drop column request_id; alter table logs drop column system_prompt_reset",
    )
    .await;
    // An embedding may cost as much as it has tokens.
    db.run(&format!(
        "insert into logs ({COLUMNS}) values (unixepoch(), 2, 1, 'default', 1, 'embedding', 50, 50, 0),
           (unixepoch(), 2, 1, 'default', 1, 'tts-1', 7, 7, 0)"
    ))
    .await;
    let view = whole(&plan).await;
    assert_eq!((view.days[0].1.requests, view.days[0].1.mean_duration_seconds), (2, None));
    assert_eq!(view.tokens_last_minute, Some(50.0));
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
    let report = llm_relay_exporter::check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("one-api up to v0.6.10") && report.contains("no durations"), "{report}");
}

#[tokio::test]
async fn a_log_that_is_switched_off_is_told() {
    let place = Place::sqlite();
    let (mut db, plan) = relay(&place).await;
    db.run("insert into options values ('LogConsumeEnabled', 'false')").await;
    let report = llm_relay_exporter::check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("`LogConsumeEnabled` is off"), "{report}");
}
