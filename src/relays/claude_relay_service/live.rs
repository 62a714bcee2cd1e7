//! Slots, queues, rate limit windows, spending against limits, account states and subscription windows.
//!
//! The relay removes expired leases when it counts (v1.1.314 `getConcurrency`); the same number comes from the leases
//! that end in the future.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Days, TimeDelta, Utc};

use super::clock::Offset;
use super::directory::{clock, instant};
use super::keys::{self, platform_of};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{
    AccountState, Directory, EntityId, Limit, Live, Queue, QuotaWindow, RateWindow, ReadError, Scope, Subscription,
    Usd, WindowSpend,
};
use crate::relay::LiveState;

pub(super) struct LiveReader {
    redis: Redis,
    offset: Offset,
}

/// Fields of `apikey:{id}`.
const KEY_FIELDS: [&str; 6] =
    ["rateLimitWindow", "rateLimitRequests", "tokenLimit", "rateLimitCost", "weeklyResetDay", "weeklyResetHour"];
/// Fields of `concurrency:queue:stats:{id}`.
const QUEUE_EVENTS: [&str; 6] = ["entered", "success", "timeout", "cancelled", "socket_changed", "rejected_overload"];
/// Fields of an account, whatever its platform.
const ACCOUNT_FIELDS: [&str; 19] = [
    "isActive",
    "status",
    "schedulable",
    "rateLimitStatus",
    "rateLimitEndAt",
    "rateLimitResetAt",
    "quotaStoppedAt",
    "sessionWindowEnd",
    "claudeFiveHourUtilization",
    "claudeFiveHourResetsAt",
    "claudeSevenDayUtilization",
    "claudeSevenDayResetsAt",
    "claudeSevenDayOpusUtilization",
    "claudeSevenDayOpusResetsAt",
    "codexUsageUpdatedAt",
    "codexPrimaryUsedPercent",
    "codexPrimaryResetAfterSeconds",
    "codexSecondaryUsedPercent",
    "codexSecondaryResetAfterSeconds",
];

impl LiveReader {
    pub(super) const fn new(redis: Redis, offset: Offset) -> Self {
        Self { redis, offset }
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

    async fn queues(&mut self, ids: &[&EntityId]) -> Result<Vec<Queue>, ReadError> {
        let what = "reading queues";
        let waiting: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("GET", format!("concurrency:queue:{id}"))).collect();
        let waiting = self.redis.each::<Option<i64>>(what, &waiting).await?;
        let events: Vec<KeyCommand> = ids
            .iter()
            .map(|id| KeyCommand::new("HMGET", format!("concurrency:queue:stats:{id}")).with(&QUEUE_EVENTS))
            .collect();
        let events = self.redis.each::<Vec<Option<u64>>>(what, &events).await?;
        let queues = ids.iter().zip(waiting).zip(events).filter_map(|((id, waiting), counts)| {
            let (waiting, counts) = (waiting.flatten(), counts.unwrap_or_default());
            let events: Vec<_> =
                QUEUE_EVENTS.iter().zip(counts).filter_map(|(event, count)| Some((*event, count?))).collect();
            // Most keys never had a queue.
            let used = waiting.is_some() || !events.is_empty();
            let waiting = waiting.and_then(|waiting| u64::try_from(waiting).ok()).unwrap_or(0);
            used.then(|| Queue { key_id: (*id).clone(), waiting, events })
        });
        Ok(queues.collect())
    }

