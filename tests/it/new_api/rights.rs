//! What the role and the account of the exporter may read, and what they leave to the relay.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::view::{LedgerView, QuotaView};

use super::database::{Db, Place, Row, follower, people, plan};
use super::requests;
use crate::claude_code_hub::as_role;
use crate::reading::{parts, settle, view, whole_view};

const ROLE: &str = include_str!("../../../deploy/new-api/readonly-role.sql");
const ACCOUNT: &str = include_str!("../../../deploy/new-api/readonly-account.sql");

/// Secrets are refused, all else is as the relay's own account has it.
async fn reads_all_but_secrets(db: &mut Db, owner: &str, narrow: &str) {
    people(db).await;
    db.run(&Row { other: r#"{"cache_tokens":60}"#.into(), ..Row::default() }.insert()).await;
    db.run(
        &Row { kind: 5, other: r#"{"error_type":"openai_error","status_code":500}"#.into(), ..Row::default() }.insert(),
    )
    .await;
    let key = db.quoted("key");
    db.run(&format!("insert into options ({key}, value) values ('QuotaPerUnit', '250000'), ('SMTPToken', 'hidden')"))
        .await;
    let (ours, theirs) = (plan(narrow, "UTC"), plan(owner, "UTC"));
    let report = check::check(&ours).await.unwrap();
    assert!(report.worst() < Level::Problem && !report.to_string().contains("it need not"), "{report}");
    assert!(check::check(&theirs).await.unwrap().to_string().contains("may read channels.key"));
    let (one, other) = (whole_view(&ours).await, whole_view(&theirs).await);
    // When a quota ends rests on the moment of looking.
    let quotas = |view: &LedgerView| -> Vec<_> {
        view.quotas.iter().map(|it| QuotaView { exhausted_at: None, ..it.clone() }).collect()
    };
    assert_eq!((requests(&one), &one.days, quotas(&one)), (requests(&other), &other.days, quotas(&other)));
    assert_eq!(one.days[0].1.cost_usd, Some(0.004));
    assert_eq!(parts(&ours).await, parts(&theirs).await);
    let mut account = Db::connect(narrow).await;
    for secret in ["channels", "tokens"].map(|table| format!("select {key} from {table}")).into_iter().chain(
        [
            "password from users",
            "email from users",
            "access_token from users",
            "content from logs",
            "ip from logs",
            "value from options",
        ]
        .map(|it| format!("select {it}")),
    ) {
        assert!(account.try_run(&secret).await.is_err(), "{secret}");
    }
    assert!(account.try_run("delete from logs").await.is_err());
}

#[tokio::test]
async fn the_role_for_postgresql_reads_all_that_is_needed_and_no_secret() {
    let place = Place::postgres().await;
    let (mut db, url) = place.relay("narrow").await;
    // As after an upgrade.
    for _ in 0..2 {
        db.run(ROLE).await;
    }
    db.run("alter role llm_relay_exporter password 'narrow'").await;
    let narrow = as_role(&url, "llm_relay_exporter", "narrow");
    reads_all_but_secrets(&mut db, &url, &narrow).await;
    let public = "has_function_privilege('public', 'exporter_options()', 'execute')::int::bigint";
    assert_eq!(db.numbers(public, "options limit 1").await, [0]);
    // As an upgrade of the relay may, and as pg_restore --clean does.
    db.run("alter table options alter column value type varchar(999), alter column key type varchar(99)").await;
    db.run("drop table options; create table options (key text primary key, value text)").await;
    db.run("insert into options values ('QuotaPerUnit', '125000'), ('SMTPToken', 'hidden')").await;
    assert_eq!(whole_view(&plan(&narrow, "UTC")).await.days[0].1.cost_usd, Some(0.008));
}

#[tokio::test]
async fn the_view_of_earlier_roles_for_postgresql_is_read_until_the_script_is_run_again() {
    let place = Place::postgres().await;
    let (mut db, url) = place.relay("earlier").await;
    db.run(ROLE).await;
    db.run(
        "drop function exporter_options(); create view exporter_options as select key, value from options where key = 'QuotaPerUnit';
         grant select on exporter_options to llm_relay_exporter; alter role llm_relay_exporter password 'narrow'",
    )
    .await;
    let narrow = as_role(&url, "llm_relay_exporter", "narrow");
    reads_all_but_secrets(&mut db, &url, &narrow).await;
    let told = async || check::check(&plan(&narrow, "UTC")).await.unwrap().to_string();
    assert!(told().await.contains("in the way of pg_restore"), "{}", told().await);
    // The exporter need not be started again.
    let (plan, clock) = (plan(&narrow, "UTC"), Arc::new(Mutex::new(Utc::now())));
    let mut follower = follower(&plan, &clock);
    settle(&mut follower).await;
    db.run(ROLE).await;
    assert!(!told().await.contains("in the way of pg_restore") && db.try_run("table exporter_options").await.is_err());
    settle(&mut follower).await;
    assert_eq!(view(&mut follower, &plan, &Directory::default()).days[0].1.cost_usd, Some(0.004));
}

#[tokio::test]
async fn the_account_for_mysql_reads_all_that_is_needed_and_no_secret() {
    let place = Place::mariadb().await;
    let (mut db, url) = place.relay("newapi").await;
    // As after an upgrade.
    for _ in 0..2 {
        db.run(&ACCOUNT.replace("'...'", "'narrow'")).await;
    }
    reads_all_but_secrets(&mut db, &url, &as_role(&url, "llm_relay_exporter", "narrow")).await;
}
