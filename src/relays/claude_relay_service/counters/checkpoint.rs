//! What a restart finds again.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::events::{Cursors, Seen};
use super::super::totals::{KeyTotals, Known, MonthTotals, PairTotals};
use super::{CounterReader, Progress};
use crate::parts::{Part, PartError, decoded, encoded};
use crate::relay::steady::Steady;

const RELAY: &str = "relay";
/// What a reading that failed half-way has taken, and the next one tells; absent where that is nothing.
const EVENTS: &str = "events";
const KEY: &str = "key/";
const ACCOUNT: &str = "account/";

/// A part of a checkpoint: the relay as a whole.
#[derive(Serialize, Deserialize)]
struct RelayPart<M> {
    requests: Steady<u64>,
    year: i32,
    models: M,
    began: bool,
}

/// A key: its totals, those by model, and the cursor of its records.
#[derive(Serialize, Deserialize)]
struct KeyPart {
    totals: Option<KeyTotals>,
    models: BTreeMap<Arc<str>, PairTotals>,
    records: Option<(u64, Seen)>,
}

/// An account: its months by model, and the cursor of its errors.
#[derive(Serialize, Deserialize)]
struct AccountPart {
    models: BTreeMap<Arc<str>, BTreeMap<u32, MonthTotals>>,
    errors: Option<Seen>,
}

impl CounterReader {
    /// See [`Counters::parts`](crate::relay::Counters::parts).
    pub(super) fn checkpoint(&mut self, all: bool) -> Result<Vec<Part>, PartError> {
        let changed = mem::take(&mut self.known.changed);
        let wanted = |id: &Arc<str>| all || changed.contains(id);
        let mut keys: BTreeMap<&Arc<str>, Option<KeyPart>> = BTreeMap::new();
        let mut accounts: BTreeMap<&Arc<str>, Option<AccountPart>> = BTreeMap::new();
        for (id, totals) in &self.known.keys {
            let part = || KeyPart { totals: Some(*totals), models: BTreeMap::new(), records: None };
            keys.insert(id, wanted(id).then(part));
        }
        for (id, models) in self.known.pairs() {
            let part = || KeyPart { totals: None, models: BTreeMap::new(), records: None };
            if let Some(part) = keys.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.models.clone_from(models);
            }
        }
        for (id, seen) in &self.cursors.records {
            // Only keys that are known have one.
            if let Some(Some(part)) = keys.get_mut(id) {
                part.records = Some(seen.clone());
            }
        }
        let part = || AccountPart { models: BTreeMap::new(), errors: None };
        for ((id, model), months) in self.known.traffic.iter().filter(|(_, months)| !months.is_empty()) {
            if let Some(part) = accounts.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.models.insert(model.clone(), months.clone());
            }
        }
        for (id, seen) in &self.cursors.errors {
            if let Some(part) = accounts.entry(id).or_insert_with(|| wanted(id).then(part)) {
                part.errors = Some(seen.clone());
            }
        }
        let Known { requests, year, models, .. } = &self.known;
        let relay = RelayPart { requests: *requests, year: *year, models, began: self.cursors.began };
        let mut parts = vec![encoded(RELAY, &relay)?];
        if !self.cursors.events.is_empty() {
            parts.push(encoded(EVENTS, &self.cursors.events)?);
        }
        for (id, part) in keys {
            let name = format!("{KEY}{id}");
            parts.push(part.map_or_else(|| Ok((name.clone(), None)), |part| encoded(&name, &part))?);
        }
        for (id, part) in accounts {
            let name = format!("{ACCOUNT}{id}");
            parts.push(part.map_or_else(|| Ok((name.clone(), None)), |part| encoded(&name, &part))?);
        }
        Ok(parts)
    }

    /// See [`Counters::restore`](crate::relay::Counters::restore).
    pub(super) fn go_on_from(&mut self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let RelayPart { requests, year, models, began } = decoded::<RelayPart<Vec<Arc<str>>>>(parts, RELAY)?;
        let (mut known, mut cursors) = (Known::default(), Cursors::default());
        (known.requests, known.year, known.models, cursors.began) = (requests, year, models, began);
        if parts.contains_key(EVENTS) {
            cursors.events = decoded(parts, EVENTS)?;
        }
        for name in parts.keys() {
            if let Some(id) = name.strip_prefix(KEY) {
                let (id, part) = (Arc::<str>::from(id), decoded::<KeyPart>(parts, name)?);
                known.keys.extend(part.totals.map(|totals| (id.clone(), totals)));
                known.restore_pairs(&id, part.models);
                cursors.records.extend(part.records.map(|seen| (id, seen)));
            } else if let Some(id) = name.strip_prefix(ACCOUNT) {
                let (id, part) = (Arc::<str>::from(id), decoded::<AccountPart>(parts, name)?);
                known.traffic.extend(part.models.into_iter().map(|(model, months)| ((id.clone(), model), months)));
                cursors.errors.extend(part.errors.map(|seen| (id, seen)));
            }
        }
        (self.known, self.cursors, self.progress) = (known, cursors, Progress::default());
        Ok(())
    }
}
