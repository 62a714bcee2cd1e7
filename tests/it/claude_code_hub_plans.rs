//! A relay whose database lacks an index: a statement that would walk through the whole ledger again and again is not run.

use std::time::Duration;

use chrono::TimeDelta;
use llm_relay_exporter::check::{Level, check};
use llm_relay_exporter::model::{Reason, Scope};
use llm_relay_exporter::relay::{RefreshRequest, Relay};

use crate::claude_code_hub::{Store, all, plan, usage};
use crate::store_process::Process;
use crate::wait::found;

/// A ledger that is large for the guard: 120 000 requests of the last 30 days.
async fn large(name: &str) -> Store {
    let mut store = Store::new(name, "v0.9.2").await;
    store.people().await;
    store
        .run(
            "insert into usage_ledger (request_id, user_id, key, provider_id, final_provider_id, model, is_success,
               status_code, cost_usd, created_at)
             select n, 1, 'sk-ann', 1, 1, 'sonnet', true, 200, 0.01, now() - interval '21.6 seconds' * (120000 - n)
             from generate_series(1, 120000) n;
             analyze usage_ledger",
        )
        .await;
    store
}

/// The names of the statements that are refused.
fn refused(relay: &mut Relay) -> Vec<&'static str> {
    usage(relay).statements().into_iter().filter_map(|(name, refused)| refused.then_some(name)).collect()
}

/// Drops every index whose definition has the text in it.
async fn drop_indexes(store: &mut Store, text: &str) {
    let sql = "select indexname::text from pg_indexes where tablename = 'usage_ledger' and indexdef like $1";
    let indexes: Vec<String> =
        sqlx::query_scalar(sql).bind(format!("%{text}%")).fetch_all(&mut store.owner).await.unwrap();
    assert!(!indexes.is_empty());
    for index in indexes {
        store.run(&format!("drop index \"{index}\"")).await;
    }
}

#[tokio::test]
async fn with_the_relays_own_indexes_nothing_is_refused() {
    let store = large("plans_all").await;
    let mut relay = store.relay();
    usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    assert_eq!((usage(&mut relay).statements().len(), refused(&mut relay)), (9, vec![]));
    let report = check(&plan(&store.url, None)).await.unwrap();
    assert!(report.to_string().contains("all 10 recurring statements run, each by an index"), "{report}");
}

#[tokio::test]
async fn what_needs_no_missing_index_goes_on() {
    let mut store = large("plans_some").await;
    drop_indexes(&mut store, "(request_id)").await;
    let mut relay = store.relay();
    let now = usage(&mut relay).refresh(&all()).await.unwrap().now;
    assert_eq!(refused(&mut relay), ["open_rows"]);
    let again = RefreshRequest { reread: vec![7], ..RefreshRequest::default() };
    let error = usage(&mut relay).refresh(&again).await.unwrap_err();
    assert!(error.reason == Reason::Plan && error.text.contains("open_rows"), "{error}");
    usage(&mut relay).spent(Scope::Provider, 1, now - TimeDelta::minutes(1)..now).await.unwrap();

    store.run("create unique index on usage_ledger (request_id)").await;
    let mut relay = store.relay();
    assert_eq!(usage(&mut relay).refresh(&again).await.unwrap().rows.len(), 1);
    assert_eq!(refused(&mut relay), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_without_its_index_is_refused_by_name_and_the_other_parts_go_on() {
    let mut store = large("plans_none").await;
    drop_indexes(&mut store, "created_at").await;
    let mut relay = store.relay();
    let error = usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Plan);
    assert!(error.text.contains("clock") && error.text.contains("usage_ledger"), "{}", error.text);
    assert_eq!(refused(&mut relay), ["clock", "span", "audit", "spent_by_user", "spent_by_key", "spent_by_provider"]);
    let scans = "select seq_scan from pg_stat_user_tables where relname = 'usage_ledger'";
    let before: i64 = sqlx::query_scalar(scans).fetch_one(&mut store.owner).await.unwrap();

    let report = check(&plan(&store.url, None)).await.unwrap();
    let of_clock = report.findings.iter().find(|it| it.subject == "statement" && it.text.contains("clock"));
    let of_clock = of_clock.unwrap_or_else(|| panic!("{report}"));
    assert_eq!(of_clock.level, Level::Problem);
    assert!(of_clock.text.contains("an index of the relay is missing"), "{}", of_clock.text);

    let process = Process::start(&store.url, None).await;
    let wanted = [
        "llm_relay_source_up{relay=\"hub\",source=\"directory\"} 1",
        "llm_relay_source_up{relay=\"hub\",source=\"ledger\"} 0",
        "llm_relay_statement_refused{relay=\"hub\",source=\"ledger\",statement=\"audit\"} 1",
        "llm_relay_statement_refused{relay=\"hub\",source=\"ledger\",statement=\"new_rows\"} 0",
        "llm_relay_user_info{relay=\"hub\",",
    ];
    let failed = |line: &str| {
        let of_plan = line.contains("\"ledger\",reason=\"plan\"") && !line.ends_with(" 0");
        line.starts_with("llm_relay_refresh_failures_total{") && of_plan
    };
    found("the ledger alone is refused", async || match process.page().unwrap() {
        page if wanted.iter().all(|line| page.contains(line)) && page.lines().any(failed) => Ok(()),
        page => Err(page),
    })
    .await;
    process.kill().await;
    // The statistics of ended sessions arrive at once.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let after: i64 = sqlx::query_scalar(scans).fetch_one(&mut store.owner).await.unwrap();
    assert_eq!(after, before, "the table was walked through");
}

#[tokio::test]
async fn a_small_ledger_needs_no_index() {
    let mut store = Store::new("plans_small", "v0.9.2").await;
    store.people().await;
    drop_indexes(&mut store, "created_at").await;
    let mut relay = store.relay();
    usage(&mut relay).refresh(&RefreshRequest::default()).await.unwrap();
    assert_eq!(refused(&mut relay), [""; 0]);
}