    async fn rate_windows(
        &mut self,
        ids: &[&EntityId],
        settings: &[KeySettings],
        now: DateTime<Utc>,
    ) -> Result<Vec<RateWindow>, ReadError> {
        let limited: Vec<(&EntityId, &KeySettings)> = ids
            .iter()
            .copied()
            .zip(settings)
            .filter(|(_, settings)| settings.rate_minutes > 0 && settings.rate_limits().next().is_some())
            .collect();
        let name = |what, id: &EntityId| format!("rate_limit:{what}:{id}");
        let asks: Vec<KeyCommand> = limited
            .iter()
            .map(|(id, _)| {
                let rest = [name("requests", id), name("tokens", id), name("cost", id)];
                KeyCommand::new("MGET", name("window_start", id)).with(&rest.each_ref().map(String::as_str))
            })
            .collect();
        let answers = self.redis.each::<Vec<Option<f64>>>("reading rate limits", &asks).await?;
        let mut windows = Vec::new();
        for ((id, settings), values) in limited.into_iter().zip(answers) {
            let Some(values) = values else { continue };
            let value = |at: usize| values.get(at).copied().flatten();
            let start = value(0).and_then(|ms| DateTime::from_timestamp_millis(ms as i64));
            let end = start.map(|start| start + TimeDelta::minutes(settings.rate_minutes)).filter(|end| *end > now);
            for (at, unit, limit) in settings.rate_limits() {
                let used = end.and(value(at)).unwrap_or(0.0);
                windows.push(RateWindow { key_id: id.clone(), unit, limit, used, resets_at: end });
            }
        }
        Ok(windows)
    }

    async fn spending(
        &mut self,
        limits: &[Limit],
        settings: &HashMap<&EntityId, &KeySettings>,
        now: DateTime<Utc>,
    ) -> Result<Vec<WindowSpend>, ReadError> {
        let today = self.offset.date(now);
        let mut asked = Vec::new();
        for limit in limits.iter().filter(|limit| limit.scope == Scope::Key) {
            let id = &limit.id;
            let (key, resets_at) = match limit.window {
                QuotaWindow::Daily => {
                    let name = format!("usage:cost:daily:{id}:{}", keys::day(today));
                    (name, Some(self.offset.start_of(today + Days::new(1))))
                }
                QuotaWindow::Total => (format!("usage:cost:total:{id}"), None),
                QuotaWindow::Weekly => {
                    let (day, hour) = settings.get(id).map_or((1, 0), |settings| settings.week);
                    let start = self.offset.week_start(now, day, hour);
                    let name = format!("usage:opus:weekly:{id}:{}", start.format("%Y-%m-%dT%H"));
                    (name, Some(self.offset.utc(start + Days::new(7))))
                }
                QuotaWindow::FiveHours | QuotaWindow::Monthly => continue,
            };
            asked.push((limit, KeyCommand::new("GET", key), resets_at));
        }
        let (rest, asks): (Vec<_>, Vec<KeyCommand>) =
            asked.into_iter().map(|(limit, request, at)| ((limit, at), request)).unzip();
        let answers = self.redis.each::<Option<f64>>("reading what counts against limits", &asks).await?;
        let spending = rest.into_iter().zip(answers).filter_map(|((limit, resets_at), used)| {
            let used = Usd::from_f64(used?.unwrap_or(0.0))?;
            Some(WindowSpend { scope: limit.scope, id: limit.id.clone(), window: limit.window, used, resets_at })
        });
        Ok(spending.collect())
    }

