//! The documents say what the code does.

use std::path::Path;

use chrono_tz::Tz;
use llm_relay_exporter::relay::setting::{Absent, ValueType};
use llm_relay_exporter::relay::{Need, Product};
use llm_relay_exporter::relays::PRODUCTS;
use llm_relay_exporter::settings::catalogue::{paths, understood_by};
use llm_relay_exporter::settings::{store, variable};

use super::{DATABASE, File, REDIS, env};

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md")).unwrap()
}

#[test]
fn every_setting_is_documented_with_its_values_default_and_variable() {
    let document = document();
    let mut documented: Vec<_> = document
        .lines()
        .skip_while(|line| *line != "## Settings of a relay")
        .take_while(|line| *line != "## Settings of the store")
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .collect();
    for (path, setting) in paths() {
        let at = documented.iter().position(|(name, _)| *name == path);
        let row = documented.remove(at.unwrap_or_else(|| panic!("{path} is not documented"))).1;
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let is_form = path != setting.path;
        let values = match path {
            _ if is_form && path.ends_with("_file") => "path".to_owned(),
            _ if path.ends_with("_env") => "name".to_owned(),
            _ => setting.value_type.to_string(),
        };
        let default = match setting.absent {
            Absent::Means(text) => format!("`{text}`"),
            Absent::Refused => "required".to_owned(),
            Absent::Nothing => match setting.value_type {
                ValueType::Secret { need, .. } if !is_form && is_required(need) => "required".to_owned(),
                _ => "none".to_owned(),
            },
        };
        let variable = format!("`{}`", variable("x", &path).replace("LLM_RELAY_EXPORTER__RELAYS__X__", ""));
        assert_eq!(cells[1..4], [values, default, variable], "{path}");
        let kinds: Vec<_> = understood_by(setting).map(|product| product.label).collect();
        if kinds.len() < PRODUCTS.len() {
            assert!(cells[4].ends_with(&format!("Of {}.", kinds.join(", "))), "{path} is of {kinds:?}");
        }
    }
    assert_eq!(documented, [], "documented, but no setting");
}

/// Whether any product needs the address.
fn is_required(need: fn(&Product) -> Need) -> bool {
    PRODUCTS.iter().any(|product| matches!(need(product), Need::Required(_)))
}

#[test]
fn every_setting_of_the_store_is_documented_with_its_variable() {
    let document = document();
    let rows: Vec<_> = document
        .lines()
        .skip_while(|line| *line != "## Settings of the store")
        .take_while(|line| *line != "## Secrets")
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .collect();
    let written: Vec<_> = rows
        .iter()
        .map(|(path, row)| ((*path).to_owned(), row.split('|').nth(3).unwrap().trim().replace('`', "")))
        .collect();
    let known: Vec<_> = store::paths()
        .map(|path| (path.clone(), store::variable(&path).replace("LLM_RELAY_EXPORTER__STORE__", "")))
        .collect();
    assert_eq!(written, known);
}

#[test]
fn examples_load() {
    let document = document();
    let env = env([("MAIN_DATABASE_URL", DATABASE), ("MAIN_REDIS_URL", REDIS), ("BACKUP_DATABASE_URL", DATABASE)]);
    let examples: Vec<_> = document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 4);
    for example in examples {
        File::new(example).plan(&env);
    }
}

#[test]
fn the_example_file_loads_and_shows_the_defaults() {
    let text = include_str!("../../../llm-relay-exporter.example.toml");
    let plain = File::new(text).plan(&env([]));
    // What is commented out is what applies anyway, except for those that show how to say something else.
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ").filter(|rest| rest.starts_with('[') || rest.contains(" = ")).unwrap_or(line)
        })
        .filter(|line| !line.starts_with("Better") && !line.starts_with("Of ") && !line.contains("database_url_file"))
        .collect();
    let mut all = File::new(uncommented.join("\n")).plan(&env([]));
    let relay = all.relays.get_mut("main").unwrap();
    assert_eq!(relay.timezone.take(), Some(Tz::Asia__Shanghai));
    assert!(relay.health.url.take().is_some() && relay.health.ca_file.take().is_some());
    assert_eq!(relay.series.pinned_models.drain(..).count(), 1);
    assert_eq!(format!("{all:?}"), format!("{plain:?}"));
    for path in store::paths() {
        assert!(text.contains(&path), "{path} of the store is not in the example");
    }
    for (path, _) in paths() {
        let last = path.rsplit('.').next().unwrap();
        let is_other_form = ["redis_url_", "log_database_url_"].iter().any(|form| path.starts_with(form));
        assert!(is_other_form || text.contains(&format!("{last} = ")), "{path} is not in the example");
    }
}
