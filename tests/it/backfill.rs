//! History for a Prometheus that was not there: against plain SQL, against a live exporter, through a kill.

mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use llm_relay_exporter::demo::{HistoryOptions, Pace, SimulatorOptions, Urls};
use llm_relay_exporter::metrics::{CATALOGUE, MetricType};
use llm_relay_exporter::relay::unsupported::unsupported_reason;
use llm_relay_exporter::relays::claude_code_hub::demo::{self, SimulateOptions};
use llm_relay_exporter::serve;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::servers::prometheus::{PrivatePrometheus, Series};
use llm_relay_exporter::settings;
use llm_relay_exporter::web::Protection;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::dashboards::prometheus;
use crate::wait::PATIENCE;

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap());
    command.env("DATABASE_URL", url).env("TZ", "Asia/Shanghai");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn filled(server: &PrivatePostgres, history: &HistoryOptions) -> String {
    crate::claude_code_hub::filled(server, "claude_code_hub", history).await
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let read = entries.filter(|entry| entry.path().is_file());
    read.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

/// Families that a back-fill has.
fn past() -> BTreeSet<&'static str> {
    let told = CATALOGUE.iter().filter(|metric| metric.is_backfillable());
    told.map(|metric| metric.name).collect()
}

fn family(series: &str) -> &str {
    let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end));
    bare.filter(|name| past().contains(name)).unwrap_or(series)
}

/// A configuration with few series to write down; what is beyond them folds into `other`.
fn narrow(series: &str) -> tempfile::NamedTempFile {
    let config = tempfile::NamedTempFile::new().unwrap();
    let settings = format!(
        "[relays.it]\nkind = \"claude-code-hub\"\ndatabase_url_env = \"DATABASE_URL\"\ninterval = \"1s\"\n\
         timezone_fallback = \"Asia/Shanghai\"\nseries = {{{series}}}\n"
    );
    fs::write(&config, settings).unwrap();
    config
}

/// The values of an instant query by labels.
fn by_labels(answer: Vec<Series>) -> BTreeMap<BTreeMap<String, String>, f64> {
    answer.into_iter().map(|series| (series.metric, series.value.unwrap().1.parse().unwrap())).collect()
}

async fn one(prometheus: &PrivatePrometheus, expression: &str, at: i64) -> f64 {
    let answer = by_labels(prometheus.query(expression, at).await.unwrap());
    assert_eq!(answer.len(), 1, "{expression} at {at}: {answer:?}");
    answer.into_values().next().unwrap()
}

/// Series with their instants and values, in order.
fn samples(file: &[u8]) -> BTreeMap<(String, String), f64> {
    let lines = String::from_utf8_lossy(file).into_owned();
    let lines = lines.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.rsplitn(3, ' ').map(str::to_owned).collect::<Vec<_>>());
    parts.map(|it| ((it[2].clone(), it[0].clone()), it[1].parse().unwrap())).collect()
}

/// Finished requests up to an instant, as plain SQL has them: what the relay counts, and that have ended by then.
const COUNTED: &str =
    "blocked_by is null and not is_replay and (endpoint is null or lower(regexp_replace(endpoint, '/+$', ''))
    not in ('/v1/messages/count_tokens', '/v1/responses/compact'))";
const ENDED: &str = "(status_code is not null or success_rate_outcome is not null)
    and created_at + coalesce(duration_ms, 0) * interval '1 millisecond' <= to_timestamp($1)";

