//! The names of the relay's Redis keys (v1.1.314 `src/models/redis.js`, `src/services/account/*.js`).

use std::borrow::Cow;

use chrono::NaiveDate;

/// An upstream platform and where its accounts are kept.
pub(super) struct Platform {
    pub name: &'static str,
    /// What comes before the account's id.
    pub account: &'static str,
    /// The set of account ids.
    pub index: &'static str,
    /// The platform's name in error histories and cool-downs.
    pub in_errors: &'static str,
    /// One JSON text instead of a hash.
    pub json: bool,
}

const fn platform(name: &'static str, account: &'static str, index: &'static str) -> Platform {
    Platform { name, account, index, in_errors: name, json: false }
}

pub(super) const PLATFORMS: [Platform; 10] = [
    Platform { in_errors: "claude-official", ..platform("claude", "claude:account:", "claude:account:index") },
    platform("claude-console", "claude_console_account:", "claude_console_account:index"),
    platform("ccr", "ccr_account:", "ccr_account:index"),
    Platform { json: true, ..platform("bedrock", "bedrock_account:", "bedrock_account:index") },
    platform("gemini", "gemini_account:", "gemini_account:index"),
    platform("gemini-api", "gemini_api_account:", "gemini_api_account:index"),
    platform("openai", "openai:account:", "openai:account:index"),
    platform("openai-responses", "openai_responses_account:", "openai_responses_account:index"),
    platform("azure-openai", "azure_openai:account:", "azure_openai:account:index"),
    platform("droid", "droid:account:", "droid:account:index"),
];

pub(super) fn platform_of(name: &str) -> Option<&'static Platform> {
    PLATFORMS.iter().find(|platform| platform.name == name)
}

/// The numbers of a release as the relay writes them, e.g. `1.1.314`.
pub(super) fn release(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

pub(super) fn day(date: NaiveDate) -> String {
    date.format("%Y-%m-%d").to_string()
}

pub(super) fn month(year: i32, month: u32) -> String {
    format!("{year}-{month:02}")
}

/// Members of an index set: the relay's own migration has put the word `index` into some.
pub(super) fn members(set: Vec<String>) -> impl Iterator<Item = String> {
    set.into_iter().filter(|member| member != "index")
}

/// `id:model`; the model may hold more colons.
pub(super) fn pair(member: &str) -> Option<(&str, &str)> {
    member.split_once(':').filter(|(id, model)| *id != "index" && !model.is_empty())
}

/// The name under which the relay counts a model (`_normalizeModelName`).
pub(super) fn counted_model(model: &str) -> Cow<'_, str> {
    if !model.contains(".anthropic.") && !model.contains(".claude") {
        return without_version(model).or_else(|| model.strip_suffix(":latest")).unwrap_or(model).into();
    }
    let is_region = |it: &str| !it.is_empty() && it.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let model = match model.split_once('.') {
        Some((region, rest)) if is_region(region) => rest,
        _ => model,
    };
    let model = model.replacen("anthropic.", "", 1);
    match without_version(&model) {
        Some(short) => short.to_owned().into(),
        None => model.into(),
    }
}

/// Without `-v1:0` at the end.
fn without_version(model: &str) -> Option<&str> {
    let digits = |it: &str| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit());
    let (rest, revision) = model.rsplit_once(':')?;
    let (name, version) = rest.rsplit_once("-v")?;
    (digits(revision) && digits(version)).then_some(name)
}
