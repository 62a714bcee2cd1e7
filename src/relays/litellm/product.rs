//! The product, as the rest of the program sees it.

use super::unsupported::UNSUPPORTED;
use super::{ModelName, USAGE_PATH, check, counts_days, demo, open};
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{
    AUDIT_INTERVAL, Absent, HISTORY_BUDGET, MAX_TEAMS, MAX_USERS, Setting, TOP_TEAMS, TOP_USERS, ValueType,
};
use crate::relay::{Need, Product, Store};

/// Which name the label `model` has.
const MODEL_NAME: Setting = Setting {
    path: "model_name",
    value_type: ValueType::OneOf(&[
        ("group", |relay| relay.own.set(MODEL_NAME.path, OwnValue::Text("group".to_owned()))),
        ("model", |relay| relay.own.set(MODEL_NAME.path, OwnValue::Text("model".to_owned()))),
    ]),
    absent: Absent::Means("group"),
};

/// Where usage comes from.
const USAGE: Setting = Setting {
    path: USAGE_PATH,
    value_type: ValueType::OneOf(&[
        ("rows", |relay| relay.own.set(USAGE_PATH, OwnValue::Text("rows".to_owned()))),
        ("days", |relay| relay.own.set(USAGE_PATH, OwnValue::Text("days".to_owned()))),
    ]),
    absent: Absent::Means("rows"),
};

pub(super) fn model_name(plan: &RelayPlan) -> ModelName {
    if plan.own.text(MODEL_NAME.path) == "model" { ModelName::Sent } else { ModelName::Group }
}

fn other_ledger(plan: &RelayPlan) -> Option<&'static str> {
    counts_days(plan).then(|| match model_name(plan) {
        ModelName::Group => "litellm days",
        ModelName::Sent => "litellm days by model",
    })
}

/// LiteLLM.
pub static PRODUCT: Product = Product {
    label: "litellm",
    database: Need::Required(&[Store::Postgres]),
    redis: Need::Nothing,
    // `litellm/proxy/health_endpoints/_health_endpoints.py`: without a key, 503 without its database.
    health_path: "/health/readiness",
    settings: &[MODEL_NAME, USAGE, AUDIT_INTERVAL, HISTORY_BUDGET, TOP_USERS, TOP_TEAMS, MAX_USERS, MAX_TEAMS],
    variables: None,
    unsupported: UNSUPPORTED,
    other_ledger,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
