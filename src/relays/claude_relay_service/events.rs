//! Failures, and durations and costs of single requests, from lists that the relay keeps short: what is new in them since
//! the last reading.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{self, counted_model, platform_of};
use super::reader::Reader;
use super::totals::text;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{Directory, EntityId, FailureClass, ReadError, Usd};

/// The relay keeps so many records per key, and so many errors per account.
const RECORDS: usize = 200;
const ERRORS: usize = 5000;

/// The classes that the relay itself tells (see [`failure_class`]); each account stands at 0 of them before its first
/// failure, so that this one is an increase.
const CLASSES: [FailureClass; 5] = [
    FailureClass::RateLimited,
    FailureClass::Overloaded,
    FailureClass::Auth,
    FailureClass::Timeout,
    FailureClass::Server,
];

/// Entries of a list's head that are remembered, to find it again.
const REMEMBERED: usize = 4;
/// A list in which the head is not found is read again, this much deeper.
const DEEPER: usize = 25;

/// How far failures and records have been taken.
#[derive(Default)]
pub(super) struct Cursors {
    /// What is there at the first look is not new.
    pub began: bool,
    /// By account.
    pub errors: HashMap<Arc<str>, Seen>,
    /// By key, with the requests whose records have been taken, or given up.
    pub records: HashMap<Arc<str>, (u64, Seen)>,
    /// By key: how often records that must come were not there yet.
    late: HashMap<Arc<str>, u8>,
    /// What has been taken and not been told yet.
    pub events: Events,
}

/// What has happened since the last reading.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Events {
    /// 0 for classes of which none has occurred.
    pub failures: BTreeMap<(EntityId, FailureClass), u64>,
    /// Account, model, milliseconds.
    pub durations: Vec<(EntityId, Arc<str>, u64)>,
    /// By account; 0 for those that have spent nothing.
    pub spent: BTreeMap<EntityId, Usd>,
    /// Requests whose records are gone unread.
    pub missed: u64,
}

impl Events {
    pub(super) fn is_empty(&self) -> bool {
        let happened = self.failures.values().any(|count| *count > 0);
        let spent = self.spent.values().any(|cost| cost.is_positive());
        !happened && !spent && self.durations.is_empty() && self.missed == 0
    }
}

/// What the new records of a key tell.
#[derive(Default)]
pub(super) struct Told {
    pub models: BTreeSet<Arc<str>>,
    /// Every request since the last look has told its model.
    pub whole: bool,
    /// Some are not there yet: the relay writes them last, after tokens, costs and accounts.
    pub late: bool,
}

/// A record that has not come by then will not come.
const LATE_AT_MOST: u8 = 3;

impl Cursors {
    /// Takes the new entries of the error histories. Accounts with some are added to `changed`. Releases before v1.1.284 keep
    /// none: of these there are no failures, not even 0.
    pub(super) async fn failures(
        &mut self,
        reader: &mut Reader,
        directory: &Directory,
        changed: &mut HashSet<Arc<str>>,
    ) -> Result<(), ReadError> {
        let accounts: Vec<(&EntityId, String)> = directory
            .providers
            .iter()
            .filter_map(|account| {
                let platform = platform_of(&account.kind)?;
                Some((&account.id, format!("error_history:{}:{}", platform.in_errors, account.id)))
            })
            .collect();
        let lists: Vec<List> = accounts
            .iter()
            .map(|(id, key)| List {
                key: key.clone(),
                seen: self.errors.get(&text(id)).cloned().or_else(|| self.began.then(Seen::default)),
                expected: 0,
            })
            .collect();
        reader.read += lists.len() as u64;
        let news = news(&mut reader.redis, "reading failures", &lists, ERRORS).await?;
        let tells = keys::release(&directory.version).is_some_and(|release| release >= (1, 1, 284));
        for ((id, _), news) in accounts.iter().zip(news) {
            if tells || news.as_ref().is_some_and(|news| news.seen != Seen::default()) {
                for class in CLASSES {
                    self.events.failures.entry(((*id).clone(), class)).or_default();
                }
            }
            self.events.spent.entry((*id).clone()).or_default();
            let Some(news) = news else { continue };
            for entry in &news.entries {
                *self.events.failures.entry(((*id).clone(), failure_class(entry))).or_default() += 1;
            }
            let id = text(id);
            if self.errors.get(&id) != Some(&news.seen) {
                self.errors.insert(id.clone(), news.seen);
                changed.insert(id);
            }
        }
        Ok(())
    }

