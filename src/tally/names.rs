//! Small numbers for entities, and the order of their first appearance in the ledger.
//!
//! Whatever clients send, the values of a dimension are bounded: when there are [`Bounds::most`] of them, those that
//! neither a series nor a leaderboard needs are let go, and count in `other` from then on. A value that comes back
//! begins anew under another number, so that what still bears the old one leaves without a trace.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use hashbrown::{HashMap, HashSet};
use serde::{Deserialize, Serialize};

/// An entity of one dimension, as a small number. None is given twice.
pub(crate) type Sym = u32;

/// No entity: the row has no key, no model, ...; or one that is not kept apart.
pub(crate) const NONE: Sym = Sym::MAX;

/// What is not told apart goes by this name.
pub(super) const OTHER: &str = "other";

pub(super) fn other() -> String {
    OTHER.to_owned()
}

/// How many values a dimension keeps apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// With so many, those that are needed nowhere are let go.
    pub most: usize,
    /// The first to be admitted are never let go: as many as the largest series budget.
    pub series: usize,
}

/// Clients invent models: 20 000 beside those that may have series.
pub(crate) const MODELS: Bounds = Bounds { most: 30_000, series: 10_000 };
/// Users, keys and providers: nobody can invent them, but a relay may have had many.
pub(crate) const IDS: Bounds = Bounds { most: 150_000, series: 100_000 };

/// The values of one dimension.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Written<T>", bound = "T: Serialize + serde::de::DeserializeOwned + Clone + Eq + Hash")]
pub(crate) struct Names<T> {
    #[serde(skip)]
    index: HashMap<T, Sym>,
    names: BTreeMap<Sym, Name<T>>,
    next: Sym,
    folded: Folded,
    /// Values that the last fold could not do without.
    #[serde(skip)]
    kept: usize,
    /// A bit for the hash of each value that has been let go of before it was admitted.
    #[serde(skip)]
    gone: Vec<u64>,
    /// A value was admitted that had perhaps been let go of.
    #[serde(skip)]
    returned: bool,
}

/// Of a million values that were let go of, two in three others are told to have been; of 100 000, one in ten.
const GONE_BITS: usize = 1 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Name<T> {
    value: T,
    /// The smallest row id that admits the value; `i64::MAX` while none has.
    first: i64,
    #[serde(skip)]
    pinned: bool,
}

/// How many values have been let go. One that came back counts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folded {
    pub admitted: u64,
    pub others: u64,
}

/// What is written of [`Names`].
#[derive(Deserialize)]
struct Written<T> {
    names: BTreeMap<Sym, Name<T>>,
    next: Sym,
    folded: Folded,
}

impl<T: Clone + Eq + Hash> From<Written<T>> for Names<T> {
    fn from(Written { names, next, folded }: Written<T>) -> Self {
        let index = names.iter().map(|(sym, name)| (name.value.clone(), *sym)).collect();
        // Which values they were is not written.
        let returned = folded != Folded::default();
        Self { index, names, next, folded, kept: 0, gone: Vec::new(), returned }
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            names: BTreeMap::new(),
            next: 0,
            folded: Folded::default(),
            kept: 0,
            gone: Vec::new(),
            returned: false,
        }
    }
}

impl<T> Name<T> {
    fn is_admitted(&self) -> bool {
        self.pinned || self.first != i64::MAX
    }

    fn order(&self, sym: Sym) -> Order {
        (!self.pinned, self.first, sym)
    }
}

impl<T: Clone + Eq + Hash> Names<T> {
    pub(crate) fn sym(&mut self, value: &T) -> Sym {
        if let Some(sym) = self.index.get(value) {
            return *sym;
        }
        let sym = self.next;
        if sym == NONE {
            return NONE;
        }
        self.next += 1;
        self.index.insert(value.clone(), sym);
        self.names.insert(sym, Name { value: value.clone(), first: i64::MAX, pinned: false });
        sym
    }

    pub(crate) fn find(&self, value: &T) -> Option<Sym> {
        self.index.get(value).copied()
    }

    pub(crate) fn value(&self, sym: Sym) -> Option<&T> {
        self.names.get(&sym).map(|name| &name.value)
    }

    /// Admits these values, whether there is a row of them or not, and no others that only an earlier call has admitted.
    pub(crate) fn pin(&mut self, values: impl IntoIterator<Item = T>) {
        self.names.values_mut().for_each(|name| name.pinned = false);
        for value in values {
            let sym = self.sym(&value);
            if let Some(name) = self.names.get_mut(&sym) {
                name.pinned = true;
            }
        }
    }

