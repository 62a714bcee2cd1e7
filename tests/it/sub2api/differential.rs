//! Random histories by the relay's own life cycle: every number is held against independent SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::Utc;
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::relay;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{Failure, Request, Saved, Store, follower, settle, view};
use crate::db::Db;
use crate::reading::{self, view_beside};
use crate::sums::{counter_sums, like};

const MODELS: [&str; 3] = ["claude-sonnet-4", "gpt-5", "gemini-2.5-pro"];

/// The relay's side: what is in its tables, and in `kept_*` all that ever was there.
struct Scene {
    store: Store,
    zone: &'static str,
    rng: StdRng,
}

impl Scene {
    async fn new(name: &str, zone: &'static str, seed: u64) -> Self {
        let mut store = Store::new(name).await;
        store.people().await;
        store
            .run(&format!(
                "update usage_group_rollup_state set timezone_name = '{zone}';
                 create table kept_usage as select * from usage_logs;
                 create table kept_errors as select * from ops_error_logs;
                 create function keep() returns trigger language plpgsql as $$
                 begin
                   if tg_table_name = 'usage_logs' then insert into kept_usage select new.*; else insert into kept_errors select new.*; end if;
                   return null;
                 end $$;
                 create trigger keep after insert on usage_logs for each row execute function keep();
                 create trigger keep after insert on ops_error_logs for each row execute function keep()"
            ))
            .await;
        let mut scene = Self { store, zone, rng: StdRng::seed_from_u64(seed) };
        // Each model has succeeded before anything else happens: the order of names is another test's.
        for model in MODELS {
            let at = "now() - interval '80 days'".to_owned();
            scene.store.run(&Request { at, model, ..Request::default() }.insert()).await;
        }
        for days in (0..30).rev() {
            let at = format!("now() - interval '{days} days 3 hours'");
            let request = Request { at: at.clone(), ..scene.request() };
            let failure = Failure { at, ..scene.failure() };
            scene.store.run(&request.insert()).await;
            scene.store.run(&failure.insert()).await;
        }
        scene
    }

