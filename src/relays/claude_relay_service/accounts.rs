//! Upstream accounts: their state by the relay's own order, when they come back, and the windows of their subscriptions.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Deserialize;

use super::clock::Offset;
use super::directory::instant;
use super::keys::{self, Platform, platform_of};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{
    AccountReturn, AccountState, Directory, EntityId, LimitKey, Live, Provider, QuotaWindow, ReadError, Scope,
    Subscription, SubscriptionStatus, Usd, WindowSpend,
};

/// Fields of an account, whatever its platform.
const FIELDS: [&str; 35] = [
    "isActive",
    "status",
    "schedulable",
    "lastUsedAt",
    "rateLimitStatus",
    "rateLimitedAt",
    "rateLimitDuration",
    "rateLimitEndAt",
    "rateLimitResetAt",
    "opusRateLimitEndAt",
    "sonnetRateLimitEndAt",
    "haikuRateLimitEndAt",
    "fableRateLimitEndAt",
    "overloadStatus",
    "overloadedAt",
    "tempErrorAt",
    "quotaStoppedAt",
    "lastResetDate",
    "dailyQuota",
    "dailyUsage",
    "quotaResetTime",
    "sessionWindowEnd",
    "sessionWindowStatus",
    "claudeUsageUpdatedAt",
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

/// Families of models that an account of Claude may be limited for alone, each with the field that says until when
/// (v1.1.314 `src/services/account/claudeAccountService.js`, `_modelRateLimitFields`; before v1.1.310, only that of Opus).
const FAMILIES: [(&str, &str); 4] = [
    ("opus", "opusRateLimitEndAt"),
    ("sonnet", "sonnetRateLimitEndAt"),
    ("haiku", "haikuRateLimitEndAt"),
    ("fable", "fableRateLimitEndAt"),
];

/// Reads the accounts of the directory into `live`.
pub(super) async fn read(
    redis: &mut Redis,
    offset: Offset,
    directory: &Directory,
    now: DateTime<Utc>,
    live: &mut Live,
) -> Result<(), ReadError> {
    let what = "reading account states";
    let accounts = fields(redis, directory).await?;
    let pauses = accounts.iter().map(|(account, platform, _)| {
        let pause = format!("temp_unavailable:{}:{}", platform.in_errors, account.id);
        // Written for accounts of Claude alone.
        (pause, format!("account:overload:{}", account.id))
    });
    let (pauses, overloads): (Vec<String>, Vec<String>) = pauses.unzip();
    let pauses = redis.texts(what, &pauses).await?;
    let overloads = redis.texts(what, &overloads).await?;
    for (((account, platform, fields), pause_text), overload_text) in accounts.into_iter().zip(pauses).zip(overloads) {
        let pause = |text: Option<String>| text.map(|text| Pause::of(&text)).filter(|pause| !pause.is_over(now));
        let (pause, overload) = (pause(pause_text), pause(overload_text));
        let account_of = Account { fields, platform, offset, now, pause, overload };
        let id = &account.id;
        let state = account_of.state();
        live.accounts.push((id.clone(), state));
        let back = |models, at| AccountReturn { provider_id: id.clone(), models, at };
        live.returns.extend(account_of.returns_at(state).map(|at| back("all", at)));
        live.returns.extend(account_of.limited_families().map(|(family, at)| back(family, at)));
        live.subscriptions.extend(account_of.subscriptions(id));
        live.window_spend.extend(account_of.quota_used(id));
    }
    Ok(())
}

type Fields = HashMap<&'static str, String>;

/// The fields that are set, of every account that is there.
async fn fields<'a>(
    redis: &mut Redis,
    directory: &'a Directory,
) -> Result<Vec<(&'a Provider, &'static Platform, Fields)>, ReadError> {
    let what = "reading account states";
    let known = directory.providers.iter().filter_map(|account| Some((account, platform_of(&account.kind)?)));
    let (texts, hashes): (Vec<_>, Vec<_>) = known.partition(|(_, platform)| platform.json);
    let key = |(account, platform): &(&Provider, &Platform)| format!("{}{}", platform.account, account.id);
    let asks: Vec<KeyCommand> = hashes.iter().map(|it| KeyCommand::new("HMGET", key(it)).fields(&FIELDS)).collect();
    let answers = redis.each::<Vec<Option<String>>>(what, &asks).await?;
    let of_hashes = hashes.into_iter().zip(answers).filter_map(|((account, platform), values)| {
        let fields = FIELDS.iter().copied().zip(values?);
        let fields = fields.filter_map(|(name, value)| Some((name, value.filter(|text| !text.is_empty())?)));
        Some((account, platform, fields.collect()))
    });
    let mut accounts: Vec<_> = of_hashes.collect();
    let asks: Vec<KeyCommand> = texts.iter().map(|it| KeyCommand::new("GET", key(it))).collect();
    let answers = redis.each::<Option<String>>(what, &asks).await?;
    accounts.extend(
        texts
            .into_iter()
            .zip(answers)
            .filter_map(|((account, platform), text)| Some((account, platform, fields_of_json(&text.flatten()?)?))),
    );
    Ok(accounts)
}

