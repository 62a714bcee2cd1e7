//! The command line: arguments, dispatch, exit codes.

mod backfill;
mod demo;
mod healthcheck;
mod listen;
mod neighbours;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::check::{self, Level};
use crate::dialect::Dialect;
use crate::exporter_info::ExporterInfo;
use crate::http::Paths;
use crate::lang::Lang;
use crate::log;
use crate::relay::Product;
use crate::relays::PRODUCTS;
use crate::reload::Reloader;
use crate::rules::shipped;
use crate::serve::Reloads;
use crate::settings::{self, Loaded};
use crate::store::StoreError;
use crate::web::{self, Protection};
use crate::{dashboards, metrics, reload, serve};

/// Exit code for a bad configuration or bad arguments, as in sysexits.h.
const EX_USAGE: u8 = 64;

/// Exit code for a store of the exporter's own that needs somebody: trying again does not help. As in sysexits.h.
const EX_CONFIG: u8 = 78;

/// The program ends with this exit code; why has been told.
#[derive(Debug, thiserror::Error)]
#[error("exit code {0}")]
struct Told(u8);

/// Tells what is wrong with the arguments or the configuration.
fn refuse(problem: impl fmt::Display) -> anyhow::Error {
    eprintln!("{problem}");
    Told(EX_USAGE).into()
}

/// Threads of the async runtime at most: each has memory of its own, and no exporter needs all cores of a large machine.
const WORKERS: usize = 4;

/// Prometheus exporter for self-hosted LLM relays: reads the relay's own store, read-only.
#[derive(Debug, Parser)]
#[command(name = "llm-relay-exporter", version = version(), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file (TOML). Without one, DATABASE_URL (or DSN), REDIS_URL and TZ configure one Claude Code Hub.
    #[arg(long = "config.file", global = true, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Look so often whether the configuration file has been written or replaced, and read it again then; e.g. 10s
    /// [default: never].
    #[arg(long = "config.auto-reload-interval", global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    auto_reload_interval: Option<Duration>,
    /// Address to listen on; may be given several times. `:9879` means all addresses of this machine.
    #[arg(long = "web.listen-address", global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:9879")]
    listen_addresses: Vec<listen::Address>,
    /// Use the sockets that systemd hands over instead of addresses.
    #[arg(long = "web.systemd-socket", global = true)]
    systemd_socket: bool,
    /// URL under which the exporter is reachable from outside, where that has a path, e.g. behind a reverse proxy.
    #[arg(long = "web.external-url", global = true, value_name = "URL", value_parser = parse_external)]
    external_url: Option<Url>,
    /// Path below which everything is served; without it, the path of --web.external-url.
    #[arg(long = "web.route-prefix", global = true, value_name = "PATH")]
    route_prefix: Option<String>,
    /// Path under which to expose metrics.
    #[arg(long = "web.telemetry-path", global = true, value_name = "PATH", default_value = "/metrics")]
    telemetry_path: String,
    /// Web configuration file (YAML): TLS, basic authentication, bearer tokens, in the form that Prometheus exporters share.
    #[arg(long = "web.config.file", global = true, value_name = "FILE")]
    web_config_file: Option<PathBuf>,
    /// Read the configuration again on POST /-/reload, as on SIGHUP.
    #[arg(long = "web.enable-lifecycle", global = true)]
    enable_lifecycle: bool,
    /// Only log messages of this level or above.
    #[arg(long = "log.level", global = true, value_enum, default_value_t = log::Level::Info)]
    log_level: log::Level,
    /// Form of log messages.
    #[arg(long = "log.format", global = true, value_enum, default_value_t = log::Format::Logfmt)]
    log_format: log::Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the relays and serve their metrics (the default).
    Serve,
    /// Connect, tell what can and cannot be read and why, change nothing. Exit code 1 when there is a problem.
    Check,
    /// Ask an exporter that runs whether it lives; for containers without a shell. Exit code 1 when it does not.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Write the past as OpenMetrics with time stamps, out of a relay's ledger, for a Prometheus that was not there yet.
    Backfill(backfill::BackfillArgs),
    /// Tell which alerts would have fired in a relay's past, how often and for how long. Needs Prometheus installed.
    Backtest(backfill::BacktestArgs),
    /// Print the metric catalogue as Markdown.
    Metrics,
    /// Write the Grafana dashboards.
    Dashboards(DashboardsArgs),
    /// Write the recording rules and alerts.
    Rules(RulesArgs),
    /// Read a password and print its bcrypt hash, for basic_auth_users of the web configuration file.
    HashPassword {
        /// Cost of the hash: each step doubles the work.
        #[arg(long, default_value_t = 10)]
        cost: u32,
    },
    /// Print what completes the arguments in a shell.
    Completions {
        /// For this shell.
        shell: Shell,
    },
    /// Write the manual pages.
    Man {
        /// Directory to write to; one file per command.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Start a private relay store with a history and live traffic, and serve its metrics.
    Demo(demo::DemoArgs),
    /// Write live traffic into a demo store. Refuses a database that is not the demo's own.
    Simulate(demo::SimulateArgs),
}

