//! Rows as running proxies have written them, 1.83.14, 1.108.7 and 1.110.2, and whose doing they are.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use llm_relay_exporter::relays::litellm::identity::Kind;
use llm_relay_exporter::servers::PrivatePostgres;

use super::database::{Exporter, Row, settle};
use super::{relay_at_noon, row};

/// What the row has: call type, deployment, provider; error code, class, provider of the error, category of the limit. What
/// it means: who was chosen, outcome, class.
type Case = ([&'static str; 7], Chosen, [&'static str; 2]);

#[derive(Clone, Copy, PartialEq)]
enum Chosen {
    Deployment,
    Provider,
    Nobody,
}

use Chosen::{Deployment, Nobody, Provider};

const FAILED: &[Case] = &[
    // The upstream answered.
    (["acompletion", "d", "openai", "500", "InternalServerError", "openai", ""], Deployment, ["failure", "server"]),
    (["acompletion", "d", "openai", "x", "InternalServerError", "openai", ""], Deployment, ["failure", "server"]),
    (
        ["acompletion", "d", "openai", "503", "ServiceUnavailableError", "openai", ""],
        Deployment,
        ["failure", "overloaded"],
    ),
    (["acompletion", "d", "openai", "408", "Timeout", "openai", ""], Deployment, ["failure", "timeout"]),
    (
        ["acompletion", "d", "openai", "429", "RateLimitError", "openai", "vendor_rate_limit"],
        Deployment,
        ["failure", "rate_limited"],
    ),
    (["acompletion", "d", "openai", "401", "AuthenticationError", "openai", ""], Deployment, ["failure", "auth"]),
    (["acompletion", "d", "openai", "403", "APIError", "openai", ""], Deployment, ["failure", "auth"]),
    (["acompletion", "d", "openai", "404", "NotFoundError", "openai", ""], Deployment, ["excluded", "caller"]),
    (["acompletion", "d", "openai", "422", "BadRequestError", "openai", ""], Deployment, ["excluded", "caller"]),
    (
        ["acompletion", "d", "openai", "context_length_exceeded", "BadRequestError", "openai", ""],
        Deployment,
        ["excluded", "caller"],
    ),
    // It was passed through to an upstream.
    (["pass_through_endpoint", "", "openai", "500", "HTTPException", "", ""], Provider, ["failure", "server"]),
    (["pass_through_endpoint", "", "", "529", "HTTPException", "", ""], Nobody, ["failure", "overloaded"]),
    (["pass_through_endpoint", "", "", "429", "HTTPException", "", ""], Nobody, ["failure", "rate_limited"]),
    (["pass_through_endpoint", "", "", "401", "HTTPException", "", ""], Nobody, ["failure", "auth"]),
    // /v1/messages and /responses of 1.83.14.
    (["", "", "", "429", "BaseLLMException", "", ""], Nobody, ["failure", "rate_limited"]),
    (["", "", "", "500", "InternalServerError", "openai", ""], Nobody, ["failure", "server"]),
    // LiteLLM refused it, and guesses a provider from the name of the model.
    (
        ["acompletion", "d", "openai", "403", "ModelAccessDeniedProxyException", "", ""],
        Deployment,
        ["excluded", "auth"],
    ),
    (["acompletion", "", "openai", "401", "KeyNotFoundError", "", ""], Nobody, ["excluded", "auth"]),
    (["acompletion", "", "openai", "", "Exception", "", ""], Nobody, ["excluded", "unknown"]),
    (["acompletion", "", "openai", "400", "ProxyMissingRequiredParamError", "", ""], Nobody, ["excluded", "caller"]),
    (
        ["acompletion", "", "openai", "422", "BudgetExceededError", "openai", "litellm_rate_limit"],
        Nobody,
        ["excluded", "policy"],
    ),
    (
        ["acompletion", "", "openai", "429", "ProxyRateLimitError", "litellm_proxy", "litellm_rate_limit"],
        Nobody,
        ["excluded", "policy"],
    ),
    (["", "", "", "429", "BudgetExceededError", "", ""], Nobody, ["excluded", "policy"]),
    (["", "", "", "429", "HTTPException", "", ""], Nobody, ["excluded", "policy"]),
    (["", "", "", "", "ValidationError", "", ""], Nobody, ["excluded", "unknown"]),
];

#[tokio::test]
async fn a_failure_is_the_upstreams_where_it_has_answered() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "outcomes").await;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for (n, ([call_type, model_id, provider, code, error, of, limited], chosen, [outcome, class])) in
        FAILED.iter().enumerate()
    {
        let metadata = format!(
            r#"{{"status": "failure", "error_information": {{"error_code": "{code}", "error_class": "{error}", "llm_provider": "{of}", "error_rate_limit_category": {}}}}}"#,
            if limited.is_empty() { "null".to_owned() } else { format!("\"{limited}\"") }
        );
        let id = format!("row-{n}");
        let start = now - TimeDelta::seconds(n as i64);
        db.run(&Row { model_id, provider, metadata, status: "failure", spend: 0.0, ..row(&id, start) }.insert()).await;
        db.run(&format!(r#"update "LiteLLM_SpendLogs" set call_type = '{call_type}' where request_id = '{id}'"#)).await;
        let who = match chosen {
            Deployment => Kind::Deployment.number(model_id),
            Provider => Kind::Provider.number(provider),
            Nobody => 0,
        };
        *expected.entry(format!("{who} {outcome}")).or_default() += 1;
        *expected.entry(format!("{who} {class}")).or_default() += 1;
    }
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    let counters = exporter.view(&plan).await.counters.unwrap();
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for it in counters.traffic.iter() {
        for (outcome, count) in ["success", "failure", "excluded"].iter().zip(it.requests) {
            *told.entry(format!("{} {outcome}", it.provider_id)).or_default() += count;
        }
    }
    for (provider, class, count) in &counters.failures {
        *told.entry(format!("{provider} {class}")).or_default() += count;
    }
    told.retain(|_, count| *count > 0);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_answer_without_a_stream_has_no_first_token() {
    let server = PrivatePostgres::start().await.unwrap();
    let (mut db, plan, now) = relay_at_noon(&server, "first_token").await;
    db.run(&row("whole", now).insert()).await;
    db.run(&row("cut", now).insert()).await;
    db.run(&Row { ttft: Some(300), ..row("streamed", now) }.insert()).await;
    // LiteLLM rounds the end of an answer to a millisecond, and cuts off what the first token has more than that.
    db.run(
        r#"update "LiteLLM_SpendLogs" set "completionStartTime" = "endTime" - interval '1 ms' where request_id = 'cut'"#,
    )
    .await;
    let mut exporter = Exporter::open(&plan);
    settle(&mut exporter.follower).await;
    let counters = exporter.view(&plan).await.counters.unwrap();
    let (ttft, speed) = (&counters.latency[0].ttft, &counters.latency[0].speed);
    assert_eq!((ttft.count(), ttft.sum, speed.count()), (1, 0.3, 1));
}
