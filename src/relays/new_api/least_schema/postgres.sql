-- new-api of 2026-08, in PostgreSQL: the tables and columns that are read, those that hold secrets beside them, and the indexes.
create table logs (
  id bigserial primary key, user_id bigint, created_at bigint, type bigint, content text, username text default '',
  token_name text default '', model_name text default '', quota bigint default 0, prompt_tokens bigint default 0,
  completion_tokens bigint default 0, use_time bigint default 0, is_stream boolean, channel_id bigint,
  channel_name text, token_id bigint default 0, "group" text, ip text default '', request_id varchar(64) default '',
  upstream_request_id varchar(128) default '', other text
);
create index idx_created_at_type on logs (created_at, type);
create index idx_created_at_id on logs (created_at, id);
create index idx_user_id_id on logs (user_id, id);
create table channels (
  id bigserial primary key, type bigint default 0, key text not null, status bigint default 1, name text,
  created_time bigint, test_time bigint, response_time bigint, base_url text default '', balance numeric,
  balance_updated_time bigint, models text, "group" varchar(64) default 'default', used_quota bigint default 0,
  priority bigint default 0, auto_ban bigint default 1, other_info text, tag text, channel_info json
);
create table tokens (
  id bigserial primary key, user_id bigint, key varchar(128), status bigint default 1, name text, created_time bigint,
  accessed_time bigint, expired_time bigint default -1, remain_quota bigint default 0, unlimited_quota boolean,
  model_limits_enabled boolean, model_limits text, allow_ips text default '', used_quota bigint default 0,
  "group" text default '', deleted_at timestamptz
);
create table users (
  id bigserial primary key, username text unique, password text not null, display_name text, role bigint default 1,
  status bigint default 1, email text, access_token char(32), quota bigint default 0, used_quota bigint default 0,
  request_count bigint default 0, "group" varchar(64) default 'default', deleted_at timestamptz, setting text
);
create table user_subscriptions (
  id bigserial primary key, user_id bigint, plan_id bigint, amount_total bigint not null default 0,
  amount_used bigint not null default 0, start_time bigint, end_time bigint, status varchar(32),
  next_reset_time bigint default 0
);
create table subscription_plans (id bigserial primary key, title varchar(128) not null, quota_reset_period varchar(16) default 'never');
create table options (key text primary key, value text);
create table system_instances (node_name varchar(128) primary key, info text, started_at bigint, last_seen_at bigint);
