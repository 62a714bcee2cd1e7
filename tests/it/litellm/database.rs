//! LiteLLM's side of a database, and an exporter of it.

use std::collections::BTreeMap;

use crate::db::{self, CLOCK};
use crate::reading;
pub use crate::reading::{Saved, settle};
use chrono::{DateTime, TimeDelta, Utc};
use llm_relay_exporter::follow::Follower;
use llm_relay_exporter::relay::{self, DirectorySource, Ledger};
use llm_relay_exporter::relays::litellm;
use llm_relay_exporter::servers::PrivatePostgres;
use llm_relay_exporter::settings::{Boards, OwnValue, RelayPlan};
use llm_relay_exporter::view::LedgerView;

pub struct Db {
    relay: db::Db,
    pub url: String,
}

impl Db {
    /// A LiteLLM's database of which the sessions have a zone of their own, and a clock that the test turns.
    pub async fn create(server: &PrivatePostgres, name: &str, zone: &str) -> Self {
        let url = server.database(name).await.unwrap();
        let mut first = db::Db::connect(&url).await;
        first.run(litellm::LEAST_SCHEMA).await;
        first.run(CLOCK).await;
        first.run(&format!("alter database {name} set timezone = '{zone}'")).await;
        Self { relay: db::Db::connect(&url).await, url }
    }

    pub async fn run(&mut self, sql: &str) {
        self.relay.run(sql).await;
    }

    pub async fn set_clock(&mut self, now: DateTime<Utc>) {
        self.run(&format!("update clock.hand set at = '{now}'")).await;
    }

    /// A text and a whole number by row.
    pub async fn table(&mut self, sql: &str) -> BTreeMap<String, i64> {
        self.relay.table(sql).await.into_iter().map(|(name, numbers)| (name, numbers[0])).collect()
    }
}

pub fn plan(url: &str) -> RelayPlan {
    let mut plan = RelayPlan {
        boards: Boards {
            top_users: 9,
            top_keys: 9,
            top_teams: 9,
            top_providers: 9,
            top_models: 9,
            ..Boards::default()
        },
        ..reading::plan(url, &litellm::PRODUCT)
    };
    plan.own.set("model_name", OwnValue::Text("group".to_owned()));
    plan.own.set("usage", OwnValue::Text("rows".to_owned()));
    plan
}

/// Ledger and directory of one relay: which upstreams there are is known from its rows.
pub struct Exporter {
    pub follower: Follower,
    pub directory: Box<dyn DirectorySource>,
}

impl Exporter {
    pub fn open(plan: &RelayPlan) -> Self {
        let (ledger, directory) = parts(plan);
        Self { follower: Follower::new(ledger, plan), directory }
    }

    /// Goes on from what was saved.
    pub fn restored(plan: &RelayPlan, saved: &Saved) -> Self {
        let it = Self::open(plan);
        Self { follower: saved.restored(it.follower), ..it }
    }

    pub fn reopened(self, plan: &RelayPlan) -> Self {
        let (ledger, directory) = parts(plan);
        Self { follower: self.follower.reopened(ledger, plan), directory }
    }

    pub async fn view(&mut self, plan: &RelayPlan) -> LedgerView {
        let directory = self.directory.read().await.unwrap();
        reading::view(&mut self.follower, plan, &directory)
    }
}

fn parts(plan: &RelayPlan) -> (Box<dyn Ledger>, Box<dyn DirectorySource>) {
    let relay = relay::open(plan).unwrap();
    (reading::rows_of(relay.usage), relay.directory)
}

/// A row as LiteLLM writes it, and what it means.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: String,
    pub start: DateTime<Utc>,
    pub ms: i64,
    /// `None` where the answer was not streamed.
    pub ttft: Option<i64>,
    pub key: &'static str,
    pub user: &'static str,
    pub team: &'static str,
    pub organization: &'static str,
    pub model: &'static str,
    pub group: &'static str,
    pub model_id: &'static str,
    pub provider: &'static str,
    pub spend: f64,
    pub prompt: i64,
    pub output: i64,
    pub status: &'static str,
    pub metadata: String,
    /// `requests` of callers, or what else there is.
    pub outcome: &'static str,
    pub class: &'static str,
    pub cache_read: i64,
    pub cache_write: i64,
    /// Nobody upstream was chosen.
    pub is_refused: bool,
}

impl Row {
    /// One statement, with what it means beside it where no row has its id yet.
    pub fn insert(&self) -> String {
        let Self { id, ms, key, user, model, group, model_id, provider, spend, prompt, output, status, .. } = self;
        let at = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
        let (start, end) = (at(self.start), at(self.start + TimeDelta::milliseconds(*ms)));
        // Without a stream it is the end, of which LiteLLM cuts off what is no whole millisecond, and rounds the end itself.
        let first = self.ttft.unwrap_or(ms - prompt % 2);
        let first = at(self.start + TimeDelta::milliseconds(first));
        let call_type = match (self.is_refused, *model_id) {
            (true, _) => "",
            (false, "") => "pass_through_endpoint",
            _ => "acompletion",
        };
        let provided_by = if self.is_refused { "''" } else { "coalesce(nullif(model_id, ''), custom_llm_provider)" };
        let Self { team, organization, metadata, outcome, class, cache_read, cache_write, .. } = self;
        format!(
            r#"with r as (
               insert into "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, total_tokens, prompt_tokens,
                 completion_tokens, "startTime", "endTime", "completionStartTime", model, model_id, model_group,
                 custom_llm_provider, "user", team_id, organization_id, metadata, status)
               values ('{id}', '{call_type}', '{key}', {spend:?}, {prompt} + {output}, {prompt}, {output}, '{start}', '{end}',
                 '{first}', '{model}', '{model_id}', '{group}', '{provider}', '{user}', '{team}', '{organization}', '{metadata}', '{status}')
               on conflict do nothing returning *
             )
             insert into ever select request_id, "startTime", {ms}, {}, api_key, "user", team_id, organization_id, model_group,
               {provided_by}, spend, prompt_tokens, completion_tokens,
               '{outcome}', '{class}', {cache_read}, {cache_write} from r;"#,
            self.ttft.map_or("null".to_owned(), |ttft| ttft.to_string()),
        )
    }
}

pub const EVER: &str = "create table ever (request_id text, start timestamp(3), ms bigint, ttft bigint, key text,
    client text, team text, organization text, model text, provider text, spend float8, prompt bigint, output bigint, outcome text, class text,
    cache_read bigint, cache_write bigint)";
