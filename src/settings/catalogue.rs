//! The settings of one relay: those of every relay here, those of some in their products. What may be written, hints for
//! what may not and the check of `docs/configuration.md` all come from them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::NameMode;
use crate::relay::setting::{
    Absent, DAY, HOUR, MINUTE, SECOND, Setting, ValueType, WEEK, count, duration, optional, top,
};
use crate::relay::{Need, Product, Store};
use crate::relays::PRODUCTS;

/// What is appended to a secret's path: the secret itself, a file with it, an environment variable with it.
pub(crate) const SECRET_FORMS: [&str; 3] = ["", "_file", "_env"];

const TEN_YEARS: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// The settings of every relay.
pub(crate) static SETTINGS: [Setting; 20] = [
    Setting { path: "kind", value_type: ValueType::Product, absent: Absent::Refused },
    optional(
        "database_url",
        ValueType::Secret { need: |product| product.database, set: |relay, url| relay.database_url = url },
    ),
    optional(
        "redis_url",
        ValueType::Secret { need: |product| product.redis, set: |relay, url| relay.redis_url = Some(url) },
    ),
    duration("interval", SECOND, HOUR, "5s", |relay, it| relay.interval = it),
    duration("directory_interval", SECOND, DAY, "30s", |relay, it| relay.directory_interval = it),
    duration("stale_after", SECOND, WEEK, "60s", |relay, it| relay.stale_after = it),
    duration("timeout", SECOND, Duration::from_secs(5 * 60), "10s", |relay, it| relay.timeout = it),
    optional("health_url", ValueType::Page(|relay, url| relay.health.url = Some(url))),
    optional("health_ca_file", ValueType::Path(|relay, path| relay.health.ca_file = Some(path))),
    duration("health_interval", SECOND, HOUR, "15s", |relay, it| relay.health.interval = it),
    duration("health_timeout", SECOND, MINUTE, "5s", |relay, it| relay.health.timeout = it),
    top("boards.top_keys", |relay, it| relay.boards.top_keys = it),
    top("boards.top_providers", |relay, it| relay.boards.top_providers = it),
    top("boards.top_models", |relay, it| relay.boards.top_models = it),
    Setting {
        path: "boards.names",
        value_type: ValueType::OneOf(&[
            ("name", |relay| relay.boards.names = NameMode::Name),
            ("alias", |relay| relay.boards.names = NameMode::Alias),
            ("id", |relay| relay.boards.names = NameMode::Id),
        ]),
        absent: Absent::Means("name"),
    },
    count("series.max_models", 1, 10_000, "200", |relay, it| relay.series.max_models = it),
    count("series.max_keys", 1, 100_000, "1000", |relay, it| relay.series.max_keys = it),
    count("series.max_histograms", 1, 10_000, "300", |relay, it| relay.series.max_histograms = it),
    optional("series.pinned_models", ValueType::Texts(|relay, it| relay.series.pinned_models = it)),
    duration("series.idle_after", MINUTE, TEN_YEARS, "35d", |relay, it| relay.series.idle_after = it),
];

/// Every setting of any relay, once.
pub(crate) fn settings() -> impl Iterator<Item = &'static Setting> {
    let own = PRODUCTS.iter().flat_map(|product| product.settings);
    let mut seen = BTreeSet::new();
    SETTINGS.iter().chain(own).filter(move |setting| seen.insert(setting.path))
}

/// The settings that a product understands.
pub fn settings_of(product: &Product) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(product.settings)
}

/// The products that understand a setting.
pub fn understood_by(setting: &Setting) -> impl Iterator<Item = &'static Product> {
    let path = setting.path;
    let is_common = SETTINGS.iter().any(|it| it.path == path);
    PRODUCTS.iter().copied().filter(move |product| is_common || product.understands(path))
}

/// Every path that may be written below a relay, with its setting.
pub fn paths() -> impl Iterator<Item = (String, &'static Setting)> {
    settings().flat_map(|setting| {
        let forms =
            if matches!(setting.value_type, ValueType::Secret { .. }) { &SECRET_FORMS[..] } else { &SECRET_FORMS[..1] };
        forms.iter().map(move |form| (format!("{}{form}", setting.path), setting))
    })
}

/// The setting that a path below a relay belongs to.
pub(crate) fn find(path: &str) -> Option<&'static Setting> {
    paths().find(|(known, _)| known == path).map(|(_, setting)| setting)
}

/// Whether a path below a relay is a table of settings.
pub(crate) fn is_group(path: &str) -> bool {
    settings().any(|setting| setting.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The path that was probably meant by one that does not exist: the nearest last word, then the nearest whole. Of those
/// that the product understands, where it is known.
pub(crate) fn nearest_path(written: &str, product: Option<&Product>) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let is_understood =
        |setting: &Setting| product.is_none_or(|product| understood_by(setting).any(|it| it.label == product.label));
    let group = |setting: &Setting| Some(setting.path.split_once('.')?.0.to_owned());
    paths()
        .filter(|(_, setting)| is_understood(setting))
        .flat_map(|(path, setting)| [Some(path), group(setting)])
        .flatten()
        .filter(|path| is_near(&last(written), &last(path)))
        .min_by_key(|path| (strsim::osa_distance(&last(written), &last(path)), strsim::osa_distance(written, path)))
}

/// The candidate that was probably meant.
pub(crate) fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter(|candidate| is_near(written, candidate))
        .min_by_key(|candidate| (strsim::osa_distance(written, candidate), *candidate))
}

/// Few enough slips for the length of the word.
fn is_near(written: &str, candidate: &str) -> bool {
    written.len() <= 2 * candidate.len()
        && strsim::osa_distance(written, candidate) <= (1 + candidate.chars().count() / 4).min(3)
}

/// What may be written, for documents.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Product => f.write_str(&choice(PRODUCTS.iter().map(|product| product.label))),
            Self::OneOf(choices) => f.write_str(&choice(choices.iter().map(|(text, _)| *text))),
            Self::Duration { least, most, .. } => write!(f, "duration, {} to {}", short(*least), short(*most)),
            Self::Count { least, most, .. } => write!(f, "whole number, {least} to {most}"),
            Self::TimeZone(_) => f.write_str("IANA time zone"),
            Self::Offset(_) => f.write_str("the relay's `TIMEZONE_OFFSET`"),
            Self::Texts(_) => f.write_str("list of texts"),
            Self::Page(_) => f.write_str("HTTP or HTTPS URL"),
            Self::Path(_) => f.write_str("path"),
            Self::Secret { need, .. } => {
                let names: Vec<_> = any_store(*need).into_iter().map(Store::name).collect();
                write!(f, "{} URL", either(&names))
            }
        }
    }
}

/// A duration in its largest whole unit: `90s`, `2m`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", DAY.as_secs()), ("h", HOUR.as_secs()), ("m", MINUTE.as_secs())];
    match units.iter().find(|(_, length)| seconds.is_multiple_of(*length)) {
        Some((unit, length)) => format!("{}{unit}", seconds / length),
        None => format!("{seconds}s"),
    }
}

/// The stores that a setting may lead to, whatever the product.
pub(crate) fn any_store(need: fn(&Product) -> Need) -> Vec<Store> {
    let all: BTreeSet<_> = PRODUCTS.iter().flat_map(|product| need(product).stores()).copied().collect();
    all.into_iter().collect()
}

/// `"name", "alias" or "id"`.
fn choice<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    either(&texts.map(|text| format!("\"{text}\"")).collect::<Vec<_>>())
}

/// `one, two or three`.
pub(crate) fn either<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}
