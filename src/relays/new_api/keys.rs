//! Keys by user and name: one-api's rows have no ids of keys.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::schema::Schema;
use crate::connect::sql::{Session, Value};
use crate::model::ReadError;

pub(super) const TOKENS: &str = include_str!("sql/tokens.sql");
/// Rows of one statement: some milliseconds of SQLite.
pub(super) const PAGE: i64 = 5_000;
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
        let mut ids: HashMap<(i64, String), Option<i64>> = HashMap::new();
        let mut after = i64::MIN;
        loop {
            let values = [Value::Int(after), Value::Int(PAGE)];
            let page = session.fetch_good("reading keys", &text, &values, |row| {
                let name = row.text("name")?.unwrap_or_default().into_owned();
                Ok((row.int("id")?.unwrap_or(0), row.int("user_id")?.unwrap_or(0), name))
            });
            let page = page.await?;
            let Some((last, ..)) = page.last() else { break };
            after = *last;
            for (id, user_id, name) in page {
                ids.entry((user_id, name)).and_modify(|known| *known = None).or_insert(Some(id));
            }
        }
        *self = Self { read: Some(Instant::now()), ids };
        Ok(())
    }
}
