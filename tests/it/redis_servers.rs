//! Redis' own programs on free ports: one server, a master that sentinels watch, a cluster; plain, and behind a certificate
//! that signs itself.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use llm_relay_exporter::connect::redis::Redis;
use llm_relay_exporter::model::{ReadError, Reason};
use redis::{RedisResult, Value, cmd};

use crate::guarded::Guarded;
use crate::tls_sources::{Papers, named, self_signed};
use crate::wait::{found, seen};

const LIMIT: Duration = Duration::from_secs(10);

/// A server, in a directory of its own.
pub(crate) struct RedisServer {
    child: Guarded,
    port: u16,
    /// What `redis-cli` needs to know besides.
    words: Vec<String>,
    _directory: tempfile::TempDir,
}

impl RedisServer {
    pub(crate) fn start(port: u16, arguments: &[String]) -> Self {
        let words = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"].map(str::to_owned);
        Self::run(port, &[&words, arguments].concat(), tempfile::tempdir().unwrap())
    }

    fn run(port: u16, arguments: &[String], directory: tempfile::TempDir) -> Self {
        let mut command = Command::new("redis-server");
        command
            .current_dir(&directory)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { child: Guarded(command.spawn().unwrap()), port, words: Vec::new(), _directory: directory }
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string(), "-a", "pw", "--no-auth-warning"]).args(&self.words).args(arguments);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn answers(&self) {
        self.says(&["ping"], "PONG");
    }

    /// Asks until the answer has this in it.
    fn says(&self, question: &[&str], wanted: &str) {
        let what = format!("{question:?} at {}: {wanted}", self.port);
        seen(&what, || self.cli(question), || self.cli(question).contains(wanted));
    }
}

pub(crate) fn free_port() -> u16 {
    // A cluster's bus has its port 10000 above the clients'.
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 {
            return port;
        }
    }
}

pub(crate) async fn get(redis: &mut Redis, keys: &[&str]) -> Result<Vec<Option<String>>, ReadError> {
    let commands: Vec<_> = keys.iter().map(|key| redis::Cmd::get(*key)).collect();
    let answers: Vec<RedisResult<Value>> = redis.read("reading", &commands).await?;
    let text = |answer: RedisResult<Value>| match answer {
        Ok(value) => Ok(redis::from_redis_value(value).unwrap()),
        Err(error) => Err(redis.error("reading", &error)),
    };
    answers.into_iter().map(text).collect()
}

/// Reads until the answer is this one.
async fn until(redis: &mut Redis, key: &str, wanted: &str) {
    found(wanted, async || match get(redis, &[key]).await {
        Ok(answer) if answer[0].as_deref() == Some(wanted) => Ok(()),
        answer => Err(answer),
    })
    .await;
}

/// How the servers of one test speak: plainly, or with a certificate that signs itself, for the name `redis.internal`.
struct Wire(Option<(Papers, PathBuf)>);

impl Wire {
    fn encrypted() -> Self {
        let papers = Papers::new();
        let certificate = self_signed(&papers, vec![named("redis.internal")]);
        Self(Some((papers, certificate)))
    }

    /// Options of a server that listens there.
    fn options(&self, port: u16) -> Vec<(&'static str, String)> {
        let Some((papers, certificate)) = &self.0 else { return vec![("port", port.to_string())] };
        let certificate = certificate.display().to_string();
        let key = papers.path("server.key").display().to_string();
        vec![
            ("port", "0".to_owned()),
            ("tls-port", port.to_string()),
            ("tls-replication", "yes".to_owned()),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-cert-file", certificate.clone()),
            ("tls-key-file", key),
            ("tls-ca-cert-file", certificate),
        ]
    }

    fn server(&self, arguments: &[&str]) -> RedisServer {
        let port = free_port();
        let options = self.options(port).into_iter().flat_map(|(name, value)| [format!("--{name}"), value]);
        let options: Vec<String> = options.chain(arguments.iter().map(|it| (*it).to_owned())).collect();
        let mut server = RedisServer::start(port, &options);
        server.words = self.words();
        server.answers();
        server
    }

