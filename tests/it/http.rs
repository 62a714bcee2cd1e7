use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use llm_relay_exporter::http::{self, Paths, State};
use llm_relay_exporter::model::{ReadError, Reason, Source};
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::View;
use llm_relay_exporter::web::Protection;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::{self, Answer};
use crate::dashboards::prometheus::Prometheus;
use crate::exposition::{Dialect, parse, series};
use crate::full_view::{own, unread, user, view, with_users};

/// A running server on a free port.
pub struct Server {
    runtime: Runtime,
    pub address: SocketAddr,
    pub state: State,
    pub shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    pub fn start(views: Vec<View>) -> Self {
        Self::start_at("/metrics", views)
    }

    fn start_at(telemetry_path: &str, views: Vec<View>) -> Self {
        Self::start_with(telemetry_path.into(), views)
    }

    fn start_with(paths: Paths, views: Vec<View>) -> Self {
        Self::start_on("127.0.0.1:0", paths, views)
    }

    fn start_on(listen: &str, paths: Paths, views: Vec<View>) -> Self {
        let listener = TcpListener::bind(listen).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let state = State {
            page: Shared::new(Page::new(views, own())),
            paths,
            protection: Protection::load(None).unwrap(),
            reload: None,
        };
        let shutdown = CancellationToken::new();
        let runtime = Runtime::new().unwrap();
        let running = runtime.spawn(http::run(vec![listener], state.clone(), shutdown.clone()));
        Self { runtime, address, state, shutdown, running }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn ask(&self, request: &str) -> Answer {
        client::exchange(self.address, request).unwrap()
    }

    pub fn get(&self, path: &str, headers: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"))
    }
}

#[test]
fn a_scrape_gets_the_format_and_coding_it_asks_for() {
    let server = Server::start(vec![view("main")]);
    let page = server.state.page.current();
    for (accept, format) in [("application/openmetrics-text", Format::OpenMetrics), ("*/*", Format::Text)] {
        let plain = server.get("/metrics", &format!("Accept: {accept}\r\n"));
        assert_eq!((plain.status, plain.header("content-type")), (200, Some(format.content_type())));
        assert_eq!(plain.header("vary"), Some("Accept, Accept-Encoding"));
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(&plain.body, page.bytes(format, Coding::Identity));

        let gzip = server.get("/metrics", &format!("Accept: {accept}\r\nAccept-Encoding: gzip\r\n"));
        assert_eq!((gzip.status, gzip.header("content-type")), (200, Some(format.content_type())));
        assert_eq!(gzip.header("content-encoding"), Some("gzip"));
        assert_eq!(&gzip.body, page.bytes(format, Coding::Gzip));
    }
}

#[test]
fn one_relay_can_be_scraped_alone() {
    let server = Server::start(vec![view("main"), view("b&b")]);
    let scrape = |query: &str| series(&parse(&server.get(&format!("/metrics{query}"), "").body, Dialect::Text));
    let whole = scrape("");
    for (query, relay, other) in [("?relay=main", "main", "b&b"), ("?relay=b%26b", "b&b", "main")] {
        let mut expected = whole.clone();
        expected.retain(|(_, labels), _| labels.get("relay").is_none_or(|it| it != other));
        assert!(expected.len() < whole.len(), "{relay}");
        assert_eq!(scrape(query), expected, "{relay}");
    }
    let unknown = server.get("/metrics?relay=nobody", "");
    assert_eq!((unknown.status, unknown.text()), (404, "no such relay\n"));
}

#[test]
fn a_scrape_before_the_first_read_says_that_the_sources_are_down() {
    let server = Server::start(vec![unread("main")]);
    let answer = server.get("/metrics", "");
    assert_eq!(answer.status, 200);
    let families = parse(&answer.body, Dialect::Text);
    let up = families.iter().find(|family| family.name == "llm_relay_source_up").unwrap();
    assert!(up.samples.len() == 3 && up.samples.iter().all(|sample| sample.value == 0.0), "{up:?}");
}

#[test]
fn head_gives_the_head_alone() {
    let server = Server::start(vec![view("main")]);
    for path in ["/metrics", "/", "/healthz"] {
        let get = server.get(path, "");
        let head = server.ask(&format!("HEAD {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert_eq!(head.header("content-length"), Some(&*get.body.len().to_string()), "{path}");
    }
}

#[test]
fn what_is_not_served_is_refused() {
    let server = Server::start(vec![view("main")]);
    for path in ["/metrics/", "/metricsx", "/favicon.ico", "/%00", "/../etc/passwd", "//"] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = server.ask(&format!(
            "{method} /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
    }
    for body in ["Content-Length: 1000000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        assert_eq!(server.get("/metrics", body).status, 413, "{body}");
    }
}

#[test]
fn ready_means_that_no_relay_is_waited_for_and_one_has_been_read() {
    let server = Server::start(Vec::new());
    assert_eq!(server.get("/readyz", "").status, 503);
    assert_eq!((server.get("/healthz", "").status, server.get("/healthz", "").text()), (200, "ok\n"));
    let ready = |views: Vec<View>| {
        server.state.page.publish(Page::new(views, own()));
        server.get("/readyz", "")
    };

    let mut begun = view("begun");
    for status in begun.sources.iter_mut().filter(|status| status.source == Source::Directory) {
        (status.last_success, status.failures) = (None, Vec::new());
    }
    let answer = ready(vec![view("main"), begun]);
    assert_eq!(answer.status, 503);
    let parts = "main ledger: read\nmain live: read\nmain directory: read\n\
                 begun ledger: read\nbegun live: read\nbegun directory: not read yet\n";
    assert_eq!(answer.text(), format!("not ready\n{parts}"));

    // One of several is down.
    let answer = ready(vec![view("main"), unread("second")]);
    assert_eq!(answer.status, 200);
    assert!(
        answer.text().ends_with("second directory: connection: refused by db.internal:5432\n"),
        "{}",
        answer.text()
    );
    assert_eq!(ready(vec![unread("second")]).status, 503, "nothing has been read");

    // A source that fails later, and live state that never came, do not take the readiness away.
    let mut later = view("main");
    later.sources.iter_mut().for_each(|status| status.up = false);
    later.sources.retain(|status| status.source != Source::Live);
    assert_eq!(ready(vec![later]).status, 200);
}

/// Whoever reaches an address beyond loopback learns that a relay cannot be read and why, not where its store is.
#[test]
fn strangers_are_told_no_address() {
    let views = || vec![view("main"), unread("second")];
    let (open, own) = (Server::start_on("0.0.0.0:0", "/metrics".into(), views()), Server::start(views()));
    for (path, told) in
        [("/readyz", "second ledger: connection"), ("/", "<em lang=\"en\">connection"), ("/?main", "never read")]
    {
        let (open, own) = (open.get(path, ""), own.get(path, ""));
        assert!(open.text().contains(told) && own.text().contains(told), "{path}: {}", open.text());
        assert!(!open.text().contains("db.internal"), "{path}: {}", open.text());
        assert!(own.text().contains("db.internal"), "{path}: {}", own.text());
    }
}

#[test]
fn the_landing_page_shows_each_relay_and_escapes_what_it_did_not_write() {
    let mut broken = unread("<script>alert(1)</script>");
    broken.sources[0].problem = Some(ReadError::new(Reason::Schema, "column \"a\" & 'b' are <missing>"));
    let server = Server::start(vec![view("main"), broken]);
    let answer = server.get("/", "");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(
        (answer.header("vary"), answer.header("cache-control")),
        (Some("Accept-Language, Accept-Encoding"), Some("no-store"))
    );
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
    let html = answer.text();
    for shown in [
        "<h2>main</h2><p class=\"soft\">every-relay · 0.9.9</p>",
        "<span class=\"soft\">Asia/Shanghai</span>",
        "<li class=\"source up\">ledger read ",
        "<li class=\"source down\">ledger never read",
        "The ledger cannot be read.",
        "<h2>&lt;script&gt;alert(1)&lt;/script&gt;</h2>",
        "schema: column &quot;a&quot; &amp; &#39;b&#39; are &lt;missing&gt;",
        "<a href=\"/metrics\">",
        concat!("<span class=\"soft\">", env!("CARGO_PKG_VERSION"), "</span>"),
    ] {
        assert!(html.contains(shown), "{shown} is missing in {html}");
    }
    assert_eq!(html.matches("<script").count(), 1, "its own alone");
    assert!(!html.contains("http://") && !html.contains("https://"));
    let packed = server.get("/", "Accept-Encoding: gzip\r\n");
    assert_eq!((packed.header("content-encoding"), packed.body.starts_with(&[0x1f, 0x8b])), (Some("gzip"), true));
    assert!(packed.body.len() * 3 < answer.body.len(), "{} of {} bytes", packed.body.len(), answer.body.len());
    let main = server.get("/?main", "");
    assert!(html.contains(main.text()) && main.text().starts_with("<section>"), "{}", main.text());
}

#[test]
fn what_is_absent_on_the_landing_page_says_why() {
    let section = |view: View| Server::start(vec![view]).get("/?main", "").text().to_owned();
    let first = section(unread("main"));
    assert!(first.contains("<dd>–</dd><dd class=\"below\">ledger cannot be read</dd>") && !first.contains("<data"));

    let mut waiting = unread("main");
    waiting.sources.iter_mut().for_each(|status| status.problem = None);
    assert!(section(waiting).contains("<dd class=\"below\">not read yet</dd>"));

    let mut without_redis = View { live: None, ..view("main") };
    without_redis.sources.retain(|status| status.source != Source::Live);
    assert!(section(without_redis).contains("<dd>–</dd><dd class=\"below\">no live store is configured</dd>"));

    // What a kind of relay never tells has no place but a reason.
    let balance = section(View { kind: "gemini-balance", ..unread("main") });
    assert!(!balance.contains("<dt>Sessions</dt>") && balance.contains("<dt>Requests today</dt>"));
    assert!(balance.contains("<li><b>Cost today</b>: the relay knows no prices and no costs</li>"), "{balance}");
    let chinese = server_in_chinese(View { kind: "gemini-balance", ..unread("main") });
    assert!(chinese.contains("<li><b>今日成本</b>：中转没有价格，也不计成本</li>"), "{chinese}");
}

fn server_in_chinese(view: View) -> String {
    Server::start(vec![view]).get("/", "Accept-Language: zh-CN,zh;q=0.9,en;q=0.8\r\n").text().to_owned()
}

#[test]
fn another_telemetry_path_takes_the_place_of_the_first() {
    let server = Server::start_at("/probe/llm", vec![view("main")]);
    assert_eq!(server.get("/probe/llm", "").header("content-type"), Some(Format::Text.content_type()));
    assert_eq!(server.get("/metrics", "").status, 404);
    assert!(server.get("/", "").text().contains("<a href=\"/probe/llm\">"));

    let server = Server::start_at("/", vec![view("main")]);
    assert_eq!(server.get("/", "").header("content-type"), Some(Format::Text.content_type()));
}

#[test]
fn an_unusable_path_is_refused_by_the_name_of_its_argument() {
    for path in ["", "metrics", "/{a}", "/{*a}", "/{", "/:a", "/*a", "/a b", "/ä", "/?q", "//", "/healthz", "/readyz"]
    {
        assert!(Paths::new(path, "/", "/").unwrap_err().starts_with("--web.telemetry-path: "), "{path}");
    }
    assert!(Paths::new("/metrics", "llm", "/").unwrap_err().starts_with("--web.route-prefix: "));
    assert!(Paths::new("/metrics", "/", "/{a}").unwrap_err().starts_with("--web.external-url: "));
    for path in ["/", "/metrics", "/a/b-c_d.e~f/"] {
        assert!(Paths::new(path, path, path).is_ok(), "{path}");
    }
}

#[test]
fn below_a_prefix_everything_is_served_there_and_the_root_leads_to_it() {
    let server = Server::start_with(Paths::new("/metrics", "/llm/", "/llm/").unwrap(), vec![view("main")]);
    for path in ["/llm/", "/llm/metrics", "/llm/healthz"] {
        assert_eq!(server.get(path, "").status, 200, "{path}");
    }
    for path in ["/metrics", "/healthz", "/llmmetrics"] {
        assert_eq!(server.get(path, "").status, 404, "{path}");
    }
    for path in ["/", "/llm"] {
        let answer = server.get(path, "");
        assert_eq!((answer.status, answer.header("location")), (303, Some("/llm/")), "{path}");
    }
    assert!(server.get("/llm/", "").text().contains(r#"href="/llm/metrics""#));
}

#[test]
fn behind_a_proxy_that_takes_the_prefix_away_the_links_still_lead_there() {
    let server = Server::start_with(Paths::new("/metrics", "/", "/llm/").unwrap(), vec![view("main")]);
    assert_eq!(server.get("/metrics", "").status, 200);
    assert!(server.get("/", "").text().contains(r#"href="/llm/metrics""#));
}

#[test]
fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let server = Server::start(vec![view("main")]);
    let begun = Instant::now();
    let clients = ["", "GET /met", "GET /metrics HTTP/1.1\r\nHost: test\r\nX-Slow: "].map(|sent| {
        let mut stream = server.connect();
        stream.write_all(sent.as_bytes()).unwrap();
        (sent, stream)
    });
    for (sent, mut stream) in clients {
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut rest);
        assert!(begun.elapsed() < Duration::from_secs(20), "{sent:?} was still open after {:?}", begun.elapsed());
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{sent:?}");
    }
    assert_eq!(server.get("/metrics", "").status, 200);
}

#[test]
fn two_hundred_scrapes_at_once_get_identical_bytes() {
    let server = Server::start(vec![view("main"), view("second")]);
    let expected = server.state.page.current().bytes(Format::Text, Coding::Identity).clone();
    let request = b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    // All are connected and have asked before the first is read.
    let mut streams: Vec<_> = (0..200).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(request).unwrap());
    for mut stream in streams {
        assert!(Answer::read(&mut stream).unwrap().body == expected);
    }
}

#[test]
fn a_shutdown_lets_a_running_response_finish_and_refuses_new_clients() {
    // Larger than what the sockets hold, so that the response is still running when the shutdown begins.
    let users = (0..20_000).map(|id| user(id, &"long ".repeat(60))).collect();
    let server = Server::start(vec![with_users(view("main"), users)]);
    let expected = server.state.page.current().bytes(Format::Text, Coding::Identity).clone();
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut first = [0; 1024];
    stream.read_exact(&mut first).unwrap();
    server.shutdown.cancel();
    // The listener is closed before the response is done.
    let begun = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20), "new clients are still taken");
    }
    assert!(!server.running.is_finished());
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let whole = [&first[..], &rest].concat();
    assert!(whole.ends_with(&expected), "{} of {} bytes", whole.len(), expected.len());
    server.runtime.block_on(server.running).unwrap().unwrap();
}

#[test]
fn a_shutdown_does_not_wait_for_idle_clients() {
    let server = Server::start(vec![view("main")]);
    let mut idle = server.connect();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    idle.read_exact(&mut [0; 15]).unwrap();
    let begun = Instant::now();
    server.shutdown.cancel();
    server.runtime.block_on(server.running).unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_real_prometheus_scrapes_the_page_and_gives_its_values_back() {
    let name = "14\" \\ two\nlines 🦀";
    let server = Server::start(vec![with_users(view("main"), vec![user(7, name)])]);
    let prometheus = Prometheus::scraping(server.address, "");
    let value = |expression: &str| prometheus.some(expression)[0]["value"][1].as_str().unwrap().to_owned();

    assert_eq!(prometheus.some("llm_relay_user_info")[0]["metric"]["user"], name);
    assert_eq!(value("up"), "1");
    assert_eq!(value("llm_relay_user_info{user=\"14\\\" \\\\ two\\nlines 🦀\"}"), "1");
    assert_eq!(value("llm_relay_user_cost_usd_total"), "12.345678");
    assert_eq!(value("llm_relay_key_tokens_total{key_id=\"other\"}"), "9007199254740991");
    assert_eq!(value("llm_relay_request_duration_seconds_bucket{le=\"2.5\"}"), "1");
    assert_eq!(value("llm_relay_request_duration_seconds_count"), "3");
    let tenth: f64 = value("histogram_quantile(0.1, llm_relay_request_duration_seconds_bucket)").parse().unwrap();
    assert!((tenth - 0.03).abs() < 1e-9, "{tenth}");
    assert_eq!(value("sum(llm_relay_source_up)"), "3");
    assert_eq!(value("scrape_samples_scraped"), value("scrape_samples_post_metric_relabeling"));
}
