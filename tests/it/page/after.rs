//! A page that comes after others: only what has changed is written and packed again.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::{EntityCounters, View};
use proptest::prelude::*;

use crate::full_view::{own, view};

/// What happens to a relay's people between two pages.
#[derive(Clone, Debug)]
struct Change {
    /// Their ids in the order of the store, some of them twice.
    users: Vec<u8>,
    /// Cost by id, and what else a store may say.
    costs: Vec<f64>,
    slow_requests: u64,
    second_relay: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let cost = prop_oneof![8 => (0_u32..200).prop_map(f64::from), 2 => any::<f64>(), 1 => Just(0.1 + 0.2)];
    let users = prop::collection::vec(prop_oneof![4 => 0_u8..12, 1 => any::<u8>()], 0..300);
    (users, prop::collection::vec(cost, 256), 0_u64..3, any::<bool>())
        .prop_map(|(users, costs, slow_requests, second_relay)| Change { users, costs, slow_requests, second_relay })
}

fn changed(change: &Change) -> Vec<View> {
    let mut first = view("main");
    let mut ledger = first.ledger.as_deref().cloned().unwrap();
    let counters = ledger.counters.as_mut().unwrap();
    counters.users = change
        .users
        .iter()
        .map(|id| EntityCounters {
            id: format!("{id}{}", if id % 7 == 0 { "long".repeat(100) } else { "\"\n".to_owned() }),
            requests: u64::from(*id) * change.slow_requests,
            cost_usd: Some(change.costs[usize::from(*id)]),
            ..EntityCounters::default()
        })
        .collect();
    for latency in &mut counters.latency {
        *latency.duration.buckets.last_mut().unwrap() += change.slow_requests;
        latency.duration.sum += 100.5 * change.slow_requests as f64;
    }
    first.ledger = Some(Arc::new(ledger));
    if change.second_relay { vec![first, view("second")] } else { vec![first] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_page_after_others_is_as_if_it_were_the_first(changes in prop::collection::vec(change(), 1..6)) {
        let pages = Shared::new(Page::new(Vec::new(), own()));
        let forms = || Format::ALL.into_iter().flat_map(|format| Coding::ALL.map(|coding| (format, coding)));
        for change in changes {
            for (format, coding) in forms() {
                pages.read_as(format, coding);
            }
            pages.publish(Page::new(changed(&change), own()));
            let (page, fresh) = (pages.current(), Page::new(changed(&change), own()));
            prop_assert!(forms().all(|(format, coding)| page.ready(format, coding).is_some()));
            for format in Format::ALL {
                let plain = fresh.bytes(format, Coding::Identity);
                prop_assert!(page.bytes(format, Coding::Identity) == plain, "{format:?}");
                prop_assert!(unpacked(page.bytes(format, Coding::Gzip)) == *plain, "{format:?}, gzip");
            }
            prop_assert_eq!(page.series(), fresh.series());
        }
    }
}

/// One member, as clients that read no second one see it.
fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut decoder = flate2::bufread::GzDecoder::new(gzip);
    decoder.read_to_end(&mut plain).unwrap();
    assert!(decoder.into_inner().is_empty(), "bytes after the end");
    plain
}

#[test]
fn gzip_and_python_unpack_a_page() {
    let page = Page::new(vec![view("main"), view("second")], own());
    let plain = page.bytes(Format::OpenMetrics, Coding::Identity);
    let python = "import gzip, sys; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))";
    for command in [&["gzip", "-dc"][..], &["python3", "-c", python]] {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let mut stdin = child.stdin.take().unwrap();
        let gzip = page.bytes(Format::OpenMetrics, Coding::Gzip).clone();
        let writing = std::thread::spawn(move || stdin.write_all(&gzip));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        assert!(output.status.success() && output.stdout == plain[..], "{command:?}");
    }
}
