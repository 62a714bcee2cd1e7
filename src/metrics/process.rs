//! The exporter itself: build, configuration, process.

use super::Emit::Exporter;
use super::MetricType::{Counter, Gauge};
use super::{Group, Metric, Sink, flag, unix};
use crate::exporter_info::ExporterInfo;
use crate::reload::Reload;

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_exporter_build_info",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["version", "revision", "rustc"],
        help: "The exporter's build.",
        help_zh: "采集器的构建信息。",
        emit: Exporter(|own, out| out.sample(&[own.version, own.revision, own.rustc], 1.0)),
    },
    Metric {
        name: "llm_relay_exporter_config_last_reload_successful",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["config"],
        help: "Whether the last reading of a configuration (`config`: relays, web) succeeded; otherwise the version before it is in force.",
        help_zh: "上次读取配置是否成功；否则沿用之前的版本。`config`：relays、web。",
        emit: Exporter(|own, out| reloads(own, out, |reload| flag(reload.successful))),
    },
    Metric {
        name: "llm_relay_exporter_config_last_reload_success_timestamp_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["config"],
        help: "When the configuration in force (`config`: relays, web) was read, as Unix time.",
        help_zh: "现行配置的读取时刻（Unix 时间）。`config`：relays、web。",
        emit: Exporter(|own, out| reloads(own, out, |reload| unix(reload.last_success))),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Counter,
        group: Group::Exporter,
        labels: &[],
        help: "Total user and system CPU time spent in seconds.",
        help_zh: "用户态与内核态 CPU 总时间（秒）。",
        emit: Exporter(|own, out| out.known(&[], own.process.cpu_seconds)),
    },
    Metric {
        name: "process_open_fds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Number of open file descriptors.",
        help_zh: "已打开的文件描述符数。",
        emit: Exporter(|own, out| out.known(&[], own.process.open_fds)),
    },
    Metric {
        name: "process_max_fds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Maximum number of open file descriptors.",
        help_zh: "文件描述符数上限。",
        emit: Exporter(|own, out| out.known(&[], own.process.max_fds)),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Virtual memory size in bytes.",
        help_zh: "虚拟内存大小（字节）。",
        emit: Exporter(|own, out| out.known(&[], own.process.virtual_memory_bytes)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Resident memory size in bytes.",
        help_zh: "常驻内存大小（字节）。",
        emit: Exporter(|own, out| out.known(&[], own.process.resident_memory_bytes)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Start time of the process since unix epoch in seconds.",
        help_zh: "进程启动时刻，Unix 纪元以来的秒数。",
        emit: Exporter(|own, out| out.known(&[], own.process.start_time_seconds)),
    },
];

fn reloads(own: &ExporterInfo, out: &mut dyn Sink, value: fn(Reload) -> f64) {
    for (config, reload) in [("relays", own.config), ("web", own.web_config)] {
        if let Some(reload) = reload {
            out.sample(&[config], value(reload));
        }
    }
}
