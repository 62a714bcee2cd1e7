//! What a store's tables look like, looked at again now and then, and when the store says that they have changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{ReadError, Reason};

/// How long the answer is trusted where the store tells no version: an upgrade of the relay adds columns without an error
/// here.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

pub(crate) struct SchemaCache<S>(Option<Known<S>>);

struct Known<S> {
    since: Instant,
    version: Option<i64>,
    schema: Arc<S>,
}

impl<S> Default for SchemaCache<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> SchemaCache<S> {
    /// What is known of the store's `version` of its schema, where it has one, or else what `detect` finds; it is polled
    /// only then.
    ///
    /// # Errors
    /// Those of `detect`.
    pub(crate) async fn get(
        &mut self,
        version: Option<i64>,
        detect: impl Future<Output = Result<S, ReadError>>,
    ) -> Result<Arc<S>, ReadError> {
        if let Some(known) = &self.0
            && known.version == version
            && known.since.elapsed() < MAX_AGE
        {
            return Ok(Arc::clone(&known.schema));
        }
        let schema = Arc::new(detect.await?);
        self.0 = Some(Known { since: Instant::now(), version, schema: Arc::clone(&schema) });
        Ok(schema)
    }

    /// A statement that does not fit: perhaps the relay was replaced by another version.
    pub(crate) fn forget_after(&mut self, error: &ReadError) {
        if error.reason == Reason::Schema {
            self.0 = None;
        }
    }
}