    /// When a day of the relay's began.
    fn day(&self, ago: u32) -> String {
        let zone = self.zone;
        format!("(date_trunc('day', now() at time zone '{zone}') - interval '{ago} days') at time zone '{zone}'")
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())].clone()
    }

    /// Around midnight of the relay's days, around windows' edges, and hours ago, as of live sessions.
    fn at(&mut self) -> String {
        let midnight = self.day(0);
        match self.rng.random_range(0..10) {
            0..5 => "clock_timestamp()".to_owned(),
            5 => format!("least({midnight} + interval '{} seconds', now())", self.rng.random_range(-3..3)),
            6 => format!("{} + interval '{} seconds'", self.day(1), self.rng.random_range(-3..3)),
            7 => format!("now() - interval '{} hours'", self.pick(&[2, 5, 9, 25])),
            _ => format!("now() - interval '{} seconds'", self.rng.random_range(20..90)),
        }
    }

    fn request(&mut self) -> Request {
        let who = self.rng.random_range(1..=3);
        let stream = self.rng.random_bool(0.7);
        let list = self.pick(&[0, 1, 1234, 77_777, 2_500_000]);
        Request {
            at: self.at(),
            user: who,
            key: who,
            account: self.rng.random_range(1..=3),
            model: self.pick(&MODELS),
            input: self.pick(&[0, 1, 150, 90_000]),
            output: self.pick(&[0, 7, 800]),
            read: self.pick(&[0, 0, 5000]),
            written: [self.pick(&[0, 100]), self.pick(&[0, 30]), self.pick(&[0, 9])],
            list,
            input_cost: list / 3,
            rate: self.pick(&[10_000, 5000, 0, 12_345]),
            account_rate: self.pick(&[None, Some(0), Some(8000)]),
            duration: Some(self.rng.random_range(10..60_000)),
            first_token: stream.then(|| self.rng.random_range(1..5000)),
            kind: self.pick(&[0, 1, 2, 2, 3, 4, 5]),
            request_id: self.rng.random_bool(0.3).then(|| format!("client:{}", self.rng.random_range(0..40))),
        }
    }

    fn failure(&mut self) -> Failure {
        let at = self.at();
        let (phase, status, upstream, limited) = self.pick(&[
            ("upstream", 502, Some(500), false),
            ("upstream", 200, Some(529), false),
            ("upstream", 200, Some(500), false),
            ("upstream", 429, Some(429), false),
            ("upstream", 400, Some(400), false),
            ("upstream", 502, None, false),
            ("upstream", 502, Some(401), false),
            ("routing", 503, None, true),
            ("request", 403, None, true),
            ("request", 400, None, false),
        ]);
        let account = (phase == "upstream").then(|| self.rng.random_range(1..=3));
        let counts_tokens = self.rng.random_bool(0.1);
        Failure { at, phase, status, upstream, limited, counts_tokens, account, model: self.pick(&MODELS) }
    }

    /// Something happens; says what.
    async fn step(&mut self, follower: &mut Follower) -> &'static str {
        match self.rng.random_range(0..100) {
            0..60 => {
                for _ in 0..self.rng.random_range(1..6) {
                    let (request, failure) = (self.request().insert(), self.failure().insert());
                    self.store.run(if self.rng.random_bool(0.7) { &request } else { &failure }).await;
                }
                "requests end"
            }
            60..75 => {
                self.late_rows(follower).await;
                "rows of both tables become visible after ones with greater ids"
            }
            75..82 => {
                let days = self.pick(&[30, 10, 4]);
                self.store
                    .run(&format!("delete from usage_logs where created_at < now() - interval '{days} days'"))
                    .await;
                "the retention deletes the oldest requests"
            }
            82..88 => {
                let days = self.pick(&[30, 1]);
                let sql = match self.rng.random_bool(0.3) {
                    true => "truncate ops_error_logs".to_owned(),
                    false => format!("delete from ops_error_logs where created_at < now() - interval '{days} days'"),
                };
                self.store.run(&sql).await;
                "the retention deletes errors"
            }
            88..94 => {
                let user = self.rng.random_range(1..=3);
                self.store
                    .run(&format!(
                        "with gone as (delete from usage_logs where user_id = {user} and created_at >= {} returning 1)
                         insert into usage_cleanup_tasks (status, deleted_rows) select 'succeeded', count(*) from gone",
                        self.day(1)
                    ))
                    .await;
                "an administrator deletes a user's newest requests"
            }
            _ => {
                self.store.run("update users set deleted_at = now() where id = 3; update accounts set status = 'error' where id = 2").await;
                "a user is deleted, softly, and an account fails"
            }
        }
    }

    /// Two batchers: one is slow.
    async fn late_rows(&mut self, follower: &mut Follower) {
        let mut slow = Db::connect(&self.store.url).await;
        let (request, failure) = (Request { request_id: None, ..self.request() }, self.failure());
        slow.run(&format!("begin; {}; {}", request.insert(), failure.insert())).await;
        let (request, failure) = (Request { request_id: None, ..self.request() }, self.failure());
        self.store.run(&request.insert()).await;
        self.store.run(&failure.insert()).await;
        settle(follower).await;
        slow.run("commit").await;
    }

    /// What the relay's dashboards show of spans and entities, in requests, 10^-10 dollars, tokens and milliseconds.
    async fn screens(&mut self) -> BTreeMap<String, Vec<i64>> {
        let day = |ago| self.day(ago);
        let sums =
            "count(*), (coalesce(sum(actual_cost), 0) * 1e10)::bigint, (coalesce(sum(total_cost), 0) * 1e10)::bigint,
            coalesce(sum(input_tokens::bigint + output_tokens + cache_creation_tokens + cache_read_tokens), 0)::bigint,
            coalesce(sum(duration_ms), 0)::bigint";
        let mut parts = Vec::new();
        for (name, from, to) in [
            ("today", day(0), "'infinity'".to_owned()),
            ("yesterday", day(1), day(0)),
            ("minute", "date_trunc('second', now()) - interval '60 seconds'".to_owned(), "'infinity'".to_owned()),
        ] {
            parts.push(format!(
                "select '{name}', {sums} from usage_logs where created_at >= {from} and created_at < {to}"
            ));
        }
        for (scope, column) in [("user", "user_id"), ("key", "api_key_id"), ("provider", "account_id")] {
            parts.push(format!(
                "select '{scope} ' || {column}, {sums} from usage_logs where created_at >= {} group by {column}",
                day(0)
            ));
        }
        self.store.table(&parts.join(" union all ")).await
    }

    async fn compare(&mut self, follower: &mut Follower, plan: &RelayPlan, directory: &Directory, what: &str) {
        let (view, screens) = view_beside(follower, plan, directory, async || self.screens().await).await;
        compare_screens(&view, &screens, what);
        assert_eq!(ours(&view), self.theirs().await, "{what}");
        let audit = view.audit.unwrap();
        assert_eq!((audit.drift_requests, audit.drift_cost_usd), (0.0, Some(0.0)), "{what}");
    }

    /// What all rows that ever were there add up to.
    async fn theirs(&mut self) -> BTreeMap<String, i64> {
        let class = "case when error_phase = 'routing' then 'overloaded' when is_business_limited then 'policy'
            when error_phase in ('request', 'auth') then 'caller'
            when coalesce(upstream_status_code, status_code) = 429 then 'rate_limited'
            when coalesce(upstream_status_code, status_code) in (503, 529) then 'overloaded'
            when coalesce(upstream_status_code, status_code) in (401, 403) then 'auth'
            when coalesce(upstream_status_code, status_code) < 500 then 'caller' else 'server' end";
        let failed = "kept_errors where status_code >= 400 and not is_count_tokens";
        let excluded = "error_phase = 'request' or coalesce(upstream_status_code, 0) = 400";
        let provider = "coalesce(account_id, 0)";
        let mut all = BTreeMap::new();
        for sql in [
            "select 'requests provider ' || account_id || ' success', count(*) from kept_usage where request_type <> 4 group by 1".to_owned(),
            format!("select 'requests provider ' || {provider} || ' failure', count(*) from {failed} and not ({excluded}) group by 1"),
            format!(
                "select 'requests provider ' || provider || ' excluded', sum(n)::bigint from (
                   select {provider} as provider, count(*) as n from {failed} and ({excluded}) group by 1
                   union all select account_id, count(*) from kept_usage where request_type = 4 group by 1) t group by provider"
            ),
            format!("select 'failures provider ' || {provider} || ' ' || {class}, count(*) from {failed} group by 1"),
            format!("select 'recovered provider ' || {provider} || ' ' || {class}, count(*) from kept_errors where status_code < 400 and not is_count_tokens group by 1"),
            "select 'refused ' || account_id, count(*) from kept_usage where request_type = 4 group by 1".to_owned(),
            "select 'cost provider ' || account_id, (sum(actual_cost) * 1e10)::bigint from kept_usage group by 1".to_owned(),
            "select 'list cost provider ' || account_id, (sum(total_cost) * 1e10)::bigint from kept_usage group by 1".to_owned(),
            "select 'account cost provider ' || account_id, (sum(total_cost * coalesce(account_rate_multiplier, 1)) * 1e10)::bigint from kept_usage group by 1".to_owned(),
            "select 'tokens model ' || model || ' output', sum(output_tokens)::bigint from kept_usage group by 1".to_owned(),
            "select 'tokens model ' || model || ' cache_read', sum(cache_read_tokens)::bigint from kept_usage group by 1".to_owned(),
            "select 'duration ms model ' || model, sum(duration_ms)::bigint from kept_usage group by 1".to_owned(),
            "select 'unpriced model ' || model, count(*) from kept_usage where request_type <> 4 and total_cost = 0
               and input_tokens + output_tokens + cache_read_tokens + cache_creation_tokens > 0 group by 1".to_owned(),
            "select 'cost key ' || api_key_id, (sum(actual_cost) * 1e10)::bigint from kept_usage group by 1".to_owned(),
            "select 'list cost key ' || api_key_id, (sum(total_cost) * 1e10)::bigint from kept_usage group by 1".to_owned(),
            format!(
                "select 'requests user ' || who, count(*) from (select user_id as who from kept_usage union all
                   select user_id from {failed}) t group by 1"
            ),
        ] {
            all.extend(self.store.table(&sql).await.into_iter().map(|(name, numbers)| (name, numbers[0])));
        }
        all.retain(|_, value| *value != 0);
        all
    }
}

