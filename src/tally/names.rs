//! Small numbers for entities, and the order of their first appearance in the ledger.

use std::hash::Hash;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

/// An entity of one dimension, as a small number.
pub type Sym = u32;

/// No entity: the row has no key, no model, ...
pub const NONE: Sym = Sym::MAX;

/// Distinct values that one dimension keeps apart in memory, whatever clients send; further ones count as [`NONE`].
const CAPACITY: usize = 20_000;

/// The values of one dimension.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Values<T>", bound = "T: Serialize + serde::de::DeserializeOwned + Clone + Eq + Hash")]
pub struct Names<T> {
    #[serde(skip)]
    index: HashMap<T, Sym>,
    values: Vec<T>,
    /// For each value the smallest row id that admits it; `i64::MAX` while none has.
    admitted_by: Vec<i64>,
}

/// What is written of [`Names`].
#[derive(Deserialize)]
struct Values<T> {
    values: Vec<T>,
    admitted_by: Vec<i64>,
}

impl<T: Clone + Eq + Hash> From<Values<T>> for Names<T> {
    fn from(Values { values, mut admitted_by }: Values<T>) -> Self {
        admitted_by.resize(values.len(), i64::MAX);
        let index = values.iter().cloned().zip(0..).collect();
        Self { index, values, admitted_by }
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { index: HashMap::new(), values: Vec::new(), admitted_by: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    pub fn sym(&mut self, value: &T) -> Sym {
        if let Some(sym) = self.index.get(value) {
            return *sym;
        }
        if self.values.len() == CAPACITY {
            return NONE;
        }
        let sym = self.values.len() as Sym;
        self.index.insert(value.clone(), sym);
        self.values.push(value.clone());
        self.admitted_by.push(i64::MAX);
        sym
    }

    pub fn find(&self, value: &T) -> Option<Sym> {
        self.index.get(value).copied()
    }

    pub fn value(&self, sym: Sym) -> Option<&T> {
        self.values.get(sym as usize)
    }

    /// The row `id` is one that admits the value.
    pub fn admit(&mut self, sym: Sym, id: i64) {
        if let Some(first) = self.admitted_by.get_mut(sym as usize) {
            *first = id.min(*first);
        }
    }

    pub fn admitted_by(&self, sym: Sym) -> i64 {
        self.admitted_by.get(sym as usize).copied().unwrap_or(i64::MAX)
    }

    /// Which values a budget of `max` admits: the pinned ones, then by the order of their first admitting row, which
    /// is the same in every replica. A later row never displaces an earlier one, so membership only grows.
    pub fn admitted(&self, max: usize, pinned: impl Fn(&T) -> bool) -> Admitted {
        let mut order: Vec<(bool, i64, Sym)> = (0..self.values.len() as Sym)
            .map(|sym| (!pinned(&self.values[sym as usize]), self.admitted_by[sym as usize], sym))
            .filter(|(unpinned, first, _)| !unpinned || *first != i64::MAX)
            .collect();
        order.sort_unstable();
        let limited = order.len().saturating_sub(max) as u64;
        let mut admitted = vec![false; self.values.len()];
        for (_, _, sym) in order.into_iter().take(max) {
            admitted[sym as usize] = true;
        }
        Admitted { admitted, limited }
    }
}

/// The values within a series budget.
pub struct Admitted {
    admitted: Vec<bool>,
    /// Values that the budget folds into `other`.
    pub limited: u64,
}

impl Admitted {
    pub fn has(&self, sym: Sym) -> bool {
        self.admitted.get(sym as usize).copied().unwrap_or(false)
    }
}
