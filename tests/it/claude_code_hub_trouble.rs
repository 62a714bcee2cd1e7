//! Claude Code Hub: what a reader gets when the store cannot be read, and what it never says.

use std::time::{Duration, Instant};

use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::connect::postgres::Database;
use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relay::{self, RefreshRequest, Usage};
use llm_relay_exporter::relays::claude_code_hub;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::RelayPlan;
use sqlx::{Connection, PgConnection};

use crate::claude_code_hub::{Store, all, as_role, plan, postgres, usage, usd};
use crate::reading::{follower, settle, view};
use crate::wait::until;

const ROLE: &str = include_str!("../../deploy/claude-code-hub/readonly-role.sql");

#[tokio::test]
async fn the_role_of_the_script_reads_everything_and_no_upstream_secret() {
    for (name, release) in [("role_9", "v0.9.2"), ("role_3", "v0.3.31")] {
        let mut store = Store::new(name, release).await;
        store.people().await;
        store.run("insert into message_request (provider_id, user_id, key, cost_usd) values (1, 1, 'sk-ann', 2)").await;
        store.run(ROLE).await;
        store.run(ROLE).await;
        store.run("alter role llm_relay_exporter password 'planted-password'").await;
        let url = as_role(&store.url, "llm_relay_exporter", "planted-password");
        let mut relay = relay::open(&plan(&url, None)).unwrap();
        assert_eq!(usage(&mut relay).refresh(&all()).await.unwrap().rows[0].cost, usd("2"));
        assert_eq!(relay.directory.read().await.unwrap().providers.len(), 1);
        let report = check::check(&plan(&url, None)).await.unwrap();
        assert!(report.findings.iter().all(|finding| finding.subject != "grant"), "{report}");
        assert!(report.worst() < Level::Problem, "{report}");
        let mut role = PgConnection::connect(&url).await.unwrap();
        for forbidden in ["select key from providers", "select url from providers", "select * from message_request"] {
            let error = sqlx::query(forbidden).execute(&mut role).await.unwrap_err();
            assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{forbidden}");
        }
        role.close().await.unwrap();
    }

    // From v0.5.9 on the log of requests, which has error texts, is not read any more.
    let mut store = Store::new("role_upgraded", "v0.5.8").await;
    store.run(ROLE).await;
    let mut owner = PgConnection::connect(&store.url).await.unwrap();
    let may = "select has_column_privilege('llm_relay_exporter', 'message_request', 'error_message', 'select')";
    assert!(sqlx::query_scalar::<_, bool>(may).fetch_one(&mut owner).await.unwrap());
    for step in &claude_code_hub::least_schema("v0.9.2")[claude_code_hub::least_schema("v0.5.8").len()..] {
        store.run(step).await;
    }
    store.run(ROLE).await;
    assert!(!sqlx::query_scalar::<_, bool>(may).fetch_one(&mut owner).await.unwrap());
    let report =
        check::check(&plan(&as_role(&store.url, "llm_relay_exporter", "planted-password"), None)).await.unwrap();
    assert!(report.findings.iter().all(|finding| finding.subject != "grant"), "{report}");
}

#[tokio::test]
async fn a_missing_grant_is_named() {
    let mut store = Store::new("grants", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "create role half login password 'planted-password';
             grant select on users, keys, providers, system_settings to half",
        )
        .await;
    let url = as_role(&store.url, "half", "planted-password");
    let mut relay = relay::open(&plan(&url, None)).unwrap();
    let error = usage(&mut relay).refresh(&all()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Permission);
    assert!(error.text.contains("usage_ledger") && error.text.contains("readonly-role.sql"), "{error}");
    relay.directory.read().await.expect("the other parts go on");
    let report = check::check(&plan(&url, None)).await.unwrap().to_string();
    assert!(report.contains("usage_ledger (id, request_id"), "{report}");

    store.run("grant select on usage_ledger to half").await;
    let refresh = usage(&mut relay).refresh(&all()).await.expect("prices are optional");
    assert_eq!(refresh.rows.len(), 0);
    let report = check::check(&plan(&url, None)).await.unwrap();
    assert!(report.worst() == Level::Note && report.to_string().contains("model_prices"), "{report}");
}

