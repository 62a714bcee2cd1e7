#[test]
fn x() {
    llm_relay_exporter::dashboards::build(llm_relay_exporter::dashboards::Lang::En, None, false).unwrap();
    llm_relay_exporter::dashboards::build(llm_relay_exporter::dashboards::Lang::Zh, None, false).unwrap();
}
