//! one-api v0.6.10 and v0.6.11: the same log with less in it.

use std::collections::BTreeMap;

use llm_relay_exporter::check;
use llm_relay_exporter::model::Scope;
use llm_relay_exporter::relays::new_api;
use llm_relay_exporter::settings::RelayPlan;
use secrecy::ExposeSecret;

use super::database::{Db, Place, plan};
use crate::claude_code_hub::as_role;
use crate::reading::{self, parts, settle, whole_view};

const ACCOUNT: &str = include_str!("../../../deploy/one-api/readonly-account.sql");

/// Its tables, which MariaDB takes with these types and quotes.
fn schema(db: &Db) -> String {
    if db.is_sqlite() {
        return new_api::ONE_API_SCHEMA.to_owned();
    }
    let of_mariadb = [
        ("id integer primary key", "id integer primary key auto_increment"),
        (" key text,", " \"key\" text,"),
        (" key char(48)", " \"key\" char(48)"),
        ("(key text primary key", "(\"key\" varchar(64) primary key"),
        (" numeric ", " boolean "),
    ];
    let schema = new_api::ONE_API_SCHEMA.to_owned();
    let schema = of_mariadb.into_iter().fold(schema, |schema, (lite, maria)| schema.replace(lite, maria));
    format!("set sql_mode = 'ANSI_QUOTES';\n{schema}")
}

async fn relay(place: &Place) -> (Db, RelayPlan) {
    let (mut db, url) = place.database("oneapi").await;
    db.run(&schema(&db)).await;
    db.run(
        "insert into users (id, username, password, role, status, quota, used_quota) values
           (1, 'root', 'x', 100, 1, 500000000000000, 4500), (2, 'alice', 'x', 1, 1, 9000, 4500),
           (3, 'deleted_0123456789abcdef0123456789abcdef', 'x', 1, 3, 0, 0);
         insert into tokens (id, user_id, \"key\", name, remain_quota, used_quota, unlimited_quota) values
           (1, 1, 'sk-1', 'default', 0, 0, true), (2, 2, 'sk-2', 'default', -4500, 13500, false),
           (3, 2, 'sk-3', 'twice', 0, 0, true), (4, 2, 'sk-4', 'twice', 0, 0, true), (5, 3, 'sk-5', 'default', 0, 0, true);
         insert into channels (id, type, \"key\", status, name) values (1, 36, 'sk', 1, 'a'), (2, 1, 'sk', 3, 'b')",
    )
    .await;
    (db, RelayPlan { product: &new_api::ONE_API, ..plan(&url, "UTC") })
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
    let view = whole_view(&plan).await;
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
    let directory = reading::directory(&plan).await;
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
    let view = whole_view(&plan).await;
    assert_eq!((view.days[0].1.requests, view.days[0].1.mean_duration_seconds), (2, None));
    assert_eq!(view.tokens_last_minute, Some(50.0));
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
    let report = check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("one-api up to v0.6.10") && report.contains("no durations"), "{report}");
}

#[tokio::test]
async fn a_log_that_is_switched_off_is_told() {
    let place = Place::sqlite();
    let (mut db, plan) = relay(&place).await;
    db.run("insert into options values ('LogConsumeEnabled', 'false')").await;
    let report = check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("`LogConsumeEnabled` is off"), "{report}");
}

/// How many rows a fresh exporter reads until all is told and audited.
async fn rows_read(plan: &RelayPlan) -> u64 {
    let mut follower = reading::follower(plan);
    settle(&mut follower).await;
    follower.rows_read()
}

#[tokio::test]
async fn the_account_for_mysql_reads_all_that_is_needed_and_no_secret() {
    let place = Place::mariadb().await;
    let (mut db, theirs) = relay(&place).await;
    db.run(&format!(
        "insert into logs ({COLUMNS}, elapsed_time) values
           ({now}, 2, 1, 'default', 1, 'gpt-4o', 4500, 1000, 200, 2500), ({now}, 2, 2, 'default', 1, 'gpt-4o', 4500, 1000, 200, 500),
           ({now}, 2, 1, 'default', 2, 'tts-1', 50, 7, 0, 300), ({now}, 2, 1, 'default', 2, 'TTS-1', 50, 7, 0, 300)",
        now = chrono::Utc::now().timestamp()
    ))
    .await;
    db.run("insert into options values ('QuotaPerUnit', '250000'), ('SMTPToken', 'hidden')").await;
    // As after an upgrade.
    for _ in 0..2 {
        db.run(&ACCOUNT.replace("'...'", "'narrow'")).await;
    }
    let url = as_role(theirs.database_url.expose_secret(), "llm_relay_exporter", "narrow");
    let ours = RelayPlan { database_url: url.clone().into(), ..theirs.clone() };
    let report = check::check(&ours).await.unwrap();
    assert!(report.worst() < check::Level::Problem && !report.to_string().contains("it need not"), "{report}");
    let (one, other) = (whole_view(&ours).await, whole_view(&theirs).await);
    assert_eq!((one.days[0].1.requests, one.days[0].1.cost_usd), (4, Some(0.0364)));
    assert_eq!(one.days[0].1.mean_duration_seconds, Some(0.9));
    assert_eq!(one.tokens_last_minute, Some(2407.0));
    assert_eq!((&one.days, one.quotas.iter().count()), (&other.days, other.quotas.iter().count()));
    assert_eq!(parts(&ours).await, parts(&theirs).await);
    let audit = one.audit.unwrap();
    assert_eq!((audit.drift_requests, audit.drift_cost_usd), (0.0, Some(0.0)));
    // By MySQL's collation `TTS-1` is `tts-1`, of which no tokens are known; to the relay it is any other model.
    let read = rows_read(&ours).await;
    db.run("update logs set model_name = 'other' where cast(model_name as binary) = 'TTS-1'").await;
    assert_eq!(read, rows_read(&ours).await, "the audit found what was not there");
    let mut account = Db::connect(&url).await;
    for secret in [
        "`key` from channels",
        "`key` from tokens",
        "password from users",
        "email from users",
        "access_token from users",
        "content from logs",
        "value from options",
    ] {
        assert!(account.try_run(&format!("select {secret}")).await.is_err(), "{secret}");
    }
    assert!(account.try_run("delete from logs").await.is_err());
}