#[derive(Debug, Args)]
struct DashboardsArgs {
    /// Language of titles and descriptions.
    #[arg(long, value_parser = parse_lang)]
    lang: Lang,
    /// Directory to write to; one file per dashboard.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only for relays of this kind: without what they can never tell. May be given several times; the kinds of the
    /// configuration where one is named; for all kinds of relay otherwise.
    #[arg(long = "kind", value_name = "KIND", value_parser = parse_kind)]
    kinds: Vec<&'static Product>,
    /// Data source that the dashboards start with; without one, Grafana's default.
    #[arg(long, value_name = "UID")]
    datasource_uid: Option<String>,
    /// Language of the expressions.
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Instead of the bundle, what needs more than Prometheus: the wall with single requests, from Claude Code Hub's database.
    #[arg(long)]
    optional: bool,
}

#[derive(Debug, Args)]
struct RulesArgs {
    /// Language of the expressions.
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Directory to write to, with `rules` and `alerts` in it.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn parse_lang(code: &str) -> Result<Lang, String> {
    Lang::ALL.into_iter().find(|lang| lang.label() == code).ok_or_else(|| "the languages are en and zh".to_owned())
}

fn parse_kind(label: &str) -> Result<&'static Product, String> {
    let found = PRODUCTS.iter().find(|product| product.label == label);
    let labels = || PRODUCTS.iter().map(|product| product.label).collect::<Vec<_>>().join(", ");
    found.copied().ok_or_else(|| format!("the kinds are {}", labels()))
}

/// Runs the program.
///
/// # Errors
/// What ends with exit code 1.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> anyhow::Result<ExitCode> {
    let ended = run_command(arguments);
    match ended.as_ref().err().and_then(|error| error.downcast_ref()) {
        Some(Told(code)) => Ok(ExitCode::from(*code)),
        None => ended,
    }
}

fn run_command(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> anyhow::Result<ExitCode> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors, and go to stdout.
            error.print().ok();
            return Ok(if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS });
        }
    };
    let options = &cli.options;
    let paths = options.watches_a_file().and_then(|()| options.paths()).map_err(refuse)?;
    log::start(options.log_level, options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS))
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => runtime.block_on(serve_relays(options, paths)),
        Command::Check => runtime.block_on(check_relays(options)),
        Command::Healthcheck(arguments) => runtime.block_on(healthcheck::healthcheck(arguments, options, &paths)),
        Command::Backfill(arguments) => runtime.block_on(backfill::backfill(arguments, options)),
        Command::Backtest(arguments) => runtime.block_on(backfill::backtest(arguments, options)),
        Command::Metrics => {
            // A closed pipe (`| head`) is the reader's choice.
            std::io::stdout().write_all(metrics::docs::markdown().as_bytes()).ok();
            Ok(ExitCode::SUCCESS)
        }
        Command::Dashboards(arguments) => write_dashboards(arguments, options),
        Command::Rules(RulesArgs { dialect, out }) => {
            shipped::write(dialect, &out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::HashPassword { cost } => {
            web::hash_password(cost)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut completions);
            std::io::stdout().write_all(&completions).ok();
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { out } => {
            std::fs::create_dir_all(&out).with_context(|| format!("cannot create the directory {}", out.display()))?;
            clap_mangen::generate_to(Cli::command(), &out).context("cannot write the manual pages")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(arguments) => runtime.block_on(demo::demo(arguments, options, paths)),
        Command::Simulate(arguments) => runtime.block_on(demo::simulate(arguments)),
    }
}

fn write_dashboards(arguments: DashboardsArgs, options: &Options) -> anyhow::Result<ExitCode> {
    let DashboardsArgs { lang, out, mut kinds, datasource_uid, dialect, optional } = arguments;
    if kinds.is_empty() && options.config_file.is_some() {
        let loaded = configure(options, &environment())?;
        kinds.extend(loaded.plan.relays.values().map(|relay| relay.product));
    }
    dashboards::write(&dashboards::Options { lang, out, relays: kinds, datasource_uid, dialect, optional })?;
    Ok(ExitCode::SUCCESS)
}

fn configure(options: &Options, env: &BTreeMap<String, String>) -> anyhow::Result<Loaded> {
    let loaded = settings::load(options.config_file.as_deref(), env).map_err(refuse)?;
    warn(&loaded);
    Ok(loaded)
}

fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

/// The protection of the endpoint.
fn protect(options: &Options) -> anyhow::Result<Arc<Protection>> {
    Protection::load(options.web_config_file.as_deref()).map_err(refuse)
}

fn environment() -> BTreeMap<String, String> {
    // A name or value that is not UTF-8 cannot be one of ours.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn serve_relays(options: &Options, paths: Paths) -> anyhow::Result<ExitCode> {
    let env = environment();
    // Before it is read: a change meanwhile is not missed.
    let watched = options.auto_reload_interval.zip(options.config_file.clone());
    let watched = watched.map(|(interval, file)| (interval, version_of(&file), file));
    let loaded = configure(options, &env)?;
    let protection = protect(options)?;
    let own = ExporterInfo::read();
    tracing::info!(version = own.version, revision = own.revision, rustc = own.rustc, "starting llm-relay-exporter");
    let shutdown = CancellationToken::new();
    let listeners = listen(options)?;
    let signalled = shutdown.clone();
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping");
        signalled.cancel();
    });
    let (reloader, requests) = reload::channel();
    let over_http = options.enable_lifecycle.then(|| reloader.clone());
    if let Some((interval, version, file)) = watched {
        tokio::spawn(reload_on_change(reloader.clone(), file, version, interval));
    }
    tokio::spawn(reload_on_signal(reloader));
    let file = options.config_file.clone();
    let read = move || {
        let loaded = settings::load(file.as_deref(), &env).map_err(|problems| problems.to_string())?;
        warn(&loaded);
        Ok(loaded.plan)
    };
    let reloads = Reloads { read: Box::new(read), requests, over_http };
    let served = serve::run_with(&loaded.plan, Some(reloads), listeners, paths, protection, shutdown).await;
    match served.as_ref().err().and_then(|error| error.downcast_ref()) {
        Some(StoreError::Refused(text)) => {
            tracing::error!(error = text, "the store is refused");
            Ok(ExitCode::from(EX_CONFIG))
        }
        _ => served.map(|()| ExitCode::SUCCESS),
    }
}

