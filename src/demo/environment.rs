//! A relay's store of the demo's own, alive.

use std::any::Any;

use secrecy::{ExposeSecret, SecretString};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clients::SimulatorOptions;
use super::history::HistoryOptions;

/// What a demo writes: first a past, then live traffic.
#[derive(Clone, Debug, Default)]
pub struct DemoOptions {
    /// The past.
    pub history: HistoryOptions,
    /// What comes after it.
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
pub struct Environment {
    urls: Urls,
    stop: DropGuard,
    traffic: JoinHandle<()>,
    /// What the store lives in, until the traffic has ended.
    servers: Box<dyn Any + Send>,
}

impl Environment {
    /// With traffic that runs until the stage is torn down, and what its store lives in.
    pub(crate) fn live(
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

    /// The same, with traffic that does not end by itself and may be ended at any moment.
    pub(crate) fn until_stopped<E: Into<anyhow::Error>>(
        urls: Urls,
        traffic: impl Future<Output = Result<(), E>> + Send + 'static,
        servers: impl Any + Send,
    ) -> Self {
        let stop = CancellationToken::new();
        let live = stop.clone().run_until_cancelled_owned(traffic);
        Self::live(urls, async { live.await.unwrap_or(Ok(())).map_err(Into::into) }, stop, servers)
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
