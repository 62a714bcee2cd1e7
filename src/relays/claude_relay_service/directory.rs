//! Keys, accounts and limits. Only named fields are read: the same hashes hold tokens and passwords.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Days, Utc};
use serde::Deserialize;

use super::clock::Offset;
use super::keys::{self, PLATFORMS, Platform};
use super::product;
use super::search::Search;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{Directory, EntityId, Key, Limit, Provider, QuotaWindow, ReadError, Scope, Usd, WindowRule};
use crate::relay::DirectorySource;
use crate::relay::plan::RelayPlan;

/// Days of traffic in which keys are looked for where the relay keeps no index of keys.
const SEARCHED_DAYS: u64 = 32;

pub(super) struct DirectoryReader {
    redis: Redis,
    offset: Offset,
    search: Option<Search>,
}

impl DirectoryReader {
    pub(super) fn new(redis: Redis, plan: &RelayPlan) -> Self {
        Self { redis, offset: product::offset(plan), search: product::may_scan(plan).then(Search::new) }
    }

    /// The ids of all keys, deleted ones included.
    async fn key_ids(&mut self) -> Result<BTreeSet<String>, ReadError> {
        let what = "reading the index of keys";
        let version =
            self.redis.each::<Option<String>>(what, &[KeyCommand::new("GET", "apikey:index:version")]).await?;
        let version = version.into_iter().flatten().flatten().next().and_then(|text| text.parse().ok());
        let sets = if version >= Some(2) {
            vec![KeyCommand::new("SMEMBERS", "apikey:idx:all")]
        } else {
            // Releases without an index of keys: those that had traffic. A search of the key space would stop the relay.
            let today = self.offset.date(clock(self.redis.now_ms().await?));
            let days = (0..SEARCHED_DAYS).map(|ago| keys::day(today - Days::new(ago)));
            days.map(|day| KeyCommand::new("SMEMBERS", format!("usage:daily:index:{day}"))).collect()
        };
        let sets = self.redis.each::<Vec<String>>(what, &sets).await?;
        let mut ids: BTreeSet<String> = sets.into_iter().flatten().flat_map(keys::members).collect();
        ids.extend(self.search.iter().flat_map(Search::keys).cloned());
        Ok(ids)
    }

