//! What reading claude-relay-service costs its Redis and the exporter, by keys, beside the relay's own screens.
//!
//! `cargo bench --bench counters_refresh`, or with other numbers of keys: `cargo bench --bench counters_refresh -- 10 1000`
#![allow(missing_docs, unreachable_pub)]

mod common {
    pub mod table;
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use common::table;
use llm_relay_exporter::exporter_info::{ExporterInfo, Process};
use llm_relay_exporter::follow::CounterFollower;
use llm_relay_exporter::model::Directory;
use llm_relay_exporter::page::Page;
use llm_relay_exporter::page::accept::{Coding, Format};
use llm_relay_exporter::relay::{self, DirectorySource, LiveState, Relay};
use llm_relay_exporter::relays::claude_relay_service::demo::{Usage, book};
use llm_relay_exporter::relays::claude_relay_service::{Offset, PRODUCT};
use llm_relay_exporter::servers::PrivateRedis;
use llm_relay_exporter::settings::RelayPlan;
use llm_relay_exporter::tally::Presentation;
use llm_relay_exporter::view::View;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, cmd, pipe};

const MODELS: u32 = 5;
const ACCOUNTS: u32 = 20;
const ROUNDS: u32 = 12;
/// Pause between two refreshes, and between two readings of names.
const INTERVAL: f64 = 5.0;
const NAMES_EVERY: f64 = 30.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let sizes: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (mut costs, mut shares) = (Vec::new(), Vec::new());
    for keys in if sizes.is_empty() { vec![10, 1_000, 10_000] } else { sizes } {
        let measured = Bench::new(keys).await?.run().await?;
        costs.push(measured.0);
        shares.extend(measured.1);
    }
    let screens = ["the relay's dashboard, once", "its page of 20 keys, once"];
    let ours = ["at rest", "a tenth of the keys busy", "names, every 30 s", "first reading"];
    table::print(&["keys", ours[0], ours[1], ours[2], ours[3], screens[0], screens[1]], &costs);
    table::print(
        &["of a core, every 5 s, names included", "Redis", "and the exporter's reading", "and the page"],
        &shares,
    );
    Ok(())
}

struct Bench {
    keys: u32,
    redis: MultiplexedConnection,
    metered: CounterFollower,
    live: Box<dyn LiveState>,
    directory: Box<dyn DirectorySource>,
    plan: RelayPlan,
    random: StdRng,
    _server: PrivateRedis,
}

/// Commands, seconds of Redis' processor, seconds of this process's.
#[derive(Clone, Copy)]
struct Cost([f64; 3]);

