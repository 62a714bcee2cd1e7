//! Every fault against every store, and what the page says: the table in `docs/reliability.md`.
//!
//! `RELIABILITY=write cargo test --test it faults` measures the times again and writes the table.

mod own;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use llm_relay_exporter::demo::servers::{PrivatePostgres, PrivateRedis};
use llm_relay_exporter::model::Source;
use llm_relay_exporter::settings::{Plan, RelayPlan};
use sqlx::{Connection, PgConnection};
use tokio::sync::Semaphore;

use crate::claude_code_hub::{Store, plan, postgres, redis_server};
use crate::process::{Page, Serving, fallen, total, value};
use crate::proxy::{Fault, Proxy};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
const BEGIN: &str = "<!-- faults: written by the tests -->\n";
const END: &str = "<!-- end of faults -->\n";

/// Faults at once: each has an exporter of its own.
static TURNS: Semaphore = Semaphore::const_new(6);
const STALE_AFTER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(40);

/// One line of the table.
#[derive(Debug)]
struct Line {
    fault: String,
    store: &'static str,
    said: String,
    goes_on: String,
    noticed: Duration,
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
        let [noticed, back] = [noticed, back].map(|it| format!("{:.1} s", it.as_secs_f64()));
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
}

struct Case {
    fault: &'static str,
    begin: Act,
    end: Act,
    /// The sources that cannot be read meanwhile.
    down: &'static [Source],
}

const POSTGRES: &[Source] = &[Source::Ledger, Source::Directory];
const REDIS: &[Source] = &[Source::Live];
const ALL: [Source; 3] = [Source::Ledger, Source::Live, Source::Directory];

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

fn postgres_cases() -> Vec<Case> {
    let mut cases: Vec<_> = wire(POSTGRES).collect();
    let sql = |fault, begin, end, down| Case { fault, begin: Act::Sql(begin), end: Act::Sql(end), down };
    cases.extend([
        Case { fault: "the server is stopped and started", begin: Act::Stop, end: Act::Start, down: POSTGRES },
        sql(
            "grants are revoked",
            "revoke select on all tables in schema public from $role",
            "grant select on all tables in schema public to $role",
            POSTGRES,
        ),
        sql(
            "the password changes, sessions are ended",
            "alter role $role password 'other'; select pg_terminate_backend(pid) from pg_stat_activity where usename = '$role'",
            "alter role $role password '$role'",
            POSTGRES,
        ),
        sql(
            "the role may not connect any more",
            "alter role $role connection limit 0; select pg_terminate_backend(pid) from pg_stat_activity where usename = '$role'",
            "alter role $role connection limit -1",
            POSTGRES,
        ),
        sql("a table is locked", "begin; lock table usage_ledger in access exclusive mode", "commit", &[Source::Ledger]),
        sql(
            "a table has gone",
            "alter table users rename to people",
            "alter table people rename to users",
            &[Source::Directory],
        ),
    ]);
    cases
}

fn redis_cases() -> Vec<Case> {
    let mut cases: Vec<_> = wire(REDIS).collect();
    let redis = |fault, begin, end| Case { fault, begin: Act::Redis(begin), end: Act::Redis(end), down: REDIS };
    cases.extend([
        Case { fault: "the server is stopped and started", begin: Act::Stop, end: Act::Start, down: REDIS },
        redis("commands are no longer permitted", &["ACL SETUSER $role -@all"], &["ACL SETUSER $role +@all"]),
        redis(
            "the password changes, sessions are ended",
            &["ACL SETUSER $role resetpass >other", "CLIENT KILL USER $role"],
            &["ACL SETUSER $role resetpass >$role"],
        ),
    ]);
    cases
}

/// A relay of its own whose stores can be spoiled.
struct Site {
    plan: RelayPlan,
    role: String,
    owner: Store,
    proxy: Proxy,
    redis: redis::aio::MultiplexedConnection,
    /// Only where the case stops one.
    server: Server,
}

enum Server {
    Shared,
    Postgres(Box<PrivatePostgres>),
    Redis(Box<PrivateRedis>),
}

/// `scheme://role:role@127.0.0.1:port/path` in place of the owner's address.
fn address(url: &str, role: &str, port: u16) -> String {
    let mut url: url::Url = url.parse().unwrap();
    url.set_username(role).unwrap();
    url.set_password(Some(role)).unwrap();
    url.set_port(Some(port)).unwrap();
    url.into()
}

