//! The keys that have been used, and the one upstream.
//!
//! The relay's own list of keys stands in clear among its secrets (`t_settings`), which need not be readable; a key that
//! was never used has no numbers either.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::PROVIDER;
use super::attempt::key_name;
use super::clock::Clock;
use super::store::{Store, Table};
use crate::model::{Directory, Key, Provider, ReadError};
use crate::relay::DirectorySource;

/// Ids of one statement.
const SLICE: i64 = 20_000;
/// Ids of one read; the first reads of a long log find its keys bit by bit, the newest first.
const STEP: i64 = 1_000_000;

pub(super) struct DirectoryReader {
    store: Arc<Mutex<Store>>,
    clock: Clock,
    /// Ids `(bottom, top]` have been looked at.
    seen: Option<(i64, i64)>,
    keys: BTreeSet<i64>,
}

impl DirectoryReader {
    pub(super) fn new(store: Arc<Mutex<Store>>, clock: Clock) -> Self {
        Self { store, clock, seen: None, keys: BTreeSet::new() }
    }

    async fn find_keys(&mut self) -> Result<(), ReadError> {
        let store = Arc::clone(&self.store);
        let mut store = store.lock().await;
        let mut session = store.session().await?;
        let result = async {
            let top = session.top(Table::Attempts).await?;
            let (bottom, seen) = self.seen.filter(|(_, seen)| *seen <= top).unwrap_or((top, top));
            let mut after = seen;
            while after < top {
                let upto = (after + SLICE).min(top);
                self.keys.extend(session.keys(after, upto).await?);
                after = upto;
            }
            let mut below = bottom;
            while below > 0 && bottom - below < STEP {
                let after = (below - SLICE).max(0);
                self.keys.extend(session.keys(after, below).await?);
                below = after;
            }
            self.seen = Some((below, top));
            Ok(())
        }
        .await;
        store.finish(session).await;
        result
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        self.find_keys().await?;
        let key = |id: &i64| Key {
            id: (*id).into(),
            name: key_name(*id),
            user_id: None,
            enabled: None,
            deleted: false,
            expires_at: None,
            created_at: None,
            slots: None,
            counts_as: (*id).into(),
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
            keys: self.keys.iter().map(key).collect(),
            providers: vec![provider],
            version: "v2.2".to_owned(),
            timezone: self.clock.zone().name().to_owned(),
            ..Directory::default()
        })
    }
}
