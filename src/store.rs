//! The exporter's own store: a checkpoint of each relay, so that a restart goes on where the last process was.
//!
//! The relay's ledger is the truth. What is kept here is what has been made of it up to a cursor, saved in one
//! transaction; whatever happens between two saves is read from the ledger again. So a process may be killed at any
//! moment, and a lost store costs one reading of the ledger and what the relay itself has deleted since.
//!
//! # Size
//! Sums of 39 days and of all time: each some 30 bytes per user, key, provider and model that appears in them. Facts of
//! the last 26 hours: some 45 bytes per request. Rows that may still change: those of the last ten minutes, some 120
//! bytes each. Which requests have been counted: an eighth of a byte per id at worst, next to nothing where no id is
//! missing. One sum per day since the first row, some 30 bytes. Nothing else grows. Of a relay that keeps counters: one
//! part for each of its keys and accounts, some 20 bytes per model that it has used, written when it has changed.
//!
//! # Writers
//! One process saves a relay's checkpoint; others that share the store follow: they start from the newest checkpoint, read
//! the ledger themselves, and one of them that can read it takes over when the writer's lock ends: with its process, or
//! when the relay is gone from its configuration. Two guards keep the parts of a checkpoint together even where locks do
//! not work: a save of changes names the generation that it follows, and whoever becomes the writer first saves everything.
//!
//! # Layout
//! * [`Checkpointer`]: when to save, and what has changed since the last time.
//! * `sqlite`: one file, the default for one exporter. `postgres`: a schema that replicas share.
//! * `statements`: what both have in common.

mod checkpointer;
mod postgres;
mod sqlite;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::parts::PartBytes;
use crate::relay::plan::RelayPlan;
pub use checkpointer::{Checkpointer, Kept};

/// Version of the parts' bytes. An exporter refuses a store with another one.
pub const FORMAT: i64 = 9;

/// Limit of one load or save.
const LIMIT: Duration = Duration::from_secs(20);

/// What went wrong. The text names the place and holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// May go away by itself: the server is away, the file locked, the disk full.
    #[error("{0}")]
    Unavailable(String),
    /// Needs somebody: not the exporter's own, damaged, newer. It is neither used nor touched.
    #[error("{0}")]
    Refused(String),
    /// Somebody else has saved since.
    #[error("the store has been written by another exporter")]
    StaleGeneration,
    /// Somebody else saves.
    #[error("another exporter writes to the store")]
    NotWriter,
}

/// Where the exporter keeps what it has read.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// `sqlite:<path>` for a file of this exporter's own, `postgres://...` for a database that replicas share.
    pub url: SecretString,
    /// Pause between two saves.
    pub save_interval: Duration,
}

impl StorePlan {
    /// The default of [`Self::save_interval`].
    pub(crate) const SAVE_INTERVAL: Duration = Duration::from_secs(10);

    /// At this address, with the default pause between two saves.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self { url: url.into(), save_interval: Self::SAVE_INTERVAL }
    }
}

/// Whose checkpoint it is: the relay's name in the configuration, and what its ledger is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its name in the configuration.
    pub relay: String,
    /// The product's label, or [`Product::other_ledger`](crate::relay::Product).
    pub kind: &'static str,
}

impl Owner {
    pub(crate) fn of(relay: &RelayPlan) -> Self {
        let kind = (relay.product.other_ledger)(relay).unwrap_or(relay.product.label);
        Self { relay: relay.name.clone(), kind }
    }
}

/// A checkpoint as the store has it.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub generation: i64,
    pub parts: BTreeMap<String, Bytes>,
}

/// What a save writes.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// The generation that these follow. `None`: `put` is everything, whatever the store has.
    pub after: Option<i64>,
    pub put: Vec<(String, PartBytes)>,
    pub remove: Vec<String>,
    /// Parts of the whole checkpoint.
    pub parts: usize,
}

/// The place of all checkpoints. A clone is another handle to the same connection.
#[derive(Clone)]
pub struct Store {
    endpoint: Arc<str>,
    save_interval: Duration,
    backend: Arc<Mutex<Backend>>,
}

enum Backend {
    Sqlite(sqlite::File),
    Postgres(Box<postgres::Schema>),
}

impl Store {
    /// Connects to nothing: the first load does.
    ///
    /// # Errors
    /// When the address is neither one of SQLite nor of PostgreSQL.
    pub fn open(plan: &StorePlan) -> Result<Self, StoreError> {
        let backend = backend(plan)?;
        let endpoint = match &backend {
            Backend::Sqlite(file) => file.endpoint(),
            Backend::Postgres(schema) => schema.endpoint(),
        };
        let backend = Arc::new(Mutex::new(backend));
        Ok(Self { endpoint: endpoint.into(), save_interval: plan.save_interval, backend })
    }

    /// Goes on in the same place over `other`'s connection, which was made with other credentials.
    pub(crate) async fn take_over(&self, other: &Self) {
        let mut backend = self.backend.lock().await;
        backend.close().await;
        std::mem::swap(&mut *backend, &mut *other.backend.lock().await);
    }

    /// The file, or `host:port/database`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The newest checkpoint, if there is one.
    ///
    /// # Errors
    /// When the store cannot be read, is not the exporter's own, or is damaged.
    pub(crate) async fn load(&self, owner: &Owner) -> Result<Option<Checkpoint>, StoreError> {
        let stored = self
            .within(async |backend| match backend {
                Backend::Sqlite(file) => file.load(owner).await,
                Backend::Postgres(schema) => schema.load(owner).await,
            })
            .await?;
        stored.map(|stored| stored.check(owner, &self.endpoint)).transpose()
    }

