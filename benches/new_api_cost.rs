//! What reading new-api's log costs its database on each engine, beside its own log page, which asks the same of it; and
//! for how long a SQLite file is locked.
//!
//! `cargo bench --bench new_api_cost` for 100 000 rows on all engines, `cargo bench --bench new_api_cost -- sqlite 10000000`
//! for more on one. Needs PostgreSQL and MariaDB.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
}
#[path = "../tests/it/new_api/database.rs"]
#[allow(dead_code)] // What the tests alone need.
mod database;
#[path = "../tests/it/reading.rs"]
#[allow(dead_code)]
mod reading;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Timelike, Utc};
use common::cpu::cpu;
use database::{Db, Place, Row, people};
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relay::{self, RefreshRequest, Usage};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::time::{sleep, timeout};

const REQUESTS_PER_DAY: u64 = 100_000;
/// Rows of one statement that fills the log.
const CHUNK: u64 = 500_000;
const WINDOWS: usize = 3;
const ROUNDS: usize = 200;
/// Refreshes for one new row. They follow each other without a pause, and each reads the last minute's ids again: that
/// makes about as many as at [`REQUESTS_PER_DAY`].
const PER_ROW: usize = 10;
/// Until the rows of the first reading have settled.
const SETTLED: Duration = Duration::from_secs(65);
/// How long the locks on a SQLite file are watched while its history is read.
const WATCH: Duration = Duration::from_secs(60);

/// A row of 500 bytes, as the relay writes it, for each `n`.
const ROW: &str = r#"insert into logs (created_at, type, user_id, username, token_id, token_name, channel_id, model_name, quota,
    prompt_tokens, completion_tokens, use_time, is_stream, "group", request_id, content, other)
  select {now} - ({rows} - n) * 86400 / {per_day}, case when n % 50 = 0 then 5 else 2 end, 1 + n % 3, 'alice', 1 + n % 3,
    'two', 1 + n % 3, 'gpt-4o', n % 9000, 1000, 200, 4, true, 'default', 'invented',
    '模型倍率 1.25，补全倍率 4.00，分组倍率 1.00', '{"admin_info":{"use_channel":["1"]},"cache_ratio":0.5,"cache_tokens":600,"completion_ratio":4,"error_type":"openai_error","frt":105,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"status_code":500,"stream_status":{"end_reason":"done","status":"ok"},"user_group_ratio":-1}'
  from {series}"#;

/// What the relay asks when its log page is opened, which it also is after each search.
const SCREEN: [&str; 4] = [
    include_str!("screen/new_api/listed.sql"),
    include_str!("screen/new_api/page.sql"),
    include_str!("screen/new_api/quota.sql"),
    include_str!("screen/new_api/rates.sql"),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let mut sizes: Vec<u64> = arguments.iter().filter_map(|it| it.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(100_000);
    }
    let engines = ["sqlite", "postgres", "mariadb"];
    let is_named = |engine: &str| arguments.iter().any(|it| it == engine);
    let all = !engines.into_iter().any(is_named);
    for rows in sizes {
        for engine in engines.into_iter().filter(|engine| all || is_named(engine)) {
            measure(engine, rows).await?;
        }
    }
    Ok(())
}

/// A relay's database, and a plan to read it with.
struct Bench {
    place: Place,
    db: Db,
    plan: RelayPlan,
}

async fn measure(engine: &str, rows: u64) -> anyhow::Result<()> {
    let place = match engine {
        "postgres" => Place::postgres().await,
        "mariadb" => Place::mariadb().await,
        _ => Place::sqlite(),
    };
    let (mut db, url) = place.relay("relay").await;
    // A zone where it is a little after noon, so that half of the day's rows are there.
    let zone = format!("Etc/GMT{:+}", i64::from(Utc::now().hour()) - 12);
    let plan = RelayPlan {
        audit_interval: Duration::from_secs(86_400),
        timeout: Duration::from_secs(60),
        ..database::plan(&url, &zone)
    };
    people(&mut db).await;
    let began = Instant::now();
    fill(&mut db, rows).await;
    println!("\n== {engine}, {rows} rows, filled in {:.0?}", began.elapsed());
    let mut bench = Bench { place, db, plan };
    let exporter = bench.first_reading(rows).await?;
    bench.steady_state(exporter).await?;
    bench.audit().await?;
    if engine == "sqlite" {
        bench.locks().await?;
    }
    Ok(())
}

