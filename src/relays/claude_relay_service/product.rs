//! The product, as the rest of the program sees it.

use super::settings::{FIND_KEYS, TIMEZONE_OFFSET};
use super::{UNSUPPORTED, check, demo, open};
use crate::relay::{Need, Product, Store};

/// claude-relay-service.
pub static PRODUCT: Product = Product {
    label: "claude-relay-service",
    database: Need::Nothing,
    redis: Need::Required(&[Store::Redis]),
    // v1.1.314 `src/app.js`: 200 also without its Redis.
    health_path: "/health",
    settings: &[TIMEZONE_OFFSET, FIND_KEYS],
    variables: None,
    unsupported: UNSUPPORTED,
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
