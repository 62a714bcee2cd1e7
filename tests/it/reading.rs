//! A follower read to its end, and what it says.

use std::collections::BTreeMap;

use bytes::Bytes;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::store::Kept;
use llm_relay_exporter::tally::Presentation;
use llm_relay_exporter::view::LedgerView;

/// Reads until nothing is left to read, and once more for the audit.
pub async fn settle(follower: &mut Follower) {
    for _ in 0..2 {
        let mut rest = follower.refresh().await.unwrap();
        for turn in 0.. {
            if rest == Backlog::Nothing {
                break;
            }
            assert!(turn < 10_000, "no end of {rest:?}");
            rest = match rest {
                Backlog::NewRows => follower.refresh().await.unwrap(),
                _ => follower.read_history().await.unwrap(),
            };
        }
    }
}

pub fn view(follower: &mut Follower, plan: &RelayPlan, directory: &Directory) -> LedgerView {
    let with = Presentation { directory: Some(directory), live: None, boards: &plan.boards, series: &plan.series };
    follower.view(&with).unwrap()
}

/// What a follower says, and what the relay's own windows say at that time. The server's clock runs: what it moves out of a
/// window between two looks cannot be compared.
pub async fn view_beside<W: PartialEq>(
    follower: &mut Follower,
    plan: &RelayPlan,
    directory: &Directory,
    mut windows: impl AsyncFnMut() -> W,
) -> (LedgerView, W) {
    for _ in 0..100 {
        let before = windows().await;
        settle(follower).await;
        let view = view(follower, plan, directory);
        if windows().await == before {
            return (view, before);
        }
    }
    panic!("the windows never stand still");
}

/// What a store holds of a follower.
#[derive(Default)]
pub struct Saved(pub BTreeMap<String, Bytes>);

impl Saved {
    pub fn save(&mut self, follower: &mut Follower) {
        let parts = follower.parts(self.0.is_empty()).unwrap().unwrap();
        self.0.retain(|key, _| parts.iter().any(|(part, _)| part == key));
        self.0.extend(parts.into_iter().filter_map(|(key, bytes)| Some((key, bytes?.get()))));
    }

    /// A fresh follower goes on from here.
    pub fn restored(&self, mut follower: Follower) -> Follower {
        follower.restore(self.0.clone()).unwrap();
        follower
    }
}
