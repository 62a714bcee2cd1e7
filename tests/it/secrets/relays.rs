//! Seven relays and everything that the exporter itself keeps secret, each with a secret of its own that turns up nowhere.
//!
//! `tests/regenerate` writes the list in `docs/security.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use bcrypt::Version;
use llm_relay_exporter::servers::{PrivateMariaDb, PrivateRedis};
use rcgen::{CertificateParams, KeyPair, SanType};

use super::exporter;
use super::stores::{api, gateway, gemini, hub, manager, service, sub};
use crate::claude_code_hub::postgres;
use crate::generated;
use crate::process::Process;
use crate::wait::found;

/// Whose, and what; the planted text is made of its place in this list.
const PLANTED: &[(&str, &str)] = &[
    ("claude-code-hub", "password of the database role"),
    ("claude-code-hub", "password of the Redis user"),
    ("claude-code-hub", "API key of a user"),
    ("claude-code-hub", "key of an upstream"),
    ("claude-code-hub", "address of an upstream"),
    ("claude-code-hub", "error text"),
    ("claude-code-hub", "session id"),
    ("claude-code-hub", "e-mail address of a user"),
    ("claude-code-hub", "e-mail address as a name"),
    ("claude-relay-service", "password of the Redis user"),
    ("claude-relay-service", "hash of an API key"),
    ("claude-relay-service", "access token of an account"),
    ("claude-relay-service", "e-mail address of an account"),
    ("claude-relay-service", "e-mail address as a name"),
    ("claude-relay-service", "password hash of the administrator"),
    ("gemini-balance", "password of the MariaDB account"),
    ("gemini-balance", "upstream key of an attempt"),
    ("gemini-balance", "upstream key that was never used"),
    ("gemini-balance", "error text"),
    ("gemini-balance", "body of a request"),
    ("gemini-balance", "token in the settings"),
    ("cpa-manager", "hash of a client's key"),
    ("cpa-manager", "e-mail address of an account"),
    ("cpa-manager", "e-mail address as a name"),
    ("cpa-manager", "body of an event"),
    ("cpa-manager", "address of a client"),
    ("cpa-manager", "management key in the settings"),
    ("new-api", "key of a channel"),
    ("new-api", "key of a user"),
    ("new-api", "password hash of a user"),
    ("new-api", "e-mail address of a user"),
    ("new-api", "e-mail address as a name"),
    ("new-api", "text of a row"),
    ("new-api", "error code of an upstream"),
    ("new-api", "address of a client"),
    ("new-api", "reason why a channel is off"),
    ("new-api", "token in the options"),
    ("sub2api", "password of the database role"),
    ("sub2api", "key of a user"),
    ("sub2api", "password hash of a user"),
    ("sub2api", "e-mail address of a user"),
    ("sub2api", "credentials of an account"),
    ("sub2api", "what else an account has"),
    ("sub2api", "error text"),
    ("sub2api", "address of a client"),
    ("sub2api", "password in the settings"),
    ("litellm", "password of the database role"),
    ("litellm", "hash of a key"),
    ("litellm", "e-mail address of a user"),
    ("litellm", "key of a provider"),
    ("litellm", "prompt"),
    ("litellm", "answer"),
    ("litellm", "error text"),
    ("litellm", "address of a client"),
    ("litellm", "end user"),
    ("exporter", "password of a web user"),
    ("exporter", "bcrypt hash of a web user"),
    ("exporter", "bearer token"),
    ("exporter", "digest of the bearer token"),
    ("exporter", "private key of the endpoint"),
    ("exporter", "password of its own store"),
];

/// The planted texts, as they are handed out.
pub(super) struct Secrets {
    texts: Vec<Option<String>>,
}

impl Secrets {
    /// A text that nothing else holds: hexadecimal digits alone, as keys and hashes are. A quarter of it is found, too.
    pub(super) fn plant(&mut self, whose: &str, what: &str) -> String {
        let quarter = format!("{:016x}", 0x5ec7_e75e_c7e7_5e00_u64 + Self::endpoint(whose, what) as u64);
        self.as_text(whose, what, &quarter);
        quarter.repeat(4)
    }

    /// A secret that cannot be chosen.
    pub(super) fn as_text(&mut self, whose: &str, what: &str, text: &str) {
        self.texts[Self::endpoint(whose, what)] = Some(text.to_owned());
    }

    fn endpoint(whose: &str, what: &str) -> usize {
        PLANTED.iter().position(|it| *it == (whose, what)).unwrap_or_else(|| panic!("not in the list: {whose}: {what}"))
    }

    /// Those that are in what was told.
    fn found_in(&self, told: &[u8]) -> Vec<(&'static str, &'static str)> {
        let holds = |text: &Option<String>| {
            let text = text.as_ref().expect("all are planted").as_bytes();
            told.windows(text.len()).any(|window| window == text)
        };
        PLANTED.iter().zip(&self.texts).filter(|(_, text)| holds(text)).map(|(it, _)| *it).collect()
    }
}

