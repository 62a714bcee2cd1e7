//! The keys of the pool, those that have been used, and the one upstream.
//!
//! The relay's own list of keys stands in clear among its secrets (`t_settings`), which need not be readable: without it,
//! the keys that have been used are known, and whether they are still in use is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::PROVIDER;
use super::attempt::key_name;
use super::clock::Clock;
use super::store::Session;
use crate::connect::sql::Database;
use crate::model::{Directory, Key, Provider, ReadError, Reason};
use crate::relay::DirectorySource;

/// Ids of one statement.
const SLICE: i64 = 20_000;
/// Ids of one read; the first reads of a long log find its keys bit by bit, the newest first.
const STEP: i64 = 1_000_000;

pub(super) struct DirectoryReader {
    database: Arc<Mutex<Database>>,
    clock: Clock,
    /// Ids `(bottom, top]` have been looked at.
    seen: Option<(i64, i64)>,
    used: BTreeSet<i64>,
}

impl DirectoryReader {
    pub(super) fn new(database: Arc<Mutex<Database>>, clock: Clock) -> Self {
        Self { database, clock, seen: None, used: BTreeSet::new() }
    }

    /// The keys of the pool; `None` where they cannot be read.
    async fn find_keys(&mut self) -> Result<Option<BTreeSet<i64>>, ReadError> {
        let database = Arc::clone(&self.database);
        let mut database = database.lock().await;
        let mut session = Session(database.session().await?);
        let result = match self.find_used(&mut session).await {
            Ok(()) => pool(&mut session).await,
            Err(error) => Err(error),
        };
        database.finish(session.0).await;
        result
    }

    async fn find_used(&mut self, session: &mut Session) -> Result<(), ReadError> {
        let top = session.top_attempt().await?;
        let (bottom, seen) = self.seen.filter(|(_, seen)| *seen <= top).unwrap_or((top, top));
        let mut after = seen;
        while after < top {
            let upto = (after + SLICE).min(top);
            self.used.extend(session.used_keys(after, upto).await?);
            after = upto;
        }
        let mut below = bottom;
        while below > 0 && bottom - below < STEP {
            let after = (below - SLICE).max(0);
            self.used.extend(session.used_keys(after, below).await?);
            below = after;
        }
        self.seen = Some((below, top));
        Ok(())
    }
}

async fn pool(session: &mut Session) -> Result<Option<BTreeSet<i64>>, ReadError> {
    match session.pool_keys().await {
        Ok(keys) if keys.is_empty() => Ok(None),
        Ok(keys) => Ok(Some(keys.into_iter().collect())),
        // An account that may not read them, or settings that are none: nothing else suffers.
        Err(error) if matches!(error.reason, Reason::Permission | Reason::Schema | Reason::Data) => {
            tracing::debug!(error = error.text, "which keys are in the pool is not known");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let pool = self.find_keys().await?;
        let known: BTreeSet<i64> = self.used.iter().chain(pool.iter().flatten()).copied().collect();
        let key = |id: &i64| Key {
            enabled: pool.as_ref().map(|pool| pool.contains(id)),
            ..Key::of((*id).into(), key_name(*id))
        };
        let provider = Provider {
            id: PROVIDER.into(),
            name: "gemini".to_owned(),
            kind: "gemini".to_owned(),
            group: String::new(),
            enabled: None,
            deleted: false,
            slots: None,
        };
        Ok(Directory {
            keys: known.iter().map(key).collect(),
            providers: vec![provider],
            version: "v2.2".to_owned(),
            timezone: self.clock.zone().name().to_owned(),
            counts_attempts: true,
            ..Directory::default()
        })
    }
}
