//! `backfill` and `backtest`: what the ledger tells of the past.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use url::Url;

use super::{Options, configure, environment, refuse, stop_signal};
use crate::backfill::{self, Job, LONGEST_STEP, Out, Receiver, SHORTEST_STEP, Wanted, When};
use crate::backtest;
use crate::relay::plan::RelayPlan;
use crate::rules::Rules;
use crate::settings::{self, Plan};

#[derive(Debug, Args)]
pub(crate) struct BackfillArgs {
    /// The relay's name in the configuration; may be left out when there is one only.
    #[arg(long, value_name = "NAME")]
    relay: Option<String>,
    /// Begin: how long before the end (30d), a date (2026-03-01, UTC) or an instant (2026-03-01T12:00:00Z).
    #[arg(long, value_name = "WHEN", default_value = "30d", value_parser = parse_when)]
    from: When,
    /// End; without one, the present. Must lie before Prometheus' first scrape of the exporter.
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    to: Option<DateTime<Utc>>,
    /// Time between two samples, 5s to 2m.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_step)]
    step: Duration,
    /// Label that Prometheus gives the exporter's series [default: job=llm-relay and instance=<web.listen-address>].
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Directory for the files; empty, new, or that of the same back-fill, which is then continued.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Leave out what the recording rules would have made of the past. That needs prometheus and promtool.
    #[arg(long)]
    no_rules: bool,
    /// Your own version of the directory prometheus/, with rules/*.yml and alerts/*.yml [default: the shipped one].
    #[arg(long, value_name = "DIR", conflicts_with = "no_rules")]
    rules: Option<PathBuf>,
    /// Turn each file into blocks of Prometheus in DIR/blocks and remove it. Needs promtool.
    #[arg(long)]
    blocks: bool,
    /// Send each file to a receiver of remote write 1.0 that takes samples of the past.
    #[arg(long, value_name = "URL", value_parser = super::Unshown(parse_receiver))]
    remote_write: Option<Url>,
    /// File of HTTP headers for the receiver, such as `Authorization: Bearer TOKEN` or `X-Scope-OrgID: TENANT`, one a line.
    #[arg(long, value_name = "FILE", requires = "remote_write")]
    remote_write_headers: Option<PathBuf>,
    /// PEM file with authorities in place of the public ones, for a receiver with https.
    #[arg(long, value_name = "FILE", requires = "remote_write")]
    remote_write_ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BacktestArgs {
    /// The relay's name in the configuration; may be left out when there is one only.
    #[arg(long, value_name = "NAME")]
    relay: Option<String>,
    /// How much of the past to test; two weeks before are read as well, because rules compare with them.
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    last: Duration,
    /// End; without one, the present.
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    to: Option<DateTime<Utc>>,
    /// Time between two evaluations of the rules, 5s to 2m.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_step)]
    step: Duration,
    /// Your own version of the directory prometheus/, with rules/*.yml, alerts/*.yml and alertmanager.yml [default: the shipped one].
    #[arg(long, value_name = "DIR")]
    rules: Option<PathBuf>,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

fn parse_when(text: &str) -> Result<When, String> {
    match humantime::parse_duration(text) {
        Ok(span) => Ok(When::Before(span)),
        Err(_) => parse_instant(text).map(When::At),
    }
}

fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = |date: NaiveDate| date.and_time(chrono::NaiveTime::MIN).and_utc();
    text.parse()
        .or_else(|_| text.parse().map(midnight))
        .map_err(|_| "write it like 2026-03-01 or 2026-03-01T12:00:00Z".to_owned())
}

fn parse_step(text: &str) -> Result<Duration, String> {
    let step = humantime::parse_duration(text).map_err(|_| "write it like 60s or 1m".to_owned())?;
    if step.subsec_nanos() == 0 && (SHORTEST_STEP..=LONGEST_STEP).contains(&step) {
        Ok(step)
    } else {
        Err("whole seconds from 5s to 2m".to_owned())
    }
}

fn parse_receiver(text: &str) -> Result<Url, String> {
    const HINT: &str = "write it as https://host/path; user and password belong in the file of --remote-write-headers";
    settings::page(text).map_err(|wrong| format!("{}: {HINT}", wrong.what))
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let name = |name: &&str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match text.split_once('=') {
        Some((label, value)) if name(&label) && label != "relay" => Ok((label.to_owned(), value.to_owned())),
        _ => Err("write it like job=llm-relay".to_owned()),
    }
}

/// The relay of that name, or the only one.
fn relay<'a>(plan: &'a Plan, name: Option<&str>) -> Result<&'a RelayPlan, String> {
    let names = || plan.relays.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => {
            plan.relays.get(name).ok_or_else(|| format!("--relay: no {name} is configured; there is {}", names()))
        }
        None if plan.relays.len() == 1 => Ok(&plan.relays[plan.relays.keys().next().map_or("", String::as_str)]),
        None => Err(format!("--relay: name one of {}", names())),
    }
}

