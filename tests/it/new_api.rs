//! new-api and one-api on real PostgreSQL, real MariaDB and real SQLite files.

pub mod database;
mod demo;
mod differential;
mod gaps;
mod one_api;
mod rights;
mod screens;
mod servers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::model::{AccountState, Directory, Reason, RowKind, Scope, WindowRule};
use llm_relay_exporter::relays::new_api;
use llm_relay_exporter::settings::{OwnValue, RelayPlan};
use llm_relay_exporter::view::{LedgerView, QuotaView};

use crate::reading::{parts, settle, view, whole_view};
use database::{Db, Place, Row, follower, people, plan};

/// An empty relay in a SQLite file.
async fn sqlite(place: &Place) -> (Db, RelayPlan) {
    let (db, url) = place.relay("one-api.db").await;
    (db, plan(&url, "UTC"))
}

fn requests(view: &LedgerView) -> u64 {
    view.counters.as_ref().unwrap().traffic.iter().flat_map(|it| it.requests).sum()
}

#[tokio::test]
async fn another_programs_database_is_refused_by_name() {
    let place = Place::sqlite();
    let logs = "create table logs (id integer primary key, user_id integer, created_at integer, type integer,
        channel_id integer, model_name text, quota integer, prompt_tokens integer, completion_tokens integer";
    let new = format!("{logs}, use_time integer, is_stream numeric, token_id integer);");
    for (name, product, script, told) in [
        ("a", &new_api::NEW_API, format!("{logs}, elapsed_time integer);"), "set `kind` to \"one-api\""),
        ("b", &new_api::NEW_API, format!("{logs});"), "set `kind` to \"one-api\""),
        ("c", &new_api::NEW_API, format!("{logs}); create table tokens (model_limits text);"), "before 2024-01-21"),
        ("d", &new_api::NEW_API, format!("{logs}, request_time integer);"), "one-hub or done-hub"),
        ("e", &new_api::ONE_API, format!("{logs}, request_time integer);"), "one-hub or done-hub"),
        ("f", &new_api::NEW_API, format!("{new} create table channels (model_prefix text);"), "Veloera"),
        ("g", &new_api::ONE_API, new.clone(), "set `kind` to \"new-api\""),
        ("h", &new_api::NEW_API, "create table users (id integer);".to_owned(), "there is no table logs"),
    ] {
        let (mut db, url) = place.database(name).await;
        db.run(&script).await;
        let plan = RelayPlan { product, ..plan(&url, "UTC") };
        let mut ledger = crate::claude_code_hub::ledger(&plan);
        let error = ledger.refresh(&crate::claude_code_hub::all()).await.unwrap_err();
        assert_eq!(error.reason, Reason::Schema);
        assert!(error.text.contains(told), "{name}: {error}");
        let report = check::check(&plan).await.unwrap();
        assert!(report.worst() == Level::Problem && report.to_string().contains(told), "{name}: {report}");
    }
}

#[test]
fn a_clickhouse_is_refused_with_what_to_do() {
    let file = "[relays.a]\nkind = \"new-api\"\ndatabase_url = \"sqlite:/tmp/a.db\"\nlog_database_url = \"clickhouse://u:secretpassword@host:9000/logs\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exporter.toml");
    std::fs::write(&path, file).unwrap();
    let problems = llm_relay_exporter::settings::load(Some(&path), &BTreeMap::new()).unwrap_err().to_string();
    assert!(
        problems.contains("log_database_url") && problems.contains("ClickHouse, which is not supported"),
        "{problems}"
    );
    assert!(!problems.contains("secretpassword"), "{problems}");
}

