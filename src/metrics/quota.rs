//! Limits, what is used of them, and when they start anew.

use super::Emit::{Directory, Quota, Relay};
use super::MetricType::Gauge;
use super::directory::by_id;
use super::{Group, Metric, Sink, float, keys, live, unix, users};
use crate::model::{RateWindow, Usd};
use crate::view::{QuotaView, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_rate_limit_requests",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "Requests that the key may use in one rate limit window; absent without such a limit.",
        help_zh: "密钥在一个限流窗口内可用的请求数；无此限制时不存在。",
        emit: Relay(|view, out| rate_limit(view, out, "requests", |it| it.limit)),
    },
    Metric {
        name: "llm_relay_rate_limit_used_requests",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "Requests that the key has used in the open rate limit window; 0 when none is open.",
        help_zh: "密钥在当前限流窗口内已用的请求数；没有打开的窗口时为 0。",
        emit: Relay(|view, out| rate_limit(view, out, "requests", |it| it.used)),
    },
    Metric {
        name: "llm_relay_rate_limit_tokens",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "Tokens that the key may use in one rate limit window; absent without such a limit.",
        help_zh: "密钥在一个限流窗口内可用的Token 数；无此限制时不存在。",
        emit: Relay(|view, out| rate_limit(view, out, "tokens", |it| it.limit)),
    },
    Metric {
        name: "llm_relay_rate_limit_used_tokens",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "Tokens that the key has used in the open rate limit window; 0 when none is open.",
        help_zh: "密钥在当前限流窗口内已用的Token 数；没有打开的窗口时为 0。",
        emit: Relay(|view, out| rate_limit(view, out, "tokens", |it| it.used)),
    },
    Metric {
        name: "llm_relay_rate_limit_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "US dollars that the key may use in one rate limit window; absent without such a limit.",
        help_zh: "密钥在一个限流窗口内可用的美元；无此限制时不存在。",
        emit: Relay(|view, out| rate_limit(view, out, "usd", |it| it.limit)),
    },
    Metric {
        name: "llm_relay_rate_limit_used_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "US dollars that the key has used in the open rate limit window; 0 when none is open.",
        help_zh: "密钥在当前限流窗口内已用的美元；没有打开的窗口时为 0。",
        emit: Relay(|view, out| rate_limit(view, out, "usd", |it| it.used)),
    },
    Metric {
        name: "llm_relay_rate_limit_reset_timestamp_seconds",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id", "unit"],
        help: "When the open rate limit window of the key ends; absent when none is open.",
        help_zh: "密钥当前的限流窗口何时结束；没有打开的窗口时不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.rate_windows) {
                out.known(&[&it.key_id.to_string(), it.unit], it.resets_at.map(unix));
            }
        }),
    },
    Metric {
        name: "llm_relay_quota_limit_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["scope", "id", "window", "part"],
        help: "Spending limit in US dollars of a user, key, team, organization or provider in a window (5h, daily, weekly, monthly, total, subscription, or another length such as 10d); absent without a limit; part names the group or the platform whose spending alone counts.",
        help_zh: "用户、密钥、团队、组织或供应商在某窗口（5h、daily、weekly、monthly、total、subscription，或其他长度如 10d）内的消费限额（美元）；无限额时不存在；part 为仅计入其消费的分组或平台。",
        emit: Quota(|quota, out| of_quota(quota, out, quota.limit_usd)),
    },
    Metric {
        name: "llm_relay_quota_soft_limit_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["scope", "id", "window", "part"],
        help: "Spending in US dollars from which on the relay alerts but lets requests through; absent without such a limit.",
        help_zh: "达到后中转服务仅告警、不拦截请求的消费（美元）；无此限额时不存在。",
        emit: Quota(|quota, out| of_quota(quota, out, quota.soft_limit_usd)),
    },
    Metric {
        name: "llm_relay_quota_used_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["scope", "id", "window", "part"],
        help: "Spending in US dollars that counts against the limit, as the relay's quota page shows it.",
        help_zh: "计入限额的消费（美元），与中转服务的配额页面一致。",
        emit: Quota(|quota, out| of_quota(quota, out, quota.used_usd)),
    },
    Metric {
        name: "llm_relay_quota_reset_timestamp_seconds",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["scope", "id", "window", "part"],
        help: "When the window of the quota ends and its spending starts from zero; fixed windows only.",
        help_zh: "限额窗口何时结束并从零重新计算；仅限固定窗口。",
        emit: Quota(|quota, out| of_quota(quota, out, quota.resets_at.map(unix))),
    },
    Metric {
        name: "llm_relay_quota_exhaustion_timestamp_seconds",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["scope", "id", "window", "part"],
        help: "When the quota will be used up at the present pace; only when that is before its reset.",
        help_zh: "按当前速度限额何时用尽；仅在早于重置时间时存在。",
        emit: Quota(|quota, out| of_quota(quota, out, quota.exhausted_at.map(unix))),
    },
    Metric {
        name: "llm_relay_user_balance_usd",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["user_id"],
        help: "What is left of what the user has paid in advance, in US dollars; below 0 where more was spent.",
        help_zh: "用户预付余额的剩余（美元）；超支时为负。",
        emit: Directory(|directory, out| by_id(out, users(directory).map(|it| (&it.id, it.balance.map(Usd::to_f64))))),
    },
    Metric {
        name: "llm_relay_key_expiry_timestamp_seconds",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["key_id"],
        help: "When the key expires; absent when it does not.",
        help_zh: "密钥何时到期；不到期时不存在。",
        emit: Directory(|directory, out| by_id(out, keys(directory).map(|it| (&it.id, it.expires_at.map(unix))))),
    },
    Metric {
        name: "llm_relay_user_expiry_timestamp_seconds",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["user_id"],
        help: "When the user expires, and all keys with it; absent when it does not.",
        help_zh: "用户何时到期，其所有密钥随之失效；不到期时不存在。",
        emit: Directory(|directory, out| by_id(out, users(directory).map(|it| (&it.id, it.expires_at.map(unix))))),
    },
    Metric {
        name: "llm_relay_user_requests_per_minute_limit",
        kind: Gauge,
        group: Group::Quotas,
        labels: &["user_id"],
        help: "Requests that the user may make in a minute; absent when unlimited.",
        help_zh: "用户每分钟可发起的请求数；不限时不存在。",
        emit: Directory(|directory, out| {
            by_id(out, users(directory).map(|it| (&it.id, float(it.requests_per_minute))));
        }),
    },
];

fn of_quota(quota: &QuotaView, out: &mut dyn Sink, value: Option<f64>) {
    out.known(&[quota.scope.label(), &quota.id.to_string(), quota.window.label(), &quota.part], value);
}

/// Of the limits in one unit.
fn rate_limit(view: &View, out: &mut dyn Sink, unit: &str, value: fn(&RateWindow) -> f64) {
    for it in live(view).into_iter().flat_map(|it| &it.rate_windows).filter(|it| it.unit == unit) {
        out.sample(&[&it.key_id.to_string()], value(it));
    }
}
