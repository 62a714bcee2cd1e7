//! Upstream keys and accounts, slots and queues.

use super::Emit::{Directory, Relay};
use super::MetricType::{Counter, Gauge};
use super::directory::by_id;
use super::live::counts;
use super::{Group, Metric, flag, float, keys, live, unix};
use crate::model::{AccountState, SubscriptionStatus};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_key_consecutive_failures",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Failures of an upstream key since its last success, as far as the relay's log tells; relays with a pool of keys.",
        help_zh: "上游密钥自上次成功以来的连续失败次数，按中转日志计算；仅限使用密钥池的中转。",
        emit: Relay(|view, out| counts(out, live(view).into_iter().flat_map(|it| it.key_failures.iter().flatten()))),
    },
    Metric {
        name: "llm_relay_error_log_entries_total",
        kind: Counter,
        group: Group::Live,
        labels: &["type", "code"],
        help: "Entries of the relay's error log by its own type and the HTTP status code (none: there was none), since the oldest that was there at the first read.",
        help_zh: "中转错误日志的条目数，按中转自身的类型和 HTTP 状态码（无则为 none）统计，自首次读取时最旧的一条起。",
        emit: Relay(|view, out| {
            for error in live(view).and_then(|it| it.error_log.as_ref()).into_iter().flatten() {
                out.sample(&[&error.kind, &error.code], error.count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_rejected_requests_total",
        kind: Counter,
        group: Group::Live,
        labels: &["reason"],
        help: "Requests that the relay refused before it looked for an upstream, by its own word for why, since the exporter started; they are in no other number.",
        help_zh: "中转在选择上游之前即拒绝的请求数，按中转自身的原因统计，自采集器启动起；不计入其他任何数字。",
        emit: Relay(|view, out| {
            for (reason, count) in live(view).and_then(|it| it.rejected.as_ref()).into_iter().flatten() {
                out.sample(&[reason], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_slots_used",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Requests that hold a slot of the key, counted by the relay's own rule; only keys with a limit, or with running requests where keys have none.",
        help_zh: "占用密钥槽位的请求数，按中转服务自己的规则统计；仅限有上限的密钥；密钥没有上限的中转则仅列出有进行中请求的密钥。",
        emit: Relay(|view, out| counts(out, live(view).into_iter().flat_map(|it| &it.key_slots_used))),
    },
    Metric {
        name: "llm_relay_key_slots_limit",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Requests that the key may have at a time; absent when unlimited.",
        help_zh: "密钥可同时进行的请求数；不限时不存在。",
        emit: Directory(|directory, out| by_id(out, keys(directory).map(|it| (&it.id, float(it.slots))))),
    },
    Metric {
        name: "llm_relay_queue_waiting",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Requests of the key that wait for a slot.",
        help_zh: "密钥正在等待槽位的请求数。",
        emit: Relay(|view, out| {
            for queue in live(view).into_iter().flat_map(|it| &it.queues) {
                out.sample(&[&queue.key_id.to_string()], queue.waiting as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_queue_events_total",
        kind: Counter,
        group: Group::Live,
        labels: &["key_id", "event"],
        help: "What became of requests of the key that had to wait for a slot, by the relay's own word (entered, success, timeout, ...).",
        help_zh: "密钥等待过槽位的请求的去向，采用中转服务自己的用词（entered、success、timeout 等）。",
        emit: Relay(|view, out| {
            for queue in live(view).into_iter().flat_map(|it| &it.queues) {
                for (event, count) in &queue.events {
                    out.sample(&[&queue.key_id.to_string(), event], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_queue_wait_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["percentile"],
        help: "How long the newest requests that had to wait for a slot did so (at most 2000 of a day), by percentile (50, 90, 99), by the relay's own rule.",
        help_zh: "最近需等待槽位的请求（一天内最多 2000 个）的等待时间，按百分位（50、90、99），采用中转服务自己的规则。",
        emit: Relay(|view, out| {
            for (percentile, seconds) in live(view).into_iter().flat_map(|it| &it.queue_waits) {
                out.sample(&[percentile], *seconds);
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_account_state",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "state"],
        help: "State of the upstream account (normal, rate_limited, cooling_down, overloaded, quota_exceeded, unauthorized, blocked, error, paused, disabled): 1 for the present state, 0 for the others.",
        help_zh: "上游账号的状态（normal、rate_limited、cooling_down、overloaded、quota_exceeded、unauthorized、blocked、error、paused、disabled）：当前状态为 1，其余为 0。",
        emit: Relay(|view, out| {
            for (account, present) in live(view).into_iter().flat_map(|it| &it.accounts) {
                for state in AccountState::ALL {
                    out.sample(&[&account.to_string(), state.label()], flag(state == *present));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_account_keys",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "state"],
        help: "Keys of an upstream account that has several, by state (normal, disabled: by hand, error: by the relay).",
        help_zh: "拥有多个密钥的上游账号的密钥数，按状态（normal 正常、disabled 手动停用、error 由中转停用）。",
        emit: Relay(|view, out| {
            for (account, state, keys) in live(view).into_iter().flat_map(|it| &it.account_keys) {
                out.sample(&[&account.to_string(), state.label()], *keys as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_account_balance",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "What the upstream account has left, as the upstream last told: US dollars, or whatever the upstream counts in; absent when it was never asked.",
        help_zh: "上游账号余额，以上游最近告知为准：美元，或上游自己的货币；从未查询时不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.balances) {
                out.sample(&[&it.provider_id.to_string()], it.amount);
            }
        }),
    },
    Metric {
        name: "llm_relay_account_balance_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "When the upstream last told the balance of the account.",
        help_zh: "上游最近一次告知账号余额的时间。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.balances) {
                out.sample(&[&it.provider_id.to_string()], unix(it.told_at));
            }
        }),
    },
    Metric {
        name: "llm_relay_account_test_duration_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "How long the answer to the relay's last test of the upstream account took; absent when it was never tested.",
        help_zh: "中转最近一次测试该上游账号的耗时；从未测试时不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.tests) {
                out.sample(&[&it.provider_id.to_string()], it.duration_ms as f64 / 1e3);
            }
        }),
    },
    Metric {
        name: "llm_relay_account_test_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "When the relay last tested the upstream account.",
        help_zh: "中转最近一次测试该上游账号的时间。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.tests) {
                out.sample(&[&it.provider_id.to_string()], unix(it.at));
            }
        }),
    },
    Metric {
        name: "llm_relay_account_return_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "models"],
        help: "When the relay means to use the upstream account again: all its models, or the family of models (opus, sonnet, haiku, fable) for which alone the upstream limits it; in the past where the relay is late, absent while it is in use or left out for no set time.",
        help_zh: "中转服务何时重新使用该上游账号：全部模型（all），或上游仅限制的那一类模型（opus、sonnet、haiku、fable）。已过去的时间表示中转逾期未恢复。账号可用或停用时间不定时不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.returns) {
                out.sample(&[&it.provider_id.to_string(), it.models], unix(it.at));
            }
        }),
    },
    Metric {
        name: "llm_relay_account_plan_info",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "plan"],
        help: "The plan of the upstream account, in the upstream's word, as it last told.",
        help_zh: "上游账号的套餐，采用上游的用词，以上游最近告知为准。",
        emit: Relay(|view, out| {
            for (account, plan) in live(view).into_iter().flat_map(|it| &it.plans) {
                out.sample(&[&account.to_string(), plan], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_account_utilization_ratio",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "window"],
        help: "Used share of a window of the upstream subscription (5h, 7d, ...), as the upstream last told; absent once that is out of date.",
        help_zh: "上游订阅窗口（5h、7d 等）的已用比例，以上游最近告知为准；过期后不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.subscriptions) {
                out.known(&[&it.provider_id.to_string(), it.window], it.used_ratio);
            }
        }),
    },
    Metric {
        name: "llm_relay_account_utilization_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "window"],
        help: "When the upstream last told how much of the window of the subscription is used, out of date or not; absent once the window has ended.",
        help_zh: "上游最近一次告知订阅窗口已用比例的时间，无论是否已过期；窗口结束后不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.subscriptions) {
                out.known(&[&it.provider_id.to_string(), it.window], it.told_at.map(unix));
            }
        }),
    },
    Metric {
        name: "llm_relay_account_window_state",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "window", "state"],
        help: "The upstream's word for the window of the subscription with its newest answer (allowed, allowed_warning, rejected): 1 for the present state, 0 for the others; absent once the window has ended.",
        help_zh: "上游在最近一次应答中对订阅窗口的说明（allowed、allowed_warning、rejected）：当前状态为 1，其余为 0；窗口结束后不存在。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.subscriptions) {
                let Some(present) = it.status else { continue };
                for state in SubscriptionStatus::ALL {
                    out.sample(&[&it.provider_id.to_string(), it.window, state.label()], flag(state == present));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_account_reset_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "window"],
        help: "When the window of the upstream subscription ends.",
        help_zh: "上游订阅窗口何时结束。",
        emit: Relay(|view, out| {
            for it in live(view).into_iter().flat_map(|it| &it.subscriptions) {
                out.known(&[&it.provider_id.to_string(), it.window], it.resets_at.map(unix));
            }
        }),
    },
];
