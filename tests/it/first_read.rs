//! A first read that is killed in the middle of the history: the next process goes on where it was.

use std::time::{Duration, Instant};

use crate::claude_code_hub::Store;
use crate::store_process::{Process, counters, equals_plain_sql, value};
use crate::wait::{PATIENCE, until};

const LOADED: &str = "llm_relay_history_loaded_ratio";
const SAVED: &str = "llm_relay_store_last_save_timestamp_seconds";
/// 45 days.
const ROWS: u32 = 64_800;
const READ: &str = "llm_relay_rows_read_total";

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_the_history_it_goes_on_where_it_was() {
    let mut relay = Store::new("first_read", "v0.9.2").await;
    relay.people().await;
    relay
        .run(&format!(
            "insert into usage_ledger (request_id, user_id, key, provider_id, final_provider_id, model, is_success,
               status_code, cost_usd, created_at)
             select n, n % 5, 'sk-ann', 1, n % 7, 'sonnet', true, 200, 0.01, now() - interval '60 seconds' * ({ROWS} - n)
             from generate_series(1, {ROWS}) n"
        ))
        .await;
    let url = relay.url;
    let directory = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", directory.path().join("store.db").display());

    let (mut loaded, mut read) = (0.0, 0.0);
    for life in 1..=3 {
        // A third of the time.
        let process = Process::with_budget(&url, Some(&store), Some("20s")).await;
        let deadline = Instant::now() + PATIENCE;
        let began = loaded;
        loop {
            let page = process.page().unwrap();
            if let Some(now) = value(&page, LOADED) {
                assert!(now >= began - 1e-9, "life {life} begins at {now}, the last one ended at {began}");
                assert!(now < 1.0, "the history has been read too fast for this test");
                assert_eq!(counters(&page), None, "counters of a history of which {now} has been read");
                if now > began && value(&page, SAVED).is_some() {
                    // The save after the next one has what is seen now.
                    for _ in 0..2 {
                        let saved = value(&process.page().unwrap(), SAVED);
                        until("it is saved", async || value(&process.page().unwrap(), SAVED) > saved).await;
                    }
                    loaded = now;
                    read += value(&page, READ).unwrap();
                    break;
                }
            }
            assert!(Instant::now() < deadline, "the history does not get on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        process.kill().await;
    }

    let process = Process::with_budget(&url, Some(&store), Some("1m")).await;
    let deadline = Instant::now() + PATIENCE;
    let page = loop {
        let page = process.page().unwrap();
        let now = value(&page, LOADED);
        assert!(now.is_none_or(|now| now >= loaded - 1e-9), "{now:?} after {loaded}");
        if now == Some(1.0) {
            break page;
        }
        assert_eq!(counters(&page), None, "counters of a history of which {now:?} has been read");
        assert!(Instant::now() < deadline, "the history does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    equals_plain_sql(&url, &counters(&page).expect("no counters when all has been read")).await;
    let last = value(&page, READ).unwrap();
    assert!(
        last < 0.9 * f64::from(ROWS),
        "the last life read {last} rows; {read} had been read before, {loaded} of all"
    );
    process.kill().await;
}

/// Today and yesterday may take minutes to read; nobody is to be woken for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_up_as_soon_as_something_of_it_is_shown() {
    let mut relay = Store::new("first_day", "v0.9.2").await;
    relay.people().await;
    relay
        .run(
            "insert into usage_ledger (request_id, user_id, key, provider_id, final_provider_id, model, is_success,
               status_code, cost_usd, created_at)
             select n, n % 5, 'sk-ann', 1, n % 7, 'sonnet', true, 200, 0.01, now() - interval '1 second' * (60000 - n)
             from generate_series(1, 60000) n",
        )
        .await;
    let process = Process::start(&relay.url, None).await;
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    loop {
        let page = process.page().unwrap();
        if let Some(loaded) = value(&page, LOADED) {
            let up = page.lines().find(|line| line.starts_with("llm_relay_source_up{") && line.contains("\"ledger\""));
            assert!(up.is_some_and(|line| line.ends_with(" 1")), "{up:?} while {loaded} is shown");
            if loaded == 1.0 {
                break;
            }
            seen += 1;
        }
        assert!(Instant::now() < deadline, "the history does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seen > 0, "it has been read too fast for this test");
    process.kill().await;
}
