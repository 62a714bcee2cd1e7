//! Ids that jump: a sequence that was set, a server of many nodes, a table that was restored.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::Utc;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::settings::RelayPlan;

use super::database::{Db, Place, Row, follower, plan};
use super::requests;
use crate::reading::{settle, view};

/// More ids than could be gone through in a life.
const GAP: i64 = 100_000_000_000_000;

async fn insert(db: &mut Db, id: i64, minutes_ago: i64) {
    let row = Row { created_at: Utc::now().timestamp() - 60 * minutes_ago, ..Row::default() };
    db.run(&row.insert().replacen("(created_at", "(id, created_at", 1).replacen(
        "values (",
        &format!("values ({id}, "),
        1,
    ))
    .await;
}

/// In the past, in what is new, in what an audit sums up, and among the rows that are looked at again.
#[tokio::test]
async fn a_jump_of_ids_takes_no_time() {
    for place in [Place::sqlite(), Place::postgres().await, Place::mariadb().await] {
        let (mut db, url) = place.relay("relay").await;
        for n in 1..=4 {
            insert(&mut db, n * GAP, 3000 - n).await;
            insert(&mut db, n * GAP + 1, 100 - n).await;
        }
        let plan = RelayPlan { timeout: Duration::from_secs(5), ..plan(&url, "UTC") };
        let clock = Arc::new(Mutex::new(Utc::now()));
        let mut exporter = follower(&plan, &clock);
        settle(&mut exporter).await;
        assert_eq!(requests(&view(&mut exporter, &plan, &Directory::default())), 8);
        for n in 5..=6 {
            insert(&mut db, n * GAP, 5).await;
        }
        *clock.lock().unwrap() = Utc::now();
        settle(&mut exporter).await;
        assert_eq!(requests(&view(&mut exporter, &plan, &Directory::default())), 10);
        // Its newest rows are deleted, and how far back is found out.
        db.run(&format!("delete from logs where id > {}", 5 * GAP)).await;
        insert(&mut db, 5 * GAP + 1, 0).await;
        settle(&mut exporter).await;
        let view = view(&mut exporter, &plan, &Directory::default());
        assert_eq!((requests(&view), view.audit.unwrap().drift_requests), (11, 0.0));
    }
}

/// Of an import, or of a machine whose clock was not set: the smallest id does not tell how far the log goes back.
#[tokio::test]
async fn a_first_row_without_a_time_hides_no_drift() {
    for place in [Place::sqlite(), Place::postgres().await, Place::mariadb().await] {
        let (mut db, url) = place.relay("relay").await;
        db.run(&Row { created_at: 0, ..Row::default() }.insert()).await;
        for id in 11..=14 {
            insert(&mut db, id, 1440).await;
        }
        let plan = plan(&url, "UTC");
        let mut exporter = follower(&plan, &Arc::new(Mutex::new(Utc::now())));
        let mut yesterday = async || {
            settle(&mut exporter).await;
            let days = view(&mut exporter, &plan, &Directory::default()).days;
            days.into_iter().find(|(day, _)| *day == "yesterday").map(|(_, day)| day.requests)
        };
        assert_eq!(yesterday().await, Some(4));
        db.run("delete from logs where id in (12, 13)").await;
        assert_eq!(yesterday().await, Some(2));
    }
}