    async fn accounts(&mut self, directory: &Directory, now: DateTime<Utc>, live: &mut Live) -> Result<(), ReadError> {
        let what = "reading account states";
        let known = directory.providers.iter().filter_map(|account| Some((account, platform_of(&account.kind)?)));
        let (texts, hashes): (Vec<_>, Vec<_>) = known.partition(|(_, platform)| platform.json);
        let asks: Vec<KeyCommand> = hashes
            .iter()
            .map(|(account, platform)| {
                KeyCommand::new("HMGET", format!("{}{}", platform.account, account.id)).with(&ACCOUNT_FIELDS)
            })
            .collect();
        let answers = self.redis.each::<Vec<Option<String>>>(what, &asks).await?;
        let of_hashes = hashes.into_iter().zip(answers).filter_map(|((account, platform), values)| {
            let fields = ACCOUNT_FIELDS.iter().copied().zip(values?);
            let fields = fields.filter_map(|(name, value)| Some((name, value.filter(|text| !text.is_empty())?)));
            Some((account, platform, Account(fields.collect())))
        });
        let mut accounts: Vec<_> = of_hashes.collect();
        let asks: Vec<KeyCommand> = texts
            .iter()
            .map(|(account, platform)| KeyCommand::new("GET", format!("{}{}", platform.account, account.id)))
            .collect();
        let answers = self.redis.each::<Option<String>>(what, &asks).await?;
        accounts.extend(
            texts.into_iter().zip(answers).filter_map(|((account, platform), text)| {
                Some((account, platform, Account::of_json(&text.flatten()?)?))
            }),
        );
        let cooling: Vec<KeyCommand> = accounts
            .iter()
            .map(|(account, platform, _)| {
                KeyCommand::new("TTL", format!("temp_unavailable:{}:{}", platform.in_errors, account.id))
            })
            .collect();
        let cooling = self.redis.each::<i64>(what, &cooling).await?;
        for ((account, _, fields), ttl) in accounts.into_iter().zip(cooling) {
            // -2: there is no such key.
            let is_cooling = ttl.is_some_and(|ttl| ttl > -2);
            live.accounts.push((account.id.clone(), fields.state(is_cooling, now)));
            live.subscriptions.extend(fields.subscriptions(&account.id, now));
        }
        Ok(())
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, directory: &Directory) -> Result<Live, ReadError> {
        let now = clock(self.redis.now_ms().await?);
        let existing: Vec<_> = directory.keys.iter().filter(|key| !key.deleted).collect();
        let ids: Vec<&EntityId> = existing.iter().map(|key| &key.id).collect();
        let asks: Vec<KeyCommand> =
            ids.iter().map(|id| KeyCommand::new("HMGET", format!("apikey:{id}")).with(&KEY_FIELDS)).collect();
        let settings = self.redis.each::<Vec<Option<String>>>("reading limits of keys", &asks).await?;
        let settings: Vec<KeySettings> =
            settings.into_iter().map(|fields| KeySettings::of(&fields.unwrap_or_default())).collect();

        let limited: Vec<&EntityId> = existing.iter().filter(|key| key.slots.is_some()).map(|key| &key.id).collect();
        let consoles = directory.providers.iter().filter(|account| account.kind == "claude-console");
        let consoles: Vec<&EntityId> = consoles.map(|account| &account.id).collect();
        let by_id = ids.iter().copied().zip(&settings).collect();
        let mut live = Live {
            slots_used: Some(self.slots(&consoles, "concurrency:console_account:", now).await?),
            key_slots_used: self.slots(&limited, "concurrency:", now).await?,
            queues: self.queues(&ids).await?,
            rate_windows: self.rate_windows(&ids, &settings, now).await?,
            window_spend: self.spending(&directory.limits, &by_id, now).await?,
            ..Live::default()
        };
        self.accounts(directory, now, &mut live).await?;
        Ok(live)
    }
}

/// What a key's hash says about its windows.
#[derive(Clone, Copy, Default)]
struct KeySettings {
    rate_minutes: i64,
    requests: f64,
    tokens: f64,
    usd: f64,
    /// Day (1 is Monday) and hour at which the week begins.
    week: (u32, u32),
}

impl KeySettings {
    /// From the values of [`KEY_FIELDS`].
    fn of(values: &[Option<String>]) -> Self {
        let number = |at: usize| values.get(at).and_then(|text| text.as_ref()?.parse::<f64>().ok()).unwrap_or(0.0);
        let positive = |at: usize| number(at).max(0.0);
        Self {
            rate_minutes: positive(0).min(1e6) as i64,
            requests: positive(1),
            tokens: positive(2),
            usd: positive(3),
            week: (if positive(4) >= 1.0 { positive(4) as u32 } else { 1 }, positive(5) as u32),
        }
    }

