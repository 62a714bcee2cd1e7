//! The exporter's own store on real SQLite files and a real PostgreSQL: restarts, replicas, damage, trouble.

use std::path::Path;
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::HistoryOptions;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relays::claude_code_hub::least_schema;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{Plan, RelayPlan, StorePlan};
use llm_relay_exporter::store::{Checkpointer, Owner, Store, StoreError};
use llm_relay_exporter::view::LedgerView;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tokio::sync::OnceCell;

use crate::claude_code_hub::{filled, ledger, plan};
use crate::generated;
use crate::reading::{self, read_all, view};
use crate::tally::{counter_lines, moment, row};
use crate::wait::PATIENCE;

/// One server for the tests that need nothing special of it; it ends with the process.
pub async fn server() -> &'static PrivatePostgres {
    static SERVER: OnceCell<PrivatePostgres> = OnceCell::const_new();
    SERVER.get_or_init(async || PrivatePostgres::start().await.unwrap()).await
}

/// A relay's database with some days of history and nothing alive.
pub async fn history(name: &str, days: u32, requests_per_day: u32) -> String {
    let history = HistoryOptions { days, requests_per_day, ..HistoryOptions::default() };
    filled(server().await, name, &history).await
}

async fn relay(name: &str, days: u32, requests_per_day: u32) -> RelayPlan {
    plan(&history(name, days, requests_per_day).await, None)
}

fn owner(plan: &RelayPlan) -> Owner {
    Owner { relay: plan.name.clone(), kind: plan.product.label }
}

fn store_plan(url: &str) -> StorePlan {
    // Every tick may save.
    StorePlan { save_interval: Duration::ZERO, ..StorePlan::new(url.to_owned()) }
}

fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("store.db").display())
}

/// An exporter without its timers.
struct Exporter {
    plan: RelayPlan,
    follower: Follower,
    saving: Checkpointer,
}

impl Exporter {
    async fn start(plan: &RelayPlan, store: &str) -> Result<Self, StoreError> {
        let mut follower = Follower::new(ledger(plan), plan);
        let saving = Checkpointer::start(Store::open(&store_plan(store))?, owner(plan), &mut follower).await?;
        Ok(Self { plan: plan.clone(), follower, saving })
    }

    async fn read(&mut self) {
        read_all(&mut self.follower).await;
    }