#[tokio::test]
async fn the_log_may_be_in_another_database_of_another_engine() {
    let (place, server) = (Place::sqlite(), Place::mariadb().await);
    let (mut main, main_url) = place.relay("one-api.db").await;
    let (mut logs, log_url) = server.relay("logs").await;
    people(&mut main).await;
    main.run("insert into options values ('QuotaPerUnit', '1000')").await;
    // The main database has a table of the same shape that nobody writes.
    main.run("update users set request_count = 1 where id = 2").await;
    logs.run(&Row { user: 2, ..Row::default() }.insert()).await;
    let mut plan = plan(&main_url, "UTC");
    let report = check::check(&plan).await.unwrap();
    assert!(report.worst() == Level::Problem && report.to_string().contains("LOG_SQL_DSN"), "{report}");
    plan.own.set("log_database_url", OwnValue::Secret(log_url.into()));
    let report = check::check(&plan).await.unwrap();
    assert!(report.worst() < Level::Problem, "{report}");
    let whole = whole_view(&plan).await;
    assert_eq!(whole.days[0].1.cost_usd, Some(1.0), "the main database says what quota is worth");
    let alice = whole.boards.iter().find(|it| (it.scope, it.period.label()) == (Scope::User, "today")).unwrap();
    assert_eq!((alice.entries[0].name.as_str(), alice.entries[0].cost_usd), ("alice", Some(1.0)));
    // The rows are as they are while the rest cannot be looked at.
    let clock = Arc::new(Mutex::new(Utc::now()));
    let mut follower = follower(&plan, &clock);
    settle(&mut follower).await;
    drop(main);
    let Place::Sqlite(folder) = &place else { unreachable!() };
    std::fs::remove_file(folder.path().join("one-api.db")).unwrap();
    logs.run(&Row::default().insert()).await;
    settle(&mut follower).await;
    assert_eq!(requests(&view(&mut follower, &plan, &Directory::default())), 2);
}

fn quota<'a>(view: &'a LedgerView, scope: Scope, id: i64, window: &str) -> Option<&'a QuotaView> {
    view.quotas.iter().find(|it| (it.scope, it.id.number(), it.window.label()) == (scope, Some(id), window))
}

#[tokio::test]
async fn quotas_are_as_the_relay_keeps_them_also_below_nothing() {
    for place in [Place::sqlite(), Place::postgres().await, Place::mariadb().await] {
        let (mut db, url) = place.relay("quotas").await;
        people(&mut db).await;
        let (past, later) = (Utc::now().timestamp() - 75, Utc::now().timestamp() + 86_400);
        let end = later + 86_400;
        db.run(&format!(
            "insert into subscription_plans (id, title, quota_reset_period) values (1, 'd', 'daily'), (2, 'm', 'monthly'), (3, 'n', 'never'), (4, 'c', 'custom');
             insert into user_subscriptions (user_id, plan_id, amount_total, amount_used, end_time, status, next_reset_time) values
               (2, 1, 500000, 100000, {later}, 'active', {past}), (2, 1, 1000000, 50000, {later}, 'active', {later}),
               (2, 2, 0, 7, {later}, 'active', 0), (2, 3, 250000, 50000, {end}, 'active', 0), (2, 4, 500000, 0, {end}, 'active', {later}), (3, 2, 9, 9, {past}, 'active', 0),
               (3, 1, 9, 9, {later}, 'expired', 0), (1, 2, 250000, 0, {later}, 'active', 0)"
        ))
        .await;
        let plan = plan(&url, "UTC");
        let view = whole_view(&plan).await;
        let of =
            |scope, id, window: &str| quota(&view, scope, id, window).map(|it| (it.limit_usd.unwrap(), it.used_usd));
        assert_eq!(of(Scope::User, 2, "total"), Some((1.5, Some(0.5))), "the wallet's rest and what was used");
        assert_eq!(of(Scope::User, 3, "total"), Some((0.00125, Some(0.002))), "more was used than there was");
        assert_eq!(of(Scope::Key, 1, "total"), None, "unlimited");
        assert_eq!(of(Scope::Key, 2, "total"), Some((0.002, Some(0.00275))));
        assert_eq!(of(Scope::User, 2, "daily"), Some((3.0, Some(0.3))), "both of its active subscriptions");
        assert_eq!(of(Scope::User, 2, "monthly"), None, "unlimited");
        assert_eq!(
            of(Scope::User, 2, "subscription"),
            Some((1.5, Some(0.1))),
            "never renewed, or by a time of its own"
        );
        assert_eq!(of(Scope::User, 3, "monthly").or(of(Scope::User, 3, "daily")), None, "over");
        let reset = |id, window: &str| quota(&view, Scope::User, id, window).unwrap().resets_at.unwrap().timestamp();
        assert_eq!(reset(2, "daily"), past, "the relay is late");
        assert_eq!((reset(1, "monthly"), reset(2, "subscription")), (later, later));
        // A key that is gone has no quota, a user who is gone no wallet.
        db.run("update tokens set deleted_at = '2026-01-01 00:00:00' where id = 2; update users set deleted_at = '2026-01-01 00:00:00' where id = 2").await;
        let view = whole_view(&plan).await;
        assert!(quota(&view, Scope::Key, 2, "total").or(quota(&view, Scope::User, 2, "total")).is_none());
    }
}