impl Bench {
    /// A relay in use: every key had traffic today with every model; a tenth of the keys have a limit of requests at a time, a
    /// tenth one of requests in a window, a fifth one of dollars a day.
    async fn new(keys: u32) -> anyhow::Result<Self> {
        let server = PrivateRedis::start().await?;
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(120)));
        let redis = redis::Client::open(server.url())?.get_multiplexed_async_connection_with_config(&patient).await?;
        let plan = RelayPlan { redis_url: Some(server.url().into()), ..RelayPlan::new("bench", &PRODUCT) };
        let Relay { usage, live: Some(live), directory } = relay::open(&plan)? else {
            anyhow::bail!("it has live state")
        };
        let relay::Usage::Counters(counters) = usage else { anyhow::bail!("it keeps counters") };
        let metered = CounterFollower::new(counters);
        let mut bench =
            Self { keys, redis, metered, live, directory, plan, random: StdRng::seed_from_u64(1), _server: server };
        let mut pipe = pipe();
        pipe.set("apikey:index:version", 2);
        for account in 0..ACCOUNTS {
            let (id, name) = (account_id(account), format!("account {account}"));
            let fields = [("name", name.as_str()), ("isActive", "true"), ("status", "active")];
            pipe.sadd("claude:account:index", &id).hset_multiple(format!("claude:account:{id}"), &fields);
        }
        bench.send(&mut pipe).await?;
        for key in 0..keys {
            Self::add_key(&mut pipe, key);
            for model in 0..MODELS {
                book(&mut pipe, Offset::default(), &usage_of(key, key % ACCOUNTS, model));
            }
            if key % 50 == 49 || key + 1 == keys {
                bench.send(&mut pipe).await?;
            }
        }
        Ok(bench)
    }

    fn add_key(pipe: &mut Pipeline, key: u32) {
        let (id, name) = (key_id(key), format!("key {key}"));
        let limit = |every, limit| if key.is_multiple_of(every) { limit } else { "0" };
        let fields = [
            ("name", name.as_str()),
            ("isActive", "true"),
            ("tags", "[\"team\"]"),
            ("concurrencyLimit", limit(10, "3")),
            ("rateLimitWindow", limit(10, "60")),
            ("rateLimitRequests", limit(10, "500")),
            ("dailyCostLimit", limit(5, "20")),
            // The rest of the forty fields that the relay writes.
            ("description", "a key as long as those that people make, with words about who has it"),
            ("apiKey", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
        ];
        pipe.sadd("apikey:idx:all", &id).hset_multiple(format!("apikey:{id}"), &fields);
    }

    async fn send(&mut self, pipe: &mut Pipeline) -> anyhow::Result<()> {
        pipe.query_async::<redis::Value>(&mut self.redis).await?;
        pipe.clear();
        Ok(())
    }

    /// Its row of the first table, and its rows of the second.
    async fn run(&mut self) -> anyhow::Result<([String; 7], [[String; 4]; 2])> {
        let names = Arc::new(self.directory.read().await?);
        let before = self.cost().await?;
        while self.view(&names, None).is_none_or(|view| view.history_loaded < 1.0) {
            self.metered.refresh(&names).await?;
        }
        let first = self.cost().await?.since(before);
        let rest = self.refreshes(&names, 0).await?;
        let busy = self.refreshes(&names, self.keys.div_ceil(10)).await?;
        let before = self.cost().await?;
        self.directory.read().await?;
        let again = self.cost().await?.since(before);
        let [dashboard, page] = self.screens().await?;

        let keys = self.keys.to_string();
        let whole = |(reading, page): (Cost, Cost)| shown(Cost([0, 1, 2].map(|of| reading.0[of] + page.0[of])));
        let of_redis = |cost: Cost| format!("{:.0} commands, {:.1} ms", cost.0[0], cost.0[1] * 1e3);
        let costs =
            [keys.clone(), whole(rest), whole(busy), shown(again), shown(first), of_redis(dashboard), of_redis(page)];
        let share = |(what, (reading, page)): (&str, (Cost, Cost))| {
            let redis = reading.0[1] / INTERVAL + again.0[1] / NAMES_EVERY;
            let exporter = redis + reading.0[2] / INTERVAL + again.0[2] / NAMES_EVERY;
            let percent = |share: f64| format!("{:.2} %", share * 100.0);
            let all = exporter + page.0[2] / INTERVAL;
            [format!("{keys} keys, {what}"), percent(redis), percent(exporter), percent(all)]
        };
        Ok((costs, [("at rest", rest), ("a tenth busy", busy)].map(share)))
    }

    /// The mean refresh of counters and live state, and the mean page, after requests of so many keys.
    async fn refreshes(&mut self, names: &Arc<Directory>, active: u32) -> anyhow::Result<(Cost, Cost)> {
        let (mut reading, mut page) = (Cost([0.0; 3]), Cost([0.0; 3]));
        let mut due = Instant::now();
        for round in 0..=ROUNDS {
            tokio::time::sleep_until(due.into()).await;
            due = Instant::now() + Duration::from_secs_f64(INTERVAL);
            let mut pipe = pipe();
            for n in 0..active {
                let key = (self.random.random_range(0..10) + n * 10).min(self.keys - 1);
                let (account, model) = (self.random.random_range(0..ACCOUNTS), self.random.random_range(0..MODELS));
                book(&mut pipe, Offset::default(), &usage_of(key, account, model));
                if n % 50 == 49 || n + 1 == active {
                    self.send(&mut pipe).await?;
                }
            }
            let start = self.cost().await?;
            self.metered.refresh(names).await?;
            let state = self.live.read(names).await?;
            let read = self.cost().await?;
            let view = self.view(names, Some(&state));
            let view = View {
                relay: "bench".into(),
                kind: self.plan.product.label,
                names: self.plan.boards.names,
                ledger: view.map(Arc::new),
                live: Some(Arc::new(state)),
                directory: Some(names.clone()),
                sources: Vec::new(),
                probe: None,
                store: None,
            };
            let bytes = Page::new(vec![view], ExporterInfo::default()).bytes(Format::OpenMetrics, Coding::Gzip).len();
            let shown = self.cost().await?;
            anyhow::ensure!(bytes > 1000, "a page of {bytes} bytes");
            // The first has the writes before it in its counters' books.
            if round > 0 {
                reading.add(read.since(start));
                page.add(shown.since(read));
            }
        }
        Ok((reading.mean(), page.mean()))
    }

    fn view(
        &self,
        names: &Directory,
        live: Option<&llm_relay_exporter::model::Live>,
    ) -> Option<llm_relay_exporter::view::LedgerView> {
        let (boards, series) = (&self.plan.boards, &self.plan.series);
        self.metered.view(&Presentation { directory: Some(names), live, boards, series })
    }

    /// What the relay asks when somebody looks (v1.1.314, by `MONITOR`): its dashboard, and its list of keys.
    async fn screens(&mut self) -> anyhow::Result<[Cost; 2]> {
        let ids: Vec<String> = (0..self.keys).map(key_id).collect();
        let day = Offset::default().date(Utc::now());
        let before = self.cost().await?;
        // `getApiKeyCount`, `getTodayStats`, `getSystemAverages`.
        self.scan("apikey:*").await?;
        for some in ids.chunks(500) {
            let mut pipe = pipe();
            for id in some {
                let key = format!("apikey:{id}");
                pipe.hget(&key, "isActive").hget(&key, "isDeleted").hgetall(&key).hgetall(format!("usage:{id}"));
                pipe.hgetall(format!("usage:daily:{id}:{day}"));
            }
            self.send(&mut pipe).await?;
        }
        let dashboard = self.cost().await?.since(before);
        let before = self.cost().await?;
        for id in ids.iter().take(20) {
            self.scan(&format!("usage:{id}:model:daily:*:{day}")).await?;
            let mut pipe = pipe();
            pipe.hgetall(format!("apikey:{id}")).get(format!("usage:cost:total:{id}"));
            for model in 0..MODELS {
                pipe.hgetall(format!("usage:{id}:model:daily:model-{model}:{day}"));
            }
            self.send(&mut pipe).await?;
        }
        Ok([dashboard, self.cost().await?.since(before)])
    }

    async fn scan(&mut self, pattern: &str) -> anyhow::Result<()> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(100);
            let (next, _): (u64, Vec<String>) = scan.query_async(&mut self.redis).await?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn cost(&mut self) -> anyhow::Result<Cost> {
        let info: String = cmd("INFO").arg("everything").query_async(&mut self.redis).await?;
        let value = |name: &str| -> f64 {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|text| text.trim().parse().ok()).unwrap_or(f64::NAN)
        };
        let redis = value("used_cpu_user_main_thread") + value("used_cpu_sys_main_thread");
        let exporter = Process::read().cpu_seconds.unwrap_or(f64::NAN);
        Ok(Cost([value("total_commands_processed"), redis, exporter]))
    }
}

