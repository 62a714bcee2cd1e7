//! The landing page in a real browser, driven by chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use llm_relay_exporter::model::Scope;
use llm_relay_exporter::page::Page;
use llm_relay_exporter::view::View;
use serde_json::{Value, json};

use crate::full_view::{own, unread, view};
use crate::guarded::Guarded;
use crate::http::Server;
use crate::wait::seen;

/// A browser with one window; it ends with its value.
struct Browser {
    _driver: Guarded,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A window so wide, in pixels, of somebody who reads `language`.
    fn open(width: u32, language: &str) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is installed");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let started =
            lines.find_map(|line| line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok());
        let port = started.expect("chromedriver tells its port");
        std::thread::spawn(move || lines.for_each(drop));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { _driver: Guarded(driver), port, session: String::new(), _profile: profile };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            &profile,
        ];
        let options = json!({
            "args": arguments,
            "prefs": {"intl.accept_languages": language},
            "mobileEmulation": {"deviceMetrics": {"width": width, "height": 800, "pixelRatio": 1.0}},
        });
        let capabilities = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let session = browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": capabilities}}));
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let body = body.to_string();
        write!(
            stream,
            "{method} {}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.session,
            body.len()
        )
        .unwrap();
        // It keeps its connections open, so the length tells the end.
        let mut answer = BufReader::new(stream);
        let head: Vec<String> =
            answer.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let mut lengths =
            head.iter().filter_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let body = answer.take(lengths.next().unwrap());
        let mut answer: Value = serde_json::from_reader(body).unwrap();
        let value = answer["value"].take();
        assert_eq!(value.get("error"), None, "{path}: {value}");
        value
    }

    fn look_at(&self, server: &Server) {
        self.ask("POST", "/url", &json!({"url": format!("http://{}/", server.address)}));
    }

    fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    fn until(&self, what: &str, script: &str) {
        seen(what, String::new, || self.run(script) == json!(true));
    }

    fn console(&self) -> Value {
        self.ask("POST", "/se/log", &json!({"type": "browser"}))
    }

    /// Relay, series without the relay, and value of every number that is shown.
    fn numbers(&self) -> Vec<(String, String, f64)> {
        let script = "return [...document.querySelectorAll('data')].map(it =>
            [it.closest('section').querySelector('h2').textContent, it.title, Number(it.value)])";
        serde_json::from_value(self.run(script)).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", "", &json!({}));
        }
    }
}

/// A number's value on the page of metrics.
fn scraped(metrics: &str, relay: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let comma = if labels.is_empty() { "" } else { "," };
    let begins = format!("{name}{{relay=\"{relay}\"{comma}{labels}");
    let line = metrics.lines().find(|line| line.strip_prefix(&begins).is_some_and(|rest| rest.starts_with([',', '}'])));
    line?.rsplit_once(' ')?.1.parse().ok()
}

fn with_sessions(relay: &str, sessions: u64) -> View {
    let mut view = view(relay);
    let mut live = view.live.as_deref().cloned().unwrap();
    live.sessions = Some(sessions);
    view.live = Some(Arc::new(live));
    view
}

/// What a client may call itself to harm whoever looks.
const HOSTILE: &str = "<img src=x onerror=alert(1)></li></section><script>alert(2)</script>";

fn hostile(relay: &str) -> View {
    let mut view = view(relay);
    let mut ledger = view.ledger.as_deref().cloned().unwrap();
    for (board, name) in
        ledger.boards.iter_mut().zip([HOSTILE, &"W".repeat(250), "\u{202e}gnp", "模型".repeat(90).as_str()])
    {
        board.entries[0].name = name.to_owned();
    }
    view.ledger = Some(Arc::new(ledger));
    view
}

#[test]
fn a_browser_shows_the_numbers_of_the_page_of_metrics_and_renews_them() {
    let server = Server::start(vec![with_sessions("main", 1234), view("second")]);
    let browser = Browser::open(1280, "en");
    browser.look_at(&server);
    let equal = || {
        let metrics = server.get("/metrics", "");
        let numbers = browser.numbers();
        for (relay, series, value) in &numbers {
            assert_eq!(scraped(metrics.text(), relay, series), Some(*value), "{relay}: {series}");
        }
        numbers
    };
    let numbers = equal();
    for series in [
        "llm_relay_sessions_active",
        "llm_relay_requests_in_progress",
        "llm_relay_requests_last_minute",
        "llm_relay_tokens_last_minute",
        "llm_relay_day_requests{day=\"today\"}",
        "llm_relay_day_requests{day=\"yesterday_same_time\"}",
        "llm_relay_day_cost_usd{day=\"today\"}",
        "llm_relay_day_mean_duration_seconds{day=\"today\"}",
        "llm_relay_day_error_ratio{day=\"today\"}",
        "llm_relay_leaderboard_cost_usd{scope=\"user\",period=\"today\",id=\"7\"}",
        "llm_relay_leaderboard_cost_usd{scope=\"provider\",period=\"today\",id=\"7\"}",
        "llm_relay_leaderboard_cost_usd{scope=\"model\",period=\"today\",id=\"7\"}",
        "llm_relay_provider_slots_used{provider_id=\"3\"}",
        "llm_relay_http_probe_duration_seconds",
    ] {
        assert_eq!(numbers.iter().filter(|it| it.1 == series).count(), 2, "{series} of each relay: {numbers:?}");
    }
    assert_eq!(browser.run("return document.querySelector('dd').textContent"), "1,234");

    server.state.page.publish(Page::new(vec![with_sessions("main", 77), unread("second")], own()));
    browser.until("it renews itself", "return document.querySelector('dd').textContent === '77'");
    let numbers = equal();
    assert!(numbers.iter().all(|(relay, ..)| relay == "main"), "what has not been read has no number: {numbers:?}");
    assert_eq!(browser.console(), json!([]));
    server.shutdown.cancel();
    browser.until("the old numbers are called old", "return document.querySelector('.lost').offsetHeight > 0");
}

#[test]
fn in_every_form_nothing_overflows_and_hostile_names_stay_text() {
    let server = Server::start(vec![hostile("main"), unread(&"relay".repeat(30))]);
    for (width, language, lang, word) in [
        (360, "en", "en", "Sessions"),
        (1280, "en", "en", "Sessions"),
        (360, "zh-CN,zh", "zh", "会话"),
        (1280, "zh-TW,zh,en", "zh", "会话"),
    ] {
        let browser = Browser::open(width, language);
        browser.look_at(&server);
        let shown = browser.run(
            "return [document.documentElement.lang, document.querySelector('dt').textContent,
                document.documentElement.scrollWidth, document.images.length, document.scripts.length,
                [...document.querySelectorAll('.name')].some(it => it.textContent.includes('<img src=x'))]",
        );
        assert_eq!(shown, json!([lang, word, width, 0, 1, true]));
        let cut = "return [...document.querySelectorAll('main *')].filter(it => it.scrollWidth > it.clientWidth + 1
            && it.clientWidth > 0).map(it => it.outerHTML)";
        assert_eq!(browser.run(cut), json!([]), "at {width} in {language}");
        assert_eq!(browser.console(), json!([]));
    }
}

#[test]
fn names_on_the_landing_page_are_those_of_the_boards() {
    use llm_relay_exporter::view::NameMode;
    let aliased = View { names: NameMode::Alias, ..view("main") };
    let html = Server::start(vec![aliased]).get("/", "").text().to_owned();
    assert!(!html.contains(">upstream<") && html.contains(&format!(">{}-", Scope::Provider.label())), "{html}");
}
