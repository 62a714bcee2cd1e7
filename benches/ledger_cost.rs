//! What reading a ledger costs the relay's database, beside the relay's own screen and Debian's sql_exporter, which ask
//! the same of it; how long starts and outages take; what the relay's own writes feel of it.
//!
//! `cargo bench --bench ledger_cost` for 100 000 rows, `cargo bench --bench ledger_cost -- 10000000` for more.
//! Needs PostgreSQL and `prometheus-sql-exporter`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod cpu;
    pub mod exporter;
    pub mod ledger;
    pub mod relay;
}

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::cpu::cpu;
use common::exporter::{Exporter, ask, free_port};
use common::ledger::{Ledger, Shape};
use common::relay::Relay;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;
use tokio::time::{interval, sleep, timeout};

const REQUESTS_PER_DAY: u64 = 100_000;
/// Of the relay whose inserts are timed: enough for a percentile.
const BUSY_RATE: f64 = 20.0;
const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);
const REFRESH: Duration = Duration::from_secs(5);

/// Reads history without a pause, to see how fast it can be read.
const AT_ONCE: &str = "[relays.main.history]\nbudget = \"1m\"\n";

/// A statement of the relay's screen, and what sql_exporter makes of its columns.
struct Question {
    name: &'static str,
    sql: &'static str,
    labels: &'static [&'static str],
    values: &'static [&'static str],
}

/// Overview with comparison, three boards, statistics: what the relay runs when its first screen is opened.
const SCREEN: [Question; 7] = [
    Question {
        name: "overview_today",
        sql: include_str!("screen/overview_today.sql"),
        labels: &[],
        values: &["requests", "cost_usd", "duration_ms", "errors"],
    },
    Question {
        name: "overview_yesterday",
        sql: include_str!("screen/overview_yesterday.sql"),
        labels: &[],
        values: &["requests", "cost_usd", "duration_ms"],
    },
    Question {
        name: "requests_last_minute",
        sql: include_str!("screen/requests_last_minute.sql"),
        labels: &[],
        values: &["requests"],
    },
    Question {
        name: "board_users",
        sql: include_str!("screen/board_users.sql"),
        labels: &["id", "name"],
        values: &["requests", "cost_usd", "tokens"],
    },
    Question {
        name: "board_providers",
        sql: include_str!("screen/board_providers.sql"),
        labels: &["id", "name"],
        values: &["requests", "cost_usd", "tokens", "success_rate", "ttft_ms", "tokens_per_second"],
    },
    Question {
        name: "board_models",
        sql: include_str!("screen/board_models.sql"),
        labels: &["model"],
        values: &["requests", "cost_usd", "tokens", "success_rate"],
    },
    Question {
        name: "statistics",
        sql: include_str!("screen/statistics.sql"),
        labels: &["id", "hour"],
        values: &["requests", "cost_usd"],
    },
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut sizes: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes.push(100_000);
    }
    for requests in sizes {
        measure(requests).await?;
    }
    Ok(())
}

