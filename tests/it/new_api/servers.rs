//! Real parallel writers, whose commits become visible out of the order of their ids, and a standby that lags.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relays::new_api;
use llm_relay_exporter::servers::PrivatePostgres;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{Db, Place, Row, follower, plan};
use super::requests;
use crate::reading::{Saved, settle, view};
use crate::wait::until;

const WRITERS: u64 = 12;
const ROWS: usize = 60;

/// Reads as fast as it can while others write.
async fn nothing_is_lost_and_nothing_counted_twice(place: Place) {
    let (mut db, url) = place.relay("parallel").await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|seed| {
            let url = url.clone();
            tokio::spawn(async move {
                let (mut db, mut rng) = (Db::connect(&url).await, StdRng::seed_from_u64(seed));
                for _ in 0..ROWS {
                    let row = Row { created_at: Utc::now().timestamp(), user: 1 + seed as i64, ..Row::default() };
                    db.run(&format!("begin; {}", row.insert())).await;
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..25))).await;
                    db.run("commit").await;
                }
            })
        })
        .collect();
    let plan = plan(&url, "UTC");
    let clock = Arc::new(Mutex::new(Utc::now()));
    let mut exporter = follower(&plan, &clock);
    // How many rows come after a greater id: without them this would prove nothing.
    let observer = tokio::spawn(async move {
        let (mut seen, mut late) = (BTreeSet::new(), 0_u64);
        while seen.len() < WRITERS as usize * ROWS {
            let ids = db.table("select cast(id as char(20)), id from logs").await;
            let top = seen.last().copied().unwrap_or(0);
            for id in ids.into_values().map(|id| id[0]) {
                late += u64::from(seen.insert(id) && id < top);
            }
        }
        late
    });
    let mut refreshes = 0;
    while writers.iter().any(|writer| !writer.is_finished()) {
        settle(&mut exporter).await;
        refreshes += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let late = observer.await.unwrap();
    settle(&mut exporter).await;
    let view = view(&mut exporter, &plan, &Directory::default());
    println!("{refreshes} refreshes, {late} rows came late");
    assert!(late > 0);
    let all = WRITERS * ROWS as u64;
    assert_eq!((requests(&view), view.days[0].1.requests, view.requests_last_minute), (all, all, Some(all as f64)));
    let by_user: Vec<_> = view.counters.unwrap().users.iter().map(|user| user.requests).collect();
    assert_eq!(by_user, [ROWS as u64; WRITERS as usize]);
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_writers_on_postgresql_lose_nothing() {
    nothing_is_lost_and_nothing_counted_twice(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_writers_on_mariadb_lose_nothing() {
    nothing_is_lost_and_nothing_counted_twice(Place::mariadb().await).await;
}

/// The primary dies, and its standby has not replayed yet what was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_is_waited_for_and_nothing_counts_twice() {
    let mut primary = PrivatePostgres::start().await.unwrap();
    let url = primary.database("lagging").await.unwrap();
    let mut relay = Db::connect(&url).await;
    relay.run(new_api::POSTGRES_SCHEMA).await;
    relay.run(&Row::default().insert()).await;
    let standby = primary.standby().await.unwrap();
    let mut second = Db::connect(&standby.url_of("lagging")).await;
    second.run("select pg_wal_replay_pause()").await;
    let paused = "(pg_get_wal_replay_pause_state() = 'paused')::int::bigint";
    until("the standby pauses", async || second.numbers(paused, "(select 1) one").await == [1]).await;
    for _ in 0..9 {
        relay.run(&Row::default().insert()).await;
    }
    let (first, other) = (format!(":{}/", primary.port()), standby.port());
    let plan = plan(&url.replace(&first, &format!(":{},127.0.0.1:{other}/", primary.port())), "UTC");
    let clock = Arc::new(Mutex::new(Utc::now()));
    let mut exporter = follower(&plan, &clock);
    settle(&mut exporter).await;
    assert_eq!(requests(&view(&mut exporter, &plan, &Directory::default())), 10);
    let mut saved = Saved::default();
    saved.save(&mut exporter);

    drop(relay);
    primary.stop();
    let error = exporter.refresh().await.unwrap_err();
    assert!(error.text.contains("row 10 of the log had been read and is not there"), "{error}");
    let mut restarted = saved.restored(follower(&plan, &clock));
    restarted.refresh().await.unwrap_err();

    second.run("select pg_wal_replay_resume()").await;
    until("the standby is read", async || exporter.refresh().await.is_ok() && restarted.refresh().await.is_ok()).await;
    for follower in [&mut exporter, &mut restarted] {
        settle(follower).await;
        let view = view(follower, &plan, &Directory::default());
        assert_eq!((requests(&view), view.days[0].1.requests, view.audit.unwrap().drift_requests), (10, 10, 0.0));
        assert!(view.counters.unwrap().corrections.iter().all(|(_, rows)| *rows == 0));
    }
}
