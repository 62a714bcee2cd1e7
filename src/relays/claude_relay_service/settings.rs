//! The settings that only this relay has.

use super::Offset;
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{Absent, Setting, ValueType};

/// The relay's `TIMEZONE_OFFSET`, understood as the relay does.
pub(super) const TIMEZONE_OFFSET: Setting = Setting {
    path: "timezone_offset",
    value_type: ValueType::Offset(|relay, it| relay.own.set(TIMEZONE_OFFSET.path, OwnValue::Text(it))),
    absent: Absent::Means("8"),
};

/// Whether the key space may be searched.
pub(super) const FIND_KEYS: Setting = Setting {
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
