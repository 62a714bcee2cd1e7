//! Stores behind TLS, and several hosts: real servers, certificates of an authority made for the test.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use llm_relay_exporter::connect::postgres::Database;
use llm_relay_exporter::connect::redis::Redis;
use llm_relay_exporter::demo::Pace;
use llm_relay_exporter::model::{ReadError, Reason};
use llm_relay_exporter::relay::{self, Relay, Usage};
use llm_relay_exporter::relays::claude_relay_service::Offset;
use llm_relay_exporter::relays::claude_relay_service::demo as crs;
use llm_relay_exporter::servers::{PrivatePostgres, redis_connection};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use redis::cmd;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::claude_relay_service::{documented_user, plan};
use crate::redis_servers::{RedisServer, free_port, get};
use crate::wait::{found, until};

const LIMIT: Duration = Duration::from_secs(10);

/// PEM files of an authority, and of what it issued.
pub(crate) struct Papers {
    directory: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

pub(crate) fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Papers {
    pub(crate) fn new() -> Self {
        let papers = Self { directory: tempfile::tempdir().unwrap(), authority: authority() };
        papers.write("ca.pem", &papers.authority.pem());
        papers
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `<name>.pem` and `<name>.key` for an address or a host's name.
    fn issue(&self, name: &str, to: SanType) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![to];
        let key = KeyPair::generate().unwrap();
        self.write(&format!("{name}.pem"), &params.signed_by(&key, &self.authority).unwrap().pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// A server on two ports, the second of which asks for a client's certificate.
    fn redis(&self, plain: u16, port: u16) -> RedisServer {
        self.issue("server", here());
        self.issue("client", named("exporter"));
        let mut arguments = ["--port", &plain.to_string(), "--tls-port", &port.to_string()].map(str::to_owned).to_vec();
        for (option, file) in [("cert", "server.pem"), ("key", "server.key"), ("ca-cert", "ca.pem")] {
            arguments.extend([format!("--tls-{option}-file"), self.path(file).display().to_string()]);
        }
        RedisServer::start(plain, &arguments)
    }

    /// For a server that runs as the owner of its directory.
    fn hand_over(&self, to: &Path) {
        let owner = std::fs::metadata(to).unwrap();
        for name in ["ca.pem", "server.pem", "server.key"] {
            let path = to.join(name);
            std::fs::copy(self.path(name), &path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
    }
}

fn here() -> SanType {
    SanType::IpAddress([127, 0, 0, 1].into())
}

pub(crate) fn named(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

async fn encrypted(url: &str) -> Result<bool, ReadError> {
    let mut database = Database::new(&url.into(), LIMIT).unwrap();
    let mut snapshot = database.snapshot().await?;
    let question = sqlx::query("select ssl from pg_stat_ssl where pid = pg_backend_pid()");
    let row = snapshot.fetch_one("asking", question).await?;
    database.finish(snapshot).await;
    database.close().await;
    Ok(sqlx::Row::get(&row, 0))
}

/// Has PostgreSQL take settings, and read its files again, until new sessions have that.
async fn apply(owner: &mut PgConnection, url: &str, settings: &[&str]) {
    const READ_AT: &str = "select pg_conf_load_time()::text";
    for setting in settings {
        sqlx::raw_sql(AssertSqlSafe(format!("alter system set {setting}"))).execute(&mut *owner).await.unwrap();
    }
    let before: String = sqlx::query_scalar(READ_AT).fetch_one(&mut *owner).await.unwrap();
    sqlx::raw_sql("select pg_reload_conf()").execute(owner).await.unwrap();
    until("new sessions have the configuration", async || {
        // Who does not come in any more has met it, too.
        let Ok(mut session) = PgConnection::connect(url).await else { return true };
        sqlx::query_scalar::<_, String>(READ_AT).fetch_one(&mut session).await.unwrap() != before
    })
    .await;
}

#[tokio::test]
async fn postgres_is_read_over_tls_that_is_verified_as_far_as_the_url_says() {
    let server = PrivatePostgres::start().await.unwrap();
    let (papers, other) = (Papers::new(), Papers::new());
    papers.issue("server", here());
    papers.hand_over(&server.directory().join("data"));
    let mut owner = PgConnection::connect(&server.url()).await.unwrap();
    let files = ["ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl_ca_file = 'ca.pem'"];
    apply(&mut owner, &server.url(), &files).await;
    let at =
        |mode: &str, authority: &Path| format!("{}?sslmode={mode}&sslrootcert={}", server.url(), authority.display());
    let (right, wrong) = (papers.path("ca.pem"), other.path("ca.pem"));
    assert!(!encrypted(&format!("{}?sslmode=disable", server.url())).await.unwrap());
    assert!(encrypted(&server.url()).await.unwrap(), "preferred where the server has it");
    for mode in ["require", "verify-ca", "verify-full"] {
        assert!(encrypted(&at(mode, &right)).await.unwrap(), "{mode}");
    }
    for (url, why) in [
        (at("verify-full", &wrong), "another authority"),
        (at("verify-ca", &wrong), "another authority"),
        // As in libpq: who names an authority wants to see its signature.
        (at("require", &wrong), "another authority"),
        (at("verify-full", &papers.path("none.pem")), "no such file"),
    ] {
        let error = encrypted(&url).await.unwrap_err();
        assert_eq!(error.reason, Reason::Connection, "{why}: {error}");
        let said = if why == "no such file" { "files that the URL names" } else { "sslrootcert" };
        assert!(error.text.contains(said), "{why}: {error}");
    }

    // A certificate for another name: only verify-full minds.
    papers.issue("server", named("elsewhere.example"));
    papers.hand_over(&server.directory().join("data"));
    apply(&mut owner, &server.url(), &[]).await;
    assert!(encrypted(&at("verify-ca", &right)).await.unwrap());
    let error = encrypted(&at("verify-full", &right)).await.unwrap_err();
    assert!(error.reason == Reason::Connection && error.text.contains("sslrootcert"), "{error}");

    // The server asks for a certificate, too.
    papers.issue("server", here());
    papers.issue("client", named("demo"));
    papers.hand_over(&server.directory().join("data"));
    let rules = server.directory().join("data/pg_hba.conf");
    std::fs::write(&rules, "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n").unwrap();
    apply(&mut owner, &server.url(), &[]).await;
    let error = encrypted(&at("verify-full", &right)).await.unwrap_err();
    assert_eq!(error.reason, Reason::Permission, "{error}");
    let [certificate, key] = ["client.pem", "client.key"].map(|it| papers.path(it).display().to_string());
    assert!(encrypted(&format!("{}&sslcert={certificate}&sslkey={key}", at("verify-full", &right))).await.unwrap());
}

/// A certificate that signs itself and says that it is an authority: `openssl req -x509`, as the manuals write it.
pub(crate) fn self_signed(papers: &Papers, names: Vec<SanType>) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let mut wanted = CertificateParams::default();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wanted.subject_alt_names = names;
    let certificate = wanted.self_signed(&key).unwrap();
    std::fs::write(papers.path("server.pem"), certificate.pem()).unwrap();
    std::fs::write(papers.path("server.key"), key.serialize_pem()).unwrap();
    papers.path("server.pem")
}

#[tokio::test]
async fn postgres_with_a_certificate_that_signs_itself_is_trusted_by_naming_it() {
    let server = PrivatePostgres::start().await.unwrap();
    let (papers, other) = (Papers::new(), Papers::new());
    let certificate = self_signed(&papers, vec![named("db.internal")]);
    papers.hand_over(&server.directory().join("data"));
    let mut owner = PgConnection::connect(&server.url()).await.unwrap();
    let files = ["ssl = on", "ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'"];
    apply(&mut owner, &server.url(), &files).await;
    let url = |mode: &str, authority: &Path, more: &str| {
        format!("{}?sslmode={mode}&sslrootcert={}{more}", server.url(), authority.display())
    };
    assert!(encrypted(&url("verify-ca", &certificate, "")).await.unwrap());
    assert!(encrypted(&url("verify-full", &certificate, "&sslservername=db.internal")).await.unwrap());
    // As in libpq: the certificate is the host's, the connection goes to the address.
    let by_name = server.url().replace("@127.0.0.1:", "@db.internal:");
    let by_name = format!("{by_name}?sslmode=verify-full&sslrootcert={}&hostaddr=127.0.0.1", certificate.display());
    assert!(encrypted(&by_name).await.unwrap());
    // What this machine trusts.
    let by_system = server.url().replace("@127.0.0.1:", "@db.internal:") + "?sslrootcert=system&hostaddr=127.0.0.1";
    let config = papers.path("exporter.toml");
    std::fs::write(&config, format!("[relays.main]\nkind = \"claude-code-hub\"\ndatabase_url = \"{by_system}\"\n"))
        .unwrap();
    let check = |trusted: &Path| {
        let program = env!("CARGO_BIN_EXE_llm-relay-exporter");
        let arguments = ["check", "--config.file", config.to_str().unwrap()];
        let output = Command::new(program).args(arguments).env("SSL_CERT_FILE", trusted).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let report = check(&certificate);
    assert!(report.contains("connected to 127.0.0.1:"), "{report}");
    let report = check(&papers.path("ca.pem"));
    assert!(report.contains("TLS: "), "{report}");
    let stranger = self_signed(&other, vec![named("db.internal")]);
    for url in [
        url("verify-full", &certificate, ""),
        url("verify-full", &certificate, "&sslservername=other.internal"),
        url("verify-ca", &stranger, ""),
        url("verify-full", &stranger, "&sslservername=db.internal"),
    ] {
        let error = encrypted(&url).await.unwrap_err();
        assert!(error.reason == Reason::Connection && error.text.contains("sslrootcert"), "{error}");
    }
}

#[tokio::test]
async fn of_several_hosts_the_first_that_answers_is_read() {
    let (mut first, second) = (PrivatePostgres::start().await.unwrap(), PrivatePostgres::start().await.unwrap());
    for (server, name) in [(&first, "first"), (&second, "second")] {
        let mut owner = PgConnection::connect(&server.url()).await.unwrap();
        let role = format!(
            "create role reader login password 'pw'; create table which as select '{name}' as name; grant select on which to reader"
        );
        sqlx::raw_sql(AssertSqlSafe(role)).execute(&mut owner).await.unwrap();
    }
    // One that takes connections and says nothing.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().map(|address| (mute, address.port())).unwrap();
    let url = format!("postgres://reader:pw@127.0.0.1:{},127.0.0.1:{}/postgres", first.port(), second.port());
    let mut database = Database::new(&url.as_str().into(), LIMIT).unwrap();
    assert_eq!(
        database.endpoint(),
        format!("127.0.0.1:{}/postgres,127.0.0.1:{}/postgres", first.port(), second.port())
    );
    let which = async |database: &mut Database| -> Result<String, _> {
        let mut snapshot = database.snapshot().await?;
        let row = snapshot.fetch_one("asking", sqlx::query("select name from which")).await?;
        database.finish(snapshot).await;
        Ok::<_, ReadError>(sqlx::Row::get(&row, 0))
    };
    assert_eq!(which(&mut database).await.unwrap(), "first");
    first.stop();
    assert_eq!(which(&mut database).await.unwrap(), "second", "at once, in the same read");
    let url = format!("postgres://reader:pw@127.0.0.1:{},127.0.0.1:{}/postgres", mute.1, second.port());
    let mut patient = Database::new(&url.as_str().into(), Duration::from_secs(4)).unwrap();
    assert_eq!(which(&mut patient).await.unwrap(), "second", "a mute host leaves time for the next");
    drop(second);
    let error = which(&mut database).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connection);
    assert_eq!(error.text.matches("refused").count(), 2, "{error}");
    assert!(!error.text.contains("pw@"), "{error}");
}

#[tokio::test]
async fn redis_is_read_over_tls_with_an_authority_and_a_certificate_of_ones_own() {
    let (papers, other) = (Papers::new(), Papers::new());
    let port = free_port();
    let _server = papers.redis(0, port);
    let path = |name: &str| papers.path(name).display().to_string();
    let certificate = format!("&sslcert={}&sslkey={}", path("client.pem"), path("client.key"));
    let url = format!("rediss://127.0.0.1:{port}/0?sslrootcert={}", path("ca.pem"));
    let mut redis = Redis::new(&format!("{url}{certificate}").into(), LIMIT).unwrap();
    found("Redis answers", async || get(&mut redis, &["nothing"]).await).await;
    assert_eq!(get(&mut redis, &["nothing"]).await.unwrap(), [None]);

    let wrong = other.path("ca.pem").display().to_string();
    for (url, why) in [
        (url.clone(), "no certificate of ours"),
        (format!("rediss://127.0.0.1:{port}/0?sslrootcert={wrong}{certificate}"), "another authority"),
        (format!("rediss://127.0.0.1:{port}/0?{certificate}"), "only public authorities"),
        (format!("rediss://localhost:{port}/0?sslrootcert={}{certificate}", path("ca.pem")), "another name"),
        (format!("rediss://127.0.0.1:{port}/0?sslrootcert={}", path("none.pem")), "no such file"),
        (format!("redis://127.0.0.1:{port}/0"), "without TLS"),
    ] {
        let error = get(&mut Redis::new(&url.as_str().into(), LIMIT).unwrap(), &["x"]).await.unwrap_err();
        assert_eq!(error.reason, Reason::Connection, "{why}: {error}");
        let said = match why {
            "no such file" => "none.pem",
            "without TLS" => "check that it runs",
            _ => "check `sslrootcert`, `sslcert` and `sslkey`",
        };
        assert!(error.text.contains(said), "{why}: {error}");
    }

    // Renewed files are used by the next connection.
    let changing = papers.path("changing.pem");
    std::fs::copy(other.path("ca.pem"), &changing).unwrap();
    let url = format!("rediss://127.0.0.1:{port}/0?sslrootcert={}{certificate}", changing.display());
    let mut redis = Redis::new(&url.into(), LIMIT).unwrap();
    get(&mut redis, &["x"]).await.unwrap_err();
    std::fs::copy(papers.path("ca.pem"), &changing).unwrap();
    assert_eq!(get(&mut redis, &["x"]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_relay_that_keeps_all_in_redis_is_read_over_tls_by_the_least_user() {
    let (papers, other) = (Papers::new(), Papers::new());
    // The relay's own side of it is plain.
    let (port, plain) = (free_port(), free_port());
    let server = papers.redis(plain, port);
    server.answers();
    let path = |name: &str| papers.path(name).display().to_string();
    let mut admin = redis_connection(&format!("redis://127.0.0.1:{plain}/0")).await.unwrap();
    let options =
        crs::Options { days: 3, requests_per_day: 200, pace: Pace::Steady(1.0), seed: 3, offset: Offset::default() };
    crs::fill(&mut admin, &options).await.unwrap();
    documented_user().exec_async(&mut admin).await.unwrap();

    let read = async |user: &str, parameters: &str| {
        let plan = plan(&format!("rediss://{user}@127.0.0.1:{port}/0?{parameters}"));
        let Relay { usage, live, mut directory } = relay::open(&plan).unwrap();
        let Usage::Counters(mut counters) = usage else { panic!("it keeps counters") };
        let directory = directory.read().await?;
        let live = live.unwrap().read(&directory).await?;
        let reading = counters.read(&directory).await?;
        Ok::<_, ReadError>((directory.keys.len(), live.accounts.len(), reading.keys.iter().map(|it| it.requests).sum()))
    };
    let user = "llm_relay_exporter:planted-secret";
    let certificate = format!("sslcert={}&sslkey={}", path("client.pem"), path("client.key"));
    let good = format!("sslrootcert={}&{certificate}", path("ca.pem"));
    let (keys, accounts, requests): (_, _, u64) = read(user, &good).await.unwrap();
    let booked: u64 = cmd("HGET").arg("usage:global:total").arg("requests").query_async(&mut admin).await.unwrap();
    assert!(keys > 3 && accounts > 3 && requests == booked && booked > 100, "{keys} {accounts} {requests} {booked}");
    for (user, parameters, reason) in [
        (user, format!("sslrootcert={}", path("ca.pem")), Reason::Connection),
        (user, format!("sslrootcert={}&{certificate}", other.path("ca.pem").display()), Reason::Connection),
        ("llm_relay_exporter:planted-wrong", good.clone(), Reason::Permission),
    ] {
        let error = read(user, &parameters).await.unwrap_err();
        assert!(error.reason == reason && !error.text.contains("planted"), "{error}");
    }
}