async fn measure(requests: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    let ledger = Ledger::start(Shape {
        requests,
        requests_per_day: REQUESTS_PER_DAY,
        users: 200,
        providers: 30,
        models: 40,
        older: 0,
    })
    .await?;
    let size = "select pg_table_size('usage_ledger') >> 20, pg_indexes_size('usage_ledger') >> 20";
    let (heap, indexes): (i64, i64) = sqlx::query_as(size).fetch_one(&ledger.pool).await?;
    println!(
        "\n== {requests} rows, {REQUESTS_PER_DAY} requests a day; {heap} MiB and {indexes} MiB of indexes, filled in {:.0?}",
        began.elapsed()
    );
    let url = ledger.reader("exporter").await?;
    let place = TempDir::new()?;
    let store = format!("{AT_ONCE}[store]\nurl = \"sqlite:{}\"", place.path().join("store.db").display());

    let relay = Relay::start(&ledger.pool, REQUESTS_PER_DAY as f64 / 86_400.0);
    let mut exporter = Exporter::start(place.path(), &url, &store)?;
    let today = exporter.wait_for(&["\nllm_relay_day_requests{relay=\"main\",day=\"yesterday\"}"]).await?;
    let complete = exporter.wait_until_complete().await?;
    let (own, backends) = (exporter.cpu(), backends(&ledger).await?);
    println!(
        "first start, no store: today and yesterday {today:.2?}; complete {complete:.2?}, {}; CPU {own:.1?} and the \
         database's {backends:.1?}, {} of CPU; memory {:.0?} MiB now and at most",
        rate(requests, complete),
        rate(requests, own + backends),
        exporter.memory()
    );
    steady_state(&ledger, &exporter, place.path()).await?;
    relay.stop().await;
    exporter.stop()?;

    let mut restarts = Vec::new();
    for _ in 0..5 {
        restarts.push(restart(&ledger, &url, &store, place.path()).await?);
    }
    restarts.sort_unstable();
    let (usual, most) = (restarts[2], restarts[4]);
    println!("restart with the store: complete {:.0?}, CPU {:.0?}; at most {:.0?}", usual.0, usual.1, most.0);
    for missed in [REQUESTS_PER_DAY / 24, REQUESTS_PER_DAY] {
        ledger.fill(missed, 3600, 0).await?;
        let (complete, cpu) = restart(&ledger, &url, &store, place.path()).await?;
        let more = [complete.saturating_sub(usual.0), cpu.saturating_sub(usual.1)];
        println!(
            "an hour's outage, {missed} rows: complete {complete:.0?} after the start; beyond a restart {more:.0?}, {}, \
             {} of CPU",
            rate(missed, more[0]),
            rate(missed, more[1])
        );
    }
    insert_latency(&ledger, &url, place.path()).await
}

/// From the start to a complete page, and the CPU time of exporter and database for it.
async fn restart(ledger: &Ledger, url: &str, store: &str, place: &Path) -> anyhow::Result<(Duration, Duration)> {
    let mut exporter = Exporter::start(place, url, store)?;
    let complete = exporter.wait_until_complete().await?;
    let cpu = exporter.cpu() + backends(ledger).await?;
    exporter.stop()?;
    Ok((complete, cpu))
}

/// CPU time of the exporter's connections, so far.
async fn backends(ledger: &Ledger) -> anyhow::Result<Duration> {
    let pids: Vec<i32> = sqlx::query_scalar("select pid from pg_stat_activity where usename = 'exporter'")
        .fetch_all(&ledger.pool)
        .await?;
    Ok(pids.into_iter().map(|pid| cpu(pid.unsigned_abs())).sum())
}

fn rate(rows: u64, time: Duration) -> String {
    format!("{:.0} rows/s", rows as f64 / time.as_secs_f64())
}

