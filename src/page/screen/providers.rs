//! Slots, circuits and states of upstream accounts: what is the matter first.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::Screen;
use super::boards::{bar, label};
use super::html::{count, number, span};
use crate::lang::Lang;
use crate::model::{AccountState, Circuit, EntityId, Live, Provider, Scope, Source};

const MOST: usize = 8;

struct Row<'a> {
    provider: &'a Provider,
    used: Option<u64>,
    circuit: Option<Circuit>,
    account: Option<AccountState>,
}

impl Row<'_> {
    fn tells(&self) -> bool {
        self.used.is_some() || self.circuit.is_some() || self.account.is_some()
    }

    /// The worse the higher.
    fn trouble(&self) -> u8 {
        match (self.circuit, self.account) {
            (Some(Circuit::Open { .. }), _) => 3,
            (Some(Circuit::HalfOpen), _) => 2,
            (_, Some(account)) if !matches!(account, AccountState::Normal | AccountState::Disabled) => 2,
            _ => 0,
        }
    }

    fn html(&self, screen: &Screen<'_>) -> String {
        let id = self.provider.id.to_string();
        let name = label(&screen.view.names.shown(Scope::Provider, &id, &self.provider.name));
        let mut state = self.circuit.map(|circuit| self::circuit(circuit, screen.at, screen.lang)).unwrap_or_default();
        state += &self.account.map(|account| self::account(account, screen.lang)).unwrap_or_default();
        let used = self.used.map(|used| {
            let used = used as f64;
            let number = number("llm_relay_provider_slots_used", &[("provider_id", &id)], used, &count(used));
            self.provider.slots.map_or_else(|| number.clone(), |limit| format!("{number} / {}", count(limit as f64)))
        });
        let share = self.used.zip(self.provider.slots).map(|(used, limit)| used as f64 / limit.max(1) as f64);
        let bar = share.map(bar).unwrap_or_default();
        format!("<li>{name}{state}<span class=\"slots\">{}</span>{bar}</li>\n", used.unwrap_or_default())
    }
}

/// One row for each provider of which anything is known.
fn rows<'a>(providers: impl Iterator<Item = &'a Provider>, live: &Live) -> Vec<Row<'a>> {
    let slots = by_id(live.slots_used.as_deref().unwrap_or_default());
    let circuits = by_id(live.circuits.as_deref().unwrap_or_default());
    let accounts = by_id(&live.accounts);
    let row = |provider: &'a Provider| {
        let id = &provider.id;
        Row {
            provider,
            used: slots.get(id).copied(),
            circuit: circuits.get(id).copied(),
            account: accounts.get(id).copied(),
        }
    };
    providers.map(row).filter(Row::tells).collect()
}

fn by_id<T: Copy>(pairs: &[(EntityId, T)]) -> HashMap<&EntityId, T> {
    pairs.iter().map(|(id, value)| (id, *value)).collect()
}

/// Nothing where the relay knows none of it.
pub(super) fn providers(screen: &Screen<'_>) -> String {
    let told =
        ["llm_relay_provider_slots_used", "llm_relay_provider_circuit_state", "llm_relay_provider_account_state"];
    if told.iter().all(|metric| screen.unsupported(metric).is_some()) {
        return String::new();
    }
    let lang = screen.lang;
    let title = lang.of("Providers now", "供应商现状");
    let (Some(live), Some(directory)) = (screen.view.live.as_deref(), screen.directory()) else {
        let source = if screen.view.live.is_none() { Source::Live } else { Source::Directory };
        return format!("<div><h3>{title}</h3><p class=\"soft\">{}</p></div>\n", screen.missing(source));
    };
    let there = directory.providers.iter().filter(|it| !it.deleted && it.enabled != Some(false));
    let mut rows = rows(there, live);
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by_key(|row| Reverse((row.trouble(), row.used)));
    let more = rows.len().saturating_sub(MOST);
    rows.truncate(MOST);
    let rows: String = rows.iter().map(|row| row.html(screen)).collect();
    let more = match (more, lang) {
        (0, _) => String::new(),
        (more, Lang::En) => format!("<p class=\"soft\">and {more} more</p>"),
        (more, Lang::Zh) => format!("<p class=\"soft\">另有 {more} 个</p>"),
    };
    format!("<div><h3>{title}</h3><ol>\n{rows}</ol>{more}</div>\n")
}

fn circuit(circuit: Circuit, now: DateTime<Utc>, lang: Lang) -> String {
    let chip = |class: &str, text: &str| format!("<span class=\"chip {class}\">{text}</span>");
    match circuit {
        Circuit::Closed => chip("good", lang.of("closed", "正常")),
        Circuit::HalfOpen => chip("warn", lang.of("half open", "半开")),
        Circuit::Open { reopens_at } => {
            let left = reopens_at.filter(|at| *at > now).map(|at| span(at - now, lang));
            let text = match (left, lang) {
                (None, _) => lang.of("open", "熔断").to_owned(),
                (Some(left), Lang::En) => format!("open for {left}"),
                (Some(left), Lang::Zh) => format!("熔断，剩 {left}"),
            };
            chip("bad", &text)
        }
    }
}

fn account(state: AccountState, lang: Lang) -> String {
    let (class, text) = match state {
        AccountState::Normal => ("good", lang.of("normal", "正常")),
        AccountState::RateLimited => ("warn", lang.of("rate limited", "限流中")),
        AccountState::CoolingDown => ("warn", lang.of("cooling down", "冷却中")),
        AccountState::Overloaded => ("warn", lang.of("overloaded", "过载")),
        AccountState::QuotaExceeded => ("warn", lang.of("quota exceeded", "额度用尽")),
        AccountState::Unauthorized => ("bad", lang.of("unauthorized", "未授权")),
        AccountState::Blocked => ("bad", lang.of("blocked", "已封禁")),
        AccountState::Error => ("bad", lang.of("error", "错误")),
        AccountState::Paused => ("soft", lang.of("paused", "已暂停")),
        AccountState::Disabled => ("soft", lang.of("disabled", "已停用")),
    };
    format!("<span class=\"chip {class}\">{text}</span>")
}
