//! Usage from LiteLLM's own counters by day, against plain SQL over them: they grow on the day and later, restarts come in
//! between, and somebody deletes some by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use llm_relay_exporter::model::{Directory, Period, Scope};
use llm_relay_exporter::relay::{self, Counters, DirectorySource, Usage};
use llm_relay_exporter::relays::litellm::identity::Kind;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{OwnValue, RelayPlan};
use llm_relay_exporter::tally::{CounterState, Presentation};
use llm_relay_exporter::view::{Blocks, EntityCounters, LedgerView};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::database::{Db, Saved, plan};
use crate::process::{Page, Process, total, value};
use crate::sums::{counter_sums, like};

/// A key, its user, team and organization.
const CALLERS: [(&str, &str, &str, &str); 4] = [
    ("hash-a", "ann", "search", "acme"),
    ("hash-b", "ann", "ads", "acme"),
    ("hash-c", "bob", "ads", ""),
    ("hash-d", "", "", ""),
];
const MODELS: [(&str, &str, &str); 3] =
    [("gpt-4o", "gpt-4o-2024", "azure"), ("gpt-4o", "gpt-4o-2024", "openai"), ("", "gemini-pro", "vertex_ai")];

struct Exporter {
    counters: Box<dyn Counters>,
    directory: Box<dyn DirectorySource>,
    state: CounterState,
    saved: Saved,
}

impl Exporter {
    fn open(plan: &RelayPlan) -> Self {
        let relay = relay::open(plan).unwrap();
        let Usage::Counters(counters) = relay.usage else { panic!("no counters") };
        Self { counters, directory: relay.directory, state: CounterState::default(), saved: Saved::default() }
    }

    /// Reads until all is read, and writes down what has changed. Gives the number of readings.
    async fn read(&mut self) -> usize {
        let mut readings = 0;
        loop {
            readings += 1;
            let reading = self.counters.read(&Directory::default()).await.unwrap();
            let is_all = reading.loaded >= 1.0;
            self.state.apply(reading);
            self.saved.keep(self.counters.parts(self.saved.0.is_empty()).unwrap(), |bytes| bytes.get());
            if is_all {
                return readings;
            }
        }
    }

    /// Another process goes on.
    fn restarted(self, plan: &RelayPlan) -> Self {
        let mut next = Self { state: self.state, saved: self.saved, ..Self::open(plan) };
        next.counters.restore(&next.saved.0).unwrap();
        next
    }

    async fn view(&mut self, plan: &RelayPlan) -> LedgerView {
        let directory = self.directory.read().await.unwrap();
        let with = Presentation { directory: Some(&directory), live: None, boards: &plan.boards, series: &plan.series };
        self.state.view(&with).unwrap()
    }
}

struct Scene {
    db: Db,
    rng: StdRng,
    now: DateTime<Utc>,
}

impl Scene {
    async fn new(server: &PrivatePostgres, name: &str, now: &str) -> Self {
        let mut db = Db::create(server, name, "Asia/Shanghai").await;
        db.run(
            r#"insert into "LiteLLM_UserTable" (user_id) values ('ann'), ('bob');
               insert into "LiteLLM_TeamTable" (team_id) values ('search'), ('ads');
               insert into "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id) values ('acme', 'Acme', '');
               insert into "LiteLLM_VerificationToken" (token, key_alias) values ('hash-a', 'a'), ('hash-b', 'b'), ('hash-c', 'c')"#,
        )
        .await;
        let now = now.parse().unwrap();
        db.set_clock(now).await;
        Self { db, rng: StdRng::seed_from_u64(5), now }
    }

    async fn pass(&mut self, time: TimeDelta) {
        self.now += time;
        self.db.set_clock(self.now).await;
    }

    fn day(&self, before: u64) -> NaiveDate {
        self.now.date_naive() - Days::new(before)
    }