#[tokio::test(flavor = "multi_thread")]
async fn live_series_go_on_where_the_back_fill_ends() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let began = Instant::now();
    // All has ended before the back-fill does: what ends between that and the first scrape would be on one side only.
    let until = Utc::now() - TimeDelta::minutes(5);
    let history = HistoryOptions { days: 3, requests_per_day: 400, until, ..HistoryOptions::default() };
    let url = filled(&postgres, &history).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();

    // As the README says: back-fill, make blocks, start Prometheus, start the exporter.
    let mut prometheus = PrivatePrometheus::new().unwrap();
    let out = prometheus.directory().join("fill");
    let instance = format!("instance={address}");
    // Budgets so small that some models, keys and histograms fold into `other`.
    let config = narrow("max_models = 4, max_keys = 6, max_histograms = 6");
    let config_file = format!("--config.file={}", config.path().display());
    let filled_until = Utc::now();
    let to = filled_until.to_rfc3339();
    let arguments = [
        &config_file,
        "backfill",
        "--out",
        out.to_str().unwrap(),
        "--from",
        "26h",
        "--to",
        &to,
        "--step",
        "2m",
        "--label",
        &instance,
        "--label",
        "job=it",
    ];
    let told = succeeded(&command(&url, &arguments).output().unwrap());
    assert!(told.contains("promtool tsdb create-blocks-from openmetrics"), "{told}");
    println!("back-filled after {:.1} s", began.elapsed().as_secs_f64());
    for name in files(&out).keys().filter(|name| name.ends_with(".om")) {
        prometheus.import(&out.join(name), 18 * 3600).await.unwrap();
    }
    prometheus
        .start(&format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: it, static_configs: [{{targets: ['{address}']}}]}}]\n"
        ))
        .await
        .unwrap();
    println!("imported after {:.1} s", began.elapsed().as_secs_f64());

    // The past against plain SQL, at instants of all kinds.
    let mut ledger = PgConnection::connect(&url).await.unwrap();
    let seam = filled_until.timestamp() / 120 * 120;
    let midnight = (filled_until.timestamp() + 8 * 3600) / 86400 * 86400 - 8 * 3600;
    let mut differ = 0;
    let around_midnight = [midnight - 120, midnight, midnight + 120].into_iter().filter(|at| *at <= seam);
    for at in (0..12).map(|n| seam - n * n * 6 * 120).chain(around_midnight) {
        let sql = format!(
            "select count(*), coalesce(sum(cost_usd), 0)::float8, coalesce(sum(duration_ms) filter (where final_provider_id = 1), 0)::float8 / 1e3,
             count(*) filter (where user_id = 2) from usage_ledger where {COUNTED} and {ENDED}"
        );
        let (requests, cost, seconds, of_user): (i64, f64, f64, i64) =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(at as f64).fetch_one(&mut ledger).await.unwrap();
        differ += requests;
        let near = |ours: f64, theirs: f64| {
            assert!((ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0), "{ours} {theirs} at {at}");
        };
        near(one(&prometheus, "sum(llm_relay_requests_total)", at).await, requests as f64);
        near(one(&prometheus, "sum(llm_relay_cost_usd_total)", at).await, cost);
        near(one(&prometheus, "sum(llm_relay_request_duration_seconds_sum{provider_id=\"1\"})", at).await, seconds);
        near(one(&prometheus, "llm_relay_user_requests_total{user_id=\"2\"}", at).await, of_user as f64);
        // The day's gauges count what has started.
        let sql = format!(
            "select count(*), coalesce(sum(cost_usd) filter (where {ENDED}), 0)::float8 from usage_ledger where {COUNTED}
             and created_at <= to_timestamp($1)
             and created_at >= date_trunc('day', to_timestamp($1) at time zone 'Asia/Shanghai') at time zone 'Asia/Shanghai'"
        );
        let (requests, cost): (i64, f64) =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(at as f64).fetch_one(&mut ledger).await.unwrap();
        near(one(&prometheus, "llm_relay_day_requests{day=\"today\"}", at).await, requests as f64);
        near(one(&prometheus, "llm_relay_day_cost_usd{day=\"today\"}", at).await, cost);
    }
    assert!(differ > 1000, "the comparison must see requests");

    // The live exporter, first without traffic: every counter is where the back-fill left it.
    let env = BTreeMap::from([("DATABASE_URL".to_owned(), url.clone()), ("TZ".to_owned(), "Asia/Shanghai".to_owned())]);
    let plan = settings::load(Some(config.path()), &env).unwrap().plan;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let protection = Protection::load(None).unwrap();
    let serving = tokio::spawn(async move { serve::run(&plan, listener, "/metrics", protection, stop).await });
    let counted = "{__name__=~\"llm_relay_.+(_total|_bucket|_sum|_count)\",job=\"it\"}";
    let waited = Instant::now();
    let loaded = "llm_relay_history_loaded_ratio == 1";
    while prometheus.query(loaded, Utc::now().timestamp()).await.unwrap().is_empty() {
        assert!(waited.elapsed() < PATIENCE, "Prometheus does not scrape");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let live = Utc::now().timestamp();
    let of_the_past = |answer: Vec<Series>| -> BTreeMap<_, _> {
        let all = by_labels(answer).into_iter();
        all.filter(|(labels, _)| past().contains(family(&labels["__name__"]))).collect()
    };
    let before = of_the_past(prometheus.query(counted, seam).await.unwrap());
    let after = of_the_past(prometheus.query(counted, live).await.unwrap());
    let names: BTreeSet<&str> = before.keys().map(|labels| family(&labels["__name__"])).collect();
    let counters = CATALOGUE.iter().filter(|it| {
        let tells =
            unsupported_reason(llm_relay_exporter::relays::claude_code_hub::PRODUCT.unsupported, it.name).is_none();
        tells && it.is_backfillable() && it.kind != MetricType::Gauge
    });
    // Few requests are of no price, answered by another model or paid for nothing: at some hours the short history has none.
    let rare =
        ["llm_relay_unpriced_requests_total", "llm_relay_model_substitutions_total", "llm_relay_wasted_cost_usd_total"];
    let untold = counters.map(|it| it.name).filter(|name| !names.contains(name) && !rare.contains(name));
    let untold: Vec<&str> = untold.collect();
    assert!(untold.is_empty() && before.len() > 300, "{untold:?}, {} series", before.len());
    for label in ["model", "key_id"] {
        assert!(
            before.keys().any(|labels| labels.get(label).is_some_and(|it| it == "other")),
            "{label} is not limited"
        );
    }
    let still: Vec<_> = before.iter().filter(|(labels, value)| after.get(*labels) != Some(value)).collect();
    assert!(
        still.is_empty() && before.len() == after.len(),
        "{} before, {} after, unlike: {still:#?}",
        before.len(),
        after.len()
    );
    println!("{} series of counters are the same on both sides of the seam", before.len());
    let gauges = "count by (__name__, day, window, outcome) ({__name__=~\"llm_relay_(day|window)_.+\",job=\"it\"})";
    let kinds = |answer| by_labels(answer).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(
        kinds(prometheus.query(gauges, seam).await.unwrap()),
        kinds(prometheus.query(gauges, live).await.unwrap())
    );

    // Then with traffic across the seam.
    let calm = CancellationToken::new();
    let simulate = SimulateOptions {
        urls: Urls { database_url: url.clone().into(), redis_url: None },
        init: false,
        history: HistoryOptions::default(),
        simulator: SimulatorOptions { pace: Pace::Steady(20.0), ..SimulatorOptions::default() },
    };
    let traffic = tokio::spawn(demo::simulate(simulate, calm.clone()));
    tokio::time::sleep(Duration::from_secs(15)).await;
    calm.cancel();
    traffic.await.unwrap().unwrap();
    let total = async |ledger: &mut PgConnection, at: f64| {
        let sql = format!("select count(*) from usage_ledger where {COUNTED} and {ENDED}");
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(at).fetch_one(ledger).await.unwrap();
        count as f64
    };
    let waited = Instant::now();
    let end = loop {
        let (now, all) = (Utc::now(), total(&mut ledger, 1e11).await);
        if one(&prometheus, "sum(llm_relay_requests_total)", now.timestamp()).await == all {
            break now.with_nanosecond(0).unwrap();
        }
        assert!(waited.elapsed() < PATIENCE, "the counters do not reach the ledger");
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    let hours_before = end - TimeDelta::hours(6);
    let start = hours_before.timestamp() / 120 * 120;
    let span = end.timestamp() - start;
    let ledgers = total(&mut ledger, 1e11).await - total(&mut ledger, start as f64).await;
    let difference = format!("sum(llm_relay_requests_total) - sum(llm_relay_requests_total @ {start})");
    assert_eq!(one(&prometheus, &difference, end.timestamp()).await, ledgers, "over the seam");
    // increase() does not see the first request of a series that is new in the span.
    let known = format!("and llm_relay_requests_total @ {start}");
    let born = format!("sum(llm_relay_requests_total unless llm_relay_requests_total @ {start}) or vector(0)");
    let born = one(&prometheus, &born, end.timestamp()).await;
    let increase = format!("sum(increase(llm_relay_requests_total[{span}s]) {known})");
    let increase = one(&prometheus, &increase, end.timestamp()).await;
    println!("over the seam: ledger {ledgers}, of which {born} in new series, increase() {increase:.1}");
    let expected = ledgers - born;
    assert!((increase / expected - 1.0).abs() < 0.01, "increase() says {increase}, the ledger {expected}");
    // A counter that falls anywhere would be a jump.
    for name in before.keys().map(|labels| &labels["__name__"]).collect::<BTreeSet<_>>() {
        let falls = format!("sum(resets({name}{{job=\"it\"}}[4d]))");
        assert_eq!(one(&prometheus, &falls, end.timestamp()).await, 0.0, "{name} falls");
    }
    let samples = prometheus.query("llm_relay_day_start_timestamp_seconds[3d]", end.timestamp()).await.unwrap();
    let [Series { values, .. }] = samples.as_slice() else { panic!("one series without a break: {samples:?}") };
    let longest = values.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(0.0, f64::max);
    println!("{} samples, the longest gap {longest:.1} s", values.len());
    // Between the two there is but the time that this test took to import.
    let idle = (live - seam) as f64;
    assert!(longest <= idle.max(120.0), "a gap of {longest} s");
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    prometheus.stop();
    postgres.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_back_fill_continues_to_the_same_files() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let url = filled(&postgres, &HistoryOptions { days: 2, requests_per_day: 300, ..HistoryOptions::default() }).await;
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
    let to = Utc::now().to_rfc3339();
    let config = narrow("max_models = 2, max_keys = 2, max_histograms = 1");
    let config_file = format!("--config.file={}", config.path().display());
    let run = |name: &str, from: &str| {
        let out = place.path().join(name);
        let out = out.to_str().unwrap();
        command(&url, &[&config_file, "backfill", "--out", out, "--from", from, "--to", &to, "--step", "2m"])
    };
    succeeded(&run("whole", "40h").output().unwrap());
    let whole = files(&place.path().join("whole"));
    assert!(whole.len() > 3, "{:?}", whole.keys());

    let mut child = run("killed", "40h").spawn().unwrap();
    let out = place.path().join("killed");
    let waited = Instant::now();
    while !out.exists() || files(&out).keys().filter(|name| name.ends_with(".om")).count() < 1 {
        assert!(waited.elapsed() < Duration::from_secs(120), "no file appears");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it must be killed in the middle");
    let kept = files(&out);
    assert!(kept.keys().filter(|name| name.ends_with(".om")).count() < whole.len() - 1);
    let told = succeeded(&run("killed", "40h").output().unwrap());
    assert!(!told.contains("(0 of them from an earlier run)"), "{told}");
    let resumed = files(&out);
    assert_eq!(resumed.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    for (name, bytes) in &whole {
        if name.contains("-rules-") {
            // Prometheus adds floats up in any order: the last digit is not settled.
            let (once, again) = (samples(bytes), samples(&resumed[name]));
            assert_eq!(once.len(), again.len(), "{name}");
            for ((series, value), (same, other)) in once.iter().zip(&again) {
                let is_near =
                    (value - other).abs() <= 1e-9 * value.abs().max(1.0) || value.to_bits() == other.to_bits();
                assert!(series == same && is_near, "{name}: {series:?} {value}, {same:?} {other}");
            }
        } else {
            assert!(&resumed[name] == bytes, "the bytes of {name} differ");
        }
    }
    // All are still one's own, and as the first one was made.
    let made: BTreeSet<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap())
        .map(|file| (file.uid(), file.gid(), file.mode()))
        .collect();
    assert_eq!(made.len(), 1, "{made:?}");

    // Another back-fill does not touch it, nor does any back-fill touch what is not one's.
    let other = run("killed", "10h").output().unwrap();
    let told = String::from_utf8_lossy(&other.stderr);
    assert!(!other.status.success() && told.contains("holds another back-fill"), "{told}");
    assert!(files(&out) == resumed);
    let foreign = place.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    let name = whole.keys().find(|name| name.ends_with(".om")).unwrap();
    fs::write(foreign.join(name), "mine").unwrap();
    let refused = run("foreign", "40h").output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("holds other files"), "{told}");
    assert_eq!(files(&foreign), BTreeMap::from([(name.clone(), b"mine".to_vec())]));
    postgres.stop();
}

/// Nine days of history are back-filled up to an hour ago. The hour since is what Prometheus has scraped before its rules have
/// a past of their own, and one user spends a hundred times as much in it as the relay ever does.
#[tokio::test(flavor = "multi_thread")]
async fn a_surge_in_the_first_hour_is_told_by_the_past_of_the_rules() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let now = Utc::now();
    let until = now - TimeDelta::minutes(65);
    let history = HistoryOptions { days: 10, requests_per_day: 300, until, ..HistoryOptions::default() };
    let url = filled(&postgres, &history).await;
    // One user, one model, one provider: few series to write down.
    let mut ledger = PgConnection::connect(&url).await.unwrap();
    sqlx::query(
        "update message_request set user_id = 2, key = (select key from keys where user_id = 2 order by id limit 1),
         model = 'claude-sonnet-4-5', original_model = 'claude-sonnet-4-5', provider_id = 1, provider_chain = null",
    )
    .execute(&mut ledger)
    .await
    .unwrap();
    let config = narrow("max_models = 2, max_keys = 2, max_histograms = 1");
    let config_file = format!("--config.file={}", config.path().display());
    let place = tempfile::tempdir().unwrap();
    let out = |name: &str| place.path().join(name);
    let fill = |name: &str, from: &str, to: &str, more: &[&str]| {
        let out = out(name);
        let out = out.to_str().unwrap();
        let arguments =
            [&config_file, "backfill", "--blocks", "--step", "2m", "--out", out, "--from", from, "--to", to];
        let began = Instant::now();
        let told = succeeded(&command(&url, &[&arguments, more].concat()).output().unwrap());
        println!("{name}: {:.1} s: {told}", began.elapsed().as_secs_f64());
    };
    let seam = DateTime::from_timestamp((now - TimeDelta::minutes(60)).timestamp() / 120 * 120, 0).unwrap();
    let (seam, after) = (seam.to_rfc3339(), (seam + TimeDelta::minutes(2)).to_rfc3339());
    fill("past", "9d", &seam, &[]);

    sqlx::query(
        "insert into message_request (created_at, provider_id, user_id, key, model, status_code, cost_usd, duration_ms)
         select now() - make_interval(secs => n * 20), provider_id, user_id, key, model, 200, 3, 1000
         from generate_series(1, 170) as n, (select * from message_request where status_code = 200 order by id limit 1) as it",
    )
    .execute(&mut ledger)
    .await
    .unwrap();
    fill("hour", &after, &Utc::now().to_rfc3339(), &["--no-rules"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let env = BTreeMap::from([("DATABASE_URL".to_owned(), url.clone()), ("TZ".to_owned(), "Asia/Shanghai".to_owned())]);
    let plan = settings::load(Some(config.path()), &env).unwrap().plan;
    let (shutdown, protection) = (CancellationToken::new(), Protection::load(None).unwrap());
    let stop = shutdown.clone();
    let serving = tokio::spawn(async move { serve::run(&plan, listener, "/metrics", protection, stop).await });
    let folder = tempfile::tempdir().unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 2s}}\n{}\
         scrape_configs: [{{job_name: llm-relay, static_configs: [{{targets: ['{address}'], labels: {{instance: '127.0.0.1:9879'}}}}]}}]\n",
        prometheus::hurried(folder.path())
    );
    const SURGE: &str = "ALERTS{alertname=\"LLMRelayCostSurge\",alertstate=\"firing\"}";
    for (with_rules, name) in [(true, "past"), (false, "raw")] {
        if !with_rules {
            fill("raw", "2d", &seam, &["--no-rules"]);
        }
        let mut prometheus = PrivatePrometheus::new().unwrap();
        prometheus.adopt(&out(name).join("blocks")).unwrap();
        prometheus.adopt(&out("hour").join("blocks")).unwrap();
        prometheus.start(&configuration).await.unwrap();
        let began = Instant::now();
        let at = async |expression: &str| prometheus.query(expression, Utc::now().timestamp()).await.unwrap();
        // It fires; or all has been evaluated so often since the dollars of the hour are known that it would have.
        let often = "count_over_time((llm_relay:cost_usd:increase1h > 300)[1m:2s]) >= 10";
        while at(if with_rules { SURGE } else { often }).await.is_empty() {
            assert!(began.elapsed() < PATIENCE, "the surge is not seen");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let surge = at(SURGE).await;
        println!("{name}: after {:.1} s: {surge:?}", began.elapsed().as_secs_f64());
        assert_eq!(!surge.is_empty(), with_rules, "{name}");
        // What is recorded live goes on from what was back-filled, for every rule that the ledger tells.
        if with_rules {
            let names = |answer: Vec<Series>| -> BTreeSet<_> {
                answer.into_iter().map(|series| series.metric["__name__"].clone()).collect()
            };
            let recorded =
                "count by (__name__) ({__name__=~\"llm_relay.*:.+\",__name__!~\".*:(threshold|budget_usd|known):.*\"})";
            let before =
                names(prometheus.query(recorded, seam.parse::<DateTime<Utc>>().unwrap().timestamp()).await.unwrap());
            let live = names(at(recorded).await);
            let unsupported: Vec<_> = live.difference(&before).collect();
            println!("{} names are back-filled; recorded live alone: {unsupported:?}", before.len());
            assert!(before.len() > 50 && before.contains("llm_relay:cost_usd_usual_hour:max"), "{before:?}");
        }
        prometheus.stop();
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
    postgres.stop();
}

#[test]
fn what_cannot_be_filled_is_refused_in_one_line() {
    let refused = |arguments: &[&str], code: i32, hint: &str| {
        let all = [&["backfill", "--out", "/nonexistent"], arguments].concat();
        let output = command("postgres://reader@127.0.0.1:1/none", &all).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(hint), "{told}");
        assert!(!told.contains("verysecret"), "{told}");
    };
    refused(&["--step", "10m"], 64, "whole seconds from 5s to 2m");
    refused(&["--from", "yesterday"], 64, "2026-03-01T12:00:00Z");
    refused(&["--label", "relay=x"], 64, "job=llm-relay");
    for authority in ["me:verysecret@mimir.example", "me:very/verysecret@mimir.example", "me/verysecret@mimir.example"]
    {
        let receiver = format!("https://{authority}/api/v1/push");
        refused(&["--remote-write", &receiver], 64, "--remote-write-headers");
    }
    refused(&["--remote-write", "https://mimir.example/?token=verysecret"], 64, "has a query");
    refused(&["--relay", "nobody"], 64, "there is default");
    refused(&[], 1, "the ledger of relay default");
}
