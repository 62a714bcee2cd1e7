//! The product, as the rest of the program sees it.

use super::{Offset, UNSUPPORTED, check, demo, open};
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{Absent, Setting, ValueType};
use crate::relay::{Need, Product, Store};

/// The relay's `TIMEZONE_OFFSET`, understood as the relay does.
const TIMEZONE_OFFSET: Setting = Setting {
    path: "timezone_offset",
    value_type: ValueType::Offset(|relay, it| relay.own.set(TIMEZONE_OFFSET.path, OwnValue::Text(it))),
    absent: Absent::Means("8"),
};

/// Whether the key space may be searched.
const FIND_KEYS: Setting = Setting {
    path: "find_keys",
    value_type: ValueType::OneOf(&[
        ("index", |relay| relay.own.set(FIND_KEYS.path, OwnValue::Text("index".to_owned()))),
        ("scan", |relay| relay.own.set(FIND_KEYS.path, OwnValue::Text("scan".to_owned()))),
    ]),
    absent: Absent::Means("index"),
};

pub(super) fn offset(plan: &RelayPlan) -> Offset {
    Offset::of(plan.own.text(TIMEZONE_OFFSET.path))
}

/// Whether the key space may be searched.
pub(super) fn may_scan(plan: &RelayPlan) -> bool {
    plan.own.text(FIND_KEYS.path) == "scan"
}

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
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
