//! LiteLLM on a real PostgreSQL.

mod daily;
mod database;
mod differential;
mod outcomes;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::model::{AccountState, Directory, QuotaWindow, Reason, Scope, Usd, WindowRule};
use llm_relay_exporter::relay;
use llm_relay_exporter::relays::litellm::identity::Kind;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{OwnValue, RelayPlan};
use sqlx::{Connection, PgConnection};

use crate::claude_code_hub::as_role;
use database::{Db, EVER, Exporter, Row, Saved, plan, settle};

const ROLE: &str = include_str!("../../deploy/litellm/readonly-role.sql");

/// A request of one second that has succeeded.
fn row(id: &str, start: DateTime<Utc>) -> Row {
    Row {
        id: id.to_owned(),
        start,
        ms: 1000,
        ttft: None,
        key: "hash-a",
        user: "ann",
        team: "search",
        organization: "acme",
        model: "gpt-4o-2024-11-20",
        group: "gpt-4o",
        model_id: "azure-1",
        provider: "azure",
        spend: 0.25,
        prompt: 100,
        output: 20,
        status: "success",
        metadata: "{}".to_owned(),
        outcome: "success",
        class: "",
        cache_read: 0,
        cache_write: 0,
        is_refused: false,
    }
}

/// An empty LiteLLM at noon, and a plan to read it.
async fn relay_at_noon(server: &PrivatePostgres, name: &str) -> (Db, RelayPlan, DateTime<Utc>) {
    let mut db = Db::create(server, name, "UTC").await;
    db.run(EVER).await;
    let now: DateTime<Utc> = "2026-11-20T12:00:00Z".parse().unwrap();
    db.set_clock(now).await;
    let plan = plan(&db.url);
    (db, plan, now)
}

async fn requests(exporter: &mut Exporter, plan: &RelayPlan) -> u64 {
    let counters = exporter.view(plan).await.counters.unwrap();
    counters.traffic.iter().flat_map(|it| it.requests).sum()
}

