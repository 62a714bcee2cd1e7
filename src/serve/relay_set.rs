//! The relays that are polled, and the change from one plan to the next: checked and opened as a whole, then switched.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use secrecy::ExposeSecret;
use tracing::Instrument;

use crate::follow::{CounterFollower, Follower};
use crate::log;
use crate::poll::{Poller, Subject, Usage, ViewRegistry};
use crate::relay::plan::RelayPlan;
use crate::relay::{self, Relay};
use crate::settings::Plan;
use crate::store::StorePlan;
use crate::store::{Checkpointer, Kept, Owner, Store, StoreError};

pub(crate) struct RelaySet {
    plan: Plan,
    store: Option<Store>,
    pollers: BTreeMap<String, Poller>,
    registry: Arc<ViewRegistry>,
}

/// What a new plan meant, by names of relays.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    pub unchanged: usize,
}

/// A relay that has been opened; everything that can be refused has been asked.
enum Opened {
    /// Its ledger has been followed already.
    Again(RelayPlan, Relay),
    New(Subject),
}

impl RelaySet {
    /// # Errors
    /// When a relay cannot be opened, or the exporter's own store is not its own or is damaged.
    pub(crate) async fn start(plan: Plan, registry: Arc<ViewRegistry>) -> anyhow::Result<Self> {
        let store = plan.store.as_ref().map(Store::open).transpose()?;
        let nothing = Plan { relays: BTreeMap::new(), store: plan.store.clone() };
        let mut relay_set = Self { plan: nothing, store, pollers: BTreeMap::new(), registry };
        relay_set.change(plan).await?;
        Ok(relay_set)
    }

    /// Goes over to another plan. A relay that is the same in both is not touched; one with other settings goes on from
    /// where it was.
    ///
    /// # Errors
    /// When something in it cannot be used; then nothing has changed.
    pub(crate) async fn change(&mut self, plan: Plan) -> anyhow::Result<Changes> {
        let renewed = self.check_store(plan.store.as_ref())?;
        // What is new is loaded with the new credentials: the old ones may be good for nothing any more.
        let (opened, mut changes) = self.open(&plan, renewed.as_ref().or(self.store.as_ref())).await?;
        if let (Some(store), Some(renewed)) = (&self.store, &renewed) {
            store.take_over(renewed).await;
        }

        let stays = |name: &String| {
            plan.relays.get(name).is_some_and(|new| Owner::of(new) == Owner::of(&self.plan.relays[name]))
        };
        let mut removed: Vec<_> = self.pollers.extract_if(.., |name, _| !stays(name)).collect();
        changes.removed = removed.iter().map(|(name, _)| name.clone()).collect();
        for opened in opened {
            let (subject, mut before) = match opened {
                Opened::New(subject) => (subject, None),
                Opened::Again(plan, relay) => {
                    let mut before = self.pollers.remove(&plan.name);
                    let kept = match &mut before {
                        Some(before) => before.stop().await,
                        None => None,
                    };
                    (again(plan, relay, kept), before)
                }
            };
            let name = subject.plan.name.clone();
            self.pollers.insert(name, Poller::start(subject, before.take().as_ref(), &self.registry));
        }
        self.registry.show(self.pollers.values());
        let before = std::mem::replace(&mut self.plan, plan);
        for (name, poller) in &mut removed {
            finish(poller).instrument(log::relay_span(name)).await;
            if let Some(store) = &self.store {
                store.resign(&Owner::of(&before.relays[name])).await;
            }
        }
        Ok(changes)
    }

    /// Opens what is new or has changed.
    async fn open(&self, plan: &Plan, store: Option<&Store>) -> anyhow::Result<(Vec<Opened>, Changes)> {
        let mut opened = Vec::new();
        let mut changes = Changes::default();
        let mut store_is_away = false;
        for (name, new) in &plan.relays {
            match self.plan.relays.get(name) {
                Some(old) if old == new => changes.unchanged += 1,
                Some(old) if Owner::of(old) == Owner::of(new) => {
                    let relay = relay::open(new).with_context(|| format!("relays.{name}"))?;
                    opened.push(Opened::Again(new.clone(), relay));
                    changes.changed.push(name.clone());
                }
                _ => {
                    // Nothing listens before all are opened: one waits for a store that is away, the others ask it later.
                    let subject = self.subject(new, store, store_is_away).instrument(log::relay_span(name)).await;
                    let subject = subject.with_context(|| format!("relays.{name}"))?;
                    store_is_away |= subject.usage.store().is_some_and(|status| !status.up);
                    opened.push(Opened::New(subject));
                    changes.added.push(name.clone());
                }
            }
        }
        Ok((opened, changes))
    }

