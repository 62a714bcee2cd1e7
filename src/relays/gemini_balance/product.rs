//! The product, as the rest of the program sees it.

use super::{UNSUPPORTED, check, demo, open};
use crate::relay::setting::{AUDIT_INTERVAL, HISTORY_BUDGET, TIMEZONE, TIMEZONE_FALLBACK};
use crate::relay::{Need, Product, Store};

/// gemini-balance.
pub static PRODUCT: Product = Product {
    label: "gemini-balance",
    database: Need::Required(&[Store::MySql, Store::Sqlite]),
    redis: Need::Nothing,
    // 2.2.8 `app/router/routes.py`.
    health_path: "/health",
    settings: &[AUDIT_INTERVAL, HISTORY_BUDGET, TIMEZONE, TIMEZONE_FALLBACK],
    variables: None,
    unsupported: UNSUPPORTED,
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