async fn reload_on_signal(reloader: Reloader) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        // The outcome is in the log.
        reloader.reload().await.ok();
    }
}

/// Kubernetes replaces all files of a directory at once, so that a new secret beside the file is a change of it.
async fn reload_on_change(reloader: Reloader, file: PathBuf, mut read: Option<Version>, interval: Duration) {
    // An interval of 0 would look without a pause.
    let interval = interval.max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(interval).await;
        let now = version_of(&file);
        // One that is refused, as the log says, is tried again: what it lacks may still come, such as the file of a secret.
        if now.is_some() && now != read && reloader.reload().await.is_ok() {
            read = now;
        }
    }
}

/// What differs when a file has been written again or replaced: its inode and its time.
type Version = (u64, i64, i64);

fn version_of(file: &Path) -> Option<Version> {
    let it = std::fs::metadata(file).ok()?;
    Some((it.ino(), it.mtime(), it.mtime_nsec()))
}

fn listen(options: &Options) -> anyhow::Result<Vec<TcpListener>> {
    if options.systemd_socket { listen::from_systemd() } else { listen::listen(&options.listen_addresses) }
}

fn parse_external(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; write it as https://host/path"))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err("write it as https://host/path".to_owned());
    }
    Ok(url)
}

/// Reads an address. An error shows no part of it: a password may stand in it.
#[derive(Clone)]
struct Unshown(fn(&str) -> Result<Url, String>);

impl TypedValueParser for Unshown {
    type Value = Url;

    fn parse_ref(&self, command: &clap::Command, argument: Option<&Arg>, value: &OsStr) -> Result<Url, clap::Error> {
        (self.0)(&value.to_string_lossy()).map_err(|wrong| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            command.clone().error(ErrorKind::ValueValidation, format!("{argument} {wrong}"))
        })
    }
}

impl Options {
    fn watches_a_file(&self) -> Result<(), String> {
        if self.auto_reload_interval.is_some() && self.config_file.is_none() {
            let text = "--config.auto-reload-interval: there is no file that could change; name it by --config.file, or leave this out";
            return Err(text.to_owned());
        }
        Ok(())
    }

    fn paths(&self) -> Result<Paths, String> {
        let external = self.external_url.as_ref().map_or("/", Url::path);
        let prefix = self.route_prefix.as_deref().unwrap_or(external);
        Paths::new(&self.telemetry_path, prefix, external)
    }
}

async fn check_relays(options: &Options) -> anyhow::Result<ExitCode> {
    let loaded = configure(options, &environment())?;
    let report = check::store(&loaded.plan).await;
    println!("llm-relay-exporter\n{report}");
    let mut worst = report.worst();
    for (name, plan) in &loaded.plan.relays {
        let report = check::check(plan).await?;
        println!("relay {name} ({})\n{report}", plan.product.label);
        worst = worst.max(report.worst());
    }
    Ok(if worst == Level::Problem { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Completes on SIGINT or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        tokio::signal::ctrl_c().await.ok();
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn version() -> &'static str {
    static VERSION: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let own = ExporterInfo::read();
        let zones = chrono_tz::IANA_TZDB_VERSION;
        format!("{} (revision {}, {}, time zone data {zones})", own.version, own.revision, own.rustc)
    });
    &VERSION
}