    /// Ends everything; what has been read is saved.
    pub(crate) async fn stop(mut self) {
        let each = self.pollers.iter_mut();
        // Together: a store that does not answer is waited for once.
        join_all(each.map(|(name, poller)| finish(poller).instrument(log::relay_span(name)))).await;
        if let Some(store) = self.store {
            store.close().await;
        }
    }

    /// Checkpoints do not move while they are written; credentials may change. The store with these, where they have.
    fn check_store(&self, new: Option<&StorePlan>) -> anyhow::Result<Option<Store>> {
        let old = self.plan.store.as_ref();
        let store = new.map(Store::open).transpose()?;
        let same_place = store.as_ref().map(Store::endpoint) == self.store.as_ref().map(Store::endpoint);
        let interval = |plan: Option<&StorePlan>| plan.map(|plan| plan.save_interval);
        if !same_place || interval(new) != interval(old) {
            bail!("store: a change of it, other than of its credentials, takes effect only with a restart");
        }
        let url = |plan: Option<&StorePlan>| plan.map(|plan| plan.url.expose_secret().to_owned());
        Ok(store.filter(|_| url(new) != url(old)))
    }

    async fn subject(&self, plan: &RelayPlan, store: Option<&Store>, later: bool) -> anyhow::Result<Subject> {
        let Relay { usage, live, directory } = relay::open(plan)?;
        let usage = match usage {
            relay::Usage::Rows(ledger) => {
                let mut follower = Follower::new(ledger, plan);
                let checkpointer = self.checkpointer(plan, store, later, &mut follower).await?;
                Usage::Rows(Box::new(follower), checkpointer)
            }
            relay::Usage::Counters(counters) => {
                let mut counter_follower = CounterFollower::new(counters);
                let checkpointer = self.checkpointer(plan, store, later, &mut counter_follower).await?;
                Usage::Counters(Box::new(counter_follower), checkpointer)
            }
        };
        Ok(Subject { plan: plan.clone(), usage, live, directory })
    }

    /// Loads from `store`, and goes on over the connection of all.
    async fn checkpointer(
        &self,
        plan: &RelayPlan,
        store: Option<&Store>,
        later: bool,
        kept: &mut dyn Kept,
    ) -> Result<Option<Checkpointer>, StoreError> {
        let (Some(store), Some(own)) = (store, &self.store) else { return Ok(None) };
        let owner = Owner::of(plan);
        let checkpointer = if later {
            Checkpointer::later(store.clone(), owner)
        } else {
            Checkpointer::start(store.clone(), owner, kept).await?
        };
        Ok(Some(checkpointer.over(own)))
    }
}

/// A relay that was opened anew, where it was left.
fn again(plan: RelayPlan, Relay { usage, live, directory }: Relay, kept: Option<Usage>) -> Subject {
    let usage = match (usage, kept) {
        (relay::Usage::Rows(ledger), Some(Usage::Rows(follower, mut checkpointer))) => {
            checkpointer.iter_mut().for_each(Checkpointer::save_all);
            Usage::Rows(Box::new(follower.reopened(ledger, &plan)), checkpointer)
        }
        (relay::Usage::Rows(ledger), _) => Usage::Rows(Box::new(Follower::new(ledger, &plan)), None),
        (relay::Usage::Counters(counters), Some(Usage::Counters(follower, mut checkpointer))) => {
            checkpointer.iter_mut().for_each(Checkpointer::save_all);
            Usage::Counters(Box::new(follower.reopened(counters)), checkpointer)
        }
        (relay::Usage::Counters(counters), _) => Usage::Counters(Box::new(CounterFollower::new(counters)), None),
    };
    Subject { plan, usage, live, directory }
}

async fn finish(poller: &mut Poller) {
    match poller.stop().await {
        Some(Usage::Rows(mut follower, Some(checkpointer))) => checkpointer.finish(&mut *follower).await,
        Some(Usage::Counters(mut counter_follower, Some(checkpointer))) => {
            checkpointer.finish(&mut *counter_follower).await;
        }
        _ => {}
    }
}
