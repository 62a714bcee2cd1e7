//! What the last health checks of deployments found.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::NaiveDateTime;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;

use super::identity::Kind;
use super::schema::Schema;
use crate::connect::postgres::Snapshot;
use crate::model::{AccountState, AccountTest, Directory, Live, ReadError};
use crate::relay::LiveState;
use crate::relay::known_database::KnownDatabase;

pub(super) struct LiveReader {
    database: Arc<Mutex<KnownDatabase<Schema>>>,
}

impl LiveReader {
    pub(super) fn new(database: Arc<Mutex<KnownDatabase<Schema>>>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl LiveState for LiveReader {
    async fn read(&mut self, _: &Directory) -> Result<Live, ReadError> {
        let mut database = self.database.lock().await;
        let (mut snapshot, schema) = database.snapshot().await?;
        let result =
            if schema.reads("LiteLLM_HealthCheckTable") { health(&mut snapshot).await } else { Ok(Live::default()) };
        database.end(snapshot, result).await
    }
}

async fn health(snapshot: &mut Snapshot) -> Result<Live, ReadError> {
    let what = "reading health checks";
    let mut live = Live::default();
    for row in snapshot.fetch(what, sqlx::query(include_str!("sql/health.sql"))).await? {
        note(&row, &mut live).map_err(|error| snapshot.error(what, &error))?;
    }
    Ok(live)
}

fn note(row: &PgRow, live: &mut Live) -> Result<(), sqlx::Error> {
    let id = Kind::Deployment.number(row.try_get("model_id")?);
    let state = if row.try_get("healthy")? { AccountState::Normal } else { AccountState::Error };
    live.accounts.push((id.into(), state));
    let took: Option<f64> = row.try_get("response_time_ms")?;
    let at = row.try_get::<NaiveDateTime, _>("checked_at")?.and_utc();
    let duration_ms = took.filter(|took| (0.0..1e12).contains(took)).map(|took| took as u64);
    live.tests.extend(duration_ms.map(|duration_ms| AccountTest { provider_id: id.into(), duration_ms, at }));
    Ok(())
}