#[tokio::test]
async fn the_role_reads_all_that_is_needed_and_no_prompt_no_answer_no_key() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, _, now) = relay_at_noon(&server, "narrow").await;
    db.run(&row("a", now).insert()).await;
    db.run(ROLE).await;
    db.run("alter role llm_relay_exporter password 'narrow'; grant usage on schema clock to llm_relay_exporter; grant select on clock.hand to llm_relay_exporter").await;
    let narrow = as_role(&db.url, "llm_relay_exporter", "narrow");
    let plan = plan(&narrow);
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    assert_eq!(requests(&mut exporter, &plan).await, 1);
    let mut live = relay::open(&plan).unwrap().live.unwrap();
    live.read(&exporter.directory.read().await.unwrap()).await.unwrap();
    let report = check::check(&plan).await.unwrap();
    assert!(!report.to_string().contains("cannot be read"), "{report}");
    assert!(
        report.to_string().contains("end users") && exporter.directory.read().await.unwrap().end_users_today.is_none()
    );

    let mut connection = PgConnection::connect(&narrow).await.unwrap();
    for (table, column) in [
        ("LiteLLM_SpendLogs", "messages"),
        ("LiteLLM_SpendLogs", "response"),
        ("LiteLLM_SpendLogs", "proxy_server_request"),
        ("LiteLLM_SpendLogs", "requester_ip_address"),
        ("LiteLLM_SpendLogs", "end_user"),
        ("LiteLLM_SpendLogs", "request_tags"),
        ("LiteLLM_VerificationToken", "key_name"),
        ("LiteLLM_VerificationToken", "metadata"),
        ("LiteLLM_UserTable", "user_email"),
        ("LiteLLM_DailyEndUserSpend", "end_user_id"),
        ("LiteLLM_TeamTable", "members"),
        ("LiteLLM_TeamTable", "metadata"),
        ("LiteLLM_OrganizationTable", "metadata"),
        ("LiteLLM_UserTable", "password"),
        ("LiteLLM_ProxyModelTable", "litellm_params"),
        ("LiteLLM_HealthCheckTable", "error_message"),
    ] {
        let sql = sqlx::AssertSqlSafe(format!("select {column} from \"{table}\""));
        let error = sqlx::query(sql).fetch_all(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("permission denied"), "{table} {column}: {error}");
    }
    // Roles of older scripts may not read the type of a call: only whose doing it is that a request failed which was passed through needs it.
    db.run(r#"revoke select (call_type) on "LiteLLM_SpendLogs" from llm_relay_exporter"#).await;
    let mut older = Exporter::open(&plan);
    settle(&mut older.follower).await;
    assert_eq!(requests(&mut older, &plan).await, 1);
    drop(older);
    db.run(r#"grant select (call_type) on "LiteLLM_SpendLogs" to llm_relay_exporter"#).await;
    // Where rows may not tell their teams, nobody says that they have none.
    assert_eq!(exporter.view(&plan).await.counters.unwrap().teams.iter().count(), 1);
    db.run(r#"revoke select (team_id, organization_id) on "LiteLLM_SpendLogs" from llm_relay_exporter"#).await;
    let mut without = Exporter::open(&plan);
    settle(&mut without.follower).await;
    assert_eq!(requests(&mut without, &plan).await, 1);
    let view = without.view(&plan).await;
    assert!(
        view.counters.unwrap().teams.iter().next().is_none() && view.boards.iter().all(|it| it.scope != Scope::Team)
    );
    // Roles of older scripts may not read soft budgets: all but those is told.
    db.run(r#"insert into "LiteLLM_BudgetTable" (budget_id, max_budget, soft_budget, created_by, updated_by) values ('b', 5, 4, 'x', 'x');
              insert into "LiteLLM_VerificationToken" (token, budget_id) values ('hash-a', 'b');
              revoke select (soft_budget) on "LiteLLM_BudgetTable" from llm_relay_exporter"#)
        .await;
    let limits = Exporter::open(&plan).directory.read().await.unwrap().limits;
    assert_eq!((limits.len(), limits[0].limit, limits[0].soft_limit), (1, Usd::from_f64(5.0), None));
    // Without a column of the rows, nothing is guessed.
    db.run(r#"revoke select (metadata) on "LiteLLM_SpendLogs" from llm_relay_exporter"#).await;
    assert_eq!(exporter.follower.refresh().await.map(drop).unwrap_err().reason, Reason::Permission);
    let report = check::check(&plan).await.unwrap();
    assert!(
        report.worst() == Level::Problem && report.to_string().contains("LiteLLM_SpendLogs (metadata)"),
        "{report}"
    );
}

#[tokio::test]
async fn a_late_row_is_seen_at_once_where_deliveries_tell_and_at_the_next_audit_elsewhere() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "late").await;
    let plan = RelayPlan { audit_interval: Duration::from_secs(600), ..plan };
    db.run(&row("first", now - TimeDelta::hours(3)).insert()).await;
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    assert_eq!(requests(&mut exporter, &plan).await, 1);

    db.run(&row("late", now - TimeDelta::hours(2)).insert()).await;
    exporter.follower.refresh().await.unwrap();
    assert_eq!(requests(&mut exporter, &plan).await, 1, "not among those of the last minutes");
    db.set_clock(now + TimeDelta::minutes(10)).await;
    settle(&mut exporter.follower).await;
    assert_eq!(requests(&mut exporter, &plan).await, 2, "found by the count of rows");
    let audit = exporter.view(&plan).await.audit.unwrap();
    assert_eq!(audit.drift_requests, 0.0, "before it was a drift");

    db.run(
        r#"create type "AccountingDeliveryState" as enum ('pending', 'applied', 'parked');
           create table "LiteLLM_SpendLogDelivery" (request_id text, state "AccountingDeliveryState", applied_at timestamp(3), created_at timestamp(3))"#,
    )
    .await;
    let mut saved = Saved::default();
    saved.save(&mut exporter.follower);
    let mut exporter = Exporter::restored(&plan, &saved);
    settle(&mut exporter.follower).await;
    db.run(&row("later", now - TimeDelta::hours(2)).insert()).await;
    db.run(r#"insert into "LiteLLM_SpendLogDelivery" values ('later', 'applied', now() at time zone 'UTC', now() at time zone 'UTC')"#).await;
    exporter.follower.refresh().await.unwrap();
    assert_eq!(requests(&mut exporter, &plan).await, 3);
    db.run(
        r#"insert into "LiteLLM_SpendLogDelivery" (request_id, state) values ('x', 'pending'), ('y', 'parked');
           create table "LiteLLM_ProxyWorkerHeartbeat" (last_heartbeat_at timestamp(3));
           insert into "LiteLLM_ProxyWorkerHeartbeat" values (now() at time zone 'UTC'), ((now() at time zone 'UTC') - interval '1 hour')"#,
    )
    .await;
    let mut live = relay::open(&plan).unwrap().live.unwrap();
    let live = live.read(&Directory::default()).await.unwrap();
    assert_eq!((live.workers_alive, live.unaccounted), (Some(1), vec![("pending", 1), ("parked", 1)]));
    let report = check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("alive: 1"), "{report}");
    assert!(report.contains("yet to account for 1 requests, and has given up on 1"), "{report}");
}

#[tokio::test]
async fn what_left_no_row_is_counted_two_days_later_and_told_by_check() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "missed").await;
    db.run(&row("old", now - TimeDelta::days(4)).insert()).await;
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    assert_eq!(exporter.view(&plan).await.counters.unwrap().missed, Some(0));

    // Two requests with one id: the second leaves no row, but is counted.
    db.run(&row("a", now).insert()).await;
    db.run(&row("a", now + TimeDelta::seconds(1)).insert()).await;
    db.run(
        r#"insert into "LiteLLM_DailyUserSpend" (id, date, api_key, api_requests, updated_at) values
             ('1', '2026-11-20', 'hash-a', 2, now()), ('2', '2026-11-19', 'hash-a', 0, now())"#,
    )
    .await;
    db.set_clock(now + TimeDelta::days(1)).await;
    settle(&mut exporter.follower).await;
    assert_eq!(exporter.view(&plan).await.counters.unwrap().missed, Some(0), "rows may still come");
    let report = check::check(&plan).await.unwrap().to_string();
    assert!(report.contains("yesterday has 1 rows, and LiteLLM counted 2 requests; 1 left no row"), "{report}");
    assert!(report.contains("disable_error_logs"), "{report}");
    db.set_clock(now + TimeDelta::days(2)).await;
    settle(&mut exporter.follower).await;
    let mut saved = Saved::default();
    saved.save(&mut exporter.follower);
    for mut exporter in [exporter, Exporter::restored(&plan, &saved)] {
        settle(&mut exporter.follower).await;
        assert_eq!(exporter.view(&plan).await.counters.unwrap().missed, Some(1));
    }

    db.run(r#"delete from "LiteLLM_SpendLogs"; drop index "LiteLLM_SpendLogs_startTime_idx", "LiteLLM_SpendLogs_startTime_request_id_idx""#).await;
    db.set_clock(now + TimeDelta::days(1)).await;
    let report = check::check(&plan).await.unwrap();
    assert!(report.to_string().contains("disable_spend_logs") && report.to_string().contains("no index"), "{report}");
    assert_eq!(report.worst(), Level::Problem);
    let mut of_days = plan.clone();
    of_days.own.set("usage", OwnValue::Text("days".to_owned()));
    let report = check::check(&of_days).await.unwrap().to_string();
    assert!(
        report.contains("taken from LiteLLM's counters by day") && !report.contains("nothing can be told"),
        "{report}"
    );
}

#[tokio::test]
async fn names_hold_no_address_and_budgets_are_used_as_litellm_counts() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "names").await;
    db.run(
        r#"insert into "LiteLLM_UserTable" (user_id, user_alias, user_email, max_budget, budget_duration, budget_reset_at, spend) values
             ('ann@example.com', 'ann@example.com', 'ann@example.com', 10, '7d', '2026-11-23 00:00', 4.5),
             ('bob', null, null, 0, null, null, 0.5),
             ('cleo', 'Cleo', null, 20, '36h', '2026-11-21 00:00', 1);
           insert into "LiteLLM_BudgetTable" (budget_id, max_budget, soft_budget, budget_duration, budget_reset_at, created_by, updated_by)
             values ('b', 5, null, '1d', '2026-11-20 00:00', 'x', 'x'), ('soft', null, 2, null, null, 'x', 'x'),
                    ('both', 100, 80, '1mo', '2026-12-01 00:00', 'x', 'x');
           insert into "LiteLLM_VerificationToken" (token, key_alias, user_id, budget_id, spend, max_budget, budget_duration, budget_reset_at) values
             ('hash-a', null, 'bob', 'b', 3, null, null, null),
             ('hash-b', null, 'bob', 'soft', 1.5, null, null, null),
             ('hash-c', null, 'bob', 'soft', 6, 9, '10d', '2026-11-25 00:00'),
             ('hash-d', null, 'bob', 'both', 7, null, '7d', '2026-11-23 00:00');
           insert into "LiteLLM_TeamTable" (team_id, team_alias, organization_id, spend, max_budget, soft_budget, budget_duration, budget_reset_at) values
             ('t1', 'Search', 'o1', 12, 50, 40, '30d', '2026-12-01 00:00'),
             ('t2', 'lead@example.com', null, 1, null, null, null, null);
           insert into "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id, spend) values ('o1', 'Acme', 'both', 13);
           insert into "LiteLLM_HealthCheckTable" (health_check_id, model_name, model_id, status, response_time_ms, checked_at, updated_at) values
             ('1', 'gpt-4o', 'azure-1', 'healthy', 310, '2026-11-20 11:40', now()),
             ('2', 'gpt-4o', 'azure-1', 'unhealthy', 420.5, '2026-11-20 11:45', now()),
             ('3', 'gpt-4o', 'azure-2', 'healthy', 300, '2026-11-20 09:00', now()),
             ('4', 'gpt-4o', 'azure-3', 'healthy', 300, '2026-11-20 10:56', now());
           insert into "LiteLLM_DailyEndUserSpend" (id, end_user_id, date, api_key, model, updated_at) values
             ('1', 'jo@example.com', '2026-11-20', 'hash-a', 'x', now()), ('2', 'jo@example.com', '2026-11-20', 'hash-b', 'x', now()),
             ('3', 'kim', '2026-11-20', 'hash-a', 'x', now()), ('4', 'lee', '2026-11-19', 'hash-a', 'x', now())"#,
    )
    .await;
    db.run(&Row { key: "litellm-internal-health-check", ..row("h", now) }.insert()).await;
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    let directory = exporter.directory.read().await.unwrap();
    let text = format!("{directory:?}");
    assert!(!text.contains('@') && !text.contains("hash-a"), "{text}");
    let names: Vec<&str> = directory.users.iter().map(|user| &*user.name).collect();
    assert!(names.contains(&"Cleo") && names.contains(&"bob"), "{names:?}");
    assert!(directory.keys.iter().any(|key| key.name == "health checks"));
    assert_eq!(directory.providers.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["gpt-4o · azure"]);
    assert_eq!(directory.version, "20261015000000_managed_object_end_user_id");

    let teams: Vec<_> = directory.teams.iter().map(|it| (&*it.name, it.organization_id.is_some())).collect();
    assert!(teams[0] == ("Search", true) && !teams[1].0.contains('@') && !teams[1].1, "{teams:?}");
    assert_eq!(directory.organizations[0].name, "Acme");
    assert_eq!(directory.end_users_today, Some(2), "jo by two keys, and kim");

    let limits = directory.limits.iter().map(|it| (it.scope, it.window.clone(), it.limit, it.soft_limit, it.rule));
    let limits: Vec<_> = limits.collect();
    let told = |used: f64, resets_at: Option<&str>| WindowRule::Told {
        used: Usd::from_f64(used).unwrap(),
        resets_at: resets_at.map(|at| at.parse().unwrap()),
    };
    let (week, month) = (Some("2026-11-23T00:00:00Z"), Some("2026-12-01T00:00:00Z"));
    let other = |length: &str| QuotaWindow::Other(length.into());
    assert_eq!(
        limits,
        [
            (Scope::User, QuotaWindow::Weekly, Usd::from_f64(10.0), None, told(4.5, week)),
            (Scope::User, QuotaWindow::Total, Some(Usd::ZERO), None, told(0.5, None)),
            (Scope::User, other("36h"), Usd::from_f64(20.0), None, told(1.0, Some("2026-11-21T00:00:00Z"))),
            // The job that sets it back has not come yet, and LiteLLM refuses what is over the limit.
            (Scope::Key, QuotaWindow::Daily, Usd::from_f64(5.0), None, told(3.0, Some("2026-11-20T00:00:00Z"))),
            (Scope::Key, QuotaWindow::Total, None, Usd::from_f64(2.0), told(1.5, None)),
            (Scope::Key, other("10d"), Usd::from_f64(9.0), Usd::from_f64(2.0), told(6.0, Some("2026-11-25T00:00:00Z"))),
            // The limit is its budget's, the duration its own.
            (Scope::Key, QuotaWindow::Weekly, Usd::from_f64(100.0), Usd::from_f64(80.0), told(7.0, week)),
            (Scope::Team, QuotaWindow::Monthly, Usd::from_f64(50.0), Usd::from_f64(40.0), told(12.0, month)),
            (Scope::Organization, QuotaWindow::Monthly, Usd::from_f64(100.0), Usd::from_f64(80.0), told(13.0, month)),
        ]
    );
    let live = relay::open(&plan).unwrap().live.unwrap().read(&directory).await.unwrap();
    let number = |id| Kind::Deployment.number(id).into();
    // What stays as it is is stored once an hour, at the first check after it.
    let states = [(number("azure-1"), AccountState::Error), (number("azure-3"), AccountState::Normal)];
    assert_eq!(live.accounts, states, "the newest check, and none of hours ago");
}

