//! Requests as the relay's rows, written in bulk.

use std::fmt::Write as _;

use anyhow::Context;
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgConnection;

use crate::demo::history::{HistoryOptions, Past, progress};
use crate::demo::traffic::{Request, Tokens};
use crate::model::Usd;

/// Writes the history into a database with users, keys and providers; the relay's trigger makes the ledger.
///
/// Returns the number of requests. A progress bar shows on a terminal.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn fill(connection: &mut PgConnection, options: &HistoryOptions) -> anyhow::Result<u64> {
    let bar = progress(options);
    let mut past = Past::new(options);
    let mut written = 0;
    for date in options.dates() {
        let last = date == options.today();
        let requests = past.day(date, last);
        copy(connection, &requests).await?;
        written += requests.len() as u64;
        bar.set_message(format!("{written} requests"));
        bar.inc(1);
    }
    bar.finish_and_clear();
    // Plans and index-only scans as in a relay that has run for weeks.
    sqlx::raw_sql(include_str!("sql/vacuum.sql")).execute(connection).await.context("vacuum of the history")?;
    Ok(written)
}

/// Writes finished requests (and such as never end) as they stand, in one statement.
pub(crate) async fn copy(connection: &mut PgConnection, requests: &[Request]) -> anyhow::Result<()> {
    let mut rows = String::with_capacity(requests.len() * 600);
    for request in requests {
        line(&mut rows, request);
    }
    let mut copy = connection.copy_in_raw(include_str!("sql/copy_requests.sql")).await.context("copy of requests")?;
    copy.send(rows.as_bytes()).await.context("copy of requests")?;
    copy.finish().await.context("copy of requests")?;
    Ok(())
}

/// One row in PostgreSQL's text format, with the columns of `copy_requests.sql`.
fn line(out: &mut String, request: &Request) {
    let Request { user, key, session, sequence, model, original_model, endpoint, .. } = request;
    let at = request.at.to_rfc3339();
    let ended = request.ends().to_rfc3339();
    let provider = request.provider.map_or(0, |p| p.id);
    let answered = text(request.answered_model);
    let api_type = request.family.api_type();
    let multiplier = Decimal::new(request.multiplier.into(), 4);
    let (status, error, blocked) = (field(request.status), text(request.error), text(request.blocked_by));
    let replay = request.is_replay;
    // An intercepted warm-up has no cost, not even zero.
    let cost = field((request.blocked_by != Some("warmup")).then(|| usd(request.total_cost())));
    let ended_for_good = !request.never_ends();
    let duration = field(ended_for_good.then_some(request.duration_ms));
    let ttft = field(request.ttft_ms.filter(|_| ended_for_good));
    let first_byte = field(request.first_byte_ms.filter(|_| ended_for_good));
    let chain = field(chain(request));
    let losers = field(losers(request));
    let tokens = token_fields(request.tokens.as_ref());
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{at}\t{ended}\t{provider}\t{user}\t{key}\t{model}\t{original_model}\t{answered}\t{endpoint}\t{api_type}\t\
         {session}\t{session}\t{sequence}\tdemo/1.0\t{multiplier}\t1\t{status}\t{error}\t{blocked}\t{replay}\t{cost}\t\
         {tokens}\t{duration}\t{ttft}\t{first_byte}\t{chain}\t{losers}",
        user = user.id,
        key = key.secret(),
    );
}

fn token_fields(tokens: Option<&Tokens>) -> String {
    let Some(t) = tokens else { return [NULL; 6].join("\t") };
    let written = t.cache_write_5m + t.cache_write_1h;
    [t.input, t.output, written, t.cache_read, t.cache_write_5m, t.cache_write_1h].map(|n| n.to_string()).join("\t")
}

/// `provider_chain` as JSON.
pub(crate) fn chain(request: &Request) -> Option<String> {
    // Numbers and plain strings always serialise.
    (!request.chain.is_empty()).then(|| serde_json::to_string(&request.chain).unwrap_or_default())
}

/// `hedge_losers` as JSON.
pub(crate) fn losers(request: &Request) -> Option<String> {
    let (provider, cost) = request.loser?;
    let loser = json!({
        "providerId": provider.id,
        "providerName": provider.name,
        "attemptNumber": 2,
        "costUsd": usd(cost).to_string(),
    });
    Some(json!([loser]).to_string())
}

/// Dollars with all fifteen decimal places.
pub(crate) fn usd(amount: Usd) -> Decimal {
    Decimal::from_i128_with_scale(amount.femto(), 15)
}

const NULL: &str = r"\N";

fn field(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NULL.to_owned(), |value| value.to_string())
}

fn text(value: Option<&str>) -> &str {
    value.unwrap_or(NULL)
}
