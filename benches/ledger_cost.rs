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
    pub mod table;
}

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::cpu::cpu;
use common::exporter::{Exporter, ask, free_port};
use common::ledger::{Ledger, Shape};
use common::relay::Relay;
use common::table;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;
use tokio::time::{interval, sleep, timeout};

const KIND: &str = "claude-code-hub";
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
    let (mut steady, mut starts, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    for requests in sizes {
        let measured = measure(requests).await?;
        steady.push(measured.0);
        starts.push(measured.1);
        inserts.extend(measured.2);
    }
    let costs = ["refresh: ms, rows, blocks", "screen: ms, rows, blocks", "sql_exporter: ms, blocks"];
    table::print(&["rows", costs[0], costs[1], costs[2], "screen / refresh: time, blocks"], &steady);
    let complete = ["today and yesterday complete", "whole history complete", "rows per second of that CPU"];
    let cpu = "CPU of exporter and database";
    let outages =
        ["an hour's outage, 4 166 rows", "an hour's outage, 100 000 rows, and rows per second beyond a restart"];
    table::print(
        &[
            "rows",
            complete[0],
            complete[1],
            cpu,
            complete[2],
            "resident then, at most",
            "restart with the store",
            outages[0],
            outages[1],
        ],
        &starts,
    );
    table::print(&["rows", "the relay's inserts", "p50", "p95", "p99", "most"], &inserts);
    Ok(())
}

/// Rows of the three tables.
async fn measure(requests: u64) -> anyhow::Result<([String; 5], [String; 9], Vec<[String; 6]>)> {
    let ledger = Ledger::start(Shape {
        requests,
        requests_per_day: REQUESTS_PER_DAY,
        users: 200,
        providers: 30,
        models: 40,
        older: 0,
    })
    .await?;
    let url = ledger.reader("exporter").await?;
    let place = TempDir::new()?;
    let store = format!("{AT_ONCE}[store]\nurl = \"sqlite:{}\"", place.path().join("store.db").display());

    let relay = Relay::start(&ledger.pool, REQUESTS_PER_DAY as f64 / 86_400.0);
    let mut exporter = Exporter::start(place.path(), KIND, &url, &store)?;
    let today = exporter.wait_for(&["\nllm_relay_day_requests{relay=\"main\",day=\"yesterday\"}"]).await?;
    let complete = exporter.wait_until_complete().await?;
    let (own, backends) = (exporter.cpu(), backends(&ledger).await?);
    let memory = exporter.memory();
    let steady = steady_state(&ledger, &exporter, place.path()).await?;
    relay.stop().await;
    exporter.stop()?;

    let mut restarts = Vec::new();
    for _ in 0..5 {
        restarts.push(restart(&ledger, &url, &store, place.path()).await?);
    }
    restarts.sort_unstable();
    let usual = restarts[2];
    let mut outages = Vec::new();
    for missed in [REQUESTS_PER_DAY / 24, REQUESTS_PER_DAY] {
        ledger.fill(missed, 3600, 0).await?;
        let (complete, cpu) = restart(&ledger, &url, &store, place.path()).await?;
        let more = [complete.saturating_sub(usual.0), cpu.saturating_sub(usual.1)];
        outages.push(format!("{complete:.2?}; {}, of CPU {}", rate(missed, more[0]), rate(missed, more[1])));
    }
    let start = [
        requests.to_string(),
        format!("{today:.1?}"),
        format!("{complete:.1?}"),
        format!("{own:.1?}, {backends:.1?}"),
        rate(requests, own + backends),
        format!("{:.0}, {:.0} MiB", memory[0], memory[1]),
        format!("{:.2?}, at most {:.2?}", usual.0, restarts[4].0),
        outages.remove(0),
        outages.remove(0),
    ];
    let inserts = insert_latency(&ledger, &url, place.path()).await?;
    let inserts =
        inserts.into_iter().map(|[when, p50, p95, p99, most]| [requests.to_string(), when, p50, p95, p99, most]);
    let [costs @ .., ratio] = steady;
    let [refresh, screen, peer] = costs;
    Ok(([requests.to_string(), refresh, screen, peer, ratio], start, inserts.collect()))
}