#[tokio::test]
async fn a_date_that_never_comes_does_no_harm() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "never").await;
    db.run(
        r#"insert into "LiteLLM_UserTable" (user_id, max_budget, budget_duration, budget_reset_at) values
             ('ann', 10, '7d', 'infinity'), ('bob', 10, '7d', '-infinity');
           insert into "LiteLLM_BudgetTable" (budget_id, max_budget, budget_duration, budget_reset_at, created_by, updated_by)
             values ('b', 5, '1d', 'infinity', 'x', 'x');
           insert into "LiteLLM_VerificationToken" (token, user_id, budget_id, expires) values ('hash-a', 'ann', 'b', 'infinity');
           insert into "LiteLLM_HealthCheckTable" (health_check_id, model_name, model_id, status, checked_at, updated_at)
             values ('1', 'gpt-4o', 'azure-1', 'healthy', 'infinity', now())"#,
    )
    .await;
    db.run(&row("a", now).insert()).await;
    db.run(r#"update "LiteLLM_SpendLogs" set "endTime" = 'infinity', "completionStartTime" = '-infinity'"#).await;
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    assert_eq!(requests(&mut exporter, &plan).await, 1);
    let directory = exporter.directory.read().await.unwrap();
    let rules: Vec<_> = directory.limits.iter().map(|it| it.rule).collect();
    assert_eq!(rules, [WindowRule::Told { used: Usd::ZERO, resets_at: None }; 3]);
    relay::open(&plan).unwrap().live.unwrap().read(&directory).await.unwrap();
}

