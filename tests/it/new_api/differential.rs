//! The exporter's numbers against plain SQL over the same database at the same moment.
//!
//! What screens show is held against the relay's own statements over `logs`, counters against a second table that has
//! what each row means, written by whoever made it up, and keeps what the first one loses. The SQL shares nothing with the
//! reader's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{Db, Place, Row, TestClock, follower, open, people, plan};
use super::screens::compare_screens;
use crate::reading::{self, Saved, settle, view_beside};
use crate::sums::{counter_sums, like};

const MODELS: [&str; 3] = ["gpt-4o", "claude-sonnet-4", "gemini-2.5-pro"];
const MEANING: &str = "create table meaning (log bigint, provider bigint, client bigint, token bigint, quota bigint,
    refunded bigint, outcome varchar(16), class varchar(16), input bigint, output bigint, cache_read bigint,
    cache_write_5m bigint, cache_write_1h bigint, cache_write bigint, ms bigint)";

/// What a row means.
#[derive(Clone, Debug, Default)]
struct Meaning {
    outcome: &'static str,
    class: &'static str,
    refunded: i64,
    /// Input, output, cache read, written for 5 minutes, for an hour, for an unknown time.
    tokens: [i64; 6],
    /// `None` where nothing was measured.
    ms: Option<i64>,
}

struct Scene {
    db: Db,
    url: String,
    zone: Tz,
    rng: StdRng,
    /// Stands still for a SQLite file; a server has its own.
    clock: TestClock,
}

impl Scene {
    async fn new(place: &Place, name: &str, zone: &str, now: DateTime<Utc>, seed: u64) -> Self {
        let (mut db, url) = place.relay(name).await;
        db.run(MEANING).await;
        people(&mut db).await;
        let (zone, rng) = (zone.parse().unwrap(), StdRng::seed_from_u64(seed));
        let mut scene = Self { db, url, zone, rng, clock: Arc::new(Mutex::new(now)) };
        // One success of each model: from then on its rows count under its name.
        for model in MODELS {
            let created_at = (now - TimeDelta::days(12)).timestamp();
            let meaning = Meaning { ms: Some(3000), ..plain(100, 50) };
            scene.insert(Row { created_at, model, ..Row::default() }, meaning).await;
        }
        for n in 0..120 {
            let created_at = (now - TimeDelta::minutes(12 * 1440 - n * 140)).timestamp();
            let (row, meaning) = scene.row();
            scene.insert(Row { created_at, ..row }, meaning).await;
        }
        scene.around_midnights().await;
        scene
    }

