//! The demo's own database and Redis: made in empty ones only, recognised by a marker, never anybody else's.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, Row};

use super::super::least_schema;
use crate::demo::people::{KEYS, Limits, MODELS, PROVIDERS, USERS};

/// The release whose schema the demo has.
const RELEASE: &str = "v0.9.2";
/// The key that marks a Redis of the demo.
const REDIS_MARKER: &str = "llm_relay_demo";

/// What a database is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Ours,
    Empty,
    Foreign,
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<PgPool> {
    const WHAT: &str = "cannot connect to the database of --database-url";
    // A statement that fills a history takes its time.
    let options = url.parse::<PgConnectOptions>().context(WHAT)?.disable_statement_logging();
    // A pool says "timed out" whatever the reason: ask once without it.
    let _ = PgConnection::connect_with(&options).await.context(WHAT)?.close().await;
    let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(Duration::from_secs(5));
    pool.connect_with(options).await.context(WHAT)
}

pub(crate) async fn ownership(pool: &PgPool) -> anyhow::Result<Ownership> {
    let row = sqlx::query(include_str!("sql/find_marker.sql"))
        .fetch_one(pool)
        .await
        .context("cannot look into the database of --database-url")?;
    let (marked, relations): (bool, i64) = (row.try_get("marked")?, row.try_get("relations")?);
    Ok(match (marked, relations) {
        (true, _) => Ownership::Ours,
        (false, 0) => Ownership::Empty,
        (false, _) => Ownership::Foreign,
    })
}

/// Makes an empty database the demo's: marker, schema, cast. All or nothing.
pub(crate) async fn create(pool: &PgPool, zone: Tz, now: DateTime<Utc>) -> anyhow::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::raw_sql(include_str!("sql/create_marker.sql")).execute(&mut *transaction).await.context("the marker")?;
    for script in least_schema(RELEASE) {
        sqlx::raw_sql(script).execute(&mut *transaction).await.context("the relay's schema")?;
    }
    enter_cast(&mut transaction, zone, now).await.context("users, keys and providers")?;
    transaction.commit().await?;
    Ok(())
}

async fn enter_cast(connection: &mut PgConnection, zone: Tz, now: DateTime<Utc>) -> sqlx::Result<()> {
    let days_ago = |days: i64| now - TimeDelta::days(days);
    let founded = days_ago(400);
    for user in USERS {
        let query = sqlx::query(include_str!("sql/insert_user.sql"))
            .bind(user.id)
            .bind(user.name)
            .bind(user.role)
            .bind(user.enabled)
            .bind(founded)
            .bind(user.deleted.map(days_ago))
            .bind(user.cost_reset.map(days_ago))
            .bind(user.rpm)
            .bind(user.expires.map(|days| days_ago(-days)));
        bind_limits(query, &user.limits).execute(&mut *connection).await?;
    }
    for key in KEYS {
        let query = sqlx::query(include_str!("sql/insert_key.sql"))
            .bind(key.id)
            .bind(key.user)
            .bind(key.secret())
            .bind(key.name)
            .bind(key.enabled)
            .bind(founded)
            .bind(key.deleted.then(|| days_ago(60)))
            .bind(key.expires.map(|days| days_ago(-days)));
        bind_limits(query, &key.limits).execute(&mut *connection).await?;
    }
    for provider in PROVIDERS {
        let query = sqlx::query(include_str!("sql/insert_provider.sql"))
            .bind(provider.id)
            .bind(provider.name)
            .bind(provider.kind)
            .bind(provider.group)
            .bind(provider.enabled)
            .bind(Decimal::new(provider.multiplier.into(), 4))
            .bind(founded)
            .bind(provider.deleted.then(|| provider.retired.map(days_ago)).flatten())
            .bind(provider.total_reset.map(days_ago));
        bind_limits(query, &provider.limits).execute(&mut *connection).await?;
    }
    for model in MODELS {
        let Some(price) = model.price else { continue };
        sqlx::query(include_str!("sql/insert_price.sql"))
            .bind(model.name)
            .bind(price.data(model.family).to_string())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(include_str!("sql/insert_settings.sql")).bind(zone.name()).execute(connection).await?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// The limit columns, in the order in which all three tables' statements have them.
fn bind_limits<'q>(query: Query<'q>, limits: &Limits) -> Query<'q> {
    query
        .bind(limits.five_hours)
        .bind(if limits.five_hours_fixed { "fixed" } else { "rolling" })
        .bind(limits.daily)
        .bind(if limits.daily_rolling { "rolling" } else { "fixed" })
        .bind(limits.daily_at)
        .bind(limits.weekly)
        .bind(limits.monthly)
        .bind(limits.total)
        .bind(limits.sessions)
}

/// Connects to a Redis that is the demo's, or makes an empty one it.
///
/// # Errors
/// When it holds anything else.
pub(crate) async fn claim_redis(url: &str) -> anyhow::Result<ConnectionManager> {
    let client = redis::Client::open(url).context("the URL of --redis-url is not one of Redis")?;
    // Fail fast: the traffic must not wait for a Redis that is down.
    let config = ConnectionManagerConfig::new().set_number_of_retries(1).set_max_delay(Duration::from_millis(200));
    let mut connection = ConnectionManager::new_with_config(client, config)
        .await
        .context("cannot connect to the Redis of --redis-url")?;
    let (marked, keys): (bool, u64) =
        redis::pipe().exists(REDIS_MARKER).cmd("DBSIZE").query_async(&mut connection).await?;
    if !marked && keys > 0 {
        bail!(
            "the Redis database of --redis-url holds {keys} keys and is not the demo's own; give an empty one, \
             e.g. another database number"
        );
    }
    redis::cmd("SET").arg(REDIS_MARKER).arg("1").exec_async(&mut connection).await?;
    Ok(connection)
}
