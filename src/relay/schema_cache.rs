//! What a store's tables look like, looked at again now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{ReadError, Reason};

/// How long the answer is trusted: an upgrade of the relay adds columns without an error here.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

pub(crate) struct SchemaCache<S>(Option<(Instant, Arc<S>)>);

impl<S> Default for SchemaCache<S> {
    fn default() -> Self {
        Self(None)
    }
}

impl<S> SchemaCache<S> {
    /// What is known, or else what `detect` finds; it is polled only then.
    ///
    /// # Errors
    /// Those of `detect`.
    pub(crate) async fn get(
        &mut self,
        detect: impl Future<Output = Result<S, ReadError>>,
    ) -> Result<Arc<S>, ReadError> {
        if let Some((since, schema)) = &self.0
            && since.elapsed() < MAX_AGE
        {
            return Ok(Arc::clone(schema));
        }
        let schema = Arc::new(detect.await?);
        self.0 = Some((Instant::now(), Arc::clone(&schema)));
        Ok(schema)
    }

    /// A statement that does not fit: perhaps the relay was replaced by another version.
    pub(crate) fn forget_after(&mut self, error: &ReadError) {
        if error.reason == Reason::Schema {
            self.0 = None;
        }
    }
}
