//! The exporter's numbers against plain SQL, while LiteLLM writes as it does: rows appear seconds after their end, in
//! batches of one transaction, after an outage hours late; ids collide, retention deletes, clocks of processes differ.
//!
//! Beside each row that it has really inserted, the writer notes what it means. The SQL shares nothing with the reader's.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::model::Scope;
use llm_relay_exporter::relays::litellm::identity::Kind;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::view::LedgerView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::{Connection, PgConnection, raw_sql};

use super::database::{Db, EVER, Exporter, Row, Saved, plan, settle};
use crate::reading;
use crate::sums::{counter_sums, like};

/// A deployment, and who provides it.
type Deployment = (&'static str, &'static str);

/// The public name of a model, what is sent upstream, and its deployments.
const GROUPS: [(&str, &str, [Deployment; 2]); 3] = [
    ("gpt-4o", "gpt-4o-2024-11-20", [("azure-1", "azure"), ("openai-1", "openai")]),
    ("claude", "claude-sonnet-4-5", [("bedrock-1", "bedrock"), ("anthropic-1", "anthropic")]),
    // Passed through to a provider, without a deployment.
    ("", "gemini-2.5-pro", [("", "vertex_ai"), ("", "gemini")]),
];
/// A key, its user, and the user's team and organization.
const CALLERS: [(&str, &str, &str, &str); 5] = [
    ("hash-a", "ann", "search", "acme"),
    ("hash-b", "ann", "ads", "acme"),
    ("hash-c", "bob", "ads", ""),
    ("", "", "", ""),
    ("litellm-internal-health-check", "default_user_id", "", ""),
];

struct Scene {
    db: Db,
    rng: StdRng,
    now: DateTime<Utc>,
    /// Rows in a process' memory, and when they appear.
    queued: Vec<(DateTime<Utc>, Row)>,
    /// The database was away: nothing is written until then.
    away_until: DateTime<Utc>,
    ids: u64,
}

impl Scene {
    async fn new(server: &PrivatePostgres, name: &str, zone: &str, now: DateTime<Utc>, seed: u64) -> Self {
        let mut db = Db::create(server, name, zone).await;
        db.run(EVER).await;
        db.run(
            r#"insert into "LiteLLM_UserTable" (user_id) values ('ann'), ('bob'), ('default_user_id');
               insert into "LiteLLM_VerificationToken" (token, key_alias) values ('hash-a', 'a'), ('hash-b', 'b');
               insert into "LiteLLM_TeamTable" (team_id, organization_id) values ('search', 'acme'), ('ads', null);
               insert into "LiteLLM_OrganizationTable" (organization_id, organization_alias, budget_id) values ('acme', 'Acme', '');
               insert into "LiteLLM_DeletedVerificationToken" (id, token, key_alias) values ('1', 'hash-c', 'c')"#,
        )
        .await;
        db.set_clock(now).await;
        let rng = StdRng::seed_from_u64(seed);
        let mut scene = Self { db, rng, now, queued: Vec::new(), away_until: now, ids: 0 };
        scene.first_successes(now - TimeDelta::days(12)).await;
        let mut rows = Vec::new();
        for n in 0..400 {
            let start = now - TimeDelta::minutes(12 * 1440 - n * 43);
            rows.push(scene.request(start));
        }
        scene.insert(&rows).await;
        scene
    }