    /// A flush of a process: each of its counters grows, as those of a request or of LiteLLM's own call do.
    async fn flush(&mut self, date: NaiveDate, requests: usize) {
        let mut sql = String::from("begin;");
        for _ in 0..requests {
            let (key, user, team, organization) = CALLERS[self.rng.random_range(0..CALLERS.len())];
            let (group, model, provider) = MODELS[self.rng.random_range(0..MODELS.len())];
            let (called, failed) = (u8::from(self.rng.random_bool(0.9)), u8::from(self.rng.random_bool(0.2)));
            let succeeded = called - called.min(failed);
            let (prompt, output, read) = (self.rng.random_range(100..9000), self.rng.random_range(0..900), 60);
            let spend: f64 = self.rng.random_range(0.0..0.5);
            for (table, column, id) in [
                ("User", "user_id", user),
                ("Team", "team_id", team),
                ("Organization", "organization_id", organization),
            ] {
                // Requests without an organization are not counted by it.
                if table == "Organization" && id.is_empty() {
                    continue;
                }
                sql += &format!(
                    r#"insert into "LiteLLM_Daily{table}Spend" as d (id, {column}, date, api_key, model, model_group,
                         custom_llm_provider, mcp_namespaced_tool_name, endpoint, prompt_tokens, completion_tokens,
                         cache_read_input_tokens, spend, api_requests, successful_requests, failed_requests, updated_at)
                       values (gen_random_uuid()::text, '{id}', '{date}', '{key}', '{model}', '{group}', '{provider}', '', '',
                         {prompt}, {output}, {read}, {spend:?}, {called}, {succeeded}, {called} - {succeeded}, now())
                       on conflict ({column}, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint)
                       do update set prompt_tokens = d.prompt_tokens + excluded.prompt_tokens,
                         completion_tokens = d.completion_tokens + excluded.completion_tokens,
                         cache_read_input_tokens = d.cache_read_input_tokens + excluded.cache_read_input_tokens,
                         spend = d.spend + excluded.spend, api_requests = d.api_requests + excluded.api_requests,
                         successful_requests = d.successful_requests + excluded.successful_requests,
                         failed_requests = d.failed_requests + excluded.failed_requests;"#
                );
            }
        }
        self.db.run(&(sql + "commit;")).await;
    }

    /// What the Usage page adds up.
    async fn theirs(&mut self) -> BTreeMap<String, i64> {
        let mut theirs = BTreeMap::new();
        let today = self.day(0);
        let model = "coalesce(nullif(model_group, ''), model)";
        for (name, table, by, of, which) in [
            ("requests key {}", "User", "api_key", "api_requests", "true".to_owned()),
            ("requests user {}", "User", "user_id", "api_requests", "user_id <> ''".to_owned()),
            ("requests team {}", "Team", "team_id", "api_requests", "team_id <> ''".to_owned()),
            ("requests organization {}", "Organization", "organization_id", "api_requests", "true".to_owned()),
            ("requests model {} success", "User", model, "successful_requests", "true".to_owned()),
            ("failures provider {} unknown", "User", "custom_llm_provider", "failed_requests", "true".to_owned()),
            ("cost provider {}", "User", "custom_llm_provider", "spend::numeric * 1e6", "true".to_owned()),
            ("tokens all input", "User", "''", "prompt_tokens - cache_read_input_tokens", "true".to_owned()),
            ("tokens all output", "User", "''", "completion_tokens", "true".to_owned()),
            ("tokens all cache_read", "User", "''", "cache_read_input_tokens", "true".to_owned()),
            ("today", "User", "''", "api_requests", format!("date = '{today}'")),
            ("yesterday", "User", "''", "api_requests", format!("date = '{}'", self.day(1))),
            ("errors today", "User", "''", "failed_requests", format!("date = '{today}'")),
            (
                "week team {}",
                "Team",
                "team_id",
                "api_requests",
                "team_id <> '' and date::date >= date_trunc('week', now() at time zone 'UTC')".to_owned(),
            ),
            (
                "month key {}",
                "User",
                "api_key",
                "api_requests",
                "api_key <> 'hash-d' and date::date >= date_trunc('month', now() at time zone 'UTC')".to_owned(),
            ),
        ] {
            let sql = format!(
                r#"select {by}, round(sum({of}))::bigint from "LiteLLM_Daily{table}Spend" where {which} group by 1"#
            );
            for (label, value) in self.db.table(&sql).await {
                let label = match name.split(' ').nth(1).unwrap_or_default() {
                    "key" => Kind::Key.number(&label).to_string(),
                    "user" => Kind::User.number(&label).to_string(),
                    "team" => Kind::Team.number(&label).to_string(),
                    "organization" => Kind::Organization.number(&label).to_string(),
                    "provider" => Kind::Provider.number(&label).to_string(),
                    _ => label,
                };
                theirs.insert(name.replace("{}", &label), value);
            }
        }
        theirs.retain(|_, value| *value != 0);
        theirs
    }

    async fn compare(&mut self, exporter: &mut Exporter, plan: &RelayPlan, what: &str) {
        let view = exporter.view(plan).await;
        let mut ours = counted(&view);
        for (day, it) in &view.days {
            ours.insert((*day).to_owned(), it.requests as i64);
            if *day == "today" {
                let errors = it.error_ratio.unwrap() * it.requests.max(1) as f64;
                ours.insert("errors today".to_owned(), errors.round() as i64);
            }
        }
        for (name, scope, period) in
            [("week team {}", Scope::Team, Period::Week), ("month key {}", Scope::Key, Period::Month)]
        {
            let board = view.boards.iter().find(|it| (it.scope, it.period) == (scope, period)).unwrap();
            let entries = board.entries.iter().filter(|it| it.id != "other");
            ours.extend(entries.map(|it| (name.replace("{}", &it.id), it.requests.unwrap() as i64)));
        }
        ours.retain(|_, value| *value != 0);
        assert_eq!(ours, self.theirs().await, "{what}");
    }
}

