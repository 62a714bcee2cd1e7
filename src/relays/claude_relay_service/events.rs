//! Failures and durations, from lists that the relay keeps short: what is new in them since the last reading.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use crate::kv::{Ask, Kv};
use crate::model::{FailureClass, ReadError};

/// Entries of a list's head that are remembered, to find it again.
const REMEMBERED: usize = 4;
/// A list in which the head is not found is read again, this much deeper.
const DEEPER: usize = 25;

/// The newest entries of a list as last seen. What came after is told by position: times repeat and may go back.
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    pub fn of(entries: &[String]) -> Self {
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
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    hasher.finish()
}

/// A list to look into.
pub struct List {
    pub key: String,
    /// `None` when it is looked at for the first time: nothing in it is new then.
    pub seen: Option<Seen>,
    /// How many entries are probably new.
    pub expected: usize,
}

/// What a list has got.
#[derive(Debug, Default)]
pub struct News {
    /// Newest first.
    pub entries: Vec<String>,
    /// Nothing of what was seen is left: there may have been more.
    pub torn: bool,
    pub seen: Seen,
}

/// Looks into lists of at most `longest` entries; `None` where a key is not a list.
pub async fn news(kv: &mut Kv, what: &str, lists: &[List], longest: usize) -> Result<Vec<Option<News>>, ReadError> {
    let mut found: Vec<Option<News>> = lists.iter().map(|_| None).collect();
    let mut waiting: Vec<(usize, usize)> =
        lists.iter().enumerate().map(|(at, list)| (at, (list.expected + REMEMBERED).min(longest))).collect();
    while !waiting.is_empty() {
        let asks: Vec<Ask> = waiting
            .iter()
            .map(|(at, depth)| Ask::new("LRANGE", &*lists[*at].key).with(&["0", &(depth - 1).to_string()]))
            .collect();
        let answers = kv.each::<Vec<String>>(what, &asks).await?;
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
pub fn failure_class(entry: &str) -> FailureClass {
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
pub struct Record {
    pub model: Option<String>,
    pub account_id: Option<String>,
    pub duration_ms: Option<f64>,
}
