//! The product, as the rest of the program sees it.

use std::time::Duration;

use super::unsupported::UNSUPPORTED;
use super::{check, demo, open};
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{
    AUDIT_INTERVAL, DAY, HISTORY_BUDGET, MAX_USERS, MINUTE, Setting, TIMEZONE, TIMEZONE_FALLBACK, TOP_USERS, duration,
};
use crate::relay::{Need, Product, Store};

/// The relay's `gateway.concurrency_slot_ttl_minutes`: how long a slot counts after it was taken.
const SLOT_TTL: Setting =
    duration("slot_ttl", MINUTE, DAY, "30m", |relay, it| relay.own.set(SLOT_TTL.path, OwnValue::Duration(it)));

pub(super) fn slot_ttl(plan: &RelayPlan) -> Duration {
    plan.own.duration(SLOT_TTL.path)
}

/// sub2api.
pub static PRODUCT: Product = Product {
    label: "sub2api",
    database: Need::Required(&[Store::Postgres]),
    redis: Need::Optional(&[Store::Redis]),
    // 0.1.179 `backend/internal/server/routes/common.go`.
    health_path: "/health",
    settings: &[SLOT_TTL, TIMEZONE, TIMEZONE_FALLBACK, AUDIT_INTERVAL, HISTORY_BUDGET, TOP_USERS, MAX_USERS],
    variables: None,
    unsupported: UNSUPPORTED,
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