    /// Place of the value among the window's keys, unit, limit; a limit of tokens replaces that of dollars
    /// (v1.1.314 `src/middleware/auth.js`).
    fn rate_limits(self) -> impl Iterator<Item = (usize, &'static str, f64)> {
        let spending = if self.tokens > 0.0 { (2, "tokens", self.tokens) } else { (3, "usd", self.usd) };
        [(1, "requests", self.requests), spending].into_iter().filter(|(_, _, limit)| *limit > 0.0)
    }
}

/// The fields of an account that are set.
struct Account(HashMap<&'static str, String>);

impl Account {
    /// From JSON, where truth values are no texts.
    fn of_json(text: &str) -> Option<Self> {
        let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
        let fields = ACCOUNT_FIELDS.iter().filter_map(|name| {
            let text = match values.get(*name)? {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => return None,
                other => other.to_string(),
            };
            (!text.is_empty()).then_some((*name, text))
        });
        Some(Self(fields.collect()))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn instant(&self, name: &str) -> Option<DateTime<Utc>> {
        instant(self.get(name)?)
    }

    /// The reason first, "not scheduled" last: the relay stops scheduling accounts for any of the reasons.
    fn state(&self, is_cooling: bool, now: DateTime<Utc>) -> AccountState {
        let status = self.get("status");
        let limit_ends = self.instant("rateLimitEndAt").or_else(|| self.instant("rateLimitResetAt"));
        let is_limited = self.get("rateLimitStatus") == Some("limited") && limit_ends.is_none_or(|end| end > now);
        match status {
            _ if self.get("isActive") == Some("false") => AccountState::Disabled,
            Some("disabled") => AccountState::Disabled,
            Some("unauthorized") => AccountState::Unauthorized,
            Some("blocked") => AccountState::Blocked,
            _ if is_limited => AccountState::RateLimited,
            Some("rate_limited") => AccountState::RateLimited,
            Some("quota_exceeded") => AccountState::QuotaExceeded,
            _ if self.get("quotaStoppedAt").is_some() => AccountState::QuotaExceeded,
            Some("overloaded") => AccountState::Overloaded,
            Some("error" | "temp_error") => AccountState::Error,
            _ if is_cooling => AccountState::CoolingDown,
            _ if self.get("schedulable") == Some("false") => AccountState::Paused,
            _ => AccountState::Normal,
        }
    }

    fn subscriptions(&self, id: &EntityId, now: DateTime<Utc>) -> impl Iterator<Item = Subscription> {
        let told = self.instant("codexUsageUpdatedAt");
        let codex = |seconds: &str| {
            let after = TimeDelta::try_milliseconds((self.number(seconds)?.clamp(0.0, 1e9) * 1e3) as i64)?;
            told?.checked_add_signed(after)
        };
        let windows = [
            (
                "5h",
                self.number("claudeFiveHourUtilization"),
                self.instant("claudeFiveHourResetsAt").or_else(|| self.instant("sessionWindowEnd")),
            ),
            ("7d", self.number("claudeSevenDayUtilization"), self.instant("claudeSevenDayResetsAt")),
            // The field is named after Opus and filled with the window of Sonnet.
            ("7d_sonnet", self.number("claudeSevenDayOpusUtilization"), self.instant("claudeSevenDayOpusResetsAt")),
            ("primary", self.number("codexPrimaryUsedPercent"), codex("codexPrimaryResetAfterSeconds")),
            ("secondary", self.number("codexSecondaryUsedPercent"), codex("codexSecondaryResetAfterSeconds")),
        ];
        let id = id.clone();
        windows.into_iter().filter(|(_, percent, end)| percent.is_some() || end.is_some()).map(
            move |(window, percent, end)| {
                // Once the window has ended, what was used in it says nothing about the next.
                let is_over = end.is_some_and(|end| end <= now);
                Subscription {
                    provider_id: id.clone(),
                    window,
                    used_ratio: percent.filter(|_| !is_over).map(|percent| percent / 100.0),
                    resets_at: end.filter(|_| !is_over),
                }
            },
        )
    }
}
