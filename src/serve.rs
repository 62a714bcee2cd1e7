//! The exporter at work: relays polled, the page rendered when a number has changed, scrapes answered from it.

mod relay_set;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::relay_set::RelaySet;
use crate::exporter_info::ExporterInfo;
use crate::http;
use crate::http::Paths;
use crate::page::{Page, Shared};
use crate::poll::ViewRegistry;
use crate::reload::{Outcome, Reload, Reloader, Requests};
use crate::settings::Plan;
use crate::view::View;
use crate::web::Protection;

/// How often the views are looked at even when nothing was read: what has become stale disappears.
const LOOK: Duration = Duration::from_secs(1);
/// A page is made anew after so long whatever happens, for what the exporter tells about itself.
const LONGEST_PAGE_AGE: Duration = Duration::from_secs(10);
/// Refreshes that end so close together share one page.
const SETTLING: Duration = Duration::from_millis(50);

/// How the configuration changes while the exporter serves.
pub struct Reloads {
    /// Reads and checks the configuration. The text of an error shows no value of it.
    pub read: Box<dyn Fn() -> Result<Plan, String> + Send + Sync>,
    /// Who asks for it.
    pub requests: Requests,
    /// Also asks on `POST /-/reload`; without it, that is refused.
    pub over_http: Option<Reloader>,
}

/// Serves the plan's relays on the listener until `shutdown`, then drains.
///
/// # Errors
/// When a relay cannot be opened (its store need not be reachable), the exporter's own store is not its own or is
/// damaged, or the listener fails.
pub async fn run(
    plan: &Plan,
    listener: TcpListener,
    paths: impl Into<Paths>,
    protection: Arc<Protection>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    run_with(plan, None, vec![listener], paths.into(), protection, shutdown).await
}

/// [`run`] on several listeners, with a configuration that may change meanwhile.
///
/// # Errors
/// The same. A changed configuration that cannot be used is none: the last good one stays in force.
pub async fn run_with(
    plan: &Plan,
    reloads: Option<Reloads>,
    listeners: Vec<TcpListener>,
    paths: Paths,
    protection: Arc<Protection>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let registry = Arc::new(ViewRegistry::default());
    let relay_set = RelaySet::start(plan.clone(), registry.clone()).await?;
    let publisher = Arc::new(PagePublisher {
        registry,
        page: Shared::new(Page::new(Vec::new(), ExporterInfo::default())),
        protection: protection.clone(),
        config: reloads.as_ref().map(|_| ArcSwap::from_pointee(Reload::now())),
        renewing: Mutex::default(),
    });
    publisher.renew();
    let state = http::State {
        page: publisher.page.clone(),
        paths: paths.clone(),
        protection,
        reload: reloads.as_ref().and_then(|reloads| reloads.over_http.clone()),
    };
    let tasks = TaskTracker::new();
    let (stop, shown) = (shutdown.clone(), publisher.clone());
    tasks.spawn(stop.run_until_cancelled_owned(shown.keep_renewing()));
    let stop = shutdown.clone();
    tasks.spawn(async move {
        let mut relay_set = relay_set;
        match reloads {
            Some(reloads) => keep_reloading(&mut relay_set, reloads, &publisher, &stop).await,
            None => stop.cancelled().await,
        }
        relay_set.stop().await;
    });
    tasks.close();
    for address in listeners.iter().filter_map(|it| it.local_addr().ok()) {
        tracing::info!(%address, path = paths.metrics(), "listening");
    }
    let served = http::run(listeners, state, shutdown.clone()).await;
    // The server may have failed on its own: then everything else ends with it.
    shutdown.cancel();
    tasks.wait().await;
    served
}

/// What is shown, rendered.
struct PagePublisher {
    registry: Arc<ViewRegistry>,
    page: Shared,
    protection: Arc<Protection>,
    /// `None` where the configuration does not change.
    config: Option<ArcSwap<Reload>>,
    /// An older rendering must not replace a newer one.
    renewing: Mutex<()>,
}

impl PagePublisher {
    fn renew(&self) {
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let own = ExporterInfo {
            config: self.config.as_ref().map(|config| **config.load()),
            web_config: self.protection.last_reload(),
            ..ExporterInfo::read()
        };
        self.page.publish(Page::new(self.registry.views(), own));
    }

    async fn keep_renewing(self: Arc<Self>) {
        let mut renewed = Instant::now();
        loop {
            let changed = tokio::time::timeout(LOOK, self.registry.changed()).await.is_ok();
            if changed {
                tokio::time::sleep(SETTLING).await;
                // Whatever has changed meanwhile will be on the same page.
                self.registry.changed().now_or_never();
            }
            let stale = || present(&self.registry.views()) != present(&self.page.current().views);
            if changed || renewed.elapsed() >= LONGEST_PAGE_AGE || stale() {
                renewed = Instant::now();
                let publisher = self.clone();
                // Aside: on a machine with one core, scrapes are answered meanwhile.
                tokio::task::spawn_blocking(move || publisher.renew()).await.ok();
            }
        }
    }

    fn note_reload(&self, outcome: &Outcome) {
        if let Some(config) = &self.config {
            config.store(Arc::new(match outcome {
                Ok(()) => Reload::now(),
                Err(_) => config.load().failed(),
            }));
        }
        self.renew();
    }
}

/// Which parts of each relay are there.
fn present(views: &[View]) -> Vec<[bool; 3]> {
    views.iter().map(|view| [view.ledger.is_some(), view.live.is_some(), view.directory.is_some()]).collect()
}

/// Answers requests until `shutdown`; a change that has begun is finished.
async fn keep_reloading(
    relay_set: &mut RelaySet,
    reloads: Reloads,
    publisher: &PagePublisher,
    shutdown: &CancellationToken,
) {
    let Reloads { read, mut requests, over_http: _ } = reloads;
    let read = Arc::from(read);
    while let Some(request) = shutdown.run_until_cancelled(requests.next()).await {
        let outcome = reload(relay_set, &read).await;
        if let Err(problem) = &outcome {
            tracing::error!("the configuration was not changed: {problem}");
        }
        publisher.note_reload(&outcome);
        // Whoever asked may have gone.
        request.send(outcome).ok();
    }
}

async fn reload(relay_set: &mut RelaySet, read: &Arc<dyn Fn() -> Result<Plan, String> + Send + Sync>) -> Outcome {
    let read = read.clone();
    // Files may lie on a network.
    let plan = tokio::task::spawn_blocking(move || read()).await.map_err(|error| error.to_string())??;
    let changes = relay_set.change(plan).await.context("it cannot be used").map_err(|error| format!("{error:#}"))?;
    tracing::info!(
        added = changes.added.join(","),
        changed = changes.changed.join(","),
        removed = changes.removed.join(","),
        unchanged = changes.unchanged,
        "the configuration was read again"
    );
    Ok(())
}
