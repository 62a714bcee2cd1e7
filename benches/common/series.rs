//! Views that make a page of a given size.

use std::sync::Arc;

use llm_relay_exporter::view::{CountersView, LedgerView, NameMode, TrafficView, View};

/// Five series for each of many models: three outcomes, a cost, a token count.
pub fn views(series: usize) -> Vec<View> {
    let traffic = (0..series / 5).map(|n| TrafficView {
        provider_id: (n % 40).to_string(),
        model: format!("claude-sonnet-4-{n}"),
        requests: [n as u64 + 1, 2, 3],
        cost_usd: Some(n as f64 * 0.012_345_678),
        account_cost_usd: None,
        list_cost_usd: None,
        tokens: vec![("output", n as u64 * 731)],
        cache_saved_usd: None,
    });
    let counters = CountersView { traffic: traffic.collect(), ..CountersView::default() };
    let ledger = LedgerView { counters: Some(counters), ..LedgerView::default() };
    vec![View {
        relay: "main".into(),
        kind: "claude-code-hub",
        names: NameMode::Name,
        ledger: Some(Arc::new(ledger)),
        live: None,
        directory: None,
        sources: Vec::new(),
        probe: None,
        store: None,
    }]
}
