//! When to save, and what has changed since the last time. Nothing here waits, but at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Changes, Checkpoint, Owner, Store, StoreError, checksum, way_out};
use crate::parts::{Part, PartError};
use crate::view::StoreStatus;

/// Limit of the last save.
const LAST: Duration = Duration::from_secs(5);

/// A follower looks at least so often whether it may become the writer.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// What is written down as a checkpoint and taken up again.
pub trait Kept: Send {
    /// Every part, cursors included; those that have not changed since the last time without their bytes, unless `all` are
    /// wanted. `None` before anything has been read.
    ///
    /// # Errors
    /// When a part cannot be written.
    fn parts(&mut self, all: bool) -> Result<Option<Vec<Part>>, PartError>;

    /// Goes on where the one that wrote the parts was.
    ///
    /// # Errors
    /// When a part is missing or cannot be understood; nothing has changed then.
    fn restore(&mut self, parts: BTreeMap<String, Bytes>) -> Result<(), PartError>;
}

/// The saving of one relay. At most one step is under way, in a task of its own.
pub struct Checkpointer {
    store: Store,
    owner: Owner,
    role: Role,
    /// What the store has, as far as this process knows.
    known: Option<Known>,
    /// What is kept may have changed without telling so.
    all: bool,
    /// The relay could be read the last time.
    reads: bool,
    step: Option<JoinHandle<Result<Done, StoreError>>>,
    due: Instant,
    status: StoreStatus,
    problem: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nobody has seen yet whether there is a checkpoint: saving might destroy it.
    Restoring,
    Reader,
    Writer,
}

struct Known {
    generation: i64,
    parts: BTreeMap<String, Digest>,
}

/// Of a part: how many bytes, and their checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Digest {
    bytes: usize,
    checksum: [u8; 32],
}

enum Done {
    Loaded(Option<Checkpoint>),
    Writer(bool),
    Saved(Known),
}

impl Checkpointer {
    /// Restores what is kept from the store's checkpoint, if there is one. A store that is away is asked again later.
    ///
    /// # Errors
    /// When what the store has cannot be used: then nobody must write over it.
    pub async fn start(store: Store, owner: Owner, kept: &mut dyn Kept) -> Result<Self, StoreError> {
        let mut checkpointer = Self::later(store, owner);
        match checkpointer.store.load(&checkpointer.owner).await {
            Ok(checkpoint) => checkpointer.restore(checkpoint, kept)?,
            Err(StoreError::Unavailable(text)) => checkpointer.fail(&text),
            Err(error) => return Err(error),
        }
        Ok(checkpointer)
    }

    /// Like [`Self::start`] with a store that is away: it is asked when there is time.
    pub(crate) fn later(store: Store, owner: Owner) -> Self {
        let (role, due, status) = (Role::Restoring, Instant::now(), StoreStatus::default());
        Self { store, owner, role, known: None, all: false, reads: true, step: None, due, status, problem: None }
    }

    /// Goes on over this connection to the same store.
    pub(crate) fn over(self, store: &Store) -> Self {
        Self { store: store.clone(), ..self }
    }

    /// What is kept has been taken over by another reader, which does not know what has changed since the last save.
    pub fn save_all(&mut self) {
        self.all = true;
    }

    /// How it goes, for the page.
    pub const fn status(&self) -> StoreStatus {
        self.status
    }

    /// Notes how the last step went, and begins the next one when it is due. `reads`: the relay could be read the last time.
    pub async fn tick(&mut self, kept: &mut dyn Kept, reads: bool) {
        self.reads = reads;
        if self.step.as_ref().is_some_and(|step| !step.is_finished()) {
            return;
        }
        self.settle(kept).await;
        if Instant::now() >= self.due {
            self.begin(kept);
        }
    }

    /// Saves for the last time.
    pub async fn finish(mut self, kept: &mut dyn Kept) {
        let last = async {
            self.settle(kept).await;
            if self.role == Role::Reader {
                // A short life may have ended before the first save.
                self.begin(kept);
                self.settle(kept).await;
            }
            if self.role == Role::Writer {
                self.begin(kept);
                self.settle(kept).await;
            }
        };
        if timeout(LAST, last).await.is_err() {
            tracing::warn!("the last save was not done within {LAST:?}");
            // Whoever closes the store would wait for it.
            self.step.iter().for_each(JoinHandle::abort);
        }
    }

