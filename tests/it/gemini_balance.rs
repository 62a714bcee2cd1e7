//! gemini-balance on real MariaDB and real SQLite files.
//!
//! The exporter's numbers against one plain SQL aggregate each: windows against the relay's own statement
//! (`app/service/stats/stats_service.py`, v2.2.8) over its table, counters against a second table that keeps what the
//! first one loses. The SQL here is written from the relay's rules and shares nothing with the reader's.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::db::Db;
use crate::reading::{self, Saved, settle, view, view_beside, whole_view};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use llm_relay_exporter::check::{self, Level};
use llm_relay_exporter::connect::mysql;
use llm_relay_exporter::demo::Pace;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Directory, Live};
use llm_relay_exporter::relay::{self};
use llm_relay_exporter::relays::gemini_balance;
use llm_relay_exporter::relays::gemini_balance::demo::Simulator;
use llm_relay_exporter::servers::PrivateMariaDb;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tempfile::TempDir;

const ZONE: Tz = Tz::Asia__Shanghai;
const KEYS: [&str; 3] = ["AIzaSyFirst-0123456789", "AIzaSySecond-0123456789", "AIzaSyThird-0123456789"];
const MODELS: [&str; 3] = ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-search"];

async fn sqlite(folder: &TempDir) -> (Db, String) {
    // As the relay names it: without an extension.
    let url = format!("sqlite:{}", folder.path().join("default_db").display());
    let mut db = Db::connect(&url).await;
    db.run(gemini_balance::SQLITE_SCHEMA).await;
    (db, url)
}

async fn mysql(server: &PrivateMariaDb, name: &str) -> (Db, String) {
    let url = server.database(name).await.unwrap();
    let mut db = Db::connect(&url).await;
    db.run(gemini_balance::MYSQL_SCHEMA).await;
    (db, url)
}

fn plan(url: &str) -> RelayPlan {
    RelayPlan { timezone_fallback: ZONE, ..reading::plan(url, &gemini_balance::PRODUCT) }
}

fn naive(at: DateTime<Utc>) -> String {
    at.with_timezone(&ZONE).format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// One attempt as the relay writes it.
struct Attempt<'a> {
    at: DateTime<Utc>,
    model: &'a str,
    key: &'a str,
    /// SQL: a number, `null`, or, in SQLite, a text.
    status: &'a str,
    latency_ms: i64,
}

impl Attempt<'_> {
    fn values(&self) -> String {
        format!(
            "('{}', {}, '{}', {}, {}, {})",
            naive(self.at),
            if self.model.is_empty() { "null".to_owned() } else { format!("'{}'", self.model) },
            self.key,
            i32::from(self.status == "200"),
            self.status,
            self.latency_ms
        )
    }
}

const COLUMNS: &str = "(request_time, model_name, api_key, is_success, status_code, latency_ms)";

struct Scene {
    db: Db,
    rng: StdRng,
    label: &'static str,
}

impl Scene {
    /// A fortnight of history, and the table that keeps what the relay deletes.
    async fn set_up(mut db: Db, label: &'static str, seed: u64) -> Self {
        let shadow = if db.is_sqlite() { gemini_balance::SQLITE_SCHEMA } else { gemini_balance::MYSQL_SCHEMA };
        let shadow = shadow.split(");").next().unwrap().replace("t_request_log", "shadow");
        db.run(&format!("{shadow});")).await;
        let mut scene = Self { db, rng: StdRng::seed_from_u64(seed), label };
        scene.successes(Utc::now() - TimeDelta::days(14)).await;
        // The last 2000 ids are read again for a while, so what the clean-up takes lies further back.
        for n in 0..200 {
            scene.attempt(Utc::now() - TimeDelta::minutes(14 * 1440 - 60 - n * 80)).await;
        }
        // Of yesterday and today alone: when the table is emptied, they go, whatever the hour is.
        let yesterday = Self::yesterday().and_time(chrono::NaiveTime::MIN).and_local_timezone(ZONE).unwrap().to_utc();
        let seconds = (Utc::now() - yesterday).num_seconds().min(40 * 3600);
        let recent = |n: i64| Attempt {
            at: Utc::now() - TimeDelta::seconds(seconds * (2000 - n) / 2000),
            model: MODELS[(n % 3) as usize],
            key: KEYS[(n % 3) as usize],
            status: ["200", "200", "200", "429", "500"][(n % 5) as usize],
            latency_ms: n,
        };
        scene.insert(&(0..2000).map(recent).collect::<Vec<_>>()).await;
        scene
    }

