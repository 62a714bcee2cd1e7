//! The relays of the demo: each is one entry, and each that can run on this machine does.

use std::pin::Pin;

use super::servers::ServerError;
use super::stage::{DemoOptions, Stage};
use crate::settings::Kind;

/// A relay that the demo can show.
pub struct Entry {
    pub kind: Kind,
    /// Fails with a [`ServerError`] that [is missing](ServerError::is_missing) where this machine has not what it needs.
    set_up: fn(DemoOptions) -> SetUp,
}

type SetUp = Pin<Box<dyn Future<Output = anyhow::Result<Stage>>>>;

/// The last two need nothing, so there is always a demo.
pub static PROGRAM: [Entry; 4] = [
    Entry { kind: Kind::ClaudeCodeHub, set_up: |options| Box::pin(Stage::set_up(options)) },
    Entry { kind: Kind::ClaudeRelayService, set_up: |options| Box::pin(Stage::claude_relay_service(options)) },
    Entry { kind: Kind::GeminiBalance, set_up: |options| Box::pin(Stage::gemini_balance(options)) },
    Entry { kind: Kind::CpaManager, set_up: |options| Box::pin(Stage::cpa_manager(options)) },
];

/// Sets up every relay that can run here, one after the other; says on stderr which cannot, and why. Dropping the future
/// leaves nothing behind.
///
/// # Errors
/// When one that can run here does not start.
pub async fn set_up(options: &DemoOptions) -> anyhow::Result<Vec<(Kind, Stage)>> {
    let mut stages = Vec::new();
    for entry in &PROGRAM {
        match (entry.set_up)(options.clone()).await {
            Ok(stage) => stages.push((entry.kind, stage)),
            Err(error) if error.downcast_ref().is_some_and(ServerError::is_missing) => {
                eprintln!("no {} in this demo: {error}", entry.kind.label());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stages)
}
