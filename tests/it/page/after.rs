//! A page that comes after others: only what has changed is written and packed again.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use llm_relay_exporter::model::User;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::page::{Page, Shared};
use llm_relay_exporter::view::{EntityCounters, QuotaView, View};
use proptest::prelude::*;

use crate::full_view::{at, own, view};

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
    let mut latency = counters.latency[0].clone();
    *latency.duration.buckets.last_mut().unwrap() += change.slow_requests;
    latency.duration.sum += 100.5 * change.slow_requests as f64;
    counters.latency = vec![latency].into();
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

/// What happens between two pages that share what has not changed.
#[derive(Clone, Debug)]
enum Step {
    Cost(usize, f64),
    Requests(usize),
    Come(usize, u8),
    Go(usize),
    Swap(usize, usize),
    Exhaust(usize),
    Rename(usize),
    /// Another name for the relay.
    Relay(bool),
    SecondRelay(bool),
    /// What was shown so many pages ago is shown again.
    Back(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (user, id) = (|| 0_usize..100, any::<u8>());
    prop_oneof![
        6 => (user(), any::<f64>()).prop_map(|(user, cost)| Step::Cost(user, cost)),
        6 => user().prop_map(Step::Requests),
        1 => (user(), id).prop_map(|(at, id)| Step::Come(at, id)),
        1 => user().prop_map(Step::Go),
        1 => (user(), user()).prop_map(|(one, other)| Step::Swap(one, other)),
        2 => user().prop_map(Step::Exhaust),
        1 => user().prop_map(Step::Rename),
        1 => any::<bool>().prop_map(Step::Relay),
        1 => any::<bool>().prop_map(Step::SecondRelay),
        1 => (1_usize..4).prop_map(Step::Back),
    ]
}

/// A relay with people, by their place in its store.
#[derive(Clone)]
struct Relay {
    users: Vec<(EntityCounters, QuotaView, User)>,
    name: &'static str,
    second: bool,
}

impl Relay {
    fn new() -> Self {
        let mut relay = Self { users: Vec::new(), name: "main", second: false };
        (0..100).for_each(|n| relay.come(n, n as u8));
        relay
    }

    fn come(&mut self, at: usize, id: u8) {
        let counters = EntityCounters { id: id.to_string(), requests: 1, ..EntityCounters::default() };
        let full = view("main");
        let quota = full.ledger.unwrap().quotas.iter().next().unwrap().clone();
        let quota = QuotaView { id: i64::from(id).into(), exhausted_at: None, ..quota };
        let user = User { id: i64::from(id).into(), ..full.directory.unwrap().users[0].clone() };
        self.users.insert(at.min(self.users.len()), (counters, quota, user));
    }

    fn take(&mut self, step: &Step) {
        let last = self.users.len() - 1;
        match *step {
            Step::Cost(user, cost) => self.users[user.min(last)].0.cost_usd = Some(cost),
            Step::Requests(user) => self.users[user.min(last)].0.requests += 1,
            Step::Come(at, id) => self.come(at, id),
            Step::Go(user) => drop(self.users.remove(user.min(last))),
            Step::Swap(one, other) => self.users.swap(one.min(last), other.min(last)),
            Step::Exhaust(user) => self.users[user.min(last)].1.exhausted_at = Some(at(user as i64)),
            Step::Rename(user) => self.users[user.min(last)].2.name.push('x'),
            Step::Relay(is_main) => self.name = if is_main { "main" } else { "other" },
            Step::SecondRelay(second) => self.second = second,
            Step::Back(_) => {}
        }
    }

    /// As if it were shown for the first time.
    fn views(&self) -> Vec<View> {
        let full = view(self.name);
        let mut ledger = full.ledger.as_deref().cloned().unwrap();
        ledger.quotas = self.users.iter().map(|(_, quota, _)| quota.clone()).collect();
        ledger.counters.as_mut().unwrap().users = self.users.iter().map(|(counters, ..)| counters.clone()).collect();
        let mut directory = full.directory.as_deref().cloned().unwrap();
        directory.users = self.users.iter().map(|(.., user)| user.clone()).collect();
        let view = View { ledger: Some(Arc::new(ledger)), directory: Some(Arc::new(directory)), ..full };
        // A second relay may have the very same things.
        let second = self.second.then(|| View { relay: "second".into(), ..view.clone() });
        [view].into_iter().chain(second).collect()
    }
}

/// Takes from the views before what has not changed, as an exporter does.
fn share(views: &mut [View], before: &[View]) {
    for (view, before) in views.iter_mut().zip(before) {
        let mut ledger = view.ledger.as_deref().cloned().unwrap();
        ledger.share(before.ledger.as_deref().unwrap());
        view.ledger = Some(Arc::new(ledger));
        if view.directory == before.directory {
            view.directory.clone_from(&before.directory);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_passed_over_is_as_it_would_be_written(pages_of_steps in prop::collection::vec(prop::collection::vec(step(), 0..4), 1..12)) {
        let (format, coding) = (Format::OpenMetrics, Coding::Identity);
        let pages = Shared::new(Page::new(Vec::new(), own()));
        let mut relay = Relay::new();
        let mut shown: Vec<(Relay, Vec<View>)> = Vec::new();
        for steps in pages_of_steps {
            let mut again = None;
            for step in &steps {
                relay.take(step);
                if let Step::Back(pages) = step {
                    again = shown.len().checked_sub(*pages).map(|at| shown[at].clone()).or(again);
                }
            }
            let (now, views) = again.unwrap_or_else(|| {
                let mut views = relay.views();
                if let Some((_, before)) = shown.last() {
                    share(&mut views, before);
                }
                (relay.clone(), views)
            });
            pages.read_as(format, coding);
            pages.publish(Page::new(views.clone(), own()));
            let (page, fresh) = (pages.current(), Page::new(now.views(), own()));
            prop_assert!(page.bytes(format, coding) == fresh.bytes(format, coding));
            prop_assert_eq!(page.series(), fresh.series());
            relay = now.clone();
            shown.push((now, views));
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
