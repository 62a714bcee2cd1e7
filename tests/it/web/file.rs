//! What is wrong with a file is said at once, with lines, and without what must stay secret.

use llm_relay_exporter::web::{Protection, bcrypt_hash};

use super::{Files, hash};

fn refused(files: &Files) -> String {
    let error = Protection::load(Some(&files.path("web.yml"))).err().expect("the file is refused");
    error.to_string().replace(files.0.path().to_str().unwrap(), "")
}

#[test]
fn all_problems_are_named_with_their_lines() {
    let web = format!(
        "tls_server_config:
  cert_file: missing.pem
  key: nonsense
  min_version: TLS10
  client_auth_type: Always
  cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_CBC_SHA]
  curve_preferences: [X25519, CurveP521]
  session_tickets: true
http_server_config:
  http2: maybe
  headers:
    Server: mine
    X-Frame-Options: allow
rate_limit:
  interval: 5 parsecs
  burst: 1
basic_auth_users:
  alice: plain text
  bob: {}
  \"car:ol\": {}
bearer_tokens:
  - short
bearer_token: x
",
        hash("x").replace("$04$", "$31$"),
        hash("x"),
    );
    let text = refused(&Files::with(&web));
    let lines: Vec<_> = text.lines().collect();
    let expected = [
        "the web configuration file /web.yml cannot be used:",
        "  line 2: tls_server_config.cert_file: cannot read \"missing.pem\": No such file or directory (os error 2)",
        "  line 3: tls_server_config.key holds no PEM private key without a passphrase",
        "  line 4: tls_server_config.min_version must be TLS12 or TLS13; older ones are unsafe",
        "  line 5: tls_server_config.client_auth_type must be one of NoClientCert, RequestClientCert, \
         RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
        "  line 6: tls_server_config.cipher_suites: unknown or unsafe suite; known: ",
        "  line 7: tls_server_config.curve_preferences: only X25519, CurveP256 and CurveP384 are supported",
        "  line 8: tls_server_config.session_tickets is unknown; known here: cert, cert_file,",
        "  line 10: http_server_config.http2 must be true or false",
        "  line 12: http_server_config.headers.Server is unknown; known here: Content-Security-Policy,",
        "  line 13: http_server_config.headers.X-Frame-Options must be deny or sameorigin",
        "  line 15: rate_limit.interval must be a duration of up to an hour such as 100ms, 1s or 1m30s, or 0",
        "  line 18: basic_auth_users: not a bcrypt hash",
        "  line 19: basic_auth_users: the cost must be between 4 and 18, not 31",
        "  line 20: basic_auth_users: a user name must not be empty or hold a colon",
        "  line 22: bearer_tokens: not a SHA-256 of a token in 64 hexadecimal digits",
        "  line 23: bearer_token is unknown; known here: tls_server_config,",
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}

