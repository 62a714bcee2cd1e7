//! Keys, accounts and limits. Only named fields are read: the same hashes hold tokens and passwords.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use chrono::{DateTime, Days, Utc};
use serde::Deserialize;

use super::clock::Offset;
use super::keys::{self, PLATFORMS, Platform};
use super::search::Search;
use super::settings;
use super::windows::{self, KeyWindows, Windows};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{Directory, EntityId, Key, Limit, Provider, QuotaWindow, ReadError, Scope, Usd, WindowRule};
use crate::relay::DirectorySource;
use crate::relay::plan::RelayPlan;

/// Fields of `apikey:{id}`; the last are those of its windows.
const KEY_FIELDS: [&str; 17] = [
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
    "tags",
    "rateLimitWindow",
    "rateLimitRequests",
    "tokenLimit",
    "rateLimitCost",
    "weeklyResetDay",
    "weeklyResetHour",
];
/// Days of traffic in which keys are looked for where the relay keeps no index of keys.
const SEARCHED_DAYS: u64 = 32;

pub(super) struct DirectoryReader {
    redis: Redis,
    offset: Offset,
    search: Option<Search>,
    windows: Windows,
}

impl DirectoryReader {
    pub(super) fn new(redis: Redis, plan: &RelayPlan, windows: Windows) -> Self {
        let search = settings::may_scan(plan).then(Search::new);
        Self { redis, offset: settings::offset(plan), search, windows }
    }

    /// The ids of all keys, deleted ones included.
    async fn key_ids(&mut self) -> Result<BTreeSet<String>, ReadError> {
        let what = "reading the index of keys";
        let version =
            self.redis.each::<Option<String>>(what, &[KeyCommand::new("GET", "apikey:index:version")]).await?;
        let version = version.into_iter().flatten().flatten().next().and_then(|text| text.parse().ok());
        let mut sets = vec![KeyCommand::new("SMEMBERS", "apikey:idx:all")];
        if version < Some(2) {
            // The index of keys is not complete: those that had traffic. A search of the key space would stop the relay.
            let today = self.offset.date(clock(self.redis.now_ms().await?));
            let days = (0..SEARCHED_DAYS).map(|ago| keys::day(today - Days::new(ago)));
            sets.extend(days.map(|day| KeyCommand::new("SMEMBERS", format!("usage:daily:index:{day}"))));
        }
        let sets = self.redis.each::<Vec<String>>(what, &sets).await?;
        let mut ids: BTreeSet<String> = sets.into_iter().flatten().flat_map(keys::members).collect();
        ids.extend(self.search.iter().flat_map(Search::keys).cloned());
        Ok(ids)
    }

    async fn keys(&mut self, directory: &mut Directory) -> Result<(), ReadError> {
        let ids: Vec<String> = self.key_ids().await?.into_iter().collect();
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("HMGET", format!("apikey:{id}")).fields(&KEY_FIELDS)).collect();
        let hashes = self.redis.each::<Vec<Option<String>>>("reading keys", &asks).await?;
        let mut windows = HashMap::new();
        for (id, hash) in ids.into_iter().zip(hashes) {
            let mut fields = hash.unwrap_or_default();
            let of_windows = KeyWindows::of(&fields.split_off(fields.len().saturating_sub(windows::FIELDS)));
            let mut fields = fields.into_iter().map(|field| field.filter(|text| !text.is_empty()));
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
                    directory.limits.push(Limit::of(Scope::Key, id.clone(), window, WindowRule::Live, limit));
                }
            }
            let tags =
                field().and_then(|text| serde_json::from_str::<BTreeSet<String>>(&text).ok()).unwrap_or_default();
            directory.key_tags.extend(tags.into_iter().filter(|_| !deleted).map(|tag| (id.clone(), tag)));
            if of_windows != KeyWindows::of(&[]) {
                windows.insert(id.clone(), of_windows);
            }
            directory.keys.push(Key {
                name: name.unwrap_or_else(|| id.to_string()),
                user_id: user_id.map(|user| user.as_str().into()),
                enabled: Some(active.is_some_and(|it| it == "true")),
                deleted,
                expires_at: expires_at.and_then(|text| instant(&text)),
                created_at: created_at.and_then(|text| instant(&text)),
                slots: slots.and_then(|text| text.parse().ok()).filter(|slots| *slots > 0),
                sessions: None,
                counts_as: id.clone(),
                id,
            });
        }
        self.windows.replace(windows);
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
        let fields = ["name", "isActive", "status", "accountType", "maxConcurrentTasks", "dailyQuota"];
        let groups = self.groups().await?;
        let (texts, hashes): (Vec<_>, Vec<_>) = accounts.into_iter().partition(|(platform, _)| platform.json);
        let asks: Vec<KeyCommand> = hashes
            .iter()
            .map(|(platform, id)| KeyCommand::new("HMGET", format!("{}{id}", platform.account)).with(&fields))
            .collect();
        let answers = self.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        for ((platform, id), fields) in hashes.into_iter().zip(answers) {
            let mut fields = fields.unwrap_or_default().into_iter();
            let mut field = || fields.next().flatten();
            let (name, active, status) = (field(), field(), field());
            let (kind, slots, quota) = (field(), field(), field());
            // The index may name an account that is gone.
            let Some(name) = name else { continue };
            // An account of Claude Console that is limited, banned or over its quota is switched off for so long.
            let by_itself = matches!(status.as_deref(), Some("rate_limited" | "account_blocked" | "quota_exceeded"));
            let enabled = by_itself || active.as_deref() != Some("false");
            let slots = slots.and_then(|text| text.parse().ok()).filter(|slots| *slots > 0);
            let quota = quota.and_then(|text| Usd::from_f64(text.parse().ok()?)).filter(|quota| quota.is_positive());
            let limit =
                |limit| Limit::of(Scope::Provider, id.as_str().into(), QuotaWindow::Daily, WindowRule::Live, limit);
            directory.limits.extend(quota.map(limit));
            let group = groups.get(&id).cloned().or(kind);
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
            let group = groups.get(&id).cloned().or(account.account_type);
            directory.providers.push(provider(platform, &id, account.name, enabled, group, None));
        }
        Ok(())
    }

    /// The names of the groups that accounts are in, by account (v1.1.314 `src/services/accountGroupService.js`).
    async fn groups(&mut self) -> Result<BTreeMap<String, String>, ReadError> {
        let what = "reading groups of accounts";
        let ids = self.redis.each::<Vec<String>>(what, &[KeyCommand::new("SMEMBERS", "account_groups")]).await?;
        let ids: Vec<String> = ids.into_iter().flatten().flatten().collect();
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("HMGET", format!("account_group:{id}")).with(&["name"])).collect();
        let names = self.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("SMEMBERS", format!("account_group_members:{id}"))).collect();
        let members = self.redis.each::<Vec<String>>(what, &asks).await?;
        let mut groups: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, members) in names.into_iter().zip(members) {
            let Some(name) = name.and_then(|fields| fields.into_iter().next().flatten()) else { continue };
            for member in members.unwrap_or_default() {
                groups.entry(member).or_default().insert(name.clone());
            }
        }
        Ok(groups.into_iter().map(|(id, names)| (id, names.into_iter().collect::<Vec<_>>().join(", "))).collect())
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
