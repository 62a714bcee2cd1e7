//! Slots, queues, rate limit windows and spending against limits.
//!
//! The relay removes expired leases when it counts (v1.1.314 `getConcurrency`); the same number comes from the leases
//! that end in the future.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Days, TimeDelta, Utc};

use super::accounts;
use super::directory::clock;
use super::keys;
use super::windows::{KeyWindows, Windows};
use super::zone::Zone;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{
    Directory, EntityId, Key, LimitKey, Live, Queue, QuotaWindow, RateWindow, ReadError, Scope, Usd, WindowSpend,
};
use crate::relay::LiveState;

pub(super) struct LiveReader {
    redis: Redis,
    zone: Zone,
    windows: Windows,
    /// What became of those that waited, by key, as it was read last.
    events: HashMap<EntityId, Vec<(&'static str, u64)>>,
    /// Refreshes.
    round: usize,
}

/// Each key's queue events are read every so many refreshes at least.
const TURNS: usize = 12;
/// Fields of `concurrency:queue:stats:{id}`.
const QUEUE_EVENTS: [&str; 6] = ["entered", "success", "timeout", "cancelled", "socket_changed", "rejected_overload"];
impl LiveReader {
    pub(super) fn new(redis: Redis, zone: Zone, windows: Windows) -> Self {
        Self { redis, zone, windows, events: HashMap::new(), round: 0 }
    }

    async fn slots(
        &mut self,
        ids: &[&EntityId],
        prefix: &str,
        now: DateTime<Utc>,
    ) -> Result<Vec<(EntityId, u64)>, ReadError> {
        let after = format!("({}", now.timestamp_millis());
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("ZCOUNT", format!("{prefix}{id}")).with(&[&after, "+inf"])).collect();
        let counts = self.redis.each::<u64>("counting slots", &asks).await?;
        Ok(ids.iter().zip(counts).filter_map(|(id, count)| Some(((*id).clone(), count?))).collect())
    }

    /// Of keys whose requests at a time are limited, with the requests that run: no others wait.
    async fn queues(&mut self, limited: &[&Key], running: &[(EntityId, u64)]) -> Result<Vec<Queue>, ReadError> {
        let what = "reading queues";
        let waiting: Vec<String> = limited.iter().map(|key| format!("concurrency:queue:{}", key.id)).collect();
        let waiting = self.redis.texts(what, &waiting).await?;
        let running: HashMap<&EntityId, u64> = running.iter().map(|(id, count)| (id, *count)).collect();
        // Where all slots are taken, somebody may wait; the others take their turns.
        let is_wanted = |(at, (key, waiting)): &(usize, (&&Key, &Option<String>))| {
            let is_full = key.slots <= running.get(&key.id).copied();
            is_full || waiting.is_some() || self.round == 0 || at % TURNS == self.round % TURNS
        };
        let wanted = limited.iter().zip(&waiting).enumerate().filter(is_wanted);
        let wanted: Vec<&EntityId> = wanted.map(|(_, (key, _))| &key.id).collect();
        let asks = wanted.iter().map(|id| KeyCommand::new("HMGET", format!("concurrency:queue:stats:{id}")));
        let asks: Vec<KeyCommand> = asks.map(|request| request.fields(&QUEUE_EVENTS)).collect();
        let answers = self.redis.each::<Vec<Option<u64>>>(what, &asks).await?;
        self.round += 1;
        for (id, counts) in wanted.into_iter().zip(answers) {
            let counts = QUEUE_EVENTS.iter().zip(counts.unwrap_or_default());
            self.events.insert(id.clone(), counts.filter_map(|(event, count)| Some((*event, count?))).collect());
        }
        let queues = limited.iter().zip(waiting).filter_map(|(key, waiting)| {
            let waiting = waiting.and_then(|text| text.parse::<i64>().ok());
            let events = self.events.get(&key.id).cloned().unwrap_or_default();
            // Most keys never had a queue.
            let used = waiting.is_some() || !events.is_empty();
            let waiting = waiting.and_then(|waiting| u64::try_from(waiting).ok()).unwrap_or(0);
            used.then(|| Queue { key_id: key.id.clone(), waiting, events })
        });
        Ok(queues.collect())
    }

    /// How long the newest requests waited, by the relay's rule (v1.1.314 `src/utils/statsHelper.js`, `getPercentile`).
    async fn waits(&mut self) -> Result<Vec<(&'static str, f64)>, ReadError> {
        let request = KeyCommand::new("LRANGE", "concurrency:queue:wait_times:global").with(&["0", "-1"]);
        let waits = self.redis.each::<Vec<f64>>("reading waiting times", &[request]).await?;
        let mut waits = waits.into_iter().next().flatten().unwrap_or_default();
        waits.sort_unstable_by(f64::total_cmp);
        let rank = |share: f64| ((share * waits.len() as f64).ceil() as usize).saturating_sub(1);
        let percentiles = [("50", 0.5), ("90", 0.9), ("99", 0.99)].into_iter();
        Ok(percentiles.filter_map(|(label, share)| Some((label, waits.get(rank(share))? / 1e3))).collect())
    }

