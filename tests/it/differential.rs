//! The exporter's numbers against one plain SQL aggregate each, over the same database and the same moment.
//!
//! A scripted relay writes through the relay's own trigger: requests start, end, get more expensive, are blocked,
//! deleted, imported late; logs are cleaned, statistics reset; the exporter is restarted and the clock passes midnights
//! and clock changes. After every step every number is compared. The SQL here is written from the relay's rules and
//! shares nothing with the reader's.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, TimeZone, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::{Directory, Scope};
use llm_relay_exporter::relay;
use llm_relay_exporter::relays::claude_code_hub::{self, least_schema};
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{Boards, RelayPlan};
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use crate::db::CLOCK;
use crate::reading::{self, Saved, read_all};
use crate::screens::{close, hold_board, hold_day, hold_window};
use crate::sums::{Sums, counter_sums};

/// A release, as the comparison sees it.
struct Release {
    name: &'static str,
    has_ledger: bool,
    /// What the relay's screens count, of `l`.
    counted: &'static str,
    is_error: &'static str,
    /// Success, failure or neither on its boards.
    verdict: &'static str,
    has_outcomes: bool,
    first_byte: &'static str,
}

const ENDPOINTS: &str =
    "lower(regexp_replace(l.endpoint, '/+$', '')) not in ('/v1/messages/count_tokens', '/v1/responses/compact')";
/// Every generation of the schema, from the newest back.
const RELEASES: [Release; 4] = [
    Release {
        name: "v0.9.2",
        has_ledger: true,
        counted: "l.blocked_by is null and not l.is_replay",
        is_error: "not l.is_success",
        verdict: "l.success_rate_outcome",
        has_outcomes: true,
        first_byte: "l.first_byte_ms",
    },
    Release {
        name: "v0.7.1",
        has_ledger: true,
        counted: "l.blocked_by is null",
        is_error: "not l.is_success",
        verdict: "l.success_rate_outcome",
        has_outcomes: true,
        first_byte: "l.ttfb_ms",
    },
    Release {
        name: "v0.5.9",
        has_ledger: true,
        counted: "l.blocked_by is null",
        is_error: "not l.is_success",
        verdict: "case when l.is_success then 'success' else 'failure' end",
        has_outcomes: false,
        first_byte: "l.ttfb_ms",
    },
    Release {
        name: "v0.3.42",
        has_ledger: false,
        counted: "l.blocked_by is distinct from 'warmup'",
        is_error: "coalesce(l.status_code >= 400, false)",
        verdict: "case when coalesce(l.error_message, '') = '' then 'success' else 'failure' end",
        has_outcomes: false,
        first_byte: "l.ttfb_ms",
    },
];

/// How long ago a row begins at most.
const OLDEST: Duration = Duration::seconds(250_000);

struct Scene<'a> {
    release: &'a Release,
    zone: &'static str,
    connection: PgConnection,
    url: String,
    now: DateTime<Utc>,
    rng: StdRng,
}