#[tokio::test]
async fn another_database_is_refused() {
    let server = PrivatePostgres::start().await.unwrap();
    let plan = plan(&server.database("empty").await.unwrap());
    let error = Exporter::open(&plan).follower.refresh().await.map(drop).unwrap_err();
    assert_eq!(error.reason, Reason::Schema);
    assert!(error.text.contains("is this LiteLLM's database"), "{error}");
    assert_eq!(check::check(&plan).await.unwrap().worst(), Level::Problem);
}

#[tokio::test]
async fn another_name_of_models_reads_all_anew_and_counts_nothing_twice() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "anew").await;
    for n in 0..40 {
        db.run(&row(&format!("a{n}"), now - TimeDelta::hours(n)).insert()).await;
    }
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    // One that comes late, so that positions are not in the order of starts.
    db.run(&row("late", now - TimeDelta::hours(5)).insert()).await;
    db.run(&row("new", now).insert()).await;
    settle(&mut exporter.follower).await;
    let mut sent = plan.clone();
    sent.own.set("model_name", OwnValue::Text("model".to_owned()));
    let mut exporter = exporter.reopened(&sent);
    settle(&mut exporter.follower).await;
    let view = exporter.view(&sent).await;
    assert_eq!(requests(&mut exporter, &sent).await, 42);
    let board =
        view.boards.iter().find(|board| (board.scope, board.period.label()) == (Scope::Model, "last24h")).unwrap();
    assert_eq!((&*board.entries[0].id, board.entries[0].requests), ("gpt-4o-2024-11-20", Some(27)));
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
}
