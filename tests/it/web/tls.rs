//! Encrypted connections and client certificates, with curl's OpenSSL and Prometheus' Go on the other side.

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, SanType};

use super::*;
use crate::tls_sources::authority;

/// A certificate authority made for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self(authority())
    }

    /// Certificate and key.
    fn issue(&self, names: Vec<SanType>) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn issue_to(&self, files: &Files, name: &str, names: Vec<SanType>) {
        let (certificate, key) = self.issue(names);
        files.write(&format!("{name}.pem"), &certificate);
        files.write(&format!("{name}.key"), &key);
    }
}

fn here() -> Vec<SanType> {
    vec![SanType::IpAddress([127, 0, 0, 1].into())]
}

/// A file with TLS and the given further fields, and the authority of its certificate.
fn encrypted(fields: &str, rest: &str) -> (Files, Authority) {
    let web = format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{fields}{rest}");
    let files = Files::with(&web);
    let authority = Authority::new();
    files.write("ca.pem", &authority.0.pem());
    authority.issue_to(&files, "server", here());
    (files, authority)
}

/// curl's arguments for a client certificate.
fn with(site: &Site, name: &str) -> Vec<String> {
    let path = |suffix: &str| site.files.path(&format!("{name}.{suffix}")).to_str().unwrap().to_owned();
    vec!["--cert".into(), path("pem"), "--key".into(), path("key")]
}

fn status_with(site: &Site, name: &str) -> u16 {
    let arguments = with(site, name);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    site.curl_tls("/metrics", &arguments).status
}

#[test]
fn the_metrics_are_served_over_tls_alone() {
    let (files, _) = encrypted("", &users(&[("alice", "pw")]));
    let site = Site::start(files);
    assert_eq!(site.curl_tls("/metrics", &["--user", "alice:pw"]).status, 200);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 401);
    assert_eq!(site.curl_tls("/healthz", &[]).status, 200);
    assert_eq!(site.curl("/healthz", &[]).status, 0);
    // Clients that prefer HTTP/2 fall back.
    assert!(site.curl_tls("/healthz", &["--http2"]).text.starts_with("HTTP/1.1 200"));
}

#[test]
fn certificate_and_key_may_stand_in_the_file() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(here());
    let indented = |pem: &str| pem.replace('\n', "\n    ");
    let web =
        format!("tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n", indented(&certificate), indented(&key));
    let files = Files::with(&web);
    files.write("ca.pem", &authority.0.pem());
    assert_eq!(Site::start(files).curl_tls("/metrics", &[]).status, 200);
}

#[test]
fn versions_suites_and_curves_are_those_of_the_file() {
    let (files, _) = encrypted("  min_version: TLS13\n", "");
    let site = Site::start(files);
    assert_eq!(site.curl_tls("/metrics", &["--tls-max", "1.2"]).status, 0);
    assert_eq!(site.curl_tls("/metrics", &["--tlsv1.3"]).status, 200);

    let fields = "  max_version: TLS12\n  prefer_server_cipher_suites: false\n  curve_preferences: [CurveP384]\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n";
    let (files, _) = encrypted(fields, "");
    let site = Site::start(files);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 200);
    assert_eq!(site.curl_tls("/metrics", &["--tlsv1.3"]).status, 0);
    assert_eq!(site.curl_tls("/metrics", &["--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"]).status, 0);
    assert_eq!(site.curl_tls("/metrics", &["--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"]).status, 200);
    // P-256 is the certificate's.
    assert_eq!(site.curl_tls("/metrics", &["--curves", "X25519:P-256"]).status, 0);
    assert_eq!(site.curl_tls("/metrics", &["--curves", "P-384:P-256"]).status, 200);
}

#[test]
fn a_client_needs_a_certificate_of_the_authority() {
    let fields = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let (files, authority) = encrypted(fields, "");
    authority.issue_to(&files, "client", vec![]);
    Authority::new().issue_to(&files, "stranger", vec![]);
    let site = Site::listen("0.0.0.0:0", files);
    assert_eq!(status_with(&site, "client"), 200);
    assert_eq!(status_with(&site, "stranger"), 0);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 0);
    assert_eq!(site.curl_tls("/metrics", &["--tls-max", "1.2"]).status, 0);
    // Who has shown a certificate is known: nothing to warn of.
    let arguments = with(&site, "client");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    assert!(!site.curl_tls("/", &arguments).text.contains("Everybody who reaches"));
}

