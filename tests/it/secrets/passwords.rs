//! Passwords of all printable characters: written as they are, no output tells them; percent-encoded, they open the door.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use llm_relay_exporter::connect::postgres::Database;
use llm_relay_exporter::connect::redis::Redis;
use llm_relay_exporter::connect::{mysql, sqlite};
use llm_relay_exporter::servers::{PrivateMariaDb, PrivatePostgres, PrivateRedis, redis_connection};
use llm_relay_exporter::settings::{self, variable};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use redis::cmd;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use super::exporter;
use crate::client;
use crate::process::Process;
use crate::wait::seen;

const LIMIT: Duration = Duration::from_secs(10);

/// What a URL is for: the kind of the relay and the setting.
const FORMS: [(&str, &str, &str); 10] = [
    ("claude-code-hub", "database_url", "postgres://exporter:{}@127.0.0.1:1/cch"),
    ("claude-code-hub", "database_url", "postgresql://exporter:{}@127.0.0.1:1,localhost:2/cch?sslmode=prefer"),
    ("claude-code-hub", "database_url", "postgres://exporter@127.0.0.1:1/cch?password={}"),
    ("gemini-balance", "database_url", "mysql://exporter:{}@127.0.0.1:1/gb"),
    ("gemini-balance", "database_url", "sqlite://exporter:{}@127.0.0.1:1/gb"),
    ("cpa-manager", "database_url", "sqlite://exporter:{}@127.0.0.1:1/gb"),
    ("claude-relay-service", "redis_url", "redis://exporter:{}@127.0.0.1:1/0"),
    ("claude-relay-service", "redis_url", "rediss://:{}@127.0.0.1:1"),
    ("claude-relay-service", "redis_url", "redis+sentinel://:{}@127.0.0.1:1/master/0"),
    ("claude-relay-service", "redis_url", "redis+sentinel://127.0.0.1:1/master?sentinel_password={}"),
];

/// Everything that a configuration says about itself, accepted or not.
fn said(file: Option<&Path>, env: &[(&str, &str)]) -> String {
    let env: BTreeMap<_, _> = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    match settings::load(file, &env) {
        Ok(loaded) => format!("{loaded:?}"),
        Err(problems) => format!("{problems} {problems:?}"),
    }
}

/// What the parts that connect say of a URL, whatever it is for.
fn places(url: &str) -> String {
    let url = SecretString::from(url);
    let postgres = Database::new(&url, LIMIT).map(|it| it.endpoint().to_owned());
    let mysql = mysql::Database::new(&url, LIMIT).map(|it| it.endpoint().to_owned());
    let sqlite = sqlite::File::new(&url, LIMIT, LIMIT).map(|it| it.endpoint());
    let redis = Redis::new(&url, LIMIT).map(|it| it.endpoint().to_owned());
    [postgres, mysql, sqlite, redis].map(|endpoint| endpoint.unwrap_or_else(|error| error.to_string())).join("\n")
}

/// Of a password, six characters in a row are too many.
fn leak<'a>(password: &'a str, text: &str) -> Option<&'a str> {
    (0..=password.len() - 6).map(|at| &password[at..at + 6]).find(|part| text.contains(part))
}

/// Half of them with the beginnings that other parts of a URL have.
fn password() -> impl Strategy<Value = String> {
    ("(|/|[0-9]{1,5}/|[0-9]{1,5}\\?|[0-9]{0,3}#|@|:|\\[|%2F)", "[ -~]{8,24}").prop_map(|(begin, rest)| begin + &rest)
}

proptest! {
    #[test]
    fn the_settings_tell_no_password_wherever_its_address_is_written(password in password()) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        for (kind, setting, form) in FORMS {
            let url = form.replace("{}", &password);
            let relay = |line: String| format!("[relays.main]\nkind = \"{kind}\"\n{line}\n");
            write("secret", &url);
            let files = [
                relay(format!("{setting} = {url:?}")),
                relay(format!("{setting}_file = \"secret\"")),
                relay(format!("{setting}_env = \"SECRET\"")),
                format!("[store]\nurl = {url:?}\n{}", relay(String::new())),
            ];
            let mut texts = vec![places(&url)];
            texts.extend(files.iter().map(|text| said(Some(&write("relays.toml", text)), &[("SECRET", &url)])));
            let kind = (variable("main", "kind"), kind);
            texts.push(said(None, &[(&kind.0, kind.1), (&variable("main", setting), &url)]));
            for name in ["DATABASE_URL", "DSN"] {
                texts.push(said(None, &[(name, &url), ("REDIS_URL", &url)]));
            }
            texts.push(said(None, &[("DSN", "postgres://u:p@h/d"), ("REDIS_URL", &url)]));
            for text in texts {
                prop_assert!(leak(&password, &text).is_none(), "{url}: {text}");
            }
        }
    }
}

