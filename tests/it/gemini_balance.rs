//! gemini-balance on real MariaDB and real SQLite files.
//!
//! The exporter's numbers against one plain SQL aggregate each: windows against the relay's own statement
//! (`app/service/stats/stats_service.py`, v2.2.8) over its table, counters against a second table that keeps what the
//! first one loses. The SQL here is written from the relay's rules and shares nothing with the reader's.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use llm_relay_exporter::demo::servers::PrivateMariaDb;
use llm_relay_exporter::follow::{Follower, Rest};
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relays::{self, gemini_balance};
use llm_relay_exporter::settings::{Boards, Kind, RelayPlan, SeriesBudget};
use llm_relay_exporter::tally::Presentation;
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::mysql::MySqlConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tempfile::TempDir;

const ZONE: Tz = Tz::Asia__Shanghai;
const KEYS: [&str; 3] = ["AIzaSyFirst-0123456789", "AIzaSySecond-0123456789", "AIzaSyThird-0123456789"];
const MODELS: [&str; 3] = ["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-search"];

/// The relay's side of a database.
enum Db {
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl Db {
    async fn sqlite(folder: &TempDir) -> (Self, String) {
        // As the relay names it: without an extension.
        let path = folder.path().join("default_db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let connection = options.busy_timeout(Duration::from_secs(5)).connect().await.unwrap();
        let mut db = Self::Sqlite(connection);
        db.run(gemini_balance::SQLITE_SCHEMA).await;
        (db, format!("sqlite:{}", path.display()))
    }

    async fn mysql(server: &PrivateMariaDb, name: &str) -> (Self, String) {
        let url = server.database(name).await.unwrap();
        let mut db = Self::MySql(MySqlConnection::connect(&url).await.unwrap());
        db.run(gemini_balance::MYSQL_SCHEMA).await;
        (db, url)
    }

    async fn try_run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let statement = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::MySql(connection) => statement.execute(connection).await.map(|_| ()),
            Self::Sqlite(connection) => statement.execute(connection).await.map(|_| ()),
        }
    }

