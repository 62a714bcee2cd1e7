//! Views rendered to bytes, once per refresh; a scrape copies a pointer.
//!
//! A page is written down in a form when that form has been asked for lately: what nobody reads costs nothing, and
//! only the first who asks waits. Its lines are kept from page to page ([`lines`]): what has not changed is neither
//! written nor packed again. A family whose series are others than before is gathered and sorted anew, and written by
//! prometheus-client as OpenMetrics; the older text format 0.0.4, for clients that do not speak it, has the same lines
//! under other heads. Identical views give identical pages, whatever was shown before.

pub mod accept;
mod lines;
mod open_metrics;
mod packed;
pub(crate) mod recording;
pub(crate) mod samples;
mod screen;
pub(crate) mod text;

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::exporter_info::ExporterInfo;
use crate::lang::Lang;
use crate::metrics::CATALOGUE;
use crate::view::View;
use accept::{Coding, Format};
use lines::{Lines, Piece};
use packed::Packed;

/// A form is kept ready for so long after somebody has asked for it: longer than Prometheus looks back for a sample.
const KEPT_READY: Duration = Duration::from_secs(600);

/// Something for each format and coding.
type Forms<T> = [[T; Coding::ALL.len()]; Format::ALL.len()];

/// What every scrape gets until the next refresh.
#[derive(Clone, Debug)]
pub struct Page {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// What it shows, one for every configured relay.
    pub views: Vec<View>,
    own: ExporterInfo,
    /// What earlier pages have left, if they were read.
    renderer: Arc<Mutex<Option<Renderer>>>,
    /// Written down by the first who asks.
    bodies: Forms<OnceLock<Bytes>>,
    series: OnceLock<usize>,
    /// The same for people, in the order of [`Lang::ALL`]; the second of each for strangers.
    screens: [[OnceLock<Bytes>; 2]; Lang::ALL.len()],
    /// One for each of the views.
    parts: Box<[OnceLock<Arc<Self>>]>,
}

impl Page {
    /// Made now; written down when it is first asked for.
    pub fn new(views: Vec<View>, own: ExporterInfo) -> Self {
        Self {
            at: Utc::now(),
            parts: views.iter().map(|_| OnceLock::new()).collect(),
            views,
            own,
            renderer: Arc::default(),
            bodies: Forms::default(),
            series: OnceLock::new(),
            screens: Default::default(),
        }
    }

    /// What it shows of one relay, and of the exporter; `None` of one that it does not show. Made by the first who asks.
    pub fn of_relay(&self, relay: &str) -> Option<Arc<Self>> {
        let (view, part) = self.views.iter().zip(&self.parts).find(|(view, _)| &*view.relay == relay)?;
        Some(part.get_or_init(|| Arc::new(Self::new(vec![view.clone()], self.own.clone()))).clone())
    }

    /// Label sets, once the page has been written down; the sample lines of a histogram are not counted apart.
    pub fn series(&self) -> Option<usize> {
        self.series.get().copied()
    }

    /// What people look at first, as HTML without a frame, for `strangers` without addresses; made by the first who asks.
    pub(crate) fn screen(&self, lang: Lang, strangers: bool) -> &Bytes {
        let render = || screen::render(&self.views, self.at, self.series(), lang, strangers).into();
        self.screens[lang as usize][usize::from(strangers)].get_or_init(render)
    }

    /// The whole body of a response. The first that is asked of a page writes what has changed since the page before,
    /// or everything: about 5 ms for 10 000 series. All others are ready.
    pub fn bytes(&self, format: Format, coding: Coding) -> &Bytes {
        self.bodies[format as usize][coding as usize].get_or_init(|| {
            let mut renderer = self.renderer.lock().unwrap_or_else(|poisoned| {
                // Half of it may be of one page and half of another.
                let mut renderer = poisoned.into_inner();
                *renderer = None;
                renderer
            });
            let renderer = renderer.get_or_insert_default();
            renderer.renew(&self.views, &self.own);
            self.series.get_or_init(|| renderer.series());
            renderer.bytes(format, coding)
        })
    }

