//! What a real Prometheus makes of the counters while a ledger has the histories that once invented money: `increase`
//! over the whole time is what was really asked for and spent, and no series is ever reset.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::claude_code_hub::Store;
use crate::dashboards::prometheus::Prometheus;
use crate::process::{Process, total};
use crate::wait::PATIENCE;

/// Of relays with rows, in the words of both their families.
const REQUESTS: [&str; 4] = [
    "llm_relay_requests_total",
    "llm_relay_responses_total",
    "llm_relay_user_requests_total",
    "llm_relay_key_requests_total",
];
const DOLLARS: [&str; 3] =
    ["llm_relay_cost_usd_total", "llm_relay_user_cost_usd_total", "llm_relay_key_cost_usd_total"];

/// A relay, its exporter with a store, and what became of the ledger so far.
struct Scene {
    store: Store,
    config: String,
    address: SocketAddr,
    exporter: Option<Process>,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn new(name: &str, release: &str) -> Self {
        let mut store = Store::new(name, release).await;
        store.people().await;
        store.run("insert into users (name) values ('bob'); insert into keys (user_id, key, name) values (2, 'sk-bob', 'pc')").await;
        let directory = tempfile::tempdir().unwrap();
        let config = format!(
            "[store]\nurl = \"sqlite:{}\"\nsave_interval = \"1s\"\n[relays.{name}]\nkind = \"claude-code-hub\"\n\
             database_url = \"{}\"\ninterval = \"1s\"\n",
            directory.path().join("store.db").display(),
            store.url
        );
        // Free now, and taken by the first exporter.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { store, config, address, exporter: None, _directory: directory }
    }

    fn start(&mut self) {
        self.exporter = Some(tokio::task::block_in_place(|| Process::at(self.address, &self.config)));
    }

    /// Ends the exporter once it shows so many requests of all users.
    fn end(&mut self, requests: f64) {
        self.until(requests);
        tokio::task::block_in_place(|| self.exporter.take().unwrap().end());
    }

    fn until(&self, requests: f64) {
        let exporter = self.exporter.as_ref().unwrap();
        let relay = self.relay();
        let shown = |page: &_| total(page, "llm_relay_user_requests_total", &relay);
        tokio::task::block_in_place(|| exporter.until(&format!("{requests} requests"), |page| shown(page) >= requests));
    }

    fn relay(&self) -> String {
        self.store.url.rsplit('/').next().unwrap().to_owned()
    }

    /// Requests that ended a while ago.
    async fn ask(&mut self, user: &str, count: u32, cost: &str, rest: &str) {
        // Many would be looked at again and again where they may still change.
        let ago = if count > 1000 { 1200 } else { 5 };
        let sql = format!(
            "insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd,
                                          duration_ms, input_tokens, output_tokens, created_at)
             select 1, u.id, 'sk-' || u.name, {rest}, {cost}, 900, 10, 20, now() - interval '{ago} seconds'
             from generate_series(1, {count}) g, users u where u.name = '{user}'"
        );
        self.store.run(&sql).await;
    }
}

const SUCCESS: &str = "'cheap', 'dear', 200";

/// Rows get outcomes with an upgrade, in both orders with the back-fill; then the name that is billed is switched.
async fn upgrade(scene: &mut Scene, back_fill_first: bool) {
    scene.end(101.0);
    scene.store.run("alter table usage_ledger add success_rate_outcome varchar(16)").await;
    let back_fill = "update usage_ledger set success_rate_outcome = case
        when status_code = 200 then 'success' when status_code = 499 then 'excluded' else 'failure' end";
    if back_fill_first {
        scene.store.run(back_fill).await;
    }
    scene.start();
    scene.ask("ann", 10, "1", SUCCESS).await;
    scene.until(111.0);
    scene.store.run(back_fill).await;
    scene.ask("ann", 10, "1", SUCCESS).await;
    scene.end(121.0);
    for (n, source) in ["redirected", "original"].iter().enumerate() {
        scene.store.run(&format!("update system_settings set billing_model_source = '{source}'")).await;
        scene.ask("ann", 10, "1", SUCCESS).await;
        scene.start();
        scene.end(131.0 + 10.0 * n as f64);
    }
    scene.start();
    scene.until(141.0);
}

/// A backup is restored while the exporter is stopped, and the ids that were lost are given out again.
async fn another_past(scene: &mut Scene) {
    scene.ask("ann", 100, "2", SUCCESS).await;
    scene.end(201.0);
    scene
        .store
        .run(
            "delete from message_request where id > 101; delete from usage_ledger where request_id > 101;
             select setval('message_request_id_seq', 101), setval('usage_ledger_id_seq', (select max(id) from usage_ledger))",
        )
        .await;
    scene.store.run("select pg_sleep(0.01)").await;
    let sql = "insert into message_request (provider_id, user_id, key, model, original_model, status_code, cost_usd, created_at)
               select 1, 2, 'sk-bob', 'cheap', 'dear', 200, 5, now() from generate_series(1, 150)";
    scene.store.run(sql).await;
    scene.start();
    scene.until(351.0);
}

