//! The configuration changes while the exporter runs: SIGHUP, `POST /-/reload`, and what stays undisturbed.

use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llm_relay_exporter::reload;
use llm_relay_exporter::serve::{self, Reloads};
use llm_relay_exporter::settings::{Plan, StorePlan};
use llm_relay_exporter::web::Protection;
use tokio_util::sync::CancellationToken;

use crate::claude_code_hub::{Store, as_role, plan, postgres};
use crate::process::{Page, Process, fallen, page, total, value};
use crate::wait;

async fn relay(name: &str, requests: u32) -> Store {
    let mut store = Store::new(name, "v0.9.2").await;
    store.people().await;
    store.requests(requests, "0 s").await;
    store
}

fn table(name: &str, url: &str) -> String {
    format!(
        "[relays.{name}]\nkind = \"claude-code-hub\"\ndatabase_url = \"{url}\"\ninterval = \"1s\"\n\
         directory_interval = \"1s\"\nstale_after = \"60s\"\ntimeout = \"20s\"\n"
    )
}

fn requests(page: &Page, relay: &str) -> f64 {
    total(page, "llm_relay_requests_total", relay)
}

fn successful(page: &Page) -> Option<f64> {
    value(page, "llm_relay_exporter_config_last_reload_successful", &[("config", "relays")])
}

