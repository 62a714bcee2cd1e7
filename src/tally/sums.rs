//! What rows add up to. All sums are integers: they do not depend on the order of their terms, and what was added can
//! be taken away again without a trace.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::names::{NONE, Sym};
use crate::model::{Facts, FailureClass, Outcome, Scope, Tokens, Usd};

/// Tokens beyond this are not a request's but a broken row's; the limit keeps a sum of them within 64 bits.
pub(crate) const ABSURD: u64 = 1 << 40;

/// The part of a row that windows and boards need, small enough to keep a day of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WindowFact {
    pub request_id: i64,
    pub cost: Usd,
    pub board_tokens: u64,
    pub speed_micro: Option<u64>,
    /// By [`Scope::ALL`].
    #[serde(with = "none_is_zero")]
    pub entities: [Sym; 6],
    pub duration_ms: Option<u32>,
    pub ttft_ms: Option<u32>,
    pub tokens: Tokens,
    /// 0 of what is no request.
    pub requests: u64,
    pub is_error: bool,
    pub outcome: Option<Outcome>,
    pub is_success: Option<bool>,
    pub failure: Option<FailureClass>,
}

impl WindowFact {
    /// The entity of a scope; [`NONE`] where the row has none.
    pub(crate) const fn entity(&self, scope: Scope) -> Sym {
        self.entities[scope as usize]
    }
}

#[cfg(test)]
impl WindowFact {
    /// A request of which nothing is known.
    pub(super) fn bare(request_id: i64) -> Self {
        Self {
            request_id,
            cost: Usd::ZERO,
            board_tokens: 0,
            speed_micro: None,
            entities: [NONE; 6],
            duration_ms: None,
            ttft_ms: None,
            tokens: Tokens::default(),
            requests: 1,
            is_error: false,
            outcome: None,
            is_success: None,
            failure: None,
        }
    }
}

/// No entity is written as one byte instead of five: most relays know no teams.
mod none_is_zero {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Sym};

    pub(super) fn serialize<S: Serializer>(entities: &[Sym; 6], serializer: S) -> Result<S::Ok, S::Error> {
        entities.map(|sym| sym.wrapping_add(1)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Sym; 6], D::Error> {
        Ok(<[Sym; 6]>::deserialize(deserializer)?.map(|sym| sym.wrapping_sub(1)))
    }
}

/// What requests used: all that is shown of a user or a key, of which there may be many thousands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    rows: u64,
    pub requests: u64,
    pub cost: Usd,
    pub board_tokens: u64,
    pub errors: u64,
    successes: u64,
    failures: u64,
    cache_read: u64,
    /// All input of requests that touched a cache.
    cache_input: u64,
    input: u64,
}

impl Spent {
    /// Success, failure, and neither, as the relay's boards have them.
    pub(super) const fn by_outcome(&self) -> [u64; 3] {
        let neither = self.requests.saturating_sub(self.successes).saturating_sub(self.failures);
        [self.successes, self.failures, neither]
    }

    pub(super) fn success_ratio(&self) -> Option<f64> {
        mean(self.successes, self.successes + self.failures, 1.0)
    }

    pub(super) fn cache_hit_ratio(&self, facts: Facts) -> Option<f64> {
        mean(self.cache_read, if facts.hits_of_cached { self.cache_input } else { self.input }, 1.0)
    }
}

/// Requests by start time, in flight or not, as the relay's screens add them up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums {
    pub spent: Spent,
    duration_ms: u64,
    durations: u64,
    ttft_ms: u64,
    ttfts: u64,
    speed_micro: u64,
    speeds: u64,
}

impl Sums {
    pub(super) fn mean_duration_seconds(&self) -> Option<f64> {
        mean(self.duration_ms, self.durations, 1e3)
    }

    pub(crate) fn mean_ttft_seconds(&self) -> Option<f64> {
        mean(self.ttft_ms, self.ttfts, 1e3)
    }