impl Site {
    async fn new(store: &'static str, number: usize, case: &Case) -> Self {
        let role = format!("fault_{store}_{number}");
        let mut server = Server::Shared;
        if matches!(case.begin, Act::Stop) {
            server = match store {
                "postgres" => Server::Postgres(Box::new(PrivatePostgres::start().await.unwrap())),
                _ => Server::Redis(Box::new(PrivateRedis::start().await.unwrap())),
            };
        }
        let database = match &server {
            Server::Postgres(server) => server.database(&role).await.unwrap(),
            _ => postgres().await.database(&role).await.unwrap(),
        };
        let mut owner = Store { owner: PgConnection::connect(&database).await.unwrap(), url: database };
        for script in llm_relay_exporter::relays::claude_code_hub::least_schema("v0.9.2") {
            owner.run(script).await;
        }
        owner.people().await;
        owner
            .run(&format!(
                "create role {role} login password '{role}'; grant select on all tables in schema public to {role}"
            ))
            .await;
        let redis_url = match &server {
            Server::Redis(server) => server.url(),
            _ => redis_server().await.url(),
        };
        let client = redis::Client::open(redis_url.as_str()).unwrap();
        let mut site = {
            let behind: url::Url = if store == "postgres" { &owner.url } else { &redis_url }.parse().unwrap();
            let proxy = Proxy::start(behind.port().unwrap()).await;
            let port = |url: &str, spoiled| {
                if spoiled { proxy.port } else { url.parse::<url::Url>().unwrap().port().unwrap() }
            };
            let database = address(&owner.url, &role, port(&owner.url, store == "postgres"));
            let redis = address(&redis_url, &role, port(&redis_url, store == "redis"));
            let mut plan = plan(&database, Some(&redis));
            plan.name = role.clone();
            plan.interval = Duration::from_millis(250);
            plan.directory_interval = Duration::from_millis(250);
            plan.stale_after = STALE_AFTER;
            plan.timeout = Duration::from_secs(2);
            plan.audit_interval = Duration::from_secs(1);
            let redis = client.get_multiplexed_async_connection().await.unwrap();
            Self { plan, role, owner, proxy, redis, server }
        };
        site.redis(&["ACL SETUSER $role on >$role ~* +@all"]).await;
        for _ in 0..20 {
            site.request().await;
        }
        site
    }

    /// One more request of the relay's; a store that is stopped takes none.
    async fn request(&mut self) {
        let request =
            "insert into message_request (provider_id, user_id, key, model, status_code, cost_usd, duration_ms)
                       values (1, 1, 'sk-ann', 'sonnet', 200, 0.25, 900)";
        sqlx::raw_sql(request).execute(&mut self.owner.owner).await.ok();
    }

    async fn redis(&mut self, commands: &'static [&'static str]) {
        for command in commands {
            let words = command.replace("$role", &self.role);
            let mut words = words.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            command.arg(words.collect::<Vec<_>>());
            command.exec_async(&mut self.redis).await.unwrap();
        }
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Wire(fault) => self.proxy.set(fault),
            Act::Sql(sql) => self.owner.run(&sql.replace("$role", &self.role)).await,
            Act::Redis(commands) => self.redis(commands).await,
            Act::Stop => match &mut self.server {
                Server::Postgres(server) => server.stop(),
                Server::Redis(server) => server.stop(),
                Server::Shared => unreachable!("others need it"),
            },
            Act::Start => match &mut self.server {
                Server::Postgres(server) => {
                    server.restart().await.unwrap();
                    self.owner.owner = PgConnection::connect(&self.owner.url).await.unwrap();
                }
                Server::Redis(server) => {
                    server.restart().await.unwrap();
                    let client = redis::Client::open(server.url()).unwrap();
                    self.redis = client.get_multiplexed_async_connection().await.unwrap();
                    // Users are not kept in what it stores.
                    self.redis(&["ACL SETUSER $role on >$role ~* +@all"]).await;
                }
                Server::Shared => unreachable!("others need it"),
            },
        }
    }

    async fn ledger(&mut self) -> u64 {
        let count = "select count(*) from usage_ledger";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.owner.owner).await.unwrap() as u64
    }
}

/// What the landing page says about the sources.
fn problems(address: SocketAddr) -> String {
    let (_, html) = tokio::task::block_in_place(|| crate::process::ask(address, "GET", "/")).unwrap();
    html.lines().filter(|line| line.starts_with("<tr><th scope=\"row\">")).collect::<Vec<_>>().join("\n")
}

/// A series that each source alone fills.
const fn shows(source: Source) -> &'static str {
    match source {
        Source::Ledger => "llm_relay_requests_total",
        Source::Live => "llm_relay_provider_circuit_state",
        Source::Directory => "llm_relay_user_info",
    }
}

fn up(page: &Page, source: Source) -> bool {
    value(page, "llm_relay_source_up", &[("source", source.label())]) == Some(1.0)
}

fn has(page: &Page, name: &str) -> bool {
    page.keys().any(|(found, _)| found == name)
}