/// From JSON, where truth values are no texts.
fn fields_of_json(text: &str) -> Option<Fields> {
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).ok()?;
    let fields = FIELDS.iter().filter_map(|name| {
        let text = match values.get(*name)? {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => return None,
            other => other.to_string(),
        };
        (!text.is_empty()).then_some((*name, text))
    });
    Some(fields.collect())
}

/// A time in which an account is left out: as long as its key is there (v1.1.314 `src/utils/upstreamErrorHelper.js`,
/// `markTempUnavailable`; `src/services/account/claudeAccountService.js`, `markAccountOverloaded`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pause {
    /// Not written by releases before v1.1.290.
    expires_at: Option<DateTime<Utc>>,
}

impl Pause {
    fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or(Self { expires_at: None })
    }

    fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// One account at one moment.
struct Account {
    fields: Fields,
    platform: &'static Platform,
    offset: Offset,
    now: DateTime<Utc>,
    /// After an error.
    pause: Option<Pause>,
    /// After the upstream said that it is overloaded.
    overload: Option<Pause>,
}

impl Account {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn instant(&self, name: &str) -> Option<DateTime<Utc>> {
        instant(self.get(name)?)
    }

    /// So many minutes after the time in a field.
    fn after(&self, name: &str, minutes: i64) -> Option<DateTime<Utc>> {
        self.instant(name)?.checked_add_signed(TimeDelta::try_minutes(minutes)?)
    }

    /// The order of the relay's list (v1.1.314 `web/admin-spa/src/views/AccountsView.vue`, `getAccountStatusText`). What
    /// that calls an error because the relay switched the account off has its reason here; an account over its quota,
    /// which that calls normal, has its own state, and so has one that was banned.
    fn state(&self) -> AccountState {
        let overload_ends = self.after("overloadedAt", 10).filter(|end| *end > self.now);
        match self.get("status") {
            Some("blocked" | "account_blocked") => AccountState::Blocked,
            Some("unauthorized") => AccountState::Unauthorized,
            Some("rate_limited") => AccountState::RateLimited,
            _ if self.is_marked_limited() && self.limit_ends().is_some_and(|end| end > self.now) => {
                AccountState::RateLimited
            }
            _ if self.pause.is_some() => AccountState::CoolingDown,
            Some("overloaded") => AccountState::Overloaded,
            _ if self.overload.is_some() => AccountState::Overloaded,
            _ if self.get("overloadStatus") == Some("overloaded") && overload_ends.is_some() => {
                AccountState::Overloaded
            }
            Some("temp_error" | "error") => AccountState::Error,
            Some("quota_exceeded" | "quotaExceeded") => AccountState::QuotaExceeded,
            _ if self.get("quotaStoppedAt").is_some() => AccountState::QuotaExceeded,
            Some("disabled") => AccountState::Disabled,
            _ if self.get("isActive") == Some("false") => AccountState::Disabled,
            _ if self.get("schedulable") == Some("false") => AccountState::Paused,
            _ => AccountState::Normal,
        }
    }

    fn is_marked_limited(&self) -> bool {
        self.get("rateLimitStatus") == Some("limited")
    }

    /// As the upstream told, else so many minutes after the limit was seen as the account is set to, or an hour.
    fn limit_ends(&self) -> Option<DateTime<Utc>> {
        let minutes = self.number("rateLimitDuration").filter(|minutes| *minutes > 0.0);
        self.instant("rateLimitEndAt")
            .or_else(|| self.instant("rateLimitResetAt"))
            .or_else(|| self.after("rateLimitedAt", minutes.map_or(60, |minutes| minutes as i64)))
    }

    /// When the relay means to use the account again; in the past where it has not done so.
    fn returns_at(&self, state: AccountState) -> Option<DateTime<Utc>> {
        match state {
            AccountState::RateLimited => self.limit_ends(),
            AccountState::CoolingDown => self.pause.as_ref()?.expires_at,
            AccountState::Overloaded => {
                self.overload.as_ref().and_then(|it| it.expires_at).or_else(|| self.after("overloadedAt", 10))
            }
            AccountState::Error => self.after("tempErrorAt", 5),
            AccountState::QuotaExceeded => self.quota_starts_anew(),
            _ => None,
        }
    }

