//! The stub is everywhere where a relay is, though nothing outside its folder names it but the list.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::PRODUCT;
use crate::demo::DemoOptions;
use crate::relay::demo::set_up;
use crate::web::Protection;
use crate::{check, metrics, serve, settings};

async fn page(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn its_requests_are_on_the_page_in_check_in_the_table_and_in_the_demo() {
    let environments = set_up(&DemoOptions::default(), &[&PRODUCT]).await.unwrap();
    let [(product, environment)] = environments.as_slice() else { panic!("no stub in the demo") };
    let own = [("kind", product.label), ("interval", "1s")].into_iter().chain(environment.urls().settings());
    let env: BTreeMap<_, _> = own.map(|(path, text)| (settings::variable("main", path), text.to_owned())).collect();
    let plan = settings::load(None, &env).unwrap().plan;

    let report = check::check(&plan.relays["main"]).await.unwrap().to_string();
    assert!(report.contains("the newest is 1"), "{report}");
    assert!(metrics::docs::relay_table().lines().next().unwrap().ends_with("| stub |"));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { serve::run(&plan, listener, "/metrics", Protection::load(None).unwrap(), shutdown).await }
    });
    let wanted = [
        "llm_relay_info{relay=\"main\",kind=\"stub\"",
        "llm_relay_requests_total{relay=\"main\",provider_id=\"0\",model=\"model-a\",outcome=\"success\"} 1",
        "llm_relay_user_info{relay=\"main\"",
        "llm_relay_leaderboard_cost_usd{relay=\"main\",scope=\"user\",period=\"today\"",
    ];
    let began = Instant::now();
    loop {
        let page = page(address).await;
        if wanted.iter().all(|it| page.contains(it)) {
            // What it does not know is not there, and not 0.
            assert!(!page.contains("llm_relay_requests_in_progress{") && !page.contains("llm_relay_provider_enabled{"));
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(240), "{page}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shutdown.cancel();
    served.await.unwrap().unwrap();
    for (_, environment) in environments {
        environment.tear_down().await;
    }
}