    /// The row `id` is one that admits the value.
    pub(crate) fn admit(&mut self, sym: Sym, id: i64) {
        if let Some(name) = self.names.get_mut(&sym) {
            if !name.is_admitted() && !self.gone.is_empty() {
                let (word, bit) = place(&name.value);
                self.returned |= self.gone[word] & bit != 0;
            }
            name.first = id.min(name.first);
        }
    }

    /// Whether a value may have been admitted after it had been let go of.
    pub(crate) const fn has_returned(&self) -> bool {
        self.returned
    }

    /// The smallest row id that admits the value; `i64::MAX` while none has.
    pub(crate) fn first(&self, sym: Sym) -> i64 {
        self.names.get(&sym).map_or(i64::MAX, |name| name.first)
    }

    /// Whether rows up to `id` count under the value's own name.
    pub(crate) fn has_series(&self, sym: Sym, id: i64) -> bool {
        self.names.get(&sym).is_some_and(|name| name.pinned || name.first <= id)
    }

    pub(crate) fn is_admitted(&self, sym: Sym) -> bool {
        self.names.get(&sym).is_some_and(Name::is_admitted)
    }

    pub(crate) const fn folded(&self) -> Folded {
        self.folded
    }

    /// The count of [`Self::folded`] begins anew, because the rows are read again.
    pub(crate) fn forget_folded(&mut self) {
        self.folded = Folded::default();
        self.gone = Vec::new();
        self.returned = false;
    }

    /// Whether it is time to [`Self::fold`].
    pub(crate) fn is_full(&self, bounds: Bounds) -> bool {
        // Not again at every new value, where most of them are needed.
        self.names.len() >= bounds.most.max(2 * self.kept)
    }

    /// Lets go of all values but the pinned ones, the first to be admitted, and those in `needed`.
    pub(crate) fn fold(&mut self, bounds: Bounds, needed: &HashSet<Sym>) {
        let mut order: Vec<_> =
            self.names.iter().filter(|(_, name)| name.is_admitted()).map(|(sym, name)| (name.first, *sym)).collect();
        order.sort_unstable();
        let first: HashSet<Sym> = order.into_iter().take(bounds.series).map(|(_, sym)| sym).collect();
        let (index, folded, gone) = (&mut self.index, &mut self.folded, &mut self.gone);
        gone.resize(GONE_BITS / 64, 0);
        self.names.retain(|sym, name| {
            let keep = name.pinned || first.contains(sym) || needed.contains(sym);
            if !keep {
                index.remove(&name.value);
                let (word, bit) = place(&name.value);
                gone[word] |= bit;
                let count = if name.is_admitted() { &mut folded.admitted } else { &mut folded.others };
                *count += 1;
            }
            keep
        });
        self.kept = self.names.len();
    }

    /// Which values a budget of `max` admits: the pinned ones, then by the order of their first admitting row, which
    /// is the same in every replica. A later row never displaces an earlier one, so membership only grows.
    pub(crate) fn admitted(&self, max: usize) -> Admitted<'_, T> {
        let admitted = self.names.iter().filter(|(_, name)| name.is_admitted());
        let mut order: Vec<Order> = admitted.map(|(sym, name)| name.order(*sym)).collect();
        let end = (order.len() > max).then(|| *order.select_nth_unstable(max).1);
        let folded = order.len().saturating_sub(max) as u64 + self.folded.admitted;
        Admitted { names: self, end: end.unwrap_or((true, i64::MAX, 0)), folded }
    }
}

fn place(value: &impl Hash) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    let at = hasher.finish() as usize % GONE_BITS;
    (at / 64, 1 << (at % 64))
}

/// In which values are admitted: not pinned, first row, number.
type Order = (bool, i64, Sym);

/// The values within a series budget.
pub(crate) struct Admitted<'a, T> {
    names: &'a Names<T>,
    /// The first that is not admitted.
    end: Order,
    /// Values that the budget folds into `other`.
    pub folded: u64,
}

impl<'a, T> Admitted<'a, T> {
    /// `None` where it has no series of its own.
    pub(crate) fn value(&self, sym: Sym) -> Option<&'a T> {
        self.names.names.get(&sym).filter(|name| name.order(sym) < self.end).map(|name| &name.value)
    }
}
