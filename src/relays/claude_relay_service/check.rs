//! `check`: connects, looks, and says what can be read, what cannot, and what it will cost. Changes nothing.

use std::time::Instant;

use redis::cmd;

use super::directory::clock;
use super::keys::PLATFORMS;
use super::open;
use super::settings;
use super::zone::{Zone, wrong};
use crate::connect::redis::{KeyCommand, Redis};
use crate::model::{Directory, ReadError};
use crate::relay::plan::RelayPlan;
use crate::relay::report::Report;
use crate::relay::{OpenError, Relay, Usage};

/// Looks at the relay's Redis.
///
/// # Errors
/// When the address cannot be used at all.
pub async fn check(plan: &RelayPlan) -> Result<Report, OpenError> {
    let mut report = Report::default();
    let mut redis = super::redis(plan)?;
    let offset = settings::offset(plan);
    report.ok(
        "time zone",
        format!("days begin at midnight of {offset}, as `timezone_offset` says; it must be the relay's"),
    );
    if let Err(error) = server(&mut redis, &mut report).await {
        report.problem("redis", error.text);
        return Ok(report);
    }
    let zone = Zone::new(offset);
    match redis.now_ms().await {
        Ok(now) => {
            zone.look(&mut redis, clock(now)).await.unwrap_or_else(|error| report.problem("time zone", error.text));
        }
        Err(error) => report.problem("time zone", error.text),
    }
    if let Some(relays) = zone.relays() {
        report.problem("time zone", wrong(offset, relays));
    }
    let Relay { usage, live, mut directory } = open(plan)?;
    let directory = match directory.read().await {
        Ok(directory) => directory,
        Err(error) => {
            report.problem("directory", error.text);
            return Ok(report);
        }
    };
    seen(&directory, &mut report);
    if let Some(mut live) = live {
        match live.read(&directory).await {
            Ok(live) => report.ok("live", format!("{} account states can be read", live.accounts.len())),
            Err(error) => report.problem("live", error.text),
        }
    }
    if let Usage::Counters(mut counters) = usage {
        for when in ["the first refresh", "a later refresh"] {
            let began = Instant::now();
            match counters.read(&directory).await {
                Ok(reading) => {
                    let (read, took) = (reading.read, began.elapsed());
                    report.ok("cost", format!("{when} read {read} keys in {took:.1?}"));
                }
                Err(error) => {
                    report.problem("counters", error.text);
                    break;
                }
            }
        }
    }
    Ok(report)
}

async fn server(redis: &mut Redis, report: &mut Report) -> Result<(), ReadError> {
    let what = "looking at Redis";
    redis.now_ms().await?;
    report.ok("redis", format!("connected to {}", redis.endpoint()));
    let texts = ["apikey:index:version", "system:migrated:version"].map(|key| KeyCommand::new("GET", key));
    let texts = redis.each::<Option<String>>(what, &texts).await?;
    let text = |at: usize| texts.get(at).and_then(|text| text.as_ref()?.as_deref());
    match text(1) {
        Some(version) => report.ok("relay", format!("claude-relay-service {version}")),
        None => report
            .note("relay", "the relay has not written its version; before about v1.1.263 most numbers are missing"),
    }
    match text(0).and_then(|version| version.parse::<u32>().ok()) {
        Some(2..) => report.ok("index", "the index of keys is complete"),
        _ => report.note(
            "index",
            "no complete index of keys: only those with traffic in the last 32 days are seen, unless `find_keys` is \"scan\"",
        ),
    }
    // Whoever may read secrets need not: only the ACL's user can be kept from them.
    if redis.read(what, &[cmd("INFO")]).await?.iter().all(Result::is_ok) {
        report.note(
            "role",
            "this user may do more than is needed; docs/relays.md has an ACL user that reads no secret index",
        );
    }
    Ok(())
}

fn seen(directory: &Directory, report: &mut Report) {
    let deleted = directory.keys.iter().filter(|key| key.deleted).count();
    let keys = directory.keys.len();
    match keys {
        0 => report.problem("keys", "no key found: is this the relay's Redis database?"),
        _ => report.ok("keys", format!("{keys}, of which {deleted} deleted; {} limits", directory.limits.len())),
    }
    let accounts: Vec<String> = PLATFORMS
        .iter()
        .filter_map(|platform| {
            let count = directory.providers.iter().filter(|account| account.kind == platform.name).count();
            (count > 0).then(|| format!("{count} {}", platform.name))
        })
        .collect();
    match accounts.as_slice() {
        [] => report.note("accounts", "none"),
        accounts => report.ok("accounts", accounts.join(", ")),
    }
}
