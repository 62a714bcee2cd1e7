//! Exporters killed at random moments, with `kill -9`, while a relay is busy and writes out of order: costs come late,
//! on requests that nobody reads again as new ones, and transactions stay open while greater ids are committed. One
//! alone with a file, and two that share PostgreSQL and are killed in turns. `STORE_KILLS=300` kills more often; then
//! the ledger is held against plain SQL every 25 lives, in a pause of the traffic.

use std::path::Path;
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::{HistoryOptions, Pace, SimulatorOptions, Urls};
use llm_relay_exporter::relays::claude_code_hub::demo::{self, SimulateOptions};
use rand::Rng;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::store::{history, server};
use crate::store_process::{Counters, Process, assert_none_fell, counters, equals_plain_sql, value};
use crate::wait::{self, PATIENCE, found};

/// Lives between two comparisons with plain SQL.
const ROUND: u32 = 25;

/// More ids than a follower reads again behind its cursor (`OVERLAP_IDS` in `src/follow.rs`).
const BURN: &str = "select setval('usage_ledger_id_seq', nextval('usage_ledger_id_seq') + 2500)";

/// A late cost on a request of which the row may still change but lies behind what is read again as new. Its own cost is
/// booked: that is now and then written after the end, and would replace this one.
const LATE: &str = "
    update message_request set cost_usd = cost_usd + 0.125 where id in (
      select l.request_id from usage_ledger l
      where l.status_code = 200 and l.cost_usd > 0 and l.created_at between now() - interval '9 minutes' and now() - interval '3 seconds'
        and l.id < (select max(id) - 2500 from usage_ledger)
      order by random() limit 3)";

/// Requests that begin and end in a transaction that is still open.
const HIDDEN: &str = "
    insert into message_request (provider_id, user_id, key, model, original_model, endpoint, session_id, status_code,
                                 cost_usd, input_tokens, output_tokens, duration_ms, created_at)
    select p.id, k.user_id, k.key, 'claude-sonnet-4-5', 'claude-sonnet-4-5', '/v1/messages', 's', 200, 0.25, 10, 20, 900,
           now() - n * interval '1 minute'
    from generate_series(0, 4) n, (select id from providers order by random() limit 1) p,
         (select user_id, key from keys order by random() limit 1) k";

/// A relay's traffic until it is told to stop.
struct Traffic {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    /// Gives back how many late costs there were.
    disorder: tokio::task::JoinHandle<u64>,
}

impl Traffic {
    async fn start(url: &str, init: bool) -> Self {
        let history = HistoryOptions { days: 3, requests_per_day: 1500, ..HistoryOptions::default() };
        if init {
            demo::create(&url.to_owned().into(), &history).await.unwrap();
        }
        let options = SimulateOptions {
            urls: Urls { database_url: url.to_owned().into(), redis_url: None },
            init: false,
            history,
            simulator: SimulatorOptions {
                pace: Pace::Steady(20.0),
                seed: rand::rng().random(),
                ..SimulatorOptions::default()
            },
        };
        let stop = CancellationToken::new();
        let disorder = tokio::spawn(disorder(url.to_owned(), stop.clone()));
        Self { task: tokio::spawn(demo::simulate(options, stop.clone())), stop, disorder }
    }

    async fn stop(self) -> u64 {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.disorder.await.unwrap()
    }
}

async fn disorder(url: String, stop: CancellationToken) -> u64 {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut long = PgConnection::connect(&url).await.unwrap();
    let mut late = 0;
    while !stop.is_cancelled() {
        let mut transaction = long.begin().await.unwrap();
        transaction.execute(AssertSqlSafe(HIDDEN)).await.unwrap();
        // Greater ids are committed meanwhile, by the others too.
        connection.execute(BURN).await.unwrap();
        let pauses = rand::rng().random_range(1..6);
        for _ in 0..pauses {
            late += connection.execute(LATE).await.unwrap().rows_affected();
            stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(300))).await;
        }
        transaction.commit().await.unwrap();
    }
    late
}

/// One of the exporters, and what it has shown last, whichever of its lives that was in.
#[derive(Default)]
struct Instance {
    process: Option<Process>,
    last: Counters,
    pages: u64,
}

impl Instance {
    fn look(&mut self) {
        let Some(process) = &self.process else { return };
        if let Some(now) = process.counters() {
            assert_none_fell(&self.last, &now);
            self.last = now;
            self.pages += 1;
        }
    }

    async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }
}

