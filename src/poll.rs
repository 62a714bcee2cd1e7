//! When to read. Each part of each relay has a task and a timer of its own: one refresh in flight per part, back-off
//! with jitter after a failure, and numbers that disappear when they can no longer be renewed.

mod part;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::follow::{Backlog, CounterFollower, Follower};
use crate::log;
use crate::model::{Directory, Live, ReadError, Source};
use crate::probe::Probes;
use crate::relay::plan::RelayPlan;
use crate::relay::{DirectorySource, LiveState, fault, within};
use crate::store::{Checkpointer, Kept};
use crate::tally::Presentation;
use crate::view::{LedgerView, StoreStatus, View};
use part::Part;

/// What [`RelayPlan::history_budget`] is a part of.
const BUDGET_PERIOD: Duration = Duration::from_secs(60);
/// How often the progress of the history is logged.
const PROGRESS_LOG: Duration = Duration::from_secs(10);

/// Everything that is known about the relays that are shown.
#[derive(Default)]
pub(crate) struct ViewRegistry {
    shown: ArcSwap<Vec<Arc<Parts>>>,
    changed: Arc<Notify>,
}

/// One relay, ready to be polled.
pub(crate) struct Subject {
    pub plan: RelayPlan,
    pub usage: Usage,
    pub live: Option<Box<dyn LiveState>>,
    pub directory: Box<dyn DirectorySource>,
}

/// How a relay's usage is read, and what has been made of it.
pub(crate) enum Usage {
    Rows(Box<Follower>, Option<Checkpointer>),
    Counters(Box<CounterFollower>, Option<Checkpointer>),
}

impl Usage {
    /// How its saving goes; `None` without a store.
    pub(crate) fn store(&self) -> Option<StoreStatus> {
        let (Self::Rows(_, checkpointer) | Self::Counters(_, checkpointer)) = self;
        checkpointer.as_ref().map(Checkpointer::status)
    }
}

/// The tasks of one relay, and what they know.
pub(crate) struct Poller {
    parts: Arc<Parts>,
    stop: CancellationToken,
    /// Of the directory, of the live state and of the probe.
    others: TaskTracker,
    usage: JoinHandle<Usage>,
}

struct Parts {
    plan: RelayPlan,
    /// `None` without a store.
    store: Option<Mutex<StoreStatus>>,
    ledger: Arc<Part<LedgerView>>,
    live: Option<Arc<Part<Live>>>,
    directory: Arc<Part<Directory>>,
    /// `None` where no health address is configured.
    probes: Option<Arc<Probes>>,
}

