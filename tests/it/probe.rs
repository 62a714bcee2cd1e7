//! Whether the relay itself answers: a relay that dies, hangs, is broken or shows a wrong certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use llm_relay_exporter::probe::{Reason, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::process::{Page, Process, total, value};

const UP: &str = "llm_relay_http_up";
const DURATION: &str = "llm_relay_http_probe_duration_seconds";
const FAILURES: &str = "llm_relay_http_probe_failures_total";

/// What a relay does when it is asked.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Answers(&'static str),
    /// Accepts, reads and says nothing.
    Hangs,
    /// Says that there is more to come, and it never comes.
    HangsHalfway,
    /// Closes without a word.
    HangsUp,
    NoHttp,
    NeverEnds,
}

const OK: Manner = Manner::Answers("200 OK");

/// A relay's health page.
pub struct Server {
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap(), None).await
    }

    async fn on(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (manner, asked) = (Arc::new(Mutex::new(OK)), Arc::new(Mutex::new(Vec::new())));
        let (manners, heard) = (manner.clone(), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (manner, asked, tls) = (*manners.lock().unwrap(), heard.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        // A client that does not trust us hangs up.
                        Some(config) => match TlsAcceptor::from(config).accept(stream).await {
                            Ok(stream) => answer(stream, manner, &asked).await,
                            Err(_) => Some(()),
                        },
                        None => answer(stream, manner, &asked).await,
                    }
                });
            }
        });
        Self { address, manner, asked, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn now(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Nobody listens any more.
    async fn die(self) -> SocketAddr {
        self.task.abort();
        self.task.await.unwrap_err();
        self.address
    }
}

/// `None` when the client has gone.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: Manner,
    asked: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    asked.lock().unwrap().push(String::from_utf8(head).unwrap());
    let text = match manner {
        Manner::Answers(status) => {
            format!("HTTP/1.1 {status}\r\nLocation: /elsewhere\r\nContent-Length: 20\r\n\r\n{{\"status\":\"healthy\"}}")
        }
        Manner::Hangs => String::new(),
        Manner::HangsHalfway => "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{".to_owned(),
        Manner::HangsUp => return None,
        Manner::NoHttp => "SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(),
        Manner::NeverEnds => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
    };
    stream.write_all(text.as_bytes()).await.ok()?;
    if manner == Manner::NeverEnds {
        loop {
            stream.write_all(&[b'x'; 4096]).await.ok()?;
        }
    }
    if matches!(manner, Manner::Hangs | Manner::HangsHalfway) {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    stream.shutdown().await.ok()
}

fn table(name: &str, lines: &str) -> String {
    // Its database need not be there.
    format!(
        "[relays.{name}]\nkind = \"claude-code-hub\"\ndatabase_url = \"postgres://reader@127.0.0.1:1/none\"\n{lines}\n"
    )
}

fn probed(name: &str, url: &str) -> String {
    table(name, &format!("health_url = \"{url}\"\nhealth_interval = \"1s\"\nhealth_timeout = \"5s\""))
}

fn up(page: &Page) -> Option<f64> {
    value(page, UP, &[("relay", "main")])
}

fn failed(page: &Page, reason: Reason) -> f64 {
    value(page, FAILURES, &[("relay", "main"), ("reason", reason.label())]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_hangs_or_is_broken_is_down_with_the_reason() {
    let relay = Server::start().await;
    let exporter =
        Process::start(&format!("{}{}", probed("main", &relay.url("/api/health/ready")), table("silent", "")), &[]);
    exporter.until("it answers", |page| up(page) == Some(1.0));
    let page = exporter.page();
    assert!(Reason::ALL.iter().all(|reason| failed(&page, *reason) == 0.0), "all reasons are there at 0");
    assert!(value(&page, DURATION, &[("relay", "main")]).is_some_and(|seconds| seconds > 0.0 && seconds < 5.0));
    for name in [UP, DURATION, FAILURES] {
        assert_eq!(value(&page, name, &[("relay", "silent")]), None, "{name} where nothing is configured");
    }
    let request = relay.asked()[0].to_ascii_lowercase();
    assert!(request.starts_with("get /api/health/ready http/1.1\r\n"), "{request}");
    let mut headers: Vec<_> = request.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    headers.sort_unstable();
    assert_eq!(headers, ["connection", "host", "user-agent"], "neither key nor cookie");

    for (manner, reason) in [
        (Manner::Answers("500 Internal Server Error"), Reason::Status),
        (Manner::Answers("404 Not Found"), Reason::Status),
        (Manner::Hangs, Reason::Timeout),
        (Manner::HangsHalfway, Reason::Timeout),
        (Manner::HangsUp, Reason::Connection),
        (Manner::NoHttp, Reason::Protocol),
    ] {
        let before = failed(&exporter.page(), reason);
        relay.now(manner);
        exporter.until(reason.label(), |page| up(page) == Some(0.0) && failed(page, reason) > before);
        relay.now(OK);
        exporter.until("it is back", |page| up(page) == Some(1.0));
    }
    // A redirect is an answer; nobody follows it.
    let asked = relay.asked().len();
    relay.now(Manner::Answers("302 Found"));
    exporter.until("a redirect", |page| relay.asked().len() > asked + 2 && up(page) == Some(1.0));
    assert!(relay.asked().iter().all(|request| !request.contains("elsewhere")));

    let before = exporter.page();
    let address = relay.die().await;
    let refused = failed(&before, Reason::Connection);
    let took = exporter.until("dead", |page| up(page) == Some(0.0) && failed(page, Reason::Connection) > refused);
    println!("a dead relay is down on the page after {took:?}");
    let again = Server::on(address, None).await;
    exporter.until("it lives again", |page| up(page) == Some(1.0));
    let log = exporter.log();
    assert!(log.contains("the relay does not answer") && log.contains("the relay answers again"), "{log}");

    // Another address goes on counting; none is none.
    let before = total(&exporter.page(), FAILURES, "main");
    exporter.write(&probed("main", &again.url("/elsewhere")));
    exporter.signal("HUP");
    exporter.until("reloaded", |_| again.asked().iter().any(|request| request.starts_with("GET /elsewhere ")));
    assert!(total(&exporter.page(), FAILURES, "main") >= before);
    exporter.write(&table("main", ""));
    exporter.signal("HUP");
    exporter.until("no probe", |page| up(page).is_none());
    assert_eq!(value(&exporter.page(), FAILURES, &[]), None);
    let asked = again.asked().len();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(again.asked().len(), asked, "nobody asks any more");
}

/// A relay that is down must not be asked more and more often, and one that is up on the beat.
#[tokio::test(flavor = "multi_thread")]
async fn failures_are_asked_again_more_and_more_rarely() {
    let relay = Server::start().await;
    relay.now(Manner::Answers("503 Service Unavailable"));
    let began = Instant::now();
    let exporter = Process::start(&probed("main", &relay.url("/")), &[]);
    exporter.until("asked four times", |_| relay.asked().len() >= 4);
    // After 1, 2 and 4 seconds, each a fifth more or less.
    assert!(began.elapsed() > Duration::from_millis(5600), "asked four times in {:?}", began.elapsed());
}

fn target(url: &str, ca_file: Option<PathBuf>) -> Target {
    Target { url: url.parse().unwrap(), ca_file, timeout: Duration::from_secs(5) }
}

async fn reason(url: &str, ca_file: Option<PathBuf>) -> Option<Reason> {
    target(url, ca_file).probe().await.err().map(|failure| failure.reason)
}

/// A server's configuration with a certificate for this name, valid until the end of the year.
fn issued(authority: &CertifiedIssuer<'static, KeyPair>, name: &str, until: i32) -> Arc<ServerConfig> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    params.not_after = date_time_ymd(until, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_must_be_of_a_trusted_authority_for_the_host_and_in_date() {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let url = |server: &Server| format!("https://localhost:{}/health", server.address.port());

    let right = Server::on(any, Some(issued(&authority, "localhost", 2999))).await;
    assert_eq!(reason(&url(&right), Some(ca.clone())).await, None);
    assert_eq!(reason(&url(&right), None).await, Some(Reason::Tls), "an authority that nobody knows");
    right.now(Manner::Answers("503 Service Unavailable"));
    assert_eq!(reason(&url(&right), Some(ca.clone())).await, Some(Reason::Status));
    assert_eq!(reason(&url(&right), Some(folder.path().join("none"))).await, Some(Reason::Tls));
    for wrong in [issued(&authority, "elsewhere", 2999), issued(&authority, "localhost", 2001)] {
        let wrong = Server::on(any, Some(wrong)).await;
        assert_eq!(reason(&url(&wrong), Some(ca.clone())).await, Some(Reason::Tls));
        assert_eq!(wrong.asked(), [""; 0], "nothing is said to whom one does not trust");
    }
    let plain = Server::start().await;
    plain.now(Manner::NoHttp);
    assert!(matches!(reason(&url(&plain), Some(ca)).await, Some(Reason::Tls | Reason::Timeout)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_not_read_and_a_name_without_address_is_told() {
    let relay = Server::start().await;
    relay.now(Manner::NeverEnds);
    // It would end with the time limit.
    assert_eq!(reason(&relay.url("/health"), None).await, None);
    assert_eq!(reason("http://relay.invalid/health", None).await, Some(Reason::Dns));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_whether_the_relay_answers_and_where_it_could_be_asked() {
    let relay = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let check = |config: &str| {
        let file = folder.path().join("relays.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
        let output = command.env_clear().arg("--config.file").arg(file).arg("check").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        told.lines().find(|line| line.split_whitespace().nth(1) == Some("health")).unwrap_or(&told).to_owned()
    };
    let url = relay.url("/api/health/ready");
    assert_eq!(check(&probed("main", &url)), format!("ok      health      {url} answers 200 OK"));
    let told = check(&table("main", ""));
    assert!(told.starts_with("note") && told.contains("http://relay:3000/api/health/ready"), "{told}");
    relay.now(Manner::Answers("503 Service Unavailable"));
    let told = check(&probed("main", &url));
    assert!(told.starts_with("PROBLEM") && told.contains("answers 503 Service Unavailable"), "{told}");
}
