mod after;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use llm_relay_exporter::exporter_info::{ExporterInfo, Process};
use llm_relay_exporter::metrics::{CATALOGUE, Emit, MetricType};
use llm_relay_exporter::model::Usd;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::{EntityCounters, View};
use proptest::prelude::*;

use crate::exposition::{Dialect, Family, Sample, parse, series};
use crate::full_view::{full_histogram, own, unread, user, view, with_users};

fn open_metrics(page: &Page) -> Vec<Family> {
    parse(page.bytes(Format::OpenMetrics, Coding::Identity), Dialect::OpenMetrics)
}

fn text(page: &Page) -> Vec<Family> {
    parse(page.bytes(Format::Text, Coding::Identity), Dialect::Text)
}

fn samples<'a>(families: &'a [Family], name: &str) -> Vec<&'a Sample> {
    families.iter().flat_map(|family| &family.samples).filter(|sample| sample.name == name).collect()
}

fn with_user_costs(costs: &[f64]) -> View {
    let mut view = view("main");
    let mut ledger = view.ledger.as_deref().cloned().unwrap();
    let users = costs.iter().enumerate().map(|(id, cost)| EntityCounters {
        id: id.to_string(),
        cost_usd: Some(*cost),
        ..EntityCounters::default()
    });
    ledger.counters.as_mut().unwrap().users = users.collect();
    view.ledger = Some(Arc::new(ledger));
    view
}

fn lines(page: &Page, format: Format, prefix: &str) -> Vec<String> {
    let page = std::str::from_utf8(page.bytes(format, Coding::Identity)).unwrap();
    page.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn a_full_view_shows_every_metric_of_the_catalogue_in_both_formats() {
    let page = Page::new(vec![view("main"), view("second")], own());
    for (families, total) in [(open_metrics(&page), "_total"), (text(&page), "")] {
        let shown: Vec<_> = families.iter().map(|family| (family.name.clone(), family.kind.clone())).collect();
        let listed: Vec<_> = CATALOGUE
            .iter()
            .map(|metric| match metric.kind {
                MetricType::Gauge => (metric.name.to_owned(), "gauge".to_owned()),
                MetricType::Counter => (metric.name.strip_suffix(total).unwrap().to_owned(), "counter".to_owned()),
                MetricType::Histogram => (metric.name.to_owned(), "histogram".to_owned()),
            })
            .collect();
        assert_eq!(shown, listed);
        for (family, metric) in families.iter().zip(CATALOGUE) {
            assert_eq!(family.help, metric.help);
            for sample in &family.samples {
                let mut labels: BTreeSet<_> = metric.labels.iter().copied().collect();
                if metric.is_of_relay() {
                    labels.insert("relay");
                }
                if sample.name.ends_with("_bucket") {
                    labels.insert("le");
                }
                assert_eq!(sample.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), labels, "{sample:?}");
            }
        }
    }
}

#[test]
fn both_formats_give_the_same_series_with_the_same_values() {
    let page = Page::new(vec![view("main")], own());
    assert_eq!(series(&open_metrics(&page)), series(&text(&page)));
}

#[test]
fn gzip_gives_the_plain_bytes_back() {
    let page = Page::new(vec![view("main")], own());
    for format in Format::ALL {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&page.bytes(format, Coding::Gzip)[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(&plain, page.bytes(format, Coding::Identity));
    }
}

#[test]
fn series_are_sorted_whatever_the_order_of_relays_and_people() {
    let people = |ids: [i64; 3]| ids.map(|id| user(id, &format!("user {id}"))).to_vec();
    let one =
        Page::new(vec![with_users(view("a"), people([1, 2, 3])), with_users(view("b"), people([3, 1, 2]))], own());
    let other =
        Page::new(vec![with_users(view("b"), people([2, 3, 1])), with_users(view("a"), people([3, 2, 1]))], own());
    for format in Format::ALL {
        assert_eq!(one.bytes(format, Coding::Identity), other.bytes(format, Coding::Identity));
    }
    let families = open_metrics(&one);
    let shown: Vec<_> = samples(&families, "llm_relay_user_info")
        .iter()
        .map(|sample| (sample.label("relay").to_owned(), sample.label("user_id").to_owned()))
        .collect();
    assert!(shown.is_sorted() && shown.len() == 6, "{shown:?}");
}

#[test]
fn a_relay_that_cannot_be_read_says_so_and_invents_nothing() {
    let page = Page::new(vec![unread("main")], own());
    let families = open_metrics(&page);
    let up = samples(&families, "llm_relay_source_up");
    assert_eq!(
        up.iter().map(|sample| (sample.label("source"), sample.value)).collect::<Vec<_>>(),
        [("directory", 0.0), ("ledger", 0.0), ("live", 0.0)]
    );
    let exporter = [
        "process_",
        "llm_relay_exporter_",
        "llm_relay_source_",
        "llm_relay_refresh_",
        "llm_relay_rows_read",
        "llm_relay_statement_refused",
    ];
    for family in &families {
        assert!(exporter.iter().any(|prefix| family.name.starts_with(prefix)), "{} is invented", family.name);
    }
    assert_eq!(series(&families), series(&text(&page)));
}

#[test]
fn numbers_that_are_not_finite_and_negative_counters_are_left_out() {
    let page = Page::new(vec![with_user_costs(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 2.5])], own());
    for families in [open_metrics(&page), text(&page)] {
        let costs = samples(&families, "llm_relay_user_cost_usd_total");
        assert_eq!(
            costs.iter().map(|sample| (sample.label("user_id"), sample.value)).collect::<Vec<_>>(),
            [("4", 2.5)]
        );
    }
}

