//! The product, as the rest of the program sees it.

use std::time::Duration;

use super::{UNSUPPORTED, check, demo, open};
use crate::relay::plan::{OwnValue, RelayPlan};
use crate::relay::setting::{
    AUDIT_INTERVAL, HISTORY_BUDGET, MAX_USERS, SECOND, Setting, TIMEZONE, TIMEZONE_FALLBACK, TOP_USERS, WEEK, duration,
};
use crate::relay::{Need, Product, Store, Variables};

/// The relay's `SESSION_TTL`: how long after its last activity a session counts as live.
const SESSION_TTL: Setting =
    duration("session_ttl", SECOND, WEEK, "300s", |relay, it| relay.own.set(SESSION_TTL.path, OwnValue::Duration(it)));

/// How long after its last activity a session counts as live.
pub(crate) fn session_ttl(plan: &RelayPlan) -> Duration {
    plan.own.duration(SESSION_TTL.path)
}

/// Claude Code Hub.
pub static PRODUCT: Product = Product {
    label: "claude-code-hub",
    database: Need::Required(&[Store::Postgres]),
    redis: Need::Optional(&[Store::Redis]),
    // v0.9.2 `src/app/api/health/ready/route.ts`, since v0.7.1; 503 without its database.
    health_path: "/api/health/ready",
    settings: &[SESSION_TTL, TIMEZONE, TIMEZONE_FALLBACK, AUDIT_INTERVAL, HISTORY_BUDGET, TOP_USERS, MAX_USERS],
    variables: Some(Variables {
        name: "Claude Code Hub",
        database: ["DATABASE_URL", "DSN"],
        redis: "REDIS_URL",
        zone: "TZ",
    }),
    unsupported: UNSUPPORTED,
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};
