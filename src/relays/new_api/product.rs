//! The products, as the rest of the program sees them.

use super::unsupported::{NEW_API_UNSUPPORTED, ONE_API_UNSUPPORTED};
use super::{Family, check, demo, open};
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{
    AUDIT_INTERVAL, Absent, HISTORY_BUDGET, MAX_USERS, Setting, TIMEZONE, TIMEZONE_FALLBACK, TOP_USERS, ValueType,
};
use crate::relay::{Need, Product, Store};
use secrecy::SecretString;

const STORES: &[Store] = &[Store::Postgres, Store::MySql, Store::Sqlite];

/// The relay's `LOG_SQL_DSN`: where its log is, if not in its main database.
const LOG_DATABASE_URL: Setting = Setting {
    path: "log_database_url",
    value_type: ValueType::Secret {
        need: |product| if Family::of(product).is_some() { Need::Optional(STORES) } else { Need::Nothing },
        set: |relay, url| relay.own.set(LOG_DATABASE_URL.path, OwnValue::Secret(url)),
    },
    absent: Absent::Nothing,
};

/// The database that the log is in, if not in the main one.
pub(super) fn log_database_url(plan: &RelayPlan) -> Option<&SecretString> {
    plan.own.secret(LOG_DATABASE_URL.path)
}

const SETTINGS: &[Setting] =
    &[LOG_DATABASE_URL, TIMEZONE, TIMEZONE_FALLBACK, AUDIT_INTERVAL, HISTORY_BUDGET, TOP_USERS, MAX_USERS];

/// new-api.
pub static NEW_API: Product = Product {
    label: "new-api",
    database: Need::Required(STORES),
    redis: Need::Nothing,
    // `router/api-router.go`.
    health_path: "/api/status",
    settings: SETTINGS,
    variables: None,
    unsupported: NEW_API_UNSUPPORTED,
    open: |plan| open(plan, Family::NewApi),
    check: |plan| Box::pin(check(plan, Family::NewApi)),
    demo: |options| Box::pin(demo::set_up(options, Family::NewApi)),
};

/// one-api.
pub static ONE_API: Product = Product {
    label: "one-api",
    database: Need::Required(STORES),
    redis: Need::Nothing,
    // v0.6.10 `router/api.go`.
    health_path: "/api/status",
    settings: SETTINGS,
    variables: None,
    unsupported: ONE_API_UNSUPPORTED,
    open: |plan| open(plan, Family::OneApi),
    check: |plan| Box::pin(check(plan, Family::OneApi)),
    demo: |options| Box::pin(demo::set_up(options, Family::OneApi)),
};
