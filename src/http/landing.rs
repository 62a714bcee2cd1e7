//! The landing page: a frame around the numbers, with its style and a script that renews them; nothing from elsewhere.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::Paths;
use crate::lang::Lang;

const STYLE: &str = include_str!("landing.css");
const SCRIPT: &str = include_str!("landing.js");

/// The page's own style and script run, by their digests, and nothing else does.
pub(crate) static SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        digest(STYLE),
        digest(SCRIPT),
    )
});

/// What stands before the numbers in each language.
#[derive(Clone, Debug)]
pub(crate) struct Frames([String; Lang::ALL.len()]);

impl Frames {
    /// `exposed`: other machines can read without a password.
    pub(crate) fn new(paths: &Paths, exposed: bool) -> Self {
        Self(Lang::ALL.map(|lang| head(paths, exposed, lang)))
    }

    /// The whole page.
    pub(crate) fn around(&self, numbers: &Bytes, lang: Lang) -> Vec<u8> {
        [self.0[lang as usize].as_bytes(), numbers, b"</main>\n</body>\n</html>\n"].concat()
    }
}

/// The paths hold nothing that has a meaning in HTML.
fn head(paths: &Paths, exposed: bool, lang: Lang) -> String {
    let warning = if exposed { exposed_warning(lang) } else { "" };
    let (metrics, health, ready) =
        (lang.of("Metrics", "指标"), lang.of("Health", "存活"), lang.of("Readiness", "就绪"));
    format!(
        r#"<!doctype html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{name}</title>
<style>{STYLE}</style>
<noscript><meta http-equiv="refresh" content="10"></noscript>
<script type="module">{SCRIPT}</script>
</head>
<body>
<nav><h1>{name}</h1><span class="soft">{version}</span>
<a href="{root}{path}">{metrics}</a> <a href="{root}/healthz">{health}</a> <a href="{root}/readyz">{ready}</a></nav>
{warning}<p class="alarm lost" role="status">{lost}</p>
<main>
"#,
        lang = lang.label(),
        name = env!("CARGO_PKG_NAME"),
        version = env!("CARGO_PKG_VERSION"),
        root = paths.external,
        path = paths.telemetry,
        lost = lang.of(
            "The exporter does not answer: these numbers are no longer renewed.",
            "采集器没有响应：以下数字已停止更新。",
        ),
    )
}

const fn exposed_warning(lang: Lang) -> &'static str {
    lang.of(
        "<p class=\"alarm\" role=\"alert\">Everybody who reaches this address can read these metrics. Add basic_auth_users to the web configuration file, or listen on 127.0.0.1.</p>\n",
        "<p class=\"alarm\" role=\"alert\">任何能访问此地址的人都可以读取这些指标。请在 web 配置文件中添加 basic_auth_users，或只监听 127.0.0.1。</p>\n",
    )
}
