//! CPA-Manager: faults of a SQLite file, and of the directory that it is in.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use llm_relay_exporter::model::Source;
use llm_relay_exporter::relays::cpa_manager::{self, Level, least_schema};
use llm_relay_exporter::settings::RelayPlan;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

use super::{ALL, Act, Case, Holder, Site, quick};
use crate::claude_code_hub::plan;

const ROLLBACK: &str = "a writer stops in a transaction (rollback journal)";
/// Puts the file back.
const BACK: &str = "rm -r $file; mv $aside/file $file";

pub fn cases() -> Vec<Case> {
    let case = |fault, begin, end| Case { fault, begin, end: Act::Shell(end), down: ALL };
    let held = |fault, down| Case { fault, begin: Act::Hold, end: Act::Release, down };
    vec![
        case("the file is moved away for a while", Act::Shell("mv $file $aside/file"), "mv $aside/file $file"),
        case("its directory has gone", Act::Shell("mv $dir $aside/dir"), "mv $aside/dir $dir"),
        case("a directory is in its place", Act::Offline("mkdir $file"), BACK),
        case("a half of it is in its place", Act::Offline("head -c 30000 $aside/file > $file"), BACK),
        case("noise is in its place", Act::Offline("head -c 100000 /dev/urandom > $file"), BACK),
        case("an empty file is in its place", Act::Offline("touch $file"), BACK),
        case("it is removed, a new one is begun", Act::Offline("true"), "true"),
        case("it is removed, an older backup is restored", Act::Offline("true"), "mv $aside/backup $file"),
        held("a writer stops in a transaction (write-ahead log)", &[]),
        held(ROLLBACK, ALL),
    ]
}

pub struct Manager {
    plan: RelayPlan,
    /// With the directory of the file, and one beside that.
    place: TempDir,
    journal: SqliteJournalMode,
    /// While the manager runs.
    writer: Option<SqliteConnection>,
    holder: Option<Holder>,
    taken: u64,
}

impl Manager {
    pub async fn new(number: usize, case: &Case) -> Self {
        let place = tempfile::tempdir().unwrap();
        for folder in ["relay", "aside"] {
            std::fs::create_dir(place.path().join(folder)).unwrap();
        }
        let url = format!("sqlite:{}/relay/usage.sqlite", place.path().display());
        let name = format!("fault_sqlite_{number}");
        let mut plan = RelayPlan { name, product: &cpa_manager::PRODUCT, ..plan(&url, None) };
        quick(&mut plan);
        let journal = if case.fault == ROLLBACK { SqliteJournalMode::Delete } else { SqliteJournalMode::Wal };
        let mut site = Self { plan, place, journal, writer: None, holder: None, taken: 0 };
        site.open().await;
        for n in 0..20 {
            if n == 10 {
                let backup = format!("vacuum into '{}/aside/backup'", site.place.path().display());
                sqlx::raw_sql(AssertSqlSafe(backup)).execute(site.writer.as_mut().unwrap()).await.unwrap();
            }
            site.request().await;
        }
        assert_eq!(site.taken, 20);
        site
    }

    fn file(&self) -> PathBuf {
        self.place.path().join("relay/usage.sqlite")
    }

    async fn open(&mut self) {
        let is_new = !self.file().exists();
        let options = SqliteConnectOptions::new().filename(self.file()).create_if_missing(true);
        let options = options.journal_mode(self.journal).busy_timeout(Duration::from_millis(20));
        let mut writer = options.disable_statement_logging().connect().await.unwrap();
        for script in least_schema(Level::Plus).filter(|_| is_new) {
            sqlx::raw_sql(script).execute(&mut writer).await.unwrap();
        }
        self.writer = Some(writer);
    }

    /// In a process of its own: closing a file gives up all locks that this one has on it.
    fn shell(&self, script: &str) {
        let place = self.place.path().display().to_string();
        let script =
            script.replace("$aside", "$0/aside").replace("$file", "$dir/usage.sqlite").replace("$dir", "$0/relay");
        assert!(Command::new("sh").args(["-ec", &script, &place]).status().unwrap().success(), "{script}");
    }
}

#[async_trait(?Send)]
impl Site for Manager {
    fn plan(&self) -> &RelayPlan {
        &self.plan
    }

    fn shows(source: Source) -> &'static str {
        match source {
            Source::Ledger => "llm_relay_requests_total",
            Source::Live => "llm_relay_dead_letters_total",
            Source::Directory => "llm_relay_provider_info",
        }
    }

    async fn request(&mut self) {
        let Some(writer) = &mut self.writer else { return };
        let now = chrono::Utc::now().timestamp_millis();
        let request = format!(
            "insert into usage_events (event_hash, timestamp_ms, timestamp, provider, model, auth_index, source_hash,
               input_tokens, output_tokens, total_tokens, latency_ms, created_at_ms)
             values ('{}-{now}', {now} - 900, '', 'codex', 'gpt-5-codex', '0', '', 10, 5, 15, 900, {now})",
            self.taken,
        );
        self.taken += u64::from(sqlx::raw_sql(AssertSqlSafe(request)).execute(writer).await.is_ok());
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Shell(script) => {
                self.shell(script);
                if self.writer.is_none() {
                    self.open().await;
                }
            }
            Act::Offline(script) => {
                let mut writer = self.writer.take().unwrap();
                // The file is whole without its log, though the exporter keeps that open.
                let whole = "pragma busy_timeout = 5000; pragma wal_checkpoint(truncate)";
                sqlx::raw_sql(whole).execute(&mut writer).await.unwrap();
                writer.close().await.unwrap();
                self.shell("mv $file $aside/file; rm -f $file-wal $file-shm");
                self.shell(script);
            }
            Act::Hold => self.holder = Some(Holder::of(&self.file())),
            Act::Release => self.holder.take().unwrap().release(),
            Act::Wire(_) | Act::Sql(_) | Act::Redis(_) | Act::Stop | Act::Start | Act::Signal(_) => {
                unreachable!("of servers")
            }
        }
    }

    async fn taken(&mut self) -> u64 {
        self.taken
    }
}
