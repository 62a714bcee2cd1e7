//! The demo's private servers, history and live traffic, on real servers.

use std::time::Duration;

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, Pace, Planted, SimulatorOptions, Urls};
use llm_relay_exporter::relays::claude_code_hub;
use llm_relay_exporter::relays::claude_code_hub::demo::{self, SimulateOptions};
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis, redis_connection};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::claude_code_hub::filled;
use crate::wait::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_keeps_its_data_over_a_restart() {
    let mut server = PrivatePostgres::start().await.unwrap();
    let url = server.database("one").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 7 as n").execute(&mut connection).await.unwrap();
    server.stop();
    assert!(PgConnection::connect(&url).await.is_err(), "a stopped server must not answer");
    server.restart().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(n, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_refuses_a_wrong_password() {
    let server = PrivatePostgres::start().await.unwrap();
    let open = format!("postgres://demo:guess@127.0.0.1:{}/postgres", server.port());
    let error = PgConnection::connect(&open).await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("28P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_redis_comes_back_on_the_same_port() {
    let mut server = PrivateRedis::start().await.unwrap();
    let mut connection = redis_connection(&server.url()).await.unwrap();
    redis::cmd("SET").arg("kept").arg(7).exec_async(&mut connection).await.unwrap();
    server.stop();
    assert!(redis_connection(&server.url()).await.is_err(), "a stopped server must not answer");
    server.restart().await.unwrap();
    let mut connection = redis_connection(&server.url()).await.unwrap();
    let kept: i32 = redis::cmd("GET").arg("kept").query_async(&mut connection).await.unwrap();
    assert_eq!(kept, 7);
}

#[cfg(target_os = "linux")] // looks into /proc
#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_server_leaves_no_process_and_no_directory() {
    let postgres = PrivatePostgres::start().await.unwrap();
    let redis = PrivateRedis::start().await.unwrap();
    let homes = [postgres.directory().to_owned(), redis.directory().to_owned()];
    for home in &homes {
        assert!(home.exists());
        assert!(!processes_in(home).is_empty(), "the search must see a running server");
    }
    drop((postgres, redis));
    for home in &homes {
        assert!(!home.exists());
        assert_eq!(processes_in(home), Vec::<String>::new());
    }
}

/// Ids of processes that name the directory or work in it.
#[cfg(target_os = "linux")]
fn processes_in(home: &std::path::Path) -> Vec<String> {
    let name = home.to_str().unwrap();
    let uses = |process: &std::path::Path| {
        let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(name)
            || std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(home))
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok() && uses(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// One server for the tests that need nothing special of it; it ends with the process.
async fn server() -> &'static PrivatePostgres {
    static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivatePostgres::start().await.unwrap()).await
}

/// Ends on a Thursday afternoon in Shanghai.
fn month() -> HistoryOptions {
    let until = "2026-03-12T08:30:00Z".parse().unwrap();
    HistoryOptions { requests_per_day: 1500, until, ..HistoryOptions::default() }
}

fn simulate_options(database_url: &str, redis: Option<&PrivateRedis>, history: HistoryOptions) -> SimulateOptions {
    let urls = Urls { database_url: database_url.into(), redis_url: redis.map(|redis| redis.url().into()) };
    SimulateOptions { urls, init: true, history, simulator: SimulatorOptions::default() }
}

async fn a_month() -> PgConnection {
    static URL: OnceCell<String> = OnceCell::const_new();
    let url = URL.get_or_init(async || filled(server().await, "a_month", &month()).await).await;
    PgConnection::connect(url).await.unwrap()
}

async fn count(db: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db).await.unwrap_or(-1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_has_its_days_its_size_and_a_rhythm() {
    let mut db = a_month().await;
    let days = count(&mut db, "select count(distinct date(created_at at time zone 'Asia/Shanghai')) from usage_ledger");
    assert_eq!(days.await, 30);
    let per_day = count(&mut db, "select count(*) from message_request").await as f64 / 29.6;
    assert!((1500.0 * 0.85..1500.0 * 1.15).contains(&per_day), "{per_day} requests per day");
    let ratio =
        "select count(*) filter (where extract(hour from created_at at time zone 'Asia/Shanghai') between 14 and 16)
                 / count(*) filter (where extract(hour from created_at at time zone 'Asia/Shanghai') between 2 and 4)
                 from usage_ledger";
    assert!(count(&mut db, ratio).await >= 5, "afternoons are busier than nights");
    let ratio = "select count(*) filter (where extract(isodow from created_at at time zone 'Asia/Shanghai') = 3)
                 / count(*) filter (where extract(isodow from created_at at time zone 'Asia/Shanghai') = 7)
                 from usage_ledger";
    assert!(count(&mut db, ratio).await >= 2, "Wednesdays are busier than Sundays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_holds_every_kind_of_end() {
    let mut db = a_month().await;
    for (what, sql) in [
        ("429", "select count(*) from usage_ledger where status_code = 429 and success_rate_outcome = 'failure'"),
        ("529", "select count(*) from usage_ledger where status_code = 529"),
        ("500", "select count(*) from usage_ledger where status_code = 500"),
        ("a timeout", "select count(*) from usage_ledger where status_code = 524"),
        ("499", "select count(*) from usage_ledger where status_code = 499 and success_rate_outcome = 'excluded'"),
        ("404", "select count(*) from usage_ledger where status_code = 404"),
        ("an error with 200", "select count(*) from usage_ledger where status_code = 200 and not is_success"),
        (
            "a failover",
            "select count(*) from message_request where provider_chain -> -1 ->> 'reason' = 'retry_success'",
        ),
        ("a billed loser", "select count(*) from message_request where hedge_losers is not null"),
        (
            "a loser that counts as the one that answered",
            "select count(*) from usage_ledger where provider_id <> final_provider_id",
        ),
        ("a replay", "select count(*) from usage_ledger where is_replay"),
        ("a warm-up", "select count(*) from message_request where blocked_by = 'warmup' and cost_usd is null"),
        ("an orphan", "select count(*) from usage_ledger where status_code is null"),
        (
            "a deleted user",
            "select count(*) from usage_ledger l join users u on u.id = user_id where deleted_at < now()",
        ),
        (
            "a request without a price",
            "select count(*) from usage_ledger where is_success and cost_usd = 0 and output_tokens > 0",
        ),
        ("a substituted model", "select count(*) from usage_ledger where actual_response_model <> model"),
    ] {
        assert!(count(&mut db, sql).await > 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planted_outage_shows() {
    let mut db = a_month().await;
    let Planted { outage, .. } = month().planted();
    let share: (f64, f64) = sqlx::query_as(
        "select
           avg((success_rate_outcome = 'failure')::int) filter (where created_at >= $1 and created_at < $2)::float8,
           avg((success_rate_outcome = 'failure')::int) filter (where not (created_at >= $1 and created_at < $2))::float8
         from usage_ledger where final_provider_id = 3 and success_rate_outcome <> 'excluded'",
    )
    .bind(outage.start)
    .bind(outage.end)
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert!(share.0 > 0.5 && share.1 < 0.1, "failures within and without the outage: {share:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planted_surge_shows() {
    let mut db = a_month().await;
    let Planted { surge, .. } = month().planted();
    let cost: (f64, f64) = sqlx::query_as(
        "select
           sum(cost_usd) filter (where created_at >= $1 and created_at < $2)::float8,
           sum(cost_usd) filter (where created_at < $1)::float8 / 27
         from usage_ledger where user_id = 5",
    )
    .bind(surge.start)
    .bind(surge.end)
    .fetch_one(&mut db)
    .await
    .unwrap();
    assert!(cost.0 > 5.0 * cost.1, "cost of three hours and of a usual day: {cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_a_history_equals_its_log() {
    let mut db = a_month().await;
    let differing = "
      select count(*) from message_request m full join usage_ledger l on l.request_id = m.id
      where (l.id is not null) <> (m.blocked_by is distinct from 'warmup' and m.endpoint not in ('/v1/messages/count_tokens', '/v1/responses/compact'))
         or l.id is not null and (
           l.user_id, l.key, l.provider_id, l.status_code, l.cost_usd, l.input_tokens, l.output_tokens,
           l.cache_creation_input_tokens, l.cache_read_input_tokens, l.duration_ms, l.ttfb_ms, l.created_at, l.is_replay
         ) is distinct from (
           m.user_id, m.key, m.provider_id, m.status_code, m.cost_usd, m.input_tokens, m.output_tokens,
           m.cache_creation_input_tokens, m.cache_read_input_tokens, m.duration_ms, m.ttfb_ms, m.created_at, m.is_replay
         )";
    assert_eq!(count(&mut db, differing).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_rows() {
    let small = HistoryOptions { days: 4, requests_per_day: 200, ..month() };
    let digest = async |name: &str, history: HistoryOptions| -> String {
        let mut db = PgConnection::connect(&filled(server().await, name, &history).await).await.unwrap();
        let sql = "select md5(string_agg(l::text, ',' order by id)) from usage_ledger l";
        sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap()
    };
    let first = digest("seed_1", small.clone()).await;
    assert_eq!(first, digest("seed_1_again", small.clone()).await);
    assert_ne!(first, digest("seed_2", HistoryOptions { seed: 2, ..small }).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_begins_ends_and_is_seen_in_redis() {
    let redis = PrivateRedis::start().await.unwrap();
    let url = server().await.database("live").await.unwrap();
    let mut options = simulate_options(&url, Some(&redis), HistoryOptions { days: 0, ..month() });
    options.simulator =
        SimulatorOptions { pace: Pace::Steady(150.0), trouble_period: Duration::from_secs(3), ..options.simulator };
    let stop = CancellationToken::new();
    let traffic = tokio::spawn(demo::simulate(options, stop.clone()));

    let mut db = PgConnection::connect(&url).await.unwrap();
    for (what, sql) in [
        ("finished requests", "select count(*) from usage_ledger where status_code = 200 and cost_usd > 0"),
        ("open requests", "select count(*) from usage_ledger where status_code is null"),
        ("failures", "select count(*) from usage_ledger where success_rate_outcome = 'failure'"),
        ("requests that the relay answers itself", "select count(*) from message_request where provider_id = 0"),
        ("late cost", "select count(*) from message_request where hedge_losers is not null"),
    ] {
        until(what, async || count(&mut db, sql).await > 0).await;
    }

    let mut live = redis_connection(&redis.url()).await.unwrap();
    let mut ask = async |command: &[&str]| -> redis::Value {
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut live).await.unwrap()
    };
    let number = |value: redis::Value| redis::from_redis_value::<i64>(value).unwrap();
    for set in [
        "{observed_sessions}:global:active_sessions",
        "{active_sessions}:global:active_sessions",
        "{active_sessions}:user:2:active_sessions",
        "{active_sessions}:key:2:active_sessions",
        "provider:1:active_sessions",
        "provider:4:active_sessions",
        "user:2:rpm_window",
    ] {
        until(set, async || number(ask(&["ZCARD", set]).await) > 0).await;
    }
    let ids: Vec<String> =
        redis::from_redis_value(ask(&["ZRANGE", "{observed_sessions}:global:active_sessions", "-1", "-1"]).await)
            .unwrap();
    let info = format!("session:{}:info", ids[0]);
    assert_eq!(number(ask(&["HEXISTS", &info, "keyId"]).await), 1);
    let ttl = number(ask(&["TTL", &info]).await);
    assert!((1..=300).contains(&ttl), "session info lives {ttl} s");
    until("a counter of a fixed window", async || number(ask(&["TTL", "provider:3:cost_5h_fixed"]).await) > 0).await;
    for state in ["open", "half-open", "closed"] {
        until(state, async || {
            let mut seen = false;
            for provider in ["1", "2", "3", "4", "5", "6"] {
                let key = format!("circuit_breaker:state:{provider}");
                let value = redis::from_redis_value::<Option<String>>(ask(&["HGET", &key, "circuitState"]).await);
                seen |= value.unwrap().as_deref() == Some(state);
            }
            seen
        })
        .await;
    }
    stop.cancel();
    traffic.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn live_traffic_goes_on_without_redis() {
    let mut redis = PrivateRedis::start().await.unwrap();
    let url = server().await.database("without_redis").await.unwrap();
    let mut options = simulate_options(&url, Some(&redis), HistoryOptions { days: 0, ..month() });
    options.simulator.pace = Pace::Steady(40.0);
    let stop = CancellationToken::new();
    let traffic = tokio::spawn(demo::simulate(options, stop.clone()));
    let mut db = PgConnection::connect(&url).await.unwrap();
    let requests = "select count(*) from usage_ledger";
    until("traffic", async || count(&mut db, requests).await > 0).await;
    redis.stop();
    let before = count(&mut db, requests).await;
    until("traffic without Redis", async || count(&mut db, requests).await > before + 40).await;
    stop.cancel();
    traffic.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_refuses_a_database_that_is_not_its_own() {
    let url = server().await.database("foreign").await.unwrap();
    let mut db = PgConnection::connect(&url).await.unwrap();
    let small = HistoryOptions { days: 1, requests_per_day: 50, ..month() };
    let refused = async |init| {
        let options = SimulateOptions { init, ..simulate_options(&url, None, small.clone()) };
        demo::simulate(options, CancellationToken::new()).await.unwrap_err().to_string()
    };
    assert!(refused(false).await.contains("is empty; --init"), "an empty one needs --init");
    sqlx::raw_sql("create table message_request (id int)").execute(&mut db).await.unwrap();
    for init in [false, true] {
        assert!(refused(init).await.contains("not the demo's own"));
    }
    assert_eq!(count(&mut db, "select count(*) from pg_class where relnamespace = 'public'::regnamespace").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_refuses_a_redis_that_is_not_its_own() {
    let redis = PrivateRedis::start().await.unwrap();
    let url = server().await.database("foreign_redis").await.unwrap();
    let mut live = redis_connection(&redis.url()).await.unwrap();
    redis::cmd("SET").arg("theirs").arg(1).exec_async(&mut live).await.unwrap();
    let options = simulate_options(&url, Some(&redis), HistoryOptions { days: 0, ..month() });
    let error = demo::simulate(options, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("holds 1 keys"), "{error}");
    let keys: u64 = redis::cmd("DBSIZE").query_async(&mut live).await.unwrap();
    assert_eq!(keys, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_makes_no_sense_is_refused() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut options = simulate_options("postgres://nowhere", None, month());
        options.simulator.pace = Pace::Steady(rate);
        let error = demo::simulate(options, CancellationToken::new()).await.unwrap_err().to_string();
        assert!(error.contains("--rate"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_shows_no_password() {
    let url = "postgres://demo:hush-hush@127.0.0.1:1/none";
    let options = simulate_options(url, None, month());
    let error = demo::simulate(options, CancellationToken::new()).await.unwrap_err();
    let text = format!("{error:#} {error:?}");
    assert!(text.contains("refused") && !text.contains("hush"), "{text}");
}

#[cfg(target_os = "linux")] // looks into /proc
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_alive_and_leaves_nothing() {
    let history = HistoryOptions { days: 2, requests_per_day: 300, ..HistoryOptions::default() };
    let simulator = SimulatorOptions { pace: Pace::Steady(20.0), ..SimulatorOptions::default() };
    let environment = (claude_code_hub::PRODUCT.demo)(DemoOptions { history, simulator }).await.unwrap();
    let mut db = PgConnection::connect(environment.urls().database_url.expose_secret()).await.unwrap();
    let live = "select count(*) from usage_ledger where created_at > now() - interval '10 seconds'";
    until("live requests", async || count(&mut db, live).await > 10).await;
    let homes: Vec<String> =
        sqlx::query_scalar("select current_setting('data_directory')").fetch_all(&mut db).await.unwrap();
    let home = std::path::Path::new(&homes[0]).parent().unwrap();
    assert!(home.exists());
    environment.tear_down().await;
    assert!(!home.exists());
    assert_eq!(processes_in(home), Vec::<String>::new());
}

/// A relay enforces its limits: whatever the day, what has been spent stays within.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_history_stays_within_its_limits() {
    let until = "2026-03-12T08:30:00Z".parse().unwrap();
    let url = filled(server().await, "limits", &HistoryOptions { until, ..HistoryOptions::default() }).await;
    let mut db = PgConnection::connect(&url).await.unwrap();
    let spent = "with spent as (
           select 'user ' || user_id as who, created_at, cost_usd from usage_ledger
           union all select 'key ' || k.id, l.created_at, cost_usd from usage_ledger l join keys k on k.key = l.key
           union all select 'provider ' || final_provider_id, created_at, cost_usd from usage_ledger
         ), most as (
           select who, max(five_hours) five_hours, max(day) as day, max(week) week, max(month) as month from (
             select who,
               sum(cost_usd) over (partition by who order by created_at range '5 hours' preceding) five_hours,
               sum(cost_usd) over (partition by who order by created_at range '24 hours' preceding) as day,
               sum(cost_usd) over (partition by who order by created_at range '7 days' preceding) week,
               sum(cost_usd) over (partition by who order by created_at range '31 days' preceding) as month
             from spent) windows
           group by who
         ), limited as (
           select 'user ' || id as who, limit_5h_usd, daily_limit_usd, limit_weekly_usd, limit_monthly_usd from users
           union all select 'key ' || id, limit_5h_usd, limit_daily_usd, limit_weekly_usd, limit_monthly_usd from keys
           union all select 'provider ' || id, limit_5h_usd, limit_daily_usd, limit_weekly_usd, limit_monthly_usd from providers
         )
         select who from most join limited using (who)
         where five_hours > limit_5h_usd or day > daily_limit_usd or week > limit_weekly_usd or month > limit_monthly_usd";
    let beyond: Vec<String> = sqlx::query_scalar(spent).fetch_all(&mut db).await.unwrap();
    assert_eq!(beyond, Vec::<String>::new());
}