    /// Takes the new records of keys, each with the requests that it has. Keys with some are added to `changed`.
    pub(super) async fn records(
        &mut self,
        reader: &mut Reader,
        keys: &[(Arc<str>, u64)],
        changed: &mut HashSet<Arc<str>>,
    ) -> Result<Vec<Told>, ReadError> {
        // A Redis that is a little older than what was shown has nothing new.
        let grown = keys.iter().map(|(id, requests)| match self.records.get(id) {
            Some((taken, _)) => requests.saturating_sub(*taken),
            None => (*requests).max(1),
        });
        let wanted: Vec<(usize, u64)> = grown.enumerate().filter(|(_, grown)| *grown > 0).collect();
        let lists: Vec<List> = wanted
            .iter()
            .map(|(at, grown)| {
                let id = &keys[*at].0;
                let known = self.records.get(id).map(|(_, seen)| seen.clone());
                let seen = known.or_else(|| self.began.then(Seen::default));
                let expected = if seen.is_some() { usize::try_from(*grown).unwrap_or(RECORDS) } else { 0 };
                List { key: format!("usage:records:{id}"), seen, expected: expected.min(RECORDS) }
            })
            .collect();
        reader.read += lists.len() as u64;
        let news = news(&mut reader.redis, "reading records", &lists, RECORDS).await?;
        let mut told: Vec<Told> = keys.iter().map(|_| Told::default()).collect();
        for (((at, grown), list), news) in wanted.into_iter().zip(lists).zip(news) {
            let (id, requests) = &keys[at];
            let grown = if list.seen.is_some() { grown.min(*requests) } else { 0 };
            told[at] = self.take(id, *requests, grown, news.unwrap_or_default());
            changed.insert(id.clone());
        }
        Ok(told)
    }

    /// Takes what the list of a key has got since it had `grown` requests less.
    fn take(&mut self, id: &Arc<str>, requests: u64, grown: u64, news: News) -> Told {
        let found = news.entries.len() as u64;
        let is_cut = news.torn || news.entries.len() >= RECORDS;
        if is_cut {
            self.events.missed += grown.saturating_sub(found);
        }
        let mut models = BTreeSet::new();
        for record in news.entries.iter().rev().filter_map(|entry| serde_json::from_str::<Record>(entry).ok()) {
            let account = record.account_id.as_deref().filter(|id| !id.is_empty()).unwrap_or("unknown");
            let account = EntityId::from(account);
            let model: Arc<str> = counted_model(record.model.as_deref().unwrap_or("unknown")).as_ref().into();
            if let Some(cost) = record.cost.and_then(Usd::from_f64).filter(|cost| *cost >= Usd::ZERO) {
                *self.events.spent.entry(account.clone()).or_default() += cost;
            }
            if let Some(ms) = record.duration_ms.filter(|ms| (0.0..1e12).contains(ms)) {
                self.events.durations.push((account, model.clone(), ms.round() as u64));
            }
            models.insert(model);
        }
        let mut late = !is_cut && found < grown;
        if late && found == 0 {
            let times = self.late.entry(id.clone()).or_default();
            *times += 1;
            late = *times <= LATE_AT_MOST;
        }
        if !late || found > 0 {
            self.late.remove(id);
        }
        let taken = if late { requests - grown + found } else { requests };
        self.records.insert(id.clone(), (taken, news.seen));
        Told { models, whole: !is_cut && found >= grown, late }
    }
}

