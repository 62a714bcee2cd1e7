//! Today and yesterday, by key and by model, as they were last read.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

use chrono::{Days, NaiveDate};

use super::totals::{Pair, PairCounts};
use crate::model::{DayReading, Ranked};
use crate::model::{EntityId, Usd};

/// A local day of the relay.
#[derive(Default)]
pub(super) struct Day {
    keys: BTreeMap<Arc<str>, KeyDay>,
    pairs: HashMap<Pair, PairCounts>,
    /// Sums of the pairs.
    models: BTreeMap<Arc<str>, PairCounts>,
}

/// A key's numbers on a day; `None` where Redis holds something that is no number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyDay {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
    pub cost: Usd,
}

/// The two days that are shown.
#[derive(Default)]
pub(super) struct TwoDays {
    date: NaiveDate,
    pub today: Day,
    pub yesterday: Day,
}

impl TwoDays {
    /// It is `today`; tells whether a day has ended.
    pub(super) fn begin(&mut self, today: NaiveDate) -> bool {
        if today == self.date {
            return false;
        }
        let last = mem::take(&mut self.today);
        self.yesterday = if self.date + Days::new(1) == today { last } else { Day::default() };
        self.date = today;
        true
    }
}

impl Day {
    pub(super) fn see_key(&mut self, key: &Arc<str>, day: KeyDay) {
        // Most keys have no traffic on most days.
        if day.requests == Some(0) && day.tokens == Some(0) && day.cost == Usd::ZERO {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.clone(), day);
        }
    }

    pub(super) fn see_pair(&mut self, pair: &Pair, now: PairCounts) {
        let was =
            if now == PairCounts::default() { self.pairs.remove(pair) } else { self.pairs.insert(pair.clone(), now) };
        let was = was.unwrap_or_default();
        if was != now {
            self.models.entry(pair.1.clone()).or_default().replace(was, now);
        }
    }

    /// Under its label; `None` where a part of it cannot be read.
    pub(super) fn reading(&self, day: &'static str) -> Option<DayReading> {
        let requests = self.keys.values().map(|key| key.requests).sum::<Option<u64>>()?;
        let cost = self.keys.values().map(|key| key.cost).sum();
        let list_cost: Usd = self.models.values().map(|model| model.list_cost).sum();
        // Releases without index sets keep none.
        let list_cost = Some(list_cost).filter(|cost| requests == 0 || cost.is_positive());
        Some(DayReading { day, requests, cost, errors: None, list_cost })
    }

    pub(super) fn keys(&self) -> Vec<Ranked> {
        let ranked = |(id, day): (&Arc<str>, &KeyDay)| Ranked {
            id: EntityId::Text(id.clone()),
            cost: day.cost,
            requests: day.requests,
            tokens: day.tokens,
        };
        self.keys.iter().map(ranked).collect()
    }

    pub(super) fn models(&self) -> impl Iterator<Item = (&Arc<str>, PairCounts)> {
        let models = self.models.iter().filter(|(_, sum)| **sum != PairCounts::default());
        models.map(|(model, sum)| (model, *sum))
    }
}
