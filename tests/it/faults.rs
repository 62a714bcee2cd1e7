//! Every fault against every store, and what the page says: the table in `docs/reliability.md`.
//!
//! `tests/regenerate --measure` measures the times again and writes the table.

mod gemini;
mod hub;
mod manager;
mod own;
mod standby;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use llm_relay_exporter::model::Source;
use llm_relay_exporter::settings::{Plan, RelayPlan};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::cpa_manager::relay::{Event, Relay};
use crate::generated;
use crate::guarded::Guarded;
use crate::process::{Page, Serving, fallen, total, value};
use crate::proxy::Fault;

/// Faults at once: each has an exporter of its own.
static TURNS: Semaphore = Semaphore::const_new(10);
/// Longer than a read may take, and the next one takes.
const STALE_AFTER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two pages.
const LOOK: Duration = Duration::from_millis(150);
const NEIGHBOUR: &str = "neighbour";
/// The reason of what took too long.
const TIMEOUT: &str = "timeout";

/// One line of the table.
#[derive(Debug)]
struct Line {
    fault: String,
    store: &'static str,
    said: String,
    goes_on: String,
    /// Nothing could be noticed of some faults.
    noticed: Option<Duration>,
    back: Duration,
    lost: u64,
    twice: u64,
}

impl Line {
    /// What is the same on every machine.
    fn lasting(&self) -> String {
        let Self { fault, store, said, goes_on, lost, twice, .. } = self;
        format!("{fault} | {store} | {said} | {goes_on} | {lost} | {twice}")
    }

    fn row(&self) -> String {
        let Self { fault, store, said, goes_on, noticed, back, lost, twice } = self;
        let [noticed, back] =
            [*noticed, Some(*back)].map(|it| it.map_or("–".into(), |it| format!("{:.1} s", it.as_secs_f64())));
        format!("| {fault} | {store} | {said} | {goes_on} | {noticed} | {back} | {lost} | {twice} |\n")
    }
}

