-- A role for llm-relay-exporter in the PostgreSQL of new-api or one-api: reads what the exporter needs and no secret, writes
-- nothing. Run it in the relay's database as the owner of its tables, and again after an upgrade of the relay:
--   psql "$SQL_DSN" -f readonly-role.sql
--   psql "$SQL_DSN" -c '\password llm_relay_exporter'
-- Where the relay has LOG_SQL_DSN, run it in that database as well.
do $$
declare
  wanted record;
  present text;
begin
  if not exists (select from pg_roles where rolname = 'llm_relay_exporter') then
    create role llm_relay_exporter login;
  end if;
  execute format('grant connect on database %I to llm_relay_exporter', current_database());
  grant usage on schema public to llm_relay_exporter;
  for wanted in
    select * from (values
      ('logs', 'id created_at type user_id token_id channel_id model_name quota prompt_tokens completion_tokens use_time
        is_stream other elapsed_time'),
      ('users', 'id username role status quota used_quota request_count deleted_at'),
      ('tokens', 'id user_id name status expired_time remain_quota unlimited_quota used_quota deleted_at'),
      ('channels', 'id type status name group response_time test_time balance balance_updated_time channel_info other_info'),
      ('user_subscriptions', 'user_id plan_id amount_total amount_used status end_time next_reset_time'),
      ('subscription_plans', 'id quota_reset_period'),
      ('system_instances', 'info last_seen_at')
    ) as w (name, columns)
  loop
    if to_regclass('public.' || wanted.name) is not null then
      -- What an earlier run granted and is not read any more.
      execute format('revoke all on public.%I from llm_relay_exporter', wanted.name);
    end if;
    select string_agg(quote_ident(a.attname), ', ') into present
    from pg_attribute a
    where a.attrelid = to_regclass('public.' || wanted.name) and a.attnum > 0 and not a.attisdropped
      and (a.attname = any (regexp_split_to_array(wanted.columns, '\s+'))
        -- Of one-api, whose log names keys by user and name alone.
        or (a.attrelid = to_regclass('public.logs') and a.attname = 'token_name' and not exists (
          select from pg_attribute it where it.attrelid = a.attrelid and it.attname = 'token_id' and not it.attisdropped
        )));
    if present is not null then
      execute format('grant select (%s) on public.%I to llm_relay_exporter', present, wanted.name);
    end if;
  end loop;
  -- The table of options has secrets beside what numbers rest on. A view, as an earlier run made it, would hold up
  -- pg_restore --clean and the relay's own later changes of the table.
  drop view if exists public.exporter_options;
  if to_regclass('public.options') is not null then
    create or replace function public.exporter_options() returns table (key text, value text)
    language sql stable security definer set search_path = pg_catalog, pg_temp as $function$
      select o.key::text, o.value::text from public.options o where o.key in (
        'QuotaPerUnit', 'DisplayInCurrencyEnabled', 'general_setting.quota_display_type', 'LogConsumeEnabled'
      )
    $function$;
    revoke all on function public.exporter_options() from public;
    grant execute on function public.exporter_options() to llm_relay_exporter;
  end if;
end
$$;

alter role llm_relay_exporter connection limit 8;
alter role llm_relay_exporter set default_transaction_read_only = on;
alter role llm_relay_exporter set statement_timeout = '30s';