    fn yesterday() -> chrono::NaiveDate {
        Utc::now().with_timezone(&ZONE).date_naive() - chrono::Days::new(1)
    }

    async fn insert(&mut self, attempts: &[Attempt<'_>]) {
        for table in ["t_request_log", "shadow"] {
            let values: Vec<String> = attempts.iter().map(Attempt::values).collect();
            self.db.run(&format!("insert into {table} {COLUMNS} values {}", values.join(","))).await;
        }
    }

    /// One success of each model: from then on its rows count under its name.
    async fn successes(&mut self, at: DateTime<Utc>) {
        let attempt = |model| Attempt { at, model, key: KEYS[0], status: "200", latency_ms: 900 };
        self.insert(&MODELS.map(attempt)).await;
    }

    async fn attempt(&mut self, at: DateTime<Utc>) {
        let numbers = ["200", "200", "200", "200", "429", "500", "503", "400", "403", "104", "302", "null"];
        let texts = ["''", "'Expecting value: line 1 column 1 (char 0)'"];
        let status = match self.rng.random_range(0..14) {
            n if n < 12 => numbers[n],
            n if self.db.is_sqlite() => texts[n - 12],
            _ => "500",
        };
        let model = ["", MODELS[0], MODELS[1], MODELS[2]][self.rng.random_range(0..4)];
        let key = KEYS[self.rng.random_range(0..3)];
        let latency_ms = [0, 99, 100, 101, 2500, 61_000, 901_000][self.rng.random_range(0..7)];
        self.insert(&[Attempt { at, model, key, status, latency_ms }]).await;
    }

    async fn step(&mut self) -> &'static str {
        match self.rng.random_range(0..100) {
            0..60 => {
                for _ in 0..self.rng.random_range(1..5) {
                    // Long attempts are written late: times are not in the order of ids.
                    let ago = [1, 20, 45, 75, 200, 290][self.rng.random_range(0..6)];
                    self.attempt(Utc::now() - TimeDelta::seconds(ago)).await;
                }
                "attempts end"
            }
            60..72 => {
                let lost = self.rng.random_range(1..4);
                self.delete_newest(lost).await;
                "the newest rows are deleted"
            }
            72..82 => {
                let lost = self.rng.random_range(1..4);
                self.delete_newest(lost).await;
                for _ in 0..self.rng.random_range(1..8) {
                    self.attempt(Utc::now() - TimeDelta::seconds(3)).await;
                }
                "the newest rows are deleted, and more than before come"
            }
            82..90 => {
                // It runs at midnight of another setting's zone.
                let kept = TimeDelta::hours(self.rng.random_range(48..300));
                let since = naive(Utc::now() - kept);
                self.db.run(&format!("delete from t_request_log where request_time < '{since}'")).await;
                "the clean-up deletes old rows"
            }
            90..94 => {
                let truncate = if self.db.is_sqlite() { "delete from t_request_log" } else { "truncate t_request_log" };
                self.db.run(truncate).await;
                // The log knows seconds: a row with the id and the second of one that is gone cannot be told from it.
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.successes(Utc::now() - TimeDelta::seconds(2)).await;
                "the table is emptied, ids begin anew"
            }
            _ => "nothing happens",
        }
    }

    async fn delete_newest(&mut self, count: usize) {
        let newest = format!("select * from (select id from t_request_log order by id desc limit {count}) it");
        self.db.run(&format!("delete from t_request_log where id in ({newest})")).await;
    }

    /// The exporter knows nothing but the table from here on.
    async fn forget(&mut self) {
        self.db
            .run(&format!(
                "delete from shadow; insert into shadow {COLUMNS} select {} from t_request_log order by id",
                COLUMNS.trim_matches(['(', ')'])
            ))
            .await;
    }

    /// Success, failure and the rest of each window, by the relay's own statement.
    async fn windows(&mut self) -> BTreeMap<String, Vec<i64>> {
        let now = DateTime::from_timestamp(Utc::now().timestamp(), 0).unwrap();
        let month = now.with_timezone(&ZONE).format("%Y-%m-01 00:00:00").to_string();
        let ago = |hours| naive(now - TimeDelta::hours(hours));
        let mut windows = BTreeMap::new();
        let success = self.db.sum("case when status_code >= 200 and status_code < 300 then 1 else 0 end");
        let failure = self.db.sum("case when status_code < 200 or status_code >= 300 then 1 else 0 end");
        let minute = naive(now - TimeDelta::minutes(1));
        for (name, from) in [("1m", minute), ("1h", ago(1)), ("8h", ago(8)), ("24h", ago(24)), ("month", month)] {
            let sql = format!(
                "select '{name}', {success}, {failure}, count(*) from t_request_log where request_time >= '{from}'"
            );
            let mut counts = self.db.table(&sql).await.remove(name).unwrap();
            counts[2] -= counts[0] + counts[1];
            windows.insert(name.to_owned(), counts);
        }
        windows
    }