async fn survives(name: &str, store: &str, replicas: usize) {
    let url = server().await.database(name).await.unwrap();
    let kills: u32 = std::env::var("STORE_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let mut instances: Vec<Instance> = (0..replicas).map(|_| Instance::default()).collect();
    let (mut lives, mut silent, mut late, mut slowest) = (0, 0, 0, Duration::ZERO);
    while lives < kills {
        let traffic = Traffic::start(&url, lives == 0).await;
        for _ in 0..ROUND.min(kills - lives) {
            // Half of them end while they start, perhaps before they have said anything; the others at work.
            let which = lives as usize % replicas;
            let began = Instant::now();
            instances[which].process = Some(Process::start(&url, Some(store)).await);
            let before = instances[which].pages;
            let at_work = lives == 0 || rand::rng().random();
            let life = Duration::from_millis(rand::rng().random_range(0..1500));
            let mut at_work_since = (!at_work).then_some(began);
            while at_work_since.is_none_or(|since| since.elapsed() < life) {
                for instance in &mut instances {
                    instance.look();
                }
                let is_silent = instances[which].pages == before;
                if is_silent && began.elapsed() > PATIENCE {
                    let sources = instances[which].process.as_ref().unwrap().sources();
                    panic!("an exporter shows no counters:\n{sources}");
                }
                if !is_silent && at_work_since.is_none() {
                    at_work_since = Some(Instant::now());
                    slowest = slowest.max(began.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            silent += u32::from(instances[which].pages == before);
            // Of two, the one that was started before; it has gone on meanwhile.
            instances[(which + 1) % replicas].kill().await;
            lives += 1;
        }
        for instance in &mut instances {
            instance.kill().await;
        }
        late += traffic.stop().await;
        let shown: Vec<&Counters> = instances.iter().map(|it| &it.last).collect();
        let now = holds(&url, store, &shown).await;
        instances.iter_mut().for_each(|instance| instance.last.clone_from(&now));
        println!("{name}: {lives} kills, and it says what plain SQL says");
    }
    let pages: u64 = instances.iter().map(|instance| instance.pages).sum();
    assert!(pages > u64::from(kills) && late > u64::from(kills), "only {pages} pages and {late} late costs were seen");
    println!(
        "{name}: {kills} kills, {silent} of them before a page was seen, {pages} pages, {late} late costs, a page after \
         {slowest:.1?} at most"
    );
}

/// The next one goes on from the store and says the same as one that begins anew and as plain SQL.
async fn holds(url: &str, store: &str, shown: &[&Counters]) -> Counters {
    let restarted = Process::start(url, Some(store)).await;
    let afresh = Process::start(url, None).await;
    // Two refreshes later everything has been read.
    let deadline = Instant::now() + PATIENCE;
    let now = loop {
        let (ours, theirs) = (restarted.counters(), afresh.counters());
        if let Some(ours) = &ours
            && theirs.as_ref() == Some(ours)
        {
            break ours.clone();
        }
        let different = || {
            let (ours, theirs) = (ours.clone().unwrap_or_default(), theirs.clone().unwrap_or_default());
            let all: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).cloned().collect();
            let all = all.into_iter().map(|series| (ours.get(&series).copied(), theirs.get(&series).copied(), series));
            all.filter(|(ours, theirs, _)| ours != theirs).collect::<Vec<_>>()
        };
        assert!(Instant::now() < deadline, "restarted and afresh differ: {:#?}", different());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    shown.iter().for_each(|last| assert_none_fell(last, &now));
    equals_plain_sql(url, &now).await;
    restarted.kill().await;
    afresh.kill().await;
    now
}

/// Costs come on rows behind what is read again as new, are shown, and the exporter ends before it saves them.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_cost_that_was_shown_but_not_saved_is_on_the_first_page_after_a_restart() {
    let url = history("kill_late", 2, 300).await;
    let mut relay = PgConnection::connect(&url).await.unwrap();
    for _ in 0..2 {
        relay.execute(AssertSqlSafe(HIDDEN)).await.unwrap();
        relay.execute(BURN).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let (folder, before) = (directory.path().join("store"), directory.path().join("before"));
    std::fs::create_dir(&folder).unwrap();
    let store = format!("sqlite:{}", folder.join("store.db").display());
    let spent = async |relay: &mut PgConnection| -> f64 {
        let sql = "select sum(cost_usd)::float8 from usage_ledger where status_code is not null and blocked_by is null and not is_replay";
        sqlx::query_scalar(sql).fetch_one(relay).await.unwrap()
    };
    let shown = |counters: &Counters| -> f64 {
        let of = counters.iter().filter(|(series, _)| series.starts_with("llm_relay_user_cost_usd_total{"));
        of.map(|(_, value)| value).sum()
    };
    let until = async |exporter: &Process, cost: f64| {
        found(&format!("{cost} dollars are shown"), async || {
            let page = exporter.page().unwrap_or_default();
            let is_all = value(&page, "llm_relay_history_loaded_ratio") == Some(1.0);
            let counters = counters(&page).filter(|it| is_all && (shown(it) - cost).abs() < 1e-6);
            counters.ok_or_else(|| exporter.sources())
        })
        .await
    };

    // What the store has is from before.
    let exporter = Process::start(&url, Some(&store)).await;
    until(&exporter, spent(&mut relay).await).await;
    let saved = async || {
        let page = exporter.page().unwrap_or_default();
        value(&page, "llm_relay_store_last_save_timestamp_seconds").unwrap_or(0.0)
    };
    let first_save = saved().await;
    relay.execute(AssertSqlSafe(HIDDEN)).await.unwrap();
    wait::until("it is saved", async || saved().await > first_save).await;
    exporter.kill().await;
    let copy = |from: &Path, to: &Path| {
        std::fs::remove_dir_all(to).ok();
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&folder, &before);

    for _ in 0..3 {
        let exporter = Process::start(&url, Some(&store)).await;
        until(&exporter, spent(&mut relay).await).await;
        let late = relay.execute(AssertSqlSafe(LATE)).await.unwrap().rows_affected();
        assert_eq!(late, 3);
        let last = until(&exporter, spent(&mut relay).await).await;
        exporter.kill().await;
        copy(&before, &folder);

        let exporter = Process::start(&url, Some(&store)).await;
        let deadline = Instant::now() + PATIENCE;
        let first = loop {
            if let Some(counters) = exporter.counters() {
                break counters;
            }
            assert!(Instant::now() < deadline, "it shows no counters");
        };
        assert_none_fell(&last, &first);
        equals_plain_sql(&url, &first).await;
        exporter.kill().await;
        copy(&before, &folder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_an_exporter_with_a_file_loses_nothing_and_counts_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    survives("kill_sqlite", &format!("sqlite:{}", directory.path().join("store.db").display()), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_an_exporter_with_postgres_loses_nothing_and_counts_nothing_twice() {
    let store = server().await.database("kill_store").await.unwrap();
    survives("kill_postgres", &store, 2).await;
}
