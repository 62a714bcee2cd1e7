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
use llm_relay_exporter::page::samples::{Family, gather};
use llm_relay_exporter::page::{Page, open_metrics, text};
use llm_relay_exporter::view::{TrafficView, View};

const SERIES: [usize; 2] = [10_000, 100_000];

fn main() {
    divan::main();
}

/// Everything that a refresh pays for when one format is read: gather, sort, write, gzip.
#[divan::bench(args = SERIES)]
fn whole_page(bencher: Bencher, series: usize) {
    let views = views(series);
    bencher.counter(ItemsCount::new(series)).bench(|| {
        let page = Page::new(views.clone(), ExporterInfo::default());
        page.bytes(Format::OpenMetrics, Coding::Gzip).len()
    });
}

#[divan::bench(args = SERIES)]
fn gather_and_sort(bencher: Bencher, series: usize) {
    let (views, own) = (views(series), ExporterInfo::default());
    bencher.counter(ItemsCount::new(series)).bench(|| gather(&views, &own).collect::<Vec<Family>>());
}

#[divan::bench(args = SERIES)]
fn gather_and_open_metrics(bencher: Bencher, series: usize) {
    let (views, own) = (views(series), ExporterInfo::default());
    let mut out = String::new();
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        out.clear();
        gather(&views, &own).for_each(|family| open_metrics::write(&mut out, &Arc::new(family)));
        out.len()
    });
}

#[divan::bench(args = SERIES)]
fn gather_and_text(bencher: Bencher, series: usize) {
    let (views, own) = (views(series), ExporterInfo::default());
    let mut out = String::new();
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        out.clear();
        gather(&views, &own).for_each(|family| text::write(&mut out, &family));
        out.len()
    });
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
