//! What can be read and what cannot, for people: the answer of `check`.

use crate::connect::address::OpenError;
use crate::relay::plan::RelayPlan;
pub use crate::relay::report::{Finding, Level, Report};
use crate::settings::Plan;
use crate::store::{Owner, Store};

/// Looks at one relay's stores and at its health address; changes nothing.
///
/// # Errors
/// When an address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = (plan.product.check)(plan).await?;
    match plan.health.target() {
        None => report.note(
            "health",
            format!(
                "nobody asks the relay whether it answers: set `health_url`, like http://relay:3000{}",
                plan.product.health_path
            ),
        ),
        Some(target) => match target.probe().await {
            Ok(status) => report.ok("health", format!("{} answers {status}", target.url)),
            Err(failure) => report.problem("health", failure.to_string()),
        },
    }
    Ok(report)
}

/// Looks at the exporter's own store; changes nothing.
pub async fn store(plan: &Plan) -> Report {
    let mut report = Report::default();
    let Some(store) = &plan.store else {
        report.note("store", "none: every start reads all of the relay again, and what the relay deletes is forgotten");
        return report;
    };
    let owners: Vec<_> = plan.relays.values().map(Owner::of).collect();
    let looked = async {
        let store = Store::open(store)?;
        let seen = store.inspect(&owners).await?;
        Ok::<_, crate::store::StoreError>((store, seen))
    };
    match looked.await {
        Err(error) => report.problem("store", error.to_string()),
        Ok((store, None)) => report.ok("store", format!("{} is not there yet and can be made", store.endpoint())),
        Ok((store, Some(seen))) => {
            report.ok("store", format!("{} can be opened", store.endpoint()));
            for (Owner { relay, .. }, checkpoint) in owners.iter().zip(seen) {
                match checkpoint {
                    None => report.note("checkpoint", format!("none of {relay} yet: it will be read from the start")),
                    Some(checkpoint) => {
                        let bytes: usize = checkpoint.parts.values().map(|bytes| bytes.len()).sum();
                        let (parts, saves) = (checkpoint.parts.len(), checkpoint.generation);
                        report
                            .ok("checkpoint", format!("of {relay}: {parts} parts, {bytes} bytes, save number {saves}"));
                    }
                }
            }
        }
    }
    report
}
