//! What the relay's totals were when they were last read, and what they amount to.

use std::collections::{BTreeMap, HashMap};
use std::ops::Sub;
use std::sync::Arc;

use crate::model::{Directory, EntityId, Tokens, Usd};
use crate::relays::{KeyReading, TrafficReading};

pub type Pair = (Arc<str>, Arc<str>);

/// What the relay's totals were when they were last read.
#[derive(Default)]
pub struct Known {
    /// Of the whole relay.
    pub requests: u64,
    pub keys: HashMap<Arc<str>, KeyTotals>,
    /// By key and model.
    pub pairs: HashMap<Pair, PairTotals>,
    /// By account and model, one for each month of the year.
    pub traffic: HashMap<Pair, BTreeMap<u32, (u64, Tokens)>>,
    pub year: i32,
}

#[derive(Clone, Copy, Default)]
pub struct KeyTotals {
    pub requests: u64,
    pub tokens: u64,
    pub cost: Usd,
    pub list_cost: Option<Usd>,
}

#[derive(Clone, Copy, Default)]
pub struct PairTotals {
    pub requests: u64,
    pub tokens: u64,
    pub cost: Usd,
    pub list_cost: Usd,
}

/// A total that has been shown as `shown` and that the relay now has as `now`. One that has fallen a little comes from a
/// Redis that lost its last seconds (a crash, a fail-over, a restored dump): it waits until the relay has passed it. One
/// that has lost more than half begins anew.
pub fn held<T: Ord + Copy + Sub<Output = T>>(shown: T, now: T) -> T {
    if now < shown && now >= shown - now { shown } else { now }
}

impl PairTotals {
    pub fn held(self, now: Self) -> Self {
        Self {
            requests: held(self.requests, now.requests),
            tokens: held(self.tokens, now.tokens),
            cost: held(self.cost, now.cost),
            list_cost: held(self.list_cost, now.list_cost),
        }
    }
}

/// [`held`] by type.
pub fn held_tokens(shown: Tokens, now: Tokens) -> Tokens {
    Tokens {
        input: held(shown.input, now.input),
        output: held(shown.output, now.output),
        cache_read: held(shown.cache_read, now.cache_read),
        cache_write_5m: held(shown.cache_write_5m, now.cache_write_5m),
        cache_write_1h: held(shown.cache_write_1h, now.cache_write_1h),
        cache_write: held(shown.cache_write, now.cache_write),
    }
}

impl Known {
    /// Of every key that exists.
    pub fn readings(&self, directory: &Directory) -> Vec<KeyReading> {
        let reading = |id: &EntityId| {
            let totals = self.keys.get(&text(id))?;
            let KeyTotals { requests, tokens, cost, list_cost } = *totals;
            Some(KeyReading { id: id.clone(), requests, tokens, cost, list_cost })
        };
        directory.keys.iter().filter_map(|key| reading(&key.id)).collect()
    }

    /// Requests and tokens by account and model, cost by model.
    pub fn traffic(&self) -> Vec<TrafficReading> {
        let mut traffic = Vec::new();
        for ((account, model), months) in self.traffic.iter().filter(|(_, months)| !months.is_empty()) {
            let (requests, tokens) = months.values().fold((0_u64, Tokens::default()), |(requests, tokens), month| {
                (requests.saturating_add(month.0), tokens.plus(month.1))
            });
            let provider = Some(EntityId::Text(account.clone()));
            let requests = Some(requests);
            traffic.push(TrafficReading {
                provider,
                model: model.clone(),
                requests,
                tokens,
                cost: None,
                list_cost: None,
            });
        }
        let mut costs: BTreeMap<&Arc<str>, (Usd, Usd)> = BTreeMap::new();
        for ((_, model), totals) in &self.pairs {
            let sum = costs.entry(model).or_default();
            sum.0 += totals.cost;
            sum.1 += totals.list_cost;
        }
        traffic.extend(costs.into_iter().map(|(model, (cost, list_cost))| TrafficReading {
            model: model.clone(),
            cost: Some(cost),
            list_cost: Some(list_cost),
            ..TrafficReading::default()
        }));
        traffic
    }
}

pub fn text(id: &EntityId) -> Arc<str> {
    match id {
        EntityId::Text(text) => text.clone(),
        EntityId::Number(number) => number.to_string().into(),
    }
}