    /// Sentinels keep what they learn in their file.
    fn sentinel(&self, lines: &[String]) -> RedisServer {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let options = self.options(port).into_iter().map(|(name, value)| format!("{name} {value}"));
        let lines: Vec<String> = options.chain(["bind 127.0.0.1".to_owned()]).chain(lines.iter().cloned()).collect();
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, lines.join("\n")).unwrap();
        let arguments = [file.display().to_string(), "--sentinel".to_owned()];
        let mut server = RedisServer::run(port, &arguments, directory);
        server.words = self.words();
        server.answers();
        server
    }

    fn words(&self) -> Vec<String> {
        let certificate = self.0.iter().map(|(_, certificate)| certificate.display().to_string());
        certificate.flat_map(|it| ["--tls".to_owned(), "--cacert".to_owned(), it]).collect()
    }

    fn url(&self, variant: &str, rest: &str) -> String {
        match &self.0 {
            None => format!("redis{variant}://:pw@{rest}"),
            Some((_, certificate)) => {
                let trust = format!("sslrootcert={}&sslservername=redis.internal", certificate.display());
                format!("rediss{variant}://:pw@{rest}?{trust}")
            }
        }
    }
}

#[tokio::test]
async fn redis_with_a_certificate_that_signs_itself_is_trusted_by_naming_it() {
    let wire = Wire::encrypted();
    let server = wire.server(&["--requirepass", "pw"]);
    let place = format!("127.0.0.1:{}/3", server.port);
    assert_eq!(get(&mut Redis::new(&wire.url("", &place).into(), LIMIT).unwrap(), &["nothing"]).await.unwrap(), [None]);
    refused(&wire, "", &place).await;
}

#[tokio::test]
async fn sentinels_name_the_master_and_its_successor() {
    succession(&Wire(None)).await;
}

#[tokio::test]
async fn sentinels_and_masters_with_a_certificate_that_signs_itself_are_trusted_by_naming_it() {
    succession(&Wire::encrypted()).await;
}

async fn succession(wire: &Wire) {
    let auth = ["--requirepass", "pw", "--masterauth", "pw"];
    let mut primary = wire.server(&auth);
    let replica = wire.server(&[&auth[..], &["--replicaof", "127.0.0.1", &primary.port.to_string()]].concat());
    primary.cli(&["set", "who", "primary"]);
    replica.says(&["get", "who"], "primary");
    let sentinel = wire.sentinel(&[
        format!("sentinel monitor hub 127.0.0.1 {} 1", primary.port),
        "sentinel auth-pass hub pw".to_owned(),
        "sentinel down-after-milliseconds hub 500".to_owned(),
        "sentinel failover-timeout hub 2000".to_owned(),
    ]);
    sentinel.says(&["sentinel", "replicas", "hub"], &replica.port.to_string());
    // The first sentinel does not run.
    let url = wire.url("+sentinel", &format!("127.0.0.1:1,127.0.0.1:{}/hub/0", sentinel.port));
    let mut redis = Redis::new(&url.into(), Duration::from_secs(5)).unwrap();
    until(&mut redis, "who", "primary").await;
    primary.child.0.kill().unwrap();
    primary.child.0.wait().unwrap();
    until(&mut redis, "who", "primary").await;
    replica.says(&["role"], "master");
    replica.cli(&["set", "who", "successor"]);
    until(&mut redis, "who", "successor").await;
    let unknown = wire.url("+sentinel", &format!("127.0.0.1:{}/nobody/0", sentinel.port));
    let error = get(&mut Redis::new(&unknown.into(), LIMIT).unwrap(), &["who"]).await.unwrap_err();
    assert!(error.text.contains("no master of that name") && !error.text.contains("pw"), "{error}");
    if wire.0.is_some() {
        refused(wire, "+sentinel", &format!("127.0.0.1:{}/hub/0", sentinel.port)).await;
    }
}