#[tokio::test]
async fn a_role_from_before_a_column_was_read_goes_on_and_is_told_of() {
    let mut store = Store::new("older_role", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "create role older login password 'planted-password';
             grant select on users, keys, usage_ledger, system_settings, model_prices to older;
             do $$ begin execute (
               select format('grant select (%s) on providers to older', string_agg(quote_ident(attname), ', '))
               from pg_attribute where attrelid = 'providers'::regclass and attnum > 0 and not attisdropped
                 and attname not in ('key', 'url', 'circuit_breaker_failure_threshold')
             ); end $$",
        )
        .await;
    let url = as_role(&store.url, "older", "planted-password");
    let mut relay = relay::open(&plan(&url, None)).unwrap();
    let directory = relay.directory.read().await.expect("it misses one column");
    assert!(!directory.providers.is_empty() && directory.without_breaker.is_empty());
    let report = check::check(&plan(&url, None)).await.unwrap().to_string();
    assert!(report.contains("providers (circuit_breaker_failure_threshold)"), "{report}");
}

#[tokio::test]
async fn what_is_wrong_with_postgres_is_said_at_once() {
    let port = postgres().await.port();
    let cases = [
        ("postgres://demo:guess@127.0.0.1:1/hub".to_owned(), Reason::Connection, "127.0.0.1:1/hub"),
        (format!("postgres://demo:guess@127.0.0.1:{port}/postgres"), Reason::Permission, "password"),
        (postgres().await.url_of("nowhere"), Reason::Connection, "nowhere"),
        (postgres().await.url(), Reason::Schema, "is this the database of Claude Code Hub"),
    ];
    for (url, reason, word) in cases {
        let began = Instant::now();
        let error =
            usage(&mut relay::open(&plan(&url, None)).unwrap()).refresh(&RefreshRequest::default()).await.unwrap_err();
        assert_eq!(error.reason, reason, "{error}");
        assert!(error.text.contains(word), "{error}");
        assert!(began.elapsed() < Duration::from_secs(20), "{error}");
        assert!(!error.text.contains("guess"), "{error}");
    }
    for url in
        ["postgres//demo:guess", "mysql://demo:guess@host/db", "postgres://demo:guess@host:port/db?sslmode=guess"]
    {
        let error = relay::open(&plan(url, None)).err().unwrap();
        assert!(
            error.0.contains("postgres://user:password@host:5432/database") && !error.0.contains("guess"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_locked_table_is_a_timeout_and_the_server_does_not_wait_on() {
    let mut store = Store::new("locked", "v0.9.2").await;
    store.people().await;
    let mut relay = store.relay();
    usage(&mut relay).refresh(&all()).await.unwrap();
    store.run("begin; lock table usage_ledger in access exclusive mode").await;
    let began = Instant::now();
    let error = usage(&mut relay).refresh(&all()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout);
    assert!(error.text.contains("lock") && began.elapsed() < Duration::from_secs(20), "{error}");
    store.run("rollback").await;
    usage(&mut relay).refresh(&all()).await.expect("the connection is still good");
}

/// A migration of the relay locks the same tables in another order, and PostgreSQL ends who looks for a deadlock first.
#[tokio::test]
async fn of_a_deadlock_with_a_migration_we_are_the_victim() {
    let mut store = Store::new("deadlock", "v0.9.2").await;
    let mut owner = PgConnection::connect(&store.url).await.unwrap();
    let mut database = Database::new(&store.url.as_str().into(), Duration::from_secs(20)).unwrap();
    let mut snapshot = database.snapshot().await.unwrap();
    snapshot.fetch_one("counting", sqlx::query("select count(*) from users")).await.unwrap();
    store.run("begin; lock table keys").await;
    let migration = tokio::spawn(async move { store.run("lock table users; commit").await });
    let waits = "select count(*) from pg_stat_activity where datname = 'deadlock' and wait_event_type = 'Lock'";
    until("the migration waits", async || {
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut owner).await.unwrap() == 1
    })
    .await;
    let error = snapshot.fetch_one("counting", sqlx::query("select count(*) from keys")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout, "{error}");
    drop(snapshot);
    migration.await.expect("the migration goes on");
}

/// The limit at the server begins anew with each statement, ours does not.
#[tokio::test]
async fn a_statement_that_we_gave_up_does_not_run_on_at_the_server() {
    let mut store = Store::new("given_up", "v0.9.2").await;
    let limit = Duration::from_secs(15);
    let mut database = Database::new(&store.url.as_str().into(), limit).unwrap();
    let mut snapshot = database.snapshot().await.unwrap();
    snapshot.fetch_one("sleeping", sqlx::query("select pg_sleep(12)")).await.unwrap();
    let error = snapshot.fetch_one("sleeping", sqlx::query("select pg_sleep(12)")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Timeout, "{error}");
    drop(snapshot);
    let began = Instant::now();
    let running = "select count(*) from pg_stat_activity where datname = 'given_up' and query like '%pg_sleep(12)%' \
                   and state = 'active' and pid <> pg_backend_pid()";
    until("it has ended", async || {
        sqlx::query_scalar::<_, i64>(running).fetch_one(&mut store.owner).await.unwrap() == 0
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(7), "only the server's own limit ended it");
}

#[tokio::test]
async fn a_slow_statement_is_ended_by_the_server_before_the_client_gives_up() {
    let mut store = Store::new("slow", "v0.9.2").await;
    store.people().await;
    store
        .run(
            "alter table users rename to all_users;
             create view users as select u.* from all_users u, lateral (select pg_sleep(60)) as slowly",
        )
        .await;
    let mut short = plan(&store.url, None);
    // A busy machine has a tenth of it to connect.
    short.timeout = Duration::from_secs(15);
    let error = relay::open(&short).unwrap().directory.read().await.unwrap_err();
    assert!(error.reason == Reason::Timeout && error.text.contains("57014"), "{error}");
    let running: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity
         where datname = 'slow' and application_name = 'llm-relay-exporter' and state = 'active'",
    )
    .fetch_one(&mut store.owner)
    .await
    .unwrap();
    assert_eq!(running, 0);
}

#[tokio::test]
async fn a_relay_is_read_again_after_its_server_was_restarted() {
    let mut server = PrivatePostgres::start().await.unwrap();
    let url = server.database("hub").await.unwrap();
    let mut relay = Store::on(url, "v0.9.2").await.relay();
    usage(&mut relay).refresh(&all()).await.unwrap();
    server.stop();
    server.restart().await.unwrap();
    usage(&mut relay).refresh(&all()).await.expect("a connection that died while idle is replaced");
    server.stop();
    assert_eq!(usage(&mut relay).refresh(&all()).await.unwrap_err().reason, Reason::Connection);
}

#[tokio::test]
async fn a_relay_uses_at_most_two_connections_and_writes_nothing() {
    let mut store = Store::new("connections", "v0.9.2").await;
    store.people().await;
    let mut relay = store.relay();
    for _ in 0..3 {
        let ask = all();
        let Usage::Rows(ledger) = &mut relay.usage else { unreachable!() };
        let (rows, names) = tokio::join!(ledger.refresh(&ask), relay.directory.read());
        rows.unwrap();
        names.unwrap();
    }
    let (open, in_transaction): (i64, i64) = sqlx::query_as(
        "select count(*), count(*) filter (where state <> 'idle' or backend_xid is not null) from pg_stat_activity
         where datname = 'connections' and application_name = 'llm-relay-exporter'",
    )
    .fetch_one(&mut store.owner)
    .await
    .unwrap();
    assert_eq!((open, in_transaction), (2, 0));
}

#[tokio::test]
async fn no_secret_of_the_relay_is_ever_said() {
    let mut store = Store::new("secrets", "v0.9.2").await;
    store
        .run(
            "insert into users (name) values ('ann');
             insert into keys (user_id, key, name) values (1, 'planted-key', 'laptop');
             insert into providers (name, url, key, proxy_url, mcp_passthrough_url)
             values ('north', 'https://planted-url', 'planted-key', 'http://planted-proxy', 'https://planted-mcp');
             insert into message_request (provider_id, user_id, key, error_message, cost_usd)
             values (1, 1, 'planted-key', 'planted-error', 1), (1, 1, 'planted-unknown-key', null, 'NaN');
             insert into system_settings (timezone) values ('planted/zone');
             create role planted login password 'planted-password';
             grant select on all tables in schema public to planted",
        )
        .await;
    let url = as_role(&store.url, "planted", "planted-password");
    let mut relay = relay::open(&plan(&url, None)).unwrap();
    let mut said = Vec::new();
    said.push(format!("{:?}", usage(&mut relay).refresh(&all()).await.unwrap()));
    said.push(format!("{:?}", relay.directory.read().await.unwrap()));
    for breakage in [
        "alter table usage_ledger alter column user_id type text using key",
        "alter table keys alter column user_id type text using key",
        "alter table providers alter column provider_type drop default, alter column provider_type type bytea using key::bytea",
        "alter table keys drop column key",
        "revoke select on usage_ledger, keys from planted",
        "alter role planted nologin",
    ] {
        store.run(breakage).await;
        said.push(check::check(&plan(&url, None)).await.unwrap().to_string());
        for result in [usage(&mut relay).refresh(&all()).await.err(), relay.directory.read().await.err()] {
            said.push(result.map(|error| error.to_string()).unwrap_or_default());
        }
        said.push(usage(&mut relay::open(&plan(&url, None)).unwrap()).refresh(&all()).await.unwrap_err().to_string());
    }
    let all_said = said.join("\n");
    // The role is called so, and says so in errors; everything else that was planted is a secret.
    let secrets = all_said.replace("as planted", "").replace("\"planted\"", "");
    assert!(!secrets.contains("planted"), "{secrets}");
}

#[tokio::test]
async fn a_replica_says_how_far_it_is_behind_and_check_names_one_that_stands_still() {
    const NAME: &str = "replica";
    let primary = PrivatePostgres::start().await.unwrap();
    let url = primary.database(NAME).await.unwrap();
    let mut relay = Store::on(url, "v0.9.2").await;
    relay
        .run("create role reader login password 'reader'; grant select on all tables in schema public to reader")
        .await;
    let standby = primary.standby().await.unwrap();
    let reader = |port: u16| plan(&format!("postgres://reader:reader@127.0.0.1:{port}/{NAME}?sslmode=disable"), None);
    let lag = async |port: u16| relay::open(&reader(port)).unwrap().directory.read().await.unwrap().replica_lag_seconds;
    assert_eq!(lag(primary.port()).await, None);
    until("the standby follows", async || lag(standby.port()).await == Some(0.0)).await;

    let mut second = PgConnection::connect(&standby.url_of(NAME)).await.unwrap();
    sqlx::raw_sql("select pg_wal_replay_pause()").execute(&mut second).await.unwrap();
    relay.people().await;
    until("what is not replayed is told", async || lag(standby.port()).await.is_some_and(|lag| lag != 0.0)).await;
    let report = check::check(&reader(standby.port())).await.unwrap();
    let finding = report.findings.iter().find(|it| it.subject == "replica").unwrap_or_else(|| panic!("{report}"));
    assert!(finding.text.starts_with("this is a read replica, "), "{}", finding.text);
}

/// After an upgrade that reads as another type nothing is known, rather than nothing there: no day is emptied.
#[tokio::test]
async fn rows_that_nobody_understands_take_the_ledger_away_and_no_number_with_it() {
    let mut store = Store::new("other_type", "v0.9.2").await;
    store.people().await;
    let begun = "insert into message_request (provider_id, user_id, key, status_code, cost_usd)
                 select 1, 1, 'sk-ann', 200, 0.5 from generate_series(1, 20)";
    store.run(begun).await;
    let plan = RelayPlan { audit_interval: Duration::ZERO, ..plan(&store.url, None) };
    let mut follower = follower(&plan);
    settle(&mut follower).await;
    store
        .run("alter table usage_ledger alter column created_at type timestamp using created_at at time zone 'UTC'")
        .await;
    store.run(begun).await;
    for _ in 0..2 {
        let error = follower.refresh().await.unwrap_err();
        assert_eq!(error.reason, Reason::Data);
        assert!(error.text.contains("rows could not be understood; the first, row "), "{error}");
    }
    store
        .run("alter table usage_ledger alter column created_at type timestamptz using created_at at time zone 'UTC'")
        .await;
    settle(&mut follower).await;
    let view = view(&mut follower, &plan, None);
    assert_eq!((view.days[0].1.requests, view.rows_left_out), (40, Some(0)));
    assert!(view.counters.unwrap().corrections.iter().all(|(_, rows)| *rows == 0));
}

/// More than fit into a page, in the past and among what is new.
#[tokio::test]
async fn many_rows_without_a_time_hold_up_nothing_and_are_told() {
    let mut store = Store::new("no_time", "v0.9.2").await;
    store.people().await;
    let rows = |count: usize, at: &str| {
        format!(
            "insert into message_request (provider_id, user_id, key, status_code, created_at)
             select 1, 1, 'sk-ann', 200, {at} from generate_series(1, {count})"
        )
    };
    let plan = RelayPlan { audit_interval: Duration::ZERO, ..plan(&store.url, None) };
    let mut follower = follower(&plan);
    let mut requests = async || {
        settle(&mut follower).await;
        let view = view(&mut follower, &plan, None);
        (view.days[0].1.requests, view.rows_left_out.is_some_and(|rows| rows > 0))
    };
    store.run(&rows(3, "now()")).await;
    assert_eq!(requests().await, (3, false));
    store.run(&rows(1, "'infinity'")).await;
    assert_eq!(requests().await, (3, true));
    store.run(&rows(6000, "'infinity'")).await;
    store.run(&rows(2, "now()")).await;
    assert_eq!(requests().await, (5, true));
    store.run(&rows(6000, "'infinity'")).await;
    store.run(&rows(2, "now()")).await;
    assert_eq!(requests().await, (7, true));
}