    async fn compare(&mut self, follower: &mut Follower, plan: &RelayPlan, directory: &Directory, what: &str) {
        let (view, windows) = view_beside(follower, plan, directory, async || self.windows().await).await;
        let ours =
            view.windows.iter().map(|(name, counts)| (name.to_string(), counts.iter().map(|n| *n as i64).collect()));
        assert_eq!(ours.collect::<BTreeMap<String, Vec<i64>>>(), windows, "{} {what}", self.label);
        let counters = view.counters.as_ref().unwrap();

        let outcomes =
            ["status_code between 200 and 299", "status_code < 200 or status_code >= 300", "status_code is null"];
        let sums = outcomes.map(|of| self.db.sum(&format!("case when {of} then 1 else 0 end")));
        let traffic = self.db.table(&format!("select {MODEL}, {} from shadow s group by 1", sums.join(", "))).await;
        let ours: BTreeMap<String, Vec<i64>> =
            counters.traffic.iter().map(|it| (it.model.clone(), it.requests.map(|n| n as i64).into())).collect();
        assert_eq!(ours, traffic, "{} requests {what}", self.label);

        let keys = self.db.table("select api_key, count(*) from shadow group by 1").await;
        let keys: BTreeMap<String, i64> = keys.into_iter().map(|(key, n)| (key_label(&key), n[0])).collect();
        let ours: BTreeMap<String, i64> = counters.keys.iter().map(|it| (it.id.clone(), it.requests as i64)).collect();
        assert_eq!(ours, keys, "{} keys {what}", self.label);

        let number = if self.db.is_sqlite() { "typeof(status_code) = 'integer' and" } else { "" };
        let code = format!(
            "case when {number} status_code between 100 and 599 then cast(status_code as char) else 'none' end"
        );
        let codes = self.db.table(&format!("select {code}, count(*) from shadow group by 1")).await;
        let ours: BTreeMap<String, Vec<i64>> =
            counters.responses.iter().map(|(_, code, n)| (code.clone(), vec![*n as i64])).collect();
        assert_eq!(ours, codes, "{} codes {what}", self.label);

        let class = format!(
            "case when status_code is null then 'client_abort' when {number} status_code = 429 then 'rate_limited' \
             when {number} status_code = 503 then 'overloaded' when {number} status_code in (401, 403) then 'auth' \
             when {number} status_code between 400 and 498 then 'caller' when {number} status_code between 500 and 599 then 'server' \
             else 'unknown' end"
        );
        let failed = "(status_code is null or not status_code between 200 and 299)";
        let classes = self.db.table(&format!("select {class}, count(*) from shadow where {failed} group by 1")).await;
        let ours: BTreeMap<String, Vec<i64>> =
            counters.failures.iter().map(|(_, class, n)| (class.to_string(), vec![*n as i64])).collect();
        assert_eq!(ours, classes, "{} classes {what}", self.label);

        for latency in counters.latency.iter() {
            let bounds = latency.duration.bounds.iter().map(|bound| format!("{}", bound * 1000.0));
            let sums: Vec<String> = bounds
                .chain(["1e18".to_owned()])
                .map(|bound| self.db.sum(&format!("case when latency_ms <= {bound} then 1 else 0 end")))
                .collect();
            let total = self.db.sum("latency_ms");
            let sql =
                format!("select 'it', {total}, {} from shadow s where {MODEL} = '{}'", sums.join(", "), latency.model);
            let theirs = self.db.table(&sql).await.remove("it").unwrap();
            let mut ours = vec![(latency.duration.sum * 1000.0).round() as i64];
            let mut count = 0;
            for bucket in &latency.duration.buckets {
                count += *bucket as i64;
                ours.push(count);
            }
            assert_eq!(ours, theirs, "{} histogram of {} {what}", self.label, latency.model);
        }
    }
}

/// A model counts under its name from its first success on.
const MODEL: &str = "case when id >= (select min(x.id) from shadow x where x.model_name = s.model_name \
     and x.status_code between 200 and 299) then model_name else 'other' end";

/// The label of a key, by its hash as anybody can make it.
fn key_label(key: &str) -> String {
    use sha2::{Digest, Sha256};
    let hex = format!("{:x}", Sha256::digest(key));
    u32::from_str_radix(&hex[..8], 16).unwrap().to_string()
}

