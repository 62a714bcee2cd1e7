//! What a steady refresh costs the database, by the database's own statistics: new rows, open rows and the overlap, and
//! nothing of the history.

use std::collections::BTreeMap;
use std::time::Duration;

use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::relay::{self, Relay};
use sqlx::{Connection, PgConnection, Row};

use crate::claude_code_hub::{Store, plan};
use crate::reading::{self, read_all};

const REFRESHES: u64 = 20;
const NEW_PER_REFRESH: u64 = 30;
/// Requests that run all the time.
const OPEN: u64 = 50;
/// Ids behind the cursor that a refresh reads again, at most (`src/follow.rs`).
const OVERLAP: u64 = 2000;

/// What the statistics of the ledger's table say.
#[derive(Debug, Default)]
struct Cost {
    sequential_scans: u64,
    /// Rows that left the table for anybody.
    rows: u64,
    /// Pages of the table that were looked at.
    pages: u64,
    /// What the exporter says that it has read.
    said: u64,
}

async fn statistics(connection: &mut PgConnection, table: &str) -> BTreeMap<&'static str, u64> {
    let sql = "select t.seq_scan, t.seq_tup_read + coalesce(t.idx_tup_fetch, 0) as rows,
                 io.heap_blks_read + io.heap_blks_hit as pages
               from pg_stat_user_tables t join pg_statio_user_tables io using (relid) where t.relname = $1";
    let row = sqlx::query(sql).bind(table).fetch_one(connection).await.unwrap();
    ["seq_scan", "rows", "pages"].into_iter().map(|name| (name, row.get::<i64, _>(name) as u64)).collect()
}

/// A session reports what it did when a second has passed since its last report.
async fn report(follower: &mut Follower, relay: &mut Relay) {
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(follower.refresh().await.unwrap(), Backlog::Nothing);
    relay.directory.read().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn of_a_ledger(name: &str, rows: u64) -> Cost {
    let mut store = Store::new(name, "v0.9.2").await;
    store.people().await;
    let insert = |from: u64, to: u64, status: &str, at: &str| {
        format!(
            "insert into usage_ledger (request_id, user_id, key, provider_id, final_provider_id, model, is_success,
               status_code, cost_usd, created_at)
             select n, 1, 'sk-ann', 1, 1, 'sonnet', true, {status}, 0.01, {at} from generate_series({from}, {to}) n"
        )
    };
    // What the statistics count is the exporter's alone.
    store.run("alter table usage_ledger set (autovacuum_enabled = false)").await;
    let spread = format!("now() - interval '1 hour' - interval '90 days' * (1 - n / {rows}.0)");
    store.run(&insert(1, rows, "200", &spread)).await;
    let mut next = rows + 1;
    store.run(&insert(next, next + OPEN - 1, "null", "now()")).await;
    next += OPEN;
    store.run("analyze usage_ledger").await;

    let plan = plan(&store.url, None);
    let mut relay = relay::open(&plan).unwrap();
    let mut follower = reading::follower(&plan);
    read_all(&mut follower).await;
    // The audit after the first read belongs to it.
    follower.refresh().await.unwrap();
    report(&mut follower, &mut relay).await;

    let mut connection = PgConnection::connect(&store.url).await.unwrap();
    let said = follower.rows_read();
    let before = statistics(&mut connection, "usage_ledger").await;
    let of_log = statistics(&mut connection, "message_request").await;
    for _ in 0..REFRESHES {
        store.run(&insert(next, next + NEW_PER_REFRESH - 1, "200", "now()")).await;
        next += NEW_PER_REFRESH;
        assert_eq!(follower.refresh().await.unwrap(), Backlog::Nothing);
        relay.directory.read().await.unwrap();
    }
    report(&mut follower, &mut relay).await;
    let after = statistics(&mut connection, "usage_ledger").await;
    assert_eq!(statistics(&mut connection, "message_request").await, of_log, "the log is not read beside the ledger");
    Cost {
        sequential_scans: after["seq_scan"] - before["seq_scan"],
        rows: after["rows"] - before["rows"],
        pages: after["pages"] - before["pages"],
        said: follower.rows_read() - said,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_refresh_reads_new_rows_open_rows_and_the_overlap_and_nothing_of_the_history() {
    let cost = of_a_ledger("steady", 200_000).await;
    println!("{REFRESHES} refreshes on 200 000 rows: {cost:?}");
    assert_eq!(cost.sequential_scans, 0);
    // One more refresh makes the session report.
    let refreshes = REFRESHES + 1;
    // What has just ended may change for some minutes more.
    let may_change = refreshes * OPEN + NEW_PER_REFRESH * (refreshes * (refreshes + 1) / 2);
    let most = REFRESHES * NEW_PER_REFRESH + refreshes * OVERLAP + may_change;
    assert!(cost.said <= most, "{cost:?}, at most {most}");
    // Besides, both ends of the ledger (its newest id and its first day), which the planner looks at as well.
    assert!(cost.rows <= cost.said + 10 * refreshes, "more was read than was taken: {cost:?}");
    assert!(cost.pages <= cost.rows + REFRESHES * NEW_PER_REFRESH, "{cost:?}");
}