/// Another certificate, another name, and another password.
async fn refused(wire: &Wire, variant: &str, rest: &str) {
    let (url, stranger) = (wire.url(variant, rest), Wire::encrypted());
    for (url, reason, said) in [
        (stranger.url(variant, rest), Reason::Connection, "sslrootcert"),
        (url.replace("redis.internal", "other.internal"), Reason::Connection, "sslrootcert"),
        (url.replace("&sslservername=redis.internal", ""), Reason::Connection, "sslrootcert"),
        (url.replace(":pw@", ":wrong@"), Reason::Permission, "password refused"),
    ] {
        let error = get(&mut Redis::new(&url.into(), LIMIT).unwrap(), &["x"]).await.unwrap_err();
        assert!(error.reason == reason && error.text.contains(said), "{error}");
        assert!(!error.text.contains("wrong"), "{error}");
    }
}

#[tokio::test]
async fn a_master_is_read_by_a_user_who_may_not_ask_for_its_role() {
    let wire = Wire(None);
    let primary = wire.server(&["--requirepass", "pw"]);
    primary.cli(&["set", "who", "primary"]);
    primary.cli(&["acl", "setuser", "reader", "on", ">pw", "~*", "-@all", "+get", "+ping", "+select"]);
    let sentinel = wire.sentinel(&[
        format!("sentinel monitor hub 127.0.0.1 {} 1", primary.port),
        "sentinel auth-pass hub pw".to_owned(),
    ]);
    let url = format!("redis+sentinel://reader:pw@127.0.0.1:{}/hub/0", sentinel.port);
    until(&mut Redis::new(&url.into(), LIMIT).unwrap(), "who", "primary").await;
}

#[tokio::test]
async fn a_cluster_is_read_key_by_key() {
    key_by_key(&Wire(None)).await;
}

#[tokio::test]
async fn a_cluster_with_a_certificate_that_signs_itself_is_trusted_by_naming_it() {
    let wire = Wire::encrypted();
    let nodes = key_by_key(&wire).await;
    refused(&wire, "+cluster", &format!("127.0.0.1:{}", nodes[0].port)).await;
}

/// The nodes that are left.
async fn key_by_key(wire: &Wire) -> [RedisServer; 2] {
    let mut options = vec!["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
    options.extend(["--requirepass", "pw", "--masterauth", "pw"]);
    if wire.0.is_some() {
        options.extend(["--tls-cluster", "yes"]);
    }
    let nodes = [(); 3].map(|()| wire.server(&options));
    let addresses = nodes.each_ref().map(|node| format!("127.0.0.1:{}", node.port));
    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.extend(["--cluster-replicas", "0", "--cluster-yes"]);
    let made = nodes[0].cli(&create);
    assert!(made.contains("All 16384 slots covered"), "{made}");
    nodes.iter().for_each(|node| node.says(&["cluster", "info"], "cluster_state:ok"));
    let keys: Vec<String> = (0..40).map(|n| format!("key:{n}")).collect();
    for key in &keys {
        nodes[0].cli(&["-c", "set", key, &format!("of {key}")]);
    }
    // The first node does not run.
    let url = wire.url("+cluster", &format!("127.0.0.1:1,{}", addresses[0]));
    let mut redis = Redis::new(&url.into(), LIMIT).unwrap();
    let asked: Vec<&str> = keys.iter().map(String::as_str).chain(["none"]).collect();
    let found = get(&mut redis, &asked).await.unwrap();
    let wanted: Vec<Option<String>> = keys.iter().map(|key| Some(format!("of {key}"))).chain([None]).collect();
    assert_eq!(found, wanted);
    assert!(redis.read("the clock", &[cmd("TIME")]).await.unwrap()[0].is_ok());
    // A node that has gone takes its keys with it: that is an error, not an absence.
    let [one, two, mut gone] = nodes;
    gone.child.0.kill().unwrap();
    let error = get(&mut redis, &asked).await.unwrap_err();
    assert!(matches!(error.reason, Reason::Connection | Reason::Timeout), "{error}");
    [one, two]
}