    async fn run(&mut self, sql: &str) {
        self.try_run(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// A text and some numbers by row.
    async fn table(&mut self, sql: &str) -> BTreeMap<String, Vec<i64>> {
        let statement = AssertSqlSafe(sql.to_owned());
        macro_rules! read {
            ($connection:expr) => {
                sqlx::query(statement)
                    .fetch_all($connection)
                    .await
                    .unwrap_or_else(|error| panic!("{error}: {sql}"))
                    .iter()
                    .map(|row| {
                        let name: String = row.get_unchecked(0);
                        (name, (1..row.len()).map(|i| row.get_unchecked::<Option<i64>, _>(i).unwrap_or(0)).collect())
                    })
                    .collect()
            };
        }
        match self {
            Self::MySql(connection) => read!(connection),
            Self::Sqlite(connection) => read!(connection),
        }
    }

    fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }

    /// A sum as a whole number.
    fn sum(&self, of: &str) -> String {
        format!("cast(coalesce(sum({of}), 0) as {})", if self.is_sqlite() { "integer" } else { "signed" })
    }
}

fn plan(url: &str) -> RelayPlan {
    RelayPlan {
        name: "test".into(),
        kind: Kind::GeminiBalance,
        database_url: url.to_owned().into(),
        redis_url: None,
        interval: Duration::from_secs(5),
        directory_interval: Duration::from_secs(5),
        stale_after: Duration::from_secs(60),
        timeout: Duration::from_secs(30),
        session_ttl: Duration::from_secs(300),
        timezone: None,
        timezone_fallback: ZONE,
        // Every refresh audits, so that nothing may be wrong even for a moment.
        audit_interval: Duration::ZERO,
        history_budget: Duration::from_secs(60),
        boards: Boards::default(),
        series: SeriesBudget::default(),
    }
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
        db.run(&format!("{shadow}); alter table shadow add column gone int not null default 0")).await;
        let mut scene = Self { db, rng: StdRng::seed_from_u64(seed), label };
        scene.successes(Utc::now() - TimeDelta::days(14)).await;
        // The last 2000 ids are read again for a while, so what the clean-up takes lies further back.
        for n in 0..200 {
            scene.attempt(Utc::now() - TimeDelta::minutes(14 * 1440 - 60 - n * 80)).await;
        }
        let recent = |n: i64| Attempt {
            at: Utc::now() - TimeDelta::seconds(40 * 3600 - n * 70),
            model: MODELS[(n % 3) as usize],
            key: KEYS[(n % 3) as usize],
            status: ["200", "200", "200", "429", "500"][(n % 5) as usize],
            latency_ms: n,
        };
        scene.insert(&(0..2000).map(recent).collect::<Vec<_>>()).await;
        scene
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
                let days = self.rng.random_range(2..12);
                let midnight = Utc::now().with_timezone(&ZONE).date_naive() - chrono::Days::new(days);
                self.db.run(&format!("delete from t_request_log where request_time < '{midnight} 00:00:00'")).await;
                "the clean-up deletes old rows"
            }
            90..94 => {
                let yesterday = Utc::now().with_timezone(&ZONE).date_naive() - chrono::Days::new(1);
                self.db.run(&format!("update shadow set gone = 1 where request_time >= '{yesterday} 00:00:00'")).await;
                let truncate = if self.db.is_sqlite() { "delete from t_request_log" } else { "truncate t_request_log" };
                self.db.run(truncate).await;
                self.successes(Utc::now() - TimeDelta::seconds(2)).await;
                "the table is emptied, ids begin anew"
            }
            _ => "nothing happens",
        }
    }

    async fn delete_newest(&mut self, count: usize) {
        let newest = format!("select cast(id as char), id from t_request_log order by id desc limit {count}");
        for ids in self.db.table(&newest).await.values() {
            // Of rows that are the same in all columns, any may go.
            self.db
                .run(&format!(
                    "update shadow set gone = 1 where id = (select * from (select max(s.id) from shadow s join t_request_log r \
                     on s.request_time = r.request_time and s.api_key = r.api_key and s.latency_ms = r.latency_ms \
                     and coalesce(s.status_code, -1) = coalesce(r.status_code, -1) \
                     and coalesce(s.model_name, '') = coalesce(r.model_name, '') \
                     where r.id = {0} and s.gone = 0) it); delete from t_request_log where id = {0}",
                    ids[0]
                ))
                .await;
        }
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
        for (name, from, table) in [
            ("1m", naive(now - TimeDelta::minutes(1)), "t_request_log"),
            ("1h", ago(1), "t_request_log"),
            ("8h", ago(8), "t_request_log"),
            ("24h", ago(24), "t_request_log"),
            // What the clean-up took stays in the exporter's month.
            ("month", month, "(select * from shadow where gone = 0) kept"),
        ] {
            let sql =
                format!("select '{name}', {success}, {failure}, count(*) from {table} where request_time >= '{from}'");
            let mut counts = self.db.table(&sql).await.remove(name).unwrap();
            counts[2] -= counts[0] + counts[1];
            windows.insert(name.to_owned(), counts);
        }
        windows
    }

    async fn compare(&mut self, follower: &mut Follower, plan: &RelayPlan, directory: &Directory, what: &str) {
        // The clock runs: what it moves out of a window between two looks cannot be compared.
        let mut tries = 0..100;
        let view = loop {
            assert!(tries.next().is_some(), "the windows never stand still: {what}");
            let before = self.windows().await;
            settle(follower).await;
            let view = view(follower, plan, directory);
            if self.windows().await == before {
                let ours: BTreeMap<String, Vec<i64>> = view
                    .windows
                    .iter()
                    .map(|(name, counts)| (name.to_string(), counts.iter().map(|n| *n as i64).collect()))
                    .collect();
                assert_eq!(ours, before, "{} {what}", self.label);
                break view;
            }
        };
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
             when {} then 'timeout' else 'unknown' end",
            if self.db.is_sqlite() { "status_code = ''" } else { "false" }
        );
        let failed = "(status_code is null or not status_code between 200 and 299)";
        let classes = self.db.table(&format!("select {class}, count(*) from shadow where {failed} group by 1")).await;
        let ours: BTreeMap<String, Vec<i64>> =
            counters.failures.iter().map(|(_, class, n)| (class.to_string(), vec![*n as i64])).collect();
        assert_eq!(ours, classes, "{} classes {what}", self.label);

        for latency in &counters.latency {
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

async fn settle(follower: &mut Follower) {
    for _ in 0..3 {
        let mut rest = follower.refresh().await.unwrap();
        for turn in 0.. {
            if rest == Rest::Nothing {
                break;
            }
            assert!(turn < 100, "no end of {rest:?}");
            rest = match rest {
                Rest::NewRows => follower.refresh().await.unwrap(),
                _ => follower.read_history().await.unwrap(),
            };
        }
    }
}

fn view(follower: &mut Follower, plan: &RelayPlan, directory: &Directory) -> LedgerView {
    let with = Presentation { directory: Some(directory), live: None, boards: &plan.boards, series: &plan.series };
    follower.view(&with).unwrap()
}

async fn play(db: Db, url: &str, label: &'static str, seed: u64, steps: usize) {
    // Another seed plays another story: `DIFFERENTIAL_SEED=7 cargo test --test it gemini_balance`.
    let seed = seed + std::env::var("DIFFERENTIAL_SEED").map_or(0, |more| 1000 * more.parse::<u64>().unwrap());
    let plan = plan(url);
    let mut scene = Scene::set_up(db, label, seed).await;
    let open = || Follower::new(crate::claude_code_hub::ledger(&plan), &plan);
    let mut follower = open();
    let mut directory = relays::open(&plan).unwrap().directory;
    let mut saved: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    settle(&mut follower).await;
    for n in 0..steps {
        let mut what = scene.step().await.to_owned();
        if n % 17 == 16 {
            scene.forget().await;
            follower = open();
            saved.clear();
            what += ", and the exporter starts anew";
        } else if n % 5 == 4 {
            follower = open();
            follower.restore(&saved).unwrap();
            what += ", and the exporter goes on from its store";
        }
        let what = format!("seed {seed} step {n}: {what}");
        println!("{label} {what}");
        let directory = directory.read().await.unwrap();
        scene.compare(&mut follower, &plan, &directory, &what).await;
        let parts = follower.parts(saved.is_empty()).unwrap().unwrap();
        saved.retain(|key, _| parts.iter().any(|(part, _)| part == key));
        saved.extend(parts.into_iter().filter_map(|(key, bytes)| Some((key, bytes?))));
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_sqlite() {
    for seed in 1..4 {
        let folder = TempDir::new().unwrap();
        let (db, url) = Db::sqlite(&folder).await;
        play(db, &url, "sqlite", seed, 60).await;
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_mariadb() {
    let server = PrivateMariaDb::start().await.unwrap();
    for seed in 11..13 {
        let (db, url) = Db::mysql(&server, &format!("diff_{seed}")).await;
        play(db, &url, "mariadb", seed, 60).await;
    }
}