/// What [`Scene::theirs`] has.
const FAMILIES: [&str; 13] = [
    "requests provider {}",
    "failures provider {}",
    "recovered provider {}",
    "cost provider {}",
    "list cost provider {}",
    "account cost provider {}",
    "tokens model {} output",
    "tokens model {} cache_read",
    "duration ms model {}",
    "unpriced model {}",
    "cost key {}",
    "list cost key {}",
    "requests user {}",
];

fn ours(view: &LedgerView) -> BTreeMap<String, i64> {
    let mut ours = like(counter_sums(view.counters.as_ref().unwrap(), 1e10), FAMILIES);
    // Both tables have a class of policy; here the answers' are told apart by their own provider.
    let policies: Vec<_> =
        ours.extract_if(.., |name, _| name.starts_with("failures ") && name.ends_with(" policy")).collect();
    for (name, n) in policies {
        let provider = name.split(' ').nth(2).unwrap();
        let name = if provider == "0" { name.clone() } else { format!("refused {provider}") };
        ours.insert(name, n);
    }
    ours
}

fn compare_screens(view: &LedgerView, screens: &BTreeMap<String, Vec<i64>>, what: &str) {
    let units = |usd: Option<f64>| (usd.unwrap() * 1e10).round() as i64;
    for (day, it) in view.days.iter().filter(|(day, _)| *day != "yesterday_same_time") {
        let theirs = &screens[*day];
        let mean = it.mean_duration_seconds.map_or(0, |mean| (mean * it.requests as f64 * 1000.0).round() as i64);
        let ours = [it.requests as i64, units(it.cost_usd), units(it.list_cost_usd), mean];
        assert_eq!(ours, [theirs[0], theirs[1], theirs[2], theirs[4]], "{day}: {what}");
    }
    let minute = &screens["minute"];
    assert_eq!(
        (view.requests_last_minute, view.tokens_last_minute),
        (Some(minute[0] as f64), Some(minute[3] as f64)),
        "{what}"
    );
    for board in view.boards.iter().filter(|board| board.period.label() == "today") {
        for it in board.entries.iter().filter(|it| it.id != "other") {
            let Some(theirs) = screens.get(&format!("{} {}", board.scope.label(), it.id)) else { continue };
            let ours = [it.requests.unwrap() as i64, units(it.cost_usd), it.tokens.unwrap() as i64];
            assert_eq!(ours, [theirs[0], theirs[1], theirs[3]], "{} {}: {what}", board.scope.label(), it.id);
        }
    }
}

