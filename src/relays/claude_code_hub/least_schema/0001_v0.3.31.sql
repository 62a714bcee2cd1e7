-- Claude Code Hub up to v0.3.31, reduced to what the exporter and the demo touch: one wide log, no ledger.
create type daily_reset_mode as enum ('fixed', 'rolling');

create table users (
  id serial primary key,
  name varchar not null,
  description text,
  role varchar default 'user',
  rpm_limit integer,
  daily_limit_usd numeric(10, 2),
  provider_group varchar(200) default 'default',
  limit_5h_usd numeric(10, 2),
  limit_weekly_usd numeric(10, 2),
  limit_monthly_usd numeric(10, 2),
  limit_total_usd numeric(10, 2),
  limit_concurrent_sessions integer,
  tags jsonb default '[]',
  is_enabled boolean not null default true,
  expires_at timestamptz,
  daily_reset_mode daily_reset_mode not null default 'fixed',
  daily_reset_time varchar(5) not null default '00:00',
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  deleted_at timestamptz
);

-- The secret has no unique constraint: two rows may share it.
create table keys (
  id serial primary key,
  user_id integer not null,
  key varchar not null,
  name varchar not null,
  is_enabled boolean default true,
  expires_at timestamp,
  limit_5h_usd numeric(10, 2),
  limit_daily_usd numeric(10, 2),
  daily_reset_mode daily_reset_mode not null default 'fixed',
  daily_reset_time varchar(5) not null default '00:00',
  limit_weekly_usd numeric(10, 2),
  limit_monthly_usd numeric(10, 2),
  limit_total_usd numeric(10, 2),
  limit_concurrent_sessions integer default 0,
  provider_group varchar(200) default 'default',
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  deleted_at timestamptz
);
create index idx_keys_user_id on keys (user_id);

create table providers (
  id serial primary key,
  name varchar not null,
  description text,
  url varchar not null,
  key varchar not null,
  is_enabled boolean not null default true,
  weight integer not null default 1,
  priority integer not null default 0,
  cost_multiplier numeric(10, 4) default 1.0,
  group_tag varchar(255),
  provider_type varchar(20) not null default 'claude',
  limit_5h_usd numeric(10, 2),
  limit_daily_usd numeric(10, 2),
  daily_reset_mode daily_reset_mode not null default 'fixed',
  daily_reset_time varchar(5) not null default '00:00',
  limit_weekly_usd numeric(10, 2),
  limit_monthly_usd numeric(10, 2),
  limit_concurrent_sessions integer default 0,
  circuit_breaker_failure_threshold integer default 5,
  circuit_breaker_open_duration integer default 1800000,
  proxy_url varchar(512),
  mcp_passthrough_url varchar(512),
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  deleted_at timestamptz
);

create table model_prices (
  id serial primary key,
  model_name varchar not null,
  price_data jsonb not null,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create index idx_model_prices_latest on model_prices (model_name, created_at desc);

create table system_settings (
  id serial primary key,
  site_title varchar(128) not null default 'CC Hub',
  currency_display varchar(10) not null default 'USD',
  billing_model_source varchar(20) not null default 'original',
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table message_request (
  id serial primary key,
  provider_id integer not null,
  user_id integer not null,
  key varchar not null,
  model varchar(128),
  original_model varchar(128),
  duration_ms integer,
  cost_usd numeric(21, 15) default '0',
  cost_multiplier numeric(10, 4),
  session_id varchar(64),
  request_sequence integer default 1,
  provider_chain jsonb,
  status_code integer,
  api_type varchar(20),
  endpoint varchar(256),
  input_tokens integer,
  output_tokens integer,
  cache_creation_input_tokens integer,
  cache_read_input_tokens integer,
  cache_creation_5m_input_tokens integer,
  cache_creation_1h_input_tokens integer,
  error_message text,
  blocked_by varchar(50),
  blocked_reason text,
  user_agent varchar(512),
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  deleted_at timestamptz
);
create index idx_message_request_user_date_cost on message_request (user_id, created_at, cost_usd) where deleted_at is null;
create index idx_message_request_provider_id on message_request (provider_id);
create index idx_message_request_user_id on message_request (user_id);
create index idx_message_request_key on message_request (key);
create index idx_message_request_created_at on message_request (created_at);