/// One thing done to a store, or undone.
#[derive(Clone, Copy)]
enum Act {
    Wire(Fault),
    /// By the owner of the relay's database; `$role` is the exporter's.
    Sql(&'static str),
    /// Commands of one word per space.
    Redis(&'static [&'static str]),
    Stop,
    Start,
    /// To all processes of the server.
    Signal(&'static str),
    /// `$file` is the relay's; `$dir` its directory, `$aside` another one. A relay that has ended is started after it.
    Shell(&'static str),
    /// The relay ends and its file goes to `$aside/file`, before this.
    Offline(&'static str),
    /// Another process begins to write the file, and is stopped in the middle of its transaction.
    Hold,
    Release,
}

struct Case {
    fault: &'static str,
    begin: Act,
    end: Act,
    /// The sources that cannot be read meanwhile.
    down: &'static [Source],
}

const ALL: &[Source] = &[Source::Ledger, Source::Live, Source::Directory];

/// What a wire can do to any store.
const WIRE: [(&str, Fault); 7] = [
    ("connections are refused", Fault::Refuse),
    ("connections are taken, nothing is said", Fault::Silence),
    ("answers stop in the middle", Fault::Stall(60)),
    ("connections end in the middle of an answer", Fault::Cut(60)),
    ("answers are noise", Fault::Garbage),
    ("answers trickle, 10 bytes a second", Fault::Trickle(Duration::from_millis(100))),
    ("connections are reset", Fault::Reset),
];

fn wire(down: &'static [Source]) -> impl Iterator<Item = Case> {
    WIRE.into_iter().map(move |(fault, it)| Case { fault, begin: Act::Wire(it), end: Act::Wire(Fault::None), down })
}

/// A relay of its own whose stores can be spoiled.
#[async_trait(?Send)]
trait Site {
    fn plan(&self) -> &RelayPlan;

    /// A series that each source alone fills.
    fn shows(source: Source) -> &'static str;

    /// One more request of the relay's; a store that is away takes none.
    async fn request(&mut self);

    async fn act(&mut self, act: Act);

    /// Requests that its ledger has taken.
    async fn taken(&mut self) -> u64;
}

/// Settings with which a fault is soon noticed and soon over.
fn quick(plan: &mut RelayPlan) {
    plan.interval = Duration::from_millis(250);
    plan.directory_interval = Duration::from_millis(250);
    plan.stale_after = STALE_AFTER;
    plan.timeout = Duration::from_millis(1500);
    plan.audit_interval = Duration::from_secs(1);
}

/// Sends a signal to all processes that work below a directory.
fn signal(name: &str, directory: &Path) {
    let works_there = |entry: &PathBuf| entry.join("cwd").read_link().is_ok_and(|cwd| cwd.starts_with(directory));
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let ids: Vec<_> = processes.filter(works_there).map(|path| path.file_name().unwrap().to_owned()).collect();
    // One of them may just have gone by itself.
    let told = ids.iter().filter(|id| Command::new("kill").args(["-s", name]).arg(id).status().unwrap().success());
    assert!(told.count() > 0, "nobody works in {directory:?}");
}

/// A process that has begun to write a SQLite file and is stopped in its transaction.
struct Holder(Guarded);

impl Holder {
    fn of(file: &Path) -> Self {
        const SCRIPT: &str = "
import os, sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute('begin exclusive')
print('in', flush=True)
sys.stdin.read()
file.execute('commit')
os._exit(0)
";
        let mut holder = Command::new("python3");
        let holder = holder.args(["-c", SCRIPT]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Self(Guarded(holder.spawn().unwrap()));
        let mut said = String::new();
        BufReader::new(holder.0.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "in\n");
        holder.signal("STOP");
        holder
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.0.0.id().to_string()]).status().unwrap().success());
    }

    fn release(mut self) {
        self.signal("CONT");
        drop(self.0.0.stdin.take());
        assert!(self.0.0.wait().unwrap().success());
    }
}

/// The other relay of an exporter, which no fault may touch.
async fn neighbour() -> Relay {
    let mut relay = Relay::new(llm_relay_exporter::relays::cpa_manager::Level::Plus, "UTC", chrono::Utc::now()).await;
    relay.insert(&Event::default()).await;
    relay.plan.name = NEIGHBOUR.to_owned();
    relay.plan.interval = Duration::from_secs(1);
    relay
}

/// What the landing page says about the sources.
fn problems(address: SocketAddr) -> String {
    let (_, html) = tokio::task::block_in_place(|| crate::process::ask(address, "GET", "/")).unwrap();
    html.lines().filter(|line| line.starts_with("<li class=\"source")).collect::<Vec<_>>().join("\n")
}

fn up(page: &Page, relay: &str, source: Source) -> bool {
    value(page, "llm_relay_source_up", &[("relay", relay), ("source", source.label())]) == Some(1.0)
}

fn has(page: &Page, relay: &str, name: &str) -> bool {
    page.keys().any(|(found, labels)| found == name && labels["relay"] == relay)
}

fn failures(page: &Page, relay: &str, source: Source) -> BTreeMap<String, u64> {
    let of = |name: &str, labels: &BTreeMap<String, String>| {
        name == "llm_relay_refresh_failures_total" && labels["relay"] == relay && labels["source"] == source.label()
    };
    page.iter()
        .filter(|((name, labels), _)| of(name, labels))
        .map(|((_, labels), count)| (labels["reason"].clone(), *count as u64))
        .collect()
}

/// Pages of one exporter; on none of them may a counter fall.
struct Reader {
    exporter: Serving,
    relay: String,
    seen: Page,
}

impl Reader {
    fn read(&mut self) -> Page {
        let page = self.exporter.page();
        assert_eq!(fallen(&self.seen, &page, &self.relay), [""; 0]);
        // A series that is away for a while must not come back lower.
        self.seen.extend(page.iter().map(|(series, value)| (series.clone(), *value)));
        page
    }

    fn counted(&mut self) -> f64 {
        total(&self.read(), "llm_relay_requests_total", &self.relay)
    }

    /// What is counted in the end, as soon as it is shown.
    async fn counted_at_last(&mut self) -> f64 {
        let (began, ledger) = (Instant::now(), "llm_relay_requests_total");
        while !has(&self.read(), &self.relay, ledger) && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
        self.counted()
    }

