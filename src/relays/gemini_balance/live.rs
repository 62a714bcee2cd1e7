//! What the relay keeps in memory only, as far as its tables tell: the health of its keys; and its error log in numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::attempt::Attempt;
use super::store::{Session, Store, Table};
use crate::model::{Directory, ErrorCount, Live, Outcome, ReadError, Reason};
use crate::relay::LiveState;

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
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut store = self.store.lock().await;
        let mut session = store.session().await?;
        let result = async {
            self.health.catch_up(&mut session).await?;
            self.errors.catch_up(&mut session).await
        }
        .await;
        store.finish(session).await;
        result?;
        Ok(Live {
            key_failures: Some(self.health.failures.iter().map(|(key, failures)| ((*key).into(), *failures)).collect()),
            error_log: self.errors.counts(),
            ..Live::default()
        })
    }
}

/// Failures of each key since its last success.
///
/// The relay itself counts them in memory, from its start, and calls a key invalid at `MAX_FAILURES`, 3 unless set
/// otherwise (v2.2.8 `app/service/key/key_manager.py`).
#[derive(Default)]
struct Health {
    cursor: Option<i64>,
    failures: BTreeMap<i64, u64>,
}

impl Health {
    async fn catch_up(&mut self, session: &mut Session) -> Result<(), ReadError> {
        let top = session.top(Table::Attempts).await?;
        // Rows are gone: the keys' state is told anew by what is left.
        if self.cursor.is_some_and(|cursor| cursor > top) {
            *self = Self::default();
        }
        let mut after = self.cursor.unwrap_or((top - LOOK_BACK).max(0));
        while after < top {
            let upto = (after + STEP).min(top);
            let which = format!("id > {after} and id <= {upto} order by id");
            session.attempts("reading the health of keys", &which).await?.iter().flatten().for_each(|it| self.note(it));
            after = upto;
        }
        self.cursor = Some(top);
        Ok(())
    }

    fn note(&mut self, attempt: &Attempt) {
        let Some(key) = attempt.key else { return };
        let failures = self.failures.entry(key).or_default();
        match attempt.status.outcome() {
            Outcome::Success => *failures = 0,
            Outcome::Failure => *failures += 1,
            // A caller who went away says nothing about the key.
            Outcome::Excluded => {}
        }
    }
}

/// Entries of the error log by type and code, since the oldest that was there at the first read.
#[derive(Default)]
struct Errors {
    cursor: i64,
    counts: BTreeMap<(String, String), u64>,
    /// This account may not read the error log, or there is none: no numbers, and nothing else suffers.
    is_closed: bool,
}

impl Errors {
    async fn catch_up(&mut self, session: &mut Session) -> Result<(), ReadError> {
        if self.is_closed {
            return Ok(());
        }
        match self.read(session).await {
            Err(error) if matches!(error.reason, Reason::Permission | Reason::Schema) => {
                tracing::warn!(error = error.text, "the error log cannot be counted");
                self.is_closed = true;
                Ok(())
            }
            other => other,
        }
    }

    async fn read(&mut self, session: &mut Session) -> Result<(), ReadError> {
        let top = session.top(Table::Errors).await?;
        // The newest entries were deleted, or a backup was restored: what is left has been counted.
        self.cursor = self.cursor.min(top);
        while self.cursor < top {
            let upto = (self.cursor + STEP).min(top);
            let which = format!("id > {} and id <= {upto}", self.cursor);
            for entry in session.errors(&which, false).await? {
                let mut kind = entry.kind.unwrap_or_else(|| "none".to_owned());
                if self.counts.len() >= MOST_KINDS * 10 || kind.len() > 50 {
                    kind = "other".to_owned();
                }
                let code = entry.code.filter(|code| (100..600).contains(code));
                let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
                *self.counts.entry((kind, code)).or_default() += 1;
            }
            self.cursor = upto;
        }
        Ok(())
    }

    fn counts(&self) -> Option<Vec<ErrorCount>> {
        let count = |((kind, code), count): (&(String, String), &u64)| ErrorCount {
            kind: kind.clone(),
            code: code.clone(),
            count: *count,
        };
        (!self.is_closed).then(|| self.counts.iter().map(count).collect())
    }
}
