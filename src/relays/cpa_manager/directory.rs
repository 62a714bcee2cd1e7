//! Who is who. The relay has no table of credentials or of client keys: they are whoever appears in the ledger, which is
//! looked through once, newest first and a little at a time, and then followed. Keys have names in a table of their own.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono_tz::Tz;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::identity::{key_id, provider_id};
use super::ledger::ENDS;
use super::row::text;
use super::schema::{Schema, SchemaCache};
use crate::connect::sqlite::{File, Snapshot};
use crate::model::{Directory, Key, Provider, ReadError};
use crate::relay::DirectorySource;

pub(super) const SEEN: &str = include_str!("directory.sql");
pub(super) const ALIASES: &str = include_str!("aliases.sql");

/// Ids of one statement: some 10 ms.
const SPAN: i64 = 5_000;
/// How long one read may look through the past.
const PATIENCE: Duration = Duration::from_millis(500);
/// Credentials, and keys, that are remembered at most.
const MOST: usize = 20_000;

pub(super) struct DirectoryReader {
    file: File,
    zone: Tz,
    schema: SchemaCache,
    seen: Seen,
}

/// Who has appeared in the ids after `bottom` up to `top`.
#[derive(Default)]
struct Seen {
    top: i64,
    bottom: i64,
    credentials: BTreeMap<i64, Credential>,
    /// The first digits of each key's hash.
    keys: BTreeMap<i64, String>,
}

struct Credential {
    /// The row that told the rest.
    newest: i64,
    kind: String,
    auth_type: String,
    source: String,
}

impl DirectoryReader {
    pub(super) fn new(file: File, zone: Tz) -> Self {
        Self { file, zone, schema: SchemaCache::default(), seen: Seen::default() }
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot) -> Result<Directory, ReadError> {
        let version = snapshot.schema_version().await?;
        let schema = self.schema.get(Some(version), Schema::detect(snapshot)).await?;
        self.seen.follow(snapshot).await?;
        let mut aliases: HashMap<i64, String> = HashMap::new();
        if schema.has_table("api_key_aliases") {
            for row in snapshot.fetch("reading the names of client keys", sqlx::query(ALIASES)).await? {
                let named = || Ok::<_, sqlx::Error>((bytes(&row, "api_key_hash")?, text(&row, "alias")?.into_owned()));
                match named() {
                    Ok((hash, alias)) => {
                        if let Some(id) = key_id(hash).filter(|_| !alias.trim().is_empty()) {
                            self.seen.key(id, hash);
                            aliases.insert(id, alias);
                        }
                    }
                    Err(error) => tracing::warn!(%error, "left out a name that could not be understood"),
                }
            }
        }
        let keys = self.seen.keys.iter();
        let keys = keys.map(|(id, digits)| Key::of((*id).into(), aliases.remove(id).unwrap_or_else(|| digits.clone())));
        let keys = keys.collect();
        let providers = self.seen.credentials.iter().map(|(id, credential)| Provider {
            id: (*id).into(),
            name: format!("{} {}", credential.kind, credential.source),
            kind: credential.kind.clone(),
            group: credential.auth_type.clone(),
            enabled: None,
            deleted: false,
            slots: None,
        });
        Ok(Directory {
            providers: providers.collect(),
            keys,
            version: schema.level.label().to_owned(),
            timezone: self.zone.name().to_owned(),
            counts_attempts: true,
            ..Directory::default()
        })
    }
}

impl Seen {
    /// New rows, then a piece of the past. A credential is named as it appeared last.
    async fn follow(&mut self, snapshot: &mut Snapshot) -> Result<(), ReadError> {
        let what = "looking for credentials and keys";
        let ends = snapshot.fetch_one(what, sqlx::query(ENDS)).await?;
        let top: i64 = ends.try_get("top").map_err(|error| snapshot.error(what, &error))?;
        if top < self.top {
            // Another file, or a restored one.
            *self = Self::default();
        }
        if self.top == 0 {
            (self.top, self.bottom) = (top, top);
        }
        let began = Instant::now();
        while self.top < top {
            let up_to = top.min(self.top + SPAN);
            self.look(snapshot, self.top, up_to).await?;
            self.top = up_to;
        }
        while self.bottom > 0 && began.elapsed() < PATIENCE {
            let after = (self.bottom - SPAN).max(0);
            self.look(snapshot, after, self.bottom).await?;
            self.bottom = after;
        }
        Ok(())
    }

    async fn look(&mut self, snapshot: &mut Snapshot, after: i64, up_to: i64) -> Result<(), ReadError> {
        let what = "looking for credentials and keys";
        for row in snapshot.fetch(what, sqlx::query(SEEN).bind(after).bind(up_to)).await? {
            self.note(&row).map_err(|error| snapshot.error(what, &error))?;
        }
        Ok(())
    }

    fn note(&mut self, row: &SqliteRow) -> Result<(), sqlx::Error> {
        let hash = bytes(row, "api_key_hash")?;
        if let Some(id) = key_id(hash) {
            self.key(id, hash);
        }
        let (source, provider) = (bytes(row, "source_hash")?, bytes(row, "provider")?);
        let id = provider_id(bytes(row, "auth_index")?, source, provider);
        let newest = row.try_get("newest")?;
        let known = self.credentials.get(&id);
        if known.is_some_and(|known| known.newest >= newest) || (known.is_none() && self.credentials.len() >= MOST) {
            return Ok(());
        }
        let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
        let credential = Credential {
            newest,
            kind: or(&text(row, "provider")?, "unknown"),
            auth_type: or(&text(row, "auth_type")?, "default"),
            source: if source.is_empty() { format!("{id:011x}")[..8].to_owned() } else { digits(source) },
        };
        self.credentials.insert(id, credential);
        Ok(())
    }

    fn key(&mut self, id: i64, hash: &[u8]) {
        if self.keys.len() < MOST || self.keys.contains_key(&id) {
            self.keys.entry(id).or_insert_with(|| digits(hash));
        }
    }
}

/// The first digits of a hash: enough to find it, nothing to use. What is no hash is none of ours to show.
fn digits(hash: &[u8]) -> String {
    let is_hash = hash.len() == 64 && hash.iter().all(u8::is_ascii_hexdigit);
    if is_hash {
        String::from_utf8_lossy(&hash[..8]).into_owned()
    } else {
        format!("{:011x}", key_id(hash).unwrap_or(0))
    }
}

fn bytes<'r>(row: &'r SqliteRow, column: &str) -> Result<&'r [u8], sqlx::Error> {
    Ok(row.try_get::<Option<&[u8]>, _>(column)?.unwrap_or_default())
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = self.read_all(&mut snapshot).await;
        snapshot.close().await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}