/// More names that never succeed than are remembered (`MODELS` in `src/tally/names.rs`) come, go with their rows, and
/// the exporter restarts.
async fn invented_names(scene: &mut Scene) {
    scene.ask("ann", 40_000, "0.01", "'junk-' || g, 'junk-' || g, 400").await;
    scene.end(40_101.0);
    scene.start();
    scene.ask("ann", 10, "1", SUCCESS).await;
    scene.end(40_111.0);
    scene
        .store
        .run(
            "delete from message_request where model like 'junk-%'; delete from usage_ledger where model like 'junk-%'",
        )
        .await;
    scene.start();
    scene.ask("ann", 10, "1", SUCCESS).await;
    scene.until(40_121.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_no_increase_that_nobody_caused() {
    let mut scenes = Vec::new();
    for (name, release) in
        [("upgraded", "v0.6.5"), ("upgraded_late", "v0.6.5"), ("restored_past", "v0.9.2"), ("junk_names", "v0.9.2")]
    {
        let mut scene = Scene::new(name, release).await;
        scene.ask("ann", 70, "1", SUCCESS).await;
        scene.ask("ann", 20, "0", "'dear', 'dear', 500").await;
        scene.ask("ann", 10, "1", "'cheap', 'cheap', 499").await;
        scene.ask("bob", 1, "1", SUCCESS).await;
        scene.start();
        scenes.push(scene);
    }
    let jobs: String = scenes
        .iter()
        .map(|it| format!("  - job_name: {}\n    static_configs: [{{targets: ['{}']}}]\n", it.relay(), it.address))
        .collect();
    let config = format!("global:\n  scrape_interval: 1s\nscrape_configs:\n{jobs}");
    let prometheus = tokio::task::block_in_place(|| Prometheus::start(tempfile::tempdir().unwrap(), &config));
    let ask = |expression: &str| -> Option<f64> { tokio::task::block_in_place(|| prometheus.number(expression)) };
    let until = async |expression: &str, expected: f64| {
        let began = Instant::now();
        while ask(expression).is_none_or(|seen| (seen - expected).abs() > 1e-6) {
            assert!(began.elapsed() < PATIENCE, "{expression} is {:?}, not {expected}", ask(expression));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    for scene in &scenes {
        // Two samples before anything happens.
        until(&format!("sum(llm_relay_user_requests_total{{job='{}'}} offset 1s)", scene.relay()), 101.0).await;
    }
    // Each in a task of its own, because they wait for processes.
    let mut scenes = scenes.into_iter();
    let mut next = || scenes.next().unwrap();
    let (mut first, mut late, mut past, mut names) = (next(), next(), next(), next());
    let played = tokio::try_join!(
        tokio::spawn(async move {
            upgrade(&mut first, true).await;
            first
        }),
        tokio::spawn(async move {
            upgrade(&mut late, false).await;
            late
        }),
        tokio::spawn(async move {
            another_past(&mut past).await;
            past
        }),
        tokio::spawn(async move {
            invented_names(&mut names).await;
            names
        }),
    );
    let (first, late, past, names) = played.unwrap();

    // Requests and dollars that there were since, and how many of each all families have in the end.
    let truths = [(40.0, 40.0, 141.0, 121.0), (40.0, 40.0, 141.0, 121.0), (250.0, 950.0, 351.0, 1031.0)];
    let truths = truths.into_iter().chain([(40_020.0, 420.0, 40_121.0, 501.0)]);
    for (scene, (requests, dollars, all_requests, all_dollars)) in [first, late, past, names].iter().zip(truths) {
        let relay = scene.relay();
        for (metrics, increase, all) in [(&REQUESTS[..], requests, all_requests), (&DOLLARS[..], dollars, all_dollars)]
        {
            for metric in metrics {
                let series = format!("{metric}{{job='{relay}'}}");
                until(&format!("sum({series})"), all).await;
                assert_eq!(ask(&format!("sum(resets({series}[1h]))")), Some(0.0), "{relay}: {metric}");
                // A series' first value is no increase to Prometheus, and it extrapolates a little beyond the last.
                let seen = ask(&format!("sum(increase({series}[1h]))")).unwrap();
                assert!(seen < increase * 1.25, "{relay}: {metric} increased by {seen}, true are {increase}");
            }
        }
        let last =
            ask(&format!("sum(increase(llm_relay_user_cost_usd_total{{job='{relay}', user_id='1'}}[1h]))")).unwrap();
        let spent = if relay == "restored_past" { 200.0 } else { dollars };
        assert!((spent * 0.9..spent * 1.25).contains(&last), "{relay}: ann spent {last}, true are {spent}");
    }
}