const FAMILIES: [&str; 8] = [
    "requests key {}",
    "requests user {}",
    "requests team {}",
    "requests organization {}",
    "requests model {} success",
    "failures provider {}",
    "cost provider {}",
    "tokens all {}",
];

/// Every counter of the page.
fn counted(view: &LedgerView) -> BTreeMap<String, i64> {
    let counters = view.counters.as_ref().unwrap();
    assert_eq!(counters.missed, None, "days do not tell what left no row");
    let ours = like(counter_sums(counters, 1e6), FAMILIES);
    ours.into_iter().filter(|(name, _)| !name.ends_with(" other")).collect()
}

fn of_days(db: &Db) -> RelayPlan {
    let mut plan = plan(&db.url);
    plan.own.set("usage", OwnValue::Text("days".to_owned()));
    plan
}

#[tokio::test]
async fn counters_equal_the_days_whenever_these_grow() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut scene = Scene::new(&server, "days", "2026-11-28T22:00:00Z").await;
    for before in [400, 90, 45, 44, 30, 12, 2, 1, 0] {
        let date = scene.day(before);
        scene.flush(date, 20).await;
    }
    // One new day in each reading.
    let plan = RelayPlan { history_budget: Duration::ZERO, ..of_days(&scene.db) };
    let mut exporter = Exporter::open(&plan);
    assert_eq!(exporter.read().await, 401);
    scene.compare(&mut exporter, &plan, "at first").await;
    for n in 0..60 {
        let what = match scene.rng.random_range(0..10) {
            0..5 => {
                let today = scene.day(0);
                scene.flush(today, 5).await;
                scene.pass(TimeDelta::minutes(20)).await;
                "today grows"
            }
            5..7 => {
                let before = scene.rng.random_range(1..3);
                let date = scene.day(before);
                scene.flush(date, 2).await;
                "a day that is over grows"
            }
            7 => {
                let before = scene.rng.random_range(3..38);
                let date = scene.day(before);
                scene.flush(date, 2).await;
                for _ in 0..40 {
                    exporter.read().await;
                }
                "an older day grows"
            }
            8 => {
                let hours = scene.rng.random_range(1..30);
                scene.pass(TimeDelta::hours(hours)).await;
                "time passes"
            }
            _ => {
                // The exporter is away, and the last day that it has read goes on meanwhile.
                let (today, days) = (scene.day(0), scene.rng.random_range(1..9));
                scene.flush(today, 3).await;
                scene.pass(TimeDelta::days(days)).await;
                let yesterday = scene.day(1);
                scene.flush(yesterday, 3).await;
                "nobody reads for days"
            }
        };
        if n % 3 == 2 {
            exporter = exporter.restarted(&plan);
        }
        exporter.read().await;
        scene.compare(&mut exporter, &plan, &format!("step {n}: {what}")).await;
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_read_for_a_while_counts_nothing_twice() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut scene = Scene::new(&server, "unreadable_days", "2026-11-28T22:00:00Z").await;
    let today = scene.day(0);
    scene.flush(today, 30).await;
    let plan = of_days(&scene.db);
    let mut exporter = Exporter::open(&plan);
    exporter.read().await;
    let rename = |from, to| format!(r#"alter table "LiteLLM_Daily{from}Spend" rename to "LiteLLM_Daily{to}Spend""#);
    scene.db.run(&rename("Team", "Away")).await;
    scene.db.run(r#"update "LiteLLM_DailyUserSpend" set api_requests = api_requests + 1"#).await;
    exporter = exporter.restarted(&plan);
    exporter.read().await;
    scene.db.run(&rename("Away", "Team")).await;
    exporter = exporter.restarted(&plan);
    exporter.read().await;
    scene.compare(&mut exporter, &plan, "the table is back").await;
}

#[tokio::test]
async fn teams_beyond_their_limits_are_other() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut scene = Scene::new(&server, "limited_teams", "2026-11-28T22:00:00Z").await;
    let today = scene.day(0);
    scene.flush(today, 30).await;
    let mut plan = of_days(&scene.db);
    (plan.series.max_teams, plan.boards.top_teams) = (1, 1);
    let mut exporter = Exporter::open(&plan);
    exporter.read().await;
    let view = exporter.view(&plan).await;
    assert!(view.folded.contains(&("team", 1)) && view.folded.contains(&("organization", 0)), "{:?}", view.folded);
    let counters = view.counters.unwrap();
    let of = |all: &Blocks<EntityCounters>| all.iter().map(|it| it.requests as i64).sum::<i64>();
    assert_eq!((counters.teams.iter().count(), counters.teams[1].id.as_str()), (2, "other"));
    assert_eq!(of(&counters.teams), scene.theirs().await["today"]);
    let board = view.boards.iter().find(|it| (it.scope, it.period) == (Scope::Team, Period::All)).unwrap();
    assert_eq!((board.entries.len(), board.entries[1].id.as_str()), (2, "other"));
}

#[tokio::test]
async fn what_is_deleted_by_hand_lowers_the_day_and_no_counter() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut scene = Scene::new(&server, "deleted_days", "2026-11-28T22:00:00Z").await;
    let today = scene.day(0);
    scene.flush(today, 30).await;
    let plan = of_days(&scene.db);
    let mut exporter = Exporter::open(&plan);
    exporter.read().await;
    let before = counted(&exporter.view(&plan).await);
    scene.db.run(r#"delete from "LiteLLM_DailyUserSpend" where api_key = 'hash-a'"#).await;
    exporter.read().await;
    let view = exporter.view(&plan).await;
    assert_eq!(counted(&view), before);
    assert_eq!(view.days[0].1.requests as i64, scene.theirs().await["today"]);
    let today = scene.day(0);
    scene.flush(today, 30).await;
    exporter = exporter.restarted(&plan);
    exporter.read().await;
    let after = counted(&exporter.view(&plan).await);
    assert!(before.iter().all(|(name, count)| after[name] >= *count), "{before:?} {after:?}");

    // By other names of models nothing of this can go on.
    let mut sent = plan.clone();
    sent.own.set("model_name", OwnValue::Text("model".to_owned()));
    let Usage::Counters(mut counters) = relay::open(&sent).unwrap().usage else { panic!("no counters") };
    assert!(counters.restore(&exporter.saved.0).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_form_of_usage_begins_a_ledger_of_its_own_by_restart_and_by_reload() {
    let server = PrivatePostgres::start().await.unwrap();
    let mut scene = Scene::new(&server, "forms", "2026-11-28T22:00:00Z").await;
    let today = scene.day(0);
    scene.flush(today, 30).await;
    let directory = tempfile::tempdir().unwrap();
    let config = |own: &str| {
        format!(
            "[store]\nurl = \"sqlite:{}\"\nsave_interval = \"1s\"\n[relays.proxy]\nkind = \"litellm\"\n\
             database_url = \"{}\"\ninterval = \"1s\"\n{own}",
            directory.path().join("store.db").display(),
            scene.db.url
        )
    };
    let requests = |page: &Page| total(page, "llm_relay_requests_total", "proxy");
    let names = |page: &Page, name| value(page, "llm_relay_requests_total", &[("model", name)]).is_some();
    let saved = |page: &Page| value(page, "llm_relay_store_last_save_timestamp_seconds", &[]).is_some();
    let of_rows = |page: &Page| saved(page) && requests(page) == 0.0;
    let of_days = |page: &Page| saved(page) && names(page, "gpt-4o");
    let of_sent = |page: &Page| saved(page) && names(page, "gpt-4o-2024");

    let (rows, days, sent) = ("", "usage = \"days\"\n", "usage = \"days\"\nmodel_name = \"model\"\n");
    let exporter = Process::start(&config(rows), &[]);
    exporter.until("there is no row", of_rows);
    exporter.write(&config(days));
    exporter.signal("HUP");
    exporter.until("days are read and saved", of_days);
    exporter.write(&config(sent));
    exporter.signal("HUP");
    exporter.until("and by the other names", of_sent);
    exporter.end();

    for (own, holds) in [(days, &of_days as &dyn Fn(&Page) -> bool), (rows, &of_rows), (sent, &of_sent)] {
        let exporter = Process::start(&config(own), &[]);
        exporter.until(own, holds);
        exporter.end();
    }
}