    /// A success of each model before all else: from then on its rows count under its name.
    async fn first_successes(&mut self, at: DateTime<Utc>) {
        for (group, model, deployments) in GROUPS {
            let row = Row { group, model, model_id: deployments[0].0, provider: deployments[0].1, ..self.success(at) };
            self.insert(&[row]).await;
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }

    fn success(&mut self, start: DateTime<Utc>) -> Row {
        self.ids += 1;
        let (group, model, deployments) = self.pick(&GROUPS);
        let (model_id, provider) = self.pick(&deployments);
        let (key, user, team, organization) = self.pick(&CALLERS);
        let ms = self.pick(&[0, 7, 900, 31_000, 700_000]);
        let (cache_read, cache_write) = self.pick(&[(0, 0), (600, 0), (600, 50), (0, 40)]);
        let usage = match (cache_read, cache_write) {
            (0, 0) => self.pick(&["{}", "null", "[]", "\"x\"", r#"{"usage_object": null}"#]).to_owned(),
            _ if self.rng.random_bool(0.5) => format!(
                r#"{{"status": "success", "usage_object": {{"cache_read_input_tokens": {cache_read}, "cache_creation_input_tokens": {cache_write}}}}}"#
            ),
            _ => format!(
                r#"{{"status": "success", "usage_object": {{"cache_read_input_tokens": 0, "prompt_tokens_details": {{"cached_tokens": {cache_read}, "cache_write_tokens": {cache_write}}}}}}}"#
            ),
        };
        Row {
            id: format!("chatcmpl-{}", self.ids),
            start: start + TimeDelta::milliseconds(self.rng.random_range(0..1000)),
            ms,
            ttft: Some(ms / 3).filter(|ttft| *ttft > 0 && self.rng.random_bool(0.6)),
            key,
            user,
            team,
            organization,
            model,
            group,
            model_id,
            provider,
            spend: self.pick(&[0.0, 0.001_234_5, 0.25, 1.234_567_890_123_456_7, -0.002]),
            prompt: 1000 + self.rng.random_range(0..9000),
            output: self.pick(&[0, 20, 4000]),
            status: "success",
            metadata: usage,
            outcome: "success",
            class: "",
            cache_read,
            cache_write,
            is_refused: false,
        }
    }

    /// Any row that LiteLLM writes.
    fn request(&mut self, start: DateTime<Utc>) -> Row {
        let row = self.success(start);
        let is_passed = row.model_id.is_empty();
        // What a provider says of a request that was passed through reaches LiteLLM as a status alone.
        let provider = if is_passed { "" } else { row.provider };
        let failed = |code: &str, error: &str| {
            let error = if is_passed { "HTTPException" } else { error };
            format!(
                r#"{{"status": "failure", "error_information": {{"error_code": "{code}", "error_class": "{error}", "llm_provider": "{provider}", "error_message": "secret"}}}}"#
            )
        };
        let (metadata, outcome, class) = match self.rng.random_range(0..100) {
            0..6 => (failed("429", "RateLimitError"), "failure", "rate_limited"),
            6..14 if is_passed => return self.refused(row),
            6..8 => (failed("401", "AuthenticationError"), "failure", "auth"),
            8..9 => (failed("403", "CallerCredentialAuthenticationError"), "excluded", "auth"),
            9..11 => (failed("context_length_exceeded", "BadRequestError"), "excluded", "caller"),
            11..14 => (failed("server_error", "InternalServerError"), "failure", "server"),
            14..17 => (failed("408", "Timeout"), "failure", "timeout"),
            17..19 => (failed("499", "ClientDisconnected"), "excluded", "client_abort"),
            19..21 => (failed("", "APIError"), "failure", "unknown"),
            21..23 => (failed("400", "BadRequestError"), "excluded", "caller"),
            // LiteLLM's own calls, and attempts that were billed.
            23..26 => (r#"{"status": "success", "internal_call_origin": "auto_router"}"#.to_owned(), "internal", ""),
            26..28 if !is_passed => {
                (r#"{"status": "failure", "billed_retry_attempt": true}"#.to_owned(), "internal", "")
            }
            _ => return row,
        };
        let status = if metadata.contains("failure") { "failure" } else { "success" };
        Row { metadata, status, outcome, class, cache_read: 0, cache_write: 0, ..row }
    }

    /// LiteLLM refuses it, and guesses the provider from the name of the model.
    fn refused(&mut self, row: Row) -> Row {
        let (error, class) = self.pick(&[
            (r#""error_code": "401", "error_class": "KeyNotFoundError", "llm_provider": """#, "auth"),
            (r#""error_code": "", "error_class": "Exception", "llm_provider": """#, "unknown"),
            (r#""error_code": "429", "error_class": "HTTPException", "llm_provider": """#, "policy"),
            (r#""error_code": "422", "error_class": "BudgetExceededError", "llm_provider": "openai""#, "policy"),
            (r#""error_code": "429", "error_class": "ProxyRateLimitError", "llm_provider": "openai", "error_rate_limit_category": "litellm_rate_limit""#, "policy"),
        ]);
        Row {
            metadata: format!(r#"{{"status": "failure", "error_information": {{{error}}}}}"#),
            status: "failure",
            outcome: "excluded",
            class,
            is_refused: true,
            spend: 0.0,
            cache_read: 0,
            cache_write: 0,
            ..row
        }
    }

    async fn insert(&mut self, rows: &[Row]) {
        let statements: String = rows.iter().map(Row::insert).collect();
        self.db.run(&format!("begin; {statements} commit;")).await;
    }

    /// What the processes have in memory and is due, in batches of one transaction.
    async fn flush(&mut self) {
        let now = self.now;
        if now < self.away_until {
            return;
        }
        let due: Vec<Row> = self.queued.extract_if(.., |(at, _)| *at <= now).map(|(_, row)| row).collect();
        for batch in due.chunks(100) {
            self.insert(batch).await;
        }
    }

    async fn pass(&mut self, time: TimeDelta) {
        self.now += time;
        self.db.set_clock(self.now).await;
        self.flush().await;
    }

    /// Something happens; says what.
    async fn step(&mut self, follower: &mut Follower) -> &'static str {
        match self.rng.random_range(0..100) {
            0..45 => {
                for _ in 0..self.rng.random_range(1..12) {
                    // Clocks of processes differ by seconds; one is an hour ahead.
                    let skew = self.pick(&[0, 0, 0, -40, 40, 3600]);
                    let end = self.now + TimeDelta::seconds(skew);
                    let row = self.request(end);
                    let row = Row { start: end - TimeDelta::milliseconds(row.ms), ..row };
                    let lag = self.rng.random_range(0..30_000);
                    self.queued.push((self.now + TimeDelta::milliseconds(lag), row));
                }
                self.pass(TimeDelta::seconds(15)).await;
                "requests end"
            }
            45..55 => {
                let hours = self.pick(&[1, 5, 30]);
                self.away_until = self.now + TimeDelta::hours(hours);
                for minute in 0..hours * 60 {
                    let row = self.request(self.now + TimeDelta::minutes(minute));
                    self.queued.push((self.away_until, row));
                }
                self.pass(TimeDelta::minutes(hours * 60 - 1)).await;
                settle(follower).await;
                self.pass(TimeDelta::minutes(2)).await;
                "the database comes back, and rows of hours appear at once"
            }
            55..63 => {
                let known = format!("chatcmpl-{}", self.rng.random_range(1..=self.ids));
                let row = Row { id: known, ..self.request(self.now) };
                self.insert(&[row]).await;
                "an id comes again"
            }
            63..73 => {
                let hours = self.pick(&[60, 150, 280]);
                let before = self.now - TimeDelta::hours(hours);
                settle(follower).await;
                self.db
                    .run(&format!(r#"delete from "LiteLLM_SpendLogs" where "startTime" < '{}'"#, before.naive_utc()))
                    .await;
                "retention deletes the oldest"
            }
            73..83 => {
                let mut other = PgConnection::connect(&self.db.url).await.unwrap();
                let late = self.request(self.now - TimeDelta::seconds(50));
                let sql = format!("begin; {}", late.insert());
                raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut other).await.unwrap();
                let row = self.request(self.now);
                self.insert(&[row]).await;
                settle(follower).await;
                raw_sql("commit").execute(&mut other).await.unwrap();
                "a transaction commits after others that began later"
            }
            _ => {
                let seconds = self.pick(&[1, 59, 700, 3600, 40_000, 90_000]);
                self.pass(TimeDelta::seconds(seconds)).await;
                "time passes"
            }
        }
    }

    /// The exporter knows nothing but the table from here on.
    async fn forget(&mut self) {
        self.db
            .run(r#"delete from ever e where not exists (select from "LiteLLM_SpendLogs" l where l.request_id = e.request_id and l."startTime" = e.start)"#)
            .await;
        let first = self
            .db
            .table(r#"select 'first', extract(epoch from min("startTime"))::bigint from "LiteLLM_SpendLogs""#)
            .await;
        self.first_successes(DateTime::from_timestamp_secs(first["first"] - 60).unwrap()).await;
    }

    /// Requests, millionths of cents and tokens by span of start, and of the last day by user, key and provider.
    async fn screens(&mut self) -> BTreeMap<String, i64> {
        let day = "date_trunc('day', now() at time zone 'UTC')";
        let second = "date_trunc('second', now() at time zone 'UTC')";
        let start = "date_trunc('second', start)";
        let mut screens = BTreeMap::new();
        for (span, of) in [
            ("today", format!("start >= {day} and start < {day} + interval '1 day'")),
            ("yesterday", format!("start >= {day} - interval '1 day' and start < {day}")),
            ("1m", format!("{start} >= {second} - interval '1 minute'")),
            ("1h", format!("{start} >= {second} - interval '1 hour'")),
            ("24h", format!("{start} >= {second} - interval '1 day'")),
        ] {
            let sql = format!(
                "select w, v::bigint from (select count(*) filter (where outcome <> 'internal') n, round(sum(spend::numeric) * 1e8) c, sum(prompt + output) t
                 from ever where {of}) s,
                 lateral (values ('{span} requests', n), ('{span} cost', coalesce(c, 0)), ('{span} tokens', coalesce(t, 0))) as x (w, v)"
            );
            screens.extend(self.db.table(&sql).await);
        }
        for scope in Scope::ALL.iter().filter(|scope| **scope != Scope::Model).map(|scope| scope.label()) {
            let column = if scope == "user" { "client" } else { scope };
            let sql = format!(
                "select '{scope} ' || {column}, count(*) filter (where outcome <> 'internal') from ever where {start} >= {second} - interval '1 day' and {column} <> '' group by 1"
            );
            screens.extend(self.db.table(&sql).await);
        }
        screens
    }

    async fn compare(&mut self, exporter: &mut Exporter, plan: &RelayPlan, what: &str) {
        let theirs = self.screens().await;
        let view = exporter.view(plan).await;
        let mut ours = BTreeMap::new();
        for (day, it) in view.days.iter().filter(|(day, _)| *day != "yesterday_same_time") {
            ours.insert(format!("{day} requests"), it.requests as i64);
            ours.insert(format!("{day} cost"), units(it.cost_usd.unwrap()));
        }
        for (window, counts) in &view.windows {
            ours.insert(format!("{window} requests"), counts.iter().sum::<u64>() as i64);
        }
        ours.insert("1m tokens".to_owned(), view.tokens_last_minute.unwrap() as i64);
        for (name, value) in &ours {
            if let Some(theirs) = theirs.get(name) {
                assert_eq!(value, theirs, "{name} {what}");
            }
        }
        for span in ["today requests", "yesterday cost", "1m requests", "1h requests", "24h requests"] {
            assert!(ours.contains_key(span), "{span} {what}");
        }
        let mut entities = 0;
        for board in view.boards.iter().filter(|board| board.period.label() == "last24h" && board.scope != Scope::Model)
        {
            for entry in board.entries.iter().filter(|entry| entry.id != "other" && entry.id != "0") {
                let scope = board.scope.label();
                let it = theirs.iter().find(|(name, _)| {
                    name.strip_prefix(&format!("{scope} ")).is_some_and(|name| id(scope, name) == entry.id)
                });
                assert_eq!(entry.requests.map(|it| it as i64), it.map(|(_, n)| *n), "{scope} {} {what}", entry.id);
                entities += 1;
            }
        }
        let of_scope = |name: &&String| Scope::ALL.iter().any(|it| name.starts_with(&format!("{} ", it.label())));
        let all = theirs.keys().filter(of_scope);
        assert_eq!(entities, all.count(), "{what}");
        self.compare_counters(&view, what).await;
        let audit = view.audit.unwrap();
        assert_eq!((audit.drift_requests, audit.drift_cost_usd), (0.0, Some(0.0)), "{what}");
    }

    async fn compare_counters(&mut self, view: &LedgerView, what: &str) {
        let mut theirs: BTreeMap<String, i64> = BTreeMap::new();
        let sums = [
            ("requests provider {} success", "provider", "provider", "1", "outcome = 'success'"),
            ("requests provider {} failure", "provider", "provider", "1", "outcome = 'failure'"),
            ("requests provider {} excluded", "provider", "provider", "1", "outcome = 'excluded'"),
            (
                "requests model {} success",
                "",
                "coalesce(nullif(model, ''), 'gemini-2.5-pro')",
                "1",
                "outcome = 'success'",
            ),
            (
                "requests model {} failure",
                "",
                "coalesce(nullif(model, ''), 'gemini-2.5-pro')",
                "1",
                "outcome = 'failure'",
            ),
            (
                "requests model {} excluded",
                "",
                "coalesce(nullif(model, ''), 'gemini-2.5-pro')",
                "1",
                "outcome = 'excluded'",
            ),
            // What is given back is taken from no counter.
            ("cost provider {}", "provider", "provider", "greatest(spend::numeric, 0) * 1e8", "true"),
            ("failures all {}", "", "class", "1", "class <> ''"),
            ("requests user {}", "user", "client", "1", "outcome <> 'internal'"),
            ("requests key {}", "key", "key", "1", "outcome <> 'internal'"),
            ("requests team {}", "team", "team", "1", "outcome <> 'internal'"),
            ("requests organization {}", "organization", "organization", "1", "outcome <> 'internal'"),
            ("cost user {}", "user", "client", "greatest(spend::numeric, 0) * 1e8", "true"),
            ("cost key {}", "key", "key", "greatest(spend::numeric, 0) * 1e8", "true"),
            ("cost team {}", "team", "team", "greatest(spend::numeric, 0) * 1e8", "true"),
            ("cost organization {}", "organization", "organization", "greatest(spend::numeric, 0) * 1e8", "true"),
            ("tokens all input", "", "''", "prompt - cache_read - cache_write", "true"),
            ("tokens all output", "", "''", "output", "true"),
            ("tokens all cache_read", "", "''", "cache_read", "true"),
            ("tokens all cache_write", "", "''", "cache_write", "true"),
            ("duration count all", "", "''", "1", "outcome <> 'internal'"),
            ("duration ms all", "", "''", "ms", "outcome <> 'internal'"),
            ("ttft count all", "", "''", "1", "outcome <> 'internal' and ttft is not null"),
            ("ttft ms all", "", "''", "ttft", "outcome <> 'internal' and ttft is not null"),
        ];
        for (name, scope, by, of, which) in sums {
            let sql = format!("select {by}, sum({of})::bigint from ever where {which} group by 1");
            for (label, value) in self.db.table(&sql).await {
                let label = if scope.is_empty() { label } else { id(scope, &label) };
                theirs.insert(name.replace("{}", &label), value);
            }
        }
        theirs.retain(|_, value| *value != 0);
        let ours = like(counter_sums(view.counters.as_ref().unwrap(), 1e8), sums.map(|it| it.0));
        assert_eq!(ours, theirs, "{what}");
    }
}

/// What a label has for a text of LiteLLM's.
fn id(scope: &str, name: &str) -> String {
    let number = match scope {
        "user" => Kind::User.number(name),
        "key" => Kind::Key.number(name),
        "team" => Kind::Team.number(name),
        "organization" => Kind::Organization.number(name),
        // Deployments are called as `azure-1` here.
        _ if name.ends_with("-1") => Kind::Deployment.number(name),
        _ => Kind::Provider.number(name),
    };
    match (scope, number) {
        // Without one.
        ("key" | "team" | "organization", 0) => "other".to_owned(),
        _ => number.to_string(),
    }
}

/// Millionths of cents.
fn units(usd: f64) -> i64 {
    (usd * 1e8).round() as i64
}

async fn play(server: &PrivatePostgres, zone: &str, now: &str, seed: u64, steps: usize) {
    let seed = reading::seed(seed);
    let mut scene = Scene::new(server, &format!("litellm_{seed}"), zone, now.parse().unwrap(), seed).await;
    let plan = plan(&scene.db.url);
    let mut exporter = Exporter::open(&plan);
    let mut saved = Saved::default();
    settle(&mut exporter.follower).await;
    saved.save(&mut exporter.follower);
    for n in 0..steps {
        let mut what = scene.step(&mut exporter.follower).await.to_owned();
        if n % 23 == 22 {
            scene.forget().await;
            exporter = Exporter::open(&plan);
            saved = Saved::default();
            what += ", and the exporter starts anew";
        } else if n % 5 == 4 {
            exporter = Exporter::restored(&plan, &saved);
            what += ", and the exporter goes on from its store";
        } else if n % 7 == 6 {
            exporter = exporter.reopened(&plan);
            what += ", and the relay is opened anew";
        }
        let what = format!("{zone}, seed {seed}, step {n}: {what}");
        println!("{what}");
        settle(&mut exporter.follower).await;
        scene.compare(&mut exporter, &plan, &what).await;
        saved.save(&mut exporter.follower);
        if n % 3 == 1 {
            let mut replica = Exporter::restored(&plan, &saved);
            settle(&mut replica.follower).await;
            scene.compare(&mut replica, &plan, &format!("of a replica, {what}")).await;
        }
    }
    assert!(saved.0.keys().any(|part| part.starts_with("positions/")));
}

#[tokio::test]
async fn every_row_is_read_once_whenever_it_appears() {
    let server = PrivatePostgres::start().await.unwrap();
    for (zone, now, seed) in [
        ("UTC", "2026-11-21T23:30:00Z", 1),
        ("Asia/Shanghai", "2026-11-30T15:30:00Z", 2),
        ("America/New_York", "2026-11-01T05:30:00Z", 3),
    ] {
        Box::pin(play(&server, zone, now, seed, 60)).await;
    }
}
