-- new-api of 2026-08, in MySQL and MariaDB: the tables and columns that are read, those that hold secrets beside them, and the indexes.
create table logs (
  id bigint auto_increment primary key, user_id bigint, created_at bigint, type bigint, content longtext, username varchar(191) default '',
  token_name varchar(191) default '', model_name varchar(191) default '', quota bigint default 0, prompt_tokens bigint default 0,
  completion_tokens bigint default 0, use_time bigint default 0, is_stream tinyint(1), channel_id bigint,
  channel_name longtext, token_id bigint default 0, `group` longtext, ip varchar(191) default '', request_id varchar(64) default '',
  upstream_request_id varchar(128) default '', other longtext
);
create index idx_created_at_type on logs (created_at, type);
create index idx_created_at_id on logs (created_at, id);
create index idx_user_id_id on logs (user_id, id);
create table channels (
  id bigint auto_increment primary key, type bigint default 0, `key` longtext not null, status bigint default 1, name longtext,
  created_time bigint, test_time bigint, response_time bigint, base_url varchar(191) default '', balance double,
  balance_updated_time bigint, models longtext, `group` varchar(64) default 'default', used_quota bigint default 0,
  priority bigint default 0, auto_ban bigint default 1, other_info longtext, tag longtext, channel_info json
);
create table tokens (
  id bigint auto_increment primary key, user_id bigint, `key` varchar(128), status bigint default 1, name longtext, created_time bigint,
  accessed_time bigint, expired_time bigint default -1, remain_quota bigint default 0, unlimited_quota tinyint(1),
  model_limits_enabled tinyint(1), model_limits longtext, allow_ips varchar(191) default '', used_quota bigint default 0,
  `group` varchar(191) default '', deleted_at datetime(3)
);
create table users (
  id bigint auto_increment primary key, username varchar(191) unique, password longtext not null, display_name longtext, role bigint default 1,
  status bigint default 1, email longtext, access_token char(32), quota bigint default 0, used_quota bigint default 0,
  request_count bigint default 0, `group` varchar(64) default 'default', deleted_at datetime(3), setting longtext
);
create table user_subscriptions (
  id bigint auto_increment primary key, user_id bigint, plan_id bigint, amount_total bigint not null default 0,
  amount_used bigint not null default 0, start_time bigint, end_time bigint, status varchar(32),
  next_reset_time bigint default 0
);
create table subscription_plans (id bigint auto_increment primary key, title varchar(128) not null, quota_reset_period varchar(16) default 'never');
create table options (`key` varchar(191) primary key, value longtext);
create table system_instances (node_name varchar(128) primary key, info longtext, started_at bigint, last_seen_at bigint);