    fn begin(&mut self, kept: &mut dyn Kept) {
        let pause = self.store.save_interval;
        self.due = Instant::now() + if self.role == Role::Reader { pause.min(TAKE_OVER) } else { pause };
        if self.role == Role::Reader && !self.reads {
            // What it knows is older than what somebody knows who can read the relay; that one is to save.
            return;
        }
        let (store, owner) = (self.store.clone(), self.owner.clone());
        self.step = Some(match self.role {
            Role::Restoring => tokio::spawn(async move { store.load(&owner).await.map(Done::Loaded) }),
            Role::Reader => tokio::spawn(async move { store.become_writer(&owner).await.map(Done::Writer) }),
            Role::Writer => {
                let (changes, mut known) = match self.changes(kept) {
                    Ok(Some(changes)) => {
                        self.all = false;
                        changes
                    }
                    Ok(None) => return,
                    Err(error) => return self.fail(&error.to_string()),
                };
                tokio::spawn(async move {
                    known.generation = store.save(&owner, &changes).await?;
                    Ok(Done::Saved(known))
                })
            }
        });
    }

    /// What the store lacks, and what it will have; `None` before anything has been read.
    fn changes(&self, kept: &mut dyn Kept) -> Result<Option<(Changes, Known)>, PartError> {
        let before = self.known.as_ref();
        let Some(parts) = kept.parts(before.is_none() || self.all)? else { return Ok(None) };
        let mut put = Vec::new();
        let mut after = BTreeMap::new();
        for (key, bytes) in parts {
            let had = before.and_then(|known| known.parts.get(&key));
            let Some(bytes) = bytes else {
                after.extend(had.map(|digest| (key, *digest)));
                continue;
            };
            let plain = bytes.get();
            let digest = Digest { bytes: plain.len(), checksum: checksum(&key, &plain) };
            if had != Some(&digest) {
                put.push((key.clone(), bytes));
            }
            after.insert(key, digest);
        }
        let gone = before.iter().flat_map(|known| known.parts.keys()).filter(|key| !after.contains_key(*key));
        let remove = gone.cloned().collect();
        let generation = before.map(|known| known.generation);
        let changes = Changes { after: generation, put, remove, parts: after.len() };
        Ok(Some((changes, Known { generation: generation.unwrap_or(0), parts: after })))
    }

    /// Waits for the step under way, if any, and draws the conclusions.
    async fn settle(&mut self, kept: &mut dyn Kept) {
        let Some(step) = &mut self.step else { return };
        let done =
            step.await.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a step of the store: {error}"))));
        self.step = None;
        match done {
            Ok(Done::Loaded(checkpoint)) => match self.restore(checkpoint, kept) {
                Ok(()) => self.due = Instant::now(),
                Err(error) => return self.fail(&error.to_string()),
            },
            Ok(Done::Writer(leads)) => {
                if leads {
                    tracing::info!(store = self.store.endpoint(), "saving to the store");
                    self.role = Role::Writer;
                    self.due = Instant::now();
                }
            }
            Ok(Done::Saved(known)) => {
                self.status.last_save = Some(Utc::now());
                self.know(known);
            }
            Err(StoreError::StaleGeneration) => {
                // Its checkpoint gives way to all of this one.
                tracing::info!(store = self.store.endpoint(), "taking over the store");
                self.known = None;
                self.due = Instant::now();
            }
            Err(StoreError::NotWriter) => {
                // The session that held the lock has ended.
                self.known = None;
                self.role = Role::Reader;
                self.due = Instant::now();
            }
            Err(error) => {
                // What became of the step is unknown, and the lock may be lost.
                self.known = None;
                if self.role == Role::Writer {
                    self.role = Role::Reader;
                }
                self.status.writer = false;
                return self.fail(&error.to_string());
            }
        }
        self.status.writer = self.role == Role::Writer;
        self.status.up = true;
        if self.problem.take().is_some() {
            tracing::info!(store = self.store.endpoint(), "the store can be used again");
        }
    }