    async fn keys(&mut self, directory: &mut Directory) -> Result<(), ReadError> {
        let ids: Vec<String> = self.key_ids().await?.into_iter().collect();
        let fields = [
            "name",
            "isActive",
            "isDeleted",
            "expiresAt",
            "userId",
            "createdAt",
            "concurrencyLimit",
            "dailyCostLimit",
            "totalCostLimit",
            "weeklyOpusCostLimit",
        ];
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("HMGET", format!("apikey:{id}")).with(&fields)).collect();
        let hashes = self.redis.each::<Vec<Option<String>>>("reading keys", &asks).await?;
        for (id, hash) in ids.into_iter().zip(hashes) {
            let mut fields = hash.unwrap_or_default().into_iter().map(|field| field.filter(|text| !text.is_empty()));
            let mut field = || fields.next().flatten();
            let (name, active, deleted) = (field(), field(), field());
            let (expires_at, user_id, created_at, slots) = (field(), field(), field(), field());
            let id = EntityId::from(id.as_str());
            // A key without its hash has not been used for a year, or was deleted for good; its counters stay.
            let deleted = deleted.is_some_and(|it| it == "true") || name.is_none();
            let limits = [(QuotaWindow::Daily, field()), (QuotaWindow::Total, field()), (QuotaWindow::Weekly, field())];
            for (window, limit) in limits {
                let limit =
                    limit.and_then(|text| Usd::from_f64(text.parse().ok()?)).filter(|limit| limit.is_positive());
                if let (Some(limit), false) = (limit, deleted) {
                    let (scope, id, rule) = (Scope::Key, id.clone(), WindowRule::Live);
                    directory.limits.push(Limit { scope, id, window, rule, limit, since: None });
                }
            }
            directory.keys.push(Key {
                name: name.unwrap_or_else(|| id.to_string()),
                user_id: user_id.map(|user| user.as_str().into()),
                enabled: Some(active.is_some_and(|it| it == "true")),
                deleted,
                expires_at: expires_at.and_then(|text| instant(&text)),
                created_at: created_at.and_then(|text| instant(&text)),
                slots: slots.and_then(|text| text.parse().ok()).filter(|slots| *slots > 0),
                counts_as: id.clone(),
                id,
            });
        }
        Ok(())
    }

    async fn accounts(&mut self, directory: &mut Directory) -> Result<(), ReadError> {
        let what = "reading accounts";
        let sets: Vec<KeyCommand> =
            PLATFORMS.iter().map(|platform| KeyCommand::new("SMEMBERS", platform.index)).collect();
        let sets = self.redis.each::<Vec<String>>(what, &sets).await?;
        let mut accounts: Vec<(&Platform, String)> = PLATFORMS
            .iter()
            .zip(sets)
            .flat_map(|(platform, ids)| keys::members(ids.unwrap_or_default()).map(move |id| (platform, id)))
            .collect();
        let searched = self.search.iter().flat_map(Search::accounts);
        accounts.extend(searched.map(|(platform, id)| (platform, id.clone())));
        accounts.sort_by_key(|(platform, id)| (platform.name, id.clone()));
        accounts.dedup_by_key(|(platform, id)| (platform.name, id.clone()));
        let fields = ["name", "isActive", "accountType", "maxConcurrentTasks"];
        let (texts, hashes): (Vec<_>, Vec<_>) = accounts.into_iter().partition(|(platform, _)| platform.json);
        let asks: Vec<KeyCommand> = hashes
            .iter()
            .map(|(platform, id)| KeyCommand::new("HMGET", format!("{}{id}", platform.account)).with(&fields))
            .collect();
        let answers = self.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        for ((platform, id), fields) in hashes.into_iter().zip(answers) {
            let mut fields = fields.unwrap_or_default().into_iter();
            let mut field = || fields.next().flatten();
            let (name, active, group, slots) = (field(), field(), field(), field());
            // The index may name an account that is gone.
            let Some(name) = name else { continue };
            let enabled = active.as_deref() != Some("false");
            let slots = slots.and_then(|text| text.parse().ok()).filter(|slots| *slots > 0);
            directory.providers.push(provider(platform, &id, name, enabled, group, slots));
        }
        let asks: Vec<KeyCommand> =
            texts.iter().map(|(platform, id)| KeyCommand::new("GET", format!("{}{id}", platform.account))).collect();
        let answers = self.redis.each::<Option<String>>(what, &asks).await?;
        for ((platform, id), text) in texts.into_iter().zip(answers) {
            let Some(account) = text.flatten().and_then(|text| serde_json::from_str::<JsonAccount>(&text).ok()) else {
                continue;
            };
            let enabled = account.is_active.unwrap_or(true);
            directory.providers.push(provider(platform, &id, account.name, enabled, account.account_type, None));
        }
        Ok(())
    }
}

#[async_trait]
impl DirectorySource for DirectoryReader {
    async fn read(&mut self) -> Result<Directory, ReadError> {
        let mut directory = Directory { timezone: self.offset.to_string(), ..Directory::default() };
        let version =
            self.redis.each("reading the version", &[KeyCommand::new("GET", "system:migrated:version")]).await?;
        directory.version = version.into_iter().flatten().next().flatten().unwrap_or_default();
        if let Some(search) = &mut self.search {
            search.go_on(&mut self.redis).await?;
        }
        self.keys(&mut directory).await?;
        self.accounts(&mut directory).await?;
        Ok(directory)
    }
}

/// What is read of an account that is kept as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAccount {
    name: String,
    is_active: Option<bool>,
    account_type: Option<String>,
}

fn provider(
    platform: &Platform,
    id: &str,
    name: String,
    enabled: bool,
    group: Option<String>,
    slots: Option<u64>,
) -> Provider {
    Provider {
        id: id.into(),
        name,
        kind: platform.name.to_owned(),
        group: group.unwrap_or_default(),
        enabled: Some(enabled),
        deleted: false,
        slots,
    }
}

pub(super) fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(Into::into)
}

pub(super) fn clock(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}
