//! What Grafana reads at its start: the keys it knows and no other, for it ignores the rest without a word, and paths and
//! uids that fit together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// As Grafana 12.4 reads `provisioning/dashboards/*.yml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Dashboards {
    api_version: u32,
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Provider {
    name: String,
    r#type: String,
    #[serde(rename = "orgId")]
    _org_id: Option<i64>,
    folder: String,
    folder_uid: String,
    #[serde(rename = "editable")]
    _editable: Option<bool>,
    #[serde(default)]
    disable_deletion: bool,
    #[serde(default)]
    allow_ui_updates: bool,
    update_interval_seconds: i64,
    options: ProviderOptions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProviderOptions {
    path: PathBuf,
    #[serde(rename = "foldersFromFilesStructure")]
    _folders_from_files_structure: Option<bool>,
}

/// As Grafana 12.4 reads `provisioning/datasources/*.yml`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Datasources {
    api_version: u32,
    datasources: Vec<Datasource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Datasource {
    name: String,
    uid: String,
    r#type: String,
    access: String,
    url: String,
    #[serde(rename = "user")]
    _user: Option<String>,
    #[serde(default)]
    is_default: bool,
    editable: bool,
    json_data: BTreeMap<String, Value>,
    #[serde(default)]
    secure_json_data: BTreeMap<String, String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read<T: DeserializeOwned>(path: &str, text: &str) -> T {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_provider_leads_to_dashboards_of_this_bundle() {
    const FILE: &str = "grafana/provisioning/dashboards/llm-relay.yml";
    let text = text(FILE);
    // The optional provider, switched on as its comment says.
    let (head, optional) = text.split_once("  # - name: llm-relay-optional").expect("the optional provider");
    let all = format!("{head}  - name: llm-relay-optional{}", optional.replace("\n  # ", "\n  "));
    for (text, count) in [(&text, 2), (&all, 3)] {
        let Dashboards { api_version, providers } = read(FILE, text);
        assert_eq!((api_version, providers.len()), (1, count));
        let mut names: Vec<&str> = providers.iter().map(|provider| provider.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), count, "names are unique");
        for provider in &providers {
            assert_eq!(provider.r#type, "file");
            assert!(!provider.folder.is_empty() && provider.folder_uid.starts_with("llm-relay"));
            assert!(!provider.allow_ui_updates && !provider.disable_deletion, "the files are the truth");
            assert!(provider.update_interval_seconds > 10, "up to 10 s Grafana waits for events of the file system");
            let folder = provider.options.path.strip_prefix("/var/lib/grafana/dashboards").unwrap();
            let files = std::fs::read_dir(root().join("grafana/dashboards").join(folder)).unwrap();
            let dashboards = files.filter(|file| file.as_ref().unwrap().path().extension() == Some("json".as_ref()));
            assert_eq!(dashboards.count(), if folder.starts_with("optional") { 1 } else { 7 }, "{}", folder.display());
        }
    }
}

#[test]
fn data_sources_fit_dashboards_and_prometheus() {
    const PROMETHEUS: &str = "grafana/provisioning/datasources/llm-relay.yml";
    let Datasources { api_version, datasources } = read(PROMETHEUS, &text(PROMETHEUS));
    let [source] = datasources.as_slice() else { panic!("one data source") };
    assert_eq!((api_version, source.r#type.as_str(), source.access.as_str()), (1, "prometheus", "proxy"));
    assert_eq!((source.name.as_str(), source.uid.as_str()), ("LLM Relay Prometheus", "llm-relay-prometheus"));
    assert!(source.is_default && !source.editable && source.url.starts_with("http://"));
    assert!(source.secure_json_data.is_empty());
    let interval = source.json_data["timeInterval"].as_str().unwrap();
    let scrapes = format!("scrape_interval: {interval}\n");
    assert!(text("prometheus/prometheus.yml").contains(&scrapes), "timeInterval is the scrape interval");

    const POSTGRES: &str = "grafana/claude-code-hub/datasource.example.yml";
    let Datasources { datasources, .. } = read(POSTGRES, &text(POSTGRES));
    let [source] = datasources.as_slice() else { panic!("one data source") };
    // What the optional wall's variable looks for.
    assert_eq!(source.r#type, "grafana-postgresql-datasource");
    assert!(!source.is_default && source.json_data.contains_key("sslmode"));
    assert!(source.secure_json_data["password"].starts_with('$'), "the password is not in the file");
}

#[test]
fn the_settings_name_files_that_exist_and_keep_strangers_out() {
    let settings = text("grafana/grafana.env");
    let set: BTreeMap<&str, &str> =
        settings.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
    assert_eq!(set["GF_DASHBOARDS_MIN_REFRESH_INTERVAL"], "1s");
    assert!(!set.keys().any(|name| name.contains("ANONYMOUS")), "a viewer without log-in is a choice of the user");
    let home = Path::new(set["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).strip_prefix("/var/lib/grafana").unwrap();
    assert!(root().join("grafana").join(home).is_file(), "{}", home.display());
}
