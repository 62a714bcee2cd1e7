//! What the last health checks of deployments found.

use async_trait::async_trait;
use chrono::NaiveDateTime;
use sqlx::Row;

use super::identity::Kind;
use super::schema::{Schema, SchemaCache};
use crate::connect::postgres::{Database, Snapshot};
use crate::model::{AccountState, AccountTest, Directory, Live, ReadError};
use crate::relay::LiveState;

pub(super) struct LiveReader {
    database: Database,
    schema: SchemaCache,
}

impl LiveReader {
    pub(super) fn new(database: Database) -> Self {
        Self { database, schema: SchemaCache::default() }
    }

    async fn read_all(&mut self, snapshot: &mut Snapshot) -> Result<Live, ReadError> {
        let schema = self.schema.get(None, Schema::detect(snapshot)).await?;
        let mut live = Live::default();
        if schema.reads("LiteLLM_HealthCheckTable") {
            let what = "reading health checks";
            for row in snapshot.fetch(what, sqlx::query(include_str!("sql/health.sql"))).await? {
                let mut read = || {
                    let id = Kind::Deployment.number(row.try_get("model_id")?);
                    let state =
                        if row.try_get("healthy")? { AccountState::Normal } else { AccountState::Error };
                    live.accounts.push((id.into(), state));
                    let took: Option<f64> = row.try_get("response_time_ms")?;
                    let at = row.try_get::<NaiveDateTime, _>("checked_at")?.and_utc();
                    let duration_ms = took.filter(|took| (0.0..1e12).contains(took)).map(|took| took as u64);
                    live.tests.extend(duration_ms.map(|duration_ms| AccountTest { provider_id: id.into(), duration_ms, at }));
                    Ok(())
                };
                read().map_err(|error: sqlx::Error| snapshot.error(what, &error))?;
            }
        }
        Ok(live)
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut snapshot = self.database.snapshot().await?;
        let result = self.read_all(&mut snapshot).await;
        self.database.finish(snapshot).await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}
