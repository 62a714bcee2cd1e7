//! Upstream accounts as they are now and requests that were refused, of PostgreSQL; slots and running requests, of Redis.
//!
//! The relay counts slots with a script that deletes what has expired; the same number comes from a range of scores.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;

use super::directory::ACCOUNTS;
use super::schema::{Level, Schema};
use super::windows::{self, Windows};
use crate::connect::postgres::{Snapshot, understood};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{
    AccountReturn, AccountState, Directory, EntityId, Key, Live, ReadError, Subscription, SubscriptionStatus,
};
use crate::relay::LiveState;
use crate::relay::known_database::KnownDatabase;

/// A lease of a live session is renewed more often.
const LEASE_SECONDS: i64 = 60;
/// Reasons that are kept apart; the relay's code has some twenty.
const MOST_REASONS: usize = 50;
/// The last reasons are told from the start on, at 0. A relay under attack refuses one address after another: no more of it.
const KNOWN_REASONS: TimeDelta = TimeDelta::days(1);
/// Minutes that may still grow: the relay adds up what it refused every five seconds.
const GROWING: TimeDelta = TimeDelta::minutes(10);

pub(super) struct LiveReader {
    database: Arc<Mutex<KnownDatabase<Schema>>>,
    redis: Option<Redis>,
    slot_ttl: Duration,
    rejects: Rejects,
}

/// Requests that were refused, by reason, since the first whole minute after the start. Older ones would come again after
/// each restart, and seem new wherever the relay has deleted some of them meanwhile.
#[derive(Default)]
struct Rejects {
    /// Of minutes that do not grow any more, and the first one that does.
    settled: BTreeMap<String, u64>,
    until: Option<DateTime<Utc>>,
}

impl LiveReader {
    pub(super) fn new(database: Arc<Mutex<KnownDatabase<Schema>>>, redis: Option<Redis>, slot_ttl: Duration) -> Self {
        Self { database, redis, slot_ttl, rejects: Rejects::default() }
    }