impl Cost {
    /// Without the look that ended it.
    fn since(self, before: Self) -> Self {
        let mut cost = self.0;
        cost.iter_mut().zip(before.0).for_each(|(now, before)| *now -= before);
        cost[0] -= 1.0;
        Self(cost)
    }

    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, other)| *sum += other);
    }

    fn mean(self) -> Self {
        Self(self.0.map(|sum| sum / f64::from(ROUNDS)))
    }
}

fn shown(Cost([commands, redis, exporter]): Cost) -> String {
    format!("{commands:.0} commands, {:.1} ms, {:.1} ms", redis * 1e3, exporter * 1e3)
}

fn key_id(key: u32) -> String {
    format!("0a0b0c0d-0000-4000-8000-{key:012}")
}

fn account_id(account: u32) -> String {
    format!("acc00000-0000-4000-8000-{account:012}")
}

fn usage_of(key: u32, account: u32, model: u32) -> Usage {
    let model = format!("model-{model}");
    Usage {
        key: key_id(key),
        account: Some(account_id(account)),
        counted_model: model.clone(),
        model,
        requests: 1,
        input: 1000,
        output: 500,
        cache_read: 20_000,
        cache_write_5m: 100,
        cache_write_1h: 0,
        list_cost: 0.02,
        cost: 0.024,
        duration_ms: Some(4_000),
        at: Utc::now(),
    }
}