#[test]
fn a_series_that_a_store_reports_twice_stands_once() {
    let page = Page::new(vec![with_users(view("main"), vec![user(1, "twin"), user(1, "twin")])], own());
    for families in [open_metrics(&page), text(&page)] {
        assert_eq!(samples(&families, "llm_relay_user_info").len(), 1);
    }
}

#[test]
fn histogram_buckets_are_cumulative_and_their_bounds_are_written_alike() {
    let page = Page::new(vec![view("main")], own());
    for format in Format::ALL {
        let buckets = lines(&page, format, "llm_relay_request_duration_seconds_bucket");
        let bounds_and_counts: Vec<_> = buckets
            .iter()
            .map(|line| {
                let (_, bound) = line.split_once("le=\"").unwrap();
                (bound.split_once('"').unwrap().0, line.rsplit_once(' ').unwrap().1)
            })
            .collect();
        assert_eq!(bounds_and_counts, [("0.1", "1"), ("2.5", "1"), ("+Inf", "3")]);
    }
    let families = text(&page);
    assert_eq!(
        samples(&families, "llm_relay_request_duration_seconds_count")[0].value,
        full_histogram().count() as f64
    );
    assert_eq!(samples(&families, "llm_relay_request_duration_seconds_sum")[0].value, full_histogram().sum);
}

#[test]
fn money_and_counts_are_written_without_noise() {
    let exact = Usd::from_femto(100_000_000_000_000) + Usd::from_femto(200_000_000_000_000);
    let page = Page::new(vec![with_user_costs(&[exact.to_f64(), 1234.0, 0.0, 12.345_678])], own());
    for format in Format::ALL {
        let values: Vec<_> = lines(&page, format, "llm_relay_user_cost_usd_total{")
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
            .collect();
        assert_eq!(values, ["0.3", "1234", "0", "12.345678"]);
        assert!(lines(&page, format, "llm_relay_key_tokens_total{")[0].ends_with(" 9007199254740991"));
    }
}

#[test]
fn label_values_survive_a_round_trip_through_both_formats() {
    for name in ["14\" laptop", "back\\slash", "two\nlines", "\\n is not a newline\\", "🦀 café", "a,b={c}", ""] {
        let page = Page::new(vec![with_users(view("main"), vec![user(1, name)])], own());
        for families in [open_metrics(&page), text(&page)] {
            assert_eq!(samples(&families, "llm_relay_user_info")[0].label("user"), name);
        }
    }
}

