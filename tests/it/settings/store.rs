//! `[store]`: where the exporter keeps what it has read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use insta::assert_snapshot;
use llm_relay_exporter::settings::store::{paths, variable};
use llm_relay_exporter::settings::{StorePlan, load};
use secrecy::ExposeSecret;

use super::{DATABASE, File, env, main_relay, report};

const STORE: &str = "postgres://keeper:s3cr3t-store@db:5432/keep";

fn with_store(lines: &str) -> File {
    File::new(format!("{}[store]\n{lines}\n", main_relay("")))
}

fn store(file: &File, env: &BTreeMap<String, String>) -> (String, Duration) {
    let StorePlan { url, save_interval } = file.plan(env).store.expect("there is no store");
    (url.expose_secret().replace(&file.folder.path().display().to_string(), "<folder>"), save_interval)
}

#[test]
fn a_store_is_a_file_or_a_database() {
    let ten = Duration::from_secs(10);
    for (line, expected) in [
        ("url = 'sqlite:/var/lib/x/store.db'", "sqlite:/var/lib/x/store.db"),
        ("url = 'sqlite:///var/lib/x/store.db'", "sqlite:/var/lib/x/store.db"),
        ("url = 'sqlite:data/store.db'", "sqlite:<folder>/data/store.db"),
        (&format!("url = '{STORE}'"), STORE),
        ("url = 'postgresql://keeper@db/keep'", "postgresql://keeper@db/keep"),
        ("url_file = 'url'", STORE),
        ("url_env = 'KEEP'", STORE),
    ] {
        let file = with_store(line).beside("url", format!("{STORE}\n"));
        assert_eq!(store(&file, &env([("KEEP", STORE)])), (expected.to_owned(), ten), "{line}");
    }
    let file = with_store("url = 'sqlite:/s.db'\nsave_interval = '1m 30s'");
    assert_eq!(store(&file, &env([])).1, Duration::from_secs(90));
    assert!(File::new(main_relay("")).plan(&env([])).store.is_none(), "there is none unless somebody says so");
}

#[test]
fn systemds_state_directory_is_the_default() {
    let state = env([("STATE_DIRECTORY", "/var/lib/llm-relay-exporter:/var/lib/other"), ("DSN", DATABASE)]);
    let expected = "sqlite:/var/lib/llm-relay-exporter/llm-relay-exporter.db".to_owned();
    let ten = Duration::from_secs(10);
    assert_eq!(store(&File::new(main_relay("")), &state), (expected.clone(), ten));
    assert_eq!(load(None, &state).unwrap().plan.store.unwrap().url.expose_secret(), expected);
    let interval = with_store("save_interval = '1m'");
    assert_eq!(store(&interval, &state), (expected, Duration::from_secs(60)));
    assert_eq!(store(&with_store("url = 'sqlite:/s.db'"), &state).0, "sqlite:/s.db", "what is written wins");
    assert!(File::new(main_relay("")).plan(&env([("STATE_DIRECTORY", "")])).store.is_none());
}

#[test]
fn variables_override_the_store_and_leave_the_relays_own_variables_alone() {
    let file = with_store("url = 'sqlite:/s.db'");
    let over = env([
        ("LLM_RELAY_EXPORTER__STORE__URL", "sqlite:/other.db"),
        ("LLM_RELAY_EXPORTER__STORE__SAVE_INTERVAL", "5s"),
    ]);
    assert_eq!(store(&file, &over), ("sqlite:/other.db".to_owned(), Duration::from_secs(5)));
    let own = env([("LLM_RELAY_EXPORTER__STORE__URL", STORE), ("DATABASE_URL", DATABASE)]);
    let plan = load(None, &own).unwrap().plan;
    assert_eq!(plan.relays["default"].database_url.expose_secret(), DATABASE);
    assert_eq!(plan.store.unwrap().url.expose_secret(), STORE);
}