/// The newest entries of a list as last seen. What came after is told by position: times repeat and may go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Of the digests of a list, newest first.
    fn of(digests: &[u64]) -> Self {
        Self(digests.iter().take(REMEMBERED).copied().collect())
    }

    /// How many of the list's newest entries were not there; `None` when nothing of what was seen is left.
    fn new_in(&self, digests: &[u64]) -> Option<usize> {
        (0..digests.len())
            .find(|start| self.0.iter().zip(&digests[*start..]).all(|(a, b)| a == b) && !self.0.is_empty())
    }
}

fn digest(entry: &str) -> u64 {
    // It is saved: another build must find the same.
    let digest = Sha256::digest(entry);
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A list to look into.
struct List {
    pub key: String,
    /// `None` when it is looked at for the first time: nothing in it is new then.
    pub seen: Option<Seen>,
    /// How many entries are probably new.
    pub expected: usize,
}

/// What a list has got.
#[derive(Debug, Default)]
struct News {
    /// Newest first.
    pub entries: Vec<String>,
    /// Nothing of what was seen is left: there may have been more.
    pub torn: bool,
    pub seen: Seen,
}

/// Looks into lists of at most `longest` entries; `None` where a key is not a list.
async fn news(redis: &mut Redis, what: &str, lists: &[List], longest: usize) -> Result<Vec<Option<News>>, ReadError> {
    let mut found: Vec<Option<News>> = lists.iter().map(|_| None).collect();
    let mut waiting: Vec<(usize, usize)> =
        lists.iter().enumerate().map(|(at, list)| (at, (list.expected + REMEMBERED).min(longest))).collect();
    while !waiting.is_empty() {
        let asks: Vec<KeyCommand> = waiting
            .iter()
            .map(|(at, depth)| KeyCommand::new("LRANGE", &*lists[*at].key).with(&["0", &(depth - 1).to_string()]))
            .collect();
        let answers = redis.each::<Vec<String>>(what, &asks).await?;
        let mut deeper = Vec::new();
        for ((at, depth), entries) in waiting.into_iter().zip(answers) {
            let Some(mut entries) = entries else { continue };
            let digests: Vec<u64> = entries.iter().map(|entry| digest(entry)).collect();
            let seen = Seen::of(&digests);
            let is_whole = entries.len() < depth || depth >= longest;
            let (new, torn) = match &lists[at].seen {
                None => (0, false),
                Some(before) => match before.new_in(&digests) {
                    Some(new) => (new, false),
                    None if is_whole => (entries.len(), !before.0.is_empty()),
                    None => {
                        deeper.push((at, (depth * DEEPER).min(longest)));
                        continue;
                    }
                },
            };
            entries.truncate(new);
            found[at] = Some(News { entries, torn, seen });
        }
        waiting = deeper;
    }
    Ok(found)
}

/// What is read of an entry of `error_history:*`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    status: Option<u16>,
    error_type: Option<String>,
}

/// The class of an entry of an error history (v1.1.314 `src/utils/upstreamErrorHelper.js`, `classifyError`).
pub(super) fn failure_class(entry: &str) -> FailureClass {
    let Ok(failure) = serde_json::from_str::<Failure>(entry) else { return FailureClass::Unknown };
    match failure.error_type.as_deref() {
        Some("rate_limit") => FailureClass::RateLimited,
        Some("overload" | "service_unavailable") => FailureClass::Overloaded,
        Some("auth_error") => FailureClass::Auth,
        Some("timeout") => FailureClass::Timeout,
        Some("server_error") => FailureClass::Server,
        _ => FailureClass::of_status(failure.status),
    }
}

/// What is read of an entry of `usage:records:*`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    model: Option<String>,
    account_id: Option<String>,
    duration_ms: Option<f64>,
    /// At the relay's rates, to 6 decimal places.
    cost: Option<f64>,
}