async fn play(db: Db, url: &str, label: &'static str, seed: u64, steps: usize) {
    let seed = reading::seed(seed);
    let plan = plan(url);
    let mut scene = Scene::set_up(db, label, seed).await;
    let mut follower = reading::follower(&plan);
    let mut directory = relay::open(&plan).unwrap().directory;
    let mut saved = Saved::default();
    settle(&mut follower).await;
    for n in 0..steps {
        let mut what = scene.step().await.to_owned();
        if n % 17 == 16 {
            scene.forget().await;
            follower = reading::follower(&plan);
            saved = Saved::default();
            what += ", and the exporter starts anew";
        } else if n % 5 == 4 {
            follower = saved.restored(reading::follower(&plan));
            what += ", and the exporter goes on from its store";
        }
        let what = format!("seed {seed} step {n}: {what}");
        println!("{label} {what}");
        let directory = directory.read().await.unwrap();
        scene.compare(&mut follower, &plan, &directory, &what).await;
        saved.save(&mut follower);
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_sqlite() {
    // Both at once: most of the time is rests, with a rollback journal.
    let story = async |seed| {
        let folder = TempDir::new().unwrap();
        let (db, url) = sqlite(&folder).await;
        play(db, &url, "sqlite", seed, 45).await;
    };
    tokio::join!(story(1), story(3));
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_mariadb() {
    let server = PrivateMariaDb::start().await.unwrap();
    let (db, url) = mysql(&server, "diff").await;
    play(db, &url, "mariadb", 11, 40).await;
}

/// 150 000 attempts, one every two seconds.
const LONG: &str = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 150000)
    insert into t_request_log (request_time, model_name, api_key, is_success, status_code, latency_ms)
    select strftime('%Y-%m-%d %H:%M:%S', 'now', '+8 hours', (2 * (n - 150000)) || ' seconds') || '.000000',
      'gemini-2.5-pro', 'AIzaSyFirst-0123456789', 1, case when n % 10 = 0 then 429 else 200 end, 1000 from n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_on_sqlite_is_never_refused_and_a_long_log_is_audited_in_slices() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    db.run(LONG).await;
    let path = folder.path().join("default_db");
    // The control: an open read is what makes a rollback journal's writers fail, here after 100 ms of patience.
    {
        let options = SqliteConnectOptions::new().filename(&path);
        let mut impatient = options.clone().busy_timeout(Duration::from_millis(100)).connect().await.unwrap();
        let mut reader = options.connect().await.unwrap();
        sqlx::raw_sql("begin; select count(*) from t_request_log").execute(&mut reader).await.unwrap();
        let insert = "insert into t_request_log (is_success) values (1)";
        let refused = sqlx::raw_sql(insert).execute(&mut impatient).await.unwrap_err();
        assert!(refused.to_string().contains("locked"), "{refused}");
    }
    // Locks are what is looked at, not this machine's disk.
    db.run("pragma synchronous = off").await;
    let writer = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        for n in 0..200 {
            let at = Utc::now();
            let attempt = Attempt { at, model: MODELS[n % 3], key: KEYS[n % 3], status: "200", latency_ms: 5 };
            let began = std::time::Instant::now();
            db.run(&format!("insert into t_request_log {COLUMNS} values {}", attempt.values())).await;
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        slowest
    });
    // Meanwhile an exporter without a pause, that reads the history and audits in every refresh.
    let plan = plan(&url);
    let parts = relay::open(&plan).unwrap();
    let (mut live, mut source) = (parts.live.unwrap(), parts.directory);
    let mut follower = reading::follower(&plan);
    let mut refreshes = 0;
    while !writer.is_finished() || refreshes < 3 {
        let directory = source.read().await.unwrap();
        live.read(&directory).await.unwrap();
        settle(&mut follower).await;
        refreshes += 1;
    }
    // Any refused write has panicked in the writer.
    let slowest = writer.await.unwrap();
    println!("{refreshes} rounds; the slowest of 200 writes took {slowest:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    settle(&mut follower).await;
    let view = view(&mut follower, &plan, &Directory::default());
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
    let requests: u64 = view.counters.unwrap().traffic.iter().flat_map(|it| it.requests).sum();
    assert_eq!(requests, 150_200);
}

#[tokio::test]
async fn rows_that_become_visible_late_are_counted_on_mariadb() {
    let server = PrivateMariaDb::start().await.unwrap();
    let (mut first, url) = mysql(&server, "late").await;
    let mut second = Db::connect(&url).await;
    let plan = plan(&url);
    let mut follower = reading::follower(&plan);
    let insert = |key| {
        let attempt = Attempt { at: Utc::now(), model: MODELS[0], key, status: "200", latency_ms: 7 };
        format!("insert into t_request_log {COLUMNS} values {}", attempt.values())
    };
    first.run(&insert(KEYS[0])).await;
    settle(&mut follower).await;
    // The smaller id is committed after the greater one has been read.
    first.run(&format!("begin; {}", insert(KEYS[1]))).await;
    second.run(&insert(KEYS[2])).await;
    settle(&mut follower).await;
    let requests = |view: &LedgerView| view.counters.as_ref().unwrap().traffic[0].requests[0];
    assert_eq!(requests(&view(&mut follower, &plan, &Directory::default())), 2);
    first.run("commit").await;
    settle(&mut follower).await;
    assert_eq!(requests(&view(&mut follower, &plan, &Directory::default())), 3);
    // No open transaction of ours is in the relay's way, not even of a change to the table.
    second.run("set lock_wait_timeout = 1; alter table t_request_log add column note int").await;
    // One whose host has gone, and says nothing any more, is for a short while alone.
    let mut database = mysql::Database::new(&url.as_str().into(), Duration::from_secs(2)).unwrap();
    let mut snapshot = database.snapshot().await.unwrap();
    snapshot.fetch_one("counting", sqlx::query("select count(*) from t_request_log")).await.unwrap();
    second.run("set lock_wait_timeout = 60; alter table t_request_log add column more int").await;
    drop(snapshot);
}

/// MySQL's collations take names for one that differ in case, or in blanks behind them.
#[tokio::test]
async fn models_that_differ_in_case_alone_are_audited_and_not_read_again_on_mariadb() {
    let server = PrivateMariaDb::start().await.unwrap();
    let mut read = Vec::new();
    for (name, models) in
        [("alike", [MODELS[0]; 3]), ("cased", ["gemini-2.5-pro", "Gemini-2.5-Pro", "gemini-2.5-pro "])]
    {
        let (mut db, url) = mysql(&server, name).await;
        let plan = plan(&url);
        let mut follower = reading::follower(&plan);
        for _ in 0..3 {
            for model in models {
                let attempt = Attempt { at: Utc::now(), model, key: KEYS[0], status: "200", latency_ms: 7 };
                db.run(&format!("insert into t_request_log {COLUMNS} values {}", attempt.values())).await;
            }
            settle(&mut follower).await;
        }
        let view = view(&mut follower, &plan, &Directory::default());
        assert_eq!((view.days[0].1.requests, view.audit.unwrap().drift_requests), (9, 0.0));
        read.push(follower.rows_read());
    }
    assert_eq!(read[1], read[0], "rows that were read");
}

/// Failures by key.
fn failures(state: &Live) -> BTreeMap<String, u64> {
    state.key_failures.iter().flatten().map(|(key, n)| (key.to_string(), *n)).collect()
}

#[tokio::test]
async fn live_numbers_do_not_depend_on_when_they_were_read_on_mariadb() {
    let server = PrivateMariaDb::start().await.unwrap();
    let (mut first, url) = mysql(&server, "late_live").await;
    let mut second = Db::connect(&url).await;
    let none = Directory::default();
    let open = || relay::open(&plan(&url)).unwrap().live.unwrap();
    let attempt = |status| {
        let attempt = Attempt { at: Utc::now(), model: "m", key: KEYS[0], status, latency_ms: 7 };
        format!("insert into t_request_log {COLUMNS} values {};", attempt.values())
    };
    let entry =
        |code| format!("insert into t_error_logs (error_type, error_code) values ('gemini-chat-stream', {code});");
    let mut live = open();
    first.run(&attempt("200")).await;
    live.read(&none).await.unwrap();
    // The smaller ids are committed after the greater ones have been read: a success before a failure, and two failures.
    first.run(&format!("begin; {} {}", attempt("500"), entry(500))).await;
    second.run(&format!("{} {}", attempt("429"), entry(429))).await;
    live.read(&none).await.unwrap();
    first.run("commit").await;
    let followed = live.read(&none).await.unwrap();
    assert_eq!(failures(&followed), BTreeMap::from([(key_label(KEYS[0]), 2)]));
    first.run(&format!("begin; {}", attempt("200"))).await;
    second.run(&attempt("503")).await;
    live.read(&none).await.unwrap();
    first.run("commit").await;
    let followed = live.read(&none).await.unwrap();
    assert_eq!(failures(&followed), BTreeMap::from([(key_label(KEYS[0]), 1)]));
    assert_eq!(followed.error_log.as_ref().unwrap().len(), 2);
    assert_eq!(followed, open().read(&none).await.unwrap(), "a new exporter");
    // Deleting the newest entry, and one more with its id, count once.
    second.run("delete from t_error_logs order by id desc limit 1").await;
    assert_eq!(live.read(&none).await.unwrap().error_log, followed.error_log);
    second.run(&entry(403)).await;
    assert_eq!(live.read(&none).await.unwrap().error_log.unwrap().len(), 3);
}

/// A text leaves no entry in the error log, so an entry near it is of another request (seen with v2.2.8: the relay fails on
/// `e.args[1]` before it writes one).
#[tokio::test]
async fn texts_in_the_column_of_codes_are_failures_of_no_known_class_whatever_the_error_log_says() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    let at = Utc::now() - TimeDelta::seconds(30);
    let statuses = ["''", "'Expecting value: line 1 column 1 (char 0)'", "'All connection attempts failed'", "null"];
    for (status, key) in statuses.into_iter().zip([KEYS[0], KEYS[1], KEYS[2], KEYS[2]]) {
        let values = Attempt { at, model: "m", key, status, latency_ms: 5 }.values();
        db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
        let at = naive(at);
        let entry = format!("('{key}', 'gemini-chat-stream', 503, '{at}')");
        db.run(&format!("insert into t_error_logs (gemini_key, error_type, error_code, request_time) values {entry}"))
            .await;
    }
    let view = whole_view(&plan(&url)).await;
    let counters = view.counters.unwrap();
    let failures: BTreeMap<&str, u64> = counters.failures.iter().map(|(_, class, n)| (*class, *n)).collect();
    assert_eq!(failures, BTreeMap::from([("unknown", 3), ("client_abort", 1)]));
    assert_eq!(counters.responses, [("1".to_owned(), "none".to_owned(), 4)]);
    let (_, minute) = view.windows[0];
    assert_eq!(minute, [0, 3, 1], "the relay's total, success, failure are 4, 0, 3");
}