    /// Ticks until it is so.
    async fn tick_until(&mut self, what: &str, mut is_so: impl FnMut(&Checkpointer) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.saving) {
            assert!(Instant::now() < deadline, "waited in vain: {what}; {:?}", self.saving.status());
            self.saving.tick(&mut self.follower, true).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn save(&mut self) {
        // A save that was under way may not have everything; the one after it has.
        for _ in 0..2 {
            let before = self.saving.status().last_save;
            self.tick_until("a save", |saving| saving.status().last_save > before).await;
        }
    }

    fn view(&mut self) -> LedgerView {
        view(&mut self.follower, &self.plan, None)
    }
}

/// Everything that the clock does not change.
fn lines(view: &LedgerView) -> Vec<String> {
    let mut lines = counter_lines(view.counters.as_ref().unwrap());
    lines.extend(view.days.iter().filter(|(day, _)| *day != "yesterday_same_time").map(|it| format!("{it:?}")));
    lines.extend(view.windows.iter().filter(|(window, _)| *window == "month").map(|it| format!("{it:?}")));
    lines
}

async fn run(plan: &RelayPlan, sql: &str) {
    use secrecy::ExposeSecret;
    let mut connection = PgConnection::connect(plan.database_url.expose_secret()).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// What an exporter says that reads the whole ledger.
async fn afresh(plan: &RelayPlan) -> (Vec<String>, u64) {
    let mut follower = reading::follower(plan);
    read_all(&mut follower).await;
    (lines(&view(&mut follower, plan, None)), follower.rows_read())
}

const NEW_REQUESTS: &str = "
    insert into message_request (provider_id, user_id, key, model, original_model, endpoint, session_id, created_at)
    select id, 1, (select min(key) from keys), 'claude-sonnet-4-5', 'claude-sonnet-4-5', '/v1/messages', 's', now()
    from providers limit 3;
    update message_request set status_code = 200, cost_usd = 0.25, input_tokens = 10, output_tokens = 20, duration_ms = 900
    where id > (select max(id) - 3 from message_request)";

async fn goes_on(plan: &RelayPlan, store: &str) {
    let mut first = Exporter::start(plan, store).await.unwrap();
    first.read().await;
    first.save().await;
    let whole = first.follower.rows_read();
    let before = lines(&first.view());
    // As after `kill -9`: nobody says goodbye.
    drop(first);

    let mut second = Exporter::start(plan, store).await.unwrap();
    assert_eq!(lines(&second.view()), before, "before anything is read");
    run(plan, NEW_REQUESTS).await;
    second.read().await;
    let (expected, _) = afresh(plan).await;
    assert_eq!(lines(&second.view()), expected);
    assert_ne!(expected, before);
    // The overlap of 2000 ids, and what is new.
    let read = second.follower.rows_read();
    assert!(read <= 2006 && whole > 3 * read, "{read} of {whole} rows were read after the restart");
    second.saving.finish(&mut second.follower).await;

    let mut third = Exporter::start(plan, store).await.unwrap();
    assert_eq!(lines(&third.view()), expected, "the last save at shutdown has everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_a_file_and_reads_only_what_is_new() {
    let plan = relay("goes_on_sqlite", 4, 3000).await;
    let directory = tempfile::tempdir().unwrap();
    Box::pin(goes_on(&plan, &sqlite(directory.path()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_from_postgres_and_reads_only_what_is_new() {
    let plan = relay("goes_on_postgres", 4, 3000).await;
    let store = server().await.database("store_goes_on").await.unwrap();
    Box::pin(goes_on(&plan, &store)).await;
}

/// A relay's first start, and nobody can read the relay: nothing is saved for days, and a snapshot would stand in the way of
/// vacuum.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_written_yet_has_no_open_transaction() {
    let plan = relay("unread", 1, 10).await;
    let store = server().await.database("store_unread").await.unwrap();
    let exporter = Exporter::start(&plan, &store).await.unwrap();
    let mut owner = PgConnection::connect(&store).await.unwrap();
    let states = "select state from pg_stat_activity where datname = 'store_unread' and pid <> pg_backend_pid()";
    let states: Vec<String> = sqlx::query_scalar(states).fetch_all(&mut owner).await.unwrap();
    assert!(!states.is_empty() && states.iter().all(|state| state == "idle"), "{states:?}");
    drop(exporter);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_read_that_was_interrupted_goes_on_where_it_was() {
    let plan = relay("interrupted", 30, 1800).await;
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let mut first = Exporter::start(&plan, &store).await.unwrap();
    first.follower.refresh().await.unwrap();
    first.follower.refresh().await.unwrap();
    first.follower.read_history().await.unwrap();
    first.save().await;
    assert!(first.view().counters.is_none(), "the history has been read too fast for this test");
    let read = first.follower.rows_read();
    drop(first);

    let mut second = Exporter::start(&plan, &store).await.unwrap();
    assert!(second.view().counters.is_none());
    second.read().await;
    let (expected, whole) = afresh(&plan).await;
    assert_eq!(lines(&second.view()), expected);
    let rest = whole - read;
    let again = second.follower.rows_read() - rest;
    assert!(again <= 4000, "{again} rows were read twice, {read} before the restart and {rest} after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_relay_cleans_up_stays_counted() {
    let url = server().await.database("cleaned").await.unwrap();
    let mut plan = plan(&url, None);
    plan.audit_interval = Duration::ZERO;
    for script in least_schema("v0.3.42") {
        run(&plan, script).await;
    }
    run(
        &plan,
        "insert into users (name, role) values ('ann', 'user');
         insert into keys (user_id, key, name) values (1, 'sk-1', 'key');
         insert into providers (name, url, key, provider_type) values ('p', 'https://p', 'sk', 'claude');
         insert into system_settings (site_title) values ('t');
         insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd, input_tokens, output_tokens, created_at)
         select 1, 1, 'sk-1', 'm', 'm', 200, 0.5, 10, 20, now() - interval '6 hours' * n from generate_series(240, 1, -1) n;
         -- More than the overlap, so that the others are settled.
         insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd, created_at)
         select 1, 1, 'sk-1', 'm', 'm', 200, 0.5, now() - interval '1 hour' from generate_series(1, 2100)",
    )
    .await;
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let requests = |view: &LedgerView| view.counters.as_ref().unwrap().traffic[0].requests[0];
    let everything = |exporter: &mut Exporter| {
        let view = view(&mut exporter.follower, &exporter.plan, &Directory::default());
        let board =
            view.boards.into_iter().find(|board| board.period.label() == "all" && board.scope.label() == "model");
        board.unwrap().entries[0].requests.unwrap()
    };
    let mut first = Exporter::start(&plan, &store).await.unwrap();
    first.read().await;
    assert_eq!(requests(&first.view()), 2340);
    // The clean-up deletes by age, in the middle of a day.
    run(&plan, "delete from message_request where created_at < now() - interval '30 days 6 hours 1 second'").await;
    for _ in 0..50 {
        // Every refresh audits three days.
        first.read().await;
    }
    assert_eq!((requests(&first.view()), everything(&mut first)), (2340, 2340));
    let drift = first.view().audit.unwrap();
    assert_eq!((drift.drift_requests, drift.drift_cost_usd), (0.0, Some(0.0)));
    first.save().await;
    drop(first);

    let mut second = Exporter::start(&plan, &store).await.unwrap();
    for _ in 0..50 {
        second.read().await;
    }
    assert_eq!((requests(&second.view()), everything(&mut second)), (2340, 2340), "after a restart");
    // A deletion that is no clean-up is followed.
    run(&plan, "delete from message_request where id = (select max(id) from message_request)").await;
    for _ in 0..3 {
        second.read().await;
    }
    assert_eq!((requests(&second.view()), everything(&mut second)), (2340, 2339));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_exporters_on_one_file_do_not_mix_their_checkpoints() {
    let plan = relay("two_on_one_file", 3, 500).await;
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let mut one = Exporter::start(&plan, &store).await.unwrap();
    one.read().await;
    one.save().await;
    let mut two = Exporter::start(&plan, &store).await.unwrap();
    two.read().await;
    for _ in 0..20 {
        two.saving.tick(&mut two.follower, true).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!two.saving.status().writer && two.saving.status().last_save.is_none());
    run(&plan, NEW_REQUESTS).await;
    one.read().await;
    one.save().await;
    drop(one);
    two.read().await;
    two.save().await;
    let mut three = Exporter::start(&plan, &store).await.unwrap();
    assert_eq!(lines(&three.view()), lines(&two.view()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_stops_nothing_and_is_used_again_when_it_is_back() {
    let plan = relay("away", 3, 500).await;
    let mut away = PrivatePostgres::start().await.unwrap();
    let store = away.database("store").await.unwrap();
    let mut exporter = Exporter::start(&plan, &store).await.unwrap();
    exporter.read().await;
    exporter.save().await;
    away.stop();
    exporter.tick_until("a failure", |saving| saving.status().failures > 1 && !saving.status().up).await;
    run(&plan, NEW_REQUESTS).await;
    exporter.read().await;
    assert_eq!(lines(&exporter.view()), afresh(&plan).await.0, "reading goes on");

    // One that starts now must not take the place of what the store has.
    let mut late = Exporter::start(&plan, &store).await.unwrap();
    assert!(!late.saving.status().up);
    late.read().await;
    assert_eq!(lines(&late.view()), afresh(&plan).await.0);

    away.restart().await.unwrap();
    exporter.save().await;
    assert!(exporter.saving.status().up && exporter.saving.status().writer);
    late.tick_until("a restore", |saving| saving.status().up).await;
    late.read().await;
    assert_eq!(lines(&late.view()), afresh(&plan).await.0);
    assert_eq!(late.saving.status().bytes, exporter.saving.status().bytes);
    let mut next = Exporter::start(&plan, &store).await.unwrap();
    assert_eq!(lines(&next.view()), lines(&exporter.view()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_file_stops_nothing() {
    let plan = relay("locked", 2, 300).await;
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(directory.path());
    let mut exporter = Exporter::start(&plan, &store).await.unwrap();
    exporter.read().await;
    exporter.save().await;
    let mut other = SqliteConnection::connect(&store).await.unwrap();
    other.execute("begin immediate").await.unwrap();
    exporter.tick_until("a failure", |saving| saving.status().failures > 0).await;
    run(&plan, NEW_REQUESTS).await;
    exporter.read().await;
    other.execute("rollback").await.unwrap();
    exporter.save().await;
    let mut next = Exporter::start(&plan, &store).await.unwrap();
    assert_eq!(lines(&next.view()), lines(&exporter.view()));
}

/// Spoils a good store and tells what the next start says.
async fn spoiled(plan: &RelayPlan, good: &Path, sql: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store.db");
    std::fs::copy(good, &file).unwrap();
    let url = format!("sqlite:{}", file.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
    refusal(plan, &file).await
}

/// Why an exporter does not start; the file is as before.
async fn refusal(plan: &RelayPlan, file: &Path) -> String {
    let before = std::fs::read(file).unwrap();
    let url = format!("sqlite:{}", file.display());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Plan { relays: [(plan.name.clone(), plan.clone())].into(), store: Some(store_plan(&url)) };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let open = llm_relay_exporter::web::Protection::load(None).unwrap();
    let serving = llm_relay_exporter::serve::run(&plan, listener, "/metrics", open, shutdown);
    let ended = tokio::time::timeout(PATIENCE, serving).await;
    let error = format!("{:#}", ended.expect("the exporter has accepted the store").unwrap_err());
    assert!(error.contains(file.to_str().unwrap()), "no file in {error:?}");
    assert!(error.contains("move it away") && error.contains("[store] url"), "no way out in {error:?}");
    assert_eq!(std::fs::read(file).unwrap(), before, "the file has been touched: {error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_foreign_damaged_or_newer_is_refused_and_left_alone() {
    let plan = relay("refused", 2, 300).await;
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good.db");
    let mut exporter = Exporter::start(&plan, &format!("sqlite:{}", good.display())).await.unwrap();
    exporter.read().await;
    exporter.save().await;
    let Exporter { mut follower, saving, .. } = exporter;
    saving.finish(&mut follower).await;
    // Everything into the one file.
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", good.display())).await.unwrap();
    connection.execute("pragma wal_checkpoint(truncate)").await.unwrap();
    connection.close().await.unwrap();

    for (sql, expected) in [
        ("update part set bytes = cast(bytes || x'00' as blob) where key = 'totals'", "the part \"totals\" of \"hub\""),
        ("update part set key = 'counters' || key where key = 'totals'", "damaged"),
        ("delete from part where key = 'held'", "parts"),
        ("update checkpoint set format = 99", "a newer exporter (format 99"),
        ("pragma user_version = 99", "a newer exporter (version 99"),
        ("pragma application_id = 7", "a database of something else"),
        ("pragma application_id = 0", "a database of something else"),
        ("drop table part", "no such table"),
    ] {
        let error = spoiled(&plan, &good, sql).await;
        assert!(error.contains(expected), "{sql}: {error}");
    }

    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "not a database at all\n".repeat(200)).unwrap();
    assert!(refusal(&plan, &text).await.contains("no SQLite file"));
    let short = directory.path().join("short.txt");
    std::fs::write(&short, "short").unwrap();
    assert!(refusal(&plan, &short).await.contains("no SQLite file"));
    let torn = directory.path().join("torn.db");
    let bytes = std::fs::read(&good).unwrap();
    std::fs::write(&torn, [&bytes[..8192], &vec![0xab; bytes.len() - 8192]].concat()).unwrap();
    assert!(refusal(&plan, &torn).await.contains("damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_cannot_be_used_is_explained_without_its_password() {
    let plan = relay("addresses", 1, 100).await;
    let port = server().await.port();
    let endpoint = tempfile::tempdir().unwrap();
    for (url, expected) in [
        ("sqlite:".to_owned(), "names no file"),
        (format!("sqlite:{}/missing/store.db", endpoint.path().display()), "the directory must exist"),
        ("mysql://user:hunter2@host/db".to_owned(), "sqlite:<path>"),
        (format!("postgres://demo:hunter2@127.0.0.1:{port}/postgres"), "check user and password"),
    ] {
        let Err(error) = Exporter::start(&plan, &url).await else { panic!("{url} was accepted") };
        let error = error.to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_the_schema_needs_no_right_to_create_one() {
    let plan = relay("own_schema", 1, 100).await;
    let server = server().await;
    let url = server.database("store_own_schema").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    connection
        .execute(
            "create role keeper login password 'kept'; create role stranger login password 'kept';
             create schema llm_relay_exporter authorization keeper",
        )
        .await
        .unwrap();
    let as_role = |role: &str| format!("postgres://{role}:kept@127.0.0.1:{}/store_own_schema", server.port());
    let mut exporter = Exporter::start(&plan, &as_role("keeper")).await.unwrap();
    exporter.read().await;
    exporter.save().await;
    let Err(StoreError::Refused(error)) = Exporter::start(&plan, &as_role("stranger")).await else { panic!() };
    assert!(error.contains("own the schema"), "{error}");
}

#[test]
fn the_bytes_of_a_checkpoint_change_only_with_its_format() {
    use llm_relay_exporter::store::FORMAT;
    use llm_relay_exporter::tally::Tally;
    use sha2::{Digest, Sha256};
    let now = "2026-06-03T12:00:00Z".parse().unwrap();
    let mut tally = Tally::new(moment(chrono_tz::Asia::Shanghai, now));
    tally.complete();
    tally.apply([row(7, now - chrono::Duration::seconds(90))]);
    let mut digest = Sha256::new();
    for (key, bytes) in tally.parts(true).unwrap() {
        digest.update(key);
        digest.update(bytes.unwrap().get());
    }
    let digest = digest.finalize();
    let file = "tests/it/snapshots/checkpoint_format";
    let (now, written) = (format!("{FORMAT} {digest:x}\n"), std::fs::read_to_string(generated::path(file)).unwrap());
    if written.split(' ').next() == Some(&FORMAT.to_string()) {
        assert_eq!(now, written, "stores of today could not be read any more: raise FORMAT, then run tests/regenerate");
    }
    generated::file(file, &now);
}
