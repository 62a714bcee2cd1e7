//! What a receiver of remote write is sent: the samples of the files, all of them, once it takes them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use chrono::Utc;
use llm_relay_exporter::demo::HistoryOptions;
use llm_relay_exporter::servers::PrivatePostgres;
use regex::Regex;

use super::{command, files, filled, narrow, samples, succeeded};
use crate::dashboards::prometheus::Prometheus;

type Labels = BTreeMap<String, String>;
/// Its head in lower case, and its body.
type Request = (String, Vec<u8>);

/// The bits of every sample by its second, by labels.
type Samples = BTreeMap<Labels, BTreeMap<i64, u64>>;

fn of_files(files: &BTreeMap<String, Vec<u8>>) -> Samples {
    let mut by_text = BTreeMap::<String, BTreeMap<i64, u64>>::new();
    let texts = files.iter().filter(|(name, _)| name.ends_with(".om"));
    for ((series, second), value) in texts.flat_map(|(_, text)| samples(text)) {
        by_text.entry(series).or_default().insert(second.parse().unwrap(), value.to_bits());
    }
    let label = Regex::new(r#"(\w+)="([^"\\]*)"[,}]"#).unwrap();
    let labelled = by_text.into_iter().map(|(series, values)| {
        let (name, labels) = series.split_once('{').unwrap();
        let labels = label.captures_iter(labels).map(|it| (it[1].to_owned(), it[2].to_owned()));
        (labels.chain([("__name__".to_owned(), name.to_owned())]).collect(), values)
    });
    labelled.collect()
}

fn of_prometheus(prometheus: &Prometheus) -> Samples {
    let answer = prometheus.instant("{__name__=~\"llm_relay.+\"}[2d]").unwrap();
    let series = answer.iter().map(|series| {
        let values = series["values"].as_array().unwrap().iter().map(|pair| {
            let value: f64 = pair[1].as_str().unwrap().parse().unwrap();
            (pair[0].as_f64().unwrap() as i64, value.to_bits())
        });
        (serde_json::from_value(series["metric"].clone()).unwrap(), values.collect())
    });
    series.collect()
}

fn count(samples: &Samples) -> usize {
    samples.values().map(BTreeMap::len).sum()
}

/// A receiver that answers so, one request after the other. Gives its address, and at last the requests.
fn receiver(answers: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
    let serve = move |answer: &&str| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(format!("HTTP/1.0 {answer}").as_bytes()).unwrap();
        (head, body)
    };
    (url, thread::spawn(move || answers.iter().map(serve).collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_takes_the_past_has_every_sample() {
    let mut postgres = PrivatePostgres::start().await.unwrap();
    let url = filled(&postgres, &HistoryOptions { days: 2, requests_per_day: 300, ..HistoryOptions::default() }).await;
    let place = tempfile::tempdir().unwrap();
    let (out, headers) = (place.path().join("out"), place.path().join("headers"));
    fs::write(&headers, "Authorization: Bearer verysecret\nX-Scope-OrgID: site-a\n").unwrap();
    let config = narrow("max_models = 2, max_keys = 2, max_histograms = 1");
    let config_file = format!("--config.file={}", config.path().display());
    let to = Utc::now().to_rfc3339();
    let send = |receiver: &str| {
        let (out, headers) = (out.to_str().unwrap(), headers.to_str().unwrap());
        let what = [&config_file, "backfill", "--out", out, "--from", "20h", "--to", &to, "--step", "2m"];
        let to_whom = ["--remote-write", receiver, "--remote-write-headers", headers];
        command(&url, &[&what[..], &to_whom].concat()).output().unwrap()
    };
    let refused = |receiver: &str, words: &str| {
        let output = send(receiver);
        let told = String::from_utf8_lossy(&output.stderr);
        let all = [words, "out_of_order_time_window"];
        assert!(!output.status.success() && all.iter().all(|it| told.contains(it)), "{told}");
        assert!(!told.contains("verysecret"), "{told}");
    };

    // It is asked again after an error of its own, and not after a refusal.
    let (address, requests) = receiver(&["500 Internal Server Error\r\n\r\n", "400 Bad Request\r\n\r\nnot so old"]);
    refused(&address, "not so old");
    let requests = requests.join().unwrap();
    let [(head, body), (_, again)] = requests.as_slice() else { panic!("{} requests", requests.len()) };
    let wanted = ["content-encoding: snappy", "authorization: bearer verysecret", "x-scope-orgid: site-a"];
    assert!(wanted.iter().all(|it| head.contains(it)), "{head}");
    assert!(body == again && body.len() < 1 << 20);

    let start = |config: &str| Prometheus::start(tempfile::tempdir().unwrap(), config);
    let write = |prometheus: &Prometheus| format!("{}/api/v1/write", prometheus.url());
    refused(&write(&start("{}\n")), "400 Bad Request: ");

    // Like any that is at work it has newer samples. One without them compacts while it is sent old ones, and may lose
    // some of them then (docs/integrations.md).
    let scrape =
        "scrape_configs: [{job_name: nobody, scrape_interval: 1s, static_configs: [{targets: ['127.0.0.1:1']}]}]\n";
    let prometheus = start(&format!("{scrape}storage: {{tsdb: {{out_of_order_time_window: 2d}}}}\n"));
    prometheus.some("up");
    let told = succeeded(&send(&write(&prometheus)));
    assert!(told.contains("all of it has been sent"), "{told}");
    let (written, taken) = (of_files(&files(&out)), of_prometheus(&prometheus));
    let unlike = written.iter().find(|(labels, values)| taken.get(*labels) != Some(values));
    let counts = format!("{} of {} samples", count(&taken), count(&written));
    assert!(unlike.is_none() && count(&taken) == count(&written), "{counts}: {unlike:?}");
    println!("{counts}");
    // What has been sent is not sent again: nobody is there any more.
    let address = write(&prometheus);
    drop(prometheus);
    succeeded(&send(&address));
    postgres.stop();
}