#[tokio::test]
async fn key_health_and_the_error_log_are_told_and_keys_are_not() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    for (key, statuses) in KEYS.into_iter().zip([&["429", "200", "429", "null", "500"][..], &["200"], &["403", "''"]]) {
        for status in statuses {
            let values = Attempt { at: Utc::now(), model: "m", key, status, latency_ms: 5 }.values();
            db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
        }
    }
    db.run("insert into t_error_logs (error_type, error_code) values ('openai-embedding', 429), ('openai-embedding', 429), (null, null)")
        .await;
    let parts = relay::open(&plan(&url)).unwrap();
    let (mut live, mut source) = (parts.live.unwrap(), parts.directory);
    let directory = source.read().await.unwrap();
    let state = live.read(&directory).await.unwrap();
    let expected = [(key_label(KEYS[0]), 2), (key_label(KEYS[1]), 0), (key_label(KEYS[2]), 2)];
    assert_eq!(failures(&state), BTreeMap::from(expected), "the settings name no keys: those that were used are shown");
    assert!(directory.keys.iter().all(|key| key.enabled.is_none()));
    let log = state.error_log.as_ref().unwrap();
    let log: Vec<_> = log.iter().map(|it| (it.kind.as_str(), it.code.as_str(), it.count)).collect();
    assert_eq!(log, [("none", "none", 1), ("openai-embedding", "429", 2)]);
    // A key works again.
    let values = Attempt { at: Utc::now(), model: "m", key: KEYS[2], status: "200", latency_ms: 5 }.values();
    db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
    let state = live.read(&directory).await.unwrap();
    assert!(state.key_failures.as_ref().unwrap().contains(&(key_label(KEYS[2]).parse::<i64>().unwrap().into(), 0)));
    let said = format!("{directory:?} {state:?} {:?}", whole_view(&plan(&url)).await);
    assert!(KEYS.iter().all(|key| !said.contains(&key[..10])), "{said}");
    assert!(directory.keys.iter().any(|key| key.name == format!("{:08x}", key.id.number().unwrap())));
}

