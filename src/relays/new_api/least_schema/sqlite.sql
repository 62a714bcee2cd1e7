-- new-api of 2026-08: the tables and columns that are read, those that hold secrets beside them, and the indexes.
create table logs (
  id integer primary key, user_id integer, created_at integer, type integer, content text, username text default '',
  token_name text default '', model_name text default '', quota integer default 0, prompt_tokens integer default 0,
  completion_tokens integer default 0, use_time integer default 0, is_stream numeric, channel_id integer,
  channel_name text, token_id integer default 0, "group" text, ip text default '', request_id varchar(64) default '',
  upstream_request_id varchar(128) default '', other text
);
create index idx_created_at_type on logs (created_at, type);
create index idx_created_at_id on logs (created_at, id);
create index idx_user_id_id on logs (user_id, id);
create table channels (
  id integer primary key, type integer default 0, key text not null, status integer default 1, name text,
  created_time integer, test_time integer, response_time integer, base_url text default '', balance real,
  balance_updated_time integer, models text, "group" varchar(64) default 'default', used_quota integer default 0,
  priority integer default 0, auto_ban integer default 1, other_info text, tag text, channel_info json
);
create table tokens (
  id integer primary key, user_id integer, key varchar(128), status integer default 1, name text, created_time integer,
  accessed_time integer, expired_time integer default -1, remain_quota integer default 0, unlimited_quota numeric,
  model_limits_enabled numeric, model_limits text, allow_ips text default '', used_quota integer default 0,
  "group" text default '', deleted_at datetime
);
create table users (
  id integer primary key, username text unique, password text not null, display_name text, role integer default 1,
  status integer default 1, email text, access_token char(32), quota integer default 0, used_quota integer default 0,
  request_count integer default 0, "group" varchar(64) default 'default', deleted_at datetime, setting text
);
create table user_subscriptions (
  id integer primary key, user_id integer, plan_id integer, amount_total bigint not null default 0,
  amount_used bigint not null default 0, start_time integer, end_time integer, status varchar(32),
  next_reset_time bigint default 0
);
create table subscription_plans (id integer primary key, title varchar(128) not null, quota_reset_period varchar(16) default 'never');
create table options (key text primary key, value text);
create table system_instances (node_name varchar(128) primary key, info text, started_at integer, last_seen_at integer);