#[tokio::test]
async fn a_quota_ends_at_the_pace_of_the_last_hours() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    people(&mut db).await;
    let created_at = Utc::now().timestamp() - 3600;
    db.run(&Row { created_at, user: 2, token: 3, quota: 250_000, ..Row::default() }.insert()).await;
    let view = whole_view(&plan).await;
    // Half a dollar in five hours; a dollar is left.
    let hours = |scope, id| {
        let at = quota(&view, scope, id, "total").unwrap().exhausted_at.unwrap();
        (at - Utc::now()).num_minutes() as f64 / 60.0
    };
    assert!((9.9..10.1).contains(&hours(Scope::User, 2)), "{}", hours(Scope::User, 2));
    assert!((9.9..10.1).contains(&hours(Scope::Key, 3)));
    assert_eq!(quota(&view, Scope::User, 3, "total").unwrap().exhausted_at, None, "it is over already");
}

#[tokio::test]
async fn channels_tell_their_state_their_keys_their_balance_and_their_last_test() {
    for place in [Place::sqlite(), Place::postgres().await, Place::mariadb().await] {
        let (mut db, url) = place.relay("channels").await;
        let (key, group) = (db.quoted("key"), db.quoted("group"));
        let blob = |json: &str| match &db {
            Db::Sqlite(_) => format!("cast('{json}' as blob)"),
            Db::Postgres(_) | Db::MySql(_) => format!("'{json}'"),
        };
        let pool = blob(
            r#"{"is_multi_key":true,"multi_key_size":5,"multi_key_status_list":{"1":3,"4":3,"2":2},"multi_key_disabled_reason":{"1":"status_code=401, bad"}}"#,
        );
        let none = blob(r#"{"is_multi_key":true,"multi_key_size":3,"multi_key_status_list":null}"#);
        let single = blob(r#"{"is_multi_key":false,"multi_key_size":0,"multi_key_status_list":null}"#);
        let reason = |text: &str| format!("'{{\"status_reason\":\"{text}\",\"status_time\":1}}'");
        db.run(&format!(
            "insert into channels (id, type, {key}, status, name, {group}, channel_info, other_info, balance, balance_updated_time, test_time, response_time) values
             (1, 1, 'x', 1, '模型渠道 \"ü\" 😀', 'default,vip', {single}, '', 12.5, 1790000000, 1790000100, 840),
             (2, 14, 'x', 2, 'same', 'default', null, null, 0, 0, 0, 0),
             (3, 24, 'x', 3, 'same', 'default', {pool}, {}, 0, 0, 0, 0),
             (4, 57, 'x', 3, '', 'default', {none}, {}, -3, 1790000000, 0, 0),
             (5, 99, 'x', 3, 'e', 'default', null, {}, 0, 0, 0, 0),
             (6, 41, 'x', 3, 'f', 'default', null, 'no json', 0, 0, 0, 0),
             (7, 41, 'x', 0, 'g', 'default', null, {}, 0, 0, 0, 0)",
            reason("status_code=401, no such key sk-hidden"),
            reason("status_code=429, slow down"),
            reason("status_code=402"),
            reason("All keys are disabled"),
        ))
        .await;
        let (directory, live) = parts(&plan(&url, "UTC")).await;
        let states: BTreeMap<_, _> = live.accounts.iter().map(|(id, state)| (id.number().unwrap(), *state)).collect();
        use AccountState::{Disabled, Error, Normal, QuotaExceeded, RateLimited, Unauthorized};
        let expected =
            [(1, Normal), (2, Disabled), (3, Unauthorized), (4, RateLimited), (5, QuotaExceeded), (6, Error)];
        assert_eq!(states, expected.into());
        let keys: Vec<_> = live.account_keys.iter().map(|(id, state, n)| (id.number().unwrap(), *state, *n)).collect();
        let of =
            |id, numbers: [u64; 3]| [Normal, Disabled, Error].into_iter().zip(numbers).map(move |(it, n)| (id, it, n));
        assert_eq!(keys, of(3, [2, 1, 2]).chain(of(4, [3, 0, 0])).collect::<Vec<_>>());
        let balances: Vec<_> = live
            .balances
            .iter()
            .map(|it| (it.provider_id.number().unwrap(), it.amount, it.told_at.timestamp()))
            .collect();
        assert_eq!(balances, [(1, 12.5, 1_790_000_000), (4, -3.0, 1_790_000_000)]);
        let tests: Vec<_> =
            live.tests.iter().map(|it| (it.provider_id.number().unwrap(), it.duration_ms, it.at.timestamp())).collect();
        assert_eq!(tests, [(1, 840, 1_790_000_100)]);
        let kinds: Vec<_> = directory.providers.iter().map(|it| (it.kind.as_str(), it.enabled == Some(true))).collect();
        assert_eq!(
            kinds,
            [
                ("openai", true),
                ("anthropic", false),
                ("gemini", false),
                ("codex", false),
                ("99", false),
                ("vertex", false),
                ("vertex", false)
            ]
        );
        assert_eq!(
            (directory.providers[0].name.as_str(), directory.providers[0].group.as_str()),
            ("模型渠道 \"ü\" 😀", "default,vip")
        );
        assert!(!format!("{directory:?} {live:?}").contains("hidden"));
    }
}

#[tokio::test]
async fn users_and_keys_are_told_with_their_ends() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    people(&mut db).await;
    db.run(
        "update users set status = 2 where id = 2;
         update tokens set status = 4, expired_time = 1893456000 where id = 2;
         update tokens set expired_time = -1, deleted_at = '2026-01-01 00:00:00' where id = 3;
         insert into options values ('general_setting.quota_display_type', 'CNY'), ('SMTPToken', 'smtp-secret');
         insert into system_instances values ('vm', '{\"runtime\":{\"version\":\"v1.0.0-rc.21\"}}', 1, unixepoch())",
    )
    .await;
    let (directory, _) = parts(&plan).await;
    let users: Vec<_> =
        directory.users.iter().map(|it| (it.name.as_str(), it.role.as_str(), it.enabled == Some(true))).collect();
    assert_eq!(users, [("root", "root", true), ("alice", "user", false), ("bo", "user", true)]);
    let ends: Vec<_> =
        directory.keys.iter().map(|it| (it.enabled, it.deleted, it.expires_at.map(|at| at.timestamp()))).collect();
    assert_eq!(ends, [(Some(true), false, None), (Some(false), false, Some(1_893_456_000)), (Some(true), true, None)]);
    assert_eq!((directory.currency.as_deref(), directory.version.as_str()), (Some("CNY"), "v1.0.0-rc.21"));
    assert!(!format!("{directory:?}").contains("smtp-secret"));
    // A process that was not heard of for long tells nothing.
    db.run("update system_instances set last_seen_at = unixepoch() - 100; update options set value = 'TOKENS' where key like 'general%'").await;
    let (directory, _) = parts(&plan).await;
    assert_eq!((directory.currency, directory.version.as_str()), (None, "new-api 2026-06 or later"));
}

#[tokio::test]
async fn when_a_unit_of_quota_is_worth_something_else_screens_are_and_counters_keep_what_they_counted() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    people(&mut db).await;
    db.run(&Row { quota: 500_000, ..Row::default() }.insert()).await;
    // Options are read as often as the directory.
    let plan = RelayPlan { directory_interval: Duration::ZERO, ..plan };
    let clock = Arc::new(Mutex::new(Utc::now()));
    let mut follower = follower(&plan, &clock);
    let told = async |db: &mut Db, follower: &mut _, unit: &str| {
        db.run(&format!("insert or replace into options values ('QuotaPerUnit', '{unit}')")).await;
        settle(follower).await;
        let view = view(follower, &plan, &Directory::default());
        let counted = view.counters.unwrap().traffic[0].cost_usd;
        (view.days[0].1.cost_usd, counted, view.audit.unwrap().drift_cost_usd)
    };
    assert_eq!(told(&mut db, &mut follower, "500000").await, (Some(1.0), Some(1.0), Some(0.0)));
    assert_eq!(told(&mut db, &mut follower, "1000000").await, (Some(0.5), Some(1.0), Some(0.0)));
    // Its own screens show nothing either.
    for none in ["0", "free"] {
        assert_eq!(told(&mut db, &mut follower, none).await, (None, None, None), "{none}");
        let report = check::check(&plan).await.unwrap();
        assert!(report.to_string().contains("no positive number"), "{report}");
        assert_eq!(parts(&plan).await.0.limits, []);
    }
    assert_eq!(told(&mut db, &mut follower, "500000").await, (Some(1.0), Some(1.0), Some(0.0)));
}