    /// Waits until all requests have been counted; how many the ledger has taken.
    async fn count_all(&mut self, site: &mut impl Site) -> f64 {
        let taken = site.taken().await as f64;
        let began = Instant::now();
        while self.counted() < taken && began.elapsed() < PATIENCE {
            tokio::time::sleep(LOOK).await;
        }
        taken
    }

    async fn until(&mut self, what: &str, site: &mut impl Site, mut holds: impl FnMut(&Page) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            site.request().await;
            let page = self.read();
            if holds(&page) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: waited in vain: {what}\n{}",
                self.relay,
                problems(self.exporter.address)
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn suffer<S: Site>(store: &'static str, mut site: S, case: Case) -> Line {
    let relay = site.plan().name.clone();
    let beside = neighbour().await;
    let relays = [site.plan().clone(), beside.plan.clone()].map(|plan| (plan.name.clone(), plan));
    let plan = Plan { relays: relays.into(), store: None };
    let mut reader = Reader { exporter: Serving::start(plan), relay: relay.clone(), seen: Page::new() };
    let shown = |page: &Page, source: Source| has(page, &relay, S::shows(source));
    let goes_on = |page: &Page, source: Source| up(page, &relay, source) && shown(page, source);
    let all_there = |page: &Page| ALL.iter().all(|source| goes_on(page, *source) && up(page, NEIGHBOUR, *source));
    reader.until("everything is there", &mut site, all_there).await;
    // What a file loses that is replaced has been counted before.
    reader.count_all(&mut site).await;
    let before = reader.read();
    let whole: Vec<Source> = ALL.iter().copied().filter(|source| !case.down.contains(source)).collect();
    let address = reader.exporter.address;
    // The machine may stand still for a read or two; what is disturbed by the fault is so until its end.
    let undisturbed = |page: &Page| {
        for source in &whole {
            let (mut now, mut then) = (failures(page, &relay, *source), failures(&before, &relay, *source));
            let timed_out = now.remove(TIMEOUT) > then.remove(TIMEOUT);
            assert_eq!(now, then, "{}: {source}", case.fault);
            assert!(shown(page, *source) || timed_out, "{}: {source} goes on\n{}", case.fault, problems(address));
        }
        for source in ALL {
            assert!(up(page, NEIGHBOUR, *source), "{}: the other relay goes on\n{}", case.fault, problems(address));
        }
    };

    site.act(case.begin).await;
    let began = Instant::now();
    let noticed = reader.until("the fault is noticed", &mut site, |page| {
        undisturbed(page);
        case.down.iter().all(|source| !up(page, &relay, *source))
    });
    let noticed = noticed.await;
    // A read that was under way may have ended in another way than those after it do.
    let at_notice = reader.read();
    let vanished = |page: &Page| {
        undisturbed(page);
        let over = began.elapsed() > STALE_AFTER + Duration::from_secs(1);
        case.down.iter().all(|source| !shown(page, *source)) && (over || !case.down.is_empty())
    };
    reader.until("what cannot be read vanishes", &mut site, vanished).await;
    // The next attempt may be some time off, and time out on a connection from before the fault.
    let said = |page: &Page, source| -> Vec<String> {
        let had = failures(&at_notice, &relay, source);
        let is_said = |(it, count): &(String, u64)| *count > had[it] + u64::from(it == TIMEOUT);
        failures(page, &relay, source).into_iter().filter(is_said).map(|(it, _)| it).collect()
    };
    let every = |page: &Page| {
        undisturbed(page);
        case.down.iter().all(|source| !said(page, *source).is_empty())
            && whole.iter().all(|source| goes_on(page, *source))
    };
    reader.until("the page says why", &mut site, every).await;
    let page = reader.read();
    let mut reasons: Vec<String> = case.down.iter().flat_map(|source| said(&page, *source)).collect();
    reasons.sort_unstable();
    reasons.dedup();

    site.act(case.end).await;
    let back = reader.until("everything is back", &mut site, all_there).await;
    let taken = reader.count_all(&mut site).await;
    // The audit and some more refreshes: nothing is counted again.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let counted = reader.counted_at_last().await;
    reader.exporter.stop().await;
    let names = |sources: &[Source]| sources.iter().map(|it| it.label()).collect::<Vec<_>>().join(", ");
    let some = |names: String, none: &str| if names.is_empty() { none.to_owned() } else { names };
    let reasons = if reasons.is_empty() { String::new() } else { format!(": `{}`", reasons.join("`, `")) };
    Line {
        fault: case.fault.to_owned(),
        store,
        said: some(format!("{}{reasons}", names(case.down)), "nothing"),
        goes_on: some(names(&whole), "another relay"),
        noticed: (!case.down.is_empty()).then_some(noticed),
        back,
        lost: (taken - counted).max(0.0) as u64,
        twice: (counted - taken).max(0.0) as u64,
    }
}

/// In a thread of its own, when it is its turn.
fn spawn<F: Future<Output = Option<Line>>>(line: impl FnOnce() -> F + Send + 'static) -> JoinHandle<Option<Line>> {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let _turn = TURNS.acquire().await.unwrap();
            line().await
        })
    })
}

