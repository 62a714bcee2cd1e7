//! The upstreams that rows name: deployments of models, some of which stand in no table but in LiteLLM's own file.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::identity::Kind;
use crate::parts::{Part, PartError, decoded, encoded};

/// Deployments whose names are remembered.
const MOST: usize = 10_000;

const PART: &str = "deployments";

/// One upstream, as rows name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Deployment {
    /// The public name of its models; empty where none was chosen.
    pub group: String,
    /// LiteLLM's word for who provides it.
    pub provider: String,
}

/// What the ledger has seen of them, for the directory.
#[derive(Clone, Default)]
pub(super) struct Deployments(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    by_number: BTreeMap<i64, Deployment>,
    /// Who calls without a key of the table, by the key's number.
    callers: BTreeMap<i64, String>,
    is_written: bool,
}

/// Keys that stand in no table, and what they are (`litellm/constants.py`, 1.110.2). Health checks have the hash as well.
const CALLERS: [(&str, &str); 4] = [
    ("litellm-internal-health-check", "health checks"),
    ("2ee659761968def976c7905217d96fa6e765f300dfb066f6c73fd3c279b3435a", "health checks"),
    ("litellm_proxy_master_key", "master key"),
    ("litellm-cli", "command line"),
];

impl Deployments {
    /// The number of the deployment that answered, else of the provider; 0 where nobody was chosen.
    pub(super) fn number(&self, model_id: &str, provider: &str, group: &str) -> i64 {
        let (number, group) = match model_id {
            "" => (Kind::Provider.number(provider), ""),
            _ => (Kind::Deployment.number(model_id), group),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if number > 0 && known.by_number.len() < MOST && !known.by_number.contains_key(&number) {
            known.by_number.insert(number, Deployment { group: group.to_owned(), provider: provider.to_owned() });
            known.is_written = false;
        }
        number
    }

    /// Notes a key that has a name but stands in no table.
    pub(super) fn note_caller(&self, number: i64, api_key: &str) {
        let Some(name) = caller_name(api_key) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.callers.insert(number, name.to_owned()).is_none() {
            known.is_written = false;
        }
    }

    pub(super) fn callers(&self) -> BTreeMap<i64, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).callers.clone()
    }

    pub(super) fn all(&self) -> BTreeMap<i64, Deployment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_number.clone()
    }

    pub(super) fn part(&self, all: bool) -> Result<Part, PartError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_written && !all {
            return Ok((PART.to_owned(), None));
        }
        let part = encoded(PART, &(&known.by_number, &known.callers))?;
        known.is_written = true;
        Ok(part)
    }

    pub(super) fn restore(&self, parts: &BTreeMap<String, Bytes>) -> Result<(), PartError> {
        let (by_number, callers) = decoded(parts, PART)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known { by_number, callers, is_written: false };
        Ok(())
    }
}

fn caller_name(api_key: &str) -> Option<&'static str> {
    CALLERS.iter().find(|(key, _)| *key == api_key).map(|(_, name)| *name)
}
