//! Content negotiation: which of its forms a page is sent in. A client that asks for none of them gets the plainest.

use crate::lang::Lang;

/// The formats of a page, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, with `# EOF`.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which everybody can read.
    Text,
}

impl Format {
    /// In the order of [`Format`]'s numbers.
    pub const ALL: [Self; 2] = [Self::OpenMetrics, Self::Text];

    /// The value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// How closely a media range names the format, 0 when it does not.
    fn named_by(self, range: &str, version: Option<&str>) -> u8 {
        match (self, range) {
            (Self::OpenMetrics, "application/openmetrics-text") => {
                // 0.0.1 is the draft of 1.0.0 that older Prometheus servers ask for.
                u8::from(matches!(version, None | Some("1.0.0" | "0.0.1"))) * 3
            }
            // A client that names OpenMetrics can read it; one that takes anything is better served with plain text.
            (Self::Text, "text/plain") => u8::from(matches!(version, None | Some("0.0.4"))) * 3,
            (Self::Text, "text/*") => 2,
            (Self::Text, "*/*") => 1,
            _ => 0,
        }
    }

    /// For the values of the request's `Accept` headers.
    pub fn negotiate(accept: &[&[u8]]) -> Self {
        let weight = |format: Self| weight(accept, |range, version| format.named_by(range, version));
        match weight(Self::OpenMetrics) {
            Some(quality) if quality > 0.0 && quality >= weight(Self::Text).unwrap_or(0.0) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }
}

/// The compression of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// gzip.
    Gzip,
}

impl Coding {
    /// In the order of [`Coding`]'s numbers.
    pub const ALL: [Self; 2] = [Self::Identity, Self::Gzip];

    /// For the values of the request's `Accept-Encoding` headers.
    pub fn negotiate(accept_encoding: &[&[u8]]) -> Self {
        let gzip = weight(accept_encoding, |coding, _| match coding {
            "gzip" | "x-gzip" => 2,
            "*" => 1,
            _ => 0,
        });
        let identity = weight(accept_encoding, |coding, _| u8::from(coding == "identity"));
        match gzip {
            Some(quality) if quality > 0.0 && quality >= identity.unwrap_or(0.0) => Self::Gzip,
            _ => Self::Identity,
        }
    }
}

/// The language for the values of the request's `Accept-Language` headers; every Chinese is one.
pub fn language(accept_language: &[&[u8]]) -> Lang {
    let weight = |lang: Lang| {
        weight(accept_language, |range, _| match range.split_once('-').map_or(range, |(primary, _)| primary) {
            "*" => 1,
            primary if primary == lang.label() => 2,
            _ => 0,
        })
    };
    // Every other language is answered in English.
    match weight(Lang::Zh) {
        Some(quality) if quality > weight(Lang::En).unwrap_or(0.0) => Lang::Zh,
        _ => Lang::En,
    }
}

/// The quality of the items that name a thing most closely; `None` when none does. Items without meaning are skipped.
fn weight(headers: &[&[u8]], closeness: impl Fn(&str, Option<&str>) -> u8) -> Option<f32> {
    let items = headers.iter().flat_map(|header| header.split(|byte| *byte == b','));
    let named = items.filter_map(|item| {
        let mut parts = std::str::from_utf8(item).ok()?.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let (mut version, mut quality) = (None, 1.0_f32);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim_end() {
                key if key.eq_ignore_ascii_case("version") => version = Some(value.trim().trim_matches('"')),
                key if key.eq_ignore_ascii_case("q") => quality = value.trim().parse().ok()?,
                _ => {}
            }
        }
        let closeness = closeness(&name, version);
        (closeness > 0 && (0.0..=1.0).contains(&quality)).then_some((closeness, quality))
    });
    // The greater closeness wins; of equally close items, the greater quality.
    named.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, quality)| quality)
}
