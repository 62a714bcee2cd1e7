//! Prometheus, Alertmanager and Grafana beside the demo, as far as this machine has them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};

use crate::backfill::{self, LONGEST_STEP, Out, Wanted, When};
use crate::dashboards;
use crate::lang::Lang;
use crate::relay::plan::RelayPlan;
use crate::rules::Rules;
use crate::rules::shipped::SHIPPED;
use crate::servers::alertmanager::PrivateAlertmanager;
use crate::servers::grafana::PrivateGrafana;
use crate::servers::prometheus::PrivatePrometheus;

/// The shipped routes and inhibitions; its receivers are examples of other people's addresses.
const ALERTMANAGER: &str = include_str!("../../prometheus/alertmanager.yml");
const DATASOURCE: &str = include_str!("../../grafana/provisioning/datasources/llm-relay.yml");
const DASHBOARDS: &str = include_str!("../../grafana/provisioning/dashboards/llm-relay.yml");
const RECEIVERS: &str = "receivers: [{name: page}, {name: chat}, {name: digest}, {name: heartbeat}]\n";

/// Starts what is there and prints its address; of what is not there, how to get it. The others rest on Prometheus. Ends
/// everything when it is dropped.
pub(crate) async fn run(relays: Vec<RelayPlan>, exporter: SocketAddr, path: String, days: u32) {
    let now = Utc::now();
    let target = reachable(exporter);
    let alertmanager = told("Alertmanager", alertmanager().await);
    let Some(prometheus) = told("Prometheus", prometheus(target, &path, alertmanager.as_ref()).await) else { return };
    let url = format!("http://127.0.0.1:{}", prometheus.port());
    eprintln!("Prometheus: {url}, its alerts: {url}/alerts");
    if let Some(alertmanager) = &alertmanager {
        eprintln!("Alertmanager: http://127.0.0.1:{}", alertmanager.port());
    }
    let grafana = told("Grafana", grafana(&url, &relays).await);
    if let Some(grafana) = &grafana {
        eprintln!("Grafana: http://127.0.0.1:{}", grafana.port());
    }
    eprintln!("The last {days} days come to Prometheus relay by relay; each takes minutes.");
    for relay in relays.iter().filter(|relay| backfill::has_a_past(relay)) {
        if told("history", fill(&prometheus, relay, target, days, now).await).is_some() {
            eprintln!("Prometheus has the last {days} days of {}", relay.name);
        }
    }
    std::future::pending::<()>().await;
}

fn told<T>(what: &str, started: anyhow::Result<T>) -> Option<T> {
    started.inspect_err(|error| eprintln!("no {what} in this demo: {error:#}")).ok()
}

/// Where the exporter answers on this machine.
fn reachable(exporter: SocketAddr) -> SocketAddr {
    if exporter.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, exporter.port()).into() } else { exporter }
}

async fn prometheus(
    target: SocketAddr,
    path: &str,
    alertmanager: Option<&PrivateAlertmanager>,
) -> anyhow::Result<PrivatePrometheus> {
    let mut prometheus = PrivatePrometheus::new()?;
    for (name, text) in SHIPPED {
        prometheus.write(name, text)?;
    }
    prometheus.start(&configuration(target, path, alertmanager)).await?;
    Ok(prometheus)
}

/// What an exporter would have shown before `to`, and what the rules would have made of it.
async fn fill(
    prometheus: &PrivatePrometheus,
    relay: &RelayPlan,
    target: SocketAddr,
    days: u32,
    to: DateTime<Utc>,
) -> anyhow::Result<()> {
    let labels = [("job", "llm-relay".to_owned()), ("instance", target.to_string())];
    let wanted = Wanted {
        from: When::Before(Duration::from_secs(86_400 * u64::from(days))),
        to: Some(to),
        step: LONGEST_STEP,
        labels: BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value))),
        rules: Some(Rules::load(None)?),
    };
    let folder = tempfile::tempdir()?;
    let out = Out { directory: folder.path().to_owned(), blocks: true, receiver: None };
    backfill::write(relay, &wanted, &out).await?;
    Ok(prometheus.take_in(&folder.path().join("blocks"))?)
}

fn configuration(target: SocketAddr, path: &str, alertmanager: Option<&PrivateAlertmanager>) -> String {
    let alerting = alertmanager.map(|it| {
        format!("alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{}']}}]}}]}}\n", it.port())
    });
    format!(
        "global: {{scrape_interval: 5s, scrape_timeout: 4s, evaluation_interval: 30s}}\n\
         rule_files: [rules/*.yml, alerts/*.yml]\n\
         {}scrape_configs: [{{job_name: llm-relay, metrics_path: {path}, static_configs: [{{targets: ['{target}']}}]}}]\n",
        alerting.unwrap_or_default()
    )
}

async fn alertmanager() -> anyhow::Result<PrivateAlertmanager> {
    let routes = ALERTMANAGER.split_once("\nreceivers:\n").map_or(ALERTMANAGER, |(routes, _)| routes);
    Ok(PrivateAlertmanager::start(&format!("{routes}\n{RECEIVERS}")).await?)
}

/// With the dashboards of these relays, provisioned as shipped, on this Prometheus.
async fn grafana(prometheus: &str, relays: &[RelayPlan]) -> anyhow::Result<PrivateGrafana> {
    let mut grafana = PrivateGrafana::new()?;
    let place = grafana.directory().join("dashboards").display().to_string();
    let datasource = DATASOURCE.replace("http://prometheus:9090", prometheus);
    grafana.write("provisioning/datasources/llm-relay.yml", &datasource)?;
    let dashboards = DASHBOARDS.replace("/var/lib/grafana/dashboards", &place);
    grafana.write("provisioning/dashboards/llm-relay.yml", &dashboards)?;
    for lang in Lang::ALL {
        let relays = relays.iter().map(|relay| relay.product).collect();
        for dashboard in dashboards::build(&dashboards::Options { lang, relays, ..Default::default() })? {
            let uid = dashboard["uid"].as_str().context("a dashboard without uid")?;
            grafana.write(&format!("dashboards/{}/{uid}.json", lang.label()), &dashboard.to_string())?;
        }
    }
    grafana.start("dashboards/en/llm-relay-overview.json").await?;
    Ok(grafana)
}
