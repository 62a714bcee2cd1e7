//! One source of settings, and several laid over each other.

use std::collections::BTreeMap;
use std::fmt;

use config::{ConfigError, Map, Source, Value, ValueKind};

/// Settings from one source. The origin of each value is its place.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    /// At the top only `relays` and `store`: the layering takes the keys there for expressions.
    pub values: Map<String, Value>,
    /// Path and place of each table.
    pub tables: BTreeMap<String, String>,
}

impl Layer {
    /// Sets one value, making the tables above it.
    pub(crate) fn set(&mut self, path: &[&str], value: Value) {
        let mut table = &mut self.values;
        let Some((last, above)) = path.split_last() else { return };
        for key in above {
            let below = table.entry((*key).to_owned()).or_default();
            if !matches!(below.kind, ValueKind::Table(_)) {
                below.kind = ValueKind::Table(Map::new());
            }
            let ValueKind::Table(inner) = &mut below.kind else { return };
            table = inner;
        }
        table.insert((*last).to_owned(), value);
    }

    /// This layer with another one over it.
    pub(crate) fn under(self, over: Self) -> Self {
        let tables = self.tables.clone();
        let layers: [Box<dyn Source + Send + Sync>; 2] = [Box::new(self), Box::new(over)];
        // Layers that are in memory already have no error to give.
        let values = layers.collect().unwrap_or_default();
        Self { values, tables }
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

/// Without the values: there are passwords in them.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer").field("tables", &self.tables).finish_non_exhaustive()
    }
}

/// A path and a key below it, as one would write it in TOML.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
