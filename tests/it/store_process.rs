//! An exporter in a process of its own, to be killed, and what it says.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use llm_relay_exporter::metrics::{CATALOGUE, MetricType};
use llm_relay_exporter::serve;
use llm_relay_exporter::settings::{Plan, StorePlan};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::claude_code_hub::plan;
use crate::client;

const DATABASE: &str = "STORE_TEST_DATABASE";
const STORE: &str = "STORE_TEST_STORE";
const BUDGET: &str = "STORE_TEST_BUDGET";
const LISTENING: &str = "listening on ";

/// What a process counts of itself, and what it has seen change, which another one may find changed already.
const OF_A_PROCESS: [&str; 7] = [
    "llm_relay_refresh_",
    "llm_relay_rows_read_",
    "llm_relay_store_",
    "llm_relay_series_folded",
    "llm_relay_ledger_corrections_",
    "llm_relay_unpriced_requests_",
    "process_",
];

/// The exporter, which the tests run in a process of its own; alone it does nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the exporter that the other tests kill"]
async fn exporter() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let mut relay = plan(&database, None);
    relay.interval = Duration::from_millis(100);
    relay.audit_interval = Duration::from_secs(2);
    if let Ok(budget) = std::env::var(BUDGET) {
        relay.history_budget = humantime::parse_duration(&budget).unwrap();
    }
    let save_interval = Duration::from_millis(150);
    let store = std::env::var(STORE).ok().map(|url| StorePlan { save_interval, ..StorePlan::new(url) });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{LISTENING}{}", listener.local_addr().unwrap());
    let plan = Plan { relays: [(relay.name.clone(), relay)].into(), store };
    let open = llm_relay_exporter::web::Protection::load(None).unwrap();
    serve::run(&plan, listener, "/metrics", open, CancellationToken::new()).await.unwrap();
}

pub type Counters = BTreeMap<String, f64>;

pub struct Process {
    child: Child,
    address: String,
    /// The test harness in the process writes to it now and then, and ends when nobody could read that.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub async fn start(database: &str, store: Option<&str>) -> Self {
        Self::with_budget(database, store, None).await
    }

    /// With a budget of its own for the history.
    pub async fn with_budget(database: &str, store: Option<&str>, budget: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "store_process::exporter", "--ignored", "--nocapture"]);
        command.env(DATABASE, database).stdout(Stdio::piped()).kill_on_drop(true);
        command.envs(store.map(|store| (STORE, store))).envs(budget.map(|budget| (BUDGET, budget)));
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("the exporter has ended");
            if let Some((_, address)) = line.split_once(LISTENING) {
                return Self { child, address: address.to_owned(), _output: lines };
            }
        }
    }

    /// Its page; `None` while it does not answer.
    pub fn page(&self) -> Option<String> {
        let answer = tokio::task::block_in_place(|| client::get(&*self.address, "/metrics")).ok()?;
        (answer.status == 200).then(|| answer.text().to_owned())
    }

    /// Its counters over the ledger, by series; `None` while it has none.
    pub fn counters(&self) -> Option<Counters> {
        counters(&self.page()?)
    }

    /// What its page says of how reading goes, for the message of a test that fails.
    pub fn sources(&self) -> String {
        const TOLD: [&str; 4] =
            ["llm_relay_source_", "llm_relay_refresh_failures", "llm_relay_history", "llm_relay_store"];
        let Some(page) = self.page() else { return "no page".to_owned() };
        page.lines().filter(|line| TOLD.iter().any(|it| line.starts_with(it))).collect::<Vec<_>>().join("\n")
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// The counters over the ledger on a page; `None` when there is none.
pub fn counters(page: &str) -> Option<Counters> {
    let families: Vec<_> = CATALOGUE
        .iter()
        .filter(|metric| {
            metric.kind == MetricType::Counter && !OF_A_PROCESS.iter().any(|it| metric.name.starts_with(it))
        })
        .map(|metric| format!("{}{{", metric.name))
        .collect();
    let counters: Counters = page
        .lines()
        .filter(|line| families.iter().any(|family| line.starts_with(family)))
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
        .collect();
    (!counters.is_empty()).then_some(counters)
}

/// The value of the only series of a metric.
pub fn value(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

pub fn assert_none_fell(before: &Counters, now: &Counters) {
    for (series, value) in before {
        let now = now.get(series).unwrap_or_else(|| panic!("{series} has gone"));
        // A sum of dollars is exact, its float is not.
        assert!(*now >= value - 1e-9, "{series} fell from {value} to {now}");
    }
}

/// Holds requests and costs by user and by provider against plain SQL; says what differs.
pub async fn differs_from_plain_sql(url: &str, counters: &Counters) -> Option<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for (label, column) in [("user_id", "user_id"), ("provider_id", "final_provider_id")] {
        let (requests, cost) = match label {
            "user_id" => ("llm_relay_user_requests_total", "llm_relay_user_cost_usd_total"),
            _ => ("llm_relay_requests_total", "llm_relay_cost_usd_total"),
        };
        let sql = format!(
            "select {column}::bigint, count(*)::float8, sum(cost_usd)::float8 from usage_ledger
             where status_code is not null and blocked_by is null and not is_replay group by 1"
        );
        let rows = connection.fetch_all(AssertSqlSafe(sql)).await.unwrap();
        assert!(rows.len() > 3);
        for row in rows {
            let label = format!("{label}=\"{}\"", row.get::<i64, _>(0));
            let sum = |name: &str| -> f64 {
                let of =
                    |(series, _): &(&String, &f64)| series.starts_with(&format!("{name}{{")) && series.contains(&label);
                counters.iter().filter(of).map(|(_, value)| value).sum()
            };
            let theirs = row.get::<f64, _>(1);
            if sum(requests) != theirs {
                return Some(format!("requests of {label}: {} and not {theirs}", sum(requests)));
            }
            let theirs = row.get::<f64, _>(2);
            if (sum(cost) - theirs).abs() >= 1e-6 {
                return Some(format!("cost of {label}: {} and not {theirs}", sum(cost)));
            }
        }
    }
    None
}

pub async fn equals_plain_sql(url: &str, counters: &Counters) {
    assert_eq!(differs_from_plain_sql(url, counters).await, None);
}
