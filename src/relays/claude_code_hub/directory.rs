//! Names, limits, settings.

use async_trait::async_trait;
use chrono_tz::Tz;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::schema::Schema;
use super::zone::{From, Zones};
use super::{Settings, limits};
use crate::connect::postgres::{Database, Snapshot, understood};
use crate::model::{Directory, EntityId, Key, Provider, ReadError, Scope, User};
use crate::relay::DirectorySource;
use crate::relay::known_database::KnownDatabase;

pub(super) const USERS: &str = include_str!("users.sql");
pub(super) const KEYS: &str = include_str!("keys.sql");
pub(super) const PROVIDERS: &str = include_str!("providers.sql");

pub(crate) struct DirectoryReader {
    database: KnownDatabase<Schema>,
    zones: Zones,
    /// A setting that is no known zone and has been logged.
    unknown_zone: Option<String>,
}

impl DirectoryReader {
    pub(crate) fn new(database: Database, zones: Zones) -> Self {
        Self { database: KnownDatabase::new(database), zones, unknown_zone: None }
    }

    /// The zone of the relay's setting; one that is not known is logged when it appears.
    fn zone(&mut self, setting: Option<String>) -> Tz {
        let (zone, from) = self.zones.choose(setting.as_deref());
        let unknown = setting.filter(|_| from == From::Unknown);
        if unknown != self.unknown_zone {
            if let Some(setting) = &unknown {
                tracing::warn!(setting, used = zone.name(), "the relay's time zone is not known here: set `timezone`");
            }
            self.unknown_zone = unknown;
        }
        zone
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Directory, ReadError> {
        let settings = Settings::read(snapshot, schema).await?;
        let mut directory = Directory {
            currency: settings.currency,
            version: schema.level.label().to_owned(),
            timezone: self.zone(settings.timezone).name().to_owned(),
            sessions_untracked: settings.sessions_untracked,
            ..Directory::default()
        };
        for row in snapshot.fetch("reading users", sqlx::query(schema.fit(USERS))).await? {
            if let Some(user) = understood("user", &row, user(&row)) {
                limits::read(&row, Scope::User, &user.id, user.deleted, &mut directory.limits);
                directory.users.push(user);
            }
        }
        for row in snapshot.fetch("reading keys", sqlx::query(schema.fit(KEYS))).await? {
            if let Some(key) = understood("key", &row, key(&row)) {
                limits::read(&row, Scope::Key, &key.id, key.deleted, &mut directory.limits);
                directory.keys.push(key);
            }
        }
        for row in snapshot.fetch("reading providers", sqlx::query(schema.fit(PROVIDERS))).await? {
            if let Some(provider) = understood("provider", &row, provider(&row)) {
                limits::read(&row, Scope::Provider, &provider.id, provider.deleted, &mut directory.limits);
                if row.try_get("without_breaker").unwrap_or(false) {
                    directory.without_breaker.push(provider.id.clone());
                }
                directory.providers.push(provider);
            }
        }
        directory.replica_lag_seconds = replica_lag(snapshot).await;
        Ok(directory)
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let (mut snapshot, schema) = self.database.snapshot().await?;
        let result = self.read_all(&mut snapshot, &schema).await;
        self.database.end(snapshot, result).await
    }
}

/// Seconds that a replica is behind; `None` on a primary, and on a service that does not tell. To be asked last: what the
/// server refuses ends the transaction.
pub(super) async fn replica_lag(snapshot: &mut Snapshot) -> Option<f64> {
    let query = sqlx::query(include_str!("replica.sql"));
    let row = snapshot.fetch_one("looking at the replication", query).await;
    row.inspect_err(|error| tracing::debug!(%error, "the replication's state is not told")).ok()?.try_get("lag").ok()?
}

fn id(row: &PgRow, column: &str) -> Result<EntityId, sqlx::Error> {
    row.try_get::<i64, _>(column).map(EntityId::Number)
}

fn user(row: &PgRow) -> Result<User, sqlx::Error> {
    Ok(User {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        enabled: row.try_get("enabled")?,
        deleted: row.try_get("deleted")?,
        expires_at: row.try_get("expires_at")?,
        sessions: limit(row, "sessions")?,
        requests_per_minute: limit(row, "requests_per_minute")?,
        balance: None,
    })
}

fn key(row: &PgRow) -> Result<Key, sqlx::Error> {
    Ok(Key {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        user_id: Some(id(row, "user_id")?),
        enabled: row.try_get("enabled")?,
        deleted: row.try_get("deleted")?,
        expires_at: row.try_get("expires_at")?,
        created_at: None,
        slots: None,
        sessions: limit(row, "sessions")?,
        counts_as: id(row, "counts_as")?,
    })
}

fn provider(row: &PgRow) -> Result<Provider, sqlx::Error> {
    Ok(Provider {
        id: id(row, "id")?,
        name: row.try_get("name")?,
        kind: row.try_get("kind")?,
        group: row.try_get("provider_group")?,
        enabled: row.try_get("enabled")?,
        deleted: row.try_get("deleted")?,
        slots: limit(row, "slots")?,
    })
}

/// 0 is no limit.
fn limit(row: &PgRow, column: &str) -> Result<Option<u64>, sqlx::Error> {
    let limit: Option<i32> = row.try_get(column)?;
    Ok(limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0))
}