/// Rows evenly over the past, the last of them now.
async fn fill(db: &mut Db, rows: u64) {
    if matches!(db, Db::Sqlite(_)) {
        db.run("pragma synchronous = off").await;
    }
    let now = Utc::now().timestamp();
    for first in (1..=rows).step_by(CHUNK as usize) {
        let last = rows.min(first + CHUNK - 1);
        let series = match db {
            Db::Postgres(_) => format!("generate_series({first}::bigint, {last}) n"),
            Db::MySql(_) => format!("(select seq as n from seq_{first}_to_{last}) s"),
            Db::Sqlite(_) => {
                format!(
                    "(with recursive s(n) as (select {first} union all select n + 1 from s where n < {last}) select n from s)"
                )
            }
        };
        let row = ROW.replace("\"group\"", &db.quoted("group")).replace("{series}", &series);
        let numbers =
            [("{now}", now.to_string()), ("{rows}", rows.to_string()), ("{per_day}", REQUESTS_PER_DAY.to_string())];
        // Whole numbers, also in MySQL.
        let row = row.replace(
            " * 86400 / {per_day}",
            if matches!(db, Db::MySql(_)) { " * 86400 div {per_day}" } else { " * 86400 / {per_day}" },
        );
        db.run(&numbers.into_iter().fold(row, |row, (name, number)| row.replace(name, &number))).await;
    }
    if let Db::Postgres(_) = db {
        db.run("vacuum analyze logs").await;
    }
}

impl Bench {
    fn follower(&self) -> anyhow::Result<Follower> {
        let Usage::Rows(ledger) = relay::open(&self.plan)?.usage else { anyhow::bail!("the relay keeps rows") };
        Ok(Follower::new(ledger, &self.plan))
    }

    /// Of this process, which is the exporter, and those of the server, by id.
    async fn cpu(&mut self) -> BTreeMap<u32, Duration> {
        let mut pids = vec![std::process::id()];
        match (&mut self.db, &self.place) {
            (db @ Db::Postgres(_), _) => {
                let backends = "select pid::text from pg_stat_activity where backend_type = 'client backend'";
                pids.extend(db.table(backends).await.keys().map(|pid| pid.parse::<u32>().unwrap()));
            }
            (_, Place::MySql(server)) => {
                let pid = fs::read_to_string(server.directory().join("data/pid")).unwrap();
                pids.push(pid.trim().parse().unwrap());
            }
            _ => {}
        }
        pids.into_iter().map(|pid| (pid, cpu(pid))).collect()
    }

    /// The whole log, without a pause.
    async fn first_reading(&mut self, rows: u64) -> anyhow::Result<Follower> {
        let mut exporter = self.follower()?;
        let (before, began) = (self.cpu().await, Instant::now());
        let (mut today, mut rest) = (None, Backlog::NewRows);
        while rest != Backlog::Nothing {
            rest = step(&mut exporter, rest).await?;
            if matches!(rest, Backlog::History | Backlog::Nothing) {
                today.get_or_insert(began.elapsed());
            }
        }
        let (took, cpu) = (began.elapsed(), self.cpu().await);
        let [own, server] = spent(&before, &cpu);
        println!(
            "first reading: today and yesterday {:.1?}; complete {took:.1?}; CPU {own:.1?} and the server's {server:.1?}, \
             {:.0} rows/s of CPU",
            today.unwrap_or(took),
            rows as f64 / (own + server).as_secs_f64()
        );
        Ok(exporter)
    }

