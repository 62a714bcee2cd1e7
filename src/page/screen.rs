//! The numbers of one moment for people who have no Grafana yet: what one holds against the relay's own screen, as HTML.
//!
//! Whatever stands here is on the page of metrics too, under the names of the same mode; a number's title says as which
//! series. What a relay cannot tell stands in one line with its reason, what is missing now in its place.

mod absent;
mod boards;
mod course;
mod html;
mod providers;
mod sources;
mod tiles;

use chrono::{DateTime, Utc};

use crate::lang::Lang;
use crate::model::Directory;
use crate::view::{LedgerView, View};
use html::{Escaped, TimeOfDay};

/// One relay at one moment, for readers of one language.
#[derive(Clone, Copy)]
struct Screen<'a> {
    view: &'a View,
    at: DateTime<Utc>,
    lang: Lang,
    /// Whoever may read it, with no password shown: what went wrong is one word, for the text names addresses.
    strangers: bool,
}

/// Every relay's numbers; `series` is how many the page of metrics has, where that is known.
pub(super) fn render(views: &[View], at: DateTime<Utc>, series: Option<usize>, lang: Lang, strangers: bool) -> String {
    let relays: String = views.iter().map(|view| Screen { view, at, lang, strangers }.section()).collect();
    let nothing = lang.of("No relay has been read yet.", "尚未读取任何中转。");
    let relays = if relays.is_empty() { format!("<p class=\"soft\">{nothing}</p>\n") } else { relays };
    let series = series.map(|series| match lang {
        Lang::En => format!("<p class=\"soft end\">{} series for Prometheus.</p>\n", html::count(series as f64)),
        Lang::Zh => format!("<p class=\"soft end\">供 Prometheus 抓取的序列：{}。</p>\n", html::count(series as f64)),
    });
    relays + &series.unwrap_or_default()
}

impl<'a> Screen<'a> {
    fn section(&self) -> String {
        format!(
            "<section>\n{head}{alarms}{tiles}{courses}<div class=\"boards\">\n{boards}{providers}</div>\n{untold}{sources}</section>\n",
            head = self.head(),
            alarms = sources::alarms(self),
            tiles = tiles::tiles(self),
            courses = course::courses(self),
            boards = boards::boards(self),
            providers = providers::providers(self),
            untold = absent::untold(self),
            sources = sources::sources(self),
        )
    }

    fn head(&self) -> String {
        let directory = self.directory();
        let kind = Some(self.view.kind).filter(|kind| **kind != *self.view.relay);
        let version = directory.map(|directory| directory.version.as_str()).filter(|version| !version.is_empty());
        let facts: Vec<_> = kind.into_iter().chain(version).collect();
        format!(
            "<header><h2>{relay}</h2><p class=\"soft\">{facts}</p><p class=\"clock\">{clock}</p></header>\n",
            relay = Escaped(&self.view.relay),
            facts = Escaped(&facts.join(" · ")),
            clock = TimeOfDay::of(self),
        )
    }

    fn ledger(&self) -> Option<&'a LedgerView> {
        self.view.ledger.as_deref()
    }

    fn directory(&self) -> Option<&'a Directory> {
        self.view.directory.as_deref()
    }
}