/// Ids and ages of the exporter's sessions in a database.
async fn sessions(store: &mut Store) -> Vec<(i32, String)> {
    let sessions = "select pid, backend_start::text from pg_stat_activity
                    where datname = current_database() and application_name = 'llm-relay-exporter' order by 1";
    sqlx::query_as(sessions).fetch_all(&mut store.owner).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_rotate_and_relays_come_and_go_on_sighup() {
    let mut main = relay("reload_main", 7).await;
    let mut calm = relay("reload_calm", 3).await;
    let third = relay("reload_third", 2).await;
    for role in ["rotated_old", "rotated_new"] {
        main.run(&format!("create role {role} login superuser password '{role}'")).await;
    }
    let [old, new] = ["rotated_old", "rotated_new"].map(|role| table("main", &as_role(&main.url, role, role)));
    let calm_table = table("calm", &calm.url);
    let exporter = Process::start(&format!("{old}{calm_table}"), &[]);
    exporter.until("both are read", |page| requests(page, "main") == 7.0 && requests(page, "calm") == 3.0);
    let began = exporter.page();
    assert_eq!(successful(&began), Some(1.0));
    let undisturbed = sessions(&mut calm).await;
    assert!(!undisturbed.is_empty());

    // Between the two reloads no page may lack a series or show less.
    let whole = Mutex::new(began.clone());
    let check = |page: &Page| {
        let mut before = whole.lock().unwrap();
        assert_eq!(fallen(&before, page, "main"), [""; 0]);
        assert_eq!(fallen(&before, page, "calm"), [""; 0]);
        assert!(requests(page, "main") >= 7.0 && requests(page, "calm") >= 3.0, "nothing is ever missing");
        *before = page.clone();
    };
    exporter.write(&format!("{new}{calm_table}"));
    exporter.signal("HUP");
    exporter.until("the new user has come", |page| {
        check(page);
        exporter.log().contains("the configuration was read again")
    });
    // Roles belong to the server, sessions to roles: whoever still used the old one would now be thrown out.
    main.run("alter role rotated_old nologin").await;
    main.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'rotated_old'").await;
    main.requests(1, "0 s").await;
    exporter.until("reading goes on with the new user", |page| {
        check(page);
        requests(page, "main") == 8.0
    });
    let page = exporter.page();
    assert_eq!(total(&page, "llm_relay_refresh_failures_total", "main"), 0.0);
    assert_eq!(sessions(&mut calm).await, undisturbed, "the other relay kept its connections");
    assert!(exporter.log().contains("changed=main removed= unchanged=1"), "{}", exporter.log());

    // A broken file changes nothing.
    for (broken, why) in [
        (format!("{new}{calm_table}intervall = \"1s\"\n"), "did you mean `interval`"),
        (new.replace("postgres://", "mysql://"), "the scheme of the URL is wrong"),
        (String::new(), "no relay is configured"),
        ("[relays.main".to_owned(), "is not TOML"),
    ] {
        let said = exporter.log().len();
        exporter.write(&broken);
        exporter.signal("HUP");
        exporter.until("the failure is shown", |page| {
            check(page);
            successful(page) == Some(0.0) && exporter.log()[said..].contains("the configuration was not changed")
        });
        assert!(exporter.log()[said..].contains(why), "{}", &exporter.log()[said..]);
        assert!(!exporter.log()[said..].contains("rotated_new"), "no value is shown");
    }
    let stamp = "llm_relay_exporter_config_last_reload_success_timestamp_seconds";
    let last = value(&exporter.page(), stamp, &[("config", "relays")]).unwrap();

    // One goes, one comes, one gets another interval.
    exporter.write(&format!(
        "{}{}",
        calm_table.replace("\ninterval = \"1s\"", "\ninterval = \"1500ms\""),
        table("third", &third.url)
    ));
    exporter.signal("HUP");
    exporter.until("the third has come, the first has gone", |page| {
        requests(page, "third") == 2.0
            && !page.keys().any(|(_, labels)| labels.get("relay").is_some_and(|it| it == "main"))
    });
    let page = exporter.page();
    assert_eq!(successful(&page), Some(1.0));
    assert!(value(&page, stamp, &[("config", "relays")]).unwrap() > last);
    assert_eq!(fallen(&began, &page, "calm"), [""; 0]);
    wait::until("nobody is connected for a relay that has gone", async || sessions(&mut main).await.is_empty()).await;

    // What comes back counts on from the ledger.
    exporter.write(&new);
    exporter.signal("HUP");
    exporter.until("the first is back", |page| requests(page, "main") == 8.0);
    assert_eq!(exporter.ask("POST", "/-/reload").0, 403, "off by default");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_reloads_where_that_is_enabled() {
    let main = relay("reload_post", 1).await;
    let exporter = Process::start(&table("main", &main.url), &["--web.enable-lifecycle"]);
    exporter.until("it is read", |page| requests(page, "main") == 1.0);
    assert_eq!(exporter.ask("GET", "/-/reload").0, 405);

    exporter.write(&table("renamed", &main.url));
    assert_eq!(exporter.ask("POST", "/-/reload"), (200, String::new()));
    let page = exporter.page();
    assert!(value(&page, "llm_relay_source_up", &[("relay", "renamed")]).is_some());
    assert!(value(&page, "llm_relay_source_up", &[("relay", "main")]).is_none(), "it is done when it is answered");

    exporter.write("[relays.renamed]\nkind = \"claude-code-hub\"\n");
    let (status, body) = exporter.ask("PUT", "/-/reload");
    assert_eq!(status, 500);
    assert!(body.contains("failed to reload config") && body.contains("relays.renamed.database_url"), "{body}");
    exporter.until("it goes on", |page| requests(page, "renamed") == 1.0 && successful(page) == Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_goes_on_over_a_reload_and_does_not_move() {
    postgres().await;
    let mut main = relay("reload_store", 5).await;
    let directory = tempfile::tempdir().unwrap();
    let at = |file: &str| {
        Some(StorePlan {
            save_interval: Duration::ZERO,
            ..StorePlan::new(format!("sqlite:{}", directory.path().join(file).display()))
        })
    };
    let mut relay = plan(&main.url, None);
    relay.interval = Duration::from_millis(200);
    let first = Plan { relays: [("hub".to_owned(), relay.clone())].into(), store: at("store.db") };
    let next = Arc::new(Mutex::new(first.clone()));
    let serve = async || {
        let (reloader, requests) = reload::channel();
        let plan = next.clone();
        let reloads = Reloads { read: Box::new(move || Ok(plan.lock().unwrap().clone())), requests, over_http: None };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (stop, protection, first) =
            (shutdown.clone(), Protection::load(None).unwrap(), next.lock().unwrap().clone());
        let running = tokio::spawn(async move {
            serve::run_with(&first, Some(reloads), vec![listener], "/metrics".into(), protection, stop).await
        });
        (reloader, address, shutdown, running)
    };
    let until = async |address, what: &str, holds: &dyn Fn(&Page) -> bool| {
        wait::until(what, async || tokio::task::block_in_place(|| holds(&page(address)))).await;
    };
    let (reloader, address, shutdown, running) = serve().await;
    let saved = |page: &Page| value(page, "llm_relay_store_last_save_timestamp_seconds", &[]).unwrap_or(0.0);
    until(address, "it is read and saved", &|page| requests(page, "hub") == 5.0 && saved(page) > 0.0).await;

    next.lock().unwrap().store = at("elsewhere.db");
    let refused = reloader.reload().await.unwrap_err();
    assert!(refused.contains("store") && refused.contains("restart"), "{refused}");

    relay.boards.top_users = 3;
    *next.lock().unwrap() = Plan { relays: [("hub".to_owned(), relay)].into(), store: at("store.db") };
    let before = saved(&page(address));
    reloader.reload().await.unwrap();
    main.requests(1, "0 s").await;
    until(address, "reading and saving go on", &|page| requests(page, "hub") == 6.0 && saved(page) > before).await;
    assert_eq!(value(&page(address), "llm_relay_store_failures_total", &[]), Some(0.0));
    shutdown.cancel();
    running.await.unwrap().unwrap();

    // Taken from the ledger, what the store already has would be gone now.
    main.run("delete from usage_ledger; delete from message_request").await;
    let (_, address, shutdown, running) = serve().await;
    until(address, "the checkpoint is what the page begins with", &|page| requests(page, "hub") == 6.0).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_relay_comes_together_with_new_credentials_of_the_store() {
    let (mut main, second) = (relay("reload_both", 3).await, relay("reload_both_second", 2).await);
    let keeper = Store::new("reload_both_store", "v0.9.2").await;
    for role in ["store_old", "store_new"] {
        main.run(&format!("create role {role} login superuser password '{role}'")).await;
    }
    let config = |role: &str, relays: &str| {
        format!("{relays}[store]\nurl = \"{}\"\nsave_interval = \"1s\"\n", as_role(&keeper.url, role, role))
    };
    let one = table("main", &main.url);
    let both = format!("{one}{}", table("second", &second.url));
    let saved = |page: &Page, relay: &str| {
        value(page, "llm_relay_store_last_save_timestamp_seconds", &[("relay", relay)]).unwrap_or(0.0)
    };
    let exporter = Process::start(&config("store_old", &one), &[]);
    exporter.until("it is read and saved", |page| requests(page, "main") == 3.0 && saved(page, "main") > 0.0);

    main.run("alter role store_old nologin").await;
    main.run("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'store_old'").await;
    exporter.write(&config("store_wrong", &both));
    exporter.signal("HUP");
    exporter.until("credentials that are not good change nothing", |page| successful(page) == Some(0.0));
    exporter.write(&config("store_new", &both));
    exporter.signal("HUP");
    exporter.until("the new relay is read and saved", |page| {
        requests(page, "second") == 2.0 && saved(page, "second") > 0.0 && successful(page) == Some(1.0)
    });
    let before = saved(&exporter.page(), "main");
    exporter.until("the other is saved again", |page| saved(page, "main") > before);
}

#[test]
fn watching_without_a_file_is_a_wrong_argument() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_llm-relay-exporter"));
    let output = program.env_clear().args(["serve", "--config.auto-reload-interval=10s"]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(error.starts_with("--config.auto-reload-interval: ") && error.contains("--config.file"), "{error}");
}

#[test]
fn a_file_that_is_written_is_read_again_by_itself() {
    let config = |database: &str| table("main", &format!("postgres://127.0.0.1:1/{database}"));
    let exporter = Process::start(&config("a"), &["--config.auto-reload-interval=100ms"]);
    let labels = [("config", "relays")];
    let read_at = |page: &Page| value(page, "llm_relay_exporter_config_last_reload_success_timestamp_seconds", &labels);
    let began = read_at(&exporter.page());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(read_at(&exporter.page()), began, "nothing has changed");
    exporter.write("[relays.main]\n");
    exporter.until("a broken one is refused", |page| successful(page) == Some(0.0));
    exporter.write(&config("b"));
    exporter.until("a good one is in force", |page| read_at(page) > began && successful(page) == Some(1.0));

    // The file of a secret comes later than what names it.
    let (folder, began) = (tempfile::tempdir().unwrap(), read_at(&exporter.page()));
    let secret = folder.path().join("url");
    exporter
        .write(&format!("[relays.main]\nkind = \"claude-code-hub\"\ndatabase_url_file = \"{}\"\n", secret.display()));
    exporter.until("what it names is missing", |page| successful(page) == Some(0.0));
    std::fs::write(&secret, "postgres://127.0.0.1:1/c").unwrap();
    exporter.until("it is there", |page| read_at(page) > began && successful(page) == Some(1.0));
}
