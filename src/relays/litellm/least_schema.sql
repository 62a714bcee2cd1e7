-- The least of LiteLLM's tables, as its migrations up to 2026-10 leave them.
create table "LiteLLM_SpendLogs" (
  request_id text primary key,
  call_type text not null,
  api_key text default '' not null,
  spend double precision default 0.0 not null,
  total_tokens integer default 0 not null,
  prompt_tokens integer default 0 not null,
  completion_tokens integer default 0 not null,
  "startTime" timestamp(3) without time zone not null,
  "endTime" timestamp(3) without time zone not null,
  "completionStartTime" timestamp(3) without time zone,
  model text default '' not null,
  model_id text default '',
  model_group text default '',
  custom_llm_provider text default '',
  api_base text default '',
  "user" text default '',
  metadata jsonb default '{}',
  cache_hit text default '',
  cache_key text default '',
  request_tags jsonb default '[]',
  team_id text,
  end_user text,
  requester_ip_address text,
  messages jsonb default '{}',
  response jsonb default '{}',
  proxy_server_request jsonb default '{}',
  session_id text,
  status text,
  organization_id text
);
create index "LiteLLM_SpendLogs_startTime_idx" on "LiteLLM_SpendLogs" ("startTime");
create index "LiteLLM_SpendLogs_startTime_request_id_idx" on "LiteLLM_SpendLogs" ("startTime", request_id);
create table "LiteLLM_DailyUserSpend" (
  id text primary key,
  user_id text,
  date text not null,
  api_key text not null,
  model text,
  model_group text,
  custom_llm_provider text,
  mcp_namespaced_tool_name text,
  endpoint text,
  prompt_tokens bigint default 0 not null,
  completion_tokens bigint default 0 not null,
  cache_read_input_tokens bigint default 0 not null,
  cache_creation_input_tokens bigint default 0 not null,
  spend double precision default 0.0 not null,
  api_requests bigint default 0 not null,
  successful_requests bigint default 0 not null,
  failed_requests bigint default 0 not null,
  updated_at timestamp(3) without time zone not null
);
create unique index on "LiteLLM_DailyUserSpend"
  (user_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint);
create index "LiteLLM_DailyUserSpend_date_idx" on "LiteLLM_DailyUserSpend" (date);
create table "LiteLLM_DailyTeamSpend" (
  id text primary key,
  team_id text,
  date text not null,
  api_key text not null,
  model text,
  model_group text,
  custom_llm_provider text,
  mcp_namespaced_tool_name text,
  endpoint text,
  prompt_tokens bigint default 0 not null,
  completion_tokens bigint default 0 not null,
  cache_read_input_tokens bigint default 0 not null,
  cache_creation_input_tokens bigint default 0 not null,
  spend double precision default 0.0 not null,
  api_requests bigint default 0 not null,
  successful_requests bigint default 0 not null,
  failed_requests bigint default 0 not null,
  updated_at timestamp(3) without time zone not null
);
create unique index on "LiteLLM_DailyTeamSpend"
  (team_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint);
create index "LiteLLM_DailyTeamSpend_date_idx" on "LiteLLM_DailyTeamSpend" (date);
create table "LiteLLM_DailyOrganizationSpend" (
  id text primary key,
  organization_id text,
  date text not null,
  api_key text not null,
  model text,
  model_group text,
  custom_llm_provider text,
  mcp_namespaced_tool_name text,
  endpoint text,
  prompt_tokens bigint default 0 not null,
  completion_tokens bigint default 0 not null,
  cache_read_input_tokens bigint default 0 not null,
  cache_creation_input_tokens bigint default 0 not null,
  spend double precision default 0.0 not null,
  api_requests bigint default 0 not null,
  successful_requests bigint default 0 not null,
  failed_requests bigint default 0 not null,
  updated_at timestamp(3) without time zone not null
);
create unique index on "LiteLLM_DailyOrganizationSpend"
  (organization_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint);
create index "LiteLLM_DailyOrganizationSpend_date_idx" on "LiteLLM_DailyOrganizationSpend" (date);
create table "LiteLLM_VerificationToken" (
  token text primary key,
  key_name text,
  key_alias text,
  spend double precision default 0.0 not null,
  expires timestamp(3) without time zone,
  user_id text,
  team_id text,
  metadata jsonb default '{}' not null,
  blocked boolean,
  max_budget double precision,
  budget_duration text,
  budget_reset_at timestamp(3) without time zone,
  budget_id text,
  created_at timestamp(3) without time zone default current_timestamp
);
create table "LiteLLM_DeletedVerificationToken" (
  id text primary key,
  token text not null,
  key_name text,
  key_alias text,
  user_id text,
  team_id text,
  deleted_at timestamp(3) without time zone default current_timestamp not null
);
create table "LiteLLM_UserTable" (
  user_id text primary key,
  user_alias text,
  password text,
  user_role text,
  max_budget double precision,
  spend double precision default 0.0 not null,
  user_email text,
  budget_duration text,
  budget_reset_at timestamp(3) without time zone
);
create table "LiteLLM_TeamTable" (
  team_id text primary key,
  team_alias text,
  organization_id text,
  members text[],
  metadata jsonb default '{}' not null,
  max_budget double precision,
  soft_budget double precision,
  spend double precision default 0.0 not null,
  budget_duration text,
  budget_reset_at timestamp(3) without time zone,
  blocked boolean default false not null
);
create table "LiteLLM_OrganizationTable" (
  organization_id text primary key,
  organization_alias text not null,
  budget_id text not null,
  metadata jsonb default '{}' not null,
  spend double precision default 0.0 not null
);
create table "LiteLLM_BudgetTable" (
  budget_id text primary key,
  max_budget double precision,
  soft_budget double precision,
  budget_duration text,
  budget_reset_at timestamp(3) without time zone,
  created_by text not null,
  updated_by text not null
);
create table "LiteLLM_ProxyModelTable" (
  model_id text primary key,
  model_name text not null,
  litellm_params jsonb not null,
  created_by text not null,
  updated_by text not null,
  blocked boolean default false not null
);
create table "LiteLLM_HealthCheckTable" (
  health_check_id text primary key,
  model_name text not null,
  model_id text,
  status text not null,
  healthy_count integer default 0 not null,
  unhealthy_count integer default 0 not null,
  error_message text,
  response_time_ms double precision,
  details jsonb,
  checked_at timestamp(3) without time zone default current_timestamp not null,
  updated_at timestamp(3) without time zone not null
);
create index "LiteLLM_HealthCheckTable_checked_at_idx" on "LiteLLM_HealthCheckTable" (checked_at);
create table "LiteLLM_DailyEndUserSpend" (
  id text primary key,
  end_user_id text,
  date text not null,
  api_key text not null,
  model text,
  custom_llm_provider text,
  mcp_namespaced_tool_name text,
  endpoint text,
  api_requests bigint default 0 not null,
  updated_at timestamp(3) without time zone not null
);
create unique index on "LiteLLM_DailyEndUserSpend"
  (end_user_id, date, api_key, model, custom_llm_provider, mcp_namespaced_tool_name, endpoint);
create index "LiteLLM_DailyEndUserSpend_date_idx" on "LiteLLM_DailyEndUserSpend" (date);
create table "_prisma_migrations" (
  id varchar(36) primary key,
  checksum varchar(64) not null,
  finished_at timestamp with time zone,
  migration_name varchar(255) not null
);
insert into "_prisma_migrations" values ('1', '', now(), '20261015000000_managed_object_end_user_id');
