//! The relay's own screen: number by number the same.

use super::Emit::{Backfillable, Relay};
use super::MetricType::Gauge;
use super::live::counts;
use super::{Group, Metric, Sink, float, ledger, live, unix};
use crate::view::{DayView, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_sessions_active",
        kind: Gauge,
        group: Group::Overview,
        labels: &[],
        help: "Live sessions, counted by the relay's own rule.",
        help_zh: "实时会话数，按中转服务自己的规则统计。",
        emit: Relay(|view, out| out.known(&[], float(live(view).and_then(|it| it.sessions)))),
    },
    Metric {
        name: "llm_relay_requests_in_progress",
        kind: Gauge,
        group: Group::Overview,
        labels: &[],
        help: "Requests that have started within the last 24 hours and are not yet final.",
        help_zh: "最近 24 小时内开始且尚未结束的请求数。",
        emit: Backfillable(|view, out| {
            let counted = ledger(view).and_then(|it| it.requests_in_progress);
            let told = live(view).and_then(|it| it.requests_in_progress.as_ref());
            out.known(
                &[],
                float(counted.or_else(|| told.map(|users| users.iter().map(|(_, requests)| requests).sum()))),
            );
        }),
    },
    Metric {
        name: "llm_relay_user_requests_in_progress",
        kind: Gauge,
        group: Group::Overview,
        labels: &["user_id"],
        help: "Requests of the user that have started within the last 24 hours and are not yet final; only users that have some.",
        help_zh: "用户最近 24 小时内开始且尚未结束的请求数；仅列出有此类请求的用户。",
        emit: Relay(|view, out| {
            for (user, count) in ledger(view).into_iter().flat_map(|it| &it.user_requests_in_progress) {
                out.sample(&[user], *count as f64);
            }
            counts(out, live(view).into_iter().flat_map(|it| it.requests_in_progress.iter().flatten()));
        }),
    },
    Metric {
        name: "llm_relay_requests_last_minute",
        kind: Gauge,
        group: Group::Overview,
        labels: &[],
        help: "Requests that started in the last 60 seconds (RPM).",
        help_zh: "最近 60 秒内开始的请求数（RPM）。",
        emit: Backfillable(|view, out| out.known(&[], ledger(view).and_then(|it| it.requests_last_minute))),
    },
    Metric {
        name: "llm_relay_tokens_last_minute",
        kind: Gauge,
        group: Group::Overview,
        labels: &[],
        help: "Tokens of the requests that started in the last 60 seconds (TPM), added up as on the relay's boards.",
        help_zh: "最近 60 秒内开始的请求的 Token 数（TPM），按中转服务排行榜的方式相加。",
        emit: Backfillable(|view, out| out.known(&[], ledger(view).and_then(|it| it.tokens_last_minute))),
    },
    Metric {
        name: "llm_relay_day_requests",
        kind: Gauge,
        group: Group::Overview,
        labels: &["day"],
        help: "Requests that started on the day (today, yesterday_same_time, yesterday) in the relay's time zone.",
        help_zh: "当日开始的请求数（today、yesterday_same_time、yesterday），按中转服务的时区。",
        emit: Backfillable(|view, out| days(view, out, |it| Some(it.requests as f64))),
    },
    Metric {
        name: "llm_relay_day_cost_usd",
        kind: Gauge,
        group: Group::Overview,
        labels: &["day"],
        help: "Cost in US dollars of the requests that started on the day.",
        help_zh: "当日开始的请求的成本（美元）。",
        emit: Backfillable(|view, out| days(view, out, |it| it.cost_usd)),
    },
    Metric {
        name: "llm_relay_day_list_cost_usd",
        kind: Gauge,
        group: Group::Overview,
        labels: &["day"],
        help: "What the requests of the day cost at the upstream's list prices, in US dollars, before the relay's own rates.",
        help_zh: "当日请求按上游标价计算的成本（美元），未计中转服务自身的倍率。",
        emit: Backfillable(|view, out| days(view, out, |it| it.list_cost_usd)),
    },
    Metric {
        name: "llm_relay_day_mean_duration_seconds",
        kind: Gauge,
        group: Group::Overview,
        labels: &["day"],
        help: "Mean duration of the day's requests that have one; absent when none has.",
        help_zh: "当日有耗时记录的请求的平均耗时；没有此类请求时不存在。",
        emit: Backfillable(|view, out| days(view, out, |it| it.mean_duration_seconds)),
    },
    Metric {
        name: "llm_relay_day_error_ratio",
        kind: Gauge,
        group: Group::Overview,
        labels: &["day"],
        help: "Share of the day's requests that are errors by the relay's own definition, 0 to 1; 0 without requests.",
        help_zh: "当日请求中按中转服务定义为错误的比例，0 到 1；无请求时为 0。",
        emit: Backfillable(|view, out| days(view, out, |it| it.error_ratio)),
    },
    Metric {
        name: "llm_relay_day_start_timestamp_seconds",
        kind: Gauge,
        group: Group::Overview,
        labels: &[],
        help: "Start of today in the relay's time zone.",
        help_zh: "按中转服务时区，今日的起始时刻。",
        emit: Backfillable(|view, out| out.known(&[], ledger(view).and_then(|it| it.day_start).map(unix))),
    },
    Metric {
        name: "llm_relay_window_requests",
        kind: Gauge,
        group: Group::Overview,
        labels: &["window", "outcome"],
        help: "Requests that started in the window (1m, 1h, 8h, 24h, month) by outcome (success, failure, unknown); the sum over outcome is the total.",
        help_zh: "窗口内（1m、1h、8h、24h、month）开始的请求数，按结果（success、failure、unknown）；各结果之和即总数。",
        emit: Backfillable(|view, out| {
            for (window, counts) in ledger(view).into_iter().flat_map(|it| &it.windows) {
                for (outcome, count) in ["success", "failure", "unknown"].into_iter().zip(counts) {
                    out.sample(&[window, outcome], *count as f64);
                }
            }
        }),
    },
];

fn days(view: &View, out: &mut dyn Sink, value: fn(&DayView) -> Option<f64>) {
    for (day, sums) in ledger(view).into_iter().flat_map(|it| &it.days) {
        out.known(&[day], value(sums));
    }
}
