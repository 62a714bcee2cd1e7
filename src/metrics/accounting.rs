//! What was paid for nothing, what the cache saved, and what the ledger changed afterwards.

use super::Emit::{Backfillable, Relay, Traffic};
use super::MetricType::Counter;
use super::{Group, Metric, Sink, counters, float};
use crate::view::{CountersView, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_wasted_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "reason"],
        help: "Cost in US dollars that bought nothing since the ledger began, by reason: failed, client_abort.",
        help_zh: "账本开始以来未换来任何结果的成本（美元），按原因：failed 失败、client_abort 客户端中断。",
        emit: Backfillable(|view, out| {
            for (provider, reason, cost) in counters(view).into_iter().flat_map(|it| &it.wasted) {
                out.sample(&[provider, reason], *cost);
            }
        }),
    },
    Metric {
        name: "llm_relay_refunded_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id"],
        help: "Money in US dollars that the relay has given back since the ledger began, for jobs that failed or came out cheaper; the costs have it still.",
        help_zh: "账本开始以来中转退还的金额（美元），因任务失败或实际费用更低；各项成本中未扣除。",
        emit: Backfillable(|view, out| by_label(view, out, |it| &it.refunds, |amount| amount)),
    },
    Metric {
        name: "llm_relay_provider_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id"],
        help: "Cost in US dollars of the requests of the provider, as far as the relay's records of single requests tell, since they were first read; only where llm_relay_cost_usd_total does not tell providers apart.",
        help_zh: "供应商请求的成本（美元），以中转服务的逐条记录为限，自首次读取记录起；仅限 llm_relay_cost_usd_total 不区分供应商的中转。",
        emit: Relay(|view, out| by_label(view, out, |it| &it.spent, |amount| amount)),
    },
    Metric {
        name: "llm_relay_cache_saved_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "What cache reads would have cost as plain input minus what they cost, in US dollars since the ledger began; only where prices are known.",
        help_zh: "缓存读取若按普通输入计价的费用减去实际费用（美元），账本开始以来；仅限已知价格。",
        emit: Traffic(|row, out| out.known(&[&row.provider_id, &row.model], row.cache_saved_usd)),
    },
    Metric {
        name: "llm_relay_unpriced_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["model"],
        help: "Successful requests since the ledger began that used tokens and cost nothing.",
        help_zh: "账本开始以来成功且消耗了 Token 但成本为零的请求数。",
        emit: Backfillable(|view, out| by_label(view, out, |it| &it.unpriced, |count| count as f64)),
    },
    Metric {
        name: "llm_relay_model_substitutions_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model", "answered_model"],
        help: "Requests since the ledger began that the upstream answered with another model than it was asked for.",
        help_zh: "账本开始以来上游以不同于所请求的模型应答的请求数。",
        emit: Backfillable(|view, out| {
            for (provider, model, answered, count) in counters(view).into_iter().flat_map(|it| &it.substitutions) {
                out.sample(&[provider, model, answered], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_ledger_corrections_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["kind"],
        help: "Changes of requests that had already been counted: late_cost, lowered, deleted, rewritten, reclassified.",
        help_zh: "已计入的请求后来的变化：late_cost 迟到的成本、lowered 下调、deleted 删除、reclassified 重新归类。",
        emit: Relay(|view, out| by_label(view, out, |it| &it.corrections, |count| count as f64)),
    },
    Metric {
        name: "llm_relay_ledger_corrections_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["kind"],
        help: "Dollars of these changes: late_cost is in the cost counters; without lowered (refunds) and deleted, and with rewritten, they would have the ledger's sum.",
        help_zh: "这些变化的金额（美元）：late_cost 已在成本计数器中；减去 lowered（退款）与 deleted、加上 rewritten，即为账本之和。",
        emit: Relay(|view, out| by_label(view, out, |it| &it.corrections_usd, |amount| amount)),
    },
    Metric {
        name: "llm_relay_requests_missed_total",
        kind: Counter,
        group: Group::Counters,
        labels: &[],
        help: "Requests that are in the counters but not in the histograms: the relay had dropped their records before they were read.",
        help_zh: "已计入计数器但不在直方图中的请求数：读取之前，中转服务已丢弃其记录。",
        emit: Relay(|view, out| out.known(&[], float(counters(view).and_then(|counters| counters.missed)))),
    },
    Metric {
        name: "llm_relay_imported_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &[],
        help: "Requests that the relay recorded an hour or more after they happened: in days, windows and boards, in no other counter.",
        help_zh: "发生一小时或更久之后才由中转服务补录的请求数：计入当日、窗口与排行，不计入其他计数器。",
        emit: Relay(|view, out| out.known(&[], float(counters(view).and_then(|counters| counters.imported)))),
    },
];

/// Counters with one label.
fn by_label<L: AsRef<str>, N: Copy>(
    view: &View,
    out: &mut dyn Sink,
    list: fn(&CountersView) -> &Vec<(L, N)>,
    float: fn(N) -> f64,
) {
    for (label, number) in counters(view).into_iter().flat_map(list) {
        out.sample(&[label.as_ref()], float(*number));
    }
}
