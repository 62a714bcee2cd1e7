//! What rows add up to. All sums are integers: they do not depend on the order of their terms, and what was added can
//! be taken away again without a trace.

use std::ops::{AddAssign, SubAssign};

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::names::{NONE, Sym};
use crate::model::{Outcome, Scope, Usd};

/// The part of a row that windows and boards need, small enough to keep a day of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub request_id: i64,
    pub cost: Usd,
    pub board_tokens: u64,
    pub speed_micro: Option<u64>,
    pub user: Sym,
    pub key: Sym,
    pub provider: Sym,
    pub model: Sym,
    pub duration_ms: Option<u32>,
    pub ttft_ms: Option<u32>,
    pub cache_read: u32,
    /// All input of a request that touched a cache, else 0: the denominator of the cache hit ratio.
    pub cache_input: u32,
    pub is_error: bool,
    pub outcome: Option<Outcome>,
}

impl Fact {
    /// The entity of a scope; [`NONE`] where the row has none.
    pub const fn entity(&self, scope: Scope) -> Sym {
        match scope {
            Scope::User => self.user,
            Scope::Key => self.key,
            Scope::Provider => self.provider,
            Scope::Model => self.model,
        }
    }
}

/// Requests by start time, in flight or not, as the relay's screens add them up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub requests: u64,
    pub cost: Usd,
    pub board_tokens: u64,
    pub errors: u64,
    pub successes: u64,
    pub failures: u64,
    pub duration_ms: u64,
    pub durations: u64,
    pub ttft_ms: u64,
    pub ttfts: u64,
    pub speed_micro: u64,
    pub speeds: u64,
    pub cache_read: u64,
    pub cache_input: u64,
}

impl Sums {
    pub const fn is_empty(&self) -> bool {
        self.requests == 0
    }

    /// Neither success nor failure: in flight, or not the provider's fault.
    pub const fn unknown(&self) -> u64 {
        self.requests.saturating_sub(self.successes).saturating_sub(self.failures)
    }

    pub fn mean_duration_seconds(&self) -> Option<f64> {
        mean(self.duration_ms, self.durations, 1e3)
    }

    pub fn mean_ttft_seconds(&self) -> Option<f64> {
        mean(self.ttft_ms, self.ttfts, 1e3)
    }

    pub fn mean_speed(&self) -> Option<f64> {
        mean(self.speed_micro, self.speeds, 1e6)
    }

    pub fn success_ratio(&self) -> Option<f64> {
        mean(self.successes, self.successes + self.failures, 1.0)
    }

    pub fn cache_hit_ratio(&self) -> Option<f64> {
        mean(self.cache_read, self.cache_input, 1.0)
    }
}

fn mean(sum: u64, count: u64, unit: f64) -> Option<f64> {
    (count > 0).then(|| sum as f64 / count as f64 / unit)
}

/// Something that rows can be added to and taken from.
pub trait Total: Default {
    fn add(&mut self, fact: &Fact);
    fn sub(&mut self, fact: &Fact);
}

// Wrapping: hostile numbers may overflow a sum, but taking a row away still undoes adding it exactly.
impl Total for Sums {
    fn add(&mut self, fact: &Fact) {
        *self += &Self::of(fact);
    }

    fn sub(&mut self, fact: &Fact) {
        *self -= &Self::of(fact);
    }
}

impl Sums {
    fn of(fact: &Fact) -> Self {
        Self {
            requests: 1,
            cost: fact.cost,
            board_tokens: fact.board_tokens,
            errors: u64::from(fact.is_error),
            successes: u64::from(fact.outcome == Some(Outcome::Success)),
            failures: u64::from(fact.outcome == Some(Outcome::Failure)),
            duration_ms: fact.duration_ms.unwrap_or(0).into(),
            durations: u64::from(fact.duration_ms.is_some()),
            ttft_ms: fact.ttft_ms.unwrap_or(0).into(),
            ttfts: u64::from(fact.ttft_ms.is_some()),
            speed_micro: fact.speed_micro.unwrap_or(0),
            speeds: u64::from(fact.speed_micro.is_some()),
            cache_read: if fact.cache_input > 0 { fact.cache_read.into() } else { 0 },
            cache_input: fact.cache_input.into(),
        }
    }