impl Scene<'_> {
    async fn set_up<'a>(
        server: &PrivatePostgres,
        release: &'a Release,
        zone: &'static str,
        now: DateTime<Utc>,
        seed: u64,
    ) -> Scene<'a> {
        let name = format!("diff_{}_{seed}", release.name.replace('.', "_"));
        let url = server.database(&name).await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        for script in least_schema(release.name) {
            connection.execute(AssertSqlSafe(script)).await.unwrap();
        }
        connection.execute(CLOCK).await.unwrap();
        drop(connection);
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection
            .execute(
                "insert into users (name, role) select 'user ' || n, 'user' from generate_series(1, 5) n;
                 update users set deleted_at = now() where id = 5;
                 insert into keys (user_id, key, name) select (n - 1) % 5 + 1, 'sk-secret-' || least(n, 7), 'key ' || n from generate_series(1, 8) n;
                 insert into providers (name, url, key, provider_type) select 'provider ' || n, 'https://secret', 'sk-up', 'claude' from generate_series(1, 4) n;
                 update providers set deleted_at = now() where id = 4;
                 insert into model_prices (model_name, price_data) values ('claude-sonnet', '{\"input_cost_per_token\": 3e-6, \"cache_read_input_token_cost\": 3e-7}');",
            )
            .await
            .unwrap();
        let settings = if release.name >= "v0.5.2" {
            format!("insert into system_settings (site_title, timezone) values ('t', '{zone}')")
        } else {
            "insert into system_settings (site_title) values ('t')".to_owned()
        };
        connection.execute(AssertSqlSafe(settings)).await.unwrap();
        // The server picks rows by chance, too: the same seed tells the same story.
        connection.execute(AssertSqlSafe(format!("select setseed(1.0 / {})", seed + 1))).await.unwrap();
        let mut scene = Scene { release, zone, connection, url, now, rng: StdRng::seed_from_u64(seed) };
        scene.set_clock(now).await;
        scene.set_limits().await;
        scene
    }

    async fn run(&mut self, sql: &str) {
        self.connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    async fn set_clock(&mut self, now: DateTime<Utc>) {
        self.now = now;
        self.run(&format!("update clock.hand set at = '{now}'")).await;
    }

    /// Each kind of limit, with and without a reset, on users, keys and providers.
    async fn set_limits(&mut self) {
        let reset = self.now - Duration::hours(31);
        self.run(
            "update users set limit_5h_usd = 50, daily_limit_usd = 100, limit_weekly_usd = 500, limit_monthly_usd = 900, limit_total_usd = 5000;
             update users set daily_reset_time = '09:30' where id = 2; update users set daily_reset_mode = 'rolling' where id = 3;
             update keys set limit_5h_usd = 5, limit_daily_usd = 10, limit_weekly_usd = 50, limit_monthly_usd = 90, limit_total_usd = 500;
             update keys set daily_reset_time = '18:15' where id = 2;
             update providers set limit_5h_usd = 51, limit_daily_usd = 101, limit_weekly_usd = 501, limit_monthly_usd = 901;",
        )
        .await;
        if self.release.name >= "v0.6.5" {
            self.run(&format!("update users set cost_reset_at = '{reset}' where id in (2, 4); update keys set cost_reset_at = '{}' where id = 3", self.now - Duration::hours(2))).await;
        }
        if self.release.name >= "v0.3.42" {
            self.run(&format!("update providers set limit_total_usd = 5001, total_cost_reset_at = '{reset}'")).await;
        }
    }

    fn plan(&self) -> RelayPlan {
        RelayPlan {
            timezone_fallback: self.zone.parse().unwrap(),
            boards: Boards { top_users: 3, top_keys: 3, top_providers: 2, top_models: 2, ..Boards::default() },
            ..reading::plan(&self.url, &claude_code_hub::PRODUCT)
        }
    }

    async fn step(&mut self) -> &'static str {
        let table = if self.release.has_ledger { "usage_ledger" } else { "message_request" };
        match self.rng.random_range(0..100) {
            0..45 => self.start().await,
            45..60 => {
                let open = "(select id from message_request where status_code is null order by random() limit 2)";
                let status = [200, 200, 200, 500, 429, 499, 404][self.rng.random_range(0..7)];
                let error = if status == 200 && self.rng.random_bool(0.9) { "null" } else { "'overloaded'" };
                let cost = self.rng.random_range(0..9_000_000_000_000_u64);
                let n: Vec<u32> =
                    [90..90_000, 1..4000, 0..9000, 0..900, 0..2].map(|range| self.rng.random_range(range)).to_vec();
                self.run(&format!(
                    "update message_request set status_code = {status}, error_message = {error}, duration_ms = {}, ttfb_ms = {}, \
                     cost_usd = 0.{cost:015}, input_tokens = {}, output_tokens = {}, cache_read_input_tokens = {}, updated_at = now() where id in {open}",
                    n[0], n[1], n[2], n[3], n[4] * 5000,
                )).await;
                "requests end"
            }
            60..68 => {
                let cost = self.rng.random_range(1..9_000_000_000_000_u64);
                self.run(&format!("update message_request set cost_usd = cost_usd + 0.{cost:015} where id in (select id from message_request where status_code = 200 order by random() limit 2)")).await;
                "a hedge loser costs more"
            }
            68..72 => {
                self.run(
                    "update message_request set blocked_by = 'warmup' where id = (select max(id) from message_request)",
                )
                .await;
                "a warm-up is marked"
            }
            72..75 => {
                self.run("update message_request set endpoint = '/v1/messages/count_tokens/' where id = (select max(id) from message_request)").await;
                "a request turns out to count tokens"
            }
            75..79 => {
                let user = self.rng.random_range(1..=5);
                self.run(&format!("delete from message_request where user_id = {user} and created_at < now() - interval '3 hours'; delete from {table} where user_id = {user} and created_at < now() - interval '3 hours'")).await;
                "a user's statistics are reset"
            }
            79..82 if self.release.has_ledger => {
                self.run("delete from message_request where created_at < now() - interval '1 day'").await;
                "old logs are cleaned"
            }
            82..86 if self.release.has_ledger => {
                // Ids drawn long ago that become visible now, as by a long transaction. The relay writes an outcome, too.
                let (outcome, success) =
                    if self.release.has_outcomes { (", success_rate_outcome", ", 'success'") } else { ("", "") };
                let ago = self.rng.random_range(0..OLDEST.num_seconds());
                self.run(&format!(
                    "insert into usage_ledger (id, request_id, user_id, key, provider_id, final_provider_id, model, status_code, is_success, cost_usd, input_tokens, output_tokens, created_at{outcome}) \
                     select (select coalesce(min(id), 0) from usage_ledger) - 1 - n, -(select count(*) from usage_ledger) - n, 1, 'sk-secret-1', 1, 1, 'claude-sonnet', 200, true, 0.25, 10, 10, now() - interval '{ago} seconds'{success} \
                     from generate_series(1, 2) n"
                )).await;
                "rows are imported late"
            }
            _ => {
                let ahead = [1, 7, 61, 3600, 40_000, 90_000][self.rng.random_range(0..6)];
                self.set_clock(self.now + Duration::milliseconds(ahead * 1000 + 137)).await;
                "time passes"
            }
        }
    }

    async fn start(&mut self) -> &'static str {
        let ago = [0, 1, 59, 61, 3590, 17_990, 18_010, 28_795, 86_395, 86_410, 120_000, 240_000]
            [self.rng.random_range(0..12)];
        let key = self.rng.random_range(1..=8);
        let secret = if key == 8 { "sk-unknown".to_owned() } else { format!("sk-secret-{key}") };
        let model = ["'claude-sonnet'", "'claude-haiku'", "'gpt-5'", "''", "null"][self.rng.random_range(0..5)];
        let endpoint =
            ["'/v1/messages'", "'/v1/messages'", "null", "'/V1/responses/Compact'"][self.rng.random_range(0..4)];
        let mut columns =
            "provider_id, user_id, key, model, original_model, endpoint, session_id, created_at".to_owned();
        let provider = self.rng.random_range(0..=4);
        let mut values = format!(
            "{}, {}, '{secret}', {model}, {model}, {endpoint}, 's', now() - interval '{ago} seconds 250 milliseconds'",
            provider,
            (key - 1) % 5 + 1,
        );
        if self.release.name >= "v0.9.0" && self.rng.random_bool(0.1) {
            columns += ", is_replay";
            values += ", true";
        }
        if self.rng.random_bool(0.05) {
            columns += ", blocked_by, status_code";
            values += ", 'sensitive_word', 400";
        }
        if self.release.name >= "v0.9.0" {
            columns += ", first_byte_ms";
            values += ", 50";
        }
        self.run(&format!("insert into message_request ({columns}) values ({values})")).await;
        "a request starts"
    }

    /// The fact table as the comparison reads it.
    fn fact(&self) -> &'static str {
        if self.release.has_ledger {
            "usage_ledger l"
        } else {
            "(select *, provider_id as final_provider_id, coalesce(error_message, '') = '' and coalesce(status_code < 400, true) as is_success \
             from message_request where deleted_at is null) l"
        }
    }

    fn counted(&self) -> String {
        let endpoints =
            if self.release.name >= "v0.7.1" { format!("(l.endpoint is null or {ENDPOINTS})") } else { "true".into() };
        format!("({}) and {endpoints}", self.release.counted)
    }

    /// A local boundary as SQL: `day`, `week` or `month`, so many days away.
    fn local(&self, unit: &str, days: i32) -> String {
        format!(
            "(date_trunc('{unit}', now() at time zone '{z}') + interval '{days} days') at time zone '{z}'",
            z = self.zone
        )
    }

    async fn numbers(&mut self, select: &str, condition: &str) -> Vec<f64> {
        let sql = format!("select {select} from {} where {} and {condition}", self.fact(), self.counted());
        let row = self
            .connection
            .fetch_one(AssertSqlSafe(sql.clone()))
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        (0..row.len()).map(|i| row.get::<Option<f64>, _>(i).unwrap_or(f64::NAN)).collect()
    }

    async fn compare(&mut self, view: &LedgerView, directory: &Directory) {
        let at = "date_trunc('second', now())";
        let same_time = format!(
            "date_trunc('second', ((now() at time zone '{z}') - interval '1 day') at time zone '{z}')",
            z = self.zone
        );
        for (day, from, to) in [
            ("today", self.local("day", 0), self.local("day", 1)),
            ("yesterday", self.local("day", -1), self.local("day", 0)),
            ("yesterday_same_time", self.local("day", -1), same_time),
        ] {
            let select = format!(
                "count(*)::float8, coalesce(sum(l.cost_usd), 0)::float8, avg(l.duration_ms)::float8 / 1000, (count(*) filter (where {}))::float8",
                self.release.is_error
            );
            let sql = self.numbers(&select, &format!("l.created_at >= {from} and l.created_at < {to}")).await;
            hold_day(view, day, &sql);
        }

        let tokens = "coalesce(sum(l.input_tokens + l.output_tokens + coalesce(l.cache_creation_input_tokens, 0) + coalesce(l.cache_read_input_tokens, 0)), 0)::float8";
        for (window, from) in [
            ("1m", format!("{at} - interval '1 minute'")),
            ("1h", format!("{at} - interval '1 hour'")),
            ("8h", format!("{at} - interval '8 hours'")),
            ("24h", format!("{at} - interval '24 hours'")),
            ("month", self.local("month", 0)),
        ] {
            let of = |outcome| format!("(count(*) filter (where {} = '{outcome}'))::float8", self.release.verdict);
            let select = format!("{}, {}, count(*)::float8, {tokens}", of("success"), of("failure"));
            let sql = self.numbers(&select, &format!("l.created_at >= {from}")).await;
            hold_window(view, window, &sql);
        }

        for (period, from, to) in [
            ("today", self.local("day", 0), self.local("day", 1)),
            ("last24h", format!("{at} - interval '24 hours'"), "'infinity'".into()),
            ("week", self.local("week", 0), "'infinity'".into()),
            ("month", self.local("month", 0), "'infinity'".into()),
            ("all", "'-infinity'".into(), "'infinity'".into()),
        ] {
            self.compare_boards(view, period, &format!("l.created_at >= {from} and l.created_at < {to}"), tokens).await;
        }
        self.compare_quotas(view, directory).await;
    }

    async fn compare_boards(&mut self, view: &LedgerView, period: &str, span: &str, tokens: &str) {
        let (counted, fact) = (self.counted(), self.fact());
        let outcome = self.release.verdict;
        let rate = format!(
            "(count(*) filter (where {outcome} = 'success'))::float8 / nullif(count(*) filter (where {outcome} in ('success', 'failure')), 0)"
        );
        let first_byte = self.release.first_byte;
        let speed = format!(
            "(avg(l.output_tokens * 1000.0 / (l.duration_ms - {first_byte})) filter (where l.output_tokens > 0 and {first_byte} is not null and l.duration_ms - {first_byte} >= 100))::float8"
        );
        let touched = "coalesce(l.cache_creation_input_tokens, 0) > 0 or coalesce(l.cache_read_input_tokens, 0) > 0";
        let hit = format!(
            "(sum(coalesce(l.cache_read_input_tokens, 0)) filter (where {touched}))::float8 / nullif(sum(coalesce(l.input_tokens, 0) + coalesce(l.cache_creation_input_tokens, 0) + coalesce(l.cache_read_input_tokens, 0)) filter (where {touched}), 0)::float8"
        );
        // One secret that two keys share counts for the first of them.
        let key = "(select min(k.id) from keys k where k.key = l.key and k.deleted_at is null)";
        for (scope, join, id) in [
            (Scope::User, "join users e on e.id = l.user_id and e.deleted_at is null", "e.id::text"),
            (
                Scope::Key,
                "join keys e on e.deleted_at is null and e.id = % join users u on u.id = e.user_id and u.deleted_at is null",
                "e.id::text",
            ),
            (Scope::Provider, "join providers e on e.id = l.final_provider_id and e.deleted_at is null", "e.id::text"),
            (Scope::Model, "", "nullif(coalesce(l.original_model, l.model), '')"),
        ] {
            let join = join.replace('%', key);
            let sql = format!(
                "select {id} as id, count(*)::float8, coalesce(sum(l.cost_usd), 0)::float8, {tokens}, {rate}, avg(l.ttfb_ms)::float8 / 1000, {speed}, {hit} \
                 from {fact} {join} where {counted} and {span} and {id} is not null group by 1"
            );
            let rows = self
                .connection
                .fetch_all(AssertSqlSafe(sql.clone()))
                .await
                .unwrap_or_else(|error| panic!("{error}: {sql}"));
            let theirs: BTreeMap<String, Vec<f64>> = rows
                .iter()
                .map(|row| {
                    (row.get(0), (1..row.len()).map(|i| row.get::<Option<f64>, _>(i).unwrap_or(f64::NAN)).collect())
                })
                .collect();
            let size = if matches!(scope, Scope::User | Scope::Key) { 3 } else { 2 };
            let (ranked, other) = hold_board(view, (scope, size), period, &theirs);
            let whole = self.numbers("count(*)::float8, coalesce(sum(l.cost_usd), 0)::float8", span).await;
            let requests: u64 = ranked.iter().chain([other]).filter_map(|entry| entry.requests).sum();
            assert_eq!(requests as f64, whole[0], "{scope:?} {period} does not add up");
            close(
                ranked.iter().chain([other]).filter_map(|entry| entry.cost_usd).sum(),
                whole[1],
                &format!("sum of {scope:?} {period}, other is {other:?}"),
            );
        }
    }

    async fn compare_quotas(&mut self, view: &LedgerView, directory: &Directory) {
        assert!(directory.limits.len() > 20);
        assert_eq!(view.quotas.iter().count(), directory.limits.len());
        let z = self.zone;
        for quota in view.quotas.iter() {
            let id = &quota.id;
            let (table, whose) = match quota.scope.label() {
                "user" => ("users", format!("l.user_id = {id}")),
                "key" => ("keys", format!("l.key = (select key from keys where id = {id})")),
                _ => ("providers", format!("l.final_provider_id = {id}")),
            };
            let mode: (String, String) = {
                let row = self
                    .connection
                    .fetch_one(AssertSqlSafe(format!(
                        "select daily_reset_mode::text, daily_reset_time from {table} where id = {id}"
                    )))
                    .await
                    .unwrap();
                (row.get(0), row.get(1))
            };
            let window = quota.window.label();
            let start = match window {
                "5h" => "date_trunc('second', now()) - interval '5 hours'".to_owned(),
                "daily" if mode.0 == "rolling" => "date_trunc('second', now()) - interval '24 hours'".to_owned(),
                "daily" => {
                    let reset = format!("((now() at time zone '{z}')::date + time '{}') at time zone '{z}'", mode.1);
                    format!("(case when now() < {reset} then {reset} - interval '24 hours' else {reset} end)")
                }
                "weekly" => self.local("week", 0),
                "monthly" => self.local("month", 0),
                _ => "'-infinity'::timestamptz".to_owned(),
            };
            let has_resets = self.release.name >= "v0.6.5";
            let reset = match (table, window) {
                ("users", _) if has_resets => format!("(select cost_reset_at from users where id = {id})"),
                ("keys", _) if has_resets => format!(
                    "(select greatest(k.cost_reset_at, u.cost_reset_at) from keys k join users u on u.id = k.user_id where k.id = {id})"
                ),
                ("providers", "total") => format!("(select total_cost_reset_at from providers where id = {id})"),
                _ => "null".to_owned(),
            };
            let condition =
                format!("{whose} and l.created_at >= greatest({start}, date_trunc('second', {reset}::timestamptz))");
            let sql = self.numbers("coalesce(sum(l.cost_usd), 0)::float8", &condition).await;
            close(quota.used_usd.unwrap_or(f64::NAN), sql[0], &format!("quota {quota:?}"));
        }
    }
}

