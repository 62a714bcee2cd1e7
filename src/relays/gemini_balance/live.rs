//! What the relay keeps in memory only, as far as its tables tell: the health of its keys.
//!
//! Rows of the last minute are read again: on MySQL they may become visible out of the order of their ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use tokio::sync::Mutex;

use super::attempt::Attempt;
use super::error_log::ErrorLog;
use super::store::{STEP, Session, Which};
use crate::connect::sql::Database;
use crate::model::{Directory, Live, Outcome, ReadError};
use crate::relay::LiveState;
use crate::relay::overlap::Overlap;

/// Newest attempts that the first read looks at for the health of keys.
const LOOK_BACK: i64 = 50_000;

pub(super) struct LiveReader {
    database: Arc<Mutex<Database>>,
    health: Health,
    error_log: ErrorLog,
}

impl LiveReader {
    pub(super) fn new(database: Arc<Mutex<Database>>, error_log: ErrorLog) -> Self {
        Self { database, health: Health::default(), error_log }
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let mut database = self.database.lock().await;
        let mut session = Session(database.session().await?);
        let second = Utc::now().timestamp();
        let result = async {
            self.health.catch_up(&mut session, second).await?;
            self.error_log.catch_up(&mut session, second).await
        }
        .await;
        database.finish(session.0).await;
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
            error_log: self.error_log.counts(),
            database_bytes: database.sizes(),
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