#[tokio::test]
async fn what_the_relay_deletes_of_its_error_log_stays_counted_in_a_restart() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    let entries = |codes: &str| format!("insert into t_error_logs (error_type, error_code) values {codes}");
    db.run(&entries("('gemini-chat-stream', 429), ('gemini-chat-stream', 429), ('gemini-chat-stream', 500)")).await;
    let plan = plan(&url);
    let open = || {
        let parts = relay::open(&plan).unwrap();
        (Follower::new(reading::rows_of(parts.usage), &plan), parts.live.unwrap())
    };
    let (mut follower, mut live) = open();
    follower.refresh().await.unwrap();
    live.read(&Directory::default()).await.unwrap();
    // At midnight it deletes what is older than seven days.
    db.run("delete from t_error_logs where id <= 2").await;
    live.read(&Directory::default()).await.unwrap();
    let mut saved = Saved::default();
    saved.save(&mut follower);
    db.run(&entries("('gemini-chat-stream', 500)")).await;

    let (follower, mut live) = open();
    let _going_on = saved.restored(follower);
    let log = live.read(&Directory::default()).await.unwrap().error_log.unwrap();
    let log: Vec<_> = log.iter().map(|it| (it.code.as_str(), it.count)).collect();
    assert_eq!(log, [("429", 2), ("500", 2)]);
}