/// As a program: `check` and `serve` refuse what can be read in two ways with exit code 64, and say how to write it.
#[test]
fn an_address_that_hides_its_password_ends_with_64_and_advice() {
    let hushed = |text: &str, password: &str| assert_eq!(leak(password, text), None, "{text}");
    for password in ["/Zq7Secret", "2024/Zq7Secret", "12?Zq7Secret", "Zq7Secret#1", "12#Zq7Secret", "a@b/Zq7Secret"] {
        for form in ["postgres://exporter:{}@127.0.0.1:1/cch", "postgres://exporter:{}@[::1]/cch?sslmode=disable"] {
            for command in ["check", "serve"] {
                let run = |env: [(&str, String); 2]| {
                    let output = exporter().args([command, "--log.level=debug"]).envs(env).output().unwrap();
                    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
                };
                let good = "redis://127.0.0.1:1".to_owned();
                let redis = format!("redis://:{password}@127.0.0.1:1/0");
                for env in [
                    [("DSN", form.replace("{}", password)), ("REDIS_URL", good.clone())],
                    [("DATABASE_URL", "postgres://u:p@127.0.0.1:1/x".to_owned()), ("REDIS_URL", redis)],
                ] {
                    let (code, text) = run(env);
                    assert_eq!(code, Some(64), "{text}");
                    assert!(text.contains("can be read in more than one way") && text.contains("%2F"), "{text}");
                    hushed(&text, password);
                }
            }
        }
    }
}

/// The log, the landing page and the metrics of a process whose stores all are away.
#[test]
fn a_process_tells_no_password_of_the_addresses_that_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relays.toml");
    let password = "!\"$&'()*+,-.;<=>[]^_`{|}~%40%2F%3F%23%25Zq7Secret@twice";
    let relay = |name: &str, kind: &str, setting: &str, url: &str| {
        let url = url.replace("{}", password);
        format!("[relays.{name}]\nkind = \"{kind}\"\n{setting} = {url:?}\ninterval = \"1s\"\n")
    };
    let text = [
        relay("hub", "claude-code-hub", "database_url", "postgres://exporter:{}@127.0.0.1:1/cch"),
        relay("misplaced", "claude-code-hub", "database_url", "postgres://{}@127.0.0.1:1"),
        relay("balance", "gemini-balance", "database_url", "mysql://exporter:{}@127.0.0.1:1/gb"),
        relay("service", "claude-relay-service", "redis_url", "redis://exporter:{}@127.0.0.1:1/0"),
    ];
    std::fs::write(&file, text.concat()).unwrap();
    let arguments = ["--config.file", file.to_str().unwrap(), "--log.level=debug", "--web.listen-address=127.0.0.1:0"];
    let checked = exporter().arg("check").args(arguments).output().unwrap();
    assert_eq!(checked.status.code(), Some(1), "nobody is there");
    let mut told = vec![String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap()];

    let process = Process::start(&text.concat(), &["--log.level=debug"]);
    let get = |path: &str| {
        let answer = client::get(process.address, path).unwrap();
        format!("{}{}", answer.head, answer.text())
    };
    seen("all stores are away", || get("/"), || get("/").matches("127.0.0.1:1").count() >= 4);
    told.extend(["/", "/metrics", "/readyz"].map(get));
    told.push(process.end().1);
    for text in told {
        assert!(!text.is_empty());
        for secret in ["Zq7Secret", "!\"$&", "<=>[]", "&lt;=&gt;", "twice"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// Every printable character, encoded as any tool does it.
#[tokio::test(flavor = "multi_thread")]
async fn any_password_opens_its_server_when_it_is_percent_encoded() {
    let postgres = PrivatePostgres::start().await.unwrap();
    let redis = PrivateRedis::start().await.unwrap();
    let mariadb = PrivateMariaDb::start().await.unwrap();
    let mut owner = PgConnection::connect(&postgres.url()).await.unwrap();
    let mut root = MySqlConnection::connect(&mariadb.database("any").await.unwrap()).await.unwrap();
    let mut admin = redis_connection(&redis.url()).await.unwrap();
    let all: String = (' '..='~').collect();
    let mut passwords =
        vec![all.clone(), all.chars().rev().collect(), "/Zq7".into(), "2024/Zq7@h:1".into(), "%41".into()];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    passwords.extend((0..20).map(|_| password().new_tree(&mut runner).unwrap().current()));
    for (at, password) in passwords.iter().enumerate() {
        let encoded = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
        let quoted = password.replace('\'', "''");
        let sql = format!("create role any{at} login password '{quoted}'");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
        let url = format!("postgres://any{at}:{encoded}@127.0.0.1:{}/postgres", postgres.port());
        let mut database = Database::new(&url.as_str().into(), LIMIT).unwrap();
        let snapshot = database.snapshot().await.unwrap_or_else(|error| panic!("{password}: {error}"));
        database.finish(snapshot).await;

        let quoted = password.replace('\\', "\\\\").replace('\'', "''");
        let sql = format!("create user any{at} identified by '{quoted}'; grant select on any.* to any{at}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut root).await.unwrap();
        let url = format!("mysql://any{at}:{encoded}@127.0.0.1:{}/any?ssl-mode=DISABLED", mariadb.port());
        let mut database = mysql::Database::new(&url.as_str().into(), LIMIT).unwrap();
        let snapshot = database.snapshot().await.unwrap_or_else(|error| panic!("{password}: {error}"));
        database.finish(snapshot).await;

        let user = format!("any{at}");
        let rules = ["on".to_owned(), format!(">{password}"), "+time".to_owned()];
        cmd("ACL").arg("SETUSER").arg(&user).arg(&rules).exec_async(&mut admin).await.unwrap();
        let url = format!("redis://{user}:{encoded}@127.0.0.1:{}/0", redis.port());
        Redis::new(&url.as_str().into(), LIMIT)
            .unwrap()
            .now_ms()
            .await
            .unwrap_or_else(|error| panic!("{password}: {error}"));
    }
}
