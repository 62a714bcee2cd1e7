//! The web configuration file of the Prometheus exporters, and two fields of ours for bearer tokens.
//!
//! Format: prometheus/exporter-toolkit at 19a7c2d, docs/web-configuration.md.

use std::path::Path;

use axum::http::{HeaderName, HeaderValue};

use super::credentials::{self, Credentials};
use super::limit::{self, Limit};
use super::sources::Sources;
use super::tls::{self, Tls};
use super::yaml::{self, Problem, Problems, Section};

/// What a file amounts to.
#[derive(Default)]
pub(crate) struct Rules {
    pub tls: Option<Tls>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub credentials: Credentials,
    pub limit: Option<Limit>,
}

impl Rules {
    /// Nobody gets the metrics without having shown who they are.
    pub(crate) fn authenticate(&self) -> bool {
        self.credentials.users()
            || self.credentials.tokens()
            || self.tls.as_ref().is_some_and(|tls| tls.clients_verified)
    }
}

/// # Errors
/// Everything that is wrong with the file and those that it names.
pub(crate) fn read(path: &Path, sources: &mut Sources) -> Result<Rules, Vec<Problem>> {
    let alone = |text: String| vec![Problem { line: None, text }];
    // Its own directory is already part of the path.
    let name = path.file_name().ok_or_else(|| alone("not a file".into()))?;
    let bytes = sources.read(Path::new(name)).map_err(|error| alone(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| alone("is not UTF-8 text".into()))?;
    let mut problems = Problems::default();
    let mut root = yaml::parse(&text, &mut problems).map_err(|problem| vec![problem])?;
    let rules = Rules {
        tls: tls::read(root.section("tls_server_config", &mut problems), sources, &mut problems),
        headers: headers(root.section("http_server_config", &mut problems), &mut problems),
        limit: limit::read(root.section("rate_limit", &mut problems), &mut problems),
        credentials: credentials::read(&mut root, sources, &mut problems),
    };
    root.finish(&mut problems);
    let mut problems = problems.0;
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() { Ok(rules) } else { Err(problems) }
}

fn headers(mut section: Section, problems: &mut Problems) -> Vec<(HeaderName, HeaderValue)> {
    // This server speaks HTTP/1.1 alone, which every client can fall back to.
    section.flag("http2", problems);
    let mut headers = section.section("headers", problems);
    section.finish(problems);
    let allowed: [(&'static str, &[&str]); 5] = [
        ("Content-Security-Policy", &[]),
        ("X-Frame-Options", &["deny", "sameorigin"]),
        ("X-Content-Type-Options", &["nosniff"]),
        ("X-XSS-Protection", &[]),
        ("Strict-Transport-Security", &[]),
    ];
    let mut set = Vec::new();
    for (name, values) in allowed {
        let Some(text) = headers.text(name, problems) else { continue };
        if !values.is_empty() && !values.contains(&&*text.value) {
            problems.add(text.line, format!("{} must be {}", headers.name(name), values.join(" or ")));
            continue;
        }
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&text.value)) {
            (Ok(name), Ok(value)) => set.push((name, value)),
            _ => problems.add(text.line, format!("{} holds characters that no header may hold", headers.name(name))),
        }
    }
    headers.finish(problems);
    set
}
