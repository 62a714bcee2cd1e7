//! What the relay's totals were when they were last read, and what they amount to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Directory, EntityId, Tokens, Usd};
use crate::model::{KeyCounters, TrafficCounters};
use crate::relay::steady::Steady;

pub(super) type Pair = (Arc<str>, Arc<str>);

/// What the relay's totals were when they were last read.
#[derive(Default)]
pub(super) struct Known {
    /// Of the whole relay.
    pub requests: Steady<u64>,
    pub keys: HashMap<Arc<str>, KeyTotals>,
    /// By key, then by model; changed by [`Self::see_pair`] alone.
    pairs: HashMap<Arc<str>, BTreeMap<Arc<str>, PairTotals>>,
    /// By account and model, one for each month of the year.
    pub traffic: HashMap<Pair, BTreeMap<u32, MonthTotals>>,
    pub year: i32,
    /// Models by their first appearance.
    pub models: Vec<Arc<str>>,
    /// Keys and accounts of which something has changed since they were last saved.
    pub changed: HashSet<Arc<str>>,
    /// Sums of the pairs by model.
    by_model: BTreeMap<Arc<str>, ModelTotals>,
}

/// All pairs of one model.
#[derive(Clone, Copy, Debug, Default)]
struct ModelTotals {
    /// As it is shown.
    cost: Usd,
    list_cost: Usd,
    /// As the relay has it.
    now: PairCounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyTotals {
    pub requests: Steady<u64>,
    pub tokens: Steady<u64>,
    pub cost: Steady<Usd>,
    pub list_cost: Option<Steady<Usd>>,
    /// When it was created, in milliseconds, once the directory has had it: its counters stay when it is deleted for good.
    pub listed: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PairTotals {
    pub requests: Steady<u64>,
    pub tokens: Steady<u64>,
    pub cost: Steady<Usd>,
    pub list_cost: Steady<Usd>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MonthTotals {
    pub requests: Steady<u64>,
    /// By [`Tokens::by_type`].
    tokens: [Steady<u64>; 6],
}

/// What the relay has of a key and a model at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PairCounts {
    pub requests: u64,
    pub tokens: u64,
    pub cost: Usd,
    pub list_cost: Usd,
}

impl ModelTotals {
    fn replace(&mut self, was: PairTotals, now: PairTotals) {
        self.cost = self.cost - was.cost.total() + now.cost.total();
        self.list_cost = self.list_cost - was.list_cost.total() + now.list_cost.total();
        self.now.replace(was.now(), now.now());
    }
}

impl PairCounts {
    /// One of the numbers that this is the sum of has become another.
    pub(super) fn replace(&mut self, was: Self, now: Self) {
        self.requests = self.requests.saturating_sub(was.requests).saturating_add(now.requests);
        self.tokens = self.tokens.saturating_sub(was.tokens).saturating_add(now.tokens);
        self.cost = self.cost - was.cost + now.cost;
        self.list_cost = self.list_cost - was.list_cost + now.list_cost;
    }
}

impl PairTotals {
    /// Tells whether a counter has begun anew; see [`Steady::see`].
    pub(super) fn see(&mut self, now: PairCounts, resetting: bool) -> bool {
        self.requests.see(now.requests, resetting)
            | self.tokens.see(now.tokens, resetting)
            | self.cost.see(now.cost, resetting)
            | self.list_cost.see(now.list_cost, resetting)
    }

    /// What the relay itself has.
    pub(super) const fn now(self) -> PairCounts {
        let (requests, tokens) = (self.requests.now(), self.tokens.now());
        PairCounts { requests, tokens, cost: self.cost.now(), list_cost: self.list_cost.now() }
    }
}

impl MonthTotals {
    /// Tells whether a counter has begun anew; see [`Steady::see`].
    pub(super) fn see(&mut self, requests: u64, tokens: Tokens, resetting: bool) -> bool {
        let mut begins = self.requests.see(requests, resetting);
        for (steady, (_, now)) in self.tokens.iter_mut().zip(tokens.by_type()) {
            begins |= steady.see(now, resetting);
        }
        begins
    }

    fn tokens(&self) -> Tokens {
        let [input, output, cache_read, cache_write_5m, cache_write_1h, cache_write] = self.tokens.map(Steady::total);
        Tokens { input, output, cache_read, cache_write_5m, cache_write_1h, cache_write }
    }
}

impl Known {
    /// Of every key that exists or has existed, the oldest first.
    pub(super) fn readings(&mut self, directory: &Directory) -> Vec<KeyCounters> {
        for key in &directory.keys {
            let id = text(&key.id);
            if let Some(totals) = self.keys.get_mut(&id)
                && totals.listed.is_none()
            {
                // One without its hash has not been used for a year.
                totals.listed = Some(key.created_at.map_or(0, |at| at.timestamp_millis()));
                self.changed.insert(id);
            }
        }
        let listed = self.keys.iter().filter_map(|(id, totals)| Some((totals.listed?, id, totals)));
        let mut listed: Vec<(i64, &Arc<str>, &KeyTotals)> = listed.collect();
        listed.sort_unstable_by_key(|(created, id, _)| (*created, *id));
        let reading = |(_, id, totals): (i64, &Arc<str>, &KeyTotals)| KeyCounters {
            id: EntityId::Text(id.clone()),
            requests: totals.requests.total(),
            tokens: totals.tokens.total(),
            cost: totals.cost.total(),
            list_cost: totals.list_cost.map(Steady::total),
        };
        listed.into_iter().map(reading).collect()
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<Arc<str>, PairTotals>)> {
        self.pairs.iter()
    }

    /// The models of a key.
    pub(super) fn models_of(&self, key: &str) -> impl Iterator<Item = &Arc<str>> {
        self.pairs.get(key).into_iter().flat_map(BTreeMap::keys)
    }

    /// The requests of a key by model, as the relay has them.
    pub(super) fn requests_by_model(&self, key: &str) -> u64 {
        let models = self.pairs.get(key).into_iter().flat_map(BTreeMap::values);
        models.map(|totals| totals.requests.now()).fold(0, u64::saturating_add)
    }

    /// The relay has `now` of a key and a model; tells whether a counter has begun anew.
    pub(super) fn see_pair(&mut self, (key, model): &Pair, now: PairCounts, resetting: bool) -> bool {
        let totals = self.pairs.entry(key.clone()).or_default().entry(model.clone()).or_default();
        let before = *totals;
        let begins = totals.see(now, resetting);
        if before != *totals {
            let after = *totals;
            self.by_model.entry(model.clone()).or_default().replace(before, after);
            self.changed.insert(key.clone());
        }
        begins
    }

    pub(super) fn knows_pair(&self, (key, model): &Pair) -> bool {
        self.pairs.get(key).is_some_and(|models| models.contains_key(model))
    }

    /// What a restart finds again.
    pub(super) fn restore_pairs(&mut self, key: &Arc<str>, models: BTreeMap<Arc<str>, PairTotals>) {
        for (model, totals) in &models {
            self.by_model.entry(model.clone()).or_default().replace(PairTotals::default(), *totals);
        }
        self.pairs.insert(key.clone(), models);
    }

    /// Requests and tokens by account and model, cost by model.
    pub(super) fn traffic(&self) -> Vec<TrafficCounters> {
        let mut traffic = Vec::new();
        for ((account, model), months) in self.traffic.iter().filter(|(_, months)| !months.is_empty()) {
            let (requests, tokens) = months.values().fold((0_u64, Tokens::default()), |(requests, tokens), month| {
                (requests.saturating_add(month.requests.total()), tokens.plus(month.tokens()))
            });
            traffic.push(TrafficCounters {
                provider: Some(EntityId::Text(account.clone())),
                model: model.clone(),
                requests: Some(requests),
                tokens,
                ..TrafficCounters::default()
            });
        }
        traffic.extend(self.by_model.iter().map(|(model, sums)| TrafficCounters {
            model: model.clone(),
            cost: Some(sums.cost),
            list_cost: Some(sums.list_cost),
            ..TrafficCounters::default()
        }));
        traffic
    }

    /// Sums by model, as the relay has them.
    pub(super) fn models_now(&self) -> impl Iterator<Item = (&Arc<str>, PairCounts)> {
        self.by_model.iter().map(|(model, sums)| (model, sums.now))
    }

    /// Puts models that have none yet in their place: as they come in `first`, then by name.
    pub(super) fn order_models(&mut self, first: Vec<Arc<str>>) {
        let ordered: HashSet<&Arc<str>> = self.models.iter().collect();
        let months = self.traffic.iter().filter(|(_, months)| !months.is_empty()).map(|(pair, _)| pair);
        let models = self.by_model.keys().chain(months.map(|(_, model)| model));
        let mut new: BTreeSet<Arc<str>> = models.filter(|model| !ordered.contains(model)).cloned().collect();
        self.models.extend(first.into_iter().filter(|model| new.remove(model)));
        self.models.extend(new);
    }
}

pub(super) fn text(id: &EntityId) -> Arc<str> {
    match id {
        EntityId::Text(text) => text.clone(),
        EntityId::Number(number) => number.to_string().into(),
    }
}
