//! The products, as the rest of the program sees them.

use super::log_database::{LOG_DATABASE_URL, STORES};
use super::unsupported::{NEW_API_UNSUPPORTED, ONE_API_UNSUPPORTED};
use super::{Family, check, demo, open};
use crate::relay::setting::{
    AUDIT_INTERVAL, HISTORY_BUDGET, MAX_USERS, Setting, TIMEZONE, TIMEZONE_FALLBACK, TOP_USERS,
};
use crate::relay::{Need, Product};

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
    other_ledger: |_| None,
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
    other_ledger: |_| None,
    open: |plan| open(plan, Family::OneApi),
    check: |plan| Box::pin(check(plan, Family::OneApi)),
    demo: |options| Box::pin(demo::set_up(options, Family::OneApi)),
};