    fn restore(&mut self, checkpoint: Option<Checkpoint>, kept: &mut dyn Kept) -> Result<(), StoreError> {
        if let Some(Checkpoint { generation, parts }) = checkpoint {
            let digest = |(key, bytes): (&String, &Bytes)| {
                (key.clone(), Digest { bytes: bytes.len(), checksum: checksum(key, bytes) })
            };
            let known = Known { generation, parts: parts.iter().map(digest).collect() };
            kept.restore(parts).map_err(|error| {
                let (endpoint, relay) = (self.store.endpoint(), &self.owner.relay);
                StoreError::Refused(format!(
                    "the store {endpoint}: the checkpoint of {relay:?}: {error}; {}",
                    way_out()
                ))
            })?;
            tracing::info!(store = self.store.endpoint(), parts = known.parts.len(), "restored");
            self.know(known);
        }
        self.role = Role::Reader;
        (self.status.restored, self.status.up) = (true, true);
        Ok(())
    }

    fn know(&mut self, known: Known) {
        self.status.bytes = known.parts.values().map(|part| part.bytes as u64).sum();
        self.known = Some(known);
    }

    fn fail(&mut self, text: &str) {
        self.status.up = false;
        self.status.failures += 1;
        if self.problem.as_deref() != Some(text) {
            tracing::warn!(
                failures = self.status.failures,
                error = text,
                "the store cannot be used; going on from memory"
            );
            self.problem = Some(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::PartBytes;
    use crate::settings::StorePlan;

    /// Parts, each with whether it has changed.
    #[derive(Default)]
    struct Reader(BTreeMap<String, (Bytes, bool)>);

    impl Reader {
        fn of(parts: &[(&'static str, &'static str)], changed: bool) -> Self {
            Self(parts.iter().map(|(key, text)| ((*key).to_owned(), (Bytes::from(*text), changed))).collect())
        }
    }

    impl Kept for Reader {
        fn parts(&mut self, all: bool) -> Result<Option<Vec<(String, Option<PartBytes>)>>, PartError> {
            let parts = self.0.iter_mut().map(|(key, (bytes, changed))| {
                let wanted = std::mem::take(changed) || all;
                (key.clone(), wanted.then(|| bytes.clone().into()))
            });
            Ok(Some(parts.collect()))
        }

        fn restore(&mut self, parts: BTreeMap<String, Bytes>) -> Result<(), PartError> {
            self.0 = parts.into_iter().map(|(key, bytes)| (key, (bytes, false))).collect();
            Ok(())
        }
    }

    async fn saved(saving: &mut Checkpointer, reader: &mut Reader) {
        let before = saving.status().last_save;
        while saving.status().last_save == before {
            saving.tick(reader, true).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_part_that_was_new_before_a_reload_is_saved_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let plan = StorePlan { save_interval: Duration::ZERO, ..StorePlan::new(url) };
        let start = async |reader: &mut Reader| {
            let owner = Owner { relay: "main".into(), kind: "claude-relay-service" };
            Checkpointer::start(Store::open(&plan).unwrap(), owner, reader).await.unwrap()
        };
        let mut reader = Reader::of(&[("key/1", "one")], true);
        let mut saving = start(&mut reader).await;
        saved(&mut saving, &mut reader).await;

        let mut reopened = Reader::of(&[("key/1", "one and more"), ("key/2", "two")], false);
        saving.save_all();
        saving.finish(&mut reopened).await;

        let mut restarted = Reader::default();
        start(&mut restarted).await;
        let texts: Vec<_> = restarted.0.values().map(|(bytes, _)| bytes.clone()).collect();
        assert_eq!(texts, ["one and more", "two"]);
    }

    /// A reader whose last attempt failed tells of no change, and of a part that it has not told yet.
    #[tokio::test]
    async fn a_part_that_has_not_been_told_yet_spoils_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let plan = StorePlan { save_interval: Duration::ZERO, ..StorePlan::new(url) };
        let owner = || Owner { relay: "main".into(), kind: "claude-relay-service" };
        let mut reader = Reader::of(&[("key/1", "one")], true);
        let mut saving = Checkpointer::start(Store::open(&plan).unwrap(), owner(), &mut reader).await.unwrap();
        saved(&mut saving, &mut reader).await;
        reader.0.insert("key/2".to_owned(), (Bytes::from("two"), false));
        saving.finish(&mut reader).await;

        let mut restarted = Reader::default();
        Checkpointer::start(Store::open(&plan).unwrap(), owner(), &mut restarted).await.unwrap();
        assert_eq!(restarted.0.len(), 1, "the next save has the other");
    }
}
