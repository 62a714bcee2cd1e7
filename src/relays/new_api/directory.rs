//! Users, keys and channels, and what is left of their quotas.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::Value as Json;
use tokio::sync::Mutex;

use super::Family;
use super::channel::channels;
use super::keys::{TOKENS, pages};
use super::names;
use super::options::{Options, Rate};
use super::row::moment;
use super::schema::{Schema, SchemaCache};
use crate::connect::sql::{Cells, Database, Session, Value};
use crate::model::{Directory, Key, Limit, Provider, QuotaWindow, ReadError, Scope, User, WindowRule};
use crate::relay::DirectorySource;

const USERS: &str = include_str!("sql/users.sql");
const SUBSCRIPTIONS: &str = include_str!("sql/subscriptions.sql");
const INSTANCES: &str = include_str!("sql/instances.sql");

/// A process that has not been heard of for so long is gone: each tells twice a minute.
const HEARD_OF: TimeDelta = TimeDelta::seconds(90);

/// A database of the relay's, with what is known of its columns.
pub(super) struct Store {
    pub database: Database,
    family: Family,
    schema: SchemaCache,
}

impl Store {
    pub(super) fn new(database: Database, family: Family) -> Self {
        Self { database, family, schema: SchemaCache::default() }
    }

    pub(super) async fn session(&mut self) -> Result<(Session, Arc<Schema>), ReadError> {
        let mut session = self.database.session().await?;
        match self.schema.get(None, Schema::detect(&mut session, self.family)).await {
            Ok(schema) => Ok((session, schema)),
            Err(error) => self.end(session, Err(error)).await,
        }
    }

    pub(super) async fn end<T>(&mut self, session: Session, result: Result<T, ReadError>) -> Result<T, ReadError> {
        self.database.finish(session).await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}

pub(super) struct DirectoryReader {
    main: Arc<Mutex<Store>>,
    family: Family,
    zone: Tz,
}

impl DirectoryReader {
    pub(super) fn new(main: Arc<Mutex<Store>>, family: Family, zone: Tz) -> Self {
        Self { main, family, zone }
    }