    /// Refreshes and views of the log page in turns. What the relay's own inserts cost is taken off.
    async fn steady_state(&mut self, mut exporter: Follower) -> anyhow::Result<()> {
        step(&mut exporter, Backlog::NewRows).await?;
        sleep(SETTLED).await;
        for window in 1..=WINDOWS {
            let mut figures = Vec::new();
            for what in ["inserts", "refresh", "screen"] {
                let before = self.cpu().await;
                let mut times = Vec::new();
                for round in 0..ROUNDS {
                    if round % PER_ROW == 0 {
                        self.db.run(&Row::default().insert()).await;
                    }
                    let began = Instant::now();
                    match what {
                        "refresh" => while step(&mut exporter, Backlog::NewRows).await? != Backlog::Nothing {},
                        "screen" => self.view().await?,
                        _ => {}
                    }
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
                times.sort_unstable_by(f64::total_cmp);
                let cpu: Duration = spent(&before, &self.cpu().await).into_iter().sum();
                figures.push((times[ROUNDS / 2], cpu.as_secs_f64() * 1e3 / ROUNDS as f64));
            }
            let [inserts, refresh, screen] = figures[..] else { unreachable!("three of them") };
            let [refresh_cpu, screen_cpu] = [refresh.1, screen.1].map(|cpu| cpu - inserts.1);
            println!(
                "window {window}: refresh {:.2} ms, CPU {refresh_cpu:.2} ms; log page {:.1} ms, CPU {screen_cpu:.1} ms; log \
                 page / refresh: CPU {:.0}",
                refresh.0,
                screen.0,
                screen_cpu / refresh_cpu
            );
        }
        Ok(())
    }

    /// The log page, as it is when it is opened: today, up to an hour from now.
    async fn view(&mut self) -> sqlx::Result<()> {
        let now = Utc::now();
        let zone = self.plan.timezone.unwrap();
        let midnight =
            (now - TimeDelta::seconds(now.with_timezone(&zone).num_seconds_from_midnight().into())).timestamp();
        for text in SCREEN {
            let times = [("{from}", midnight), ("{to}", now.timestamp() + 3600), ("{minute}", now.timestamp() - 60)];
            let text = times.into_iter().fold(text.to_owned(), |text, (name, at)| text.replace(name, &at.to_string()));
            fetch(&mut self.db, text).await?;
        }
        Ok(())
    }

    /// The sum of a whole day, as every ten minutes.
    async fn audit(&mut self) -> anyhow::Result<()> {
        let Usage::Rows(mut ledger) = relay::open(&self.plan)?.usage else { anyhow::bail!("the relay keeps rows") };
        let end = Utc::now() - TimeDelta::hours(12);
        let span = end - TimeDelta::days(1)..end;
        let request = RefreshRequest { audit: vec![span], ..RefreshRequest::default() };
        let (before, began) = (self.cpu().await, Instant::now());
        let sum = ledger.refresh(&request).await?.audit.remove(0).unwrap_or_default();
        let (took, cpu) = (began.elapsed(), self.cpu().await);
        let [own, server] = spent(&before, &cpu);
        println!(
            "audit of a day of {} requests: {took:.0?}; CPU {own:.0?} and the server's {server:.0?}",
            sum.requests
        );
        Ok(())
    }

    /// For how long the relay could not have written, at most, while another exporter reads the log.
    async fn locks(&mut self) -> anyhow::Result<()> {
        let Place::Sqlite(folder) = &self.place else { return Ok(()) };
        let options = SqliteConnectOptions::new().filename(folder.path().join("relay")).busy_timeout(Duration::ZERO);
        let mut relay = options.disable_statement_logging().connect().await?;
        let mut exporter = self.follower()?;
        let reading = async {
            let mut rest = Backlog::NewRows;
            while rest != Backlog::Nothing {
                rest = step(&mut exporter, rest).await?;
            }
            anyhow::Ok(())
        };
        let (mut since, mut locked, mut looks) = (None::<Instant>, Vec::new(), 0);
        let watching = async {
            loop {
                looks += 1;
                if relay.execute("begin exclusive").await.is_ok() {
                    relay.execute("rollback").await.unwrap();
                    locked.extend(since.take().map(|since| since.elapsed().as_secs_f64() * 1e3));
                } else {
                    since.get_or_insert_with(Instant::now);
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        // Both end with the first: the reading, or the time for it.
        timeout(WATCH, async {
            tokio::select! { read = reading => read, () = watching => Ok(()) }
        })
        .await
        .unwrap_or(Ok(()))?;
        locked.sort_unstable_by(f64::total_cmp);
        let at =
            |share: f64| locked.get((locked.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(0.0);
        println!(
            "the file was locked {} times, seen in {looks} looks: median {:.1} ms, 99th {:.1} ms, longest {:.1} ms",
            locked.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        Ok(())
    }
}

/// Of this process, and of the server's that are still there.
fn spent(before: &BTreeMap<u32, Duration>, after: &BTreeMap<u32, Duration>) -> [Duration; 2] {
    let more = |(pid, cpu): (&u32, &Duration)| cpu.saturating_sub(before.get(pid).copied().unwrap_or_default());
    let (own, server): (Vec<_>, Vec<_>) = after.iter().partition(|(pid, _)| **pid == std::process::id());
    [own, server].map(|part| part.into_iter().map(more).sum())
}

/// All rows of a statement, whatever they are.
async fn fetch(db: &mut Db, text: String) -> sqlx::Result<()> {
    let statement = sqlx::raw_sql(AssertSqlSafe(text));
    match db {
        Db::Postgres(connection) => statement.fetch_all(connection).await.map(drop),
        Db::MySql(connection) => statement.fetch_all(connection).await.map(drop),
        Db::Sqlite(connection) => statement.fetch_all(connection).await.map(drop),
    }
}

/// Reads on; again where the relay's lock was in the way.
async fn step(exporter: &mut Follower, rest: Backlog) -> anyhow::Result<Backlog> {
    let read = match rest {
        Backlog::NewRows => exporter.refresh().await,
        _ => exporter.read_history().await,
    };
    match read {
        Ok(rest) => Ok(rest),
        Err(error) if error.reason == Reason::Timeout => Ok(rest),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    }
}
