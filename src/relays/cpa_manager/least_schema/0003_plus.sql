-- CPA-Manager-Plus: normalized tokens, time to first token, status of failures, tiers, quotas, hourly sums.
alter table usage_events add column cache_read_tokens integer not null default 0;
alter table usage_events add column cache_creation_tokens integer not null default 0;
alter table usage_events add column normalized_uncached_input_tokens integer;
alter table usage_events add column normalized_total_input_tokens integer;
alter table usage_events add column normalized_cache_read_tokens integer;
alter table usage_events add column normalized_cache_creation_tokens integer;
alter table usage_events add column ttft_ms integer;
alter table usage_events add column fail_status_code integer;
alter table usage_events add column fail_summary text;
alter table usage_events add column service_tier text;
alter table usage_events add column client_ip text;
alter table usage_events add column user_agent text;

alter table model_prices add column cache_read_per_1m real not null default 0;
alter table model_prices add column cache_creation_per_1m real not null default 0;
alter table model_prices add column prompt_configured integer not null default 0;
alter table model_prices add column completion_configured integer not null default 0;
alter table model_prices add column cache_read_configured integer not null default 0;
alter table model_prices add column cache_creation_configured integer not null default 0;

create table model_price_context_tiers (
  model text not null references model_prices (model) on delete cascade,
  threshold_tokens integer not null,
  prompt_per_1m real not null default 0,
  completion_per_1m real not null default 0,
  cache_per_1m real not null default 0,
  cache_read_per_1m real not null default 0,
  cache_creation_per_1m real not null default 0,
  prompt_configured integer not null default 0,
  completion_configured integer not null default 0,
  cache_configured integer not null default 0,
  cache_read_configured integer not null default 0,
  cache_creation_configured integer not null default 0,
  primary key (model, threshold_tokens)
);

create table model_price_service_tiers (
  model text not null references model_prices (model) on delete cascade,
  mode text not null,
  service_tier text not null,
  prompt_per_1m real not null default 0,
  completion_per_1m real not null default 0,
  cache_per_1m real not null default 0,
  cache_read_per_1m real not null default 0,
  cache_creation_per_1m real not null default 0,
  prompt_configured integer not null default 0,
  completion_configured integer not null default 0,
  cache_configured integer not null default 0,
  cache_read_configured integer not null default 0,
  cache_creation_configured integer not null default 0,
  primary key (model, mode, service_tier)
);

create table usage_hourly_aggregate_v1 (
  bucket_ms integer not null,
  model text not null,
  billing_model text not null,
  service_tier text not null,
  failed integer not null,
  calls integer not null default 0,
  total_tokens integer not null default 0,
  primary key (bucket_ms, model, billing_model, service_tier, failed)
);

create table usage_hourly_aggregate_state (
  aggregate_name text primary key,
  schema_version integer not null,
  status text not null,
  coverage_event_id integer not null default 0
);

create table quota_cooldowns (
  id integer primary key autoincrement,
  auth_file_name text not null,
  auth_index text,
  provider text,
  window_kind text,
  recover_at_ms integer not null,
  status text not null
);

create table account_quota_snapshots (
  id integer primary key autoincrement,
  account_key text not null,
  provider text not null,
  provider_window_id text not null,
  window_kind text not null,
  model_scope_kind text not null,
  model_scope_key text,
  observed_at_ms integer not null,
  cycle_end_ms integer,
  used_percent real,
  plan_type text
);
create index idx_quota_snapshots_latest on account_quota_snapshots (
  account_key, provider, provider_window_id, model_scope_kind, model_scope_key, observed_at_ms desc
);

create table account_quota_windows (
  id integer primary key autoincrement,
  account_key text not null,
  provider text not null,
  provider_window_id text not null,
  window_kind text not null,
  model_scope_kind text not null,
  model_scope_key text,
  scope_fingerprint text not null,
  availability text not null,
  unique (account_key, provider, provider_window_id, scope_fingerprint)
);
