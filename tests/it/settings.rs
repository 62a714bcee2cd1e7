//! What a user writes and what they get: a plan, or a report on everything that is wrong.

mod any_input;
mod documents;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono_tz::Tz;
use insta::assert_snapshot;
use llm_relay_exporter::relays::PRODUCTS;
use llm_relay_exporter::settings::catalogue::{paths, settings_of};
use llm_relay_exporter::settings::{Boards, Health, Loaded, NameMode, Plan, Problems, SeriesBudget, load, variable};
use secrecy::ExposeSecret;
use tempfile::TempDir;

const DATABASE: &str = "postgres://reader:s3cr3t-db@db:5432/cch";
const REDIS: &str = "redis://:s3cr3t-kv@kv:6379/0";

fn env<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
    variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

/// A configuration file in a folder of its own.
struct File {
    folder: TempDir,
}

impl File {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let file = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("relays.toml")
    }

    /// Puts a file next to this one.
    fn beside(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn load(&self, env: &BTreeMap<String, String>) -> Result<Loaded, Problems> {
        load(Some(&self.path()), env)
    }

    fn plan(&self, env: &BTreeMap<String, String>) -> Plan {
        self.load(env).unwrap_or_else(|problems| panic!("{problems}")).plan
    }

    /// The report, without the folder.
    fn report(&self, env: &BTreeMap<String, String>) -> String {
        let report = self.load(env).unwrap_err().to_string();
        report.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// A relay with the two settings that have no default, and further lines.
fn main_relay(lines: &str) -> String {
    format!("[relays.main]\nkind = \"claude-code-hub\"\ndatabase_url = \"{DATABASE}\"\n{lines}\n")
}

fn report(env: &BTreeMap<String, String>) -> String {
    load(None, env).unwrap_err().to_string()
}

#[test]
fn everything_that_can_be_written_arrives() {
    let file = File::new(main_relay(&format!(
        r#"
        redis_url = "{REDIS}"
        interval = "1500ms"
        directory_interval = "1m"
        stale_after = "2m"
        timeout = "5s"
        session_ttl = "10m"
        timezone = "Europe/Berlin"
        timezone_fallback = "America/New_York"
        audit_interval = "1h"
        history.budget = "30s"
        health_url = "https://relay.internal:8443/api/health/ready"
        health_ca_file = "ca.pem"
        health_interval = "30s"
        health_timeout = "2s"
        [relays.main.boards]
        top_users = 1
        top_keys = 2
        top_providers = 3
        top_models = 1000
        names = "alias"
        [relays.main.series]
        max_models = 5
        max_users = 6
        max_keys = 7
        max_histograms = 8
        pinned_models = ["a", "b"]
        idle_after = "7d"
        "#
    )));
    let plan = file.plan(&env([]));
    let relay = &plan.relays["main"];
    let secs = Duration::from_secs;
    assert_eq!((relay.name.as_str(), relay.product.label), ("main", "claude-code-hub"));
    assert_eq!(relay.database_url.expose_secret(), DATABASE);
    assert_eq!(relay.redis_url.as_ref().unwrap().expose_secret(), REDIS);
    assert_eq!(relay.interval, Duration::from_millis(1500));
    assert_eq!((relay.directory_interval, relay.stale_after, relay.timeout), (secs(60), secs(120), secs(5)));
    assert_eq!(
        (relay.own.duration("session_ttl"), relay.audit_interval, relay.history_budget),
        (secs(600), secs(3600), secs(30))
    );
    assert_eq!((relay.timezone, relay.timezone_fallback), (Some(Tz::Europe__Berlin), Tz::America__New_York));
    let health = Health {
        url: Some("https://relay.internal:8443/api/health/ready".parse().unwrap()),
        ca_file: Some(file.folder.path().join("ca.pem")),
        interval: secs(30),
        timeout: secs(2),
    };
    assert_eq!(relay.health, health);
    let boards = Boards {
        top_users: 1,
        top_keys: 2,
        top_providers: 3,
        top_models: 1000,
        names: NameMode::Alias,
        ..Boards::default()
    };
    assert_eq!(relay.boards, boards);
    let series = SeriesBudget {
        max_models: 5,
        max_users: 6,
        max_keys: 7,
        max_histograms: 8,
        pinned_models: vec!["a".into(), "b".into()],
        idle_after: secs(7 * 24 * 3600),
        ..SeriesBudget::default()
    };
    assert_eq!(relay.series, series);
}

#[test]
fn what_is_left_out_has_its_default() {
    let plan = File::new(main_relay("")).plan(&env([]));
    let relay = &plan.relays["main"];
    let secs = Duration::from_secs;
    assert!(relay.redis_url.is_none());
    assert_eq!((relay.interval, relay.directory_interval, relay.stale_after), (secs(5), secs(30), secs(60)));
    assert_eq!(
        (relay.timeout, relay.own.duration("session_ttl"), relay.audit_interval),
        (secs(10), secs(300), secs(600))
    );
    assert_eq!(relay.history_budget, secs(6));
    assert_eq!((relay.timezone, relay.timezone_fallback), (None, Tz::Asia__Shanghai));
    assert_eq!(relay.health, Health { url: None, ca_file: None, interval: secs(15), timeout: secs(5) });
    assert_eq!((&relay.boards, &relay.series), (&Boards::default(), &SeriesBudget::default()));
}

#[test]
fn every_problem_of_a_file_is_reported_at_once_with_its_place() {
    let file = File::new(
        r#"
interval = "5s"

[relay.main]

[relays.Main]
kind = "claude-code-hub"

[relays.main]
kind = "claude-code-hb"
database_url = "mysql://root:hunter2@db/cch"
redis_url = "redis://:p#ss@kv:6379"
intervall = "5s"
top_users = 5
timeout = 10
session_ttl = "5 bananas"
stale_after = "400d"
timezone = "asia/shanghai"
timezone_fallback = "Europe/Belrin"
audit_interval = 1979-05-27

[relays.main.boards]
top_users = 10.7
top_keys = 0
top_providers = "20"
top_models = 99999999999999999999999999999999999999999
names = "alias "

[relays.main.series]
max_models = true
pinned_models = ["a", 5, ""]
idle_after = { days = 35 }
"max keys" = 5

[relays.second]
boards = 5

[relays.third]
kind = "claude-code-hub"
database_url_env = "NOT_SET"
interval = "40s"
"#,
    );
    assert_snapshot!(file.report(&env([])));
}

#[test]
fn a_health_address_with_a_secret_in_it_is_refused_and_not_shown() {
    for (url, what) in [
        ("http://ann:hunter2@relay/health", "has a user or password in it"),
        ("http://hunter2@relay/health", "has a user or password in it"),
        ("http://ann:2024/hunter2@relay/health", "has a user or password in it"),
        ("http://relay/health?key=hunter2", "has a query or fragment"),
        ("http://relay/health#hunter2", "has a query or fragment"),
        ("ftp://relay/hunter2", "the scheme of the URL is wrong"),
        ("relay/hunter2", "is not a URL"),
        ("http://hunter2:99999/", "is not a URL (invalid port number)"),
    ] {
        let written = File::new(main_relay(&format!("health_url = \"{url}\""))).report(&env([]));
        let name = "LLM_RELAY_EXPORTER__RELAYS__MAIN__HEALTH_URL";
        let given = File::new(main_relay("")).report(&env([(name, url)]));
        for report in [written, given] {
            assert!(report.contains(what) && report.contains("relays.main.health_url"), "{report}");
            assert!(!report.contains("hunter2"), "{report}");
        }
    }
    for url in ["", "health_url = \"http://relay/health\""] {
        let report = File::new(main_relay(&format!("health_ca_file = \"ca.pem\"\n{url}"))).report(&env([]));
        assert!(report.contains("is for a `health_url` with https://"), "{report}");
    }
    let name = "LLM_RELAY_EXPORTER__RELAYS__MAIN__HEALTH_URL";
    let plan = File::new(main_relay("")).plan(&env([(name, "http://[::1]:3000/health")]));
    assert_eq!(plan.relays["main"].health.url.as_ref().unwrap().as_str(), "http://[::1]:3000/health");
}

#[test]
fn settings_that_contradict_each_other_are_reported() {
    let file =
        File::new(main_relay("interval = \"40s\"\nseries.max_models = 1\nseries.pinned_models = [\"a\", \"b\"]"));
    assert_snapshot!(file.report(&env([])), @r"
    the configuration has 2 problems:

      relays.main.series.pinned_models  (relays.toml:6:24)
        2 models are pinned, more than the 1 of `series.max_models`
        hint: pin fewer, or raise it

      relays.main.stale_after  (relays.toml:4:12)
        1m is less than two intervals of 40s
        hint: numbers would come and go: make it at least 1m 20s
    ");
}

#[test]
fn a_file_that_is_no_toml_is_reported_by_line_without_its_text() {
    let file = File::new("[relays.main]\nkind = claude-code-hub\ndatabase_url = \"postgres://u:hunter2@db/cch\n");
    let report = file.report(&env([("LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVALL", "5s")]));
    assert_snapshot!(report, @r#"
    the configuration has 3 problems:

      relays.toml  (relays.toml:2:8)
        is not TOML: string values must be quoted, expected literal string

      relays.toml  (relays.toml:3:44)
        is not TOML: invalid basic string, expected `"`

      LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVALL  (environment)
        unknown setting
        hint: did you mean LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVAL?
    "#);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = load(Some(Path::new("no/such.toml")), &env([])).unwrap_err();
    assert_snapshot!(missing, @r"
    the configuration has a problem:

      no/such.toml
        cannot be read: No such file or directory (os error 2)
        hint: check the path and the permissions of the file
    ");
    assert_snapshot!(File::new(b"# fine\n\xff").report(&env([])), @r"
    the configuration has a problem:

      relays.toml
        line 2 is not UTF-8
        hint: save the file as UTF-8
    ");
    assert_snapshot!(File::new("").report(&env([])), @r"
    the configuration has a problem:

      relays
        no relay is configured
        hint: add a table [relays.<name>] as in llm-relay-exporter.example.toml
    ");
    assert_snapshot!(File::new("relays = 5").report(&env([])), @r"
    the configuration has a problem:

      relays  (relays.toml:1:10)
        expected tables [relays.<name>], found a whole number
        hint: see llm-relay-exporter.example.toml
    ");
}

#[test]
fn names_of_relays_are_bounded() {
    for good in ["a", "eu-1", "eu_1", "0", &"x".repeat(63)] {
        let file = File::new(main_relay("").replace("main", good));
        assert!(file.plan(&env([])).relays.contains_key(good));
    }
    for bad in ["\"\"", "Main", "\"a b\"", "\"a.b\"", "\"é\"", "\"a\\u001b\"", &"x".repeat(64)] {
        let file = File::new(main_relay("").replace("main", bad));
        let problems = file.load(&env([])).unwrap_err();
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert!(problems.0[0].what.contains("name of"), "{problems}");
        assert!(!problems.to_string().contains('\u{1b}'));
    }
}

#[test]
fn variables_override_the_file() {
    let file = File::new(main_relay("interval = \"5s\"\nboards.top_users = 3"));
    let plan = file.plan(&env([
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVAL", "10s"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__BOARDS__TOP_KEYS", "50"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__BOARDS__NAMES", "id"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__SERIES__PINNED_MODELS", "a, b"),
        ("LLM_RELAY_EXPORTER_LOG", "debug"),
        ("DATABASE_URL", "postgres://other/db"),
        ("TZ", "Europe/Berlin"),
    ]));
    let relay = &plan.relays["main"];
    assert_eq!(relay.interval, Duration::from_secs(10));
    assert_eq!((relay.boards.top_users, relay.boards.top_keys, relay.boards.names), (3, 50, NameMode::Id));
    assert_eq!(relay.series.pinned_models, ["a", "b"]);
    assert_eq!(relay.database_url.expose_secret(), DATABASE, "the relay's own variables mean nothing beside a file");
    assert_eq!(relay.timezone_fallback, Tz::Asia__Shanghai);
}

#[test]
fn misspelt_variables_are_refused_with_a_hint() {
    let report = File::new(main_relay("")).report(&env([
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__INTERVALL", "10s"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__TOP_USERS", "10"),
        ("LLM_RELAY_EXPORTER__RELAYS__MIAN__TIMEOUT", "10s"),
        ("LLM_RELAY_EXPORTER__RELAY__MAIN__TIMEOUT", "10s"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__FROBNICATE", "10s"),
        ("LLM_RELAY_EXPORTER__RELAY__MAIN__FROBNICATE", "10s"),
        ("LLM_RELAY_EXPORTER__RELAYS__main__TIMEOUT", "10s"),
        ("LLM_RELAY_EXPORTER_RELAYS_MAIN_TIMEOUT", "10s"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__STALE_AFTER", ""),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__BOARDS__TOP_USERS", "10.7"),
        ("LLM_RELAY_EXPORTER__RELAYS__MAIN__AUDIT_INTERVAL", "1s"),
    ]));
    assert_snapshot!(report);
}

#[test]
fn variables_alone_configure_a_relay() {
    let alone = env([
        ("LLM_RELAY_EXPORTER__RELAYS__EU-1__KIND", "claude-code-hub"),
        ("LLM_RELAY_EXPORTER__RELAYS__EU-1__DATABASE_URL_ENV", "CCH_DSN"),
        ("CCH_DSN", DATABASE),
        ("DATABASE_URL", "postgres://other/db"),
    ]);
    let plan = load(None, &alone).unwrap().plan;
    assert_eq!(plan.relays.keys().collect::<Vec<_>>(), ["eu-1"]);
    assert_eq!(plan.relays["eu-1"].database_url.expose_secret(), DATABASE);

    let half = env([("LLM_RELAY_EXPORTER__RELAYS__DEFAULT__INTERVAL", "10s"), ("DATABASE_URL", DATABASE)]);
    assert_snapshot!(report(&half), @r#"
    the configuration has a problem:

      relays.default.kind  (environment variable LLM_RELAY_EXPORTER__RELAYS__DEFAULT__INTERVAL)
        is missing
        hint: set it to "claude-code-hub", "claude-relay-service", "cpa-manager", "gemini-balance", "litellm", "new-api", "one-api" or "sub2api"
    "#);
}

#[test]
fn the_relays_own_variables_are_enough() {
    for name in ["DATABASE_URL", "DSN"] {
        let loaded = load(None, &env([(name, DATABASE), ("REDIS_URL", REDIS), ("TZ", "europe/berlin")])).unwrap();
        let relay = &loaded.plan.relays["default"];
        assert_eq!((relay.name.as_str(), relay.product.label), ("default", "claude-code-hub"));
        assert_eq!(relay.database_url.expose_secret(), DATABASE);
        assert_eq!(relay.redis_url.as_ref().unwrap().expose_secret(), REDIS);
        assert_eq!((relay.timezone, relay.timezone_fallback), (None, Tz::Europe__Berlin));
        assert!(loaded.warnings.is_empty());
    }
    let both = load(None, &env([("DATABASE_URL", DATABASE), ("DSN", DATABASE), ("REDIS_URL", "")])).unwrap();
    assert!(both.plan.relays["default"].redis_url.is_none());
    assert_eq!(both.plan.relays["default"].timezone_fallback, Tz::Asia__Shanghai);
}

#[test]
fn a_tz_that_is_no_time_zone_means_utc_as_it_does_to_the_relay() {
    for zone in ["CST-8", ""] {
        let loaded = load(None, &env([("DSN", DATABASE), ("TZ", zone)])).unwrap();
        assert_eq!(loaded.plan.relays["default"].timezone_fallback, Tz::UTC);
        assert_eq!(loaded.warnings.len(), 1);
        assert!(loaded.warnings[0].contains("TZ") && loaded.warnings[0].contains("UTC"), "{:?}", loaded.warnings);
    }
}

#[test]
fn wrong_variables_of_the_relay_are_reported() {
    let differ = env([("DATABASE_URL", DATABASE), ("DSN", "postgres://u:hunter2@other/db")]);
    assert_snapshot!(report(&differ), @r"
    the configuration has a problem:

      database_url  (environment)
        DATABASE_URL and DSN are both set and differ
        hint: remove one of them, or name the relay's database in a configuration file
    ");
    assert_snapshot!(report(&env([("DSN", "db:5432/cch"), ("REDIS_URL", "http://kv:6379")])), @r"
    the configuration has 2 problems:

      relays.default.database_url  (environment variable DSN)
        is not a URL
        hint: write it as postgres://user:password@host:5432/database; in user and password write @ : / ? # % and spaces as %40 %3A %2F %3F %23 %25 %20, and an @ after the host as %40

      relays.default.redis_url  (environment variable REDIS_URL)
        the scheme of the URL is wrong
        hint: it begins with one of redis://, rediss://, valkey://, valkeys://, redis+unix://, redis+sentinel://, rediss+sentinel://, redis+cluster://, rediss+cluster://; write it as redis://user:password@host:6379/0, or rediss:// for TLS
    ");
}

#[test]
fn with_nothing_configured_the_three_ways_are_named() {
    assert_snapshot!(report(&env([("REDIS_URL", REDIS), ("PATH", "/bin")])), @r"
    the configuration has a problem:

      relays
        nothing is configured
        hint: do one of these: (1) write a file like llm-relay-exporter.example.toml and pass it with --config.file; (2) set LLM_RELAY_EXPORTER__RELAYS__MAIN__KIND and LLM_RELAY_EXPORTER__RELAYS__MAIN__DATABASE_URL; (3) set DATABASE_URL or DSN, and REDIS_URL and TZ, as the relay has them
    ");
}

#[test]
fn a_secret_comes_from_a_value_a_file_or_a_variable() {
    let relay = |line: &str| format!("[relays.main]\nkind = \"claude-code-hub\"\n{line}\n");
    let file = File::new(relay("database_url_file = 'url'\nredis_url_file = 'kv'"))
        .beside("url", format!("{DATABASE}\r\n"))
        .beside("kv", format!("{REDIS}\n\n"));
    let plan = file.plan(&env([]));
    assert_eq!(plan.relays["main"].database_url.expose_secret(), DATABASE);
    assert_eq!(plan.relays["main"].redis_url.as_ref().unwrap().expose_secret(), REDIS);

    let file = File::new(relay("database_url_env = 'CCH_DSN'"));
    assert_eq!(file.plan(&env([("CCH_DSN", DATABASE)])).relays["main"].database_url.expose_secret(), DATABASE);
}

#[test]
fn wrong_forms_of_a_secret_are_reported_without_it() {
    let relay = |name: &str, line: &str| format!("[relays.{name}]\nkind = \"claude-code-hub\"\n{line}\n");
    let text = [
        relay("absent", ""),
        relay("both", "database_url_file = 'url'\ndatabase_url_env = 'HUNTER2'"),
        relay("empty", "database_url_file = 'empty'"),
        relay("nowhere", "database_url_file = 'nowhere'"),
        relay("bytes", "database_url_file = 'bytes'"),
        relay("folder", "database_url_file = '.'"),
        relay("endless", "database_url_file = '/dev/zero'"),
        relay("swapped-file", "database_url_file = 'postgres://u:hunter2@db/cch'"),
        relay("swapped-env", "database_url_env = 'postgres://u:hunter2@db/cch'"),
        relay("unset", "database_url_env = 'HUNTER2'"),
        relay("blank", "database_url_env = 'BLANK'"),
        relay("number", "database_url = 5"),
        relay("words", "database_url = 'host=db password=hunter2'"),
        relay("spaces", "database_url = 'postgres://u:hunter2@db/cch '"),
        relay("port", "database_url = 'postgres://u:hunter2@db:99999/cch'"),
        relay("host", "database_url = 'postgres://u:hunter2@[::1/cch'"),
        relay("sslmode", "database_url = 'postgres://u:hunter2@db/cch?sslmode=hunter2'"),
        relay("redis", "database_url_file = 'url'\nredis_url = 'redis://:hunter2@kv:6379/hunter2'"),
    ];
    let file = File::new(text.concat()).beside("url", DATABASE).beside("empty", "\n").beside("bytes", b"hunter2\xff");
    let report = file.report(&env([("BLANK", "")]));
    assert!(!report.contains("hunter2"), "{report}");
    assert_snapshot!(report);
}

#[test]
fn two_forms_of_a_secret_are_refused_across_file_and_environment() {
    let file = File::new(main_relay("")).beside("url", DATABASE);
    let report = file.report(&env([("LLM_RELAY_EXPORTER__RELAYS__MAIN__DATABASE_URL_FILE", "url")]));
    assert_snapshot!(report, @r"
    the configuration has a problem:

      relays.main.database_url  (environment variable LLM_RELAY_EXPORTER__RELAYS__MAIN__DATABASE_URL_FILE)
        `database_url` and `database_url_file` are given at the same time
        hint: keep one of them
    ");
}

#[test]
fn a_setting_that_has_no_meaning_for_a_kind_is_refused_with_a_hint() {
    let file = File::new(
        r#"
[relays.cpa]
kind = "cpa-manager"
database_url = "sqlite:/usage.sqlite"
session_ttl = "5m"

[relays.crs]
kind = "claude-relay-service"
redis_url = "redis://kv"
timezone = "Europe/Berlin"
audit_interval = "1h"
"#,
    );
    assert_snapshot!(file.report(&env([])), @r"
    the configuration has 3 problems:

      relays.cpa.session_ttl  (relays.toml:5:15)
        a relay of kind cpa-manager has no such setting
        hint: remove it: it is for claude-code-hub

      relays.crs.audit_interval  (relays.toml:11:18)
        a relay of kind claude-relay-service has no such setting
        hint: remove it: it is for claude-code-hub, cpa-manager, gemini-balance, litellm, new-api, one-api or sub2api

      relays.crs.timezone  (relays.toml:10:12)
        a relay of kind claude-relay-service has no such setting
        hint: did you mean `timezone_offset`?
    ");
    // Nor does a hint name a setting that the kind does not understand.
    for (kind, hint) in
        [("new-api", "docs/configuration.md lists all settings"), ("claude-code-hub", "did you mean `session_ttl`?")]
    {
        let file = File::new(format!(
            "[relays.main]\nkind = \"{kind}\"\ndatabase_url = \"postgres://r@db/x\"\nsession_tll = \"5m\"\n"
        ));
        let problems = file.load(&env([])).unwrap_err().to_string();
        assert!(problems.contains(hint), "{problems}");
    }
    for product in PRODUCTS {
        let understood = |path: &str| settings_of(product).any(|setting| setting.path == path);
        for (path, setting) in paths().filter(|(path, setting)| *path == setting.path && !understood(path)) {
            let file = File::new(format!("[relays.main]\nkind = \"{}\"\n{path} = \"1\"\n", product.label));
            let problems = file.load(&env([])).unwrap_err();
            assert!(problems.0.iter().any(|it| it.what.ends_with("has no such setting")), "{}", setting.path);
        }
    }
}

#[test]
fn drivers_take_what_the_check_lets_through() {
    for url in [
        "postgres://u:p%40ss@db/cch",
        "postgresql://u@db:6543/cch?sslmode=require&application_name=x",
        "postgres:///cch?host=/var/run/postgresql",
    ] {
        load(None, &env([("DSN", url)])).unwrap_or_else(|problems| panic!("{url}: {problems}"));
    }
    for url in ["redis://kv", "rediss://default:p@kv:6380/1", "redis+unix:///run/redis.sock?db=2"] {
        load(None, &env([("DSN", DATABASE), ("REDIS_URL", url)]))
            .unwrap_or_else(|problems| panic!("{url}: {problems}"));
    }
}

/// A secret in each place where one could be written by mistake.
#[test]
fn no_output_shows_a_secret() {
    const SECRET: &str = "hunter2";
    let url = format!("postgres://u:{SECRET}@db/cch");
    let file = File::new(main_relay(&format!("redis_url = \"redis://:{SECRET}@kv\""))).beside("url", &url);
    let loaded = file.load(&env([])).unwrap();
    let shown = format!("{loaded:?} {loaded:#?} {:?}", loaded.plan.relays["main"]);
    assert!(!shown.contains(SECRET) && !shown.contains("s3cr3t"), "{shown}");

    // What means nothing as an offset is one, too: the relay's own rule.
    for (path, _) in paths().filter(|(path, _)| !["series.pinned_models", "timezone_offset"].contains(&&**path)) {
        // As part of a URL, and bare, which a secret's file is allowed to be called.
        let mut written = vec![url.replace("postgres", "ftp")];
        written.extend((!path.ends_with("_file")).then(|| SECRET.to_owned()));
        for text in written {
            let lines = if path.starts_with("database_url") || path == "kind" {
                "[relays.main]\n".to_owned()
            } else {
                main_relay("")
            };
            let file = File::new(format!("{lines}{path} = {text:?}\n"));
            let problems = file.load(&env([])).unwrap_err();
            assert!(!format!("{problems} {problems:?}").contains(SECRET), "{problems}");
            let problems = load(None, &env([(&variable("main", &path), &text)])).unwrap_err();
            assert!(!format!("{problems} {problems:?}").contains(SECRET), "{problems}");
        }
    }
}
