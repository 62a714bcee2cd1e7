//! Failures and durations, from lists that the relay keeps short: what is new in them since the last reading.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{counted_model, platform_of};
use super::reader::Reader;
use super::totals::{KeyTotals, text};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{Directory, EntityId, FailureClass, ReadError};

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

/// How far failures and durations have been taken.
#[derive(Clone, Default)]
pub(super) struct Cursors {
    /// What is there at the first look is not new.
    pub began: bool,
    /// By account.
    pub errors: HashMap<Arc<str>, Seen>,
    /// By key, with the requests that it had.
    pub records: HashMap<Arc<str>, (u64, Seen)>,
}

impl Cursors {
    /// New entries of the error histories. Accounts with some are added to `changed`.
    pub(super) async fn failures(
        &mut self,
        reader: &mut Reader,
        directory: &Directory,
        changed: &mut HashSet<Arc<str>>,
    ) -> Result<Vec<(EntityId, FailureClass, u64)>, ReadError> {
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
        let mut failures: BTreeMap<(&EntityId, FailureClass), u64> =
            accounts.iter().flat_map(|(id, _)| CLASSES.map(|class| ((*id, class), 0))).collect();
        for ((id, _), news) in accounts.iter().zip(news) {
            let Some(news) = news else { continue };
            for entry in &news.entries {
                *failures.entry((id, failure_class(entry))).or_default() += 1;
            }
            let id = text(id);
            if self.errors.get(&id) != Some(&news.seen) {
                self.errors.insert(id.clone(), news.seen);
                changed.insert(id);
            }
        }
        Ok(failures.into_iter().map(|((id, class), count)| (id.clone(), class, count)).collect())
    }

    /// Durations since the last reading, and how many requests left none. Keys with some are added to `touched`.
    pub(super) async fn durations(
        &mut self,
        reader: &mut Reader,
        keys: &HashMap<Arc<str>, KeyTotals>,
        touched: &mut HashSet<Arc<str>>,
    ) -> Result<(Vec<(EntityId, Arc<str>, u64)>, u64), ReadError> {
        let mut changed: Vec<(Arc<str>, u64, Option<Seen>, u64)> = Vec::new();
        for (id, totals) in keys {
            let requests = totals.requests.total();
            match self.records.get(id) {
                Some((before, _)) if *before == requests => {}
                Some((before, seen)) => {
                    changed.push((id.clone(), requests.saturating_sub(*before), Some(seen.clone()), requests));
                }
                None => changed.push((id.clone(), requests, self.began.then(Seen::default), requests)),
            }
        }
        let lists: Vec<List> = changed
            .iter()
            .map(|(id, grown, seen, _)| List {
                key: format!("usage:records:{id}"),
                seen: seen.clone(),
                expected: if seen.is_some() { usize::try_from(*grown).unwrap_or(RECORDS).min(RECORDS) } else { 0 },
            })
            .collect();
        reader.read += lists.len() as u64;
        let news = news(&mut reader.redis, "reading records", &lists, RECORDS).await?;
        let (mut durations, mut missed) = (Vec::new(), 0);
        for ((id, grown, seen, requests), news) in changed.into_iter().zip(news) {
            let Some(news) = news else { continue };
            if seen.is_some() && (news.torn || news.entries.len() >= RECORDS) {
                missed += grown.saturating_sub(news.entries.len() as u64);
            }
            for record in news.entries.iter().rev().filter_map(|entry| serde_json::from_str::<Record>(entry).ok()) {
                if let Some(ms) = record.duration_ms.filter(|ms| (0.0..1e12).contains(ms)) {
                    let account = record.account_id.as_deref().filter(|id| !id.is_empty()).unwrap_or("unknown");
                    let model = counted_model(record.model.as_deref().unwrap_or("unknown")).as_ref().into();
                    durations.push((account.into(), model, ms.round() as u64));
                }
            }
            touched.insert(id.clone());
            self.records.insert(id, (requests, news.seen));
        }
        Ok((durations, missed))
    }
}

/// The newest entries of a list as last seen. What came after is told by position: times repeat and may go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    pub(super) fn of(entries: &[String]) -> Self {
        Self(entries.iter().take(REMEMBERED).map(|entry| digest(entry)).collect())
    }

    /// How many of the list's newest entries were not there; `None` when nothing of what was seen is left.
    fn new_in(&self, entries: &[String]) -> Option<usize> {
        let digests: Vec<u64> = entries.iter().map(|entry| digest(entry)).collect();
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
            let seen = Seen::of(&entries);
            let is_whole = entries.len() < depth || depth >= longest;
            let (new, torn) = match &lists[at].seen {
                None => (0, false),
                Some(before) => match before.new_in(&entries) {
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
pub(super) struct Record {
    pub model: Option<String>,
    pub account_id: Option<String>,
    pub duration_ms: Option<f64>,
}
