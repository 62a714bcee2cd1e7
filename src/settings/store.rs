//! The settings below `[store]`: where the exporter keeps what it has read. The table may be left out.

use std::path::Path;
use std::time::Duration;

use config::ValueKind;
use secrecy::SecretString;

use super::catalogue::{self, SECRET_FORMS};
use super::check::{Context, DURATIONS, a};
use super::environment::PREFIX;
use super::layer::{Layer, join};
use super::problem::{InvalidValue, Problem};
use super::{StorePlan, secret};
use crate::connect::address;
use crate::store::Store;

/// The table's name.
pub(crate) const TABLE: &str = "store";
/// The address, which also has the other forms of a secret.
const URL: &str = "url";
const SAVE_INTERVAL: &str = "save_interval";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// systemd's `StateDirectory=`: paths, separated by colons.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";
/// The file in the state directory when nothing else is said.
const DEFAULT_FILE: &str = "llm-relay-exporter.db";

/// Everything that may be written below the table.
pub fn paths() -> impl Iterator<Item = String> {
    SECRET_FORMS.iter().map(|form| format!("{URL}{form}")).chain([SAVE_INTERVAL.to_owned()])
}

/// The variable that overrides a setting of the table.
pub fn variable(path: &str) -> String {
    format!("{PREFIX}{TABLE}__{path}").to_ascii_uppercase()
}

/// What to say about a path that is no setting.
pub(crate) fn unknown(path: &str, name: impl Fn(&str) -> String) -> InvalidValue {
    let known: Vec<_> = paths().collect();
    let hint = match catalogue::nearest(path, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", name(near)),
        None => "docs/configuration.md lists all settings".to_owned(),
    };
    InvalidValue::new("unknown setting", hint)
}

/// The store that the values describe. Without an address it is a file in the directory that systemd provides, and
/// without that there is none.
pub(crate) fn plan(layer: &Layer, context: &Context<'_>, problems: &mut Vec<Problem>) -> Option<StorePlan> {
    let place = layer.tables.get(TABLE).map(String::as_str);
    let table = match layer.values.get(TABLE).map(|value| (&value.kind, value.origin())) {
        None => None,
        Some((ValueKind::Table(table), _)) => Some(table),
        Some((kind, origin)) => {
            let wrong = InvalidValue::new(format!("expected a table of settings, found {}", a(kind)), "write [store]");
            problems.push(wrong.at(TABLE, place.or(origin)));
            return None;
        }
    };
    let mut refuse =
        |path: &str, place: Option<&str>, wrong: InvalidValue| problems.push(wrong.at(join(TABLE, path), place));
    for (key, value) in table.into_iter().flatten().filter(|(key, _)| !paths().any(|path| path == **key)) {
        let place = layer.tables.get(&join(TABLE, key)).map(String::as_str).or(value.origin());
        refuse(key, place, unknown(key, |near| format!("`{near}`")));
    }
    let given: Vec<_> = SECRET_FORMS
        .iter()
        .filter_map(|form| Some((format!("{URL}{form}"), *form, table?.get(&format!("{URL}{form}"))?)))
        .collect();
    let url = match given.as_slice() {
        [] => match state_directory(context) {
            Some(folder) => Some(file(Path::new(folder).join(DEFAULT_FILE).as_path())),
            None if table.is_some() => {
                let forms: Vec<_> = SECRET_FORMS.iter().map(|form| format!("{URL}{form}")).collect();
                refuse(URL, place, InvalidValue::new("is missing", format!("set one of {}", forms.join(", "))));
                None
            }
            None => return None,
        },
        [(path, form, value)] => match written(form, &value.kind, context) {
            Ok(url) => Some(url),
            Err(wrong) => {
                refuse(path, value.origin(), wrong);
                None
            }
        },
        [.., (_, _, value)] => {
            let all = given.iter().map(|(path, ..)| format!("`{path}`")).collect::<Vec<_>>().join(" and ");
            let wrong = InvalidValue::new(format!("{all} are given at the same time"), "keep one of them");
            refuse(URL, value.origin(), wrong);
            None
        }
    };
    let save_interval = match table.and_then(|table| table.get(SAVE_INTERVAL)) {
        None => Some(StorePlan::SAVE_INTERVAL),
        Some(value) => interval(&value.kind).map_err(|wrong| refuse(SAVE_INTERVAL, value.origin(), wrong)).ok(),
    };
    Some(StorePlan { url: url?, save_interval: save_interval? })
}

/// The first of systemd's directories.
fn state_directory<'a>(context: &Context<'a>) -> Option<&'a str> {
    context.env.get(STATE_DIRECTORY)?.split(':').next().filter(|folder| !folder.is_empty())
}

fn file(path: &Path) -> SecretString {
    format!("sqlite:{}", path.display()).into()
}

fn written(form: &str, kind: &ValueKind, context: &Context<'_>) -> Result<SecretString, InvalidValue> {
    let ValueKind::String(text) = kind else {
        return Err(InvalidValue::new(format!("expected text, found {}", a(kind)), "write it in quotes"));
    };
    let text = match form {
        "_file" => secret::from_file(context.folder, text)?,
        "_env" => secret::from_variable(context.env, text)?,
        _ => text.clone(),
    };
    let hint = "write it as sqlite:/var/lib/llm-relay-exporter/store.db or postgres://user:password@host:5432/database";
    let Some(path) = text.strip_prefix("sqlite:") else {
        return match text.split_once(':') {
            Some(("postgres" | "postgresql", _)) => secret::address(&[address::Store::Postgres], &text),
            _ => Err(InvalidValue::new("is the address of neither an SQLite file nor a PostgreSQL database", hint)),
        };
    };
    // The store's own verdict; it opens nothing.
    Store::open(&StorePlan::new(text.clone())).map_err(|_| InvalidValue::new("names no file", hint))?;
    Ok(file(&context.folder.join(path.strip_prefix("//").unwrap_or(path))))
}

fn interval(kind: &ValueKind) -> Result<Duration, InvalidValue> {
    let ValueKind::String(text) = kind else {
        return Err(InvalidValue::new(format!("expected a duration, found {}", a(kind)), DURATIONS));
    };
    let time = humantime::parse_duration(text).map_err(|_| InvalidValue::new("is not a duration", DURATIONS))?;
    if (SECOND..=HOUR).contains(&time) {
        Ok(time)
    } else {
        Err(InvalidValue::new("is out of range", "allowed: duration, 1s to 1h"))
    }
}
