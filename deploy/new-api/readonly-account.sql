-- An account for llm-relay-exporter in the MySQL or MariaDB of new-api: reads what the exporter needs and no secret, writes
-- nothing. Put in a password and the name of the relay's database, and run it as an administrator. An older release lacks
-- some columns and tables: leave these out. Where the relay has LOG_SQL_DSN, grant logs there.
-- Run again after an upgrade, it takes back what is not read any more.
drop user if exists 'llm_relay_exporter'@'%';
create user 'llm_relay_exporter'@'%' identified by '...';
grant select (id, created_at, type, user_id, token_id, channel_id, model_name, quota, prompt_tokens, completion_tokens,
  use_time, is_stream, other) on newapi.logs to 'llm_relay_exporter'@'%';
grant select (id, username, role, status, quota, used_quota, request_count, deleted_at)
  on newapi.users to 'llm_relay_exporter'@'%';
grant select (id, user_id, name, status, expired_time, remain_quota, unlimited_quota, used_quota, deleted_at)
  on newapi.tokens to 'llm_relay_exporter'@'%';
grant select (id, type, status, name, `group`, response_time, test_time, balance, balance_updated_time, channel_info,
  other_info) on newapi.channels to 'llm_relay_exporter'@'%';
grant select (user_id, plan_id, amount_total, amount_used, status, end_time, next_reset_time)
  on newapi.user_subscriptions to 'llm_relay_exporter'@'%';
grant select (id, quota_reset_period) on newapi.subscription_plans to 'llm_relay_exporter'@'%';
grant select (info, last_seen_at) on newapi.system_instances to 'llm_relay_exporter'@'%';
-- The table of options has secrets beside what numbers rest on. A restore by the relay's account ends with error 1227 at a
-- view of an administrator: dump with `mysqldump --ignore-table=newapi.exporter_options`, or write
-- `definer = 'RELAY_ACCOUNT'@'HOST'` before `sql security`.
create or replace sql security definer view newapi.exporter_options as
  select `key`, value from newapi.options where `key` in (
    'QuotaPerUnit', 'DisplayInCurrencyEnabled', 'general_setting.quota_display_type', 'LogConsumeEnabled'
  );
grant select on newapi.exporter_options to 'llm_relay_exporter'@'%';