    pub(crate) fn mean_speed(&self) -> Option<f64> {
        mean(self.speed_micro, self.speeds, 1e6)
    }
}

fn mean(sum: u64, count: u64, unit: f64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64 / unit)
}

/// Something that rows can be added to and taken from.
pub(crate) trait Total: Default {
    fn add(&mut self, fact: &WindowFact);
    fn sub(&mut self, fact: &WindowFact);
}

/// What rows are added to as they come, and taken from when its edge has passed them.
pub(crate) trait Sliding {
    fn edge(&self) -> i64;
    fn begin_at(&mut self, edge: i64);
    fn add(&mut self, second: i64, fact: &WindowFact);
    fn sub(&mut self, second: i64, fact: &WindowFact);
}

/// A total without parts, that others can be added to and taken from.
pub(crate) trait Sum: Default + Clone {
    fn of(fact: &WindowFact) -> Self;

    fn spent(&self) -> &Spent;

    /// Field by field.
    fn combine(&mut self, other: &Self, cost: fn(Usd, Usd) -> Usd, count: fn(u64, u64) -> u64);

    // Wrapping: hostile numbers may overflow a sum, but taking a row away still undoes adding it exactly.
    fn merge(&mut self, other: &Self) {
        self.combine(other, |a, b| a + b, u64::wrapping_add);
    }

    fn unmerge(&mut self, other: &Self) {
        self.combine(other, |a, b| a - b, u64::wrapping_sub);
    }
}

impl<S: Sum> Total for S {
    fn add(&mut self, fact: &WindowFact) {
        self.merge(&Self::of(fact));
    }

    fn sub(&mut self, fact: &WindowFact) {
        self.unmerge(&Self::of(fact));
    }
}

impl Sum for Spent {
    fn of(fact: &WindowFact) -> Self {
        let (read, written) = (fact.tokens.cache_read, fact.tokens.written());
        let touched_cache = read > 0 || written > 0;
        let input = fact.tokens.input.saturating_add(read).saturating_add(written);
        Self {
            rows: 1,
            requests: fact.requests,
            cost: fact.cost,
            board_tokens: fact.board_tokens,
            errors: u64::from(fact.is_error),
            successes: u64::from(fact.is_success == Some(true)),
            failures: u64::from(fact.is_success == Some(false)),
            cache_read: read.min(ABSURD),
            cache_input: if touched_cache { input.min(ABSURD) } else { 0 },
            input: input.min(ABSURD),
        }
    }

    fn spent(&self) -> &Spent {
        self
    }

    fn combine(&mut self, other: &Self, cost: fn(Usd, Usd) -> Usd, count: fn(u64, u64) -> u64) {
        self.cost = cost(self.cost, other.cost);
        self.rows = count(self.rows, other.rows);
        self.requests = count(self.requests, other.requests);
        self.board_tokens = count(self.board_tokens, other.board_tokens);
        self.errors = count(self.errors, other.errors);
        self.successes = count(self.successes, other.successes);
        self.failures = count(self.failures, other.failures);
        self.cache_read = count(self.cache_read, other.cache_read);
        self.cache_input = count(self.cache_input, other.cache_input);
        self.input = count(self.input, other.input);
    }
}

impl Sum for Sums {
    fn of(fact: &WindowFact) -> Self {
        Self {
            spent: Spent::of(fact),
            duration_ms: fact.duration_ms.unwrap_or(0).into(),
            durations: u64::from(fact.duration_ms.is_some()),
            ttft_ms: fact.ttft_ms.unwrap_or(0).into(),
            ttfts: u64::from(fact.ttft_ms.is_some()),
            speed_micro: fact.speed_micro.unwrap_or(0),
            speeds: u64::from(fact.speed_micro.is_some()),
        }
    }

    fn spent(&self) -> &Spent {
        &self.spent
    }

