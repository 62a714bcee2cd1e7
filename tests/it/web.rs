//! The protected server, as its clients see it.

mod file;
mod load;
mod reload;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use bcrypt::Version;
use llm_relay_exporter::http::{self, State};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::web::{Protection, bcrypt_hash};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::dashboards::prometheus::Prometheus;
use crate::full_view::{own, view};
use crate::wait::seen;

/// A directory with a web configuration file and what it names.
struct Files(TempDir);

impl Files {
    fn with(web: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write("web.yml", web);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        std::fs::write(self.path(name), contents).unwrap();
    }
}

/// A running server, protected by a file.
struct Site {
    files: Files,
    address: SocketAddr,
    protection: Arc<Protection>,
    shutdown: CancellationToken,
    _runtime: Runtime,
}

impl Site {
    fn start(files: Files) -> Self {
        Self::listen("127.0.0.1:0", files)
    }

    fn listen(address: &str, files: Files) -> Self {
        let protection = Protection::load(Some(&files.path("web.yml"))).unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let shutdown = CancellationToken::new();
        runtime.spawn(http::run(vec![listener], state(&protection), shutdown.clone()));
        Self { files, address, protection, shutdown, _runtime: runtime }
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Answer {
        curl(&format!("http://{}{path}", self.address), arguments)
    }

    fn curl_tls(&self, path: &str, arguments: &[&str]) -> Answer {
        let authority = self.files.path("ca.pem");
        let arguments = [&["--cacert", authority.to_str().unwrap()], arguments].concat();
        curl(&format!("https://{}{path}", self.address), &arguments)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn state(protection: &Arc<Protection>) -> State {
    let views = vec![view("main")];
    State {
        page: Shared::new(Page::new(views, own())),
        paths: "/metrics".into(),
        protection: protection.clone(),
        reload: None,
    }
}

struct Answer {
    /// 0 when there was none.
    status: u16,
    text: String,
}

fn curl(url: &str, arguments: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--max-time", "30", "--noproxy", "*", "--write-out", "\n%{http_code}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (text, status) = text.rsplit_once('\n').unwrap();
    Answer { status: status.parse().unwrap(), text: text.to_owned() }
}

/// A cheap hash, as `htpasswd -B` writes it.
fn hash(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().format_for_version(Version::TwoY)
}

fn users(users: &[(&str, &str)]) -> String {
    let users: String = users.iter().map(|(user, password)| format!("  {user}: {}\n", hash(password))).collect();
    format!("basic_auth_users:\n{users}")
}

fn eventually(what: &str, holds: impl FnMut() -> bool) {
    seen(what, String::new, holds);
}

#[test]
fn only_the_right_password_opens_everything_but_the_probes() {
    const RIGHT: &str = "Authorization: Basic YWxpY2U6cmlnaHQ6b25l";
    let site = Site::start(Files::with(&users(&[("alice", "right:one"), ("bob", "other")])));
    assert_eq!(site.curl("/metrics", &["--header", RIGHT]).status, 200);
    for path in ["/metrics", "/", "/readyz", "/nothing"] {
        for wrong in [
            &[][..],
            &["--user", "alice:wrong"],
            &["--user", "alice:other"],
            &["--user", "alice:"],
            &["--user", "carol:right:one"],
            &["--user", ":right:one"],
            &["--oauth2-bearer", "right:one"],
            &["--header", "Authorization: Basic"],
            &["--header", "Authorization: Basic !!!"],
            &["--header", "Authorization: Basic YWxpY2U="],
            &["--header", RIGHT, "--header", RIGHT],
        ] {
            let answer = site.curl(path, wrong);
            if (path, wrong) == ("/readyz", &[]) {
                assert!(answer.status == 200 && answer.text.ends_with("\r\n\r\nready\n"), "{}", answer.text);
                continue;
            }
            assert_eq!(answer.status, 401, "{path} {wrong:?}");
            assert!(answer.text.contains("www-authenticate: Basic realm="), "{}", answer.text);
            assert!(answer.text.ends_with("\r\n\r\nunauthorized\n"), "{}", answer.text);
        }
    }
    for path in ["/metrics", "/", "/readyz"] {
        assert_eq!(site.curl(path, &["--user", "alice:right:one"]).status, 200, "{path}");
    }
    assert_eq!(site.curl("/metrics", &["--user", "bob:other"]).status, 200);
    assert!(site.curl("/readyz", &["--user", "bob:other"]).text.contains("\nmain ledger: read\n"));
    let alive = site.curl("/healthz", &[]);
    assert!(alive.status == 200 && alive.text.ends_with("\r\n\r\nok\n"), "{}", alive.text);
    // The wrong method on the open path says no more.
    assert_eq!(site.curl("/healthz", &["--request", "DELETE"]).status, 405);
    assert_eq!(site.curl("/healthz/", &[]).status, 401);
}

#[test]
fn hashes_of_other_tools_are_understood() {
    // From the tests of prometheus/exporter-toolkit, made with htpasswd; and the same algorithm's other names.
    let carol = "$2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu";
    let parts: bcrypt::HashParts = hash("secret").parse().unwrap();
    let (a, b) = (parts.format_for_version(Version::TwoA), parts.format_for_version(Version::TwoB));
    let ours = bcrypt_hash("made here", 4).unwrap();
    let web = format!("basic_auth_users: {{carol: '{carol}', a: '{a}', b: '{b}', ours: '{ours}'}}");
    let site = Site::start(Files::with(&web));
    for user in ["carol:carol123", "a:secret", "b:secret", "ours:made here"] {
        assert_eq!(site.curl("/metrics", &["--user", user]).status, 200, "{user}");
    }
}

#[test]
fn bearer_tokens_open_the_server_beside_passwords() {
    let web =
        format!("{}bearer_tokens: ['{}']\nbearer_tokens_file: tokens\n", users(&[("alice", "pw")]), sha256("one"));
    let files = Files::with(&web);
    files.write(
        "tokens",
        &format!("# two lines as sha256sum writes them\n\n{}  -\n{}  -\n", sha256("two"), sha256("three")),
    );
    let site = Site::start(files);
    for token in ["one", "two", "three"] {
        assert_eq!(site.curl("/metrics", &["--oauth2-bearer", token]).status, 200, "{token}");
    }
    let refused = site.curl("/metrics", &["--oauth2-bearer", "four"]);
    assert_eq!(refused.status, 401);
    assert!(refused.text.contains("www-authenticate: Bearer realm="), "{}", refused.text);
    // The digest is not the token.
    assert_eq!(site.curl("/metrics", &["--oauth2-bearer", &sha256("one")]).status, 401);
    assert_eq!(site.curl("/metrics", &["--user", "alice:pw"]).status, 200);
}

pub fn sha256(text: &str) -> String {
    let mut process = Command::new("sha256sum");
    let mut process = process.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn an_empty_file_changes_nothing() {
    for web in ["", "# nothing\n", "tls_server_config:\nbasic_auth_users:\n", "{}", "basic_auth_users: {}\n"] {
        let site = Site::start(Files::with(web));
        assert_eq!(site.curl("/metrics", &[]).status, 200, "{web:?}");
    }
}

#[test]
fn configured_headers_are_on_every_response() {
    let web = "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'none'\n    Strict-Transport-Security: ''\n";
    let site = Site::start(Files::with(&format!("{web}{}", users(&[("alice", "pw")]))));
    for (path, user) in [("/metrics", "alice:pw"), ("/metrics", "alice:no"), ("/healthz", "")] {
        let answer = site.curl(path, &["--user", user]);
        assert!(answer.text.contains("x-frame-options: deny\r\n"), "{path}: {}", answer.text);
        assert!(answer.text.contains("content-security-policy: default-src 'none'\r\n"), "{}", answer.text);
        assert!(!answer.text.contains("strict-transport-security"), "{}", answer.text);
    }
    // The landing page needs its own style and script.
    let landing = site.curl("/", &["--user", "alice:pw"]);
    assert!(landing.text.contains("script-src 'sha256-"), "{}", landing.text);
}

#[test]
fn the_landing_page_warns_when_other_machines_can_read() {
    let warning = "Everybody who reaches this address can read these metrics.";
    let landing = |site: &Site| site.curl("/", &["--user", "alice:pw"]).text;
    assert!(landing(&Site::listen("0.0.0.0:0", Files::with(""))).contains(warning));
    assert!(!landing(&Site::listen("0.0.0.0:0", Files::with(&users(&[("alice", "pw")])))).contains(warning));
    assert!(!landing(&Site::listen("127.0.0.1:0", Files::with(""))).contains(warning));
}

#[test]
fn a_real_prometheus_scrapes_with_a_token() {
    let site = Site::start(Files::with(&format!("bearer_tokens: ['{}']\n", sha256("scrape-token"))));
    let prometheus = Prometheus::scraping(site.address, "authorization: {credentials: scrape-token}");
    assert_eq!(prometheus.some("up == 1")[0]["value"][1], "1");
}
