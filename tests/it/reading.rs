//! A follower read to its end, and what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use llm_relay_exporter::follow::{Backlog, Follower};
use llm_relay_exporter::model::{Directory, Live};
use llm_relay_exporter::relay::{self, Ledger, Product, Usage};
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::store::Kept;
use llm_relay_exporter::tally::Presentation;
use llm_relay_exporter::view::LedgerView;

/// A relay as differential tests read it.
pub fn plan(url: &str, product: &'static Product) -> RelayPlan {
    RelayPlan {
        database_url: url.to_owned().into(),
        directory_interval: Duration::from_secs(5),
        timeout: Duration::from_secs(30),
        // Every refresh audits, so that nothing may be wrong even for a moment.
        audit_interval: Duration::ZERO,
        history_budget: Duration::from_secs(60),
        ..RelayPlan::new("test", product)
    }
}

/// Another seed plays another story: `DIFFERENTIAL_SEED=7 cargo test --test it differential`.
pub fn seed(seed: u64) -> u64 {
    seed + std::env::var("DIFFERENTIAL_SEED").map_or(0, |more| 1000 * more.parse::<u64>().unwrap())
}

/// The ledger of a relay opened anew.
pub fn ledger(plan: &RelayPlan) -> Box<dyn Ledger> {
    rows_of(relay::open(plan).unwrap().usage)
}

pub fn rows_of(usage: Usage) -> Box<dyn Ledger> {
    match usage {
        Usage::Rows(ledger) => ledger,
        Usage::Counters(_) => unreachable!("the relay keeps rows"),
    }
}

pub fn follower(plan: &RelayPlan) -> Follower {
    Follower::new(ledger(plan), plan)
}

pub async fn directory(plan: &RelayPlan) -> Directory {
    relay::open(plan).unwrap().directory.read().await.unwrap()
}

pub async fn parts(plan: &RelayPlan) -> (Directory, Live) {
    let mut relay = relay::open(plan).unwrap();
    let directory = relay.directory.read().await.unwrap();
    let live = relay.live.as_mut().unwrap().read(&directory).await.unwrap();
    (directory, live)
}

/// What one fresh exporter says of a database.
pub async fn whole_view(plan: &RelayPlan) -> LedgerView {
    let directory = directory(plan).await;
    let mut follower = follower(plan);
    settle(&mut follower).await;
    view(&mut follower, plan, &directory)
}

/// Reads until nothing is left to read.
pub async fn read_all(follower: &mut Follower) {
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

/// Reads until nothing is left to read, and once more for the audit.
pub async fn settle(follower: &mut Follower) {
    read_all(follower).await;
    read_all(follower).await;
}

pub fn view<'a>(follower: &mut Follower, plan: &RelayPlan, directory: impl Into<Option<&'a Directory>>) -> LedgerView {
    let with = Presentation { directory: directory.into(), live: None, boards: &plan.boards, series: &plan.series };
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
        self.keep(follower.parts(self.0.is_empty()).unwrap().unwrap(), |bytes| bytes.get());
    }

    /// Writes what has changed over what was saved before.
    pub fn keep<B>(&mut self, parts: Vec<(String, Option<B>)>, bytes: impl Fn(B) -> Bytes) {
        self.0.retain(|key, _| parts.iter().any(|(part, _)| part == key));
        self.0.extend(parts.into_iter().filter_map(|(key, it)| Some((key, bytes(it?)))));
    }

    /// A fresh follower goes on from here.
    pub fn restored(&self, mut follower: Follower) -> Follower {
        follower.restore(self.0.clone()).unwrap();
        follower
    }
}
