//! A stage with a relay's store of its own, and traffic alone into a store that is given.

use std::any::Any;

use anyhow::{Context, bail};
use chrono::{TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::history::{self, HistoryOptions};
use super::host::Host;
use super::servers::{PrivatePostgres, PrivateRedis, ServerError};
use super::simulator::{self, SimulatorOptions};
use super::store::{self, Ownership};
use super::{claude_relay_service, cpa_manager, gemini_balance};
use crate::relays::claude_relay_service::Offset;

#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    pub history: HistoryOptions,
    pub simulator: SimulatorOptions,
}

/// Where the demo's relay keeps its data.
#[derive(Clone, Debug)]
pub struct Urls {
    /// Empty where the relay keeps everything in Redis.
    pub database_url: SecretString,
    /// `None` when no Redis is installed.
    pub redis_url: Option<SecretString>,
}

impl Urls {
    /// The settings of a relay that these are.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let database = [("database_url", self.database_url.expose_secret())];
        let redis = self.redis_url.iter().map(|url| ("redis_url", url.expose_secret()));
        database.into_iter().chain(redis).filter(|(_, url)| !url.is_empty())
    }
}

/// Private servers with a relay's store that has a history and lives. Nothing is left when it is dropped.
pub struct Stage {
    urls: Urls,
    stop: DropGuard,
    traffic: JoinHandle<()>,
    /// What the store lives in, until the traffic has ended.
    servers: Box<dyn Any + Send>,
}

impl Stage {
    /// A Claude Code Hub. Takes some seconds, most of them for the history. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (the text says how to get it) or a server does not start. A missing Redis is
    /// only told on stderr: the demo then has no live state.
    pub async fn set_up(options: DemoOptions) -> anyhow::Result<Self> {
        let postgres = PrivatePostgres::start().await?;
        let redis = match PrivateRedis::start().await {
            Ok(redis) => Some(redis),
            Err(missing @ ServerError::RedisMissing) => {
                eprintln!("no live state in this demo: {missing}");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let database = postgres.database("claude_code_hub").await?;
        let urls = Urls { database_url: database.into(), redis_url: redis.as_ref().map(|redis| redis.url().into()) };
        let stop = CancellationToken::new();
        let simulate =
            SimulateOptions { urls: urls.clone(), init: true, history: options.history, simulator: options.simulator };
        let source = prepare(&simulate).await?;
        let traffic = source.run(simulate.simulator, stop.clone());
        Ok(Self::live(urls, traffic, stop, (postgres, redis)))
    }

    /// A CPA-Manager-Plus: one SQLite file in a temporary directory, on any machine. Otherwise like [`Self::set_up`].
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub async fn cpa_manager(options: DemoOptions) -> anyhow::Result<Self> {
        options.simulator.check()?;
        let host = Host::new("TERM", "KILL").context("the demo's SQLite file has no place to be")?;
        let path = cpa_manager::path(host.path());
        let file = cpa_manager::create(&path, &options.history).await?;
        let urls = Urls { database_url: format!("sqlite:{}", path.display()).into(), redis_url: None };
        let stop = CancellationToken::new();
        Ok(Self::live(urls, cpa_manager::run(file, options.simulator, stop.clone()), stop, host))
    }

    /// A claude-relay-service: a private Redis. Dropping the future leaves nothing behind.
    ///
    /// # Errors
    /// When Redis is not installed (the text says how to get it) or does not start.
    pub async fn claude_relay_service(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Self> {
        simulator.check()?;
        let redis = PrivateRedis::start().await?;
        let options = claude_relay_service::Options {
            days: history.days,
            requests_per_day: history.requests_per_day,
            rate: simulator.rate,
            seed: history.seed,
            offset: Offset::default(),
        };
        let mut connection = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
        claude_relay_service::fill(&mut connection, &options).await?;
        let urls = Urls { database_url: "".into(), redis_url: Some(redis.url().into()) };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let traffic = async move {
            claude_relay_service::run(&mut connection, &options, stopped).await;
            Ok(())
        };
        Ok(Self::live(urls, traffic, stop, redis))
    }

    /// A gemini-balance: one SQLite file in a temporary directory, on any machine.
    ///
    /// # Errors
    /// When there is no place for temporary files.
    pub async fn gemini_balance(DemoOptions { history, simulator }: DemoOptions) -> anyhow::Result<Self> {
        simulator.check()?;
        let host = Host::new("TERM", "KILL").context("the demo's SQLite file has no place to be")?;
        let url = format!("sqlite:{}", host.path().join("default_db").display());
        let mut relay = gemini_balance::Simulator::create(&url, history.zone, history.seed).await?;
        let since = Utc::now() - TimeDelta::days(i64::from(history.days));
        relay.fill(since, f64::from(history.requests_per_day)).await?;
        let urls = Urls { database_url: url.into(), redis_url: None };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let traffic = async move {
            let live = relay.live(60.0 * simulator.rate);
            stopped.run_until_cancelled(live).await.unwrap_or(Ok(())).map_err(Into::into)
        };
        Ok(Self::live(urls, traffic, stop, host))
    }

    fn live(
        urls: Urls,
        traffic: impl Future<Output = anyhow::Result<()>> + Send + 'static,
        stop: CancellationToken,
        servers: impl Any + Send,
    ) -> Self {
        let traffic = tokio::spawn(async move {
            if let Err(error) = traffic.await {
                tracing::error!("the demo's traffic has ended: {error:#}");
            }
        });
        Self { urls, stop: stop.drop_guard(), traffic, servers: Box::new(servers) }
    }

    /// Connection strings, ready for a [`crate::settings::RelayPlan`].
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// Ends the traffic and the servers and removes their directories.
    pub async fn tear_down(self) {
        drop(self.stop);
        // Even if it has panicked, the servers go.
        let _ = self.traffic.await;
        drop(self.servers);
    }
}

#[derive(Clone, Debug)]
pub struct SimulateOptions {
    pub urls: Urls,
    /// Make an empty database the demo's own: marker, schema, people, providers and [`Self::history`].
    pub init: bool,
    /// Used with `init`; no history with 0 days.
    pub history: HistoryOptions,
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
    history::fill(&mut *pool.acquire().await?, history).await.context("cannot write the history")?;
    Ok(())
}