/// Exporter, screen and sql_exporter side by side, each every five seconds.
async fn steady_state(ledger: &Ledger, exporter: &Exporter, place: &Path) -> anyhow::Result<()> {
    let screen = ledger.reader("screen").await?;
    let _peer = SqlExporter::start(place, &ledger.reader("sql_exporter").await?, &ledger.zone)?;
    exporter.keep_scraping(REFRESH);
    // Long enough that the rows of the first minutes have settled.
    sleep(WINDOW).await;
    for window in 1..=WINDOWS {
        ledger.run("select pg_stat_statements_reset()").await?;
        let cpu = exporter.cpu();
        let views = watch(&screen, &ledger.zone).await?;
        let cpu = (exporter.cpu() - cpu).as_secs_f64() / WINDOW.as_secs_f64();
        let ours = statements(ledger, "exporter").await?;
        let of_file = |sql: &'static str| {
            let name = first_line(sql);
            move |statement: &&Statement| statement.name == name
        };
        let audit = include_str!("../src/relays/claude_code_hub/audit.sql");
        let rest = [
            audit,
            include_str!("../src/relays/claude_code_hub/users.sql"),
            include_str!("../src/relays/claude_code_hub/keys.sql"),
            include_str!("../src/relays/claude_code_hub/providers.sql"),
            include_str!("../src/relays/claude_code_hub/prices.sql"),
        ];
        let refreshes = ours.iter().filter(of_file(include_str!("../src/relays/claude_code_hub/clock.sql")));
        let refreshes = Cost::of(refreshes).calls;
        let refresh = Cost::of(ours.iter().filter(|it| rest.iter().all(|sql| !of_file(sql)(it))));
        let audits = Cost::of(ours.iter().filter(of_file(audit)));
        let rows = Cost::of(ours.iter().filter(of_file(include_str!("../src/relays/claude_code_hub/rows.sql"))));
        let theirs = statements(ledger, "screen").await?;
        let screen = Cost::of(theirs.iter());
        let peers = statements(ledger, "sql_exporter").await?;
        let peer = Cost::of(peers.iter());
        let peer_rounds = peers.iter().filter(of_file(SCREEN[0].sql)).map(|it| it.cost.calls).sum::<f64>();
        println!("steady state, window {window} of {WINDOW:?}: CPU of the exporter {:.2} %", 100.0 * cpu);
        refresh.print("exporter, one refresh", refreshes, Some(rows.rows / refreshes));
        Cost::of(ours.iter()).print("  with directory and audits", refreshes, None);
        audits.print("  one audited day", audits.calls, None);
        screen.print("screen, one view", views, None);
        peer.print("sql_exporter, one round", peer_rounds, None);
        let ratio = (screen.milliseconds / views) / (refresh.milliseconds / refreshes);
        let blocks = (screen.blocks / views) / (refresh.blocks / refreshes);
        println!("  screen / refresh: time {ratio:.0}, blocks {blocks:.0}");
        if window == WINDOWS {
            for Statement { name, cost } in ours.iter().chain(&theirs) {
                cost.print(&format!("    {name:.60}"), cost.calls, None);
            }
        }
    }
    Ok(())
}

/// Opens the screen every five seconds for the length of a window; gives how often.
async fn watch(url: &str, zone: &str) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let mut beat = interval(REFRESH);
    let end = Instant::now() + WINDOW;
    let mut views = 0.0;
    while Instant::now() < end {
        beat.tick().await;
        for question in &SCREEN {
            let sql = AssertSqlSafe(question.sql.replace("{zone}", zone));
            sqlx::query(sql).fetch_all(&mut connection).await?;
        }
        views += 1.0;
    }
    connection.close().await?;
    Ok(views)
}

/// The relay's inserts before, during and after the first reading of the whole ledger, within the budget and without.
async fn insert_latency(ledger: &Ledger, url: &str, place: &Path) -> anyhow::Result<()> {
    let relay = Relay::start(&ledger.pool, BUSY_RATE);
    sleep(Duration::from_secs(30)).await;
    relay.inserts();
    println!("latency of the relay's inserts at {BUSY_RATE} requests a second");
    for (how, settings) in [("the default budget", ""), ("no pause", AT_ONCE)] {
        sleep(WINDOW).await;
        latencies("before", &relay.inserts());
        let mut exporter = Exporter::start(place, url, settings)?;
        // The default budget takes its time; two minutes show what it does to the relay.
        match timeout(2 * WINDOW, exporter.wait_until_complete()).await {
            Ok(took) => println!("  first reading with {how}, complete after {:.1?}", took?),
            Err(_) => {
                let page = exporter.page().unwrap_or_default();
                let loaded =
                    page.lines().find_map(|line| line.strip_prefix("llm_relay_history_loaded_ratio{relay=\"main\"} "));
                println!(
                    "  first reading with {how}, {} of the history after {:?}",
                    loaded.unwrap_or("none"),
                    2 * WINDOW
                );
            }
        }
        latencies("during", &relay.inserts());
        if how == "no pause" {
            exporter.wait_until_complete().await?;
            relay.inserts();
            sleep(WINDOW).await;
            latencies("following", &relay.inserts());
        }
        exporter.stop()?;
    }
    relay.stop().await;
    Ok(())
}

