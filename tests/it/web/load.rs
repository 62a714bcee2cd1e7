//! Many clients, hasty clients, and clients that guess.

use super::*;

fn request(user: &str) -> String {
    use base64::Engine;
    let user = base64::prelude::BASE64_STANDARD.encode(user);
    format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {user}\r\nConnection: close\r\n\r\n")
}

fn status(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned()
}

#[test]
fn the_rate_limit_sends_away_what_is_too_much() {
    let site = Site::start(Files::with("rate_limit: {interval: 30m, burst: 3}\n"));
    for _ in 0..3 {
        assert_eq!(site.curl("/metrics", &[]).status, 200);
    }
    let limited = site.curl("/metrics", &[]);
    assert_eq!(limited.status, 429);
    assert!(limited.text.contains("retry-after: 1"), "{}", limited.text);
    // An orchestrator's probe must not restart the exporter for it.
    assert_eq!(site.curl("/healthz", &[]).status, 200);
}

#[test]
fn an_interval_of_zero_limits_nothing() {
    let site = Site::start(Files::with("rate_limit: {interval: 0, burst: 1}\n"));
    for _ in 0..3 {
        assert_eq!(site.curl("/metrics", &[]).status, 200);
    }
}

#[test]
fn two_hundred_wrong_passwords_do_not_hold_up_a_known_right_one() {
    let costly = bcrypt_hash("right", 10).unwrap();
    let site = Site::start(Files::with(&format!("basic_auth_users: {{prometheus: '{costly}'}}")));
    assert_eq!(site.curl("/metrics", &["--user", "prometheus:right"]).status, 200);
    let mut guesses: Vec<_> = (0..200)
        .map(|number| {
            let user = if number % 2 == 0 { "prometheus" } else { "somebody" };
            let mut stream = TcpStream::connect(site.address).unwrap();
            stream.write_all(request(&format!("{user}:guess {number}")).as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(site.curl("/metrics", &["--user", "prometheus:right"]).status, 200);
    // It did not wait for their checks.
    let last = guesses.pop().unwrap();
    last.set_nonblocking(true).unwrap();
    assert_eq!(last.peek(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(status(guesses.swap_remove(0)), "HTTP/1.1 401");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let site = Site::start(Files::with(""));
    let large = format!("X-Large: {}", "x".repeat(20 * 1024));
    assert_eq!(site.curl("/metrics", &["--header", &large]).status, 431);
    let many: Vec<_> = (0..100).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<_> = many.iter().flat_map(|header| ["--header", header]).collect();
    assert_eq!(site.curl("/metrics", &many).status, 431);
}