    /// The same if it is ready.
    pub fn ready(&self, format: Format, coding: Coding) -> Option<&Bytes> {
        self.bodies[format as usize][coding as usize].get()
    }
}

/// What has been written down of the page before.
#[derive(Debug)]
struct Renderer {
    /// In the order of [`CATALOGUE`].
    families: Vec<Lines>,
    /// The end mark of OpenMetrics.
    end: Piece,
    /// In the order of [`Format::ALL`].
    packed: [Packed; Format::ALL.len()],
}

impl Default for Renderer {
    fn default() -> Self {
        let mut end = String::new();
        open_metrics::end(&mut end);
        Self {
            families: CATALOGUE.iter().map(Lines::new).collect(),
            end: Piece::new(end, 1),
            packed: Default::default(),
        }
    }
}

impl Renderer {
    fn renew(&mut self, views: &[View], own: &ExporterInfo) {
        for family in &mut self.families {
            family.renew(views, own);
        }
    }

    fn series(&self) -> usize {
        self.families.iter().map(Lines::series).sum()
    }

    fn bytes(&mut self, format: Format, coding: Coding) -> Bytes {
        let numbered =
            |(n, family): (usize, _)| Lines::pieces(family, format).enumerate().map(move |(m, it)| ((n, m), it));
        let families = self.families.iter().enumerate().flat_map(numbered);
        let end = (format == Format::OpenMetrics).then_some(((self.families.len(), 0), &self.end));
        let pieces = families.chain(end);
        match coding {
            Coding::Identity => pieces.map(|(_, piece)| piece.text.as_str()).collect::<String>().into(),
            Coding::Gzip => self.packed[format as usize].gzip(pieces),
        }
    }
}

/// A text packed; of a few kilobytes in a fraction of a millisecond.
pub(crate) fn gzip(text: &[u8]) -> Bytes {
    const TAKES_ALL: &str = "a Vec takes every write";
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(2));
    encoder.write_all(text).expect(TAKES_ALL);
    encoder.finish().expect(TAKES_ALL).into()
}

/// The current page, shared by the task that makes pages and the server.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Current>);

#[derive(Debug)]
struct Current {
    page: ArcSwap<Page>,
    /// When each form was last asked for.
    asked: Mutex<Forms<Option<Instant>>>,
}

impl Shared {
    /// With a page to begin with.
    pub fn new(first: Page) -> Self {
        Self(Arc::new(Current { page: ArcSwap::from_pointee(first), asked: Mutex::default() }))
    }

    /// Replaces the page, once it is written down in the forms that are read.
    pub fn publish(&self, mut page: Page) {
        let asked = *self.asked();
        let forms = Format::ALL.into_iter().flat_map(|format| Coding::ALL.map(|coding| (format, coding)));
        let is_read = |(format, coding): &(Format, Coding)| {
            asked[*format as usize][*coding as usize].is_some_and(|asked| asked.elapsed() < KEPT_READY)
        };
        let mut read = forms.filter(is_read).peekable();
        if read.peek().is_some() {
            page.renderer = self.current().renderer.clone();
        }
        for (format, coding) in read {
            page.bytes(format, coding);
        }
        self.0.page.store(Arc::new(page));
    }

    /// The page as it is now; a later one does not change it.
    pub fn current(&self) -> Arc<Page> {
        self.0.page.load_full()
    }

    /// The current page for somebody who reads this form: those after it will have it ready.
    pub fn read_as(&self, format: Format, coding: Coding) -> Arc<Page> {
        self.asked()[format as usize][coding as usize] = Some(Instant::now());
        self.current()
    }

    fn asked(&self) -> MutexGuard<'_, Forms<Option<Instant>>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