    async fn read_store(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<Live, ReadError> {
        let mut live = Live::default();
        let windows = windows::read(snapshot, schema).await?;
        for row in snapshot.fetch("reading accounts", sqlx::query(schema.fit(ACCOUNTS))).await? {
            if let Some(account) = understood("account", &row, Account::read(&row)) {
                account.tell(&windows, &mut live);
            }
        }
        // The last of the snapshot: all the rest is told without it.
        if schema.reads("ops_ingress_reject_aggregates") {
            let tell = |error: &ReadError| tracing::warn!(%error, "left out refused requests");
            live.rejected = self.rejects.catch_up(snapshot).await.inspect_err(tell).ok();
        }
        Ok(live)
    }

    /// Running requests by id of accounts or keys.
    async fn slots(&mut self, of: &str, ids: &[&EntityId], now: i64) -> Result<Vec<(EntityId, u64)>, ReadError> {
        let Some(redis) = &mut self.redis else { return Ok(Vec::new()) };
        let slot_ttl = i64::try_from(self.slot_ttl.as_secs()).unwrap_or(i64::MAX);
        let since = |seconds: i64| format!("({}", now.saturating_sub(seconds));
        let count = |key: String, since: &str| KeyCommand::new("ZCOUNT", key).with(&[since, "+inf"]);
        let asks: Vec<KeyCommand> = ids
            .iter()
            .flat_map(|id| {
                [
                    count(format!("concurrency:{of}:{id}"), &since(slot_ttl)),
                    count(format!("concurrency:live:{of}:{id}"), &since(LEASE_SECONDS)),
                ]
            })
            .collect();
        let counts: Vec<Option<u64>> = redis.each("counting slots", &asks).await?;
        let slots = ids.iter().zip(counts.chunks_exact(2));
        Ok(slots.filter_map(|(id, pair)| Some(((*id).clone(), pair[0]? + pair[1]?))).collect())
    }

    async fn read_slots(&mut self, directory: &Directory, level: Level, live: &mut Live) -> Result<(), ReadError> {
        let Some(redis) = &mut self.redis else { return Ok(()) };
        let now = redis.now_ms().await?.div_euclid(1000);
        // Those without a limit hold no slots.
        let accounts = directory.providers.iter().filter(|it| !it.deleted && it.slots.is_some());
        let accounts: Vec<&EntityId> = accounts.map(|it| &it.id).collect();
        live.slots_used = Some(self.slots("account", &accounts, now).await?);
        if level < Level::KeySlots {
            return Ok(());
        }
        let keys: Vec<&Key> = directory.keys.iter().filter(|key| !key.deleted).collect();
        let owners: HashMap<&EntityId, Option<&EntityId>> =
            keys.iter().map(|key| (&key.id, key.user_id.as_ref())).collect();
        let ids: Vec<&EntityId> = keys.iter().map(|key| &key.id).collect();
        let mut running = self.slots("api_key", &ids, now).await?;
        running.retain(|(_, requests)| *requests > 0);
        let mut users: BTreeMap<EntityId, u64> = BTreeMap::new();
        for (key, requests) in &running {
            if let Some(Some(user)) = owners.get(key) {
                *users.entry((*user).clone()).or_default() += requests;
            }
        }
        live.requests_in_progress = Some(users.into_iter().collect());
        live.key_slots_used = running;
        Ok(())
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let shared = Arc::clone(&self.database);
        let mut database = shared.lock().await;
        let (mut snapshot, schema) = database.snapshot().await?;
        let result = self.read_store(&mut snapshot, &schema).await;
        let mut live = database.end(snapshot, result).await?;
        drop(database);
        self.read_slots(directory, schema.level(), &mut live).await?;
        Ok(live)
    }
}

impl Rejects {
    async fn catch_up(&mut self, snapshot: &mut Snapshot) -> Result<Vec<(String, u64)>, ReadError> {
        let what = "reading refused requests";
        let wrong = |snapshot: &Snapshot, error: sqlx::Error| snapshot.error(what, &error);
        let clock = snapshot.fetch_one(what, sqlx::query(include_str!("sql/clock.sql"))).await?;
        let now: DateTime<Utc> = clock.try_get("now").map_err(|error| wrong(snapshot, error))?;
        let is_first = self.until.is_none();
        let (since, until) = match self.until {
            None => (now - KNOWN_REASONS, next_minute(now)),
            Some(since) => (since, since.max(now - GROWING)),
        };
        // Where a first read fails, it is not tried again.
        self.until.get_or_insert(until);
        let query = sqlx::query(include_str!("sql/rejects.sql")).bind(since).bind(until);
        let rows = snapshot.fetch(what, query).await?;
        let read = |row: &PgRow| Ok((row.try_get("reason")?, row.try_get("settled")?, row.try_get("requests")?));
        let rows: Result<Vec<(String, bool, i64)>, _> = rows.iter().map(read).collect();
        let mut growing = Vec::new();
        for (reason, settled, requests) in rows.map_err(|error| wrong(snapshot, error))? {
            let requests = if is_first { 0 } else { u64::try_from(requests).unwrap_or(0) };
            match settled {
                true => add(&mut self.settled, &reason, requests),
                false => growing.push((reason, requests)),
            }
        }
        self.until = Some(until);
        let mut all = self.settled.clone();
        growing.iter().for_each(|(reason, requests)| add(&mut all, reason, *requests));
        Ok(all.into_iter().collect())
    }
}

fn next_minute(at: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp((at.timestamp().div_euclid(60) + 1) * 60, 0).unwrap_or(at)
}

fn add(counts: &mut BTreeMap<String, u64>, reason: &str, requests: u64) {
    let is_kept = counts.contains_key(reason) || (counts.len() < MOST_REASONS && reason.len() <= 64);
    *counts.entry(if is_kept { reason } else { "other" }.to_owned()).or_default() += requests;
}

/// What says whether an upstream account can be used.
struct Account {
    id: i64,
    kind: String,
    status: String,
    schedulable: bool,
    deleted: bool,
    expired: bool,
    overload_until: Option<DateTime<Utc>>,
    rate_limit_reset_at: Option<DateTime<Utc>>,
    cools_until: Option<DateTime<Utc>>,
    session_window_end: Option<DateTime<Utc>>,
    session_window_status: Option<String>,
    now: DateTime<Utc>,
}

impl Account {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            status: row.try_get("status")?,
            schedulable: row.try_get("schedulable")?,
            deleted: row.try_get("deleted")?,
            expired: row.try_get::<Option<bool>, _>("expired")?.unwrap_or(false),
            overload_until: row.try_get("overload_until")?,
            rate_limit_reset_at: row.try_get("rate_limit_reset_at")?,
            cools_until: row.try_get("cools_until")?,
            session_window_end: row.try_get("session_window_end")?,
            session_window_status: row.try_get("session_window_status")?,
            now: row.try_get("now")?,
        })
    }

    /// Its state, and when it comes back. The relay has several marks, of which the first counts here.
    fn state(&self, windows: Option<&Windows>) -> (AccountState, Option<DateTime<Utc>>) {
        let later = |at: Option<DateTime<Utc>>| at.filter(|at| *at > self.now);
        let is_billed_by_use = ["apikey", "bedrock"].contains(&self.kind.as_str());
        let exhausted = is_billed_by_use && windows.is_some_and(|windows| windows.is_exhausted(self.now));
        match self.status.as_str() {
            "active" if self.expired => (AccountState::Paused, None),
            "active" => {
                let marks = [
                    (AccountState::Overloaded, self.overload_until),
                    (AccountState::RateLimited, self.rate_limit_reset_at),
                    (AccountState::CoolingDown, self.cools_until),
                ];
                let mark = marks.into_iter().find_map(|(state, until)| Some((state, Some(later(until)?))));
                let state = match (exhausted, self.schedulable) {
                    (true, _) => AccountState::QuotaExceeded,
                    (false, false) => AccountState::Paused,
                    (false, true) => AccountState::Normal,
                };
                mark.unwrap_or((state, None))
            }
            "error" => (AccountState::Error, None),
            _ => (AccountState::Disabled, None),
        }
    }

    fn tell(&self, windows: &HashMap<i64, Windows>, live: &mut Live) {
        if self.deleted {
            return;
        }
        let windows = windows.get(&self.id);
        let (state, returns_at) = self.state(windows);
        live.accounts.push((self.id.into(), state));
        if let Some(at) = returns_at {
            live.returns.push(AccountReturn { provider_id: self.id.into(), models: "all", at });
        }
        let Some(windows) = windows else { return };
        if let Some(end) = self.session_window_end.filter(|end| *end > self.now) {
            live.subscriptions.push(Subscription {
                provider_id: self.id.into(),
                window: "5h",
                used_ratio: windows.session_ratio(),
                told_at: windows.told_by_claude_at(),
                resets_at: Some(end),
                status: self.session_window_status.as_deref().and_then(SubscriptionStatus::of),
            });
        }
        for subscription in windows.subscriptions(self.id, self.now) {
            if !live
                .subscriptions
                .iter()
                .any(|it| (&it.provider_id, it.window) == (&subscription.provider_id, subscription.window))
            {
                live.subscriptions.push(subscription);
            }
        }
    }
}
