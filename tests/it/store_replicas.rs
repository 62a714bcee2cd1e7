//! Two exporters on one PostgreSQL store, as processes: one saves; when it is killed or cut off, the other takes over,
//! and both pages have the ledger's counters all along.

use std::time::{Duration, Instant};

use llm_relay_exporter::servers::PrivatePostgres;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::claude_code_hub::as_role;
use crate::process;
use crate::store::{history, server};
use crate::store_process::{Counters, Process, assert_none_fell, counters, differs_from_plain_sql, value};
use crate::wait::{found, until};

const WRITER: &str = "llm_relay_store_writer";
const SAVED: &str = "llm_relay_store_last_save_timestamp_seconds";

/// A busy second of the relay: requests of all users, some of which end later.
const REQUESTS: &str = "
    update message_request set status_code = 200, cost_usd = 0.125, input_tokens = 7, output_tokens = 9, duration_ms = 500
    where status_code is null;
    insert into message_request (provider_id, user_id, key, model, original_model, endpoint, session_id, created_at)
    select p.id, k.user_id, k.key, 'claude-sonnet-4-5', 'claude-sonnet-4-5', '/v1/messages', 's', now()
    from providers p, keys k limit 40;
    update message_request set status_code = 200, cost_usd = 0.25, input_tokens = 10, output_tokens = 20, duration_ms = 900
    where id > (select max(id) - 30 from message_request)";

/// The two, and what each has said last.
struct Pair {
    relay: String,
    connection: PgConnection,
    processes: Vec<Process>,
    last: Vec<Counters>,
}

impl Pair {
    fn writers(&self) -> Vec<bool> {
        let mut writers = Vec::new();
        for process in &self.processes {
            let page = process.page().unwrap();
            writers.push(value(&page, WRITER) == Some(1.0) && value(&page, SAVED).is_some());
        }
        writers
    }

    /// Waits until exactly one saves; which one.
    async fn writer(&self) -> usize {
        // One that was cut off says so after its next attempt to save.
        found("one saves", async || match self.writers() {
            one if one.iter().filter(|writer| **writer).count() == 1 => {
                Ok(one.iter().position(|writer| *writer).unwrap())
            }
            writers => Err(writers),
        })
        .await
    }

