//! What the last health checks of deployments found, and how LiteLLM's own processes are.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::Mutex;

use super::identity::Kind;
use super::schema::{DELIVERIES, Schema, WORKERS};
use super::statements;
use crate::connect::postgres::Snapshot;
use crate::model::{AccountState, Directory, Live, ReadError};
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
        let result = look(&mut snapshot, &schema).await;
        database.end(snapshot, result).await
    }
}

async fn look(snapshot: &mut Snapshot, schema: &Schema) -> Result<Live, ReadError> {
    let mut live = Live::default();
    if schema.reads("LiteLLM_HealthCheckTable") {
        let what = "reading health checks";
        for row in snapshot.fetch(what, sqlx::query(include_str!("sql/health.sql"))).await? {
            note(&row, &mut live).map_err(|error| snapshot.error(what, &error))?;
        }
    }
    if schema.reads(WORKERS) {
        live.workers_alive = Some(statements::workers_alive(snapshot).await?);
    }
    if schema.reads(DELIVERIES) {
        let (pending, parked) = statements::backlog(snapshot).await?;
        live.unaccounted = vec![("pending", pending), ("parked", parked)];
    }
    Ok(live)
}

fn note(row: &PgRow, live: &mut Live) -> Result<(), sqlx::Error> {
    let id = Kind::Deployment.number(row.try_get("model_id")?);
    let state = if row.try_get("healthy")? { AccountState::Normal } else { AccountState::Error };
    live.accounts.push((id.into(), state));
    Ok(())
}
