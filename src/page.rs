//! Views rendered to bytes, once per refresh; a scrape copies a pointer.
//!
//! The samples are gathered once, sorted, and written down twice: as OpenMetrics (prometheus-client) and in the older
//! text format 0.0.4 for clients that do not speak it, each plain and gzipped. Identical views give identical pages.

pub mod accept;
pub mod open_metrics;
pub mod recording;
pub mod samples;
pub mod text;

use std::io::Write;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::own::Own;
use crate::view::View;
use accept::{Coding, Format};
use samples::Snapshot;

/// What every scrape gets until the next refresh.
#[derive(Clone, Debug)]
pub struct Page {
    pub rendered_at: DateTime<Utc>,
    /// Sample lines, of which a histogram has several, are not counted: this is the number of label sets.
    pub series: usize,
    open_metrics: Body,
    text: Body,
}

/// One format, ready to be sent.
#[derive(Clone, Debug)]
struct Body {
    plain: Bytes,
    gzip: Bytes,
}

impl Page {
    /// The whole body of a response.
    pub fn bytes(&self, format: Format, coding: Coding) -> &Bytes {
        let body = match format {
            Format::OpenMetrics => &self.open_metrics,
            Format::Text => &self.text,
        };
        match coding {
            Coding::Identity => &body.plain,
            Coding::Gzip => &body.gzip,
        }
    }
}

/// Writes every metric of the catalogue down.
///
/// A family without samples is left out, and so is every sample that is not a finite number.
pub fn render(views: &[View], own: &Own) -> Page {
    let snapshot = Arc::new(Snapshot::gather(views, own));
    let mut buffer = String::new();
    open_metrics::write(&mut buffer, &snapshot);
    let open_metrics = Body::new(&buffer);
    buffer.clear();
    text::write(&mut buffer, &snapshot);
    Page { rendered_at: Utc::now(), series: snapshot.series(), open_metrics, text: Body::new(&buffer) }
}

impl Body {
    fn new(plain: &str) -> Self {
        Self { plain: Bytes::copy_from_slice(plain.as_bytes()), gzip: gzip(plain.as_bytes()) }
    }
}

fn gzip(plain: &[u8]) -> Bytes {
    // Level 2 costs half of level 6 and gives 13 % of the plain size instead of 12 %.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 6), Compression::new(2));
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("a Vec takes every write").into()
}

/// The current page, shared by the task that renders and the server.
#[derive(Clone, Debug)]
pub struct Shared(Arc<ArcSwap<Page>>);

impl Shared {
    pub fn new(first: Page) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    pub fn publish(&self, page: Page) {
        self.0.store(Arc::new(page));
    }

    pub fn current(&self) -> Arc<Page> {
        self.0.load_full()
    }
}
