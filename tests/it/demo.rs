//! The demo's private servers, history and live traffic, on real servers.

use llm_relay_exporter::demo::servers::{PrivatePostgres, PrivateRedis};
use sqlx::{Connection, PgConnection};

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_keeps_its_data_over_a_restart() {
    let mut server = PrivatePostgres::start().await.unwrap();
    let url = server.database("one").await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("create table kept as select 7 as n").execute(&mut connection).await.unwrap();
    server.stop();
    assert!(PgConnection::connect(&url).await.is_err(), "a stopped server must not answer");
    server.restart().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(n, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_postgres_refuses_a_wrong_password() {
    let server = PrivatePostgres::start().await.unwrap();
    let open = format!("postgres://demo:guess@127.0.0.1:{}/postgres", server.port());
    let error = PgConnection::connect(&open).await.unwrap_err();
    assert_eq!(error.as_database_error().and_then(|e| e.code()).as_deref(), Some("28P01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_redis_comes_back_on_the_same_port() {
    let mut server = PrivateRedis::start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg("kept").arg(7).exec_async(&mut connection).await.unwrap();
    server.stop();
    assert!(client.get_multiplexed_async_connection().await.is_err(), "a stopped server must not answer");
    server.restart().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let kept: i32 = redis::cmd("GET").arg("kept").query_async(&mut connection).await.unwrap();
    assert_eq!(kept, 7);
}

#[cfg(target_os = "linux")] // looks into /proc
#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_server_leaves_no_process_and_no_directory() {
    let postgres = PrivatePostgres::start().await.unwrap();
    let redis = PrivateRedis::start().await.unwrap();
    let homes = [postgres.directory().to_owned(), redis.directory().to_owned()];
    for home in &homes {
        assert!(home.exists());
        assert!(!processes_in(home).is_empty(), "the search must see a running server");
    }
    drop((postgres, redis));
    for home in &homes {
        assert!(!home.exists());
        assert_eq!(processes_in(home), Vec::<String>::new());
    }
}

/// Ids of processes that name the directory or work in it.
#[cfg(target_os = "linux")]
fn processes_in(home: &std::path::Path) -> Vec<String> {
    let name = home.to_str().unwrap();
    let uses = |process: &std::path::Path| {
        let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(name)
            || std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(home))
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok() && uses(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
