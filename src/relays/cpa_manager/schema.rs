//! Which generation of the relay this is, told by its columns, and statements cut to fit it.

use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row};

use crate::connect::sqlite::Snapshot;
use crate::model::{ReadError, Reason};
use crate::relay::columns::{Columns, fill};
use crate::relay::schema_cache;

/// Generations of the file, by what they brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// CPA-Manager up to v1.2.
    First,
    /// CPA-Manager v1.3: requested and resolved models, snapshots of credentials, aliases of client keys.
    Snapshots,
    /// CPA-Manager-Plus: normalized tokens, time to first token, status of failures, service tiers, quotas.
    Plus,
}

impl Level {
    /// In the order of their releases.
    pub const ALL: [Self; 3] = [Self::First, Self::Snapshots, Self::Plus];

    /// The releases that have this file, for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::First => "CPA-Manager v1.0 to v1.2",
            Self::Snapshots => "CPA-Manager v1.3",
            Self::Plus => "CPA-Manager-Plus",
        }
    }
}

pub(super) type SchemaCache = schema_cache::SchemaCache<Schema>;

/// The columns of the relay's tables.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    columns: Columns,
    pub level: Level,
}

impl Schema {
    pub(super) async fn detect(snapshot: &mut Snapshot) -> Result<Self, ReadError> {
        let what = "looking at the relay's columns";
        let rows = snapshot.fetch(what, sqlx::query(include_str!("columns.sql"))).await?;
        let column = |row: &SqliteRow| Ok((row.try_get("table_name")?, row.try_get("column_name")?, true));
        let columns = rows.iter().map(column).collect::<Result<_, _>>();
        let columns = columns.map_err(|error| snapshot.error(what, &error))?;
        let mut schema = Self { columns, level: Level::First };
        let markers = [
            (Level::Plus, "normalized_total_input_tokens"),
            (Level::Snapshots, "resolved_model"),
            (Level::First, "event_hash"),
        ];
        let found = markers.into_iter().find(|(_, column)| schema.has("usage_events", column));
        schema.level = found.map(|(level, _)| level).ok_or_else(|| {
            let hint = "is this the manager's usage.sqlite?";
            ReadError::new(Reason::Schema, format!("{what}: there is no table usage_events; {hint}"))
        })?;
        Ok(schema)
    }

    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.columns.exists(table, column)
    }

    pub(super) fn has_table(&self, table: &str) -> bool {
        self.columns.has_table(table)
    }

    /// Cuts a statement to fit: `{table.column}` becomes the column or, where this generation has none, null, and
    /// `{which}` a condition.
    pub(super) fn fit_with(&self, text: &str, condition: &'static str) -> AssertSqlSafe<String> {
        AssertSqlSafe(fill(text, |name| {
            let word = match name.split_once('.') {
                Some((table, column)) if self.has(table, column) => column,
                Some(_) => "null",
                None => condition,
            };
            Some(word.to_owned())
        }))
    }

    pub(super) fn fit(&self, text: &str) -> AssertSqlSafe<String> {
        self.fit_with(text, "")
    }
}