#[test]
fn long_label_values_are_cut_and_stay_apart() {
    let long = "長".repeat(10_000);
    let names = [long.clone(), long + "さ"];
    let page = Page::new(vec![with_users(view("main"), vec![user(1, &names[0]), user(2, &names[1])])], own());
    for families in [open_metrics(&page), text(&page)] {
        let shown = samples(&families, "llm_relay_user_info");
        let shown: Vec<_> = shown.iter().map(|sample| sample.label("user")).collect();
        assert!(shown.iter().all(|it| it.starts_with("長長長") && it.len() <= 256), "{shown:?}");
        assert_ne!(shown[0], shown[1]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_label_value_and_any_amount_survives(name in any::<String>(), cost in any::<f64>()) {
        let page = Page::new(vec![with_users(with_user_costs(&[cost]), vec![user(1, &name)])], own());
        for families in [open_metrics(&page), text(&page)] {
            prop_assert_eq!(samples(&families, "llm_relay_user_info")[0].label("user"), &name);
            let written: Vec<_> =
                samples(&families, "llm_relay_user_cost_usd_total").iter().map(|sample| sample.value).collect();
            let expected: Vec<_> = (cost.is_finite() && cost >= 0.0).then_some(cost).into_iter().collect();
            prop_assert_eq!(written, expected);
        }
    }
}

#[test]
fn promtool_has_nothing_to_remark() {
    let page = Page::new(vec![view("main"), view("second")], own());
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    promtool.stdin.take().unwrap().write_all(page.bytes(Format::Text, Coding::Identity)).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let remarks = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && remarks.is_empty(), "{}", String::from_utf8_lossy(&remarks));
}

#[test]
fn the_catalogue_keeps_its_conventions() {
    let mut names = BTreeSet::new();
    for metric in CATALOGUE {
        let name = metric.name;
        assert!(names.insert(name), "{name} stands twice");
        let prefix = match metric.emit {
            Emit::Exporter(_) if name.starts_with("process_") => "process_",
            Emit::Exporter(_) => "llm_relay_exporter_",
            _ => "llm_relay_",
        };
        assert!(name.starts_with(prefix), "{name} must begin with {prefix}");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == MetricType::Counter,
            "{name}: counters, and only they, end in _total"
        );
        for unit in ["milliseconds", "_ms", "minutes", "hours", "percent", "_cents", "_kb", "_mb", "_cny", "_eur"] {
            assert!(!name.contains(unit), "{name} has {unit}, not a base unit");
        }
        for part in ["_duration", "_timestamp", "_lag", "_ttft", "_cost", "_cpu", "_memory", "_saved", "_quota_limit"] {
            let unit = name.contains("_seconds") || name.contains("_usd") || name.contains("_bytes");
            assert!(!name.contains(part) || unit, "{name} has no unit");
        }
        let help = metric.help;
        assert!(help.ends_with('.') && !help.contains(['\n', '\\', '"']), "help of {name}: {help}");
        assert!(!help[..help.len() - 1].contains(". "), "help of {name} is more than one sentence");
        let labels: BTreeSet<_> = metric.labels.iter().collect();
        assert_eq!(labels.len(), metric.labels.len(), "{name} has a label twice");
        for label in ["job", "instance", "le", "quantile", "relay"] {
            assert!(!labels.contains(&label), "{name} has the label {label}");
        }
    }
}

#[test]
fn a_published_page_replaces_the_one_before() {
    let pages = Shared::new(Page::new(Vec::new(), ExporterInfo::default()));
    let before = pages.current();
    pages.publish(Page::new(vec![view("main")], own()));
    assert!(text(&before).len() < text(&pages.current()).len());
    assert_eq!(text(&before).len(), 1, "a page that is still being sent stays as it is");
    assert!(before.series() < pages.current().series());
}

#[test]
fn a_page_is_written_down_in_the_formats_that_were_asked_for() {
    let pages = Shared::new(Page::new(vec![view("main")], own()));
    let ready = |format| pages.current().ready(format, Coding::Gzip).is_some();
    assert_eq!(Format::ALL.map(ready), [false, false], "nobody has asked yet");
    let asked = pages.read_as(Format::Text, Coding::Gzip).bytes(Format::Text, Coding::Gzip).clone();
    pages.publish(Page::new(vec![view("main")], own()));
    assert_eq!(Format::ALL.map(ready), [false, true]);
    assert_eq!(*pages.current().bytes(Format::Text, Coding::Gzip), asked);
}

