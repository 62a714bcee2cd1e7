//! Changes of the file take effect without a restart, and broken ones do not.

use std::sync::{LazyLock, Mutex};

use llm_relay_exporter::serve;
use llm_relay_exporter::settings::Plan;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

fn reload_fails(site: &Site) {
    eventually("the reload fails", || !site.protection.last_reload().unwrap().successful);
}

#[test]
fn users_change_without_a_restart_and_a_broken_file_changes_nothing() {
    let site = Site::start(Files::with(&users(&[("alice", "one")])));
    let begun = site.protection.last_reload().unwrap();
    assert!(begun.successful);
    assert_eq!(site.curl("/metrics", &["--user", "alice:one"]).status, 200);

    site.files.write("web.yml", &format!("{}tls_sever_config: {{}}\n", users(&[("alice", "two")])));
    reload_fails(&site);
    assert_eq!(site.protection.last_reload().unwrap().last_success, begun.last_success);
    assert_eq!(site.curl("/metrics", &["--user", "alice:one"]).status, 200);
    assert_eq!(site.curl("/metrics", &["--user", "alice:two"]).status, 401);

    site.files.write("web.yml", &users(&[("alice", "two")]));
    eventually("the new password opens", || site.curl("/metrics", &["--user", "alice:two"]).status == 200);
    assert_eq!(site.curl("/metrics", &["--user", "alice:one"]).status, 401);
    let mended = site.protection.last_reload().unwrap();
    assert!(mended.successful && mended.last_success > begun.last_success);
}

#[test]
fn tokens_change_with_their_file_alone() {
    let files = Files::with("bearer_tokens_file: tokens\n");
    files.write("tokens", &sha256("old"));
    let site = Site::start(files);
    assert_eq!(site.curl("/metrics", &["--oauth2-bearer", "old"]).status, 200);
    // Put in place as a whole, as orchestrators do.
    site.files.write("tokens.new", &sha256("new"));
    std::fs::rename(site.files.path("tokens.new"), site.files.path("tokens")).unwrap();
    eventually("the new token opens", || site.curl("/metrics", &["--oauth2-bearer", "new"]).status == 200);
    assert_eq!(site.curl("/metrics", &["--oauth2-bearer", "old"]).status, 401);
}

#[test]
fn a_file_that_is_emptied_or_gone_does_not_open_the_server() {
    let site = Site::start(Files::with(&users(&[("alice", "one")])));
    site.files.write("web.yml", "");
    reload_fails(&site);
    assert_eq!(site.curl("/metrics", &[]).status, 401);
    assert_eq!(site.curl("/metrics", &["--user", "alice:one"]).status, 200);

    site.files.write("web.yml", &users(&[("alice", "one")]));
    eventually("the file is good again", || site.protection.last_reload().unwrap().successful);
    std::fs::remove_file(site.files.path("web.yml")).unwrap();
    reload_fails(&site);
    assert_eq!(site.curl("/metrics", &[]).status, 401);
}

#[test]
fn a_failed_reload_is_a_metric() {
    let files = Files::with(&users(&[("alice", "pw")]));
    let protection = Protection::load(Some(&files.path("web.yml"))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/metrics", listener.local_addr().unwrap());
    let (runtime, shutdown) = (Runtime::new().unwrap(), CancellationToken::new());
    let stop = shutdown.clone();
    let served = runtime.spawn(async move {
        let plan = Plan { relays: Default::default(), store: None };
        serve::run(&plan, listener, "/metrics", protection, stop).await
    });
    let shows = |value: &str| {
        let page = curl(&url, &["--user", "alice:pw"]).text;
        page.contains(&format!("\nllm_relay_exporter_config_last_reload_successful{{config=\"web\"}} {value}"))
            && page.contains("\nllm_relay_exporter_config_last_reload_success_timestamp_seconds{config=\"web\"} 1")
    };
    eventually("the first reading is shown", || shows("1"));
    files.write("web.yml", "nonsense");
    eventually("the failure is shown", || shows("0"));
    shutdown.cancel();
    runtime.block_on(served).unwrap().unwrap();
}

/// What all servers of this test binary have logged. One log for all, because the macros remember whether anybody
/// listens: with a log for each test they would sometimes remember it wrongly.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let (filter, writer) = (EnvFilter::new("llm_relay_exporter=trace,rustls=trace,hyper=trace"), log.clone());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer).init();
    log
});

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(text).count()
    }
}

#[test]
fn the_log_says_once_what_is_wrong_and_holds_no_secret() {
    LazyLock::force(&LOG);
    let site = Site::start(Files::with(&users(&[("alice", "hunter2")])));
    let file = site.files.path("web.yml");
    let said = |problem: &str| {
        let text = format!("{} cannot be used:\n  line 1: basic_auth_users: {problem}", file.display());
        LOG.count(&text)
    };
    assert_eq!(site.curl("/metrics", &["--user", "alice:hunter2"]).status, 200);
    assert_eq!(site.curl("/metrics", &["--user", "alice:hunter3"]).status, 401);
    assert_eq!(site.curl("/metrics", &["--oauth2-bearer", "hunter4"]).status, 401);

    site.files.write("web.yml", "basic_auth_users: {alice: hunter5}\n");
    eventually("the problem is logged", || said("not a bcrypt hash") == 1);
    // The same problem in a file that was written again, then another one.
    site.files.write("web.yml", "basic_auth_users: {alice: hunter6, }\n");
    site.files.write("web.yml", "basic_auth_users: {alice: [hunter7]}\n");
    eventually("the other problem is logged", || said("each value must be text") == 1);
    assert_eq!(said("not a bcrypt hash"), 1);
    site.files.write("web.yml", &users(&[("alice", "hunter8")]));
    eventually("the reload is logged", || LOG.count(&format!("{} was read again", file.display())) == 1);
    assert!(site.protection.last_reload().unwrap().successful);
    for secret in ["hunter", "$2y$04", "Basic "] {
        assert_eq!(LOG.count(secret), 0, "{secret}");
    }
}

#[test]
fn listening_beyond_this_machine_without_authentication_is_logged() {
    LazyLock::force(&LOG);
    for (address, web, warnings) in
        [("0.0.0.0:0", String::new(), 1), ("127.0.0.1:0", String::new(), 0), ("0.0.0.0:0", users(&[("a", "b")]), 0)]
    {
        let site = Site::listen(address, Files::with(&web));
        // The server answers after it has said so.
        assert_eq!(site.curl("/healthz", &[]).status, 200);
        let warning = format!(":{} can read the metrics; add basic_auth_users", site.address.port());
        assert_eq!(LOG.count(&warning), warnings, "{address} {web}");
    }
}