    /// Accounts of Claude Console have a time of day for it, the others midnight (`_shouldResetQuota`).
    fn quota_starts_anew(&self) -> Option<DateTime<Utc>> {
        let stopped = self.offset.local(self.instant("quotaStoppedAt")?);
        let time = self.get("quotaResetTime").filter(|_| self.platform.name == "claude-console");
        let time = time.and_then(|text| NaiveTime::parse_from_str(text, "%H:%M").ok()).unwrap_or_default();
        let was_reset = self.get("lastResetDate").and_then(|text| text.parse::<NaiveDate>().ok());
        let is_over = was_reset.is_none_or(|date| date >= stopped.date()) || stopped.time() >= time;
        let date = stopped.date() + Days::new(is_over.into());
        Some(self.offset.utc(date.and_time(time)))
    }

    /// Of accounts of OpenAI Responses, which write it down (`updateUsageQuota`). What others have used, the relay works out
    /// from its price list.
    fn quota_used(&self, id: &EntityId) -> Option<(LimitKey, WindowSpend)> {
        let today = self.offset.date(self.now);
        let is_theirs = self.platform.name == "openai-responses" && self.number("dailyQuota")? > 0.0;
        let of_today = self.get("lastResetDate")? == keys::day(today);
        let used = if of_today { self.number("dailyUsage").unwrap_or(0.0) } else { 0.0 };
        let resets_at = Some(self.offset.start_of(today + Days::new(1)));
        let spend = WindowSpend { used: Usd::from_f64(used)?, resets_at };
        is_theirs.then_some(((Scope::Provider, id.clone(), QuotaWindow::Daily), spend))
    }

    fn limited_families(&self) -> impl Iterator<Item = (&'static str, DateTime<Utc>)> {
        let ends = FAMILIES.iter().filter_map(|(family, field)| Some((*family, self.instant(field)?)));
        ends.filter(|(_, end)| *end > self.now)
    }

    fn subscriptions(&self, id: &EntityId) -> impl Iterator<Item = Subscription> {
        let codex_told = self.instant("codexUsageUpdatedAt");
        let codex = |used, seconds: &str, window, length| {
            let after = self.number(seconds).map(|seconds| (seconds.clamp(0.0, 1e9) * 1e3) as i64);
            let ends = after.and_then(|after| codex_told?.checked_add_signed(TimeDelta::try_milliseconds(after)?));
            self.subscription(id, window, length, (self.number(used), codex_told, ends))
        };
        let claude_told = self.instant("claudeUsageUpdatedAt");
        let claude = |used, ends, window, length| {
            self.subscription(id, window, length, (self.number(used), claude_told, self.instant(ends)))
        };
        let session_ends = self.instant("sessionWindowEnd").filter(|end| *end > self.now);
        let mut five_hours = claude("claudeFiveHourUtilization", "claudeFiveHourResetsAt", "5h", TimeDelta::hours(5));
        // Each request renews it, while the share is renewed by whoever looks at the relay's list of accounts.
        five_hours.status = session_ends.and(self.get("sessionWindowStatus")).and_then(SubscriptionStatus::of);
        five_hours.resets_at = five_hours.resets_at.or(session_ends);
        let week = TimeDelta::days(7);
        let windows = [
            five_hours,
            claude("claudeSevenDayUtilization", "claudeSevenDayResetsAt", "7d", week),
            // The field is named after Opus and filled with the window of Sonnet.
            claude("claudeSevenDayOpusUtilization", "claudeSevenDayOpusResetsAt", "7d_sonnet", week),
            codex("codexPrimaryUsedPercent", "codexPrimaryResetAfterSeconds", "primary", TimeDelta::hours(5)),
            codex("codexSecondaryUsedPercent", "codexSecondaryResetAfterSeconds", "secondary", week),
        ];
        windows.into_iter().filter(|it| it.told_at.is_some() || it.resets_at.is_some() || it.used_ratio.is_some())
    }

    /// A window of some length, from the percent used, when that was told, and when it ends.
    fn subscription(
        &self,
        id: &EntityId,
        window: &'static str,
        length: TimeDelta,
        (percent, told_at, ends): (Option<f64>, Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    ) -> Subscription {
        // What was used says nothing once the window has ended, nor when the account has been used long after.
        let is_over = ends.is_some_and(|end| end <= self.now);
        let used_later = told_at.zip(self.instant("lastUsedAt")).is_some_and(|(told, used)| used - told > length / 10);
        let used_ratio = percent.filter(|_| !is_over).map(|percent| percent / 100.0);
        Subscription {
            provider_id: id.clone(),
            window,
            told_at: told_at.filter(|_| used_ratio.is_some()),
            used_ratio: used_ratio.filter(|_| !used_later),
            resets_at: ends.filter(|_| !is_over),
            status: None,
        }
    }
}