/// Spoils a store in each way, some at once, with a site for each.
async fn hold<S: Site>(
    store: &'static str,
    cases: Vec<Case>,
    site: impl AsyncFn(usize, &Case) -> S + Copy + Send + 'static,
) {
    let lines = cases.into_iter().enumerate().map(|(number, case)| {
        spawn(async move || {
            let site = site(number, &case).await;
            Some(suffer(store, site, case).await)
        })
    });
    table(lines.collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_postgresql() {
    hold("PostgreSQL", hub::postgres_cases(), async |number, case| hub::Hub::new("postgres", number, case).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_redis() {
    hold("Redis", hub::redis_cases(), async |number, case| hub::Hub::new("redis", number, case).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_primary_with_a_standby() {
    table(vec![spawn(async || Some(standby::takes_over().await))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_mariadb() {
    hold("MariaDB", gemini::cases(), async |number, case| gemini::Gemini::new(number, case).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn of_sqlite() {
    hold("SQLite", manager::cases(), async |number, case| manager::Manager::new(number, case).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_exporter_and_its_own_store() {
    let cases = own::cases().into_iter().enumerate();
    table(cases.map(|(number, case)| spawn(move || own::suffer(number, case))).collect()).await;
}

/// With a line for each case, which [`document`] sees to, no line is left over from a case that has gone.
#[test]
fn every_line_of_the_table_has_a_case() {
    let stores = [hub::postgres_cases(), hub::redis_cases(), gemini::cases(), manager::cases()];
    let standby = 1;
    let cases = stores.iter().map(Vec::len).sum::<usize>() + own::cases().len() + standby;
    assert_eq!(generated::Part::of("docs/reliability.md", "faults").written.lines().skip(2).count(), cases);
}

/// Waits for lines of the table, and holds them against it.
async fn table(lines: Vec<JoinHandle<Option<Line>>>) {
    let (mut measured, mut wrong) = (Vec::new(), 0);
    for line in lines {
        match line.await {
            Ok(Some(line)) => {
                print!("{}", line.row());
                wrong += u32::from((line.lost, line.twice) != (0, 0));
                measured.push(line);
            }
            // It needs what not every machine allows.
            Ok(None) => {}
            // It has said why.
            Err(_) => wrong += 1,
        }
    }
    assert_eq!(wrong, 0, "see above");
    document(&measured);
}

/// Holds lines of the table against the document, or writes them there.
fn document(lines: &[Line]) {
    static WRITER: Mutex<()> = Mutex::new(());
    let _writer = WRITER.lock().unwrap();
    let document = generated::Part::of("docs/reliability.md", "faults");
    let mut written: Vec<String> = document.written.lines().map(str::to_owned).collect();
    for line in lines {
        let of = |row: &String| row.starts_with(&format!("| {} | {} |", line.fault, line.store));
        let row = written.iter_mut().find(|row| of(row));
        let row = row.unwrap_or_else(|| panic!("add a line for {} to docs/reliability.md", line.lasting()));
        if generated::is_wanted() {
            line.row().trim_end().clone_into(row);
        } else {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            let lasting = [&cells[..4], &cells[6..]].concat().join(" | ");
            // A busy machine adds time-outs to what else is wrong.
            let settled = |line: &str| line.replace(", `timeout`", "").replace("`timeout`, ", "");
            assert_eq!(settled(&lasting), settled(&line.lasting()), "run tests/regenerate --measure");
        }
    }
    document.hold(&(written.join("\n") + "\n"));
}