fn failures(page: &Page, source: Source) -> BTreeMap<String, u64> {
    let of = |name: &str, labels: &BTreeMap<String, String>| {
        name == "llm_relay_refresh_failures_total" && labels["source"] == source.label()
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

    async fn until(&mut self, what: &str, site: &mut Site, mut holds: impl FnMut(&Page) -> bool) -> Duration {
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
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn suffer(store: &'static str, number: usize, case: Case) -> Line {
    let _turn = TURNS.acquire().await.unwrap();
    let mut site = Site::new(store, number, &case).await;
    let plan = Plan { relays: [(site.role.clone(), site.plan.clone())].into(), store: None };
    let mut reader = Reader { exporter: Serving::start(plan), relay: site.role.clone(), seen: Page::new() };
    let all_there = |page: &Page| ALL.iter().all(|source| up(page, *source) && has(page, shows(*source)));
    reader.until("everything is there", &mut site, all_there).await;
    let before = reader.read();
    let whole: Vec<Source> = ALL.into_iter().filter(|source| !case.down.contains(source)).collect();
    let address = reader.exporter.address;
    let undisturbed = |page: &Page| {
        for source in &whole {
            let goes_on = up(page, *source) && has(page, shows(*source));
            assert!(goes_on, "{}: {source} goes on\n{}", case.fault, problems(address));
            assert_eq!(failures(page, *source), failures(&before, *source), "{source}");
        }
    };

    site.act(case.begin).await;
    let noticed = reader.until("the fault is noticed", &mut site, |page| {
        undisturbed(page);
        case.down.iter().all(|source| !up(page, *source))
    });
    let noticed = noticed.await;
    // A read that was under way may have ended in another way than those after it do.
    let at_notice = reader.read();
    let vanished = |page: &Page| {
        undisturbed(page);
        case.down.iter().all(|source| !has(page, shows(*source)))
    };
    reader.until("what cannot be read vanishes", &mut site, vanished).await;
    // The next attempt may be some time off, and take its time.
    let said = |page: &Page, source| -> Vec<String> {
        let had = failures(&at_notice, source);
        failures(page, source).into_iter().filter(|(it, count)| *count > had[it]).map(|(it, _)| it).collect()
    };
    let every = |page: &Page| case.down.iter().all(|source| !said(page, *source).is_empty());
    reader.until("the page says why", &mut site, every).await;
    let page = reader.read();
    let mut reasons: Vec<String> = case.down.iter().flat_map(|source| said(&page, *source)).collect();
    reasons.sort_unstable();
    reasons.dedup();

    site.act(case.end).await;
    let back = reader.until("everything is back", &mut site, all_there).await;
    let ledger = site.ledger().await as f64;
    let relay = site.role.clone();
    let counted = |page: &Page| total(page, "llm_relay_requests_total", &relay);
    let began = Instant::now();
    while counted(&reader.read()) < ledger && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The audit and some more refreshes: nothing is counted again.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let counted = counted(&reader.read());
    reader.exporter.stop().await;
    let names = |sources: &[Source]| sources.iter().map(|it| it.label()).collect::<Vec<_>>().join(", ");
    Line {
        fault: case.fault.to_owned(),
        store: if store == "postgres" { "PostgreSQL" } else { "Redis" },
        said: format!("{}: `{}`", names(case.down), reasons.join("`, `")),
        goes_on: names(&whole),
        noticed,
        back,
        lost: (ledger - counted).max(0.0) as u64,
        twice: (counted - ledger).max(0.0) as u64,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_table_of_faults_is_true() {
    let stores = [("postgres", postgres_cases()), ("redis", redis_cases())];
    let sufferings = stores
        .into_iter()
        .flat_map(|(store, cases)| cases.into_iter().enumerate().map(move |(number, case)| (store, number, case)))
        .map(|(store, number, case)| {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(suffer(store, number, case)))
        });
    let runtime = tokio::runtime::Handle::current();
    let full_disk = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            let _turn = TURNS.acquire().await.unwrap();
            own::full_disk().await
        })
    });
    let mut lines = Vec::new();
    for suffering in sufferings.collect::<Vec<_>>() {
        let line = suffering.await.unwrap();
        print!("{}", line.row());
        assert_eq!((line.lost, line.twice), (0, 0), "{line:?}");
        lines.push(line);
    }
    if let Some(line) = full_disk.await.unwrap() {
        print!("{}", line.row());
        assert_eq!((line.lost, line.twice), (0, 0), "{line:?}");
        lines.push(line);
    }
    document(&lines);
}

/// Holds the table against the document, or writes it there.
fn document(lines: &[Line]) {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (head, rest) = document.split_once(BEGIN).unwrap();
    let (table, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("RELIABILITY").is_some() {
        let mut table = "| Fault | Store | Down, and why | Goes on | Noticed after | Back after | Rows lost | Counted twice |\n|---|---|---|---|---|---|---|---|\n".to_owned();
        lines.iter().for_each(|line| table.push_str(&line.row()));
        std::fs::write(DOCUMENT, format!("{head}{BEGIN}{table}{END}{tail}")).unwrap();
        return;
    }
    let written: Vec<String> = table
        .lines()
        .skip(2)
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            [&cells[..4], &cells[6..]].concat().join(" | ")
        })
        .collect();
    let measured: Vec<String> = lines.iter().map(Line::lasting).collect();
    // Some faults need what not every machine allows.
    let written: Vec<String> = match lines.len() == written.len() {
        true => written,
        false => written.into_iter().filter(|line| measured.contains(line)).collect(),
    };
    assert_eq!(written, measured, "write it again: RELIABILITY=write cargo test --test it faults");
}