#[test]
fn what_would_promise_a_check_that_does_not_happen_is_refused() {
    for (web, problem) in [
        ("{min_version: TLS13}", "needs cert_file or cert"),
        ("{min_version: TLS13, max_version: TLS12}", "max_version is below min_version"),
        ("{client_ca: x}", "needs client_auth_type: RequireAndVerifyClientCert"),
        ("{client_allowed_sans: [a]}", "needs client_auth_type: RequireAndVerifyClientCert"),
        (
            "{client_allowed_sans: [a], client_auth_type: RequireAnyClientCert}",
            "needs client_auth_type: RequireAndVerifyClientCert",
        ),
        ("{client_auth_type: RequireAndVerifyClientCert}", "needs client_ca_file or client_ca"),
        ("{client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: []}", "nobody could connect"),
        ("{cert: x, cert_file: x}", "exclude each other"),
    ] {
        let text = refused(&Files::with(&format!("tls_server_config: {web}")));
        assert!(text.contains(problem), "{web}: {text}");
    }
    for (web, problem) in [
        ("rate_limit: {interval: 1s}", "line 1: rate_limit.burst must be a whole number from 1"),
        ("rate_limit: {interval: 1s, burst: 0}", "line 1: rate_limit.burst must be a whole number from 1"),
        ("rate_limit: {interval: 1, burst: 1}", "line 1: rate_limit.interval must be a duration"),
        ("- a\n", "line 1: the file must hold fields"),
        ("basic_auth_users: [a]\n", "line 1: basic_auth_users must hold fields"),
        ("\n\ntls_server_config: {a: 1\n", "line "),
        ("rate_limit:\n  burst: 1\n  burst: 2\n", "line 3: the same field stands here twice"),
    ] {
        let text = refused(&Files::with(web));
        assert!(text.contains(problem), "{web}: {text}");
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let files = Files::with("");
    std::fs::remove_file(files.path("web.yml")).unwrap();
    let text = refused(&files);
    assert!(text.contains("/web.yml cannot be used:\n  cannot be read: No such file"), "{text}");
}

#[test]
fn no_error_shows_a_value_that_may_be_secret() {
    const SECRET: &str = "hunter2-Planted/Secret";
    let files = Files::with("");
    files.write("key.pem", &format!("-----BEGIN {SECRET}\n{SECRET}\n"));
    files.write("tokens", SECRET);
    for web in [
        format!("basic_auth_users: {SECRET}"),
        format!("basic_auth_users: [{SECRET}]"),
        format!("basic_auth_users: {{alice: {SECRET}}}"),
        format!("basic_auth_users: {{alice: [{SECRET}]}}"),
        format!("basic_auth_users: {{{SECRET}: alice}}"),
        format!("basic_auth_users:\n  {SECRET}: x\n  {SECRET}: y\n"),
        format!("basic_auth_users:\n  alice: '{SECRET}\n"),
        format!("basic_auth_users:\n  alice: *{SECRET}\n"),
        format!("basic_auth_users:\n  alice: !<{SECRET}> x\n"),
        format!("basic_auth_users:\n alice: x\n  {SECRET}\n"),
        format!("basic_auth_users:\n\t{SECRET}\n"),
        SECRET.to_owned(),
        format!("{SECRET}: x"),
        format!("bearer_tokens: {SECRET}"),
        format!("bearer_tokens: [{SECRET}]"),
        format!("bearer_tokens: [[{SECRET}]]"),
        "bearer_tokens_file: tokens".to_owned(),
        "tls_server_config: {cert_file: key.pem, key_file: key.pem}".to_owned(),
        format!("tls_server_config: {{cert: {SECRET}, key: {SECRET}}}"),
        format!("tls_server_config: {{key: [{SECRET}]}}"),
        format!("tls_server_config: {{{SECRET}: a}}"),
        format!("rate_limit: {{interval: {SECRET}, burst: {SECRET}}}"),
        format!("http_server_config: {{headers: {{X-Frame-Options: {SECRET}}}}}"),
    ] {
        files.write("web.yml", &web);
        let error = Protection::load(Some(&files.path("web.yml"))).err();
        let error = error.unwrap_or_else(|| panic!("{web:?} is accepted"));
        for shown in [format!("{error}"), format!("{error:?}"), format!("{:#}", anyhow::Error::from(error.clone()))] {
            assert!(!shown.contains("Planted") && !shown.contains("hunter2"), "{web:?}: {shown}");
        }
    }
}

#[test]
fn a_hash_is_made_only_of_a_password_that_bcrypt_takes_whole() {
    let made = bcrypt_hash("secret", 5).unwrap();
    assert!(made.starts_with("$2b$05$") && bcrypt::verify("secret", &made).unwrap(), "{made}");
    assert_ne!(made, bcrypt_hash("secret", 5).unwrap());
    assert!(bcrypt_hash(&"x".repeat(71), 4).is_ok());
    for (password, cost) in [("", 10), (&*"x".repeat(72), 10), ("x", 3), ("x", 19)] {
        let error = bcrypt_hash(password, cost).unwrap_err().to_string();
        assert!(error.contains("the password is") || error.contains("the cost must be"), "{error}");
    }
}
