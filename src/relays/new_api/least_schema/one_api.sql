-- one-api v0.6.11 on SQLite: the tables and columns that are read, those that hold secrets beside them, and the indexes.
-- v0.6.10 has the log without request_id, elapsed_time, is_stream and system_prompt_reset.
create table logs (
  id integer primary key, user_id integer, created_at integer, type integer, content text, username text default '',
  token_name text default '', model_name text default '', quota integer default 0, prompt_tokens integer default 0,
  completion_tokens integer default 0, channel_id integer, request_id text default '', elapsed_time integer default 0,
  is_stream numeric default false, system_prompt_reset numeric default false
);
create index idx_created_at_type on logs (created_at, type);
create table channels (
  id integer primary key, type integer default 0, key text, status integer default 1, name text, created_time integer,
  test_time integer, response_time integer, base_url text default '', balance real, balance_updated_time integer,
  models text, "group" varchar(32) default 'default', used_quota integer default 0, priority integer default 0, config text
);
create table tokens (
  id integer primary key, user_id integer, key char(48), status integer default 1, name text, created_time integer,
  accessed_time integer, expired_time integer default -1, remain_quota integer default 0,
  unlimited_quota numeric default false, used_quota integer default 0, models text, subnet text default ''
);
create table users (
  id integer primary key, username text unique, password text not null, display_name text, role integer default 1,
  status integer default 1, email text, lark_id text, access_token char(32), quota integer default 0,
  used_quota integer default 0, request_count integer default 0, "group" varchar(32) default 'default'
);
create table options (key text primary key, value text);