    async fn rate_windows(
        &mut self,
        windows: &HashMap<EntityId, KeyWindows>,
        directory: &Directory,
        now: DateTime<Utc>,
    ) -> Result<Vec<RateWindow>, ReadError> {
        let existing = directory.keys.iter().filter(|key| !key.deleted);
        let limited: Vec<(&EntityId, &KeyWindows)> = existing
            .filter_map(|key| Some((&key.id, windows.get(&key.id)?)))
            .filter(|(_, windows)| windows.rate_minutes > 0 && windows.rate_limits().next().is_some())
            .collect();
        let parts = ["window_start", "requests", "tokens", "cost"];
        let names = limited.iter().flat_map(|(id, _)| parts.map(|part| format!("rate_limit:{part}:{id}")));
        let names: Vec<String> = names.collect();
        let values = self.redis.texts("reading rate limits", &names).await?;
        let mut open = Vec::new();
        for ((id, windows), values) in limited.into_iter().zip(values.chunks(parts.len())) {
            let value = |at: usize| values.get(at).and_then(|text| text.as_ref()?.parse::<f64>().ok());
            let start = value(0).and_then(|ms| DateTime::from_timestamp_millis(ms as i64));
            let end = start.map(|start| start + TimeDelta::minutes(windows.rate_minutes)).filter(|end| *end > now);
            for (at, unit, limit) in windows.rate_limits() {
                let used = end.and(value(at)).unwrap_or(0.0);
                open.push(RateWindow { key_id: id.clone(), unit, limit, used, resets_at: end });
            }
        }
        Ok(open)
    }

    async fn spending(
        &mut self,
        directory: &Directory,
        windows: &HashMap<EntityId, KeyWindows>,
        now: DateTime<Utc>,
    ) -> Result<HashMap<LimitKey, WindowSpend>, ReadError> {
        let (offset, is_wrong) = (self.zone.offset(), self.zone.relays().is_some());
        let today = offset.date(now);
        // Before, weeks had numbers and began on Monday.
        let has_week_days = keys::release(&directory.version).is_none_or(|release| release >= (1, 1, 281));
        let mut asked = Vec::new();
        for limit in directory.limits.iter().filter(|limit| limit.scope == Scope::Key) {
            let id = &limit.id;
            let (key, resets_at) = match limit.window {
                QuotaWindow::Daily | QuotaWindow::Weekly if is_wrong => continue,
                QuotaWindow::Daily => {
                    let name = format!("usage:cost:daily:{id}:{}", keys::day(today));
                    (name, Some(offset.start_of(today + Days::new(1))))
                }
                QuotaWindow::Total => (format!("usage:cost:total:{id}"), None),
                QuotaWindow::Weekly => {
                    let (day, hour) = match windows.get(id) {
                        Some(windows) if has_week_days => windows.week,
                        _ => (1, 0),
                    };
                    let start = offset.week_start(now, day, hour);
                    let period = start.format("%Y-%m-%dT%H").to_string();
                    let period = if has_week_days { period } else { offset.week_number(now) };
                    let name = format!("usage:opus:weekly:{id}:{period}");
                    (name, Some(offset.utc(start + Days::new(7))))
                }
                QuotaWindow::FiveHours | QuotaWindow::Monthly | QuotaWindow::Subscription | QuotaWindow::Other(_) => {
                    continue;
                }
            };
            asked.push((limit, key, resets_at));
        }
        let (rest, keys): (Vec<_>, Vec<String>) = asked.into_iter().map(|(limit, key, at)| ((limit, at), key)).unzip();
        let answers = self.redis.texts("reading what counts against limits", &keys).await?;
        let spending = rest.into_iter().zip(answers).filter_map(|((limit, resets_at), used)| {
            let used = Usd::from_f64(used.map_or(Some(0.0), |text| text.parse().ok())?)?;
            Some((limit.key(), WindowSpend { used, resets_at }))
        });
        Ok(spending.collect())
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let now = clock(self.redis.now_ms().await?);
        self.zone.look(&mut self.redis, now).await?;
        let windows = self.windows.all();
        let existing = directory.keys.iter().filter(|key| !key.deleted);
        let limited: Vec<&Key> = existing.filter(|key| key.slots.is_some()).collect();
        let ids: Vec<&EntityId> = limited.iter().map(|key| &key.id).collect();
        let running = self.slots(&ids, "concurrency:", now).await?;
        let consoles = directory.providers.iter().filter(|account| account.kind == "claude-console");
        let consoles: Vec<&EntityId> = consoles.map(|account| &account.id).collect();
        let mut live = Live {
            slots_used: Some(self.slots(&consoles, "concurrency:console_account:", now).await?),
            queues: self.queues(&limited, &running).await?,
            key_slots_used: running,
            queue_waits: self.waits().await?,
            rate_windows: self.rate_windows(&windows, directory, now).await?,
            window_spend: self.spending(directory, &windows, now).await?,
            ..Live::default()
        };
        accounts::read(&mut self.redis, self.zone.offset(), directory, now, &mut live).await?;
        Ok(live)
    }
}