    fn now(&self) -> DateTime<Utc> {
        match self.db {
            Db::Sqlite(_) => *self.clock.lock().unwrap(),
            Db::Postgres(_) | Db::MySql(_) => Utc::now(),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    /// The last and the first second of the last days, and those beside them.
    async fn around_midnights(&mut self) {
        let today = self.now().with_timezone(&self.zone).date_naive();
        for date in [today - TimeDelta::days(1), today] {
            for second in [-2, -1, 0, 1] {
                let created_at = self.start(date) + second;
                let (row, meaning) = self.row();
                self.insert(Row { created_at, ..row }, meaning).await;
            }
        }
    }

    /// Any row that the relay writes, and what it means (`new-api` 2026-08; older releases where `other` says less).
    fn row(&mut self) -> (Row, Meaning) {
        let row = Row {
            user: self.rng.random_range(1..4),
            token: self.pick(&[0, 1, 2, 3]),
            channel: self.rng.random_range(1..4),
            model: self.pick(&MODELS),
            quota: self.pick(&[0, 1, 1875, 45_000, 2_147_483_647]),
            use_time: self.pick(&[0, 1, 7, 900]),
            stream: self.rng.random_bool(0.5),
            ..Row::default()
        };
        match self.rng.random_range(0..100) {
            0..14 => self.failed_attempt(&row),
            14..20 => {
                let refunded = row.quota;
                (
                    Row { kind: 6, other: r#"{"task_id":"x","reason":"y"}"#.into(), ..row },
                    Meaning { refunded, ..Meaning::default() },
                )
            }
            20..30 => (Row { kind: self.pick(&[0, 1, 3, 4, 7, 8, 9]), ..row }, Meaning::default()),
            30..34 => {
                // A check-in, as a fork writes them.
                (Row { kind: 5, other: self.pick(&["", r#"{"checkin":true}"#]).into(), ..row }, Meaning::default())
            }
            _ => self.request(row),
        }
    }

    fn failed_attempt(&mut self, row: &Row) -> (Row, Meaning) {
        let (status, outcome, class) = self.pick(&[
            ("429", "failure", "rate_limited"),
            ("500", "failure", "server"),
            ("503", "failure", "overloaded"),
            ("401", "failure", "auth"),
            ("400", "excluded", "caller"),
            ("422", "excluded", "caller"),
            ("null", "failure", "unknown"),
            ("0", "failure", "unknown"),
        ]);
        let other =
            format!(r#"{{"admin_info":{{"use_channel":["1"]}},"error_type":"openai_error","status_code":{status}}}"#);
        let meaning = Meaning { outcome, class, ..Meaning::default() };
        (Row { kind: 5, quota: 0, prompt: 0, completion: 0, other, ..row.clone() }, meaning)
    }

    fn request(&mut self, row: Row) -> (Row, Meaning) {
        let ms = Some(row.use_time * 1000);
        let (prompt, read, out) =
            (self.pick(&[0, 9, 1000, 200_000]), self.pick(&[0, 600, 2000]), self.pick(&[0, 3, 200]));
        let row = Row { prompt, completion: out, ..row };
        let (end, outcome, class) = self.pick(&[
            (r#"{"status":"ok","end_reason":"done"}"#, "success", ""),
            (r#"{"status":"error","end_reason":"client_gone"}"#, "excluded", "client_abort"),
            (r#"{"status":"error","end_reason":"timeout"}"#, "failure", "timeout"),
            (r#"{"status":"error","end_reason":"scanner_error"}"#, "failure", "server"),
        ]);
        let ended = Meaning { outcome, class, ms, ..Meaning::default() };
        match self.rng.random_range(0..8) {
            // Nothing is said, or nothing that can be understood.
            0 => {
                let other =
                    self.pick(&["", "null", "[]", "{", "7", r#"{"cache_tokens":"600","claude":"yes","frt":-1000}"#]);
                (Row { other: other.into(), ..row }, Meaning { ms, ..plain(prompt, out) })
            }
            // As OpenAI counts: the cache is inside.
            1..4 => {
                let other = format!(
                    r#"{{"cache_tokens":{read},"cache_ratio":0.5,"model_ratio":1.25,"group_ratio":1,"stream_status":{end}}}"#
                );
                let tokens = [(prompt - read).max(0), out, read, 0, 0, 0];
                (Row { other, ..row }, Meaning { tokens, ..ended })
            }
            // As Anthropic counts: it is not; told by either word.
            4 => {
                let told = self.pick(&[r#""claude":true"#, r#""claude":true,"usage_semantic":"anthropic""#]);
                let other = format!(
                    r#"{{{told},"cache_tokens":{read},"cache_creation_tokens":310,"cache_creation_tokens_5m":200,"cache_creation_tokens_1h":100,"stream_status":{end}}}"#
                );
                (Row { other, ..row }, Meaning { tokens: [prompt, out, read, 200, 100, 10], ..ended })
            }
            // Claude through a channel that counts as OpenAI does.
            5 => {
                let other = format!(
                    r#"{{"claude":true,"usage_semantic":"openai","cache_tokens":{read},"cache_creation_tokens":40}}"#
                );
                let tokens = [(prompt - read - 40).max(0), out, read, 0, 0, 40];
                (Row { other, ..row }, Meaning { tokens, ms, ..plain(0, 0) })
            }
            // A job: its end is not known.
            6 => {
                let row =
                    Row { prompt: 0, completion: 0, other: r#"{"is_task":true,"model_price":0.1}"#.into(), ..row };
                (row, plain(0, 0))
            }
            _ => (row, Meaning { ms, ..plain(prompt, out) }),
        }
    }

    async fn insert(&mut self, row: Row, meaning: Meaning) {
        self.db.run(&row.insert()).await;
        self.note(&row, &meaning).await;
    }

    /// Notes what a row means, unless it is none of the ledger.
    async fn note(&mut self, row: &Row, meaning: &Meaning) {
        let is_row = !meaning.outcome.is_empty() || meaning.refunded > 0;
        if !is_row {
            return;
        }
        let [input, output, read, five, hour, write] = meaning.tokens;
        let quota = if row.kind == 2 { row.quota } else { 0 };
        self.db
            .run(&format!(
                "insert into meaning values (0, {}, {}, {}, {quota}, {}, '{}', '{}', {input}, {output}, {read}, {five}, {hour}, {write}, {})",
                row.channel,
                row.user,
                row.token,
                meaning.refunded,
                meaning.outcome,
                meaning.class,
                meaning.ms.map_or("null".to_owned(), |ms| ms.to_string())
            ))
            .await;
    }

    /// Something happens; says what.
    async fn step(&mut self, follower: &mut Follower) -> &'static str {
        match self.rng.random_range(0..100) {
            0..50 => {
                for _ in 0..self.rng.random_range(1..6) {
                    let ago = self.pick(&[0, 1, 20, 40, 75, 3000, 4000]);
                    let created_at = self.now().timestamp() - ago;
                    let (row, meaning) = self.row();
                    self.insert(Row { created_at, ..row }, meaning).await;
                }
                "requests end"
            }
            50..62 => {
                let kept = self.pick(&[50, 100, 200, 280]);
                let since = (self.now() - TimeDelta::hours(kept)).timestamp();
                self.db.run(&format!("delete from logs where created_at < {since}")).await;
                "an admin cleans the log up"
            }
            62..74 if !matches!(self.db, Db::Sqlite(_)) => {
                self.late_row(follower).await;
                "a row becomes visible after one with a greater id"
            }
            62..74 => {
                let lost = self.rng.random_range(1..4);
                self.db
                    .run(&format!("delete from logs where id in (select id from logs order by id desc limit {lost})"))
                    .await;
                for _ in 0..self.rng.random_range(0..6) {
                    let created_at = self.now().timestamp();
                    let (row, meaning) = self.row();
                    self.insert(Row { created_at, ..row }, meaning).await;
                }
                "the newest rows are deleted, and others get their ids"
            }
            _ => {
                let ahead = self.pick(&[1, 7, 61, 3600, 40_000, 90_000]);
                let now = self.now() + TimeDelta::seconds(ahead) + TimeDelta::milliseconds(137);
                *self.clock.lock().unwrap() = now;
                "time passes"
            }
        }
    }

    /// A transaction that is committed after a greater id has been read.
    async fn late_row(&mut self, follower: &mut Follower) {
        let mut other = Db::connect(&self.url).await;
        let created_at = self.now().timestamp();
        let (late, late_meaning) = self.row();
        let late = Row { created_at, ..late };
        other.run(&format!("begin; {}", late.insert())).await;
        let (row, meaning) = self.row();
        self.insert(Row { created_at, ..row }, meaning).await;
        settle(follower).await;
        other.run("commit").await;
        self.note(&late, &late_meaning).await;
    }

    fn start(&self, date: NaiveDate) -> i64 {
        self.zone.from_local_datetime(&date.into()).earliest().unwrap().timestamp()
    }

    /// Requests, quota, tokens and seconds of a span, as `/api/log/stat` adds them up.
    async fn stat(&mut self, from: i64, to: i64) -> Vec<i64> {
        let timed = "use_time is not null and other not like '%is_task%'";
        let columns = [
            "count(*)".to_owned(),
            self.db.sum("quota"),
            self.db.sum("prompt_tokens + completion_tokens"),
            self.db.sum(&format!("case when {timed} then use_time else 0 end")),
            self.db.sum(&format!("case when {timed} then 1 else 0 end")),
        ];
        let rest = format!("logs where type = 2 and created_at >= {from} and created_at < {to}");
        self.db.numbers(&columns.join(", "), &rest).await
    }

    async fn screens(&mut self) -> BTreeMap<String, Vec<i64>> {
        let now = self.now();
        let local = now.with_timezone(&self.zone);
        let (second, today) = (now.timestamp(), local.date_naive());
        let yesterday = today.pred_opt().unwrap();
        let same_time = self.zone.from_local_datetime(&(local.naive_local() - TimeDelta::days(1))).earliest().unwrap();
        let (month, ever) = (self.start(today.with_day(1).unwrap()), i64::MAX);
        let mut screens = BTreeMap::new();
        for (span, from, to) in [
            ("today", self.start(today), self.start(today.succ_opt().unwrap())),
            ("yesterday", self.start(yesterday), self.start(today)),
            ("yesterday_same_time", self.start(yesterday), same_time.timestamp()),
            ("1m", second - 60, ever),
            ("1h", second - 3600, ever),
            ("8h", second - 8 * 3600, ever),
            ("24h", second - 24 * 3600, ever),
            ("month", month, ever),
        ] {
            screens.insert(span.to_owned(), self.stat(from, to).await);
        }
        for (scope, column) in [("user", "user_id"), ("key", "token_id"), ("provider", "channel_id")] {
            let from = second - 24 * 3600;
            let (quota, tokens) = (self.db.sum("quota"), self.db.sum("prompt_tokens + completion_tokens"));
            let name = format!("concat('{scope} ', cast({column} as char(9)))");
            let sql = format!(
                "select {name}, count(*), {quota}, {tokens} from logs where type = 2 and created_at >= {from} and {column} > 0 group by 1"
            );
            let board = self.db.table(&sql).await;
            screens.extend(board.into_iter().map(|(name, numbers)| (name.trim_end().to_owned(), numbers)));
        }
        screens
    }

    async fn compare(&mut self, follower: &mut Follower, plan: &RelayPlan, directory: &Directory, what: &str) {
        let (view, screens) = view_beside(follower, plan, directory, async || self.screens().await).await;
        compare_screens(&view, &screens, what);
        self.compare_counters(&view, what).await;
        let audit = view.audit.unwrap();
        assert_eq!((audit.drift_requests, audit.drift_cost_usd), (0.0, Some(0.0)), "{what}");
    }

    async fn compare_counters(&mut self, view: &LedgerView, what: &str) {
        let mut theirs: BTreeMap<String, i64> = BTreeMap::new();
        let is_request = "outcome <> ''";
        let sums = [
            ("requests provider {}", "concat(cast(provider as char(9)), concat(' ', outcome))", "1", is_request),
            ("cost provider {}", "cast(provider as char(9))", "quota", is_request),
            ("tokens provider {} input", "cast(provider as char(9))", "input", is_request),
            ("tokens provider {} output", "cast(provider as char(9))", "output", is_request),
            ("tokens provider {} cache_read", "cast(provider as char(9))", "cache_read", is_request),
            ("tokens provider {} cache_write_5m", "cast(provider as char(9))", "cache_write_5m", is_request),
            ("tokens provider {} cache_write_1h", "cast(provider as char(9))", "cache_write_1h", is_request),
            ("tokens provider {} cache_write", "cast(provider as char(9))", "cache_write", is_request),
            ("duration count provider {}", "cast(provider as char(9))", "1", "ms is not null"),
            ("duration ms provider {}", "cast(provider as char(9))", "ms", "ms is not null"),
            ("failures provider {}", "concat(cast(provider as char(9)), concat(' ', class))", "1", "class <> ''"),
            ("refunded provider {}", "cast(provider as char(9))", "refunded", "refunded > 0"),
            ("requests user {}", "cast(client as char(9))", "1", is_request),
            ("cost user {}", "cast(client as char(9))", "quota", is_request),
            ("requests key {}", "cast(token as char(9))", "1", is_request),
            ("cost key {}", "cast(token as char(9))", "quota", is_request),
        ];
        for (name, by, of, rest) in sums {
            let sql = format!("select {by}, {} from meaning where {rest} group by 1", self.db.sum(of));
            for (label, value) in self.db.table(&sql).await {
                let label = label.split_whitespace().collect::<Vec<_>>().join(" ");
                let label = if name.ends_with("key {}") && label == "0" { "other" } else { label.as_str() };
                *theirs.entry(name.replace("{}", label)).or_default() += value[0];
            }
        }
        theirs.retain(|_, value| *value != 0);
        let ours = like(counter_sums(view.counters.as_ref().unwrap(), 500_000.0), sums.map(|it| it.0));
        assert_eq!(ours, theirs, "{what}");
    }

    /// The exporter knows nothing but the table from here on.
    async fn forget(&mut self) {
        self.db.run("delete from meaning").await;
        self.db.run("delete from logs").await;
        for model in MODELS {
            let created_at = self.now().timestamp() - 5;
            self.insert(Row { created_at, model, ..Row::default() }, Meaning { ms: Some(3000), ..plain(100, 50) })
                .await;
        }
    }
}

fn plain(input: i64, output: i64) -> Meaning {
    Meaning { outcome: "success", tokens: [input, output, 0, 0, 0, 0], ms: None, ..Meaning::default() }
}

async fn play(place: &Place, name: &str, zone: &str, now: DateTime<Utc>, seed: u64, steps: usize) {
    let seed = reading::seed(seed);
    let mut scene = Scene::new(place, name, zone, now, seed).await;
    let plan = plan(&scene.url, zone);
    let mut exporter = follower(&plan, &scene.clock);
    let mut directory = open(&plan, &scene.clock).directory;
    let mut saved = Saved::default();
    settle(&mut exporter).await;
    for n in 0..steps {
        let mut what = scene.step(&mut exporter).await.to_owned();
        if n % 23 == 22 {
            scene.forget().await;
            exporter = follower(&plan, &scene.clock);
            saved = Saved::default();
            what += ", and both start anew";
        } else if n % 5 == 4 {
            exporter = saved.restored(follower(&plan, &scene.clock));
            what += ", and the exporter goes on from its store";
        }
        let what = format!("{name}, seed {seed}, step {n}: {what}");
        println!("{what}");
        let directory = directory.read().await.unwrap();
        scene.compare(&mut exporter, &plan, &directory, &what).await;
        saved.save(&mut exporter);
    }
}

/// Half an hour before midnight, in three zones, one of half an hour.
#[tokio::test]
async fn every_number_equals_plain_sql_on_sqlite() {
    for (zone, now, seed) in [
        ("Asia/Shanghai", "2026-11-21T15:30:00Z", 1),
        ("Asia/Kolkata", "2026-11-30T18:00:00Z", 2),
        // Clocks go back in the night after.
        ("America/New_York", "2026-11-01T03:30:00Z", 3),
    ] {
        play(&Place::sqlite(), "sqlite.db", zone, now.parse().unwrap(), seed, 45).await;
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_postgresql() {
    play(&Place::postgres().await, "differential", "Asia/Shanghai", Utc::now(), 11, 40).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_on_mariadb() {
    play(&Place::mariadb().await, "differential", "America/New_York", Utc::now(), 21, 40).await;
}
