//! `demo` and `simulate`: see the product before connecting a relay.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Options, configure, listen, neighbours, protect, stop_signal};
use crate::demo::{DemoOptions, Environment, HistoryOptions, Pace, SimulatorOptions, Urls};
use crate::http::Paths;
use crate::relay::Product;
use crate::relays::PRODUCTS;
use crate::relays::claude_code_hub::demo::{SimulateOptions, simulate as simulate_hub};
use crate::{relay, serve, settings};

#[derive(Debug, Args)]
pub(crate) struct Traffic {
    /// Days of history to fill in, today included.
    #[arg(long, default_value_t = 30)]
    days: u32,
    /// Mean number of requests per day of the history.
    #[arg(long, default_value_t = 4000)]
    requests_per_day: u32,
    /// Live requests per second [default: as many as the history has at the hour].
    #[arg(long)]
    rate: Option<f64>,
    /// The same seed makes the same people, requests and incidents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The relay's time zone.
    #[arg(long, default_value = "Asia/Shanghai")]
    timezone: chrono_tz::Tz,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    traffic: Traffic,
}

#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The demo's PostgreSQL.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: SecretString,
    /// The demo's Redis.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    redis_url: Option<SecretString>,
    /// Make an empty database the demo's own first: schema, people, providers and history.
    #[arg(long)]
    init: bool,
    #[command(flatten)]
    traffic: Traffic,
}

impl Traffic {
    fn history(&self) -> HistoryOptions {
        HistoryOptions {
            days: self.days,
            requests_per_day: self.requests_per_day,
            seed: self.seed,
            zone: self.timezone,
            ..HistoryOptions::default()
        }
    }

    fn simulator(&self) -> SimulatorOptions {
        let pace = self.rate.map_or(Pace::Daily(self.requests_per_day), Pace::Steady);
        SimulatorOptions { pace, seed: self.seed, zone: self.timezone, ..SimulatorOptions::default() }
    }
}

pub(crate) async fn simulate(arguments: SimulateArgs) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    let signalled = stop.clone();
    tokio::spawn(async move {
        stop_signal().await;
        signalled.cancel();
    });
    let options = SimulateOptions {
        init: arguments.init,
        history: arguments.traffic.history(),
        simulator: arguments.traffic.simulator(),
        urls: Urls { database_url: arguments.database_url, redis_url: arguments.redis_url },
    };
    simulate_hub(options, stop).await?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn demo(arguments: DemoArgs, options: &Options, paths: Paths) -> anyhow::Result<ExitCode> {
    let protection = protect(options)?;
    // First the port: filling a history for nothing would annoy.
    let listeners = listen(options)?;
    let address = listeners.first().context("no address to listen on")?.local_addr()?;
    let environment = DemoOptions { history: arguments.traffic.history(), simulator: arguments.traffic.simulator() };
    // Dropping a stage that is being set up leaves nothing behind.
    let environments = tokio::select! {
        environments = relay::demo::set_up(&environment, PRODUCTS) => environments?,
        () = stop_signal() => return Ok(ExitCode::SUCCESS),
    };
    let (env, file) = settings_of(&environments, arguments.traffic.timezone);
    let mut loaded = configure(options, &env)?;
    // Nobody else wants this database.
    for relay in loaded.plan.relays.values_mut() {
        relay.history_budget = Duration::from_secs(60);
    }
    // For whoever may read the stores' passwords, which is nobody else.
    let config = tempfile::Builder::new().prefix("llm-relay-demo-").suffix(".toml").tempfile()?;
    std::fs::write(config.path(), &file)?;
    greet(address, &paths, &file, config.path());
    let shutdown = CancellationToken::new();
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        signalled.cancel();
    });
    // A Prometheus of ours would not know what a web configuration asks for.
    let neighbours = options.web_config_file.is_none().then(|| {
        let relays = loaded.plan.relays.values().cloned().collect();
        let (path, days, stop) = (paths.metrics(), arguments.traffic.days, shutdown.clone());
        // Aside: filling Prometheus is hard work.
        tokio::task::spawn_blocking(move || {
            Handle::current().block_on(stop.run_until_cancelled(neighbours::run(relays, address, path, days)))
        })
    });
    let served = serve::run_with(&loaded.plan, None, listeners, paths, protection, shutdown).await;
    if let Some(neighbours) = neighbours {
        // Even if it has panicked, the stores are torn down.
        neighbours.await.ok();
    }
    for (_, environment) in environments {
        environment.tear_down().await;
    }
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Where to look, and how to try the other commands on the stores, whose addresses are in the file.
fn greet(address: SocketAddr, paths: &Paths, stores: &str, file: &Path) {
    let [root, url] = [paths.root(), paths.metrics()].map(|path| format!("http://{address}{path}"));
    let file = file.display();
    // As it was called, which need not be by a name on `PATH`.
    let program = std::env::args_os().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into());
    let program = Path::new(&program).display();
    eprintln!(
        "\nThe demo is running: {root}\n\n  \
         curl -s {url} | grep llm_relay_day_\n  \
         curl -s {url} | grep 'leaderboard_cost_usd.*scope=\"key\",period=\"today\"'\n\n\
         Its stores, as in {file}:\n\n{stores}\n  \
         {program} check --config.file {file}\n  \
         {program} backfill --config.file {file} --relay gemini-balance --out history\n  \
         {program} backtest --config.file {file} --relay cpa-manager\n\n\
         Ctrl-C ends it and leaves nothing behind.\n"
    );
}

/// Each relay under the name of its kind, as variables, and as a file for a second terminal.
fn settings_of(environments: &[(&Product, Environment)], zone: chrono_tz::Tz) -> (BTreeMap<String, String>, String) {
    let (mut env, mut file) = (BTreeMap::new(), String::new());
    for (product, environment) in environments {
        // A String takes every write.
        let _ = writeln!(file, "[relays.{}]", product.label);
        let mut set = |path: &str, text: &str| {
            let _ = writeln!(file, "{path} = {text:?}");
            env.insert(settings::variable(product.label, path), text.to_owned());
        };
        set("kind", product.label);
        environment.urls().settings().for_each(|(path, url)| set(path, url));
        if product.understands("timezone_fallback") {
            set("timezone_fallback", zone.name());
        }
    }
    (env, file)
}