/// The web configuration; curl's arguments for a user and for a bearer.
fn web(secrets: &mut Secrets, folder: &Path) -> [String; 2] {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("server.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let pem = key.serialize_pem();
    std::fs::write(folder.join("server.key"), &pem).unwrap();
    secrets.as_text("exporter", "private key of the endpoint", pem.lines().nth(1).unwrap());
    let password = secrets.plant("exporter", "password of a web user");
    let hash = bcrypt::hash_with_salt(&password, 4, [7; 16]).unwrap().format_for_version(Version::TwoY);
    secrets.as_text("exporter", "bcrypt hash of a web user", &hash);
    let token = secrets.plant("exporter", "bearer token");
    let digest = crate::web::sha256(&token);
    secrets.as_text("exporter", "digest of the bearer token", &digest);
    let web = format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\nbasic_auth_users:\n  alice: {hash}\nbearer_tokens: ['{digest}']\n"
    );
    std::fs::write(folder.join("web.yml"), web).unwrap();
    [format!("-ualice:{password}"), format!("-HAuthorization: Bearer {token}")]
}

fn bytes(output: Output) -> Vec<u8> {
    [output.stdout, output.stderr].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secrets_of_seven_relays_and_of_the_exporter_turn_up_nowhere() {
    let (redis, mariadb) = (PrivateRedis::start().await.unwrap(), PrivateMariaDb::start().await.unwrap());
    let endpoint = tempfile::tempdir().unwrap();
    let folder = endpoint.path();
    let path = |name: &str| folder.join(name).display().to_string();
    let mut secrets = Secrets { texts: vec![None; PLANTED.len()] };
    let (manager_table, _manager) = manager(&mut secrets, folder).await;
    let relays = [
        hub(&mut secrets, &redis).await,
        service(&mut secrets, &redis).await,
        gemini(&mut secrets, &mariadb).await,
        manager_table,
        api(&mut secrets, folder).await,
        sub(&mut secrets).await,
        gateway(&mut secrets).await,
    ];
    let each = |relays: &str, more: &str| relays.replace("\nkind", &format!("\n{more}\nkind"));
    let relays = each(&relays.concat(), "interval = \"1s\"\ndirectory_interval = \"1s\"");
    let credentials = web(&mut secrets, folder);
    let own = secrets.plant("exporter", "password of its own store");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        path(name)
    };
    let sound = format!("[store]\nurl = \"sqlite:{}\"\nsave_interval = \"1s\"\n{relays}", path("store.db"));
    let good = write("good.toml", &sound);
    let store = format!("[store]\nurl = \"postgres://u:{own}@127.0.0.1:1/x\"\n");
    // Wrong passwords, which hold the right ones.
    let wrong_relays = relays.replace("@127.0.0.1", "x@127.0.0.1");
    let wrong = write("wrong.toml", &format!("{store}{wrong_relays}"));
    let unsound = format!("{store}{}", relays.replace("@127.0.0.1:", "@127.0.0.1:port-"));
    let broken = write("broken.toml", &unsound);
    let schemes = write("schemes.toml", &format!("{store}{}", relays.replace("postgres://", "mysql://")));
    // The password where the user belongs.
    let port = postgres().await.port();
    let locked = format!("[store]\nurl = \"postgres://{own}@127.0.0.1:{port}/postgres\"\n{relays}");
    let locked = write("locked.toml", &locked);

    let mut told: Vec<(String, Vec<u8>)> = Vec::new();
    let mut tell = |what: &str, bytes: Vec<u8>| {
        assert!(!bytes.is_empty(), "{what} says something");
        told.push((what.to_owned(), bytes));
    };
    let run = |what: &str, config: &str, arguments: &[&str], code: i32| {
        let output = exporter().args(arguments).args(["--config.file", config, "--log.level=debug"]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        bytes(output)
    };
    for (what, config, command, code) in [
        ("`check`", &good, "check", 0),
        ("`check` with wrong passwords", &wrong, "check", 1),
        ("`check` of a configuration that cannot be used", &broken, "check", 64),
        ("`serve` with a configuration that cannot be used", &broken, "serve", 64),
        ("`serve` with a configuration that cannot be used", &schemes, "serve", 64),
        ("`check` with a store that lets nobody in", &locked, "check", 1),
        ("`serve` with a store that lets nobody in", &locked, "serve", 78),
    ] {
        tell(what, run(what, config, &[command], code));
    }
    // The form without a file.
    let urls = relays.split('"').filter(|it| it.contains("://")).take(2);
    let variables: Vec<_> = ["DATABASE_URL", "REDIS_URL"].into_iter().zip(urls).collect();
    for arguments in [&["check", "--log.level=debug"][..], &["--help"], &["simulate", "--help"], &["--version"]] {
        let output = exporter().envs(variables.iter().copied()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        tell("`check` and `--help` with addresses in variables", bytes(output));
    }
    for relay in ["hub", "manager", "api", "sub", "gateway"] {
        let out = path(&format!("past-{relay}"));
        let arguments = ["backfill", "--relay", relay, "--from", "1h", "--out", &out];
        tell("`backfill`", run("`backfill`", &good, &arguments, 0));
        for file in std::fs::read_dir(&out).unwrap() {
            let file = file.unwrap().path();
            if file.is_file() {
                tell("files of `backfill`", std::fs::read(file).unwrap());
            }
        }
    }

    for (what, config) in [("`serve`", &sound), ("`serve` with wrong passwords", &wrong_relays)] {
        let web = path("web.yml");
        let arguments = ["--web.config.file", &web, "--web.enable-lifecycle", "--log.level=debug"];
        let process = Process::start(config, &arguments);
        let curl = |path: &str, arguments: &[&str]| {
            let url = format!("https://{}{path}", process.address);
            let (curl, trusted) = (["--silent", "--include", "--cacert"], folder.join("server.pem"));
            bytes(Command::new("curl").args(curl).arg(trusted).args(arguments).arg(url).output().unwrap())
        };
        let is_good = config == &sound;
        let settled = |page: &str| {
            // All that can be read is, and has been kept; of the rest every refusal is known.
            let counts = |line: &str, relay: &str| {
                line.starts_with("llm_relay_requests_total{") && line.contains(&format!("relay=\"{relay}\""))
            };
            let of = |relay: &&str| page.lines().any(|line| counts(line, relay));
            let saved = page.contains("llm_relay_store_last_save_timestamp_seconds");
            let refused = page.lines().filter(|line| line.contains("reason=\"permission\"") && !line.ends_with(" 0"));
            match is_good {
                true => saved && ["hub", "service", "gemini", "manager", "api", "sub", "gateway"].iter().all(of),
                false => refused.count() >= 4,
            }
        };
        found("all has been tried", async || {
            let page = String::from_utf8(curl("/metrics", &[&credentials[0]])).unwrap();
            if settled(&page) { Ok(()) } else { Err(page + &process.log()) }
        })
        .await;
        let openmetrics = "Accept: application/openmetrics-text";
        for (page, arguments) in [
            ("/metrics", &[&*credentials[0]][..]),
            ("/metrics", &[&*credentials[1], "--header", openmetrics]),
            ("/metrics", &["-ualice:no"]),
            ("/metrics", &[]),
            ("/", &[&*credentials[0]]),
            ("/healthz", &[]),
            ("/readyz", &[&*credentials[0]]),
            ("/nowhere", &[&*credentials[0]]),
            ("/-/reload", &[&*credentials[0], "--request", "POST"]),
        ] {
            tell(&format!("{page} of {what}"), curl(page, arguments));
        }
        if is_good {
            process.write(&unsound);
            tell("the answer to a reload that fails", curl("/-/reload", &[&credentials[0], "--request", "POST"]));
            tell("/ after a reload that failed", curl("/", &[&credentials[0]]));
        }
        let (status, log) = process.end();
        assert!(status.success(), "a graceful end");
        tell(&format!("the log of {what}, at debug level"), log.into_bytes());
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("store.db") && entry.metadata().unwrap().len() > 0 {
            tell("the files of its store", std::fs::read(entry.path()).unwrap());
        }
    }
    for (what, bytes) in &told {
        assert_eq!(secrets.found_in(bytes), [], "{what} tells a secret:\n{}", String::from_utf8_lossy(bytes));
    }
    // Personal data have no place in labels, either.
    let (_, page) = told.iter().find(|(what, _)| what == "/metrics of `serve`").unwrap();
    let page = String::from_utf8_lossy(page);
    assert!(page.contains("key=\"laptop\""), "names are there");
    assert!(!page.contains("10.1.2.3") && !page.contains("example.com"));
    // A look that finds nothing anywhere would prove nothing.
    assert_eq!(secrets.found_in(&std::fs::read(&wrong).unwrap()).len(), 7);
    let places: BTreeSet<&str> = told.iter().map(|(what, _)| what.as_str()).collect();
    document(&places);
}

/// Holds the list against the document, or writes it there.
fn document(places: &BTreeSet<&str>) {
    let mut list = String::from("| Of | Planted |\n|---|---|\n");
    for whose in [
        "claude-code-hub",
        "claude-relay-service",
        "gemini-balance",
        "cpa-manager",
        "new-api",
        "sub2api",
        "litellm",
        "exporter",
    ] {
        let what: Vec<&str> = PLANTED.iter().filter(|it| it.0 == whose).map(|it| it.1).collect();
        list += &format!("| {whose} | {} |\n", what.join(", "));
    }
    let places = places.iter().copied().collect::<Vec<_>>().join(", ");
    let list = format!("{list}\nLooked for in: {places}.\n");
    generated::Part::of("docs/security.md", "secrets").hold(&list);
}
