//! Sessions, slots, circuits and five-hour windows, by the relay's own rules but without its writes.
//!
//! The relay prunes its sorted sets when it counts (v0.9.2 `src/lib/session-tracker.ts`, `countFromZSet`); the same
//! number comes from the members that are younger than `SESSION_TTL` and still have a `session:{id}:info`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use redis::{Cmd, FromRedisValue};

use super::schema::Level;
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{
    Circuit, Directory, EntityId, Limit, LimitKey, Live, QuotaWindow, ReadError, Usd, WindowRule, WindowSpend,
};
use crate::relay::LiveState;

pub(crate) struct LiveReader {
    redis: Redis,
    session_ttl: Duration,
}

impl LiveReader {
    pub(crate) fn new(redis: Redis, session_ttl: Duration) -> Self {
        Self { redis, session_ttl }
    }

    /// For each set, how many of its sessions live; `None` where there is no set to count.
    async fn sessions(&mut self, keys: Vec<String>, now_ms: i64) -> Result<Vec<Option<u64>>, ReadError> {
        let ttl = i64::try_from(self.session_ttl.as_millis()).unwrap_or(i64::MAX);
        let after = format!("({}", now_ms.saturating_sub(ttl));
        let asks: Vec<KeyCommand> =
            keys.into_iter().map(|key| KeyCommand::new("ZRANGEBYSCORE", key).with(&[&after, "+inf"])).collect();
        let members: Vec<Option<Vec<String>>> = self.redis.each("reading sessions", &asks).await?;
        let mut ids: Vec<&String> = members.iter().flatten().flatten().collect();
        ids.sort_unstable();
        ids.dedup();
        let commands: Vec<Cmd> =
            ids.iter().map(|id| KeyCommand::new("EXISTS", format!("session:{id}:info")).command()).collect();
        let what = "looking which sessions live";
        let mut alive = HashSet::with_capacity(ids.len());
        for (id, answer) in ids.iter().zip(self.redis.read(what, &commands).await?) {
            let exists = answer.and_then(|value| Ok(bool::from_redis_value(value)?));
            if exists.map_err(|error| self.redis.error(what, &error))? {
                alive.insert(id.as_str());
            }
        }
        let count = |ids: &Vec<String>| ids.iter().filter(|id| alive.contains(id.as_str())).count() as u64;
        Ok(members.iter().map(|ids| ids.as_ref().map(count)).collect())
    }

    async fn circuits(&mut self, directory: &Directory, now_ms: i64) -> Result<Vec<(EntityId, Circuit)>, ReadError> {
        let what = "reading circuit breakers";
        let ids: Vec<EntityId> = directory.providers.iter().filter(|p| !p.deleted).map(|p| p.id.clone()).collect();
        let request = |command, key, fields: &[&str]| KeyCommand::new(command, key).with(fields);
        let states: Vec<KeyCommand> = ids
            .iter()
            .map(|id| request("HMGET", format!("circuit_breaker:state:{id}"), &["circuitState", "circuitOpenUntil"]))
            .collect();
        let thresholds: Vec<KeyCommand> = ids
            .iter()
            .map(|id| request("HMGET", format!("circuit_breaker:config:{id}"), &["failureThreshold"]))
            .collect();
        let states: Vec<Option<(Option<String>, Option<String>)>> = self.redis.each(what, &states).await?;
        let thresholds: Vec<Option<(Option<String>,)>> = self.redis.each(what, &thresholds).await?;
        let circuits = ids.into_iter().zip(states).zip(thresholds).filter_map(|((id, state), threshold)| {
            let (state, open_until) = state?;
            let threshold = threshold.and_then(|(threshold,)| threshold?.parse::<f64>().ok());
            let is_off =
                threshold.map_or_else(|| directory.without_breaker.contains(&id), |threshold| threshold <= 0.0);
            let circuit =
                if is_off { Circuit::Closed } else { circuit(state.as_deref(), open_until.as_deref(), now_ms) };
            Some((id, circuit))
        });
        Ok(circuits.collect())
    }