    fn combine(&mut self, other: &Self, cost: fn(Usd, Usd) -> Usd, count: fn(u64, u64) -> u64) {
        self.spent.combine(&other.spent, cost, count);
        self.duration_ms = count(self.duration_ms, other.duration_ms);
        self.durations = count(self.durations, other.durations);
        self.ttft_ms = count(self.ttft_ms, other.ttft_ms);
        self.ttfts = count(self.ttfts, other.ttfts);
        self.speed_micro = count(self.speed_micro, other.speed_micro);
        self.speeds = count(self.speeds, other.speeds);
    }
}

/// The sums of one scope's entities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entities<S>(HashMap<Sym, S>);

impl<S: Sum> Entities<S> {
    fn add(&mut self, entity: Sym, fact: &WindowFact) {
        if entity != NONE {
            self.0.entry(entity).or_default().add(fact);
        }
    }

    fn sub(&mut self, entity: Sym, fact: &WindowFact) {
        if entity != NONE {
            self.take(entity, &S::of(fact));
        }
    }

    fn merge(&mut self, other: &Self) {
        for (entity, sum) in &other.0 {
            self.0.entry(*entity).or_default().merge(sum);
        }
    }

    fn unmerge(&mut self, other: &Self) {
        other.0.iter().for_each(|(entity, sum)| self.take(*entity, sum));
    }

    /// An entity without rows leaves, so that a total is the same whatever came and went.
    fn take(&mut self, entity: Sym, sum: &S) {
        if let Entry::Occupied(mut left) = self.0.entry(entity) {
            left.get_mut().unmerge(sum);
            if left.get().spent().rows == 0 {
                left.remove();
            }
        }
    }

    fn retain(&mut self, keep: impl Fn(Sym) -> bool) {
        self.0.retain(|entity, _| keep(*entity));
        // Many may have come and gone.
        self.0.shrink_to(2 * self.0.len());
    }

    fn spent(&self) -> impl Iterator<Item = (Sym, &Spent)> {
        self.0.iter().map(|(entity, sum)| (*entity, sum.spent()))
    }
}

/// Everything in a span: the whole, and each entity of each scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BoardSums {
    pub whole: Sums,
    /// By [`Scope::SPENDERS`].
    spenders: [Entities<Spent>; 4],
    providers: Entities<Sums>,
    models: Entities<Sums>,
}

impl BoardSums {
    /// What each entity of a scope used.
    pub(crate) fn spent(&self, scope: Scope) -> Box<dyn Iterator<Item = (Sym, &Spent)> + '_> {
        match scope {
            Scope::Provider => Box::new(self.providers.spent()),
            Scope::Model => Box::new(self.models.spent()),
            spender => Box::new(self.spenders[spender as usize].spent()),
        }
    }

    /// Everything about a provider or a model; `None` of others.
    pub(crate) fn sums(&self, scope: Scope, entity: Sym) -> Option<&Sums> {
        match scope {
            Scope::Provider => self.providers.0.get(&entity),
            Scope::Model => self.models.0.get(&entity),
            _ => None,
        }
    }

    pub(crate) fn cost(&self, scope: Scope, entity: Sym) -> Usd {
        let spent = match self.spenders.get(scope as usize) {
            Some(spenders) => spenders.0.get(&entity),
            None => self.sums(scope, entity).map(Sum::spent),
        };
        spent.map_or(Usd::ZERO, |spent| spent.cost)
    }

    /// Keeps only some entities of a scope apart; the whole stays what it is.
    pub(crate) fn retain(&mut self, scope: Scope, keep: impl Fn(Sym) -> bool) {
        match scope {
            Scope::Provider => self.providers.retain(keep),
            Scope::Model => self.models.retain(keep),
            spender => self.spenders[spender as usize].retain(keep),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.whole.merge(&other.whole);
        self.spenders.iter_mut().zip(&other.spenders).for_each(|(mine, theirs)| mine.merge(theirs));
        self.providers.merge(&other.providers);
        self.models.merge(&other.models);
    }

    pub(crate) fn unmerge(&mut self, other: &Self) {
        self.whole.unmerge(&other.whole);
        self.spenders.iter_mut().zip(&other.spenders).for_each(|(mine, theirs)| mine.unmerge(theirs));
        self.providers.unmerge(&other.providers);
        self.models.unmerge(&other.models);
    }
}

