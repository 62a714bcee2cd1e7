-- A role for llm-relay-exporter: reads what the exporter needs, no secret and no address of a person, writes nothing.
-- Run it in the relay's database as the owner of its tables, and again after an upgrade of the relay:
--   psql "$DSN" -f readonly-role.sql
--   psql "$DSN" -c '\password llm_relay_exporter'
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
      ('usage_logs', 'id created_at user_id api_key_id account_id model requested_model upstream_response_model
        upstream_model_mismatch input_tokens output_tokens cache_creation_tokens cache_creation_5m_tokens
        cache_creation_1h_tokens cache_read_tokens image_input_tokens input_cost cache_read_cost total_cost actual_cost
        account_stats_cost account_rate_multiplier rate_multiplier request_type duration_ms first_token_ms'),
      ('ops_error_logs', 'id created_at user_id api_key_id account_id model requested_model error_phase status_code
        upstream_status_code is_business_limited is_count_tokens'),
      ('ops_ingress_reject_aggregates', 'bucket_start reject_reason request_count'),
      ('ops_system_metrics', 'created_at'),
      ('users', 'id username role status balance rpm_limit deleted_at'),
      ('api_keys', 'id user_id name status expires_at quota quota_used rate_limit_5h rate_limit_1d rate_limit_7d usage_5h
        usage_1d usage_7d window_5h_start window_1d_start window_7d_start deleted_at'),
      ('accounts', 'id name platform type concurrency status schedulable rate_limit_reset_at overload_until
        temp_unschedulable_until expires_at auto_pause_on_expired session_window_end session_window_status deleted_at'),
      ('groups', 'id name daily_limit_usd weekly_limit_usd monthly_limit_usd deleted_at'),
      ('account_groups', 'account_id group_id'),
      ('user_subscriptions', 'id user_id group_id status starts_at expires_at daily_usage_usd weekly_usage_usd
        monthly_usage_usd daily_window_start weekly_window_start monthly_window_start deleted_at'),
      ('user_platform_quotas', 'user_id platform daily_limit_usd weekly_limit_usd monthly_limit_usd daily_usage_usd
        weekly_usage_usd monthly_usage_usd daily_window_start weekly_window_start monthly_window_start deleted_at'),
      ('usage_cleanup_tasks', 'id status deleted_rows'),
      ('usage_group_rollup_state', 'id timezone_name')
    ) as w (name, columns)
  loop
    if to_regclass('public.' || wanted.name) is not null then
      -- What an earlier run granted and is not read any more.
      execute format('revoke all on public.%I from llm_relay_exporter', wanted.name);
    end if;
    -- Only columns that this version of the relay has.
    select string_agg(format('%I', a.attname), ', ') into present
    from pg_attribute a
    where a.attrelid = to_regclass('public.' || wanted.name) and a.attnum > 0 and not a.attisdropped
      and a.attname = any (regexp_split_to_array(wanted.columns, '\s+'));
    if present is not null then
      execute format('grant select (%s) on public.%I to llm_relay_exporter', present, wanted.name);
    end if;
  end loop;
end
$$;

-- accounts.extra has what upstreams tell of their windows beside what nobody else may see, and settings has secrets: two
-- functions tell single values of each. Views would make the relay's own later changes of these columns fail at its start.
create or replace function public.relay_exporter_account_windows() returns table (id bigint, windows jsonb)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select a.id, (
    select jsonb_object_agg(e.key, e.value)
    from jsonb_each(case when jsonb_typeof(a.extra) = 'object' then a.extra else '{}' end) e
    where e.key in (
      'session_window_utilization', 'passive_usage_7d_utilization', 'passive_usage_7d_reset',
      'passive_usage_7d_oi_utilization', 'passive_usage_7d_oi_reset', 'passive_usage_sampled_at',
      'codex_5h_used_percent', 'codex_5h_reset_at', 'codex_7d_used_percent', 'codex_7d_reset_at',
      'codex_usage_updated_at', 'quota_limit', 'quota_used', 'quota_daily_limit', 'quota_daily_used',
      'quota_daily_start', 'quota_daily_reset_mode', 'quota_daily_reset_at', 'quota_weekly_limit', 'quota_weekly_used',
      'quota_weekly_start', 'quota_weekly_reset_mode', 'quota_weekly_reset_at'
    )
  )
  from public.accounts a
  where a.deleted_at is null
$$;
create or replace function public.relay_exporter_ops_settings() returns table (name text, value text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.key::text, s.value::text from public.settings s where s.key = 'ops_monitoring_enabled'
  union all
  select e.key, e.value
  from public.settings s
  cross join lateral jsonb_each_text(case when s.value like '{%' then s.value::jsonb else '{}' end) e
  where s.key = 'ops_advanced_settings' and e.key like 'ignore%'
$$;
revoke all on function public.relay_exporter_account_windows(), public.relay_exporter_ops_settings() from public;
grant execute on function public.relay_exporter_account_windows(), public.relay_exporter_ops_settings() to llm_relay_exporter;

alter role llm_relay_exporter set default_transaction_read_only = on;
alter role llm_relay_exporter set statement_timeout = '30s';
alter role llm_relay_exporter connection limit 6;