    async fn window_spend(
        &mut self,
        directory: &Directory,
        now_ms: i64,
    ) -> Result<HashMap<LimitKey, WindowSpend>, ReadError> {
        let what = "reading five-hour windows";
        let limits: Vec<&Limit> = directory
            .limits
            .iter()
            .filter(|limit| limit.rule == WindowRule::Live && limit.window == QuotaWindow::FiveHours)
            .collect();
        let request = |command, limit: &&Limit| {
            KeyCommand::new(command, format!("{}:{}:cost_5h_fixed", limit.scope.label(), limit.id))
        };
        let asks: Vec<KeyCommand> =
            limits.iter().flat_map(|limit| [request("GET", limit), request("PTTL", limit)]).collect();
        let answers: Vec<Option<Option<String>>> = self.redis.each(what, &asks).await?;
        let windows = limits.into_iter().zip(answers.chunks_exact(2)).filter_map(|(limit, pair)| {
            let used = match pair[0].as_ref()? {
                Some(text) => Usd::from_f64(text.parse().ok()?)?,
                None => Usd::ZERO,
            };
            let ttl_ms = pair[1].as_ref()?.as_ref()?.parse::<i64>().ok()?;
            let resets_at = (ttl_ms > 0).then(|| instant(now_ms.saturating_add(ttl_ms))).flatten();
            Some((limit.key(), WindowSpend { used, resets_at }))
        });
        Ok(windows.collect())
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let now_ms = self.redis.now_ms().await?;
        let mut live = Live {
            circuits: Some(self.circuits(directory, now_ms).await?),
            window_spend: self.window_spend(directory, now_ms).await?,
            ..Live::default()
        };
        if directory.sessions_untracked {
            return Ok(live);
        }
        let level = Level::of_label(&directory.version).unwrap_or(Level::Replay);
        // Up to v0.5.6 the sets had no hash tag; the columns do not tell v0.5.7 from its predecessors, so both are asked.
        let untagged = level <= Level::TimeZone;
        let users: Vec<EntityId> =
            directory.users.iter().filter(|user| !user.deleted).map(|user| user.id.clone()).collect();
        let keys: Vec<EntityId> = directory.keys.iter().filter(|key| !key.deleted).map(|key| key.id.clone()).collect();
        let providers: Vec<EntityId> = directory
            .providers
            .iter()
            .filter(|p| !p.deleted && p.enabled != Some(false))
            .map(|p| p.id.clone())
            .collect();

        let mut names = vec![match level {
            Level::Replay => "{observed_sessions}:global:active_sessions".to_owned(),
            _ => "{active_sessions}:global:active_sessions".to_owned(),
        }];
        names.extend(providers.iter().map(|id| format!("provider:{id}:active_sessions")));
        names.extend(users.iter().map(|id| format!("{{active_sessions}}:user:{id}:active_sessions")));
        names.extend(keys.iter().map(|id| format!("{{active_sessions}}:key:{id}:active_sessions")));
        if untagged {
            names.push("global:active_sessions".to_owned());
            names.extend(keys.iter().map(|id| format!("key:{id}:active_sessions")));
        }
        let counts = self.sessions(names, now_ms).await?;
        let mut counts = counts.into_iter();
        live.sessions = counts.next().flatten();
        let mut of = |ids: &[EntityId]| -> Vec<(EntityId, u64)> {
            ids.iter()
                .zip(counts.by_ref().take(ids.len()))
                .filter_map(|(id, count)| Some((id.clone(), count?)))
                .collect()
        };
        live.slots_used = Some(of(&providers));
        let non_zero = |mut counts: Vec<(EntityId, u64)>| {
            counts.retain(|(_, count)| *count > 0);
            counts
        };
        live.user_sessions = Some(non_zero(of(&users)));
        let mut key_sessions = non_zero(of(&keys));
        if untagged {
            let global = of(&[0.into()]).first().map(|(_, count)| *count);
            live.sessions = live.sessions.max(global);
            if key_sessions.is_empty() {
                key_sessions = non_zero(of(&keys));
            }
        }
        live.key_sessions = Some(key_sessions);
        Ok(live)
    }
}

/// The state as the relay shows it (v0.9.2 `src/lib/circuit-breaker.ts`, `getAllHealthStatusAsync`): a missing state is
/// closed, an open one whose time is over half-open.
fn circuit(state: Option<&str>, open_until: Option<&str>, now_ms: i64) -> Circuit {
    let open_until: Option<i64> = open_until.and_then(|text| text.parse().ok());
    match state {
        Some("half-open") => Circuit::HalfOpen,
        Some("open") if open_until.is_some_and(|until| until < now_ms) => Circuit::HalfOpen,
        Some("open") => Circuit::Open { reopens_at: open_until.and_then(instant) },
        _ => Circuit::Closed,
    }
}

fn instant(epoch_ms: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(epoch_ms)
}