#[tokio::test]
async fn one_bad_row_takes_no_other_with_it() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    let long = format!("{{\"cache_tokens\":9,\"x\":\"{}\"}}", "y".repeat(1 << 20));
    let now = Utc::now().timestamp();
    for row in [
        Row { created_at: 0, ..Row::default() },
        Row { created_at: now + 3600, ..Row::default() },
        Row { created_at: i64::MAX, ..Row::default() },
        Row { quota: -700, prompt: -5, completion: -5, use_time: -1, ..Row::default() },
        Row { quota: 2_147_483_647, ..Row::default() },
        Row { other: long, ..Row::default() },
        Row { kind: 8, ..Row::default() },
        Row { token: 0, user: 77, channel: 0, model: "", ..Row::default() },
        Row {
            model: "模型 😀 a-name-of-more-than-sixty-four-characters-which-the-dashboard-cannot-have",
            ..Row::default()
        },
    ] {
        db.run(&row.insert()).await;
    }
    db.run("insert into logs (created_at, type) values (null, 2), (1, null); insert into logs (created_at, type, other) values (unixepoch(), 2, x'ff00ff')").await;
    let mut ledger = crate::claude_code_hub::ledger(&plan);
    let refresh = ledger.refresh(&crate::claude_code_hub::all()).await.unwrap();
    assert_eq!((refresh.rows.len(), refresh.refused.ids.len()), (7, 3), "{:#?}", refresh.rows);
    assert!(refresh.rows.iter().all(|row| row.kind == RowKind::Request && row.tokens.cache_read == 0));
    let view = whole_view(&plan).await;
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
}

