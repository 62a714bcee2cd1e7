//! How long requests took and how fast they answered.

use super::Emit::Latency;
use super::MetricType::Histogram;
use super::{Group, Metric, Sink};
use crate::view::HistogramView;

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_request_duration_seconds",
        kind: Histogram,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Duration of final requests since the ledger began, from start to the end of the answer.",
        help_zh: "账本开始以来已结束请求的耗时，从开始到应答结束。",
        emit: Latency(|row, out| occurred(out, &[&row.provider_id, &row.model], &row.duration)),
    },
    Metric {
        name: "llm_relay_time_to_first_token_seconds",
        kind: Histogram,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Time from the start of a request to its first token, of final requests since the ledger began.",
        help_zh: "账本开始以来已结束请求从开始到首个 Token 的时间。",
        emit: Latency(|row, out| occurred(out, &[&row.provider_id, &row.model], &row.ttft)),
    },
    Metric {
        name: "llm_relay_output_tokens_per_second",
        kind: Histogram,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Output speed of each final request since the ledger began, by the relay's own rule.",
        help_zh: "账本开始以来每个已结束请求的输出速度，按中转服务自己的规则。",
        emit: Latency(|row, out| occurred(out, &[&row.provider_id, &row.model], &row.speed)),
    },
];

fn occurred(out: &mut dyn Sink, labels: &[&str], histogram: &HistogramView) {
    if histogram.count() > 0 {
        out.histogram(labels, histogram);
    }
}
