//! How far the numbers can be trusted: lag, audit, history, budget, the exporter's own store.

use super::Emit::{Directory, Relay};
use super::MetricType::{Counter, Gauge};
use super::{Group, Metric, flag, ledger, unix};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_ledger_lag_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Age of the newest ledger row that has been read, against the database's clock.",
        help_zh: "已读取的最新账本记录的时效，以数据库时钟为准。",
        emit: Relay(|view, out| out.known(&[], ledger(view).and_then(|it| it.lag_seconds))),
    },
    Metric {
        name: "llm_relay_replica_lag_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "How far the read replica that is read is behind its primary; absent where the primary is read.",
        help_zh: "所读取的只读副本落后主库的时间；读取主库时不存在。",
        emit: Directory(|directory, out| out.known(&[], directory.replica_lag_seconds)),
    },
    Metric {
        name: "llm_relay_timezone_error_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "How old the relay's rows seem when they appear, because timezone is not the relay's; negative: of the future; 0 when it is; only where the relay writes no zone, and once some rows have come.",
        help_zh: "因 timezone 与中转服务的时区不符，新记录出现时显得有多旧（秒）；负数表示在未来；相符时为 0。仅限不记录时区的中转，且需已有若干新记录。",
        emit: Relay(|view, out| out.known(&[], ledger(view).and_then(|it| it.zone_error_seconds))),
    },
    Metric {
        name: "llm_relay_audit_drift_requests",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "The exporter's requests minus the ledger's in the span of the last audit, by an independent aggregate, before the repair.",
        help_zh: "上次审计范围内，采集器的请求数减去账本的请求数；由独立的汇总计算，修正之前。",
        emit: Relay(|view, out| out.known(&[], ledger(view).and_then(|it| it.audit).map(|audit| audit.drift_requests))),
    },
    Metric {
        name: "llm_relay_audit_drift_cost_usd",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "The exporter's cost minus the ledger's in the span of the last audit, in US dollars, before the repair.",
        help_zh: "上次审计范围内，采集器的成本减去账本的成本（美元），修正之前。",
        emit: Relay(|view, out| {
            out.known(&[], ledger(view).and_then(|it| it.audit).and_then(|audit| audit.drift_cost_usd));
        }),
    },
    Metric {
        name: "llm_relay_audit_last_run_timestamp_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "When the last audit ran; absent before the first.",
        help_zh: "上次审计的时刻；首次之前不存在。",
        emit: Relay(|view, out| out.known(&[], ledger(view).and_then(|it| it.audit).map(|audit| unix(audit.at)))),
    },
    Metric {
        name: "llm_relay_ledger_rows_left_out",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Rows among those that were read last that could not be understood; no other number has them.",
        help_zh: "最近读取的行中无法理解的行数；其他任何数字都不包含它们。",
        emit: Relay(|view, out| out.known(&[], ledger(view).and_then(|it| it.rows_left_out).map(|rows| rows as f64))),
    },
    Metric {
        name: "llm_relay_history_loaded_ratio",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Share of the ledger's history that has been read, 0 to 1; all-time counters appear at 1.",
        help_zh: "账本历史的已读取比例，0 到 1；到 1 时出现全部时间的计数器。",
        emit: Relay(|view, out| out.known(&[], ledger(view).map(|ledger| ledger.history_loaded))),
    },
    Metric {
        name: "llm_relay_series_folded",
        kind: Gauge,
        group: Group::Exporter,
        labels: &["dimension"],
        help: "Label values without series of their own, which count as other, by dimension; model_without_success: names that never succeeded.",
        help_zh: "没有自己的序列、计入 other 的标签值数量，按维度；model_without_success 为从未成功过的模型名。",
        emit: Relay(|view, out| {
            for (dimension, count) in ledger(view).into_iter().flat_map(|it| &it.folded) {
                out.sample(&[dimension], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_store_up",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "1 when the exporter's own store could be used at the last attempt; absent without a store.",
        help_zh: "采集器自身的存储上次可用时为 1；未配置存储时不存在。",
        emit: Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], flag(store.up)))),
    },
    Metric {
        name: "llm_relay_store_writer",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "1 when this process saves the relay's checkpoint; 0 when another replica does, or nobody yet.",
        help_zh: "由本进程保存该中转服务的检查点时为 1；由其他副本保存或尚无人保存时为 0。",
        emit: Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], flag(store.writer)))),
    },
    Metric {
        name: "llm_relay_store_last_save_timestamp_seconds",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "When this process last saved the relay's checkpoint; absent before the first time.",
        help_zh: "本进程上次保存该中转服务检查点的时刻；首次之前不存在。",
        emit: Relay(|view, out| out.known(&[], view.store.and_then(|store| store.last_save).map(unix))),
    },
    Metric {
        name: "llm_relay_store_bytes",
        kind: Gauge,
        group: Group::Exporter,
        labels: &[],
        help: "Size of the relay's checkpoint in the store, as last saved or loaded.",
        help_zh: "该中转服务的检查点在存储中的大小，以上次保存或加载为准。",
        emit: Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], store.bytes as f64))),
    },
    Metric {
        name: "llm_relay_store_failures_total",
        kind: Counter,
        group: Group::Exporter,
        labels: &[],
        help: "Attempts to use the exporter's own store that failed; the log has the reason.",
        help_zh: "使用采集器自身存储失败的次数；原因见日志。",
        emit: Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], store.failures as f64))),
    },
];
