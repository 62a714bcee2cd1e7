//! What the exporter's role may read, and what `check` says.

use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::relay;
use llm_relay_exporter::relays::sub2api::STEPS;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::database::{Failure, Request, Store, follower, parts, plan, settle, view, whole_view};

/// The address of the exporter's role.
async fn role(store: &mut Store) -> String {
    store.grant().await;
    let url = store.url.clone();
    let (_, host) = url.split_once('@').unwrap();
    let (_, name) = host.split_once('/').unwrap();
    let create = format!("create role {name} login password 'planted-password' in role llm_relay_exporter");
    store
        .run(&format!(
            "do $$ begin if not exists (select from pg_roles where rolname = '{name}') then {create}; end if; end $$"
        ))
        .await;
    format!("postgres://{name}:planted-password@{host}")
}

#[tokio::test]
async fn the_role_reads_all_that_is_needed_and_nothing_that_is_secret() {
    for (n, (release, _)) in STEPS.iter().enumerate() {
        let mut store = Store::of_release(&format!("role_{n}"), release).await;
        store.people().await;
        store.run(&Request::default().insert()).await;
        store.run(&Failure::default().insert()).await;
        let narrow = plan(&role(&mut store).await);
        let (mine, theirs) = (whole_view(&narrow).await, whole_view(&store.plan()).await);
        let told = |view: &llm_relay_exporter::view::LedgerView| format!("{:?} {:?}", view.counters, view.days);
        assert_eq!(told(&mine), told(&theirs), "{release}");
        let (mine, theirs) = (parts(&narrow).await, parts(&store.plan()).await);
        assert_eq!((mine.0, mine.1.accounts), (theirs.0, theirs.1.accounts), "{release}");
        let report = check::check(&narrow).await.unwrap().to_string();
        assert!(!report.contains("grant"), "{release}: {report}");

        let mut connection = PgConnection::connect(&role(&mut store).await).await.unwrap();
        for denied in [
            "select * from usage_logs",
            "select ip_address from usage_logs",
            "select user_agent from usage_logs",
            "select key from api_keys",
            "select credentials from accounts",
            "select extra from accounts",
            "select email from users",
            "select password_hash from users",
            "select error_message from ops_error_logs",
            "select client_ip from ops_error_logs",
            "select value from settings",
            "delete from usage_logs",
            "update users set balance = 1",
            "create table mine (id integer)",
        ] {
            let refused = sqlx::query(AssertSqlSafe(denied)).fetch_all(&mut connection).await;
            assert!(refused.is_err(), "{release}: {denied}");
        }
    }
}

#[tokio::test]
async fn what_may_not_be_read_is_absent_and_the_rest_stays() {
    let mut store = Store::new("ungranted").await;
    store.people().await;
    store.run(&Request::default().insert()).await;
    store.run(&Failure::default().insert()).await;
    let narrow = plan(&role(&mut store).await);
    store.run("revoke select on ops_error_logs, ops_ingress_reject_aggregates, user_subscriptions, usage_cleanup_tasks from llm_relay_exporter").await;
    for (table, columns) in [
        ("ops_error_logs", "id, created_at, status_code"),
        ("ops_ingress_reject_aggregates", "bucket_start, reject_reason, request_count"),
        ("user_subscriptions", "id, user_id, group_id, status, starts_at, expires_at"),
        ("usage_cleanup_tasks", "id, status, deleted_rows"),
    ] {
        store.run(&format!("revoke select ({columns}) on {table} from llm_relay_exporter")).await;
    }
    let whole = whole_view(&narrow).await;
    assert_eq!(super::outcomes(&whole), [1, 0, 0]);
    let (_, live) = parts(&narrow).await;
    assert!(live.rejected.is_none() && live.accounts.len() == 3);
    let report = check::check(&narrow).await.unwrap();
    assert!(report.worst() == Level::Problem && report.to_string().contains("ops_error_logs ("), "{report}");
}

#[tokio::test]
async fn check_names_what_the_relays_settings_hide() {
    let mut store = Store::new("settings").await;
    store.people().await;
    let report = check::check(&store.plan()).await.unwrap().to_string();
    for told in ["sub2api >=0.1.177", "written nothing for five minutes", "is not there", "api_keys.key", "no slots"] {
        assert!(report.contains(told), "{told}: {report}");
    }
    store.grant().await;
    store.run("insert into ops_system_metrics default values").await;
    let narrow = plan(&role(&mut store).await);
    let report = check::check(&narrow).await.unwrap();
    assert_eq!(report.worst(), Level::Note, "{report}");
    store
        .run(
            r#"insert into settings (key, value) values ('ops_monitoring_enabled', 'false'), ('smtp_password', 'planted-smtp'),
               ('ops_advanced_settings', '{"ignore_count_tokens_errors":true,"ignore_context_canceled":true,"ignore_no_available_accounts":false,"data_retention":{"cleanup_enabled":true}}')"#,
        )
        .await;
    store.run("update usage_group_rollup_state set timezone_name = 'Asia/Kolkata'").await;
    let report = check::check(&narrow).await.unwrap().to_string();
    for told in ["`ops_monitoring_enabled` is off", "`ignore_context_canceled` is on", "no whole hours from UTC"] {
        assert!(report.contains(told), "{told}: {report}");
    }
    for silent in ["count_tokens", "no_available_accounts", "planted"] {
        assert!(!report.contains(silent), "{silent}: {report}");
    }
}

#[tokio::test]
async fn two_connections_are_used_and_nothing_is_written() {
    let mut store = Store::new("connections").await;
    store.people().await;
    store.run(&Request::default().insert()).await;
    let narrow = store.plan();
    let mut relay = relay::open(&narrow).unwrap();
    let mut follower = follower(&narrow);
    settle(&mut follower).await;
    let directory = relay.directory.read().await.unwrap();
    relay.live.as_mut().unwrap().read(&directory).await.unwrap();
    view(&mut follower, &narrow, &directory);
    let open = store.table("select 'open', count(*), count(*) filter (where state <> 'idle' or backend_xid is not null) from pg_stat_activity where datname = 'connections' and application_name = 'llm-relay-exporter'").await;
    assert_eq!(open["open"], [2, 0]);
}
