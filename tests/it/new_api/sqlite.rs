//! A relay with a rollback journal and as little patience as it has, and an exporter that reads all of its past.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::Utc;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::{Directory, Reason};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use super::database::{Place, Row, follower, open, people, plan, settle, view};
use super::requests;

/// Rows of the past: `ROLLBACK_ROWS=2000000 cargo test --test it new_api::sqlite` for a long one.
fn rows() -> u64 {
    std::env::var("ROLLBACK_ROWS").map_or(60_000, |rows| rows.parse().unwrap())
}

/// One request every two seconds, as the relay writes them.
const PAST: &str = r#"with recursive n(n) as (select 1 union all select n + 1 from n where n < ROWS)
    insert into logs (created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens,
      completion_tokens, use_time, is_stream, content, other)
    select unixepoch() - 2 * (ROWS - n), case when n % 50 = 0 then 5 else 2 end, 1 + n % 3, 1 + n % 3, 1 + n % 3, 'gpt-4o', n % 9000, 1000, 200, 4, 1,
      'model ratio 1.25, completion ratio 4, group ratio 1',
      '{"admin_info":{"use_channel":["1"]},"cache_ratio":0.5,"cache_tokens":600,"completion_ratio":4,"error_type":"openai_error","frt":105,"group_ratio":1,"model_price":-1,"model_ratio":1.25,"status_code":500,"stream_status":{"end_reason":"done","status":"ok"}}'
    from n"#;

/// Reads until nothing is left to read, again where the relay's lock was in the way; tells how often it was.
async fn read_all(exporter: &mut Follower) -> u32 {
    let (mut rest, mut locked) = (Backlog::NewRows, 0);
    while rest != Backlog::Nothing {
        let read = match rest {
            Backlog::NewRows => exporter.refresh().await,
            _ => exporter.read_history().await,
        };
        match read {
            Ok(next) => rest = next,
            Err(error) => {
                assert_eq!(error.reason, Reason::Timeout, "{error}");
                locked += 1;
            }
        }
    }
    locked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_the_whole_past_costs_the_relay_no_row() {
    let place = Place::sqlite();
    let (mut db, url) = place.relay("one-api.db").await;
    people(&mut db).await;
    db.run(&PAST.replace("ROWS", &rows().to_string())).await;
    let path = url.strip_prefix("sqlite:").unwrap().to_owned();
    // The control: an open read is what makes a rollback journal's writers fail, here after 100 ms of patience.
    {
        let options = SqliteConnectOptions::new().filename(&path);
        let mut impatient = options.clone().busy_timeout(Duration::from_millis(100)).connect().await.unwrap();
        let mut reader = options.connect().await.unwrap();
        sqlx::raw_sql("begin; select count(*) from logs").execute(&mut reader).await.unwrap();
        let insert = AssertSqlSafe(Row::default().insert());
        assert!(sqlx::raw_sql(insert).execute(&mut impatient).await.is_err());
    }
    let stop = Arc::new(Mutex::new(false));
    // new-api waits for five seconds, one-api for three, and then they give up what they have charged for.
    let writers: Vec<_> = [5, 3]
        .map(|patience| {
            let (path, stop) = (path.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(patience));
                let mut relay = options.connect().await.unwrap();
                let (mut written, mut lost, mut slowest) = (0, 0, Duration::ZERO);
                while !*stop.lock().unwrap() {
                    let began = Instant::now();
                    match sqlx::raw_sql(AssertSqlSafe(Row::default().insert())).execute(&mut relay).await {
                        Ok(_) => written += 1,
                        Err(_) => lost += 1,
                    }
                    slowest = slowest.max(began.elapsed());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (written, lost, slowest)
            })
        })
        .into();
    let plan = plan(&url, "UTC");
    let clock = Arc::new(Mutex::new(Utc::now()));
    let mut relay = open(&plan, &clock);
    let mut exporter = follower(&plan, &clock);
    let began = Instant::now();
    let directory = relay.directory.read().await.unwrap();
    relay.live.as_mut().unwrap().read(&directory).await.unwrap();
    let locked = read_all(&mut exporter).await;
    let took = began.elapsed();
    *stop.lock().unwrap() = true;
    let mut written = 0;
    for writer in writers {
        let (more, lost, slowest) = writer.await.unwrap();
        println!("{more} rows written, {lost} lost, the slowest took {slowest:?}");
        assert_eq!(lost, 0);
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        written += more;
    }
    *clock.lock().unwrap() = Utc::now();
    settle(&mut exporter).await;
    let view = view(&mut exporter, &plan, &Directory::default());
    println!("{} rows read in {took:.1?}; {locked} times the relay held the lock for too long", rows());
    assert_eq!(requests(&view), rows() + written);
    assert_eq!(view.audit.unwrap().drift_requests, 0.0);
}