/// The labels of the live exporter's series, as in the shipped configuration where nothing else is said.
fn labels(options: &Options, given: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("job".to_owned(), "llm-relay".to_owned()),
        ("instance".to_owned(), options.listen_addresses[0].to_string()),
    ]);
    labels.extend(given);
    labels
}

/// The relay to read.
fn choose(options: &Options, name: Option<&str>) -> anyhow::Result<RelayPlan> {
    let loaded = configure(options, &environment())?;
    relay(&loaded.plan, name).cloned().map_err(refuse)
}

pub(crate) async fn backfill(arguments: BackfillArgs, options: &Options) -> anyhow::Result<ExitCode> {
    let plan = choose(options, arguments.relay.as_deref())?;
    let wanted = Wanted {
        from: arguments.from,
        to: arguments.to,
        step: arguments.step,
        labels: labels(options, arguments.labels),
        rules: if arguments.no_rules { None } else { Some(Rules::load(arguments.rules.as_deref())?) },
    };
    let receiver = arguments
        .remote_write
        .map(|url| Receiver::new(url, arguments.remote_write_headers.as_deref(), arguments.remote_write_ca_file));
    let out = Out { directory: arguments.out, blocks: arguments.blocks, receiver: receiver.transpose()? };
    let (job, done) = tokio::select! {
        written = backfill::write(&plan, &wanted, &out) => written?,
        () = stop_signal() => {
            eprintln!("interrupted; the same command continues");
            return Ok(ExitCode::FAILURE);
        }
    };
    let directory = out.directory.display();
    let next = if let Some(receiver) = &out.receiver {
        format!("all of it has been sent to {}; {directory} is of no more use", receiver.url())
    } else {
        format!("next, with DATA the data directory of a Prometheus that does not run: {}", import(&out, &job))
    };
    println!(
        "{} files in {directory} ({} of them from an earlier run), {} to {}; {} rows read, {} bytes written\n{next}",
        done.files,
        done.kept,
        job.from.to_rfc3339(),
        job.to.to_rfc3339(),
        done.rows_read,
        done.bytes,
    );
    Ok(ExitCode::SUCCESS)
}

/// The command that gives Prometheus what was written.
fn import(out: &Out, job: &Job) -> String {
    let directory = out.directory.display();
    if out.blocks {
        return format!("mv {directory}/blocks/* DATA/");
    }
    let hours = job.block_seconds() / 3600;
    let promtool = format!("promtool tsdb create-blocks-from openmetrics -q --max-block-duration={hours}h");
    format!("for file in {directory}/*.om; do {promtool} \"$file\" DATA; done")
}

pub(crate) async fn backtest(arguments: BacktestArgs, options: &Options) -> anyhow::Result<ExitCode> {
    let plan = choose(options, arguments.relay.as_deref())?;
    let BacktestArgs { last, to, step, rules, format, .. } = arguments;
    let test = backtest::Options { last, to, step, rules };
    // Dropping a test that runs leaves nothing behind.
    let report = tokio::select! {
        report = backtest::run(&plan, &test) => report?,
        () = stop_signal() => return Ok(ExitCode::FAILURE),
    };
    let text = match format {
        Format::Table => report.to_string(),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    // A closed pipe (`| head`) is the reader's choice.
    std::io::stdout().write_all(text.as_bytes()).ok();
    Ok(ExitCode::SUCCESS)
}
