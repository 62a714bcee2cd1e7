use llm_relay_exporter::metrics::{CATALOGUE, docs};

/// `cargo run -- metrics > docs/metrics.md` brings it up to date.
#[test]
fn the_documented_catalogue_is_the_one_in_the_code() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    assert_eq!(std::fs::read_to_string(file).unwrap(), docs::markdown());
}

#[test]
fn every_metric_is_documented_once() {
    let page = docs::markdown();
    for metric in CATALOGUE {
        assert_eq!(page.matches(&format!("| `{}` |", metric.name)).count(), 1, "{}", metric.name);
    }
}