#[test]
fn without_relays_the_page_is_about_the_exporter_alone() {
    for families in [open_metrics(&Page::new(Vec::new(), own())), text(&Page::new(Vec::new(), own()))] {
        assert_eq!(families[0].name, "llm_relay_exporter_build_info");
        assert_eq!(families.len(), 9);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_process_metrics_are_those_of_this_process() {
    let before = Process::read();
    let held: Vec<_> = (0..5).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let after = Process::read();
    drop(held);
    // Other tests open and close files meanwhile, so the descriptors are only bounded.
    assert!(after.open_fds.unwrap() >= 5.0 && after.open_fds < after.max_fds, "{after:?}");
    assert!(after.cpu_seconds.unwrap() >= before.cpu_seconds.unwrap() && after.cpu_seconds.unwrap() < 1e5);
    let resident = after.resident_memory_bytes.unwrap();
    assert!(resident > 1e6 && resident < after.virtual_memory_bytes.unwrap(), "{after:?}");
    let age = chrono::Utc::now().timestamp_micros() as f64 / 1e6 - after.start_time_seconds.unwrap();
    assert!((-2.0..3600.0).contains(&age), "started {age} s ago");
}

const OPEN_METRICS: Format = Format::OpenMetrics;
const TEXT: Format = Format::Text;

/// What is asked for, and what is sent.
const ACCEPT: &[(&[&str], Format)] = &[
    (&[], TEXT),
    (&[""], TEXT),
    (&["*/*"], TEXT),
    (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], TEXT),
    (&["text/plain"], TEXT),
    (&["text/plain;version=0.0.4"], TEXT),
    (&["application/json"], TEXT),
    (&["application/openmetrics-text"], OPEN_METRICS),
    (&["application/openmetrics-text; version=1.0.0"], OPEN_METRICS),
    (&["application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"], OPEN_METRICS),
    (&["application/openmetrics-text;version=0.0.1"], OPEN_METRICS),
    (&["Application/OpenMetrics-Text; Version=1.0.0"], OPEN_METRICS),
    (&["application/openmetrics-text; version=2.0.0"], TEXT),
    (&["application/openmetrics-text;q=0"], TEXT),
    (&["application/openmetrics-text;q=0.2, text/plain;q=0.8"], TEXT),
    (&["application/openmetrics-text;q=0.2, */*"], TEXT),
    (&["application/openmetrics-text, */*"], OPEN_METRICS),
    (&["text/plain;q=0.5", "application/openmetrics-text"], OPEN_METRICS),
    (&["application/openmetrics-text;q=NaN"], TEXT),
    (&["application/openmetrics-text;q=7, text/plain;q=0.1"], TEXT),
    (&[",;q=,application/openmetrics-text;;q=1;=;"], OPEN_METRICS),
    // Prometheus 2.42.
    (
        &[
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ],
        OPEN_METRICS,
    ),
    // Prometheus 2.42 with native histograms.
    (
        &[
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        ],
        OPEN_METRICS,
    ),
    // Prometheus 3.
    (
        &[
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
        ],
        OPEN_METRICS,
    ),
    // Prometheus 3 that prefers the old text format.
    (&["text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2"], TEXT),
];

const ACCEPT_ENCODING: &[(&[&str], Coding)] = &[
    (&[], Coding::Identity),
    (&["gzip"], Coding::Gzip),
    (&["GZIP"], Coding::Gzip),
    (&["deflate, gzip;q=0.5, br"], Coding::Gzip),
    (&["br", "gzip"], Coding::Gzip),
    (&["*"], Coding::Gzip),
    (&["gzip;q=0"], Coding::Identity),
    (&["gzip;q=0, *"], Coding::Identity),
    (&["identity;q=1, gzip;q=0.5"], Coding::Identity),
    (&["identity;q=0.5, gzip"], Coding::Gzip),
    (&["zstd, br"], Coding::Identity),
    (&["identity;q=0"], Coding::Identity),
];

#[test]
fn the_format_follows_the_accept_header() {
    for (headers, format) in ACCEPT {
        let headers: Vec<_> = headers.iter().map(|header| header.as_bytes()).collect();
        assert_eq!(Format::negotiate(&headers), *format, "{headers:?}");
    }
    assert_eq!(Format::OpenMetrics.content_type(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(Format::Text.content_type(), "text/plain; version=0.0.4; charset=utf-8");
}

#[test]
fn the_coding_follows_the_accept_encoding_header() {
    for (headers, coding) in ACCEPT_ENCODING {
        let headers: Vec<_> = headers.iter().map(|header| header.as_bytes()).collect();
        assert_eq!(Coding::negotiate(&headers), *coding, "{headers:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_in_a_header_stop_the_negotiation(
        garbage in any::<Vec<u8>>(),
        shaped in "(application/openmetrics-text|text/plain|gzip|\\*)?[ ;=,q\"0-9.a-zé\\x00]{0,40}",
    ) {
        let headers = [&*garbage, shaped.as_bytes()];
        Format::negotiate(&headers);
        Coding::negotiate(&headers);
    }

    #[test]
    fn an_item_without_meaning_does_not_hide_a_good_one(noise in "[ ;=0-9\\x00é]{0,40}") {
        let header = format!("{noise},application/openmetrics-text;q=0.5, gzip;q=0.5");
        let headers = [b"\xff\xfe".as_slice(), header.as_bytes()];
        prop_assert_eq!(Format::negotiate(&headers), Format::OpenMetrics);
        prop_assert_eq!(Coding::negotiate(&headers), Coding::Gzip);
    }
}
