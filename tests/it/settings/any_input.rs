//! Whatever is written, there is a plan or a report.

use std::collections::BTreeMap;

use llm_relay_exporter::settings::catalogue::paths;
use llm_relay_exporter::settings::{load, store, variable};
use proptest::prelude::*;

use super::{DATABASE, File};

/// Text that looks like a configuration.
fn toml_like() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        prop::sample::select(paths().map(|(path, _)| path).chain(store::paths()).collect::<Vec<_>>()),
        "[a-z_.]{0,12}",
        "\"\\PC{0,6}\"",
        Just("relays.main.kind".to_owned()),
    ];
    let value = prop_oneof![
        Just("\"claude-code-hub\"".to_owned()),
        Just(format!("\"{DATABASE}\"")),
        "\"[0-9]{1,22} ?[a-zµ]{0,4}\"",
        "\"(postgres://|redis://|sqlite:)\\PC{0,20}\"",
        "[0-9]{1,45}",
        "-?[0-9]{1,400}(\\.[0-9]{1,3})?(e[0-9]{1,4})?",
        "[1-9][0-9]{3}-0[1-9]-1[0-9]",
        "\\[(1|'a'|\\{ b = 1 \\}|,){0,5}\\]",
        "\\{ [a-z_]{1,8} = [0-9] \\}",
        "\\PC{0,12}",
    ];
    let line = prop_oneof![
        6 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        2 => prop_oneof![Just("main"), Just("main.boards"), Just("main.series"), Just("other"), Just("'a[99999999]'")]
            .prop_map(|name| format!("[relays.{name}]")),
        1 => Just("[store]".to_owned()),
        1 => "\\PC{0,20}",
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

fn variables() -> impl Strategy<Value = BTreeMap<String, String>> {
    let name = prop_oneof![
        prop::sample::select(paths().map(|(path, _)| variable("main", &path)).collect::<Vec<_>>()),
        prop::sample::select(store::paths().map(|path| store::variable(&path)).collect::<Vec<_>>()),
        "LLM_RELAY_EXPORTER__((RELAYS|STORE)__)?[A-Z0-9_\\[\\].-]{0,24}",
        "(?i:llm_relay_exporter__)\\PC{0,12}",
        prop::sample::select(vec!["DATABASE_URL", "DSN", "REDIS_URL", "TZ", "STATE_DIRECTORY"]).prop_map(str::to_owned),
    ];
    let text = prop_oneof!["\\PC{0,20}", "[0-9]{1,30}[a-zA-Z]{0,2}", Just(DATABASE.to_owned()), Just("5s".to_owned())];
    prop::collection::btree_map(name, text, 0..6)
}

proptest! {
    #[test]
    fn nothing_that_can_be_written_panics(text in prop_oneof![toml_like(), "(?s:.{0,200})"], env in variables()) {
        for loaded in [File::new(&text).load(&env), load(None, &env)] {
            match loaded {
                Ok(loaded) => prop_assert!(!loaded.plan.relays.is_empty()),
                Err(problems) => {
                    let report = problems.to_string();
                    prop_assert!(!problems.0.is_empty());
                    prop_assert!(!report.contains("s3cr3t"), "{}", report);
                    prop_assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{:?}", report);
                }
            }
        }
    }
}
