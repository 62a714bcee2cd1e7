//! Why something is not there.

use super::Screen;
use super::html::{Escaped, percent};
use crate::lang::Lang;
use crate::model::{Scope, Source};
use crate::relay::Unsupported;
use crate::relay::unsupported::{unsupported_reason, unsupported_scopes};
use crate::relays::PRODUCTS;

/// What the screen shows, in both languages, and the metric that stands for it.
const SUBJECTS: &[(&str, &str, &str)] = &[
    ("Sessions", "会话", "llm_relay_sessions_active"),
    ("Requests per minute", "每分钟请求数", "llm_relay_requests_last_minute"),
    ("Requests today", "今日请求数", "llm_relay_day_requests"),
    ("Cost today", "今日成本", "llm_relay_day_cost_usd"),
    ("Mean time today", "今日平均耗时", "llm_relay_day_mean_duration_seconds"),
    ("Error rate today", "今日错误率", "llm_relay_day_error_ratio"),
    ("The last 24 hours", "最近 24 小时走势", "llm_relay_window_requests"),
    ("Slots", "槽位", "llm_relay_provider_slots_used"),
    ("Circuits", "熔断器", "llm_relay_provider_circuit_state"),
];

impl Screen<'_> {
    fn declared(&self) -> &'static [Unsupported] {
        PRODUCTS.iter().find(|product| product.label == self.view.kind).map_or(&[], |product| product.unsupported)
    }

    /// Why the relay never tells a metric; `None` when it does.
    pub(super) fn unsupported(&self, metric: &str) -> Option<&'static str> {
        unsupported_reason(self.declared(), metric)
    }

    /// Why the relay has no board of a scope; `None` when it has.
    pub(super) fn unranked(&self, scope: Scope) -> Option<&'static str> {
        unsupported_scopes(self.declared(), "llm_relay_leaderboard_").find(|it| it.0 == scope).map(|it| it.1)
    }

    /// A declared reason in the screen's language.
    fn reason(&self, why: &'static str) -> &'static str {
        let chinese = self.declared().iter().find(|it| it.why == why && !it.why_zh.is_empty());
        chinese.filter(|_| self.lang == Lang::Zh).map_or(why, |it| it.why_zh)
    }

    /// Why there is nothing now of what a source should tell.
    pub(super) fn missing(&self, source: Source) -> String {
        let lang = self.lang;
        let Some(status) = self.view.sources.iter().find(|status| status.source == source) else {
            return lang.of("no live store is configured", "未配置实时数据源").to_owned();
        };
        if status.last_success.is_none() && status.problem.is_none() {
            return lang.of("not read yet", "尚未读取").to_owned();
        }
        if !status.up {
            let name = name(source, lang);
            return if lang == Lang::En { format!("{name} cannot be read") } else { format!("{name}无法读取") };
        }
        match self.ledger() {
            Some(ledger) if source == Source::Ledger && ledger.history_loaded < 1.0 => {
                let read = percent(ledger.history_loaded);
                if lang == Lang::En { format!("{read} of the history read") } else { format!("历史已读取 {read}") }
            }
            _ => lang.of("nothing yet", "暂无").to_owned(),
        }
    }
}

pub(super) const fn name(source: Source, lang: Lang) -> &'static str {
    match source {
        Source::Ledger => lang.of("ledger", "账本"),
        Source::Live => lang.of("live state", "实时状态"),
        Source::Directory => lang.of("directory", "目录"),
    }
}

/// What this kind of relay never tells, by reason.
pub(super) fn untold(screen: &Screen<'_>) -> String {
    let lang = screen.lang;
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut note = |subject, why: Option<&'static str>| {
        if let Some(why) = why {
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, subjects)) => subjects.push(subject),
                None => reasons.push((why, vec![subject])),
            }
        }
    };
    for (english, chinese, metric) in SUBJECTS {
        note(lang.of(english, chinese), screen.unsupported(metric));
    }
    note(lang.of("Users", "用户"), screen.unranked(Scope::User));
    if reasons.is_empty() {
        return String::new();
    }
    let (comma, colon) = (lang.of(", ", "、"), lang.of(": ", "："));
    let items = reasons.iter().map(|(why, subjects)| {
        let why = screen.reason(why).replace('`', "");
        format!("<li><b>{}</b>{colon}{}</li>\n", subjects.join(comma), Escaped(&why))
    });
    let title = lang.of("Not told by this relay", "该中转不提供");
    format!("<div class=\"untold soft\"><h3>{title}</h3><ul>\n{}</ul></div>\n", items.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_is_shown_has_its_chinese() {
        for product in PRODUCTS.iter().filter(|product| product.label != "stub") {
            let metrics = SUBJECTS.iter().filter_map(|it| unsupported_reason(product.unsupported, it.2));
            let scopes = unsupported_scopes(product.unsupported, "llm_relay_leaderboard_").map(|it| it.1);
            for why in metrics.chain(scopes) {
                let said = product.unsupported.iter().any(|it| it.why == why && !it.why_zh.is_empty());
                assert!(said, "{}: {why:?} has no Chinese", product.label);
            }
        }
    }
}
