//! The relay's live state: its collector, providers and sessions.

use super::Emit::{Directory, Relay};
use super::MetricType::{Counter, Gauge};
use super::directory::by_id;
use super::{Group, Metric, Sink, flag, float, keys, ledger, live, providers, unix, users};
use crate::model::{Circuit, EntityId};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_collector_delay_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &[],
        help: "From the end of the newest request to its record in the relay's ledger.",
        help_zh: "最新一个请求结束到写入中转服务账本的时间（秒）。",
        emit: Relay(|view, out| {
            out.known(&[], live(view).and_then(|it| it.collector).and_then(|collector| collector.delay_seconds));
        }),
    },
    Metric {
        name: "llm_relay_collector_last_record_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &[],
        help: "When the relay's collector last wrote a request into the ledger.",
        help_zh: "中转服务的采集器上次向账本写入请求的时刻。",
        emit: Relay(|view, out| {
            out.known(
                &[],
                live(view).and_then(|it| it.collector).and_then(|collector| collector.last_record).map(unix),
            );
        }),
    },
    Metric {
        name: "llm_relay_database_bytes",
        kind: Gauge,
        group: Group::Live,
        labels: &["file"],
        help: "Size of the relay's database where it is a file: main, and wal where it has a write-ahead log.",
        help_zh: "中转服务数据库文件的大小：main 为主文件，wal 为预写日志（如有）。",
        emit: Relay(|view, out| {
            for (file, bytes) in live(view).into_iter().flat_map(|it| &it.database_bytes) {
                out.sample(&[file], *bytes as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_dead_letters_total",
        kind: Counter,
        group: Group::Counters,
        labels: &[],
        help: "Requests that the relay's collector did not understand, so that its ledger, and every number here, is without them.",
        help_zh: "中转服务的采集器无法解析的请求数；其账本以及这里的所有数字都不含它们。",
        emit: Relay(|view, out| {
            out.known(&[], float(live(view).and_then(|it| it.collector).map(|collector| collector.dead_letters)));
        }),
    },
    Metric {
        name: "llm_relay_provider_slots_used",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "Sessions that hold a slot of the provider, counted by the relay's own rule.",
        help_zh: "占用供应商槽位的会话数，按中转服务自己的规则统计。",
        emit: Relay(|view, out| counts(out, live(view).into_iter().flat_map(|it| it.slots_used.iter().flatten()))),
    },
    Metric {
        name: "llm_relay_provider_slots_limit",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "Slots of the provider; absent when unlimited.",
        help_zh: "供应商的槽位数；不限时不存在。",
        emit: Directory(|directory, out| by_id(out, providers(directory).map(|it| (&it.id, float(it.slots))))),
    },
    Metric {
        name: "llm_relay_provider_enabled",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "1 when the provider is enabled, 0 when it is switched off.",
        help_zh: "供应商启用时为 1，停用时为 0。",
        emit: Directory(|directory, out| by_id(out, providers(directory).map(|it| (&it.id, it.enabled.map(flag))))),
    },
    Metric {
        name: "llm_relay_provider_last_request_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "When the newest request of the provider started, to the second.",
        help_zh: "供应商最近一次请求的开始时刻，精确到秒。",
        emit: Relay(|view, out| {
            for (provider, second) in ledger(view).into_iter().flat_map(|it| &it.last_requests) {
                out.sample(&[provider], *second as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_circuit_state",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id", "state"],
        help: "State of the provider's circuit breaker (closed, open, half_open): 1 for the present state, 0 for the others.",
        help_zh: "供应商熔断器的状态（closed、open、half_open）：当前状态为 1，其余为 0。",
        emit: Relay(|view, out| {
            for (provider, circuit) in live(view).and_then(|it| it.circuits.as_ref()).into_iter().flatten() {
                let present = match circuit {
                    Circuit::Closed => "closed",
                    Circuit::Open { .. } => "open",
                    Circuit::HalfOpen => "half_open",
                };
                for state in ["closed", "open", "half_open"] {
                    out.sample(&[&provider.to_string(), state], flag(state == present));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_circuit_reopen_timestamp_seconds",
        kind: Gauge,
        group: Group::Live,
        labels: &["provider_id"],
        help: "When the open circuit of the provider lets requests through again; only while it is open.",
        help_zh: "供应商的熔断器何时重新放行请求；仅在熔断时存在。",
        emit: Relay(|view, out| {
            for (provider, circuit) in live(view).and_then(|it| it.circuits.as_ref()).into_iter().flatten() {
                if let Circuit::Open { reopens_at: Some(at) } = circuit {
                    out.sample(&[&provider.to_string()], unix(*at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_user_sessions_active",
        kind: Gauge,
        group: Group::Live,
        labels: &["user_id"],
        help: "Live sessions of the user; only users that have some.",
        help_zh: "用户的实时会话数；仅列出有会话的用户。",
        emit: Relay(|view, out| counts(out, live(view).into_iter().flat_map(|it| it.user_sessions.iter().flatten()))),
    },
    Metric {
        name: "llm_relay_user_sessions_limit",
        kind: Gauge,
        group: Group::Live,
        labels: &["user_id"],
        help: "Live sessions that the user may have at a time; absent when unlimited.",
        help_zh: "用户可同时拥有的实时会话数；不限时不存在。",
        emit: Directory(|directory, out| by_id(out, users(directory).map(|it| (&it.id, float(it.sessions))))),
    },
    Metric {
        name: "llm_relay_key_sessions_limit",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Live sessions that the key may have at a time, by its own limit or else its user's; absent when unlimited.",
        help_zh: "密钥可同时拥有的实时会话数，取自身上限，未设置时取用户上限；不限时不存在。",
        emit: Directory(|directory, out| by_id(out, keys(directory).map(|it| (&it.id, float(it.sessions))))),
    },
    Metric {
        name: "llm_relay_key_sessions_active",
        kind: Gauge,
        group: Group::Live,
        labels: &["key_id"],
        help: "Live sessions of the key; only keys that have some.",
        help_zh: "密钥的实时会话数；仅列出有会话的密钥。",
        emit: Relay(|view, out| counts(out, live(view).into_iter().flat_map(|it| it.key_sessions.iter().flatten()))),
    },
    Metric {
        name: "llm_relay_end_users_active",
        kind: Gauge,
        group: Group::Live,
        labels: &[],
        help: "End users, the people behind the relay's callers, with requests on the relay's present day.",
        help_zh: "中转服务当日有请求的终端用户（调用方背后的人）数。",
        emit: Directory(|directory, out| out.known(&[], float(directory.end_users_today))),
    },
    Metric {
        name: "llm_relay_workers_alive",
        kind: Gauge,
        group: Group::Live,
        labels: &[],
        help: "Worker processes of the relay that have given a sign of life within the last three minutes.",
        help_zh: "最近三分钟内有心跳的中转服务工作进程数。",
        emit: Relay(|view, out| out.known(&[], float(live(view).and_then(|it| it.workers_alive)))),
    },
    Metric {
        name: "llm_relay_unaccounted_requests",
        kind: Gauge,
        group: Group::Live,
        labels: &["state"],
        help: "Requests that the relay's own counters and budgets lack: pending, or parked once it has given up on them.",
        help_zh: "尚未计入中转服务自身计数与预算的请求数：pending 待处理，parked 已放弃。",
        emit: Relay(|view, out| {
            for (state, requests) in live(view).into_iter().flat_map(|it| &it.unaccounted) {
                out.sample(&[state], *requests as f64);
            }
        }),
    },
];

/// Counts of entities.
pub(super) fn counts<'a>(out: &mut dyn Sink, counts: impl Iterator<Item = &'a (EntityId, u64)>) {
    counts.for_each(|(id, count)| out.sample(&[&id.to_string()], *count as f64));
}
