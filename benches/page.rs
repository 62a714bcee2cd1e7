//! A page of many series, rendered as the exporter does it and by a writer that does nothing but write.
//!
//! `cargo bench --bench page`
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod common {
    pub mod series;
}

use std::fmt::Write;
use std::sync::Arc;

use common::series::views;
use divan::Bencher;
use divan::counter::ItemsCount;
use llm_relay_exporter::exporter_info::ExporterInfo;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::{TrafficView, View};

const SERIES: [usize; 2] = [10_000, 100_000];

fn main() {
    divan::main();
}

/// What a refresh pays for, the first after a start: gather, sort, write, gzip.
#[divan::bench(args = SERIES)]
fn first_page(bencher: Bencher, series: usize) {
    let views = views(series);
    bencher.counter(ItemsCount::new(series)).bench(|| {
        let page = Page::new(views.clone(), ExporterInfo::default());
        page.bytes(Format::OpenMetrics, Coding::Gzip).len()
    });
}

#[divan::bench(args = SERIES)]
fn all_changed_plain(bencher: Bencher, series: usize) {
    next_page(bencher, series, Coding::Identity, |_| true);
}

#[divan::bench(args = SERIES)]
fn all_changed_gzip(bencher: Bencher, series: usize) {
    next_page(bencher, series, Coding::Gzip, |_| true);
}

/// A hundredth of the models, all of one provider.
#[divan::bench(args = SERIES)]
fn hundredth_changed_gzip(bencher: Bencher, series: usize) {
    next_page(bencher, series, Coding::Gzip, |n| n % 40 == 7 && n / 40 % 5 < 2);
}

/// A hundredth of the models, each beside others that stand.
#[divan::bench(args = SERIES)]
fn scattered_hundredth_changed_gzip(bencher: Bencher, series: usize) {
    next_page(bencher, series, Coding::Gzip, |n| n % 100 == 0);
}

#[divan::bench(args = SERIES)]
fn nothing_changed_gzip(bencher: Bencher, series: usize) {
    next_page(bencher, series, Coding::Gzip, |_| false);
}

/// What a refresh pays for: a page after one that has been read, with more requests, costs and tokens of some models.
fn next_page(bencher: Bencher, series: usize, coding: Coding, is_changed: impl Fn(usize) -> bool + Sync) {
    let pages = Shared::new(Page::new(views(series), ExporterInfo::default()));
    pages.read_as(Format::OpenMetrics, coding).bytes(Format::OpenMetrics, coding);
    let mut now = views(series);
    bencher
        .counter(ItemsCount::new(series))
        .with_inputs(|| {
            raise(&mut now, &is_changed);
            now.clone()
        })
        .bench_local_values(|views| pages.publish(Page::new(views, ExporterInfo::default())));
}

fn raise(views: &mut [View], is_changed: impl Fn(usize) -> bool) {
    for view in views {
        let mut ledger = view.ledger.as_deref().cloned().unwrap();
        let traffic = &mut ledger.counters.as_mut().unwrap().traffic;
        for row in traffic.iter_mut().enumerate().filter(|(n, _)| is_changed(*n)).map(|(_, row)| row) {
            row.requests = row.requests.map(|count| count + 1);
            row.cost_usd = row.cost_usd.map(|cost| cost + 0.034_5);
            row.tokens.iter_mut().for_each(|(_, count)| *count += 817);
        }
        view.ledger = Some(Arc::new(ledger));
    }
}

/// The yardstick: the same series straight from the views, unsorted, unescaped, without a catalogue.
#[divan::bench(args = SERIES)]
fn straight_by_hand(bencher: Bencher, series: usize) {
    let views = views(series);
    let mut out = String::new();
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        out.clear();
        by_hand(&mut out, &views);
        out.len()
    });
}

fn by_hand(out: &mut String, views: &[View]) {
    for View { relay, ledger, .. } in views {
        let traffic = &ledger.as_ref().unwrap().counters.as_ref().unwrap().traffic;
        out.push_str("# HELP llm_relay_requests_total Final requests.\n# TYPE llm_relay_requests_total counter\n");
        for TrafficView { provider_id, model, requests, .. } in traffic {
            for (outcome, count) in ["success", "failure", "excluded"].iter().zip(requests) {
                writeln!(
                    out,
                    r#"llm_relay_requests_total{{relay="{relay}",provider_id="{provider_id}",model="{model}",outcome="{outcome}"}} {count}"#
                )
                .unwrap();
            }
        }
        out.push_str("# HELP llm_relay_cost_usd_total Cost.\n# TYPE llm_relay_cost_usd_total counter\n");
        for TrafficView { provider_id, model, cost_usd, .. } in traffic {
            let cost_usd = cost_usd.unwrap_or(0.0);
            writeln!(
                out,
                r#"llm_relay_cost_usd_total{{relay="{relay}",provider_id="{provider_id}",model="{model}"}} {cost_usd}"#
            )
            .unwrap();
        }
        out.push_str("# HELP llm_relay_tokens_total Tokens.\n# TYPE llm_relay_tokens_total counter\n");
        for TrafficView { provider_id, model, tokens, .. } in traffic {
            for (kind, count) in tokens {
                writeln!(
                    out,
                    r#"llm_relay_tokens_total{{relay="{relay}",provider_id="{provider_id}",model="{model}",type="{kind}"}} {count}"#
                )
                .unwrap();
            }
        }
    }
}