impl ViewRegistry {
    /// Shows these relays from now on, and no others.
    pub(crate) fn show<'a>(&self, pollers: impl IntoIterator<Item = &'a Poller>) {
        self.shown.store(Arc::new(pollers.into_iter().map(|poller| poller.parts.clone()).collect()));
        self.changed.notify_one();
    }

    /// The present numbers; what is older than `stale_after` is absent.
    pub(crate) fn views(&self) -> Vec<View> {
        self.shown.load().iter().map(|parts| parts.view()).collect()
    }

    /// Waits until some number may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Poller {
    /// Starts the tasks of a relay. With the settings that it had before, its data and counts go on.
    pub(crate) fn start(subject: Subject, before: Option<&Self>, registry: &ViewRegistry) -> Self {
        let Subject { plan, usage, live, directory } = subject;
        let before = before.map(|poller| &*poller.parts);
        let parts = Arc::new(Parts {
            store: usage.store().map(Mutex::new),
            ledger: before.map_or_else(|| Part::new(Source::Ledger), |parts| parts.ledger.clone()),
            live: live
                .as_ref()
                .map(|_| before.and_then(|parts| parts.live.clone()).unwrap_or_else(|| Part::new(Source::Live))),
            directory: before.map_or_else(|| Part::new(Source::Directory), |parts| parts.directory.clone()),
            probes: plan.health.url.as_ref().map(|_| before.and_then(|parts| parts.probes.clone()).unwrap_or_default()),
            plan,
        });
        let (stop, others, span) = (CancellationToken::new(), TaskTracker::new(), log::relay_span(&parts.plan.name));
        let (ends, it, tell) = (stop.clone(), parts.clone(), registry.changed.clone());
        let reading = async move { ends.run_until_cancelled(poll_directory(&it, directory, &tell)).await };
        others.spawn(reading.instrument(span.clone()));
        if let (Some(source), Some(part)) = (live, parts.live.clone()) {
            let (ends, it, tell) = (stop.clone(), parts.clone(), registry.changed.clone());
            let reading = async move { ends.run_until_cancelled(poll_live(&it, &part, source, &tell)).await };
            others.spawn(reading.instrument(span.clone()));
        }
        if let (Some(target), Some(probes)) = (parts.plan.health.target(), parts.probes.clone()) {
            let (ends, it, tell) = (stop.clone(), parts.clone(), registry.changed.clone());
            let probing = async move { probes.keep(&target, it.plan.health.interval, &tell).await };
            others.spawn(async move { ends.run_until_cancelled(probing).await }.instrument(span.clone()));
        }
        others.close();
        let (ends, it, tell) = (stop.clone(), parts.clone(), registry.changed.clone());
        let following = async move {
            let mut usage = usage;
            // Wherever it is interrupted, what has been made of the rows fits together.
            let polling = async {
                match &mut usage {
                    Usage::Rows(follower, checkpointer) => {
                        poll_ledger(&it, follower, checkpointer.as_mut(), &tell).await;
                    }
                    Usage::Counters(counter_follower, checkpointer) => {
                        poll_counters(&it, counter_follower, checkpointer.as_mut(), &tell).await;
                    }
                }
            };
            ends.run_until_cancelled(polling).await;
            usage
        };
        let usage = tokio::spawn(following.instrument(span));
        Self { parts, stop, others, usage }
    }

    /// Tells the tasks to end, in the middle of a read if need be.
    pub(crate) fn cancel(&self) {
        self.stop.cancel();
    }

    /// Ends the tasks; gives back what they have made of the usage.
    pub(crate) async fn stop(&mut self) -> Option<Usage> {
        self.cancel();
        self.others.wait().await;
        (&mut self.usage).await.ok()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Parts {
    fn view(&self) -> View {
        let stale_after = self.plan.stale_after;
        let mut sources = vec![self.ledger.status(stale_after)];
        sources.extend(self.live.iter().map(|live| live.status(stale_after)));
        sources.push(self.directory.status(self.directory_stale_after()));
        View {
            relay: self.plan.name.as_str().into(),
            kind: self.plan.product.label,
            names: self.plan.boards.names,
            ledger: self.ledger.fresh(stale_after),
            live: self.live(),
            directory: self.directory(),
            sources,
            probe: self.probes.as_ref().map(|probes| probes.status()),
            store: self.store.as_ref().map(|status| *status.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The directory is read more rarely, so it may be older.
    fn directory_stale_after(&self) -> Duration {
        self.plan.stale_after.max(3 * self.plan.directory_interval)
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.live.as_ref()?.fresh(self.plan.stale_after)
    }

    fn directory(&self) -> Option<Arc<Directory>> {
        self.directory.fresh(self.directory_stale_after())
    }
}

async fn poll_directory(parts: &Parts, mut source: Box<dyn DirectorySource>, changed: &Notify) {
    let (plan, part) = (&parts.plan, &parts.directory);
    let mut rows_read = part.progress(|progress| progress.rows_read);
    loop {
        let began = Instant::now();
        let outcome = within(plan.timeout, source.read()).await.map(|directory| {
            rows_read += (directory.users.len() + directory.keys.len() + directory.providers.len()) as u64;
            // One that says the same is the same: what has been made of it holds.
            let before = part.last().filter(|before| **before == directory);
            part.publish(before.unwrap_or_else(|| Arc::new(directory)));
            rows_read
        });
        part.note(began, outcome);
        changed.notify_one();
        part.rest(began, plan.directory_interval).await;
    }
}

async fn poll_live(parts: &Parts, part: &Part<Live>, mut source: Box<dyn LiveState>, changed: &Notify) {
    let plan = &parts.plan;
    let mut rows_read = part.progress(|progress| progress.rows_read);
    loop {
        let began = Instant::now();
        // Without a directory nobody knows which keys to read; that is the directory's failure, not this source's.
        // One that is too old to be shown still tells that.
        let Some(directory) = parts.directory.last() else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let outcome = within(plan.timeout, source.read(&directory)).await.map(|live| {
            rows_read += [&live.slots_used, &live.user_sessions, &live.key_sessions]
                .into_iter()
                .flatten()
                .map(|entities| entities.len() as u64)
                .sum::<u64>();
            part.publish(live);
            rows_read
        });
        part.note(began, outcome);
        changed.notify_one();
        part.rest(began, plan.interval).await;
    }
}

async fn poll_ledger(
    parts: &Parts,
    follower: &mut Follower,
    mut checkpointer: Option<&mut Checkpointer>,
    changed: &Notify,
) {
    let (plan, part) = (&parts.plan, &parts.ledger);
    let mut history = History::default();
    loop {
        let began = Instant::now();
        let mut outcome = follower.refresh().await;
        // After a start the ledger may be faster: without names the boards would be absent until the next refresh.
        parts.directory.tried.wait().await;
        // What is due now: the rest of the new rows, and today's and yesterday's. Each is a bounded step.
        while let Ok(rest @ (Backlog::NewRows | Backlog::RecentHistory)) = outcome {
            if rest == Backlog::NewRows {
                // Numbers without the newest rows would be too low: after a pause there may be many.
                outcome = follower.refresh().await;
            } else {
                outcome = match publish_ledger(parts, follower, changed) {
                    Ok(()) => {
                        part.note_progress();
                        follower.read_history().await
                    }
                    Err(error) => Err(error),
                };
            }
            save(parts, follower, checkpointer.as_deref_mut(), outcome.is_ok()).await;
        }
        let mut history_waits = matches!(outcome, Ok(Backlog::History));
        if outcome.is_ok()
            && let Err(error) = publish_ledger(parts, follower, changed)
        {
            outcome = Err(error);
        }
        part.progress(|progress| progress.statements = follower.statements());
        let reads = outcome.is_ok();
        part.note(began, outcome.map(|_| follower.rows_read()));
        save(parts, follower, checkpointer.as_deref_mut(), reads).await;
        changed.notify_one();

        let next = began + plan.interval;
        while history_waits && history.due() < next {
            tokio::time::sleep_until(history.due().into()).await;
            let slice = Instant::now();
            let outcome = follower.read_history().await;
            history.note(plan, slice.elapsed(), follower);
            history_waits = matches!(outcome, Ok(Backlog::History));
            let outcome = match outcome {
                Ok(Backlog::History) => Ok(()),
                Ok(_) => publish_ledger(parts, follower, changed),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                part.note(slice, Err(error));
            }
        }
        part.rest(began, plan.interval).await;
    }
}

async fn poll_counters(
    parts: &Parts,
    counter_follower: &mut CounterFollower,
    mut checkpointer: Option<&mut Checkpointer>,
    changed: &Notify,
) {
    let (plan, part) = (&parts.plan, &parts.ledger);
    loop {
        let began = Instant::now();
        // As for live state: without a directory nobody knows what to read.
        let Some(directory) = parts.directory.last() else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        let outcome = within(plan.timeout, counter_follower.refresh(&directory)).await.and_then(|()| {
            publish(parts, |with| counter_follower.view(with), changed)?;
            Ok(counter_follower.read())
        });
        let reads = outcome.is_ok();
        part.note(began, outcome);
        save(parts, counter_follower, checkpointer.as_deref_mut(), reads).await;
        changed.notify_one();
        part.rest(began, plan.interval).await;
    }
}

/// The reading of older history: in slices, with rests between them that keep it within its budget.
#[derive(Default)]
struct History {
    /// When the next slice may be read.
    due: Option<Instant>,
    logged: Option<Logged>,
}

/// How far it was when it was logged last, and when.
struct Logged {
    at: Instant,
    loaded: f64,
}

impl History {
    fn due(&self) -> Instant {
        self.due.unwrap_or_else(Instant::now)
    }

    /// A slice took so long: the time at the client, which is a little more than the database's own.
    fn note(&mut self, plan: &RelayPlan, took: Duration, follower: &Follower) {
        let now = Instant::now();
        let rest = BUDGET_PERIOD.as_secs_f64() / plan.history_budget.as_secs_f64() - 1.0;
        self.due = Some(now + took.mul_f64(rest.max(0.0)));
        let loaded = follower.history_loaded();
        let Some(before) = &self.logged else {
            tracing::info!(loaded = format!("{loaded:.3}"), "reading the ledger's history");
            self.logged = Some(Logged { at: now, loaded });
            return;
        };
        let (since, gain) = (now - before.at, loaded - before.loaded);
        if since >= PROGRESS_LOG && gain > 0.0 {
            let seconds = since.as_secs_f64() * (1.0 - loaded) / gain;
            let remaining = humantime::format_duration(Duration::from_secs(seconds as u64)).to_string();
            let (loaded_text, rows) = (format!("{loaded:.3}"), follower.rows_read());
            tracing::info!(loaded = loaded_text, rows, remaining, "reading the ledger's history");
            self.logged = Some(Logged { at: now, loaded });
        }
    }
}

async fn save(parts: &Parts, kept: &mut dyn Kept, checkpointer: Option<&mut Checkpointer>, reads: bool) {
    if let (Some(checkpointer), Some(status)) = (checkpointer, &parts.store) {
        checkpointer.tick(kept, reads).await;
        *status.lock().unwrap_or_else(PoisonError::into_inner) = checkpointer.status();
    }
}

fn publish_ledger(parts: &Parts, follower: &mut Follower, changed: &Notify) -> Result<(), ReadError> {
    publish(parts, |with| follower.view(with), changed)
}

fn publish(
    parts: &Parts,
    view: impl FnOnce(&Presentation<'_>) -> Option<LedgerView>,
    changed: &Notify,
) -> Result<(), ReadError> {
    let directory = parts.directory();
    let live = parts.live();
    let with = Presentation {
        directory: directory.as_deref(),
        live: live.as_deref(),
        boards: &parts.plan.boards,
        series: &parts.plan.series,
    };
    // As in a read: a panic would otherwise be the end of this part's task.
    let view = catch_unwind(AssertUnwindSafe(|| view(&with))).map_err(|_| fault())?;
    if let Some(mut view) = view {
        // Without the store they may be too low, and would jump when it is back.
        if parts.store.as_ref().is_some_and(|status| !status.lock().unwrap_or_else(PoisonError::into_inner).restored) {
            view.counters = None;
        }
        if let Some(before) = parts.ledger.last() {
            view.share(&before);
        }
        parts.ledger.publish(view);
        changed.notify_one();
    }
    Ok(())
}
