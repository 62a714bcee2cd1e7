//! The exporter at work: relays polled, the page rendered when a number has changed, scrapes answered from it.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::follow::Follower;
use crate::http;
use crate::own::Own;
use crate::page::{self, Shared};
use crate::poll::{self, Hub, Subject};
use crate::relays::{self, Relay, Usage};
use crate::settings::{Plan, RelayPlan};
use crate::store::{Owner, Saving, Store};
use crate::view::View;
use crate::web::Protection;

/// How often the views are looked at even when nothing was read: what has become stale disappears.
const LOOK: Duration = Duration::from_secs(1);
/// A page is rendered again after so long whatever happens, for what the exporter tells about itself.
const LONGEST_PAGE_AGE: Duration = Duration::from_secs(5);
/// Refreshes that end close together share one rendering.
const SHORTEST_PAGE_AGE: Duration = Duration::from_millis(100);

/// Serves the plan's relays on the listener until `shutdown`, then drains.
///
/// # Errors
/// When a relay cannot be opened (its store need not be reachable), the exporter's own store is not its own or is
/// damaged, or the listener fails.
pub async fn run(
    plan: &Plan,
    listener: TcpListener,
    telemetry_path: &str,
    protection: Arc<Protection>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let store = plan.store.as_ref().map(Store::open).transpose()?;
    let mut subjects = Vec::new();
    for plan in plan.relays.values() {
        subjects.push(subject(plan, store.as_ref()).await?);
    }
    let tasks = TaskTracker::new();
    let hub = Hub::start(subjects, &tasks, &shutdown);
    let views = hub.views();
    let page = Shared::new(page::render(&views, &own(&protection)));
    let state = http::State {
        page: page.clone(),
        views: Arc::new(ArcSwap::from_pointee(views)),
        telemetry_path: telemetry_path.into(),
        protection: protection.clone(),
    };
    let (stop, shown) = (shutdown.clone(), state.views.clone());
    tasks.spawn(async move { stop.run_until_cancelled(keep_rendering(&hub, &page, &shown, &protection)).await });
    tasks.close();
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, path = telemetry_path, "listening");
    }
    let served = http::run(listener, state, shutdown.clone()).await;
    // The server may have failed on its own: then everything else ends with it.
    shutdown.cancel();
    tasks.wait().await;
    if let Some(store) = store {
        store.close().await;
    }
    served
}

async fn subject(plan: &RelayPlan, store: Option<&Store>) -> anyhow::Result<Subject> {
    let Relay { usage, live, directory } = relays::open(plan)?;
    let usage = match usage {
        Usage::Rows(ledger) => {
            let mut follower = Follower::new(ledger, plan);
            let saving = match store {
                Some(store) => Some(Saving::start(store.clone(), Owner::of(plan), &mut follower).await?),
                None => None,
            };
            poll::Usage::Rows(Box::new(follower), saving)
        }
        // Its totals outlive a restart in the relay's own store.
        Usage::Counters(counters) => poll::Usage::Counters(counters),
    };
    Ok(Subject { plan: plan.clone(), usage, live, directory })
}

fn own(protection: &Protection) -> Own {
    Own { web_config: protection.last_reload(), ..Own::read() }
}

async fn keep_rendering(hub: &Hub, page: &Shared, shown: &ArcSwap<Vec<View>>, protection: &Protection) {
    let mut rendered = Instant::now();
    loop {
        let changed = tokio::time::timeout(LOOK, hub.changed()).await.is_ok();
        let views = hub.views();
        if changed || present(&views) != present(&shown.load()) || rendered.elapsed() >= LONGEST_PAGE_AGE {
            rendered = Instant::now();
            page.publish(page::render(&views, &own(protection)));
            shown.store(Arc::new(views));
        }
        tokio::time::sleep(SHORTEST_PAGE_AGE).await;
    }
}

/// Which parts of each relay are there.
fn present(views: &[View]) -> Vec<[bool; 3]> {
    views.iter().map(|view| [view.ledger.is_some(), view.live.is_some(), view.directory.is_some()]).collect()
}
