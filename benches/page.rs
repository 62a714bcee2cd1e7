//! A page of many series, rendered as the exporter does it and by a writer that does nothing but write.
//!
//! `cargo bench --bench page`, or `-- 10000` for that many series alone.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod series;
    pub mod table;
}

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::series::views;
use common::table;
use llm_relay_exporter::exporter_info::ExporterInfo;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::{TrafficView, View};

const SERIES: [usize; 2] = [10_000, 100_000];
const ROUNDS: usize = 40;

type Case = (&'static str, Box<dyn FnMut() -> Duration>);

fn main() {
    let wanted: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if wanted.is_empty() { SERIES.to_vec() } else { wanted };
    let measured: Vec<_> = sizes.iter().map(|series| measure(*series)).collect();
    let columns: Vec<String> = sizes.iter().map(|series| format!("{series} series")).collect();
    let first = format!("median of {ROUNDS} in turns, ratio");
    let head: Vec<&str> = [&first].into_iter().chain(&columns).map(String::as_str).collect();
    let row = |n: usize| {
        let figures = measured.iter().map(|column| {
            let [by_hand, time] = [0, n].map(|case| column[case].1.as_secs_f64());
            format!("{:.2} ms, {:.2}", 1e3 * time, time / by_hand)
        });
        [measured[0][n].0.to_owned()].into_iter().chain(figures).collect::<Vec<_>>()
    };
    table::print(&head, &(0..measured[0].len()).map(row).collect::<Vec<_>>());
}

/// Medians of all cases, measured in turns, so that a slow moment of the machine meets all of them.
fn measure(series: usize) -> Vec<(&'static str, Duration)> {
    let mut cases: [Case; 8] = [
        ("by hand", by_hand(series)),
        ("all values changed, plain", next_page(series, Coding::Identity, |_| true)),
        ("all values changed, gzip", next_page(series, Coding::Gzip, |_| true)),
        // All of one provider.
        (
            "a hundredth changed, of one provider, gzip",
            next_page(series, Coding::Gzip, |n| n % 40 == 7 && n / 40 % 5 < 2),
        ),
        // Each beside others that stand.
        (
            "a hundredth changed, of two providers, between others that stand, gzip",
            next_page(series, Coding::Gzip, |n| n % 100 == 0),
        ),
        ("nothing changed, gzip", next_page(series, Coding::Gzip, |_| false)),
        ("before each page: what has changed among the rows", share(series)),
        ("the first page, gzip", first_page(series)),
    ];
    let mut times = vec![Vec::new(); cases.len()];
    for _ in 0..ROUNDS {
        for ((_, case), times) in cases.iter_mut().zip(&mut times) {
            times.push(case());
        }
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[ROUNDS / 2]
    };
    cases.iter().zip(&mut times).map(|((name, _), times)| (*name, median(times))).collect()
}

/// What it costs to find out that nothing has changed, once for all families of a row.
fn share(series: usize) -> Box<dyn FnMut() -> Duration> {
    let before = views(series);
    Box::new(move || {
        let mut ledger = views(series)[0].ledger.as_deref().cloned().unwrap();
        let began = Instant::now();
        ledger.share(before[0].ledger.as_deref().unwrap());
        began.elapsed()
    })
}

/// What a refresh pays for, the first after a start: gather, sort, write, gzip.
fn first_page(series: usize) -> Box<dyn FnMut() -> Duration> {
    let views = views(series);
    Box::new(move || {
        let began = Instant::now();
        let page = Page::new(views.clone(), ExporterInfo::default());
        black_box(page.bytes(Format::OpenMetrics, Coding::Gzip));
        began.elapsed()
    })
}

/// What a refresh pays for: a page after one that has been read, with more requests, costs and tokens of some models.
fn next_page(
    series: usize,
    coding: Coding,
    is_changed: impl Fn(usize) -> bool + 'static,
) -> Box<dyn FnMut() -> Duration> {
    let mut rows: Vec<TrafficView> = views(series).iter().flat_map(|view| traffic(view).cloned()).collect();
    let mut shown = views(series);
    let pages = Shared::new(Page::new(shown.clone(), ExporterInfo::default()));
    pages.read_as(Format::OpenMetrics, coding).bytes(Format::OpenMetrics, coding);
    Box::new(move || {
        for row in rows.iter_mut().enumerate().filter(|(n, _)| is_changed(*n)).map(|(_, row)| row) {
            row.requests = row.requests.map(|count| count + 1);
            row.cost_usd = row.cost_usd.map(|cost| cost + 0.034_5);
            row.tokens.iter_mut().for_each(|(_, count)| *count += 817);
        }
        let mut ledger = shown[0].ledger.as_deref().cloned().unwrap();
        ledger.counters.as_mut().unwrap().traffic = rows.iter().cloned().collect();
        ledger.share(shown[0].ledger.as_deref().unwrap());
        // Freed below: making and freeing views is not the page's.
        let before = shown[0].ledger.replace(Arc::new(ledger));
        // glibc puts together what was freed in small pieces when it is next asked for a large one: that is of the above.
        drop(black_box(Vec::<u8>::with_capacity(1 << 16)));
        let began = Instant::now();
        pages.publish(Page::new(shown.clone(), ExporterInfo::default()));
        let took = began.elapsed();
        drop(before);
        took
    })
}

fn traffic(view: &View) -> impl Iterator<Item = &TrafficView> {
    view.ledger.iter().filter_map(|ledger| ledger.counters.as_ref()).flat_map(|counters| counters.traffic.iter())
}

/// The yardstick: the same series straight from the views, unsorted, unescaped, without a catalogue.
fn by_hand(series: usize) -> Box<dyn FnMut() -> Duration> {
    let views = views(series);
    let mut out = String::new();
    Box::new(move || {
        let began = Instant::now();
        out.clear();
        views.iter().for_each(|view| write_by_hand(&mut out, view));
        black_box(&out);
        began.elapsed()
    })
}

fn write_by_hand(out: &mut String, view: &View) {
    let View { relay, .. } = view;
    out.push_str("# HELP llm_relay_requests_total Final requests.\n# TYPE llm_relay_requests_total counter\n");
    for TrafficView { provider_id, model, requests, .. } in traffic(view) {
        for (outcome, count) in ["success", "failure", "excluded"].iter().zip(requests) {
            writeln!(
                    out,
                    r#"llm_relay_requests_total{{relay="{relay}",provider_id="{provider_id}",model="{model}",outcome="{outcome}"}} {count}"#
                )
                .unwrap();
        }
    }
    out.push_str("# HELP llm_relay_cost_usd_total Cost.\n# TYPE llm_relay_cost_usd_total counter\n");
    for TrafficView { provider_id, model, cost_usd, .. } in traffic(view) {
        let cost_usd = cost_usd.unwrap_or(0.0);
        writeln!(
            out,
            r#"llm_relay_cost_usd_total{{relay="{relay}",provider_id="{provider_id}",model="{model}"}} {cost_usd}"#
        )
        .unwrap();
    }
    out.push_str("# HELP llm_relay_tokens_total Tokens.\n# TYPE llm_relay_tokens_total counter\n");
    for TrafficView { provider_id, model, tokens, .. } in traffic(view) {
        for (kind, count) in tokens {
            writeln!(
                    out,
                    r#"llm_relay_tokens_total{{relay="{relay}",provider_id="{provider_id}",model="{model}",type="{kind}"}} {count}"#
                )
                .unwrap();
        }
    }
}
