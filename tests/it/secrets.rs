//! Recognisable secrets, planted wherever the relay or its operator keeps one, turn up nowhere.

mod passwords;
mod relays;
mod stores;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llm_relay_exporter::relays::claude_code_hub::least_schema;
use llm_relay_exporter::servers::{PrivatePostgres, PrivateRedis};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::client;

/// Every planted secret holds this.
const MARK: &str = "HUSHHUSH";

fn exporter() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
    command.env_clear().stdin(Stdio::null());
    // A back-fill runs Prometheus.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// Ends with the test, however that ends: a process that stays would hold the test's output open.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn planted_relay(server: &PrivatePostgres) -> String {
    let url = server.database("planted").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for script in least_schema("v0.9.2") {
        connection.execute(AssertSqlSafe(script)).await.unwrap();
    }
    let m = MARK;
    connection
        .execute(AssertSqlSafe(format!(
            "insert into users (name, description) values ('ann', 'mail {m}@example.com');
             insert into keys (user_id, key, name) values (1, 'sk-{m}-1', 'laptop'), (1, 'sk-{m}-2', 'ci');
             insert into providers (name, url, key, provider_type) values ('upstream', 'https://user:{m}@up.example', 'sk-{m}-up', 'claude');
             insert into system_settings (site_title) values ('{m}');
             insert into message_request (provider_id, user_id, key, model, original_model, status_code, error_message, duration_ms, cost_usd, session_id, endpoint, created_at)
               select 1, 1, case n when 3 then 'sk-{m}-unknown' else 'sk-{m}-1' end, 'claude-sonnet', 'claude-sonnet', 500, 'denied for {m} at 10.1.2.3', 900, 0.5, 'session-{m}', '/v1/{m}', now() - interval '1 minute'
               from generate_series(1, 5) n;"
        )))
        .await
        .unwrap();
    // The database's own password is a planted secret, too.
    connection.execute(AssertSqlSafe(format!("create role reader login superuser password '{m}-db'"))).await.unwrap();
    let mut url: url::Url = url.parse().unwrap();
    url.set_username("reader").unwrap();
    url.set_password(Some(&format!("{m}-db"))).unwrap();
    url.into()
}

/// All that the exporter says, head and body.
fn get(address: &str, path: &str) -> String {
    let answer = client::get(address, path).unwrap();
    format!("{}{}", answer.head, answer.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_turn_up_nowhere() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let mut redis = PrivateRedis::start().await.unwrap();
    let database_url = planted_relay(&postgres).await;
    let good = [("DATABASE_URL", database_url.clone()), ("REDIS_URL", redis.url()), ("TZ", "Asia/Shanghai".into())];
    let mut told: Vec<(String, String)> = Vec::new();
    let mut run = |what: &str, arguments: &[&str], env: &[(&str, String)]| {
        let output = exporter().args(arguments).envs(env.iter().cloned()).output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!text.is_empty(), "{what} says something");
        told.push((what.to_owned(), text));
        output.status.code()
    };
    assert_eq!(run("help", &["--help"], &good), Some(0));
    assert_eq!(run("help of simulate", &["simulate", "--help"], &good), Some(0));
    assert_eq!(run("version", &["--version"], &good), Some(0));
    assert_eq!(run("check", &["check", "--log.level=debug"], &good), Some(0));
    let bad = |database: String, redis: &str| vec![("DATABASE_URL", database), ("REDIS_URL", redis.to_owned())];
    let wrong_password = database_url.replace("-db@", "-wrong@");
    assert_eq!(run("check with a wrong password", &["check"], &bad(wrong_password.clone(), &redis.url())), Some(1));
    let nowhere = format!("postgres://u:{MARK}@127.0.0.1:1/x?password={MARK}");
    let no_redis = format!("redis://:{MARK}@127.0.0.1:1/0");
    assert_eq!(
        run("check with nobody there", &["check", "--log.level=debug"], &bad(nowhere.clone(), &no_redis)),
        Some(1)
    );
    // The password where the user belongs.
    let store = format!("postgres://{MARK}@127.0.0.1:{}/postgres", postgres.port());
    let store = [&good[..], &[("LLM_RELAY_EXPORTER__STORE__URL", store)]].concat();
    assert_eq!(run("check with a store that lets nobody in", &["check"], &store), Some(1));
    let serve = ["serve", "--web.listen-address=127.0.0.1:0"];
    assert_eq!(run("serve with a store that lets nobody in", &serve, &store), Some(78));
    let scheme = format!("mysql://u:{MARK}@h/x");
    assert_eq!(run("a wrong scheme", &["serve"], &bad(scheme, &no_redis)), Some(64));
    let port = format!("postgres://u:{MARK}@h:port-{MARK}/x");
    assert_eq!(run("a wrong port", &["serve"], &bad(port, &no_redis)), Some(64));

    for (what, database, redis_url) in
        [("serve", database_url, redis.url()), ("serve with a wrong password", wrong_password, no_redis)]
    {
        let mut process = Running(
            exporter()
                .args(["serve", "--web.listen-address=127.0.0.1:0", "--log.level=debug"])
                .envs([("DATABASE_URL", database), ("REDIS_URL", redis_url)])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let mut seen = String::new();
        let address = loop {
            let start = seen.len();
            assert!(log.read_line(&mut seen).unwrap() > 0, "no address in {seen}");
            if let Some(address) = seen[start..].split_once("address=") {
                break address.1.split_whitespace().next().unwrap().to_owned();
            }
        };
        let began = Instant::now();
        let refused = |line: &str| line.contains("reason=\"permission\"} ") && !line.ends_with(" 0");
        let settled = |page: &str| page.contains("llm_relay_requests_total") || page.lines().any(refused);
        while !settled(&get(&address, "/metrics")) {
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: {}", get(&address, "/metrics"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for path in ["/", "/metrics", "/healthz", "/readyz", "/nowhere"] {
            told.push((format!("{path} of {what}"), get(&address, path)));
        }
        assert!(Command::new("kill").arg(process.0.id().to_string()).status().unwrap().success());
        assert!(process.0.wait().unwrap().success(), "a graceful end");
        log.read_to_string(&mut seen).unwrap();
        told.push((format!("log of {what}"), seen));
    }
    for (what, text) in &told {
        assert!(!text.contains(MARK), "{what} tells a secret:\n{text}");
    }
    // Personal data have no place in labels, either.
    let (_, page) = told.iter().find(|(what, _)| what == "/metrics of serve").unwrap();
    assert!(page.contains("key=\"laptop\""), "names are there");
    assert!(!page.contains("10.1.2.3") && !page.contains("example.com"));
    println!(
        "looked for planted secrets in: {}",
        told.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>().join(", ")
    );
    postgres.stop();
    redis.stop();
}
