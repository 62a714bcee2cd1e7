//! A database with a standby: its primary dies, the standby is read, and then written.

use std::time::{Duration, Instant};

use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::Plan;
use sqlx::{Connection, PgConnection};

use super::{Line, PATIENCE, Reader, quick};
use crate::claude_code_hub::{Store, plan};
use crate::process::{Page, Serving, value};
use crate::wait::until;

const NAME: &str = "standby";

pub async fn takes_over() -> Line {
    let mut primary = PrivatePostgres::start().await.unwrap();
    let url = primary.database(NAME).await.unwrap();
    let mut relay = Store::on(url, "v0.9.2").await;
    relay.people().await;
    relay
        .run("create role reader login password 'reader'; grant select on all tables in schema public to reader")
        .await;
    let standby = primary.standby().await.unwrap();
    relay.requests(20, "0 s").await;
    let mut second = PgConnection::connect(&standby.url_of(NAME)).await.unwrap();
    until("the standby follows", async || ledger(&mut second).await == 20).await;

    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let mut plan = plan(&format!("postgres://reader:reader@{hosts}/{NAME}?sslmode=disable"), None);
    plan.name = NAME.to_owned();
    quick(&mut plan);
    // Nothing here waits until numbers are too old.
    plan.stale_after = PATIENCE;
    let relays = [(NAME.to_owned(), plan)].into();
    let exporter = Serving::start(Plan { relays, store: None });
    let mut reader = Reader { exporter, relay: NAME.to_owned(), seen: Page::new() };
    until("it is read", async || reader.counted() >= 20.0).await;

    relay.owner.close().await.unwrap();
    let (died, clock) = (Instant::now(), chrono::Utc::now().timestamp() as f64 + 1.0);
    primary.stop();
    let read_since = |page: &Page, source| {
        let last = value(page, "llm_relay_source_last_success_timestamp_seconds", &[("source", source)]);
        last.is_some_and(|last| last > clock)
    };
    loop {
        assert_eq!(reader.counted(), 20.0, "nothing vanishes");
        let page = reader.read();
        if ["ledger", "directory"].into_iter().all(|source| read_since(&page, source)) {
            break;
        }
        assert!(died.elapsed() < PATIENCE, "the standby is not read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let back = died.elapsed();

    sqlx::query("select pg_promote()").execute(&mut second).await.unwrap();
    let mut relay = Store { owner: second, url: standby.url_of(NAME) };
    relay.requests(20, "0 s").await;
    until("the promoted standby is read", async || reader.counted() >= 40.0).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (taken, counted) = (ledger(&mut relay.owner).await as f64, reader.counted_at_last().await);
    reader.exporter.stop().await;
    Line {
        fault: "the primary dies, the standby is promoted".to_owned(),
        store: "PostgreSQL, two hosts",
        said: "nothing".to_owned(),
        goes_on: "ledger, directory".to_owned(),
        noticed: None,
        back,
        lost: (taken - counted).max(0.0) as u64,
        twice: (counted - taken).max(0.0) as u64,
    }
}

async fn ledger(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from usage_ledger").fetch_one(connection).await.unwrap()
}