    fn combine(&mut self, other: &Self, cost: fn(Usd, Usd) -> Usd, count: fn(u64, u64) -> u64) {
        self.cost = cost(self.cost, other.cost);
        for (mine, theirs) in [
            (&mut self.requests, other.requests),
            (&mut self.board_tokens, other.board_tokens),
            (&mut self.errors, other.errors),
            (&mut self.successes, other.successes),
            (&mut self.failures, other.failures),
            (&mut self.duration_ms, other.duration_ms),
            (&mut self.durations, other.durations),
            (&mut self.ttft_ms, other.ttft_ms),
            (&mut self.ttfts, other.ttfts),
            (&mut self.speed_micro, other.speed_micro),
            (&mut self.speeds, other.speeds),
            (&mut self.cache_read, other.cache_read),
            (&mut self.cache_input, other.cache_input),
        ] {
            *mine = count(*mine, theirs);
        }
    }
}

impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        self.combine(other, |a, b| a + b, u64::wrapping_add);
    }
}

impl SubAssign<&Self> for Sums {
    fn sub_assign(&mut self, other: &Self) {
        self.combine(other, |a, b| a - b, u64::wrapping_sub);
    }
}

/// Everything in a span: the whole, and each entity of each scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boards {
    pub whole: Sums,
    scopes: [HashMap<Sym, Sums>; 4],
}

impl Boards {
    pub fn scope(&self, scope: Scope) -> &HashMap<Sym, Sums> {
        &self.scopes[scope as usize]
    }

    pub fn cost(&self, scope: Scope, entity: Sym) -> Usd {
        self.scope(scope).get(&entity).map_or(Usd::ZERO, |sums| sums.cost)
    }

    pub fn merge(&mut self, other: &Self) {
        self.whole += &other.whole;
        for (mine, theirs) in self.scopes.iter_mut().zip(&other.scopes) {
            for (entity, sums) in theirs {
                *mine.entry(*entity).or_default() += sums;
            }
        }
    }

    pub fn unmerge(&mut self, other: &Self) {
        self.whole -= &other.whole;
        for (mine, theirs) in self.scopes.iter_mut().zip(&other.scopes) {
            for (entity, sums) in theirs {
                let left = mine.entry(*entity).or_default();
                *left -= sums;
                if left.is_empty() {
                    mine.remove(entity);
                }
            }
        }
    }
}

impl Total for Boards {
    fn add(&mut self, fact: &Fact) {
        self.whole.add(fact);
        for scope in Scope::ALL {
            let entity = fact.entity(scope);
            if entity != NONE {
                self.scopes[scope as usize].entry(entity).or_default().add(fact);
            }
        }
    }

    fn sub(&mut self, fact: &Fact) {
        self.whole.sub(fact);
        for scope in Scope::ALL {
            let entity = fact.entity(scope);
            // An entity without requests leaves, so that a total is the same whatever came and went.
            if entity != NONE
                && let Some(sums) = self.scopes[scope as usize].get_mut(&entity)
            {
                sums.sub(fact);
                if sums.is_empty() {
                    self.scopes[scope as usize].remove(&entity);
                }
            }
        }
    }
}

/// Spending alone, by entity: what a rolling quota needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spending(HashMap<(Scope, Sym), Usd>);

impl Spending {
    pub fn of(&self, scope: Scope, entity: Sym) -> Usd {
        self.0.get(&(scope, entity)).copied().unwrap_or_default()
    }

    fn change(&mut self, fact: &Fact, amount: Usd) {
        for scope in [Scope::User, Scope::Key, Scope::Provider] {
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
    fn add(&mut self, fact: &Fact) {
        self.change(fact, fact.cost);
    }

    fn sub(&mut self, fact: &Fact) {
        self.change(fact, -fact.cost);
    }
}
