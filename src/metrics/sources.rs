//! Whether the relay answers, and how reading its stores goes.

use super::Emit::Relay;
use super::MetricType::{Counter, Gauge, Histogram};
use super::{Group, Metric, Sink, flag, unix};
use crate::probe;
use crate::view::{SourceStatus, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_http_up",
        kind: Gauge,
        group: Group::Health,
        labels: &[],
        help: "1 when the relay's health address answered the last probe with a status from 200 to 399, else 0; absent where none is configured.",
        help_zh: "中转服务的健康检查地址对上次探测返回 200 至 399 的状态码时为 1，否则为 0；未配置时不存在。",
        emit: Relay(|view, out| out.known(&[], probed(view).map(|last| flag(last.up)))),
    },
    Metric {
        name: "llm_relay_http_probe_duration_seconds",
        kind: Gauge,
        group: Group::Health,
        labels: &[],
        help: "Duration of the last probe of the relay's health address, connecting included, also of one that failed.",
        help_zh: "上次探测中转服务健康检查地址的耗时（含建立连接），探测失败时也有。",
        emit: Relay(|view, out| out.known(&[], probed(view).map(|last| last.seconds))),
    },
    Metric {
        name: "llm_relay_http_probe_failures_total",
        kind: Counter,
        group: Group::Health,
        labels: &["reason"],
        help: "Failed probes of the relay's health address since the exporter started, by reason: dns, connection, tls, timeout, status, protocol.",
        help_zh: "采集器启动以来探测中转服务健康检查地址失败的次数，按原因：dns、connection、tls、timeout、status、protocol。",
        emit: Relay(|view, out| {
            for (reason, count) in view.probe.iter().flat_map(|probe| probe::Reason::ALL.iter().zip(probe.failures)) {
                out.sample(&[reason.label()], count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_source_up",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["source"],
        help: "1 when the last read of the source succeeded and is not stale, 0 when its metrics are or will be absent.",
        help_zh: "数据源上次读取成功且未过期时为 1；其指标缺失或即将缺失时为 0。",
        emit: Relay(|view, out| sources(view, out, |it| Some(flag(it.up)))),
    },
    Metric {
        name: "llm_relay_source_last_success_timestamp_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["source"],
        help: "When the source was last read successfully; absent before the first time.",
        help_zh: "数据源上次成功读取的时刻；首次成功之前不存在。",
        emit: Relay(|view, out| sources(view, out, |it| it.last_success.map(unix))),
    },
    Metric {
        name: "llm_relay_refresh_duration_seconds",
        kind: Histogram,
        group: Group::Exporter,
        labels: &["source"],
        help: "Duration of the refreshes of the source since the exporter started.",
        help_zh: "采集器启动以来数据源各次刷新的耗时。",
        emit: Relay(|view, out| {
            for status in &view.sources {
                out.histogram(&[status.source.label()], &status.refresh_seconds);
            }
        }),
    },
    Metric {
        name: "llm_relay_refresh_failures_total",
        kind: Counter,
        group: Group::Exporter,
        labels: &["source", "reason"],
        help: "Failed refreshes since the exporter started, by reason: timeout, connection, permission, schema, data, plan.",
        help_zh: "采集器启动以来失败的刷新次数，按原因：timeout、connection、permission、schema、data、plan。",
        emit: Relay(|view, out| {
            for status in &view.sources {
                for (reason, count) in &status.failures {
                    out.sample(&[status.source.label(), reason.label()], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_refresh_skipped_total",
        kind: Counter,
        group: Group::Exporter,
        labels: &["source"],
        help: "Refreshes that were due while the last one still ran, since the exporter started.",
        help_zh: "采集器启动以来，因上一次刷新仍在进行而跳过的刷新次数。",
        emit: Relay(|view, out| sources(view, out, |it| Some(it.skipped as f64))),
    },
    Metric {
        name: "llm_relay_rows_read_total",
        kind: Counter,
        group: Group::Exporter,
        labels: &["source"],
        help: "Rows (or keys) read from the source since the exporter started; shows that the work follows new rows, not the history.",
        help_zh: "采集器启动以来从数据源读取的行（或键）数；表明工作量随新记录增长，而非随历史增长。",
        emit: Relay(|view, out| sources(view, out, |it| Some(it.rows_read as f64))),
    },
    Metric {
        name: "llm_relay_statement_refused",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["source", "statement"],
        help: "1 while a recurring statement is not run because it would walk through a whole large table, else 0; check names it and says what to do.",
        help_zh: "某个周期性语句因会扫描整张大表而不予执行时为 1，否则为 0；check 会指明是哪个语句以及处理办法。",
        emit: Relay(|view, out| {
            for status in &view.sources {
                for (statement, refused) in &status.statements {
                    out.sample(&[status.source.label(), statement], flag(*refused));
                }
            }
        }),
    },
];

fn probed(view: &View) -> Option<probe::Last> {
    view.probe.as_ref()?.last
}

fn sources(view: &View, out: &mut dyn Sink, value: fn(&SourceStatus) -> Option<f64>) {
    for status in &view.sources {
        out.known(&[status.source.label()], value(status));
    }
}
