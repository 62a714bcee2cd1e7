//! What the relay keeps in memory only, as far as its tables tell: the health of its keys; and its error log in numbers.
//!
//! Rows of the last minute are read again: on MySQL they may become visible out of the order of their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::Mutex;

use super::attempt::Attempt;
use super::store::{ErrorEntry, Session, Store, Which};
use crate::model::{Directory, ErrorCount, Live, Outcome, ReadError, Reason};
use crate::relay::LiveState;
use crate::relay::overlap::Overlap;

/// Newest attempts that the first read looks at for the health of keys.
const LOOK_BACK: i64 = 50_000;
/// Rows of one statement: some 20 ms of SQLite, for which the relay's writes may have to wait.
const STEP: i64 = 5_000;
/// Kinds of entries that are kept apart; the relay's code has 14.
const MOST_KINDS: usize = 50;

pub(super) struct LiveReader {
    store: Arc<Mutex<Store>>,
    health: Health,
    errors: Errors,
}

impl LiveReader {
    pub(super) fn new(store: Arc<Mutex<Store>>) -> Self {
        Self { store, health: Health::default(), errors: Errors::default() }
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let mut store = self.store.lock().await;
        let mut session = store.session().await?;
        let second = Utc::now().timestamp();
        let result = async {
            self.health.catch_up(&mut session, second).await?;
            self.errors.catch_up(&mut session, second).await
        }
        .await;
        store.finish(session).await;
        result?;
        // A key that has left the pool cannot fail any more, one that was never used has not.
        let mut failures = self.health.failures();
        for key in &directory.keys {
            let Some(id) = key.id.number() else { continue };
            match key.enabled {
                Some(true) => *failures.entry(id).or_default() += 0,
                Some(false) => {
                    failures.remove(&id);
                }
                None => {}
            }
        }
        Ok(Live {
            key_failures: Some(failures.into_iter().map(|(key, failures)| (key.into(), failures)).collect()),
            error_log: self.errors.counts(),
            database_bytes: store.sizes(),
            ..Live::default()
        })
    }
}

/// Failures of each key since its last success.
///
/// The relay itself counts them in memory, from its start, and calls a key invalid at `MAX_FAILURES`, 3 unless set
/// otherwise (v2.2.8 `app/service/key/key_manager.py`); there, a success of a user's request takes none of them away.
#[derive(Default)]
struct Health {
    overlap: Option<Overlap>,
    /// By key, up to the overlap.
    settled: BTreeMap<i64, u64>,
    /// Keys and outcomes in the overlap, by id.
    recent: BTreeMap<i64, (i64, Outcome)>,
}

impl Health {
    async fn catch_up(&mut self, session: &mut Session, second: i64) -> Result<(), ReadError> {
        let top = session.top_attempt().await?;
        // Rows are gone: the keys' state is told anew by what is left.
        if self.overlap.as_ref().is_some_and(|overlap| overlap.top() > top) {
            *self = Self::default();
        }
        let mut after = self.overlap.as_ref().map_or(top - LOOK_BACK, Overlap::floor);
        let overlap = self.overlap.get_or_insert_with(|| Overlap::after(second, top - Overlap::IDS));
        let mut recent = BTreeMap::new();
        while after < top {
            let upto = (after + STEP).min(top);
            let which = Which::After { after, upto, limit: i64::MAX };
            let rows = session.attempts("reading the health of keys", which).await?;
            let told = |it: Attempt| Some((it.id, (it.key?, it.status.outcome())));
            recent.extend(rows.into_iter().flatten().filter_map(told));
            after = upto;
        }
        overlap.note(second, top);
        self.recent = recent.split_off(&(overlap.floor() + 1));
        recent.into_values().for_each(|it| note(&mut self.settled, it));
        Ok(())
    }

    fn failures(&self) -> BTreeMap<i64, u64> {
        let mut failures = self.settled.clone();
        self.recent.values().for_each(|it| note(&mut failures, *it));
        failures
    }
}

fn note(failures: &mut BTreeMap<i64, u64>, (key, outcome): (i64, Outcome)) {
    let failures = failures.entry(key).or_default();
    match outcome {
        Outcome::Success => *failures = 0,
        Outcome::Failure => *failures += 1,
        // A caller who went away says nothing about the key.
        Outcome::Excluded => {}
    }
}

/// Entries of the error log by type and code, since the oldest that was there at the first read.
#[derive(Default)]
struct Errors {
    overlap: Option<Overlap>,
    /// Up to the overlap.
    settled: BTreeMap<(String, String), u64>,
    /// Entries in the overlap, also those that have been deleted since.
    recent: BTreeSet<ErrorEntry>,
    /// This account may not read the error log, or there is none: no numbers, and nothing else suffers.
    is_closed: bool,
}

impl Errors {
    async fn catch_up(&mut self, session: &mut Session, second: i64) -> Result<(), ReadError> {
        if self.is_closed {
            return Ok(());
        }
        match self.read(session, second).await {
            Err(error) if matches!(error.reason, Reason::Permission | Reason::Schema) => {
                tracing::warn!(error = error.text, "the error log cannot be counted");
                self.is_closed = true;
                Ok(())
            }
            other => other,
        }
    }

    async fn read(&mut self, session: &mut Session, second: i64) -> Result<(), ReadError> {
        let top = session.top_error().await?;
        let overlap = self.overlap.get_or_insert_with(|| Overlap::after(second, 0));
        // The newest entries were deleted, or a backup was restored: what is left has been counted.
        overlap.cut(top);
        let mut after = overlap.floor();
        while after < top {
            let upto = (after + STEP).min(top);
            self.recent.extend(session.errors(after, upto).await?);
            after = upto;
        }
        overlap.note(second, top);
        let floor = overlap.floor();
        while self.recent.first().is_some_and(|entry| entry.id <= floor)
            && let Some(entry) = self.recent.pop_first()
        {
            add(&mut self.settled, &entry);
        }
        Ok(())
    }

    fn counts(&self) -> Option<Vec<ErrorCount>> {
        if self.is_closed {
            return None;
        }
        let mut counts = self.settled.clone();
        self.recent.iter().for_each(|entry| add(&mut counts, entry));
        Some(counts.into_iter().map(|((kind, code), count)| ErrorCount { kind, code, count }).collect())
    }
}

fn add(counts: &mut BTreeMap<(String, String), u64>, entry: &ErrorEntry) {
    let mut kind = entry.kind.as_deref().unwrap_or("none");
    if counts.len() >= MOST_KINDS * 10 || kind.len() > 50 {
        kind = "other";
    }
    let code = entry.code.filter(|code| (100..600).contains(code));
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    *counts.entry((kind.to_owned(), code)).or_default() += 1;
}
