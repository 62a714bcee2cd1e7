//! A relay that writes: requests that begin, are booked and end, through the trigger, at a steady rate.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A request takes from this long to ten times as long.
const SHORTEST: Duration = Duration::from_secs(2);

pub struct Relay {
    stop: CancellationToken,
    tasks: TaskTracker,
    inserts: Arc<Mutex<Vec<Duration>>>,
}

impl Relay {
    pub fn start(pool: &PgPool, requests_per_second: f64) -> Self {
        let relay = Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), inserts: Arc::default() };
        let (pool, tasks, inserts) = (pool.clone(), relay.tasks.clone(), relay.inserts.clone());
        let writing = async move {
            let mut beat = interval(Duration::from_secs_f64(1.0 / requests_per_second));
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for number in 0.. {
                beat.tick().await;
                let (pool, inserts) = (pool.clone(), inserts.clone());
                tasks.spawn(async move {
                    // A failure shows: the exporter then reads fewer rows than there should be.
                    if let Err(error) = serve(&pool, number, &inserts).await {
                        eprintln!("the relay cannot write: {error}");
                    }
                });
            }
        };
        relay.tasks.spawn(relay.stop.clone().run_until_cancelled_owned(writing));
        relay
    }

    /// Latencies of the inserts since the last call, ascending.
    pub fn inserts(&self) -> Vec<Duration> {
        let mut inserts = std::mem::take(&mut *self.inserts.lock().expect("nobody panics with it"));
        inserts.sort_unstable();
        inserts
    }

    /// Ends when the last request has ended.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn serve(pool: &PgPool, number: i32, inserts: &Mutex<Vec<Duration>>) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let began = Instant::now();
    let begin = sqlx::query_scalar(include_str!("begin.sql")).bind(number);
    let id: i32 = begin.fetch_one(&mut *connection).await?;
    inserts.lock().expect("nobody panics with it").push(began.elapsed());
    drop(connection);
    let takes = SHORTEST * (1 + number.unsigned_abs() * 7 % 10);
    sleep(takes).await;
    sqlx::query(include_str!("book.sql")).bind(id).execute(pool).await?;
    sleep(Duration::from_millis(250)).await;
    let milliseconds = takes.as_millis() as i32;
    sqlx::query(include_str!("end.sql")).bind(id).bind(milliseconds).execute(pool).await?;
    Ok(())
}
