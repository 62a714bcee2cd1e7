//! What takes bytes from outside: the tests and the fuzzer (`fuzz/`) come in here. Nothing may panic, hang or grow.

use std::collections::BTreeMap;

use llm_relay_exporter::kv::Kv;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::settings;
use llm_relay_exporter::sql::Database;
use llm_relay_exporter::web::Protection;

/// A configuration file, and the value of a variable that overrides.
pub fn configuration(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let env = BTreeMap::from([(
        "LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVAL".to_owned(),
        String::from_utf8_lossy(bytes).into_owned(),
    )]);
    for env in [env, BTreeMap::new()] {
        if let Err(problems) = settings::load(Some(file.path()), &env) {
            assert!(!problems.to_string().is_empty());
        }
    }
}

/// A web configuration file.
pub fn web_configuration(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    if let Err(error) = Protection::load(Some(file.path())) {
        assert!(!error.problems.is_empty());
    }
}

/// Addresses of stores.
pub fn addresses(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for scheme in
        ["", "postgres://", "redis://", "rediss://", "redis+sentinel://", "rediss+cluster://", "redis+unix://"]
    {
        let url = format!("{scheme}{text}").into();
        let limit = std::time::Duration::from_secs(1);
        drop(Database::new(&url, limit));
        drop(Kv::new(&url, limit));
    }
}

/// Headers of a scraper.
pub fn accept(bytes: &[u8]) {
    let headers: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    Format::negotiate(&headers);
    Coding::negotiate(&headers);
}
