//! The product, as the rest of the program sees it.

use super::demo;
use super::ledger::Reader;
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;
use crate::relay::setting::{AUDIT_INTERVAL, HISTORY_BUDGET, MAX_USERS, TOP_USERS};
use crate::relay::{Need, OpenError, Product, Relay, Store, Unsupported, Usage};

pub(crate) static PRODUCT: Product = Product {
    label: "stub",
    database: Need::Required(&[Store::Sqlite]),
    redis: Need::Nothing,
    health_path: "/health",
    settings: &[AUDIT_INTERVAL, HISTORY_BUDGET, TOP_USERS, MAX_USERS],
    variables: None,
    unsupported: &[
        Unsupported::metrics("the table has requests and nothing else", &["llm_relay_provider_", "llm_relay_key_"]),
        Unsupported::teams("the table knows no teams"),
    ],
    other_ledger: |_| None,
    open,
    check: |plan| Box::pin(check(plan)),
    demo: |options| Box::pin(demo::set_up(options)),
};

fn open(plan: &RelayPlan) -> Result<Relay, OpenError> {
    let (usage, directory) = (Reader::new(plan)?, Reader::new(plan)?);
    Ok(Relay { usage: Usage::Rows(Box::new(usage)), live: None, directory: Box::new(directory) })
}

async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    match Reader::new(plan)?.top().await {
        Ok(top) => report.ok("requests", format!("the newest is {top}")),
        Err(error) => report.problem("requests", error.text),
    }
    Ok(report)
}
