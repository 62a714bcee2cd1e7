use llm_relay_exporter::metrics::docs;

use crate::generated;

#[test]
fn the_documented_catalogue_is_the_one_in_the_code() {
    generated::file("docs/metrics.md", &docs::markdown());
}