#[test]
fn every_problem_of_the_store_is_reported_at_once() {
    let of = |file: &File| file.report(&env([]));
    let reports = [
        of(&with_store("url = 'mysql://u:hunter2@db/keep'\nsave_interval = 10\nsave_intervall = '5s'\npath = '/x'")),
        of(&with_store("")),
        of(&with_store("url = 'sqlite:/s.db'\nurl_file = 'x'\nsave_interval = '2h'")),
        of(&with_store("url = 'sqlite::memory:'\nsave_interval = 'soon'")),
        of(&with_store("url = 'postgres://u:hunter2@db:99999/keep'")),
        of(&File::new(format!("store = 'sqlite:/s.db'\n{}", main_relay("")))),
        of(&File::new(format!("save_interval = '5s'\n[stor]\n{}", main_relay("")))),
        report(&env([
            ("LLM_RELAY_EXPORTER__STORE__SAVE_INTERVALL", "5s"),
            ("LLM_RELAY_EXPORTER__STORE__URL", ""),
            ("LLM_RELAY_EXPORTER_STORE_URL", "sqlite:/s.db"),
            ("DSN", DATABASE),
        ])),
    ];
    assert_snapshot!(reports.join("\n\n"));
}

/// A secret in each place where one could be written by mistake.
#[test]
fn no_output_shows_the_stores_secret() {
    const SECRET: &str = "hunter2";
    let shown = format!("{:?}", with_store(&format!("url = 'postgres://u:{SECRET}@db/keep'")).plan(&env([])));
    assert!(!shown.contains(SECRET), "{shown}");
    for path in paths() {
        let mut written = vec![format!("ftp://u:{SECRET}@db/keep"), format!("postgres://u:{SECRET}@db:x/keep")];
        written.extend((!path.ends_with("_file")).then(|| SECRET.to_owned()));
        for text in written {
            let problems = with_store(&format!("{path} = {text:?}")).load(&env([])).unwrap_err();
            assert!(!format!("{problems} {problems:?}").contains(SECRET), "{problems}");
            let problems = load(None, &env([("DSN", DATABASE), (&variable(&path), &text)])).unwrap_err();
            assert!(!format!("{problems} {problems:?}").contains(SECRET), "{problems}");
        }
    }
}

/// What is shipped: each with the secrets where it expects them.
#[test]
fn the_shipped_configurations_load_and_keep_their_store_where_their_surroundings_provide_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("database_url"), DATABASE).unwrap();
    std::fs::write(secrets.path().join("redis_url"), super::REDIS).unwrap();

    let compose = read("deploy/compose/exporter.toml");
    assert!(compose.contains("/run/secrets"), "it names no secret");
    let compose = File::new(compose.replace("/run/secrets", &secrets.path().display().to_string()));
    assert_eq!(store(&compose, &env([])).0, "sqlite:/var/lib/llm-relay-exporter/store.db");
    let yaml = read("docker-compose.yml");
    assert!(yaml.contains("- exporter:/var/lib/llm-relay-exporter\n") && yaml.contains("\nvolumes:\n  exporter:\n"));
    let dockerfile = read("Dockerfile");
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).unwrap().split_once(':').unwrap();
    let made = format!("install -d -m 700 -o {} -g {} /out/var/lib/llm-relay-exporter ", user.0, user.1);
    assert!(dockerfile.contains(&made), "the volume would begin as root's");

    let systemd = File::new(read("deploy/systemd/llm-relay-exporter.toml"));
    let unit = read("deploy/systemd/llm-relay-exporter.service");
    let directory = unit.lines().find_map(|line| line.strip_prefix("StateDirectory=")).unwrap();
    let state = env([("STATE_DIRECTORY", &format!("/var/lib/{directory}"))]);
    assert_eq!(store(&systemd, &state).0, "sqlite:/var/lib/llm-relay-exporter/llm-relay-exporter.db");
    assert!(unit.contains("\nRestartPreventExitStatus=64 78\n"));
}
