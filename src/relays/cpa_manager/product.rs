//! The product, as the rest of the program sees it.

use super::{UNSUPPORTED, check, demo, open};
use crate::relay::setting::{AUDIT_INTERVAL, HISTORY_BUDGET, TIMEZONE, TIMEZONE_FALLBACK};
use crate::relay::{Need, Product, Store};

/// CPA-Manager and CPA-Manager-Plus.
pub static PRODUCT: Product = Product {
    label: "cpa-manager",
    database: Need::Required(&[Store::Sqlite]),
    redis: Need::Nothing,
    // Of CLIProxyAPI, which the manager watches and which serves the requests: v7.2.140 `internal/api/server_routes.go`.
    health_path: "/healthz",
    settings: &[AUDIT_INTERVAL, HISTORY_BUDGET, TIMEZONE, TIMEZONE_FALLBACK],
    variables: None,
    unsupported: UNSUPPORTED,
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