/// `inserts` are sorted.
fn latencies(when: &str, inserts: &[Duration]) {
    let at = |share: f64| {
        let index = (inserts.len().saturating_sub(1) as f64 * share) as usize;
        inserts.get(index).map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0)
    };
    let (p50, p95, p99, most, count) = (at(0.5), at(0.95), at(0.99), at(1.0), inserts.len());
    println!("  {when:9} p50 {p50:7.2} ms  p95 {p95:7.2} ms  p99 {p99:7.2} ms  max {most:7.2} ms  of {count}");
}

/// What the server notes about one statement of a role.
struct Statement {
    /// The first line, which is its file's.
    name: String,
    cost: Cost,
}

/// Of all calls: planning and execution, rows returned, blocks of 8 KiB looked at.
#[derive(Clone, Copy, Default)]
struct Cost {
    calls: f64,
    milliseconds: f64,
    rows: f64,
    blocks: f64,
}

impl Cost {
    fn of<'a>(statements: impl Iterator<Item = &'a Statement>) -> Self {
        statements.fold(Self::default(), |sum, Statement { cost, .. }| Self {
            calls: sum.calls + cost.calls,
            milliseconds: sum.milliseconds + cost.milliseconds,
            rows: sum.rows + cost.rows,
            blocks: sum.blocks + cost.blocks,
        })
    }

    fn print(&self, what: &str, times: f64, rows: Option<f64>) {
        let Self { milliseconds, blocks, .. } = self;
        let rows = rows.unwrap_or(self.rows / times);
        println!(
            "  {what:66} {:9.3} ms {rows:9.1} rows {:9.1} blocks, {times} times",
            milliseconds / times,
            blocks / times
        );
    }
}

async fn statements(ledger: &Ledger, role: &str) -> anyhow::Result<Vec<Statement>> {
    let rows = sqlx::query(
        "select query, calls::float8, total_plan_time + total_exec_time, rows::float8,
           (shared_blks_hit + shared_blks_read)::float8
         from pg_stat_statements where userid = $1::regrole order by 3 desc",
    )
    .bind(role)
    .fetch_all(&ledger.pool)
    .await?;
    let statement = |row: &sqlx::postgres::PgRow| {
        let (calls, milliseconds) = (row.try_get(1)?, row.try_get(2)?);
        let cost = Cost { calls, milliseconds, rows: row.try_get(3)?, blocks: row.try_get(4)? };
        Ok(Statement { name: first_line(row.try_get(0)?), cost })
    };
    rows.iter().map(statement).collect()
}

fn first_line(sql: &str) -> String {
    sql.trim_start().lines().next().unwrap_or_default().to_owned()
}

/// Debian's sql_exporter with the screen's statements.
struct SqlExporter(Child);

impl SqlExporter {
    fn start(place: &Path, url: &str, zone: &str) -> anyhow::Result<Self> {
        let mut text =
            format!("jobs:\n- name: screen\n  interval: '{REFRESH:?}'\n  connections: ['{url}']\n  queries:\n");
        for Question { name, sql, labels, values } in &SCREEN {
            write!(text, "  - {{name: {name}, help: {name}, labels: {labels:?}, values: {values:?}, query: ")?;
            writeln!(text, "{:?}}}", sql.replace("{zone}", zone))?;
        }
        let file = place.join("sql_exporter.yml");
        fs::write(&file, text)?;
        let port = free_port()?;
        let process = Command::new("prometheus-sql-exporter")
            .arg(format!("-config.file={}", file.display()))
            .arg(format!("-web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(place.join("sql_exporter.log"))?)
            .spawn()?;
        let peer = Self(process);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ask(port, "").is_ok_and(|page| String::from_utf8_lossy(&page).contains("sql_statistics{")) {
            anyhow::ensure!(Instant::now() < deadline, "sql_exporter shows no numbers");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(peer)
    }
}

impl Drop for SqlExporter {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
