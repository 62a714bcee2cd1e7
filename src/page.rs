//! Views rendered to bytes, once per refresh; a scrape copies a pointer.
//!
//! A page is written down in a format when that format has been asked for lately: what nobody reads costs nothing, and
//! only the first who asks waits. The samples are gathered family by family and sorted; OpenMetrics is written by
//! prometheus-client, the older text format 0.0.4 is for clients that do not speak it. Both are gzipped while they are
//! written, as Prometheus asks for them; a page of 100 000 series is 10 MB without, which nobody pays for who does not
//! ask. Identical views give identical pages.

pub mod accept;
pub mod open_metrics;
pub(crate) mod recording;
pub mod samples;
mod screen;
pub mod text;

use std::fmt;
use std::io::{BufWriter, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::exporter_info::ExporterInfo;
use crate::lang::Lang;
use crate::view::View;
use accept::{Coding, Format};

/// A format is kept ready for so long after somebody has asked for it: longer than Prometheus looks back for a sample.
const KEPT_READY: Duration = Duration::from_secs(600);

/// What every scrape gets until the next refresh.
#[derive(Clone, Debug)]
pub struct Page {
    /// When it was made.
    pub at: DateTime<Utc>,
    /// What it shows, one for every configured relay.
    pub views: Vec<View>,
    own: ExporterInfo,
    /// Written down by the first who asks, in the order of [`Format::ALL`].
    bodies: [OnceLock<Body>; Format::ALL.len()],
    /// The same for people, in the order of [`Lang::ALL`].
    screens: [OnceLock<Bytes>; Lang::ALL.len()],
}

/// One format, ready to be sent.
#[derive(Clone, Debug)]
struct Body {
    gzip: Bytes,
    /// Bytes without the gzip.
    length: usize,
    series: usize,
    /// Unpacked by the first who asks for it.
    plain: OnceLock<Bytes>,
}

impl Page {
    /// Made now; written down when it is first asked for.
    pub fn new(views: Vec<View>, own: ExporterInfo) -> Self {
        Self { at: Utc::now(), views, own, bodies: Default::default(), screens: Default::default() }
    }

    /// Label sets, once the page has been written down; the sample lines of a histogram are not counted apart.
    pub fn series(&self) -> Option<usize> {
        self.bodies.iter().find_map(OnceLock::get).map(|body| body.series)
    }

    /// What people look at first, as HTML without a frame; made by the first who asks.
    pub(crate) fn screen(&self, lang: Lang) -> &Bytes {
        self.screens[lang as usize].get_or_init(|| screen::render(&self.views, self.at, self.series(), lang).into())
    }

    /// The whole body of a response. The first of a format takes 5 to 10 ms per 10 000 series, the first plain one 3 ms
    /// more; all others are ready.
    pub fn bytes(&self, format: Format, coding: Coding) -> &Bytes {
        let body = self.body(format);
        match coding {
            Coding::Identity => body.plain.get_or_init(|| gunzip(&body.gzip, body.length)),
            Coding::Gzip => &body.gzip,
        }
    }

    /// The same if it is ready.
    pub fn ready(&self, format: Format, coding: Coding) -> Option<&Bytes> {
        let body = self.bodies[format as usize].get()?;
        match coding {
            Coding::Identity => body.plain.get(),
            Coding::Gzip => Some(&body.gzip),
        }
    }

    fn body(&self, format: Format) -> &Body {
        self.bodies[format as usize].get_or_init(|| Body::of(format, &self.views, &self.own))
    }
}

impl Body {
    /// Every metric of the catalogue. A family without samples is left out, and so is every sample that is not a finite
    /// number.
    fn of(format: Format, views: &[View], own: &ExporterInfo) -> Self {
        let mut out = Gzip::new();
        let mut series = 0;
        for family in samples::gather(views, own) {
            series += family.series();
            match format {
                Format::OpenMetrics => open_metrics::write(&mut out, &Arc::new(family)),
                Format::Text => text::write(&mut out, &family),
            }
        }
        if format == Format::OpenMetrics {
            open_metrics::end(&mut out);
        }
        let (gzip, length) = out.finish();
        Self { gzip, length, series, plain: OnceLock::new() }
    }
}

/// A text packed; of a few kilobytes in a fraction of a millisecond.
pub(crate) fn gzip(text: &[u8]) -> Bytes {
    let mut out = Gzip::new();
    // Memory takes every write.
    let _ = out.encoder.write_all(text);
    out.finish().0
}

/// Takes text and packs it at once: the plain page is nowhere as a whole.
struct Gzip {
    encoder: BufWriter<GzEncoder<Vec<u8>>>,
    length: usize,
}

impl Gzip {
    fn new() -> Self {
        // Level 2 costs half of level 6 and gives 13 % of the plain size instead of 12 %. The buffer is for the writers,
        // who bring a few bytes at a time.
        let encoder = GzEncoder::new(Vec::new(), Compression::new(2));
        Self { encoder: BufWriter::with_capacity(64 << 10, encoder), length: 0 }
    }

    /// What was packed, and its length before.
    fn finish(self) -> (Bytes, usize) {
        const TAKES_ALL: &str = "a Vec takes every write";
        let encoder = self.encoder.into_inner().expect(TAKES_ALL);
        let mut gzip = encoder.finish().expect(TAKES_ALL);
        gzip.shrink_to_fit();
        (gzip.into(), self.length)
    }
}

impl fmt::Write for Gzip {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.length += text.len();
        self.encoder.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

fn gunzip(gzip: &[u8], length: usize) -> Bytes {
    let mut plain = Vec::with_capacity(length);
    GzDecoder::new(gzip).read_to_end(&mut plain).expect("it was packed here");
    plain.into()
}

/// The current page, shared by the task that makes pages and the server.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Current>);

#[derive(Debug)]
struct Current {
    page: ArcSwap<Page>,
    /// When each of [`Format::ALL`] was last asked for.
    asked: Mutex<[Option<Instant>; Format::ALL.len()]>,
}

impl Shared {
    /// With a page to begin with.
    pub fn new(first: Page) -> Self {
        Self(Arc::new(Current { page: ArcSwap::from_pointee(first), asked: Mutex::default() }))
    }

    /// Replaces the page, once it is written down in the formats that are read.
    pub fn publish(&self, page: Page) {
        let asked = *self.asked();
        for format in Format::ALL {
            if asked[format as usize].is_some_and(|asked| asked.elapsed() < KEPT_READY) {
                page.body(format);
            }
        }
        self.0.page.store(Arc::new(page));
    }

    /// The page as it is now; a later one does not change it.
    pub fn current(&self) -> Arc<Page> {
        self.0.page.load_full()
    }

    /// The current page for somebody who reads this format: those after it will have it ready.
    pub fn read_as(&self, format: Format) -> Arc<Page> {
        self.asked()[format as usize] = Some(Instant::now());
        self.current()
    }

    fn asked(&self) -> MutexGuard<'_, [Option<Instant>; Format::ALL.len()]> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
