//! Users, keys, upstream accounts, and what is used of their limits.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;

use super::limits::Limits;
use super::schema::Schema;
use super::windows::{self, Windows};
use super::zone::{From, Zones};
use crate::connect::postgres::{Snapshot, understood};
use crate::model::{Directory, EntityId, Key, Provider, ReadError, Scope, Usd, User, is_address};
use crate::relay::DirectorySource;
use crate::relay::known_database::KnownDatabase;

pub(super) const USERS: &str = include_str!("sql/users.sql");
pub(super) const KEYS: &str = include_str!("sql/keys.sql");
pub(super) const ACCOUNTS: &str = include_str!("sql/accounts.sql");
pub(super) const SUBSCRIPTIONS: &str = include_str!("sql/subscriptions.sql");
pub(super) const PLATFORM_QUOTAS: &str = include_str!("sql/platform_quotas.sql");

pub(super) struct DirectoryReader {
    database: Arc<Mutex<KnownDatabase<Schema>>>,
    zones: Zones,
    /// A zone of the relay's that is not known here, and has been logged.
    unknown_zone: Option<From>,
}

impl DirectoryReader {
    pub(super) fn new(database: Arc<Mutex<KnownDatabase<Schema>>>, zones: Zones) -> Self {
        Self { database, zones, unknown_zone: None }
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Directory, ReadError> {
        let (zone, from) = self.zones.choose(snapshot, schema).await?;
        let unknown = Some(from).filter(|from| matches!(from, From::Unknown(_)));
        if let Some(From::Unknown(name)) = unknown.as_ref().filter(|_| unknown != self.unknown_zone) {
            tracing::warn!(name, used = zone.name(), "the relay's time zone is not known here: set `timezone`");
        }
        self.unknown_zone = unknown;
        let mut directory = Directory {
            version: schema.level().label().to_owned(),
            timezone: zone.name().to_owned(),
            ..Directory::default()
        };
        let mut limits = Limits::default();
        for row in snapshot.fetch("reading users", sqlx::query(schema.fit(USERS))).await? {
            directory.users.extend(understood("user", &row, user(&row)));
        }
        for row in snapshot.fetch("reading keys", sqlx::query(schema.fit(KEYS))).await? {
            if let Some(key) = understood("key", &row, key(&row)) {
                if !key.deleted {
                    limits.read(&row, Scope::Key, &key.id, "");
                }
                directory.keys.push(key);
            }
        }
        let windows = windows::read(snapshot, schema).await?;
        for row in snapshot.fetch("reading accounts", sqlx::query(schema.fit(ACCOUNTS))).await? {
            if let Some(provider) = understood("account", &row, provider(&row)) {
                if !provider.deleted {
                    spending(&row, &windows, &provider.id, &mut limits);
                }
                directory.providers.push(provider);
            }
        }
        for (table, text) in [("user_subscriptions", SUBSCRIPTIONS), ("user_platform_quotas", PLATFORM_QUOTAS)] {
            if schema.reads(table) {
                let query = sqlx::query(schema.fit(text)).bind(zone.name());
                for row in snapshot.fetch("reading what users have used", query).await? {
                    if let (Ok(user), Ok(part)) = (row.try_get::<i64, _>("user_id"), row.try_get::<&str, _>("part")) {
                        limits.read(&row, Scope::User, &user.into(), part);
                    }
                }
            }
        }
        directory.limits = limits.all;
        Ok(directory)
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let shared = Arc::clone(&self.database);
        let mut database = shared.lock().await;
        let (mut snapshot, schema) = database.snapshot().await?;
        let result = self.read_all(&mut snapshot, &schema).await;
        database.end(snapshot, result).await
    }
}

fn id(row: &PgRow, column: &str) -> Result<EntityId, sqlx::Error> {
    row.try_get::<i64, _>(column).map(EntityId::Number)
}

/// A person's address, and a name that nobody has chosen, is replaced by what it names.
fn name(row: &PgRow, what: &str) -> Result<String, sqlx::Error> {
    let name: &str = row.try_get("name")?;
    let id: i64 = row.try_get("id")?;
    Ok(if name.is_empty() || is_address(name) { format!("{what}-{id}") } else { name.to_owned() })
}

fn user(row: &PgRow) -> Result<User, sqlx::Error> {
    let id = id(row, "id")?;
    let limit: Option<i32> = row.try_get("requests_per_minute")?;
    Ok(User {
        name: name(row, "user")?,
        id,
        role: row.try_get("role")?,
        enabled: row.try_get("enabled")?,
        deleted: row.try_get("deleted")?,
        expires_at: None,
        sessions: None,
        requests_per_minute: positive(limit),
        balance: row.try_get::<Option<_>, _>("balance")?.map(Usd::from_decimal),
    })
}

fn key(row: &PgRow) -> Result<Key, sqlx::Error> {
    let id = id(row, "id")?;
    Ok(Key {
        name: name(row, "key")?,
        user_id: Some(self::id(row, "user_id")?),
        enabled: row.try_get("enabled")?,
        deleted: row.try_get("deleted")?,
        expires_at: row.try_get("expires_at")?,
        created_at: None,
        slots: None,
        sessions: None,
        counts_as: id.clone(),
        id,
    })
}

fn provider(row: &PgRow) -> Result<Provider, sqlx::Error> {
    let active = row.try_get::<&str, _>("status")? == "active";
    Ok(Provider {
        id: id(row, "id")?,
        name: name(row, "account")?,
        kind: row.try_get("platform")?,
        group: row.try_get::<Option<String>, _>("groups")?.unwrap_or_default(),
        enabled: Some(active && row.try_get("schedulable")?),
        deleted: row.try_get("deleted")?,
        slots: positive(row.try_get("concurrency")?),
    })
}

/// 0 is no limit, and so is less.
fn positive(limit: Option<i32>) -> Option<u64> {
    limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0)
}

/// Accounts that are billed by use may have limits.
fn spending(row: &PgRow, windows: &HashMap<i64, Windows>, id: &EntityId, limits: &mut Limits) {
    let (Some(windows), Ok(now)) = (id.number().and_then(|id| windows.get(&id)), row.try_get("now")) else { return };
    for (window, spent) in windows.spending(now) {
        limits.add(Scope::Provider, id, "", window, spent);
    }
}
