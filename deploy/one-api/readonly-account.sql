-- An account for llm-relay-exporter in the MySQL or MariaDB of one-api: reads what the exporter needs and no secret, writes
-- nothing. Put in a password and the name of the relay's database, and run it as an administrator. v0.6.10 has neither
-- elapsed_time nor is_stream: leave these out. Where the relay has LOG_SQL_DSN, grant logs there.
-- Run again after an upgrade, it takes back what is not read any more.
drop user if exists 'llm_relay_exporter'@'%';
create user 'llm_relay_exporter'@'%' identified by '...';
grant select (id, created_at, type, user_id, token_name, channel_id, model_name, quota, prompt_tokens, completion_tokens,
  elapsed_time, is_stream) on oneapi.logs to 'llm_relay_exporter'@'%';
grant select (id, username, role, status, quota, used_quota, request_count)
  on oneapi.users to 'llm_relay_exporter'@'%';
grant select (id, user_id, name, status, expired_time, remain_quota, unlimited_quota, used_quota)
  on oneapi.tokens to 'llm_relay_exporter'@'%';
grant select (id, type, status, name, `group`, response_time, test_time, balance, balance_updated_time)
  on oneapi.channels to 'llm_relay_exporter'@'%';
-- The table of options has secrets beside what numbers rest on. A restore by the relay's account ends with error 1227 at a
-- view of an administrator: dump with `mysqldump --ignore-table=oneapi.exporter_options`, or write
-- `definer = 'RELAY_ACCOUNT'@'HOST'` before `sql security`.
create or replace sql security definer view oneapi.exporter_options as
  select `key`, value from oneapi.options where `key` in (
    'QuotaPerUnit', 'DisplayInCurrencyEnabled', 'LogConsumeEnabled'
  );
grant select on oneapi.exporter_options to 'llm_relay_exporter'@'%';
