//! Ten requests of two people, and one more every second.

use std::time::Duration;

use chrono::Utc;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

use crate::demo::{DemoOptions, Environment, Urls};
use crate::servers::host::Host;

pub(super) async fn set_up(_: DemoOptions) -> anyhow::Result<Environment> {
    let host = Host::new("TERM", "KILL")?;
    let path = host.path().join("stub.sqlite");
    let mut file = SqliteConnectOptions::new().filename(&path).create_if_missing(true).connect().await?;
    sqlx::raw_sql(include_str!("least_schema.sql")).execute(&mut file).await?;
    for n in 0..10 {
        add(&mut file, n).await?;
    }
    let urls = Urls { database_url: format!("sqlite:{}", path.display()).into(), redis_url: None };
    let traffic = async move {
        for n in 10.. {
            tokio::time::sleep(Duration::from_secs(1)).await;
            add(&mut file, n).await?;
        }
        Ok::<_, sqlx::Error>(())
    };
    Ok(Environment::until_stopped(urls, traffic, host))
}

async fn add(file: &mut SqliteConnection, n: i64) -> sqlx::Result<()> {
    let user = if n % 2 == 0 { "alice" } else { "bob" };
    let request = sqlx::query(include_str!("request.sql")).bind(user).bind("model-a").bind(100).bind(0.25);
    request.bind(Utc::now().timestamp_millis()).execute(file).await.map(drop)
}
