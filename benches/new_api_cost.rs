//! What reading new-api's log costs its database on each engine, beside its own log page, which asks the same of it; and
//! for how long a SQLite file is locked.
//!
//! `cargo bench --bench new_api_cost` for 100 000 rows on all engines, `cargo bench --bench new_api_cost -- sqlite 10000000`
//! for more on one. Needs PostgreSQL and MariaDB.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
    pub mod new_api;
    pub mod table;
}
#[path = "../tests/it/new_api/database.rs"]
#[allow(dead_code)] // What the tests alone need.
mod database;
#[path = "../tests/it/db.rs"]
#[allow(dead_code)]
mod db;
#[path = "../tests/it/reading.rs"]
#[allow(dead_code)]
mod reading;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Timelike, Utc};
use common::cpu::cpu;
use common::new_api::fill;
use common::table;
use database::{Db, Place, Row, people};
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::Reason;
use llm_relay_exporter::relay::{self, RefreshRequest, Usage};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tokio::time::{sleep, timeout};

const WINDOWS: usize = 3;
const ROUNDS: usize = 200;
/// Refreshes for one new row. They follow each other without a pause, and each reads the last minute's ids again: that
/// makes about as many as at 100 000 a day.
const PER_ROW: usize = 10;
/// Until the rows of the first reading have settled.
const SETTLED: Duration = Duration::from_secs(65);
/// How long the locks on a SQLite file are watched while its history is read.
const WATCH: Duration = Duration::from_secs(60);

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
    let (mut costs, mut locks) = (Vec::new(), Vec::new());
    for rows in sizes {
        for engine in engines.into_iter().filter(|engine| all || is_named(engine)) {
            let measured = measure(engine, rows).await?;
            costs.push(measured.0);
            locks.extend(measured.1);
        }
    }
    let first = ["today and yesterday, all", "processor time of it: exporter, server; rows per second"];
    let each = ["a refresh", "its log page", "log page / refresh", "audit of a day"];
    table::print(&["rows", first[0], first[1], each[0], each[1], each[2], each[3]], &costs);
    table::print(&["rows", "times locked", "median", "99th", "longest"], &locks);
    Ok(())
}

/// A relay's database, and a plan to read it with.
struct Bench {
    place: Place,
    db: Db,
    plan: RelayPlan,
}

/// What reading it costs, and for how long a SQLite file is locked meanwhile.
async fn measure(engine: &str, rows: u64) -> anyhow::Result<([String; 7], Option<[String; 5]>)> {
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
    fill(&mut db, rows).await;
    let mut bench = Bench { place, db, plan };
    let name = format!("{engine}, {rows}");
    let (exporter, [times, cpu]) = bench.first_reading(rows).await?;
    let [refresh, screen, ratio] = bench.steady_state(exporter).await?;
    let audit = bench.audit().await?;
    let locks =
        bench.locks().await?.map(|[times, median, worst, longest]| [name.clone(), times, median, worst, longest]);
    Ok(([name, times, cpu, refresh, screen, ratio, audit], locks))
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
    async fn first_reading(&mut self, rows: u64) -> anyhow::Result<(Follower, [String; 2])> {
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
        let of_cpu = rows as f64 / (own + server).as_secs_f64();
        let times = format!("{:.1?}, {took:.1?}", today.unwrap_or(took));
        Ok((exporter, [times, format!("{own:.1?}, {server:.1?}; {of_cpu:.0}")]))
    }

    /// Refreshes and views of the log page in turns. What the relay's own inserts cost is taken off.
    async fn steady_state(&mut self, mut exporter: Follower) -> anyhow::Result<[String; 3]> {
        step(&mut exporter, Backlog::NewRows).await?;
        sleep(SETTLED).await;
        let mut windows = Vec::new();
        for _ in 0..WINDOWS {
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
            windows.push([refresh.0, refresh_cpu, screen.0, screen_cpu, screen_cpu / refresh_cpu]);
        }
        let median = |of: usize| {
            let mut figures: Vec<f64> = windows.iter().map(|window| window[of]).collect();
            figures.sort_unstable_by(f64::total_cmp);
            figures[WINDOWS / 2]
        };
        Ok([
            format!("{:.2} ms, CPU {:.2} ms", median(0), median(1)),
            format!("{:.1} ms, CPU {:.1} ms", median(2), median(3)),
            format!("{:.0}", median(4)),
        ])
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
    async fn audit(&mut self) -> anyhow::Result<String> {
        let Usage::Rows(mut ledger) = relay::open(&self.plan)?.usage else { anyhow::bail!("the relay keeps rows") };
        let end = Utc::now() - TimeDelta::hours(12);
        let span = end - TimeDelta::days(1)..end;
        let request = RefreshRequest { audit: vec![span], ..RefreshRequest::default() };
        let (before, began) = (self.cpu().await, Instant::now());
        ledger.refresh(&request).await?;
        let (took, cpu) = (began.elapsed(), self.cpu().await);
        let [own, server] = spent(&before, &cpu);
        Ok(format!("{took:.0?}, CPU {:.0?}", own + server))
    }

    /// For how long the relay could not have written while another exporter reads the log; `None` where it always can.
    async fn locks(&mut self) -> anyhow::Result<Option<[String; 4]>> {
        let Place::Sqlite(folder) = &self.place else { return Ok(None) };
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
        let (mut since, mut locked) = (None::<Instant>, Vec::new());
        let watching = async {
            loop {
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
        let at = |share: f64| {
            let index = (locked.len().saturating_sub(1) as f64 * share) as usize;
            format!("{:.1} ms", locked.get(index).unwrap_or(&f64::NAN))
        };
        Ok(Some([locked.len().to_string(), at(0.5), at(0.99), at(1.0)]))
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
