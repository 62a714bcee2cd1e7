//! A Claude Code Hub of the demo's own, and traffic alone into one that is given.
//!
//! `rows` writes the past in bulk, `simulator` live traffic as the relay writes it, `live` its Redis; `store` tells the
//! demo's own database from any other.

mod live;
mod rows;
mod simulator;
mod store;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use self::store::Ownership;
use crate::demo::{DemoOptions, Environment, HistoryOptions, SimulatorOptions, Urls};
use crate::servers::{PrivatePostgres, PrivateRedis};

/// A Claude Code Hub. Takes some seconds, most of them for the history. Dropping the future leaves nothing behind.
///
/// # Errors
/// When PostgreSQL is not installed (the text says how to get it) or a server does not start. A missing Redis is
/// only told on stderr: the demo then has no live state.
pub(crate) async fn set_up(options: DemoOptions) -> anyhow::Result<Environment> {
    let postgres = PrivatePostgres::start().await?;
    let redis = PrivateRedis::start_if_installed("no live state").await?;
    let database = postgres.database("claude_code_hub").await?;
    let urls = Urls { database_url: database.into(), redis_url: redis.as_ref().map(|redis| redis.url().into()) };
    let stop = CancellationToken::new();
    let simulate =
        SimulateOptions { urls: urls.clone(), init: true, history: options.history, simulator: options.simulator };
    let source = prepare(&simulate).await?;
    let traffic = source.run(simulate.simulator, stop.clone());
    Ok(Environment::live(urls, traffic, stop, (postgres, redis)))
}

/// Where live traffic is written to, and how it comes.
#[derive(Clone, Debug)]
pub struct SimulateOptions {
    /// The database, and the Redis if there is one.
    pub urls: Urls,
    /// Make an empty database the demo's own: marker, schema, people, providers and [`Self::history`].
    pub init: bool,
    /// Used with `init`; no history with 0 days.
    pub history: HistoryOptions,
    /// The live traffic.
    pub simulator: SimulatorOptions,
}

/// Writes live traffic until `stop`, into a database that the demo has made, and never into another one.
///
/// # Errors
/// When the database or the Redis is not the demo's own, or cannot be reached.
pub async fn simulate(options: SimulateOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let Some(source) = stop.run_until_cancelled(prepare(&options)).await else { return Ok(()) };
    source?.run(options.simulator, stop).await
}

/// The stores, opened and found to be ours.
struct Source {
    pool: sqlx::PgPool,
    redis: Option<redis::aio::ConnectionManager>,
}

impl Source {
    async fn run(self, options: SimulatorOptions, stop: CancellationToken) -> anyhow::Result<()> {
        simulator::run(&self.pool, self.redis, &options, stop).await?;
        self.pool.close().await;
        Ok(())
    }
}

async fn prepare(options: &SimulateOptions) -> anyhow::Result<Source> {
    options.simulator.check()?;
    let pool = store::connect(options.urls.database_url.expose_secret()).await?;
    let ownership = store::ownership(&pool).await?;
    match (ownership, options.init) {
        (Ownership::Ours, _) | (Ownership::Empty, true) => {}
        (Ownership::Empty, false) => bail!("the database of --database-url is empty; --init makes it a demo relay's"),
        (Ownership::Foreign, _) => bail!(NOT_OURS),
    }
    let redis = match &options.urls.redis_url {
        Some(url) => Some(store::claim_redis(url.expose_secret()).await?),
        None => None,
    };
    if ownership == Ownership::Empty {
        fill(&pool, &options.history).await?;
    }
    Ok(Source { pool, redis })
}

const NOT_OURS: &str = "the database of --database-url is not the demo's own (it has tables, but not llm_relay_demo); \
                        simulate writes invented requests and needs an empty database and --init";

/// Makes an empty database a demo relay's, with a history (none with 0 days) and nothing alive.
///
/// # Errors
/// When the database is not empty, or cannot be reached.
pub async fn create(database_url: &SecretString, history: &HistoryOptions) -> anyhow::Result<()> {
    let pool = store::connect(database_url.expose_secret()).await?;
    if store::ownership(&pool).await? != Ownership::Empty {
        bail!("the database is not empty");
    }
    fill(&pool, history).await?;
    pool.close().await;
    Ok(())
}

async fn fill(pool: &sqlx::PgPool, history: &HistoryOptions) -> anyhow::Result<()> {
    store::create(pool, history.zone, history.until).await.context("cannot make the demo's schema")?;
    rows::fill(&mut *pool.acquire().await?, history).await.context("cannot write the history")?;
    Ok(())
}
