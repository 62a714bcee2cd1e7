//! A PostgreSQL database, and what is known of its schema.

use std::sync::Arc;

use super::schema_cache::SchemaCache;
use crate::connect::postgres::{Database, Snapshot};
use crate::model::ReadError;

/// What a relay's tables look like.
pub(crate) trait Schema: Sized {
    /// Looks at them.
    ///
    /// # Errors
    /// Those of reading, and when they are none of the relay's.
    async fn detect(snapshot: &mut Snapshot) -> Result<Self, ReadError>;
}

/// One connection, which several readers may share.
pub(crate) struct KnownDatabase<S> {
    database: Database,
    schema: SchemaCache<S>,
}

impl<S: Schema> KnownDatabase<S> {
    pub(crate) fn new(database: Database) -> Self {
        Self { database, schema: SchemaCache::default() }
    }

    pub(crate) fn database(&mut self) -> &mut Database {
        &mut self.database
    }

    /// A snapshot, and what is there to be read.
    ///
    /// # Errors
    /// Those of connecting and of looking at the schema.
    pub(crate) async fn snapshot(&mut self) -> Result<(Snapshot, Arc<S>), ReadError> {
        let mut snapshot = self.database.snapshot().await?;
        match self.schema.get(None, S::detect(&mut snapshot)).await {
            Ok(schema) => Ok((snapshot, schema)),
            Err(error) => self.end(snapshot, Err(error)).await,
        }
    }

    /// Ends a snapshot from which this was read.
    ///
    /// # Errors
    /// That of `result`.
    pub(crate) async fn end<T>(&mut self, snapshot: Snapshot, result: Result<T, ReadError>) -> Result<T, ReadError> {
        self.database.finish(snapshot).await;
        result.inspect_err(|error| self.schema.forget_after(error))
    }
}