async fn play(name: &str, zone: &'static str, seed: u64, steps: usize) {
    let seed = reading::seed(seed);
    let mut scene = Scene::new(name, zone, seed).await;
    let plan = scene.store.plan();
    let mut exporter = follower(&plan);
    let mut directory = relay::open(&plan).unwrap().directory;
    let mut saved = Saved::default();
    settle(&mut exporter).await;
    for n in 0..steps {
        let mut what = scene.step(&mut exporter).await.to_owned();
        if n % 4 == 3 {
            exporter = saved.restored(follower(&plan));
            what += ", and the exporter goes on from its store";
        }
        let what = format!("{zone}, seed {seed}, step {n}: {what}");
        println!("{what}");
        let directory = directory.read().await.unwrap();
        scene.compare(&mut exporter, &plan, &directory, &what).await;
        saved.save(&mut exporter);
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_shanghai() {
    play("differential_0", "Asia/Shanghai", 1, 40).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_kolkata() {
    play("differential_1", "Asia/Kolkata", 2, 40).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_new_york() {
    play("differential_2", "America/New_York", 3, 40).await;
}

const WRITERS: u64 = 12;
const ROWS: usize = 40;

#[tokio::test]
async fn under_twelve_writers_nothing_is_lost_and_nothing_counted_twice() {
    let mut store = Store::new("parallel").await;
    store.people().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|seed| {
            let url = store.url.clone();
            tokio::spawn(async move {
                let mut writer = Db::connect(&url).await;
                let mut rng = StdRng::seed_from_u64(seed);
                for _ in 0..ROWS {
                    writer
                        .run(&format!("begin; {}; {}", Request::default().insert(), Failure::default().insert()))
                        .await;
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..25))).await;
                    writer.run("commit").await;
                }
            })
        })
        .collect();
    let plan = store.plan();
    let mut exporter = follower(&plan);
    let mut saved = Saved::default();
    let (mut seen, mut late) = (BTreeSet::new(), 0_u64);
    let began = Utc::now();
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        settle(&mut exporter).await;
        // How many rows come after a greater id: without them this would prove nothing.
        let ids = store.table("select id::text, id from ops_error_logs").await;
        let top = seen.last().copied().unwrap_or(0);
        late += ids.values().filter(|id| id[0] < top && !seen.contains(&id[0])).count() as u64;
        seen.extend(ids.values().map(|id| id[0]));
        if late % 3 == 1 {
            saved.save(&mut exporter);
            exporter = saved.restored(follower(&plan));
        }
        assert!(Utc::now() - began < chrono::TimeDelta::minutes(3));
    }
    settle(&mut exporter).await;
    let all = WRITERS * ROWS as u64;
    let view = view(&mut exporter, &plan, &Directory::default());
    assert_eq!((super::outcomes(&view), view.days[0].1.requests), ([all, all, 0], all));
    assert!(late > 0, "no row was late");
}
