-- A role for llm-relay-exporter: reads what the exporter needs and no upstream secret, writes nothing.
-- Run it in the relay's database as the owner of its tables, and again after an upgrade of the relay:
--   psql "$DSN" -f readonly-role.sql
--   psql "$DSN" -c '\password llm_relay_exporter'
-- The relay keeps its clients' keys as plain text. The exporter compares them inside the database, to tell whose usage
-- a row is; they never leave it. providers.key and providers.url are not readable for this role. Up to v0.5.8 it may read
-- message_request.error_message, of which it is asked whether there is any; later releases say that in usage_ledger.
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
      ('usage_ledger', 'id request_id user_id key final_provider_id model original_model actual_response_model endpoint
        status_code is_success success_rate_outcome blocked_by is_replay cost_usd cost_multiplier group_cost_multiplier
        input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens cache_creation_5m_input_tokens
        cache_creation_1h_input_tokens duration_ms ttfb_ms first_byte_ms created_at'),
      ('users', 'id name role is_enabled deleted_at limit_5h_usd limit_5h_reset_mode daily_limit_usd daily_reset_mode
        daily_reset_time limit_weekly_usd limit_monthly_usd limit_total_usd cost_reset_at limit_5h_cost_reset_at expires_at
        limit_concurrent_sessions rpm_limit'),
      ('keys', 'id user_id key name is_enabled expires_at deleted_at limit_5h_usd limit_5h_reset_mode limit_daily_usd
        daily_reset_mode daily_reset_time limit_weekly_usd limit_monthly_usd limit_total_usd cost_reset_at
        limit_concurrent_sessions'),
      ('providers', 'id name provider_type group_tag is_enabled deleted_at limit_concurrent_sessions limit_5h_usd
        limit_5h_reset_mode limit_daily_usd daily_reset_mode daily_reset_time limit_weekly_usd limit_monthly_usd
        limit_total_usd total_cost_reset_at circuit_breaker_failure_threshold'),
      ('system_settings', 'id timezone billing_model_source currency_display enable_high_concurrency_mode'),
      ('model_prices', 'id model_name price_data created_at'),
      -- Only up to v0.5.8, which had no ledger.
      ('message_request', 'id user_id key provider_id model original_model endpoint status_code blocked_by cost_usd
        cost_multiplier error_message input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens
        cache_creation_5m_input_tokens cache_creation_1h_input_tokens duration_ms ttfb_ms created_at deleted_at')
    ) as w (name, columns)
  loop
    if to_regclass('public.' || wanted.name) is not null then
      -- What an earlier run granted and is not read any more.
      execute format('revoke all on public.%I from llm_relay_exporter', wanted.name);
    end if;
    select string_agg(quote_ident(a.attname), ', ') into present
    from pg_attribute a
    where a.attrelid = to_regclass('public.' || wanted.name) and a.attnum > 0 and not a.attisdropped
      and a.attname = any (regexp_split_to_array(wanted.columns, '\s+'));
    if present is not null and (wanted.name <> 'message_request' or to_regclass('public.usage_ledger') is null) then
      execute format('grant select (%s) on public.%I to llm_relay_exporter', present, wanted.name);
    end if;
  end loop;
end
$$;

alter role llm_relay_exporter connection limit 8;
alter role llm_relay_exporter set default_transaction_read_only = on;
alter role llm_relay_exporter set statement_timeout = '30s';
