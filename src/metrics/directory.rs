//! Names of people and things, and what the relay says of itself.

use super::Emit::{Directory, Relay};
use super::MetricType::Gauge;
use super::{Group, Metric, Sink, keys, providers, users};
use crate::model::EntityId;

pub(crate) const METRICS: &[Metric] = &[
    Metric {
        name: "llm_relay_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["kind", "version", "timezone", "counts", "states"],
        help: "The relay: its product, its version or schema level, its time zone, what its ledger counts (requests, attempts), and what the states of its accounts are (current, checks: of the last stored health check).",
        help_zh: "中转服务：产品、版本或数据库结构级别、时区、账本所计（requests 请求、attempts 尝试），以及账号状态的来源（current 当前、checks 最近一次保存的健康检查）。",
        emit: Relay(|view, out| {
            if let Some(directory) = &view.directory {
                let counts = if directory.counts_attempts { "attempts" } else { "requests" };
                let states = if directory.states_are_checks { "checks" } else { "current" };
                out.sample(&[view.kind, &directory.version, &directory.timezone, counts, states], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_user_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["user_id", "user", "role", "enabled"],
        help: "A user of the relay.",
        help_zh: "中转服务的一个用户。",
        emit: Directory(|directory, out| {
            for user in users(directory) {
                out.sample(&[&user.id.to_string(), &user.name, &user.role, truth(user.enabled)], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["key_id", "key", "user_id", "enabled"],
        help: "A key of the relay; the label key is its name, never the key itself.",
        help_zh: "中转服务的一个密钥；标签 key 是其名称，绝不是密钥本身。",
        emit: Directory(|directory, out| {
            for key in keys(directory) {
                let owner = key.user_id.as_ref().map(ToString::to_string).unwrap_or_default();
                out.sample(&[&key.id.to_string(), &key.name, &owner, truth(key.enabled)], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_team_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["team_id", "team", "organization_id", "enabled"],
        help: "A team of the relay: users who share keys and a budget.",
        help_zh: "中转服务的一个团队：共用密钥和预算的用户。",
        emit: Directory(|directory, out| {
            for team in &directory.teams {
                let above = team.organization_id.as_ref().map(ToString::to_string).unwrap_or_default();
                out.sample(&[&team.id.to_string(), &team.name, &above, truth(team.enabled)], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_organization_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["organization_id", "organization"],
        help: "An organization of the relay: several teams.",
        help_zh: "中转服务的一个组织：包含若干团队。",
        emit: Directory(|directory, out| {
            for it in &directory.organizations {
                out.sample(&[&it.id.to_string(), &it.name], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_tag_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["key_id", "tag"],
        help: "A tag that the relay's people have given to a key.",
        help_zh: "中转服务中为密钥设置的一个标签。",
        emit: Directory(|directory, out| {
            for (key, tag) in &directory.key_tags {
                out.sample(&[&key.to_string(), tag], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["provider_id", "provider", "type", "group"],
        help: "A provider: an upstream account or channel of the relay.",
        help_zh: "一个供应商：中转服务的上游账号或渠道。",
        emit: Directory(|directory, out| {
            for provider in providers(directory) {
                out.sample(&[&provider.id.to_string(), &provider.name, &provider.kind, &provider.group], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_currency_info",
        kind: Gauge,
        group: Group::Facts,
        labels: &["code", "unit"],
        help: "The currency symbol on the relay's screens, with its Grafana unit; amounts are US dollars all the same.",
        help_zh: "中转服务界面上的货币符号及其 Grafana 单位；金额始终是美元。",
        emit: Directory(|directory, out| {
            if let Some(code) = directory.currency.as_deref() {
                out.sample(&[code, grafana_unit(code)], 1.0);
            }
        }),
    },
];

/// An empty label is none.
const fn truth(on: Option<bool>) -> &'static str {
    match on {
        Some(true) => "true",
        Some(false) => "false",
        None => "",
    }
}

/// Grafana's unit for a currency; it has built-in units for five of Claude Code Hub's nine and takes a symbol for the rest.
fn grafana_unit(code: &str) -> &'static str {
    match code {
        "CNY" => "currency:¥",
        "EUR" => "currencyEUR",
        "JPY" => "currencyJPY",
        "GBP" => "currencyGBP",
        "HKD" => "currency:HK$",
        "TWD" => "currency:NT$",
        "KRW" => "currencyKRW",
        "SGD" => "currency:S$",
        _ => "currencyUSD",
    }
}

/// The values of entities, where they are known.
pub(super) fn by_id<'a>(out: &mut dyn Sink, values: impl Iterator<Item = (&'a EntityId, Option<f64>)>) {
    values.for_each(|(id, value)| out.known(&[&id.to_string()], value));
}