/// From the start to a complete page, and the CPU time of exporter and database for it.
async fn restart(ledger: &Ledger, url: &str, store: &str, place: &Path) -> anyhow::Result<(Duration, Duration)> {
    let mut exporter = Exporter::start(place, KIND, url, store)?;
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
    format!("{:.0}", rows as f64 / time.as_secs_f64())
}

/// Exporter, screen and sql_exporter side by side, each every five seconds: what each costs, and how much more the screen
/// does than the exporter.
async fn steady_state(ledger: &Ledger, exporter: &Exporter, place: &Path) -> anyhow::Result<[String; 4]> {
    let screen = ledger.reader("screen").await?;
    let _peer = SqlExporter::start(place, &ledger.reader("sql_exporter").await?, &ledger.zone)?;
    exporter.keep_scraping(REFRESH);
    // Long enough that the rows of the first minutes have settled.
    sleep(WINDOW).await;
    let mut figures = Vec::new();
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
        Cost::of(ours.iter()).print("exporter, with directory and audits", refreshes);
        audits.print("  one audited day", audits.calls);
        let [refresh, screen, peer] = [(refresh, refreshes), (screen, views), (peer, peer_rounds)]
            .map(|(cost, times)| [cost.milliseconds, cost.rows, cost.blocks].map(|sum| sum / times));
        let rows = rows.rows / refreshes;
        let ratios = [0, 2].map(|of| screen[of] / refresh[of]);
        figures.push([
            refresh[0], rows, refresh[2], screen[0], screen[1], screen[2], peer[0], peer[2], ratios[0], ratios[1],
        ]);
        if window == WINDOWS {
            for Statement { name, cost } in ours.iter().chain(&theirs) {
                cost.print(&format!("    {name:.60}"), cost.calls);
            }
        }
    }
    let median = |of: usize| {
        let mut windows: Vec<f64> = figures.iter().map(|window| window[of]).collect();
        windows.sort_unstable_by(f64::total_cmp);
        windows[WINDOWS / 2]
    };
    Ok([
        format!("{:.2}, {:.0}, {:.0}", median(0), median(1), median(2)),
        format!("{:.0}, {:.0}, {:.0}", median(3), median(4), median(5)),
        format!("{:.0}, {:.0}", median(6), median(7)),
        format!("{:.0}, {:.0}", median(8), median(9)),
    ])
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
async fn insert_latency(ledger: &Ledger, url: &str, place: &Path) -> anyhow::Result<Vec<[String; 5]>> {
    let relay = Relay::start(&ledger.pool, BUSY_RATE);
    sleep(Duration::from_secs(30)).await;
    relay.inserts();
    let mut figures = Vec::new();
    for (how, settings) in [("the default budget", ""), ("no pause", AT_ONCE)] {
        sleep(WINDOW).await;
        figures.push(latencies("before".to_owned(), &relay.inserts()));
        let mut exporter = Exporter::start(place, KIND, url, settings)?;
        // The default budget takes its time; two minutes show what it does to the relay.
        let read = match timeout(2 * WINDOW, exporter.wait_until_complete()).await {
            Ok(took) => format!("complete after {:.0?}", took?),
            Err(_) => format!("{} of it after {:.0?}", exporter.history_loaded(), 2 * WINDOW),
        };
        figures.push(latencies(format!("during the first reading, {how} ({read})"), &relay.inserts()));
        if how == "no pause" {
            exporter.wait_until_complete().await?;
            relay.inserts();
            sleep(WINDOW).await;
            figures.push(latencies("following".to_owned(), &relay.inserts()));
        }
        exporter.stop()?;
    }
    relay.stop().await;
    Ok(figures)
}

/// `inserts` are sorted.
fn latencies(when: String, inserts: &[Duration]) -> [String; 5] {
    let at = |share: f64| {
        let index = (inserts.len().saturating_sub(1) as f64 * share) as usize;
        format!("{:.2} ms", inserts.get(index).map_or(f64::NAN, |it| it.as_secs_f64() * 1000.0))
    };
    [when, at(0.5), at(0.95), at(0.99), at(1.0)]
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

    fn print(&self, what: &str, times: f64) {
        let [milliseconds, rows, blocks] = [self.milliseconds, self.rows, self.blocks].map(|sum| sum / times);
        println!("  {what:66} {milliseconds:9.3} ms {rows:9.1} rows {blocks:9.1} blocks, {times} times");
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
            .spawn()
            .context("prometheus-sql-exporter, of Debian's package of that name")?;
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
