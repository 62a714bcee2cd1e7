//! Equal names, shared between rows.

use std::collections::HashSet;
use std::sync::Arc;

/// Distinct names that are shared at a time.
const MOST: usize = 10_000;

#[derive(Default)]
pub(crate) struct SharedNames(HashSet<Arc<str>>);

impl SharedNames {
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}
