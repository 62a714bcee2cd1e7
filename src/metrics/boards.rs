//! Leaderboards: exact top-N by cost, and `other`, so that the sum is the total.

use super::Emit::Relay;
use super::MetricType::Gauge;
use super::{Group, Metric, Sink, ledger, unix};
use crate::view::{Board, BoardEntry, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_leaderboard_cost_usd",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Cost in US dollars of the first by cost in the period (today, last24h, week, month, 7d, 30d, all); id other closes the sum.",
        help_zh: "周期内（today、last24h、week、month、7d、30d、all）按成本排名靠前者的成本（美元）；id 为 other 的一项补足总和。",
        emit: Relay(|view, out| board(view, out, |entry| entry.cost_usd)),
    },
    Metric {
        name: "llm_relay_leaderboard_requests",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Requests of the first by cost in the period; id other closes the sum.",
        help_zh: "周期内按成本排名靠前者的请求数；id 为 other 的一项补足总和。",
        emit: Relay(|view, out| board(view, out, |entry| entry.requests.map(|requests| requests as f64))),
    },
    Metric {
        name: "llm_relay_leaderboard_tokens",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Tokens of the first by cost in the period, added up as on the relay's boards; id other closes the sum.",
        help_zh: "周期内按成本排名靠前者的 Token 数，按中转服务排行榜的方式相加；id 为 other 的一项补足总和。",
        emit: Relay(|view, out| board(view, out, |entry| entry.tokens.map(|tokens| tokens as f64))),
    },
    Metric {
        name: "llm_relay_leaderboard_success_ratio",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Successes divided by successes and failures in the period, 0 to 1; absent without any.",
        help_zh: "周期内成功数除以成功与失败之和，0 到 1；没有时不存在。",
        emit: Relay(|view, out| board(view, out, |entry| entry.success_ratio)),
    },
    Metric {
        name: "llm_relay_leaderboard_mean_ttft_seconds",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Mean time to first token of providers in the period; absent without any.",
        help_zh: "周期内供应商的平均首 Token 时间；没有时不存在。",
        emit: Relay(|view, out| board(view, out, |entry| entry.mean_ttft_seconds)),
    },
    Metric {
        name: "llm_relay_leaderboard_mean_output_tokens_per_second",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Mean of each request's output speed of providers in the period; absent without any.",
        help_zh: "周期内供应商各请求输出速度的平均值；没有时不存在。",
        emit: Relay(|view, out| board(view, out, |entry| entry.mean_output_tokens_per_second)),
    },
    Metric {
        name: "llm_relay_leaderboard_cache_hit_ratio",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period", "id", "name"],
        help: "Cache reads divided by input tokens in the period, 0 to 1, by the relay's own rule: over the requests that touched a cache, or over all; absent without any.",
        help_zh: "周期内缓存读取占输入 Token 的比例，0 到 1，按中转服务自己的规则：仅计使用了缓存的请求，或计全部请求；没有时不存在。",
        emit: Relay(|view, out| board(view, out, |entry| entry.cache_hit_ratio)),
    },
    Metric {
        name: "llm_relay_key_model_requests",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["key_id", "model"],
        help: "Requests of the last 24 hours by key and model, of the keys that are on the leaderboard of these; model other closes each key's sum.",
        help_zh: "最近 24 小时排行榜上各密钥按模型的请求数；model 为 other 的一项补足该密钥的总和。",
        emit: Relay(|view, out| {
            for (key, model, requests) in ledger(view).into_iter().flat_map(|it| &it.key_models) {
                out.sample(&[key, model], *requests as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_leaderboard_timestamp_seconds",
        kind: Gauge,
        group: Group::Leaderboards,
        labels: &["scope", "period"],
        help: "When the relay last renewed its own ranking; only boards that are copied from one.",
        help_zh: "中转服务最近一次更新其自身排行榜的时间；仅限照搬该排行榜的榜单。",
        emit: Relay(|view, out| {
            for board in ledger(view).iter().flat_map(|ledger| &ledger.boards) {
                out.known(&[board.scope.label(), board.period.label()], board.renewed_at.map(unix));
            }
        }),
    },
];

fn board(view: &View, out: &mut dyn Sink, value: fn(&BoardEntry) -> Option<f64>) {
    for Board { scope, period, entries, .. } in ledger(view).iter().flat_map(|ledger| &ledger.boards) {
        for entry in entries {
            if let Some(value) = value(entry) {
                out.sample(&[scope.label(), period.label(), &entry.id, &entry.name], value);
            }
        }
    }
}
