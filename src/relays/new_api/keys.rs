//! Keys by user and name: one-api's rows have no ids of keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::schema::Schema;
use crate::connect::sql::{Cells, Session, Value};
use crate::model::ReadError;

pub(super) const TOKENS: &str = include_str!("sql/tokens.sql");
/// Rows of one statement: some milliseconds of SQLite.
const PAGE: i64 = 5_000;
const MAX_AGE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct KeyNames {
    read: Option<Instant>,
    /// `None` where several keys of a user have the name.
    ids: HashMap<(i64, String), Option<i64>>,
}

impl KeyNames {
    /// The only key of that user and name.
    pub(super) fn id(&self, user_id: i64, name: &str) -> Option<i64> {
        *self.ids.get(&(user_id, name.to_owned()))?
    }

    /// Reads them again when they are old.
    pub(super) async fn renew(&mut self, session: &mut Session, schema: &Schema) -> Result<(), ReadError> {
        if self.read.is_some_and(|read| read.elapsed() < MAX_AGE) {
            return Ok(());
        }
        let text = schema.fit(TOKENS);
        let read = pages(session, "reading keys", &text, |row| {
            let name = row.text("name")?.unwrap_or_default().into_owned();
            let id = row.int("id")?.unwrap_or(0);
            Ok((id, (id, row.int("user_id")?.unwrap_or(0), name)))
        });
        let mut ids: HashMap<(i64, String), Option<i64>> = HashMap::new();
        for (id, user_id, name) in read.await? {
            ids.entry((user_id, name)).and_modify(|known| *known = None).or_insert(Some(id));
        }
        *self = Self { read: Some(Instant::now()), ids };
        Ok(())
    }
}

/// Every row of a table, page by page; each is read with its id. What cannot be understood is told, and left out.
pub(super) async fn pages<T>(
    session: &mut Session,
    what: &str,
    text: &str,
    read: impl Fn(&dyn Cells) -> Result<(i64, T), sqlx::Error>,
) -> Result<Vec<T>, ReadError> {
    let mut all = Vec::new();
    let mut after = i64::MIN;
    loop {
        let page = session.fetch(what, text, &[Value::Int(after), Value::Int(PAGE)], &read).await?;
        let (is_last, before) = ((page.len() as i64) < PAGE, after);
        for row in page {
            match row {
                Ok((id, row)) => {
                    after = id;
                    all.push(row);
                }
                Err(error) => tracing::warn!(%error, "{what}: left out a row that could not be understood"),
            }
        }
        if is_last || after == before {
            return Ok(all);
        }
    }
}