#[tokio::test]
async fn the_documented_account_reads_all_that_is_needed_and_no_secret() {
    let server = PrivateMariaDb::start().await.unwrap();
    let (mut db, url) = mysql(&server, "narrow_db").await;
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/relays.md")).unwrap();
    let script = document.split("CREATE USER 'exporter'@'%'").nth(1).unwrap().split("```").next().unwrap();
    let script =
        format!("CREATE USER 'exporter'@'%'{script}").replace("default_db", "narrow_db").replace("...", "narrow");
    db.run(&script).await;
    let values = Attempt { at: Utc::now(), model: "m", key: KEYS[0], status: "200", latency_ms: 5 }.values();
    db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
    let account = format!("mysql://exporter:narrow@127.0.0.1:{}/narrow_db?ssl-mode=disabled", server.port());
    let report = check::check(&plan(&account)).await.unwrap();
    assert!(report.worst() < Level::Problem, "{report}");
    let text = report.to_string();
    assert!(text.contains("t_error_logs can be read") && !text.contains("may read t_settings"), "{text}");
    assert_eq!(whole_view(&plan(&account)).await.windows[0].1, [1, 0, 0]);
    assert!(text.contains("exporter_keys"), "the view is not there: {text}");
    // With it, the keys of the pool are known, and nothing else of the settings.
    db.run(&format!(
        "insert into t_settings (`key`, value) values ('API_KEYS', '[\"{}\", \"{}\"]'), ('AUTH_TOKEN', 'sk')",
        KEYS[1], KEYS[2]
    ))
    .await;
    let view = document.split("CREATE SQL SECURITY DEFINER VIEW").nth(1).unwrap().split("```").next().unwrap();
    db.run(&format!("CREATE SQL SECURITY DEFINER VIEW{view}").replace("default_db", "narrow_db")).await;
    let enabled: BTreeMap<String, Option<bool>> = keys(&account).await;
    let expected = [(KEYS[0], Some(false)), (KEYS[1], Some(true)), (KEYS[2], Some(true))];
    assert_eq!(enabled, expected.map(|(key, enabled)| (key_label(key), enabled)).into());
    let refused = MySqlConnection::connect(&account).await.unwrap().execute("select * from t_settings").await;
    assert!(refused.is_err());
    // With more than that, `check` says so.
    let report = check::check(&plan(&url)).await.unwrap().to_string();
    assert!(report.contains("may read t_settings"), "{report}");
}

/// Keys, and whether they are in the pool.
async fn keys(url: &str) -> BTreeMap<String, Option<bool>> {
    let directory = relay::open(&plan(url)).unwrap().directory.read().await.unwrap();
    directory.keys.iter().map(|key| (key.id.to_string(), key.enabled)).collect()
}

