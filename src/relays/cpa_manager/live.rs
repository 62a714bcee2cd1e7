//! What the manager knows beside its events: how the collector does, quota windows and cooldowns of credentials.

use async_trait::async_trait;
use sqlx::Row;

use super::Clock;
use super::row::IMPORTED_MS;
use super::schema::SchemaCache;
use crate::model::{Collector, Directory, Live, ReadError};
use crate::relays::LiveState;
use crate::sql::sqlite::{File, Snapshot};

pub(super) const COLLECTOR: &str = include_str!("collector.sql");

pub struct LiveReader {
    file: File,
    clock: Clock,
    schema: SchemaCache,
}

impl LiveReader {
    pub fn new(file: File, clock: Clock) -> Self {
        Self { file, clock, schema: SchemaCache::default() }
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot) -> Result<Live, ReadError> {
        let schema = self.schema.get(snapshot).await?;
        Ok(Live { collector: Some(collector(snapshot).await?), ..Live::default() })
    }
}

async fn collector(snapshot: &mut Snapshot) -> Result<Collector, ReadError> {
    let what = "looking at the collector";
    let row = snapshot.fetch_one(what, sqlx::query(COLLECTOR)).await?;
    let number = |column| row.try_get::<Option<i64>, _>(column).map_err(|error| snapshot.error(what, &error));
    let arrived = (number("timestamp_ms")?, number("latency_ms")?, number("created_at_ms")?);
    let delay_ms = match arrived {
        // An import tells nothing about the collector.
        (Some(start), Some(latency), Some(created)) if created.saturating_sub(start) < IMPORTED_MS => {
            Some(created.saturating_sub(start).saturating_sub(latency).max(0))
        }
        _ => None,
    };
    let dead_letters = number("dead_letters")?.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
    Ok(Collector { delay_seconds: delay_ms.map(|ms| ms as f64 / 1e3), dead_letters })
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut snapshot = self.file.snapshot().await?;
        let result = self.read_all(&mut snapshot).await;
        self.file.finish(snapshot).await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}
