//! Requests, cost and tokens since the ledger began.

use super::Emit::{Backfillable, Spender, Traffic};
use super::MetricType::Counter;
use super::{Group, Metric, Sink, counters, float};
use crate::model::Outcome;
use crate::view::{CountersView, View};

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model", "outcome"],
        help: "Final requests since the ledger began, by outcome: success, failure, or excluded (not the provider's fault).",
        help_zh: "账本开始以来的已结束请求数，按结果：success 成功、failure 失败、excluded 非供应商原因。",
        emit: Traffic(|row, out| {
            for (outcome, count) in Outcome::ALL.iter().zip(row.requests) {
                if count > 0 {
                    out.sample(&[&row.provider_id, &row.model, outcome.label()], count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_responses_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "code"],
        help: "Final requests since the ledger began, by HTTP status code; none where there was none.",
        help_zh: "账本开始以来的已结束请求数，按 HTTP 状态码；没有状态码时为 none。",
        emit: Backfillable(|view, out| by_provider(view, out, |it| &it.responses)),
    },
    Metric {
        name: "llm_relay_failures_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "class"],
        help: "Final requests that did not succeed, by class: rate_limited, overloaded, auth, timeout, server, client_abort, caller, policy, unknown.",
        help_zh: "账本开始以来未成功的请求数，按类别：rate_limited、overloaded、auth、timeout、server、client_abort、caller、policy、unknown。",
        emit: Backfillable(|view, out| by_provider(view, out, |it| &it.failures)),
    },
    Metric {
        name: "llm_relay_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Cost in US dollars of final requests since the ledger began, by the relay's own accounting.",
        help_zh: "账本开始以来已结束请求的成本（美元），采用中转服务自己的记账。",
        emit: Traffic(|row, out| out.known(&[&row.provider_id, &row.model], row.cost_usd)),
    },
    Metric {
        name: "llm_relay_list_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Cost in US dollars at the upstream's list prices, before the relay's own rates, since the ledger began.",
        help_zh: "账本开始以来按上游标价计算的成本（美元），未计中转服务自己的倍率。",
        emit: Traffic(|row, out| out.known(&[&row.provider_id, &row.model], row.list_cost_usd)),
    },
    Metric {
        name: "llm_relay_account_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model"],
        help: "Cost in US dollars at the rates of the upstream account since the ledger began: what the account is billed, whatever users are charged.",
        help_zh: "账本开始以来按上游账号自身倍率计算的成本（美元）：账号所产生的费用，与向用户的收费无关。",
        emit: Traffic(|row, out| out.known(&[&row.provider_id, &row.model], row.account_cost_usd)),
    },
    Metric {
        name: "llm_relay_recovered_attempts_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "class"],
        help: "Attempts since the ledger began that failed at the provider before another provider answered the request, by class as in llm_relay_failures_total; no requests of their own.",
        help_zh: "账本开始以来在该供应商失败、随后由其他供应商应答的尝试次数，类别同 llm_relay_failures_total；不另计为请求。",
        emit: Backfillable(|view, out| by_provider(view, out, |it| &it.recovered)),
    },
    Metric {
        name: "llm_relay_tokens_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["provider_id", "model", "type"],
        help: "Tokens of final requests since the ledger began; the types exclude each other: input (uncached), output, cache_read, cache_write_5m, cache_write_1h, cache_write (not split).",
        help_zh: "账本开始以来已结束请求的 Token 数；各类型互不重叠：input（未缓存）、output、cache_read、cache_write_5m、cache_write_1h、cache_write（未细分）。",
        emit: Traffic(|row, out| {
            for (kind, count) in &row.tokens {
                out.sample(&[&row.provider_id, &row.model, kind], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_user_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["user_id"],
        help: "Final requests since the ledger began, by user.",
        help_zh: "账本开始以来的已结束请求数，按用户。",
        emit: Spender(|it| &it.users, |user, out| out.sample(&[&user.id], user.requests as f64)),
    },
    Metric {
        name: "llm_relay_user_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["user_id"],
        help: "Cost in US dollars of final requests since the ledger began, by user.",
        help_zh: "账本开始以来已结束请求的成本（美元），按用户。",
        emit: Spender(|it| &it.users, |user, out| out.known(&[&user.id], user.cost_usd)),
    },
    Metric {
        name: "llm_relay_user_tokens_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["user_id"],
        help: "Tokens of all types of final requests since the ledger began, by user.",
        help_zh: "账本开始以来已结束请求的各类 Token 总数，按用户。",
        emit: Spender(|it| &it.users, |user, out| out.known(&[&user.id], float(user.tokens))),
    },
    Metric {
        name: "llm_relay_key_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["key_id"],
        help: "Final requests since the ledger began, by key.",
        help_zh: "账本开始以来的已结束请求数，按密钥。",
        emit: Spender(|it| &it.keys, |key, out| out.sample(&[&key.id], key.requests as f64)),
    },
    Metric {
        name: "llm_relay_key_outcomes_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["key_id", "outcome"],
        help: "Final requests since the ledger began, by key and outcome (success, failure, excluded: not the provider's fault); only outcomes that occurred.",
        help_zh: "账本开始以来的已结束请求数，按密钥和结果（success、failure、excluded：非供应商过错）；仅列出出现过的结果。",
        emit: Spender(
            |it| &it.keys,
            |key, out| {
                for (outcome, count) in Outcome::ALL.iter().zip(key.outcomes.into_iter().flatten()) {
                    if count > 0 {
                        out.sample(&[&key.id, outcome.label()], count as f64);
                    }
                }
            },
        ),
    },
    Metric {
        name: "llm_relay_key_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["key_id"],
        help: "Cost in US dollars of final requests since the ledger began, by key.",
        help_zh: "账本开始以来已结束请求的成本（美元），按密钥。",
        emit: Spender(|it| &it.keys, |key, out| out.known(&[&key.id], key.cost_usd)),
    },
    Metric {
        name: "llm_relay_key_list_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["key_id"],
        help: "Cost in US dollars at the upstream's list prices since the ledger began, by key.",
        help_zh: "账本开始以来按上游标价计算的成本（美元），按密钥。",
        emit: Spender(|it| &it.keys, |key, out| out.known(&[&key.id], key.list_cost_usd)),
    },
    Metric {
        name: "llm_relay_key_tokens_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["key_id"],
        help: "Tokens of all types of final requests since the ledger began, by key.",
        help_zh: "账本开始以来已结束请求的各类 Token 总数，按密钥。",
        emit: Spender(|it| &it.keys, |key, out| out.known(&[&key.id], float(key.tokens))),
    },
    Metric {
        name: "llm_relay_team_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["team_id"],
        help: "Final requests since the ledger began, by team; other has those of none as well.",
        help_zh: "账本开始以来的已结束请求数，按团队；other 也包括不属于任何团队的请求。",
        emit: Spender(|it| &it.teams, |it, out| out.sample(&[&it.id], it.requests as f64)),
    },
    Metric {
        name: "llm_relay_team_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["team_id"],
        help: "Cost in US dollars of final requests since the ledger began, by team; other has those of none as well.",
        help_zh: "账本开始以来已结束请求的成本（美元），按团队；other 也包括不属于任何团队的请求。",
        emit: Spender(|it| &it.teams, |it, out| out.known(&[&it.id], it.cost_usd)),
    },
    Metric {
        name: "llm_relay_team_tokens_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["team_id"],
        help: "Tokens of all types of final requests since the ledger began, by team; other has those of none as well.",
        help_zh: "账本开始以来已结束请求的各类 Token 总数，按团队；other 也包括不属于任何团队的请求。",
        emit: Spender(|it| &it.teams, |it, out| out.known(&[&it.id], float(it.tokens))),
    },
    Metric {
        name: "llm_relay_organization_requests_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["organization_id"],
        help: "Final requests since the ledger began, by organization; other has those of none as well.",
        help_zh: "账本开始以来的已结束请求数，按组织；other 也包括不属于任何组织的请求。",
        emit: Spender(|it| &it.organizations, |it, out| out.sample(&[&it.id], it.requests as f64)),
    },
    Metric {
        name: "llm_relay_organization_cost_usd_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["organization_id"],
        help: "Cost in US dollars of final requests since the ledger began, by organization; other has those of none as well.",
        help_zh: "账本开始以来已结束请求的成本（美元），按组织；other 也包括不属于任何组织的请求。",
        emit: Spender(|it| &it.organizations, |it, out| out.known(&[&it.id], it.cost_usd)),
    },
    Metric {
        name: "llm_relay_organization_tokens_total",
        kind: Counter,
        group: Group::Counters,
        labels: &["organization_id"],
        help: "Tokens of all types of final requests since the ledger began, by organization; other has those of none as well.",
        help_zh: "账本开始以来已结束请求的各类 Token 总数，按组织；other 也包括不属于任何组织的请求。",
        emit: Spender(|it| &it.organizations, |it, out| out.known(&[&it.id], float(it.tokens))),
    },
];

/// Counters of providers with one label more.
fn by_provider<L: AsRef<str>>(view: &View, out: &mut dyn Sink, list: fn(&CountersView) -> &Vec<(String, L, u64)>) {
    for (provider, label, count) in counters(view).into_iter().flat_map(list) {
        out.sample(&[provider, label.as_ref()], *count as f64);
    }
}
