//! Why something is not there.

use super::Screen;
use super::html::{Escaped, percent};
use crate::lang::Lang;
use crate::model::{Scope, Source};
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

/// The declared reasons, which are English, in Chinese.
const REASONS_ZH: &[(&str, &str)] = &[
    ("the relay does not log who called", "中转不记录调用者"),
    ("a row is written when the attempt has ended", "请求结束后才写入记录"),
    ("the manager hears of a request when it has ended", "管理端在请求结束后才得知"),
    ("the relay knows no prices and no costs", "中转没有价格，也不计成本"),
    ("there is one upstream with a pool of keys: `llm_relay_key_consecutive_failures`", "只有一个上游，使用密钥池"),
    ("the names of users are never read, and usage is not kept by user", "不读取用户名，用量也不按用户统计"),
    (
        "the relay tracks running requests of keys and accounts with a limit only",
        "中转只跟踪有上限的密钥和账号的进行中请求",
    ),
    ("durations are kept for the newest 200 requests of each key only", "只保留每个密钥最近 200 个请求的耗时"),
    (
        "the relay ranks keys and counts models; accounts it does not compare",
        "中转只对密钥排名、对模型计数，不比较账号",
    ),
    ("requests that failed are not counted", "不统计失败的请求"),
    (
        "counters by day, hour and minute of the clock give no sliding windows",
        "计数按自然日、小时和分钟保存，无法得出滑动窗口",
    ),
    ("accounts have states (`llm_relay_provider_account_state`), no circuit breakers", "账号只有状态，没有熔断器"),
    ("client keys belong to nobody", "客户端密钥不属于任何用户"),
    ("the proxy's circuits are in its memory", "代理的熔断状态只在其内存中"),
];

impl Screen<'_> {
    /// Why the relay never tells a metric; `None` when it does.
    pub(super) fn unsupported(&self, metric: &str) -> Option<&'static str> {
        let product = PRODUCTS.iter().find(|product| product.label == self.view.kind)?;
        unsupported_reason(product.unsupported, metric)
    }

    /// Why the relay has no board of a scope; `None` when it has.
    pub(super) fn unranked(&self, scope: Scope) -> Option<&'static str> {
        let product = PRODUCTS.iter().find(|product| product.label == self.view.kind)?;
        unsupported_scopes(product.unsupported, "llm_relay_leaderboard_").find(|it| it.0 == scope).map(|it| it.1)
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
        let why = reason(why, lang);
        format!("<li><b>{}</b>{colon}{}</li>\n", subjects.join(comma), Escaped(&why))
    });
    let title = lang.of("Not told by this relay", "该中转不提供");
    format!("<div class=\"untold soft\"><h3>{title}</h3><ul>\n{}</ul></div>\n", items.collect::<String>())
}

fn reason(why: &str, lang: Lang) -> String {
    let chinese = REASONS_ZH.iter().find(|(english, _)| *english == why).filter(|_| lang == Lang::Zh);
    chinese.map_or_else(|| why.replace('`', ""), |(_, chinese)| (*chinese).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_is_shown_has_its_chinese() {
        for product in PRODUCTS {
            let metrics = SUBJECTS.iter().filter_map(|it| unsupported_reason(product.unsupported, it.2));
            let scopes = unsupported_scopes(product.unsupported, "llm_relay_leaderboard_").map(|it| it.1);
            for why in metrics.chain(scopes).filter(|_| product.label != "stub") {
                assert!(REASONS_ZH.iter().any(|(english, _)| *english == why), "REASONS_ZH lacks {why:?}");
            }
        }
    }
}
