-- CPA-Manager v1.0: the columns and indexes that the exporter reads or relies on, and what a row cannot be without.
create table usage_events (
  id integer primary key autoincrement,
  event_hash text not null unique,
  request_id text,
  timestamp_ms integer not null,
  timestamp text not null,
  provider text,
  model text not null,
  endpoint text,
  method text,
  path text,
  auth_type text,
  auth_index text,
  source text,
  source_hash text,
  api_key_hash text,
  input_tokens integer not null default 0,
  output_tokens integer not null default 0,
  reasoning_tokens integer not null default 0,
  cached_tokens integer not null default 0,
  cache_tokens integer not null default 0,
  total_tokens integer not null default 0,
  latency_ms integer,
  failed integer not null default 0,
  raw_json text,
  created_at_ms integer not null
);
create index idx_usage_events_timestamp on usage_events (timestamp_ms);
create index idx_usage_events_request_id on usage_events (request_id);
create index idx_usage_events_model on usage_events (model);
create index idx_usage_events_auth_index on usage_events (auth_index);
create index idx_usage_events_endpoint on usage_events (endpoint);

create table dead_letter_events (
  id integer primary key autoincrement,
  payload text not null,
  error text not null,
  created_at_ms integer not null
);

create table settings (
  key text primary key,
  value text not null,
  updated_at_ms integer not null
);

create table model_prices (
  model text primary key,
  prompt_per_1m real not null,
  completion_per_1m real not null,
  cache_per_1m real not null,
  source text,
  source_model_id text,
  raw_json text,
  updated_at_ms integer not null,
  synced_at_ms integer
);
