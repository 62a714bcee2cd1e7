-- sub2api 0.1.104: the tables and columns that the reader, the demo and the tests need, and secrets beside them.
create table users (
  id bigserial primary key,
  email varchar(255) not null default '',
  password_hash varchar(255) not null default '',
  username varchar(100) not null default '',
  role varchar(20) not null default 'user',
  status varchar(20) not null default 'active',
  balance numeric(20, 8) not null default 0,
  concurrency integer not null default 5,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz
);
create table groups (
  id bigserial primary key,
  name varchar(100) not null,
  platform varchar(50) not null default 'anthropic',
  status varchar(20) not null default 'active',
  rate_multiplier numeric(10, 4) not null default 1,
  subscription_type varchar(20) not null default 'standard',
  daily_limit_usd numeric(20, 8),
  weekly_limit_usd numeric(20, 8),
  monthly_limit_usd numeric(20, 8),
  deleted_at timestamptz
);
create unique index groups_name_unique_active on groups (name) where deleted_at is null;
create table api_keys (
  id bigserial primary key,
  user_id bigint not null references users (id) on delete cascade,
  key varchar(128) not null unique,
  name varchar(100) not null,
  group_id bigint references groups (id) on delete set null,
  status varchar(20) not null default 'active',
  quota numeric(20, 8) not null default 0,
  quota_used numeric(20, 8) not null default 0,
  expires_at timestamptz,
  last_used_at timestamptz,
  rate_limit_5h numeric(20, 8) not null default 0,
  rate_limit_1d numeric(20, 8) not null default 0,
  rate_limit_7d numeric(20, 8) not null default 0,
  usage_5h numeric(20, 8) not null default 0,
  usage_1d numeric(20, 8) not null default 0,
  usage_7d numeric(20, 8) not null default 0,
  window_5h_start timestamptz,
  window_1d_start timestamptz,
  window_7d_start timestamptz,
  deleted_at timestamptz
);
create table accounts (
  id bigserial primary key,
  name varchar(100) not null,
  platform varchar(50) not null,
  type varchar(20) not null,
  credentials jsonb not null default '{}',
  extra jsonb not null default '{}',
  notes text,
  error_message text,
  concurrency integer not null default 3,
  priority integer not null default 50,
  rate_multiplier numeric(10, 4) not null default 1,
  status varchar(20) not null default 'active',
  schedulable boolean not null default true,
  rate_limited_at timestamptz,
  rate_limit_reset_at timestamptz,
  overload_until timestamptz,
  temp_unschedulable_until timestamptz,
  temp_unschedulable_reason text,
  expires_at timestamptz,
  auto_pause_on_expired boolean not null default true,
  session_window_start timestamptz,
  session_window_end timestamptz,
  session_window_status varchar(20),
  deleted_at timestamptz
);
create table account_groups (
  account_id bigint not null references accounts (id) on delete cascade,
  group_id bigint not null references groups (id) on delete cascade,
  priority integer not null default 50,
  primary key (account_id, group_id)
);
create table user_subscriptions (
  id bigserial primary key,
  user_id bigint not null references users (id) on delete cascade,
  group_id bigint not null references groups (id) on delete cascade,
  status varchar(20) not null default 'active',
  starts_at timestamptz not null,
  expires_at timestamptz not null,
  daily_window_start timestamptz,
  weekly_window_start timestamptz,
  monthly_window_start timestamptz,
  daily_usage_usd numeric(20, 10) not null default 0,
  weekly_usage_usd numeric(20, 10) not null default 0,
  monthly_usage_usd numeric(20, 10) not null default 0,
  notes text,
  deleted_at timestamptz
);
create table settings (
  id bigserial primary key,
  key varchar(100) not null unique,
  value text not null
);
create table usage_logs (
  id bigserial primary key,
  user_id bigint not null references users (id) on delete cascade,
  api_key_id bigint not null references api_keys (id) on delete cascade,
  account_id bigint not null references accounts (id) on delete cascade,
  request_id varchar(64),
  model varchar(100) not null,
  input_tokens integer not null default 0,
  output_tokens integer not null default 0,
  cache_creation_tokens integer not null default 0,
  cache_read_tokens integer not null default 0,
  cache_creation_5m_tokens integer not null default 0,
  cache_creation_1h_tokens integer not null default 0,
  input_cost numeric(20, 10) not null default 0,
  output_cost numeric(20, 10) not null default 0,
  cache_creation_cost numeric(20, 10) not null default 0,
  cache_read_cost numeric(20, 10) not null default 0,
  total_cost numeric(20, 10) not null default 0,
  actual_cost numeric(20, 10) not null default 0,
  stream boolean not null default false,
  duration_ms integer,
  created_at timestamptz not null default now(),
  group_id bigint references groups (id) on delete set null,
  subscription_id bigint references user_subscriptions (id) on delete set null,
  rate_multiplier numeric(10, 4) not null default 1,
  first_token_ms integer,
  billing_type smallint not null default 0,
  user_agent varchar(512),
  ip_address varchar(45),
  image_count integer,
  account_rate_multiplier numeric(10, 4),
  reasoning_effort varchar(20),
  openai_ws_mode boolean not null default false,
  request_type smallint not null default 0,
  service_tier varchar(16),
  inbound_endpoint varchar(128),
  upstream_endpoint varchar(128),
  upstream_model varchar(100)
);
create index idx_usage_logs_created_at on usage_logs (created_at);
create unique index idx_usage_logs_request_id_api_key_unique on usage_logs (request_id, api_key_id);
create index idx_usage_logs_user_created on usage_logs (user_id, created_at);
create index idx_usage_logs_api_key_created_at on usage_logs (api_key_id, created_at);
create index idx_usage_logs_account_created_at on usage_logs (account_id, created_at);
create table ops_error_logs (
  id bigserial primary key,
  request_id varchar(64),
  client_request_id varchar(64),
  user_id bigint,
  api_key_id bigint,
  account_id bigint,
  group_id bigint,
  client_ip inet,
  platform varchar(32),
  model varchar(100),
  request_path varchar(256),
  stream boolean not null default false,
  user_agent text,
  error_phase varchar(32) not null,
  error_type varchar(64) not null,
  severity varchar(8) not null default 'P2',
  status_code integer,
  is_business_limited boolean not null default false,
  is_count_tokens boolean not null default false,
  error_message text,
  error_body text,
  error_source varchar(64),
  error_owner varchar(32),
  upstream_status_code integer,
  upstream_error_message text,
  duration_ms integer,
  created_at timestamptz not null default now()
);
create index idx_ops_error_logs_created_at on ops_error_logs (created_at desc);
create index idx_ops_error_logs_client_request_id on ops_error_logs (client_request_id);
create table ops_system_metrics (
  id bigserial primary key,
  created_at timestamptz not null default now()
);
create index idx_ops_system_metrics_created_at on ops_system_metrics (created_at desc);
create table usage_cleanup_tasks (
  id bigserial primary key,
  status varchar(20) not null,
  filters jsonb not null default '{}',
  deleted_rows bigint not null default 0,
  finished_at timestamptz
);
