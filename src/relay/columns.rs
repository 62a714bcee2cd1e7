//! Which columns a relay's store has, by which its release is told, and statements cut to fit them.

use std::collections::HashMap;

use sqlx::Row;

use crate::connect::postgres::Snapshot;
use crate::model::ReadError;

/// Columns that statements name, by table, with spaces between them.
pub(crate) type Named = [(&'static str, &'static str)];

/// Table, column, and whether this role may read it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(HashMap<String, HashMap<String, bool>>);

impl Columns {
    /// Those of the tables on the search path, what the role may not read included.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) async fn of_postgres(snapshot: &mut Snapshot, named: &Named) -> Result<Self, ReadError> {
        let what = "looking at the relay's columns";
        let tables: Vec<&str> = named.iter().map(|(table, _)| *table).collect();
        let rows = snapshot.fetch(what, sqlx::query(include_str!("columns.sql")).bind(tables)).await?;
        let column = |row: &sqlx::postgres::PgRow| {
            Ok((row.try_get("table_name")?, row.try_get("column_name")?, row.try_get("readable")?))
        };
        rows.iter().map(column).collect::<Result<_, _>>().map_err(|error| snapshot.error(what, &error))
    }

    /// The column is there, readable or not.
    pub(crate) fn exists(&self, table: &str, column: &str) -> bool {
        self.0.get(table).is_some_and(|columns| columns.contains_key(column))
    }

    /// The column is there, and this role may read it.
    pub(crate) fn readable(&self, table: &str, column: &str) -> bool {
        self.0.get(table).and_then(|columns| columns.get(column)) == Some(&true)
    }

    pub(crate) fn has_table(&self, table: &str) -> bool {
        self.0.contains_key(table)
    }

    /// Columns that are there and that this role may not read, by table.
    pub(crate) fn unreadable(&self, named: &Named) -> Vec<(&'static str, Vec<&'static str>)> {
        let of = |(table, columns): &(&'static str, &'static str)| {
            let denied = |column: &&'static str| self.exists(table, column) && !self.readable(table, column);
            (*table, columns.split(' ').filter(denied).collect::<Vec<_>>())
        };
        named.iter().map(of).filter(|(_, denied)| !denied.is_empty()).collect()
    }
}

impl FromIterator<(String, String, bool)> for Columns {
    fn from_iter<T: IntoIterator<Item = (String, String, bool)>>(columns: T) -> Self {
        let mut tables = Self::default();
        for (table, column, readable) in columns {
            tables.0.entry(table).or_default().insert(column, readable);
        }
        tables
    }
}

/// A statement in which each name in braces is replaced by what `word` has for it, if anything.
pub(crate) fn fill(statement: &str, word: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(statement.len());
    let mut rest = statement;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        filled.push_str(before);
        filled.push_str(&word(name).unwrap_or_else(|| format!("{{{name}}}")));
        rest = after;
    }
    filled + rest
}
