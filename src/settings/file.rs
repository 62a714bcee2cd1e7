//! The TOML file as a layer: its tables `relays` and `store`, each value with the line and column that it stands on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use config::{Map, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::catalogue;
use super::layer::{Layer, join};
use super::problem::{InvalidValue, Problem};
use super::store;

/// Reads the file; a problem means that nothing can be said about its contents.
pub(crate) fn read(path: &Path) -> Result<Layer, Vec<Problem>> {
    let name = path.display().to_string();
    let wrong = |wrong: InvalidValue| vec![wrong.at(&name, None)];
    let bytes = std::fs::read(path).map_err(|error| {
        wrong(InvalidValue::new(format!("cannot be read: {error}"), "check the path and the permissions of the file"))
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|it| **it == b'\n').count() + 1;
        wrong(InvalidValue::new(format!("line {line} is not UTF-8"), "save the file as UTF-8"))
    })?;
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut reader = Reader { lines: Lines::new(&name, &text), tables: BTreeMap::new() };
    if errors.is_empty() {
        let values = reader.table("", table.into_inner());
        return Ok(Layer { values, tables: reader.tables });
    }
    // Only the parser's own words: its report would show the line, which may hold a password.
    Err(errors
        .iter()
        .map(|error| Problem {
            path: name.clone(),
            place: error.span().map(|span| reader.lines.place(&span)),
            what: format!("is not TOML: {}", error.message()),
            hint: None,
        })
        .collect())
}

/// Takes what does not belong into a file out of its layer.
pub(crate) fn unknown_tables(layer: &mut Layer) -> Vec<Problem> {
    let unknown_tables: Vec<_> = layer.values.extract_if(|key, _| key != "relays" && key != store::TABLE).collect();
    let problem = |(key, value): (String, Value)| {
        let path = join("", &key);
        let hint = if catalogue::find(&key).is_some() || catalogue::is_group(&key) {
            format!("`{key}` belongs to a relay: write it below [relays.<name>]")
        } else if store::paths().any(|path| path == key) {
            format!("`{key}` belongs to the store: write it below [store]")
        } else if catalogue::nearest(&key, ["relays", "relay"]).is_some() {
            "did you mean `relays`?".to_owned()
        } else if catalogue::nearest(&key, [store::TABLE]).is_some() {
            "did you mean `store`?".to_owned()
        } else {
            "all settings stand below [relays.<name>] and [store]; docs/configuration.md lists them".to_owned()
        };
        let place = layer.tables.get(&path).map(String::as_str).or(value.origin());
        InvalidValue::new("unknown setting", hint).at(path.clone(), place)
    };
    unknown_tables.into_iter().map(problem).collect()
}

struct Reader<'a> {
    lines: Lines<'a>,
    /// Where each table begins: layering forgets it.
    tables: BTreeMap<String, String>,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: DeTable<'_>) -> Map<String, Value> {
        table
            .into_iter()
            .map(|(key, value)| {
                let key = key.into_inner().into_owned();
                let path = join(path, &key);
                let place = self.lines.place(&value.span());
                if matches!(value.get_ref(), DeValue::Table(_)) {
                    self.tables.insert(path.clone(), place.clone());
                }
                let kind = self.kind(&path, value.into_inner());
                (key, Value::new(Some(&place), kind))
            })
            .collect()
    }

    fn kind(&mut self, path: &str, value: DeValue<'_>) -> ValueKind {
        match value {
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            // A number too large for the type is too large for every setting.
            DeValue::Integer(number) => {
                ValueKind::I128(i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX))
            }
            DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(it) => ValueKind::Boolean(it),
            // No setting takes a date, and the layers have no word for it.
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Array(items) => ValueKind::Array(
                items
                    .into_iter()
                    .map(|item| {
                        let place = self.lines.place(&item.span());
                        Value::new(Some(&place), self.kind(path, item.into_inner()))
                    })
                    .collect(),
            ),
            DeValue::Table(table) => ValueKind::Table(self.table(path, table)),
        }
    }
}

/// From bytes to lines and columns, both counted from one, columns in characters.
struct Lines<'a> {
    name: &'a str,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(name: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { name, text, starts }
    }

    fn place(&self, span: &Range<usize>) -> String {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let before = self.text.get(self.starts[line - 1]..span.start).unwrap_or_default();
        format!("{}:{line}:{}", self.name, before.chars().count() + 1)
    }
}
