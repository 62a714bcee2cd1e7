//! Real parallel writers: commits become visible out of the order of their ids.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use llm_relay_exporter::model::Directory;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{Db, Place, Row, follower, plan, settle, view};
use super::requests;

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