#[test]
fn a_client_certificate_needs_an_allowed_name() {
    let fields = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [prometheus.example, 'ops@example.org', 'spiffe://example/prometheus', '2001:db8::1', 192.0.2.7]\n";
    let (files, authority) = encrypted(fields, "");
    let text = |text: &str| text.try_into().unwrap();
    let allowed = [
        SanType::DnsName(text("prometheus.example")),
        SanType::Rfc822Name(text("ops@example.org")),
        SanType::URI(text("spiffe://example/prometheus")),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
    ];
    let others = [
        vec![],
        vec![SanType::DnsName(text("sub.prometheus.example"))],
        vec![SanType::DnsName(text("*.example"))],
        vec![SanType::IpAddress("2001:db8::2".parse().unwrap())],
    ];
    authority.issue_to(&files, "several", vec![SanType::DnsName(text("other.example")), allowed[0].clone()]);
    Authority::new().issue_to(&files, "stranger", vec![allowed[0].clone()]);
    let site = Site::start(files);
    for name in allowed {
        authority.issue_to(&site.files, "client", vec![name.clone()]);
        assert_eq!(status_with(&site, "client"), 200, "{name:?}");
    }
    for names in others {
        authority.issue_to(&site.files, "client", names.clone());
        assert_eq!(status_with(&site, "client"), 0, "{names:?}");
    }
    assert_eq!(status_with(&site, "several"), 200);
    assert_eq!(status_with(&site, "stranger"), 0);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 0);
}

#[test]
fn the_weaker_policies_do_what_they_say() {
    // Status without a certificate, with one of the authority, with a stranger's.
    for (policy, expected) in [
        ("RequestClientCert", [200, 200, 200]),
        ("RequireAnyClientCert", [0, 200, 200]),
        ("RequireClientCert", [0, 200, 200]),
        ("VerifyClientCertIfGiven\n  client_ca_file: ca.pem", [200, 200, 0]),
        ("NoClientCert", [200, 200, 200]),
    ] {
        let (files, authority) = encrypted(&format!("  client_auth_type: {policy}\n"), "");
        authority.issue_to(&files, "client", vec![]);
        Authority::new().issue_to(&files, "stranger", vec![]);
        let site = Site::start(files);
        let got = [site.curl_tls("/metrics", &[]).status, status_with(&site, "client"), status_with(&site, "stranger")];
        assert_eq!(got, expected, "{policy}");
    }
}

#[test]
fn a_new_certificate_is_served_without_a_restart_and_a_broken_one_is_not() {
    let (files, old) = encrypted("", "");
    let site = Site::start(files);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 200);

    // The key is new, the certificate is not yet.
    let new = Authority::new();
    let (certificate, key) = new.issue(here());
    site.files.write("server.key", &key);
    eventually("the reload fails", || !site.protection.last_reload().unwrap().successful);
    assert_eq!(site.curl_tls("/metrics", &[]).status, 200);

    site.files.write("server.pem", &certificate);
    site.files.write("ca.pem", &new.0.pem());
    eventually("the new certificate is served", || site.curl_tls("/metrics", &[]).status == 200);
    site.files.write("ca.pem", &old.0.pem());
    assert_eq!(site.curl_tls("/metrics", &[]).status, 0);
    assert!(site.protection.last_reload().unwrap().successful);

    // To plain HTTP there is no way back in the same process.
    site.files.write("web.yml", "");
    eventually("the reload fails", || !site.protection.last_reload().unwrap().successful);
    site.files.write("ca.pem", &new.0.pem());
    assert_eq!(site.curl_tls("/metrics", &[]).status, 200);
}

#[test]
fn clients_of_an_authority_that_was_replaced_are_refused() {
    let fields = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: clients.pem\n";
    let (files, _) = encrypted(fields, "");
    let (old, new) = (Authority::new(), Authority::new());
    files.write("clients.pem", &old.0.pem());
    old.issue_to(&files, "old", vec![]);
    new.issue_to(&files, "new", vec![]);
    let site = Site::start(files);
    assert_eq!((status_with(&site, "old"), status_with(&site, "new")), (200, 0));
    site.files.write("clients.pem", &new.0.pem());
    eventually("the new authority's clients are let in", || status_with(&site, "new") == 200);
    assert_eq!(status_with(&site, "old"), 0);
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_the_start() {
    let (files, authority) = encrypted("", "");
    files.write("server.key", &authority.issue(here()).1);
    let error = Protection::load(Some(&files.path("web.yml"))).err().unwrap().to_string();
    assert!(error.contains("line 1: tls_server_config: the private key does not belong to the certificate"), "{error}");
}

#[test]
fn a_real_prometheus_scrapes_with_a_password_over_tls_with_its_certificate() {
    let fields = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n";
    let (files, authority) = encrypted(fields, &users(&[("prometheus", "pass:word")]));
    authority.issue_to(&files, "client", vec![]);
    let site = Site::start(files);
    let path = |name: &str| site.files.path(name).to_str().unwrap().to_owned();
    let scrape = format!(
        "scheme: https, basic_auth: {{username: prometheus, password: 'pass:word'}}, tls_config: {{ca_file: '{}', cert_file: '{}', key_file: '{}'}}",
        path("ca.pem"),
        path("client.pem"),
        path("client.key"),
    );
    let prometheus = Prometheus::scraping(site.address, &scrape);
    assert_eq!(prometheus.some("up == 1")[0]["value"][1], "1");
    assert_eq!(prometheus.some("llm_relay_sessions_active")[0]["metric"]["relay"], "main");
}
