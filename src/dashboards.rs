//! The Grafana bundle: every dashboard from one source, in every language, with the names of the metric catalogue.
//!
//! * `promql`: expressions, checked against the catalogue and made right for replicas.
//! * `query`, `column`, `link`, `panel`, `panel_types`, `variable`, `dashboard`: Grafana's JSON.
//! * `shared`: panels that stand on several dashboards.
//! * one file per dashboard.
//! * `supported`: the dashboards of the relays that one has.
//! * `text`, `zh`: languages; what a metric means stands in its entry of the catalogue.
//!
//! A panel is one call in a dashboard's file; both languages, the committed JSON and the checks follow.

mod board;
mod column;
mod dashboard;
mod exporter;
mod leaderboards;
mod link;
mod overview;
mod panel;
mod panel_types;
mod pools;
pub mod promql;
mod providers;
mod query;
mod quotas;
mod shared;
mod supported;
mod text;
mod trends;
mod variable;
mod wall;
mod zh;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::Value;

use crate::lang::Lang;
use crate::relay::Product;

use dashboard::Dashboard;
use supported::Relays;
use text::Texts;

/// What to write where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Of titles, descriptions and legends.
    pub lang: Lang,
    /// Created when it is missing; files of the same names are replaced.
    pub out: PathBuf,
    /// The Prometheus data source to begin with; without it Grafana's default.
    pub datasource_uid: Option<String>,
    /// The kinds of the relays that the dashboards are for; all that there are when it is empty.
    pub relays: Vec<&'static Product>,
    /// Instead of the bundle, what needs more than Prometheus: the wall with single requests from PostgreSQL.
    pub optional: bool,
}

/// Writes one file per dashboard, named by its uid.
///
/// # Errors
/// When an expression is wrong, or a file cannot be written.
pub fn write(options: &Options) -> anyhow::Result<()> {
    let out = &options.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create the directory {}", out.display()))?;
    for dashboard in build(options)? {
        let uid = dashboard["uid"].as_str().context("a dashboard without uid")?;
        let file = out.join(format!("{uid}.json"));
        let text = serde_json::to_string_pretty(&dashboard)? + "\n";
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// The dashboards of a language, as Grafana loads them.
///
/// # Errors
/// When an expression names what the catalogue has not, or a Chinese text is missing.
pub fn build(options: &Options) -> anyhow::Result<Vec<Value>> {
    let (texts, relays) = (Texts::new(options.lang), Relays(&options.relays));
    let json = |dashboards: Vec<Dashboard>| -> anyhow::Result<Vec<Value>> {
        let fitted = dashboards.into_iter().filter_map(|dashboard| relays.fit(dashboard).transpose());
        fitted.map(|dashboard| dashboard?.json(&texts, options.datasource_uid.as_deref())).collect()
    };
    let bundle = json(vec![
        overview::dashboard(),
        trends::dashboard(),
        wall::dashboard(),
        leaderboards::dashboard(),
        providers::dashboard(),
        quotas::dashboard(),
        exporter::dashboard(),
    ])?;
    let extra = json(vec![wall::claude_code_hub()])?;
    texts.check(options.relays.is_empty())?;
    Ok(if options.optional { extra } else { bundle })
}
