//! The demo's log has rows that the relay writes.

use llm_relay_exporter::demo::{DemoOptions, HistoryOptions, SimulatorOptions};
use llm_relay_exporter::relays::new_api;
use secrecy::ExposeSecret;

use super::database::Db;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refunded_was_charged_before() {
    let history = HistoryOptions { days: 2, requests_per_day: 5000, ..HistoryOptions::default() };
    let options = DemoOptions { history, simulator: SimulatorOptions::default() };
    let environment = (new_api::NEW_API.demo)(options).await.unwrap();
    let mut db = Db::connect(environment.urls().database_url.expose_secret()).await;
    let charge = "select 1 from logs job where job.id = logs.id - 1 and job.type = 2 and job.quota = logs.quota
        and job.use_time = 0 and job.prompt_tokens = 0 and job.other ->> 'is_task'";
    let refunds = db.numbers(&format!("count(*), sum(exists ({charge}))"), "logs where type = 6").await;
    assert!(refunds[0] > 3 && refunds[0] == refunds[1], "{refunds:?}");
    environment.tear_down().await;
}
