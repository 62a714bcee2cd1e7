//! `healthcheck`: a probe where there is neither a shell nor a client.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use url::Url;

use super::Options;
use crate::http::Paths;
use crate::probe::Target;
use crate::settings;

/// Shorter than what orchestrators allow.
const TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug, Args)]
pub(crate) struct HealthcheckArgs {
    /// What to ask, e.g. /readyz instead of /healthz, or over TLS [default: /healthz at the first --web.listen-address].
    #[arg(value_name = "URL", value_parser = super::Unshown(parse_page))]
    url: Option<Url>,
    /// PEM file with authorities in place of the public ones, for https.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

fn parse_page(text: &str) -> Result<Url, String> {
    settings::page(text).map_err(|wrong| format!("{}: {}", wrong.what, wrong.hint))
}

pub(crate) async fn healthcheck(
    arguments: HealthcheckArgs,
    options: &Options,
    paths: &Paths,
) -> anyhow::Result<ExitCode> {
    let url = match arguments.url {
        Some(url) => url,
        None => here(options, paths)?,
    };
    Target { url, ca_file: arguments.ca_file, timeout: TIMEOUT }.probe().await?;
    Ok(ExitCode::SUCCESS)
}

fn here(options: &Options, paths: &Paths) -> anyhow::Result<Url> {
    let address = options.listen_addresses.first().context("no --web.listen-address")?;
    let url = format!("http://{}{}healthz", address.to_ask(), paths.root());
    url.parse().with_context(|| format!("{url} is no URL"))
}