    /// The relay works on; each page comes to say what the ledger says, and none ever falls.
    async fn work(&mut self, what: &str) {
        self.connection.execute(REQUESTS).await.unwrap();
        for (process, last) in self.processes.iter().zip(&mut self.last) {
            found(what, async || {
                let Some(now) = process.counters() else { return Err("no counters".to_owned()) };
                assert_none_fell(last, &now);
                *last = now;
                differs_from_plain_sql(&self.relay, last).await.map_or(Ok(()), Err)
            })
            .await;
        }
        if let [one, .., other] = self.last.as_slice() {
            assert_eq!(one, other, "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_from_a_writer_that_is_cut_off_or_killed_and_no_counter_differs() {
    let relay = history("pair", 3, 800).await;
    let store = server().await.database("pair_store").await.unwrap();
    let mut keeper = PgConnection::connect(&store).await.unwrap();
    let connection = PgConnection::connect(&relay).await.unwrap();
    let first = Process::start(&relay, Some(&store)).await;
    let mut pair = Pair { relay: relay.clone(), connection, processes: vec![first], last: vec![Counters::new()] };
    pair.work("alone").await;
    assert_eq!(pair.writer().await, 0);
    // Started later, from the checkpoint of the other.
    pair.processes.push(Process::start(&relay, Some(&store)).await);
    pair.last.push(Counters::new());
    for _ in 0..2 {
        pair.work("with a replica").await;
    }
    assert_eq!(pair.writers(), [true, false], "the first one saves, the other follows");
    let is_up = |process: &Process| value(&process.page().unwrap(), "llm_relay_store_up") == Some(1.0);
    assert!(pair.processes.iter().all(is_up), "who follows is well");

    for cut in 1..=2 {
        // The writer's session ends, as after a fault of the network; either may be the next one.
        let sql = "select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory' and database =
                   (select oid from pg_database where datname = 'pair_store')";
        let ended: i64 = sqlx::query_scalar(sql).fetch_one(&mut keeper).await.unwrap();
        assert_eq!(ended, 1, "one lock, of the one that saves");
        pair.work("while nobody saves").await;
        pair.writer().await;
        pair.work(&format!("after cut {cut}")).await;
    }

    for kill in 1..=2 {
        let writer = pair.writer().await;
        let began = Instant::now();
        pair.processes.remove(writer).kill().await;
        pair.last.remove(writer);
        pair.work("the other alone").await;
        assert_eq!(pair.writer().await, 0);
        println!("kill {kill}: the other saves after {:.1?}", began.elapsed());
        let generation = AssertSqlSafe("select generation from llm_relay_exporter.checkpoint");
        let before: i64 = sqlx::query_scalar(generation).fetch_one(&mut keeper).await.unwrap();
        pair.work("saved by the other").await;
        pair.processes.push(Process::start(&relay, Some(&store)).await);
        pair.last.push(Counters::new());
        pair.work(&format!("with a new replica after kill {kill}")).await;
        let sql = AssertSqlSafe("select generation from llm_relay_exporter.checkpoint");
        let after: i64 = sqlx::query_scalar(sql).fetch_one(&mut keeper).await.unwrap();
        assert!(after > before, "nothing was saved");
    }
    for process in pair.processes {
        process.kill().await;
    }
}

/// Its state is older than what the other saved last: written over that, counters would be lower after the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_read_the_relay_does_not_take_over() {
    let relay = history("cut_off", 2, 300).await;
    let store = server().await.database("cut_off_store").await.unwrap();
    let mut connection = PgConnection::connect(&relay).await.unwrap();
    connection.execute("create role cut_off login superuser password 'cut_off'").await.unwrap();
    let others = as_role(&relay, "cut_off", "cut_off");
    let first = Process::start(&relay, Some(&store)).await;
    let mut pair = Pair { relay: relay.clone(), connection, processes: vec![first], last: vec![Counters::new()] };
    pair.work("alone").await;
    assert_eq!(pair.writer().await, 0);
    pair.processes.push(Process::start(&others, Some(&store)).await);
    pair.last.push(Counters::new());
    pair.work("with a replica").await;
    let cut_off = "alter role cut_off nologin;
                   select pg_terminate_backend(pid) from pg_stat_activity where usename = 'cut_off'";
    pair.connection.execute(cut_off).await.unwrap();
    let other = pair.processes.pop().unwrap();
    pair.last.pop();
    pair.work("the other cannot read").await;
    let saved = |process: &Process| value(&process.page().unwrap(), SAVED).unwrap();
    let before = saved(&pair.processes[0]);
    until("it has saved", async || saved(&pair.processes[0]) >= before + 1.0).await;
    pair.processes.pop().unwrap().kill().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(value(&other.page().unwrap(), WRITER), Some(0.0), "{}", other.sources());
    pair.processes.push(Process::start(&relay, Some(&store)).await);
    pair.work("it goes on from what it saved").await;
    assert_eq!(pair.writer().await, 0);
}

/// A whole machine starts, the exporter first; meanwhile the relay had deleted what it had counted.
#[tokio::test(flavor = "multi_thread")]
async fn counters_wait_for_a_store_that_starts_later() {
    let relay = history("early", 2, 300).await;
    let mut keeper = PrivatePostgres::start().await.unwrap();
    let store = keeper.database("early_store").await.unwrap();
    let process = Process::start(&relay, Some(&store)).await;
    let until = async |process: &Process, what: &str, is: &dyn Fn(&str) -> bool| {
        let look = async || process.page().filter(|page| is(page)).ok_or_else(|| process.sources());
        found(what, look).await
    };
    let saved = |page: &str| counters(page).is_some() && value(page, SAVED).is_some();
    let before = counters(&until(&process, "it is saved", &saved).await).unwrap();
    process.kill().await;
    keeper.stop();
    let mut connection = PgConnection::connect(&relay).await.unwrap();
    connection.execute("delete from usage_ledger where id % 2 = 0").await.unwrap();

    let process = Process::start(&relay, Some(&store)).await;
    let read = |page: &str| value(page, "llm_relay_history_loaded_ratio") == Some(1.0);
    let page = until(&process, "the ledger is read", &read).await;
    assert_eq!(counters(&page), None, "too low");
    keeper.restart().await.unwrap();
    let page = until(&process, "the store is used again", &|page| counters(page).is_some()).await;
    assert_none_fell(&before, &counters(&page).unwrap());
    process.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_the_writer_no_longer_reads_is_saved_by_the_other() {
    let store = server().await.database("left_store").await.unwrap();
    let mut table = String::new();
    for name in ["stays", "leaves"] {
        let relay = crate::claude_code_hub::Store::new(&format!("left_{name}"), "v0.9.2").await;
        table += &format!(
            "[relays.{name}]\nkind = \"claude-code-hub\"\ndatabase_url = \"{}\"\ninterval = \"1s\"\n",
            relay.url
        );
    }
    let store = format!("[store]\nurl = \"{store}\"\nsave_interval = \"1s\"\n");
    let config = format!("{store}{table}");
    let saves = |page: &process::Page, relay| {
        process::value(page, WRITER, &[("relay", relay)]) == Some(1.0)
            && process::value(page, SAVED, &[("relay", relay)]).is_some()
    };
    let first = process::Process::start(&config, &[]);
    first.until("it saves both", |page| saves(page, "stays") && saves(page, "leaves"));
    let second = process::Process::start(&config, &[]);
    second.until("it follows", |page| process::value(page, WRITER, &[("relay", "leaves")]) == Some(0.0));
    first.write(&config[..config.find("[relays.leaves]").unwrap()]);
    first.signal("HUP");
    second.until("it has taken over", |page| saves(page, "leaves"));
    assert!(saves(&first.page(), "stays") && !saves(&second.page(), "stays"), "the other relay is where it was");

    // It comes back, and follows.
    first.write(&config);
    first.signal("HUP");
    first.until("it follows", |page| process::value(page, WRITER, &[("relay", "leaves")]) == Some(0.0));
    assert!(saves(&second.page(), "leaves"));
}