    /// The checkpoints of the owners, each if there is one; `None` before there is a store, where one can be made.
    /// Changes nothing and takes no lock.
    ///
    /// # Errors
    /// As [`Self::load`]; also when the store could not be made or written.
    pub(crate) async fn inspect(&self, owners: &[Owner]) -> Result<Option<Vec<Option<Checkpoint>>>, StoreError> {
        let seen = self
            .within(async |backend| match backend {
                Backend::Sqlite(file) => file.inspect(owners).await,
                Backend::Postgres(schema) => schema.inspect(owners).await,
            })
            .await?;
        let Some(seen) = seen else { return Ok(None) };
        let checked = owners
            .iter()
            .zip(seen)
            .map(|(owner, stored)| stored.map(|stored| stored.check(owner, &self.endpoint)).transpose());
        checked.collect::<Result<_, _>>().map(Some)
    }

    /// Becomes the writer of a relay's checkpoint, unless another process is.
    ///
    /// # Errors
    /// When the store cannot be reached.
    pub(crate) async fn become_writer(&self, owner: &Owner) -> Result<bool, StoreError> {
        self.within(async |backend| match backend {
            Backend::Sqlite(file) => file.become_writer(),
            Backend::Postgres(schema) => schema.become_writer(owner).await,
        })
        .await
    }

    /// Lets another process become the writer of a relay's checkpoint.
    pub(crate) async fn resign(&self, owner: &Owner) {
        let resigned = self
            .within(async |backend| match backend {
                // The file is this process' own, with all relays in it.
                Backend::Sqlite(_) => Ok(()),
                Backend::Postgres(schema) => schema.resign(owner).await,
            })
            .await;
        if let Err(error) = resigned {
            tracing::debug!(%error, "the writer's lock was not given back");
        }
    }

    /// Saves in one transaction; gives the new generation.
    ///
    /// # Errors
    /// When the store cannot be written, another process is the writer, or has been.
    pub(crate) async fn save(&self, owner: &Owner, changes: &Changes) -> Result<i64, StoreError> {
        let saved = self
            .within(async |backend| match backend {
                Backend::Sqlite(file) => file.save(owner, changes).await,
                Backend::Postgres(schema) => schema.save(owner, changes).await,
            })
            .await?;
        saved.ok_or(StoreError::StaleGeneration)
    }

    /// Lets go of the connection and of the writer's lock.
    pub async fn close(&self) {
        let closed = self
            .within(async |backend| {
                backend.close().await;
                Ok(())
            })
            .await;
        if let Err(error) = closed {
            tracing::debug!(%error, "the store was not closed");
        }
    }

    async fn within<T>(&self, act: impl AsyncFnOnce(&mut Backend) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A backend lends its connection to each step, so that one that is given up leaves none in an unknown state.
        let step = async { act(&mut *self.backend.lock().await).await };
        timeout(LIMIT, step).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable(format!("the store {}: not done within {LIMIT:?}", self.endpoint)))
        })
    }
}

impl Backend {
    async fn close(&mut self) {
        match self {
            Self::Sqlite(file) => file.close().await,
            Self::Postgres(schema) => schema.close().await,
        }
    }
}

fn backend(plan: &StorePlan) -> Result<Backend, StoreError> {
    Ok(match plan.url.expose_secret().strip_prefix("sqlite:") {
        Some(path) => Backend::Sqlite(sqlite::File::new(path)?),
        None => Backend::Postgres(Box::new(postgres::Schema::new(&plan.url)?)),
    })
}

/// A checkpoint as it was read, not yet trusted.
struct Stored {
    generation: i64,
    format: i64,
    count: i64,
    /// Key, bytes, checksum.
    parts: Vec<(String, Vec<u8>, Vec<u8>)>,
}

impl Stored {
    fn check(self, owner: &Owner, endpoint: &str) -> Result<Checkpoint, StoreError> {
        let Owner { relay, kind } = owner;
        let refused = |what: String| StoreError::Refused(format!("the store {endpoint}: {what}; {}", way_out()));
        if self.format != FORMAT {
            let age = if self.format > FORMAT { "a newer" } else { "an older" };
            let (theirs, relay) = (self.format, relay);
            return Err(refused(format!(
                "the checkpoint of {relay:?} is of {age} exporter (format {theirs}, not {FORMAT})"
            )));
        }
        if self.count != self.parts.len() as i64 {
            let (found, count) = (self.parts.len(), self.count);
            return Err(refused(format!("the checkpoint of {relay:?} ({kind}) has {found} of {count} parts")));
        }
        let mut parts = BTreeMap::new();
        for (key, bytes, sum) in self.parts {
            if checksum(&key, &bytes) != *sum {
                return Err(refused(format!("the part {key:?} of {relay:?} ({kind}) is damaged")));
            }
            parts.insert(key, bytes.into());
        }
        Ok(Checkpoint { generation: self.generation, parts })
    }
}

const fn way_out() -> &'static str {
    "move it away to start from the ledger alone, or let [store] url point elsewhere"
}

/// SHA-256 of a part: its key, a zero byte, its bytes.
fn checksum(key: &str, bytes: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(key);
    digest.update([0]);
    digest.update(bytes);
    digest.finalize().into()
}