#[tokio::test]
async fn an_old_release_lacks_columns_and_nothing_else() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    people(&mut db).await;
    db.run(
        "alter table logs drop column other; alter table channels drop column channel_info;
         alter table tokens drop column deleted_at; drop table user_subscriptions; drop table subscription_plans;
         drop table system_instances",
    )
    .await;
    db.run("insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens, completion_tokens, use_time, is_stream) values (unixepoch(), 2, 2, 2, 1, 'gpt-4', 1000, 10, 5, 2, 1)").await;
    let view = whole_view(&plan).await;
    assert_eq!((requests(&view), view.tokens_last_minute), (1, Some(15.0)));
    let (directory, live) = parts(&plan).await;
    assert_eq!(
        (directory.version.as_str(), directory.keys.len(), live.accounts.len()),
        ("new-api 2024-01 to 2024-05", 3, 3)
    );
    assert!(directory.limits.iter().all(|it| matches!(it.rule, WindowRule::Told { .. })));
    let report = check::check(&plan).await.unwrap();
    assert!(report.worst() < Level::Problem && report.to_string().contains("`other` is not there"), "{report}");
}

#[tokio::test]
async fn a_deleted_users_rows_stay_and_a_channel_tests_are_counted() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    people(&mut db).await;
    db.run(&Row { user: 9, token: 9, ..Row::default() }.insert()).await;
    // A test of a channel: no key, and nobody pays.
    db.run(&Row { token: 0, other: r#"{"admin_info":{"use_channel":null}}"#.into(), ..Row::default() }.insert()).await;
    let view = whole_view(&plan).await;
    assert_eq!(view.days[0].1.requests, 2);
    let board = view.boards.iter().find(|it| (it.scope, it.period.label()) == (Scope::User, "today")).unwrap();
    let entries: Vec<_> = board.entries.iter().map(|it| (it.id.as_str(), it.requests)).collect();
    assert_eq!(entries, [("1", Some(1)), ("other", Some(1))]);
}

#[tokio::test]
async fn a_key_is_what_its_user_is() {
    for place in [Place::sqlite(), Place::postgres().await, Place::mariadb().await] {
        let (mut db, url) = place.relay("keys_of_users").await;
        people(&mut db).await;
        // Switched off by an admin, gone by an own wish, and the key of nobody.
        db.run(
            "update users set status = 2 where id = 1; update users set deleted_at = current_timestamp where id = 2",
        )
        .await;
        let key = db.quoted("key");
        db.run(&format!(
            "insert into tokens (id, user_id, {key}, name, remain_quota) values (4, 9, 'sk-4', 'four', 5)"
        ))
        .await;
        let (directory, _) = parts(&plan(&url, "UTC")).await;
        let keys: Vec<_> = directory.keys.iter().map(|key| (key.enabled, key.deleted)).collect();
        let (on, off, gone) = ((Some(true), false), (Some(false), false), (Some(false), true));
        assert_eq!(keys[..3], [off, (Some(true), true), on]);
        assert_eq!(keys[3], gone);
        let limited = |id: i64| directory.limits.iter().any(|it| it.scope == Scope::Key && it.id == id.into());
        assert_eq!(
            [1, 2, 3, 4].map(limited),
            [false, false, true, false],
            "nobody is told of the quota of a key that is gone"
        );
    }
}

#[tokio::test]
async fn check_tells_what_the_relays_settings_hide() {
    let place = Place::sqlite();
    let (mut db, plan) = sqlite(&place).await;
    let told = async || check::check(&plan).await.unwrap().to_string();
    assert!(told().await.contains("no row of the last 24 hours"), "{}", told().await);
    db.run(&Row::default().insert()).await;
    let report = told().await;
    assert!(!report.contains("no row of the last") && report.contains("ERROR_LOG_ENABLED"), "{report}");
    db.run(&Row { kind: 5, other: r#"{"status_code":500}"#.into(), ..Row::default() }.insert()).await;
    assert!(!told().await.contains("ERROR_LOG_ENABLED"));
    let old = (Utc::now() - TimeDelta::hours(30)).timestamp();
    db.run(&format!("update logs set created_at = {old}")).await;
    assert!(told().await.contains("log_database_url"));
}
