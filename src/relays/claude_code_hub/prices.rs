//! What the relay's price table says about cached input.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::schema::Schema;
use crate::connect::postgres::Snapshot;
use crate::model::ReadError;

const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// By model: what one cached token saves, in US dollars, since when; ascending.
#[derive(Default)]
pub(crate) struct Prices {
    read_at: Option<Instant>,
    savings: HashMap<String, Vec<(DateTime<Utc>, Decimal)>>,
}

impl Prices {
    /// Reads the table anew when it was read some minutes ago. A table that may not be read has no prices.
    pub(crate) async fn renew(&mut self, snapshot: &mut Snapshot, schema: &Schema) -> Result<(), ReadError> {
        if self.read_at.is_some_and(|at| at.elapsed() < MAX_AGE) {
            return Ok(());
        }
        self.savings.clear();
        if schema.readable("model_prices", &["id", "model_name", "price_data", "created_at"]) {
            for row in snapshot.fetch("reading model prices", sqlx::query(include_str!("prices.sql"))).await? {
                // A price that is no number is no price.
                if let Some((model, since, saving)) = saving(&row) {
                    self.savings.entry(model).or_default().push((since, saving));
                }
            }
        }
        self.read_at = Some(Instant::now());
        Ok(())
    }

    /// What `tokens` cached tokens saved at the price of that time, or at the first known one; before multipliers.
    pub(crate) fn cache_saved(&self, model: &str, at: DateTime<Utc>, tokens: u64) -> Option<Decimal> {
        let savings = self.savings.get(model)?;
        let later = savings.partition_point(|(since, _)| *since <= at);
        let (_, saving) = savings.get(later.saturating_sub(1))?;
        saving.checked_mul(Decimal::from(tokens))
    }
}

fn saving(row: &PgRow) -> Option<(String, DateTime<Utc>, Decimal)> {
    let price = |column| {
        let text: &str = row.try_get(column).ok()?;
        text.parse().or_else(|_| Decimal::from_scientific(text)).ok()
    };
    let saving = price("input")?.checked_sub(price("cache_read")?)?;
    Some((row.try_get("model_name").ok()?, row.try_get("created_at").ok()?, saving))
}
