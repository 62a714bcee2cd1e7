//! The relay's `LOG_SQL_DSN`: where its log is, if not in its main database.

use secrecy::SecretString;

use super::Family;
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{Setting, ValueType, optional};
use crate::relay::{Need, Store};

/// What both databases may be.
pub(super) const STORES: &[Store] = &[Store::Postgres, Store::MySql, Store::Sqlite];

pub(super) const LOG_DATABASE_URL: Setting = optional(
    "log_database_url",
    ValueType::Secret {
        need: |product| if Family::of(product).is_some() { Need::Optional(STORES) } else { Need::Nothing },
        set: |relay, url| relay.own.set(LOG_DATABASE_URL.path, OwnValue::Secret(url)),
    },
);

/// The address, where the log is in a database of its own.
pub(super) fn log_database_url(plan: &RelayPlan) -> Option<&SecretString> {
    plan.own.secret(LOG_DATABASE_URL.path)
}