impl Total for BoardSums {
    fn add(&mut self, fact: &WindowFact) {
        self.whole.add(fact);
        self.spenders.iter_mut().zip(fact.entities).for_each(|(sums, entity)| sums.add(entity, fact));
        self.providers.add(fact.entity(Scope::Provider), fact);
        self.models.add(fact.entity(Scope::Model), fact);
    }

    fn sub(&mut self, fact: &WindowFact) {
        self.whole.sub(fact);
        self.spenders.iter_mut().zip(fact.entities).for_each(|(sums, entity)| sums.sub(entity, fact));
        self.providers.sub(fact.entity(Scope::Provider), fact);
        self.models.sub(fact.entity(Scope::Model), fact);
    }
}

/// Spending alone, by entity: what a rolling quota needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spending(HashMap<(Scope, Sym), Usd>);

impl Spending {
    pub(crate) fn of(&self, scope: Scope, entity: Sym) -> Usd {
        self.0.get(&(scope, entity)).copied().unwrap_or_default()
    }

    fn change(&mut self, fact: &WindowFact, amount: Usd) {
        for scope in Scope::LIMITED {
            let entity = fact.entity(scope);
            if entity != NONE && amount != Usd::ZERO {
                let spent = self.0.entry((scope, entity)).or_default();
                *spent += amount;
                if *spent == Usd::ZERO {
                    self.0.remove(&(scope, entity));
                }
            }
        }
    }
}

impl Total for Spending {
    fn add(&mut self, fact: &WindowFact) {
        self.change(fact, fact.cost);
    }

    fn sub(&mut self, fact: &WindowFact) {
        self.change(fact, -fact.cost);
    }
}

/// Requests by key and model: of each key its models in their order. They are as many as pairs that are used, so none
/// takes more than it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyModels(HashMap<Sym, Vec<(Sym, u32)>>);

impl KeyModels {
    /// The models of a key, with their requests.
    pub(super) fn of(&self, key: Sym) -> impl Iterator<Item = (Sym, u64)> + '_ {
        self.0.get(&key).into_iter().flatten().map(|(model, requests)| (*model, (*requests).into()))
    }

    /// Keeps only some entities of a scope apart.
    pub(super) fn retain(&mut self, scope: Scope, keep: impl Fn(Sym) -> bool) {
        match scope {
            Scope::Key => self.0.retain(|key, _| keep(*key)),
            Scope::Model => self.0.retain(|_, models| {
                models.retain(|(model, _)| keep(*model));
                !models.is_empty()
            }),
            _ => {}
        }
    }
}

impl Total for KeyModels {
    fn add(&mut self, fact: &WindowFact) {
        let (key, model) = (fact.entity(Scope::Key), fact.entity(Scope::Model));
        if key == NONE || model == NONE || fact.requests == 0 {
            return;
        }
        let models = self.0.entry(key).or_default();
        match models.binary_search_by_key(&model, |(model, _)| *model) {
            Ok(at) => models[at].1 += 1,
            Err(at) => {
                models.reserve_exact(1);
                models.insert(at, (model, 1));
            }
        }
    }

    fn sub(&mut self, fact: &WindowFact) {
        let model = fact.entity(Scope::Model);
        if let Entry::Occupied(mut left) = self.0.entry(fact.entity(Scope::Key))
            && fact.requests > 0
            && let Ok(at) = left.get().binary_search_by_key(&model, |(model, _)| *model)
        {
            let models = left.get_mut();
            models[at].1 -= 1;
            if models[at].1 == 0 {
                models.remove(at);
            }
            if models.is_empty() {
                left.remove();
            }
        }
    }
}