/// Until each of so many older days has had its turn in the audit since anything was read anew.
async fn settle(follower: &mut Follower, days: i64) {
    let (mut calm, mut usual) = (0, None);
    while calm <= days {
        let before = follower.rows_read();
        read_all(follower).await;
        let read = Some(follower.rows_read() - before);
        calm = if read == usual { calm + 1 } else { 0 };
        usual = read;
    }
}

async fn play(
    server: &PrivatePostgres,
    release: &Release,
    zone: &'static str,
    start: DateTime<Utc>,
    seed: u64,
    steps: usize,
) {
    let mut scene = Scene::set_up(server, release, zone, start, seed).await;
    let plan = scene.plan();
    let mut follower = reading::follower(&plan);
    let mut directory_source = relay::open(&plan).unwrap().directory;
    let mut last = Sums::new();
    let mut saved = Saved::default();
    for n in 0..steps {
        let step = scene.step().await;
        if n % 17 == 16 {
            // A new exporter knows nothing and must say the same.
            follower = reading::follower(&plan);
            last.clear();
            saved = Saved::default();
        } else if n % 5 == 4 {
            // One that goes on from what was saved must say the same too, and no counter may fall.
            follower = saved.restored(reading::follower(&plan));
        }
        // The oldest rows begin this long before the story does.
        settle(&mut follower, (scene.now - start + OLDEST).num_days() + 1).await;
        let directory = directory_source.read().await.unwrap();
        let mut view = reading::view(&mut follower, &plan, &directory);
        // What only the ledger can tell of a limit is asked with the refresh after the view that lacks it.
        while view.quotas.iter().any(|quota| quota.used_usd.is_none()) {
            follower.refresh().await.unwrap();
            view = reading::view(&mut follower, &plan, &directory);
        }
        println!("{} {zone} seed {seed} step {n}: {step}", release.name);
        scene.compare(&view, &directory).await;
        let now = counter_sums(view.counters.as_ref().unwrap(), 1e12);
        for (series, before) in &last {
            assert!(now.get(series).is_some_and(|now| now >= before), "{series} fell from {before}");
        }
        last = now;
        saved.save(&mut follower);
    }
}

async fn all_releases(zone: &'static str, start: DateTime<Utc>, seed: u64) {
    let seed = reading::seed(seed);
    let server = PrivatePostgres::start().await.unwrap();
    for (n, release) in RELEASES.iter().enumerate() {
        play(&server, release, zone, start, seed + n as u64, 45).await;
    }
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_shanghai() {
    all_releases("Asia/Shanghai", Utc.with_ymd_and_hms(2026, 5, 31, 15, 58, 30).unwrap(), 100).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_new_york_while_the_clocks_go_back() {
    all_releases("America/New_York", Utc.with_ymd_and_hms(2024, 11, 3, 3, 50, 0).unwrap(), 200).await;
}

#[tokio::test]
async fn every_number_equals_plain_sql_in_kathmandu() {
    all_releases("Asia/Kathmandu", Utc.with_ymd_and_hms(2026, 3, 1, 18, 0, 0).unwrap(), 300).await;
}