#[tokio::test]
async fn keys_that_were_never_used_are_known_and_those_that_left_the_pool_fail_no_more() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    for key in [KEYS[0], KEYS[1]] {
        let values = Attempt { at: Utc::now(), model: "m", key, status: "429", latency_ms: 5 }.values();
        db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
    }
    let pool = |keys: &str| format!("insert or replace into t_settings (key, value) values ('API_KEYS', '{keys}')");
    db.run(&pool(&format!(r#"["{}", "{}"]"#, KEYS[1], KEYS[2]))).await;
    db.run("insert into t_settings (key, value) values ('VERTEX_API_KEYS', '[]'), ('AUTH_TOKEN', 'sk-secret')").await;
    let expected = [(KEYS[0], Some(false)), (KEYS[1], Some(true)), (KEYS[2], Some(true))];
    assert_eq!(keys(&url).await, expected.map(|(key, enabled)| (key_label(key), enabled)).into());
    let parts = relay::open(&plan(&url)).unwrap();
    let (mut live, mut source) = (parts.live.unwrap(), parts.directory);
    let directory = source.read().await.unwrap();
    let state = live.read(&directory).await.unwrap();
    assert_eq!(failures(&state), BTreeMap::from([(key_label(KEYS[1]), 1), (key_label(KEYS[2]), 0)]));
    assert!(!format!("{directory:?}").contains("sk-secret"));
    let report = check::check(&plan(&url)).await.unwrap().to_string();
    assert!(report.contains("2 keys are in the pool"), "{report}");
    // Settings that are no list take nothing else with them.
    db.run(&pool("no list")).await;
    assert_eq!(keys(&url).await, [KEYS[0], KEYS[1]].map(|key| (key_label(key), None)).into());
}

#[tokio::test]
async fn check_tells_a_wrong_zone_by_whole_hours() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    let values = Attempt { at: Utc::now(), model: "m", key: KEYS[0], status: "200", latency_ms: 5 }.values();
    db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
    let mut plan = plan(&url);
    let right = check::check(&plan).await.unwrap();
    assert!(right.worst() < Level::Problem, "{right}");
    plan.timezone = Some(Tz::UTC);
    let ahead = check::check(&plan).await.unwrap();
    assert!(ahead.to_string().contains("of the future"), "{ahead}");
    plan.timezone = Some(Tz::Asia__Tokyo);
    let behind = check::check(&plan).await.unwrap();
    assert!(behind.to_string().contains("1 hours old, almost to the minute"), "{behind}");
}

#[tokio::test]
async fn a_wrong_zone_is_told_by_the_rows_that_come_and_so_is_the_right_one() {
    let folder = TempDir::new().unwrap();
    let (mut db, url) = sqlite(&folder).await;
    let old = Attempt { at: Utc::now() - TimeDelta::hours(7), model: "m", key: KEYS[0], status: "200", latency_ms: 5 };
    db.run(&format!("insert into t_request_log {COLUMNS} values {}", old.values())).await;
    for (zone, error) in [(Tz::Asia__Tokyo, 3600.0), (ZONE, 0.0), (Tz::UTC, -28_800.0)] {
        let plan = RelayPlan { timezone: Some(zone), ..plan(&url) };
        let mut follower = reading::follower(&plan);
        settle(&mut follower).await;
        let told = |follower: &mut Follower| view(follower, &plan, &Directory::default()).zone_error_seconds;
        assert_eq!(told(&mut follower), None, "rows that were there may be old");
        for n in 1..=3 {
            let values = Attempt { at: Utc::now(), model: "m", key: KEYS[0], status: "200", latency_ms: 5 }.values();
            db.run(&format!("insert into t_request_log {COLUMNS} values {values}")).await;
            follower.refresh().await.unwrap();
            assert_eq!(told(&mut follower), Some(error).filter(|_| n == 3), "{zone}, {n} rows");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_a_failed_read_that_says_what_to_do() {
    let missing = plan("sqlite:/nowhere/default_db");
    let error = relay::open(&missing).unwrap().directory.read().await.unwrap_err();
    assert!(error.text.contains("check the path"), "{error}");
    let closed = plan("mysql://exporter:hidden@127.0.0.1:9/relay");
    let error = relay::open(&closed).unwrap().directory.read().await.unwrap_err();
    assert!(error.text.contains("MySQL at 127.0.0.1:9/relay") && !error.text.contains("hidden"), "{error}");
}

#[tokio::test]
async fn the_simulator_writes_as_the_relay_does() {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite:{}", folder.path().join("default_db").display());
    let mut simulator = Simulator::create(&url, ZONE, 1).await.unwrap();
    let attempts = simulator.fill(Utc::now() - TimeDelta::days(2), 2000).await.unwrap();
    assert!((1000..9000).contains(&attempts), "{attempts}");
    let before = whole_view(&plan(&url)).await;
    let total =
        |view: &LedgerView| -> u64 { view.counters.as_ref().unwrap().traffic.iter().flat_map(|it| it.requests).sum() };
    assert_eq!(total(&before), attempts);
    let after = async {
        loop {
            let view = whole_view(&plan(&url)).await;
            if total(&view) > total(&before) + 10 {
                break view;
            }
        }
    };
    let after = tokio::select! {
        after = after => after,
        ended = simulator.live(Pace::Steady(100.0)) => panic!("it goes on for ever, but {ended:?}"),
    };
    let counters = after.counters.unwrap();
    assert!(counters.failures.iter().any(|(_, class, n)| *class == "rate_limited" && *n > 10));
    assert!(counters.keys.iter().count() == 12 && counters.latency.iter().count() >= 4);
    // On SQLite an abandoned stream leaves no row.
    let mut db = Db::connect(&url).await;
    assert_eq!(db.numbers("count(*)", "t_request_log where status_code is null").await, [0]);
}
