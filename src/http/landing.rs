//! The landing page: what is being read, and how that goes. One file, no scripts, nothing from elsewhere.

use std::fmt::{self, Display, Formatter, Write};

use chrono::{DateTime, Utc};

use super::Paths;
use crate::page::Page;
use crate::view::{SourceStatus, View};

/// The page brings its style along and needs nothing else.
pub(crate) const SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Shown while other machines can read without a password.
const EXPOSED: &str = r#"<p class="down" role="alert">Everybody who reaches this address can read these metrics. Add basic_auth_users to the web configuration file, or listen on 127.0.0.1.</p>
"#;

const STYLE: &str = include_str!("landing.css");

pub(crate) fn html(page: &Page, paths: &Paths, exposed: bool, now: DateTime<Utc>) -> String {
    let warning = if exposed { EXPOSED } else { "" };
    let relays: String = page.views.iter().map(|view| relay(view, now)).collect();
    format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{STYLE}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p class="soft">Version {version}. Reads the stores of LLM relays, read-only, and gives Prometheus their metrics.</p>
<nav><a href="{root}{path}">Metrics</a> <a href="{root}/healthz">Health</a> <a href="{root}/readyz">Readiness</a></nav>
</header>
<main>
{warning}{relays}</main>
<footer class="soft"><p>{series} series, written {age}.</p></footer>
</body>
</html>
"#,
        name = env!("CARGO_PKG_NAME"),
        version = env!("CARGO_PKG_VERSION"),
        root = Escaped(&paths.external),
        path = Escaped(&paths.telemetry),
        series = page.series(),
        age = Age(now, page.at),
    )
}

fn relay(view: &View, now: DateTime<Utc>) -> String {
    let mut facts = view.kind.to_owned();
    if let Some(directory) = &view.directory {
        for (label, fact) in [("version", &directory.version), ("time zone", &directory.timezone)] {
            if !fact.is_empty() {
                facts.push_str(&format!(" · {label} {fact}"));
            }
        }
    }
    let parts: String = view.sources.iter().map(|status| part(status, now)).collect();
    format!(
        r#"<section>
<h2>{relay}</h2>
<p class="soft">{facts}</p>
<table>
<thead><tr><th scope="col">Source</th><th scope="col">State</th><th scope="col">Last read</th><th scope="col">Problem</th></tr></thead>
<tbody>
{parts}</tbody>
</table>
</section>
"#,
        relay = Escaped(&view.relay),
        facts = Escaped(&facts),
    )
}

fn part(status: &SourceStatus, now: DateTime<Utc>) -> String {
    let state = if status.up { "up" } else { "down" };
    let last = status.last_success.map_or_else(|| "never".to_owned(), |at| Age(now, at).to_string());
    format!(
        "<tr><th scope=\"row\">{source}</th><td class=\"{state}\">{state}</td><td>{last}</td><td>{problem}</td></tr>\n",
        source = status.source,
        problem = Escaped(status.problem.as_deref().unwrap_or("")),
    )
}

/// Text that is safe between tags and in a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => f.write_char(c),
        })
    }
}

/// The time from the second instant to the first, in its two greatest units.
struct Age(DateTime<Utc>, DateTime<Utc>);

impl Display for Age {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = (self.0 - self.1).num_seconds();
        match seconds {
            ..=0 => write!(f, "just now"),
            1..60 => write!(f, "{seconds} s ago"),
            60..3600 => write!(f, "{} min {} s ago", seconds / 60, seconds % 60),
            3600..86400 => write!(f, "{} h {} min ago", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{} d {} h ago", seconds / 86400, seconds / 3600 % 24),
        }
    }
}