    async fn read_all(&self, session: &mut Session, schema: &Schema) -> Result<Directory, ReadError> {
        let options = Options::read(session, schema).await?;
        let mut directory = Directory {
            currency: options.currency,
            version: format!("{} {}", self.family.label(), schema.level().label()),
            timezone: self.zone.name().to_owned(),
            // With `ERROR_LOG_ENABLED`; without, the attempts that answered.
            counts_attempts: self.family == Family::NewApi,
            ..Directory::default()
        };
        if schema.has("system_instances", "info")
            && schema.has("system_instances", "last_seen_at")
            && let Some(version) = version(session).await?
        {
            directory.version = version;
        }
        for channel in channels(session, schema).await? {
            directory.providers.push(Provider {
                id: channel.id.into(),
                kind: names::channel_type(self.family, channel.kind),
                enabled: Some(channel.is_enabled()),
                name: channel.name,
                group: channel.groups,
                deleted: false,
                slots: None,
            });
        }
        let mut limits = Limits { rate: options.rate, limits: Vec::new() };
        for (user, left, used) in pages(session, "reading users", &schema.fit(USERS), user).await? {
            if let Some(left) = left.filter(|_| !user.deleted) {
                limits.add(Scope::User, user.id.number().unwrap_or(0), QuotaWindow::Total, (left, used), None);
            }
            directory.users.push(user);
        }
        for (key, left, used) in pages(session, "reading keys", &schema.fit(TOKENS), key).await? {
            if let Some(left) = left.filter(|_| !key.deleted) {
                limits.add(Scope::Key, key.id.number().unwrap_or(0), QuotaWindow::Total, (left, used), None);
            }
            directory.keys.push(key);
        }
        if schema.has("user_subscriptions", "amount_total") && schema.has("subscription_plans", "quota_reset_period") {
            subscriptions(session, schema, &mut limits).await?;
        }
        directory.limits = limits.limits;
        Ok(directory)
    }
}

/// Limits of which the relay tells what is left.
struct Limits {
    rate: Option<Rate>,
    limits: Vec<Limit>,
}

impl Limits {
    fn add(&mut self, scope: Scope, id: i64, window: QuotaWindow, (left, used): (i64, i64), resets_at: Option<i64>) {
        let Some(rate) = self.rate else { return };
        let (left, used) = (rate.cost(left), rate.cost(used));
        let rule = WindowRule::Told { used, resets_at: resets_at.and_then(moment) };
        self.limits.push(Limit::of(scope, id.into(), window, rule, left + used));
    }
}

/// Somebody or something with a quota: the id, and what is left of it, unless it is unlimited, and what was used.
type WithQuota<T> = (i64, (T, Option<i64>, i64));

fn user(row: &dyn Cells) -> Result<WithQuota<User>, sqlx::Error> {
    let number = |column| row.int(column).map(Option::unwrap_or_default);
    let status = number("status")?;
    let id = row.int("id")?.ok_or(sqlx::Error::RowNotFound)?;
    let user = User {
        id: id.into(),
        name: row.text("username")?.unwrap_or_default().into_owned(),
        role: names::role(number("role")?),
        enabled: Some(status == 1),
        // one-api marks them so.
        deleted: number("deleted")? != 0 || status == 3,
        expires_at: None,
        sessions: None,
        requests_per_minute: None,
        balance: None,
    };
    Ok((id, (user, Some(number("quota")?), number("used_quota")?)))
}

fn key(row: &dyn Cells) -> Result<WithQuota<Key>, sqlx::Error> {
    let number = |column| row.int(column).map(Option::unwrap_or_default);
    let id = row.int("id")?.ok_or(sqlx::Error::RowNotFound)?;
    let key = Key {
        id: id.into(),
        name: row.text("name")?.unwrap_or_default().into_owned(),
        user_id: row.int("user_id")?.map(Into::into),
        enabled: Some(number("enabled")? != 0),
        deleted: number("deleted")? != 0,
        expires_at: row.int("expired_time")?.filter(|at| *at > 0).and_then(moment),
        created_at: None,
        slots: None,
        sessions: None,
        counts_as: id.into(),
    };
    let left = (number("unlimited")? == 0).then_some(number("remain_quota")?);
    Ok((id, (key, left, number("used_quota")?)))
}

async fn subscriptions(session: &mut Session, schema: &Schema, limits: &mut Limits) -> Result<(), ReadError> {
    let (text, now) = (schema.fit(SUBSCRIPTIONS), [Value::Int(Utc::now().timestamp())]);
    let read = session.fetch_good("reading subscriptions", &text, &now, |row| {
        let number = |column| row.int(column).map(Option::unwrap_or_default);
        let window = match row.text("period")?.as_deref() {
            Some("daily") => QuotaWindow::Daily,
            Some("weekly") => QuotaWindow::Weekly,
            Some("monthly") => QuotaWindow::Monthly,
            _ => QuotaWindow::Subscription,
        };
        let (total, used) = (number("amount_total")?, number("amount_used")?);
        Ok((number("user_id")?, window, (total.saturating_sub(used), used), row.int("resets_at")?))
    });
    for (user, window, amounts, resets_at) in read.await? {
        limits.add(Scope::User, user, window, amounts, resets_at);
    }
    Ok(())
}

/// What the process that was heard of last says of itself.
async fn version(session: &mut Session) -> Result<Option<String>, ReadError> {
    let since = [Value::Int((Utc::now() - HEARD_OF).timestamp())];
    let infos = session.fetch_good("looking for the relay's version", INSTANCES, &since, |row| {
        Ok(row.bytes("info")?.and_then(|info| serde_json::from_slice::<Json>(info).ok()))
    });
    let version = infos.await?.into_iter().flatten().find_map(|info| {
        let version = info.get("runtime")?.get("version")?.as_str()?.trim();
        (!version.is_empty() && version.len() < 64).then(|| version.to_owned())
    });
    Ok(version)
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let mut main = self.main.lock().await;
        let (mut session, schema) = main.session().await?;
        let read = self.read_all(&mut session, &schema).await;
        main.end(session, read).await
    }
}
