-- Claude Code Hub v0.7.1: an outcome for success rates, group prices, fixed five-hour windows; no token counting in the ledger.
alter table users
  add column limit_5h_reset_mode daily_reset_mode not null default 'rolling',
  add column limit_5h_cost_reset_at timestamptz;
alter table keys add column limit_5h_reset_mode daily_reset_mode not null default 'rolling';
alter table providers add column limit_5h_reset_mode daily_reset_mode not null default 'rolling';
alter table message_request
  add column group_cost_multiplier numeric(10, 4),
  add column actual_response_model varchar(128);
alter table usage_ledger
  add column group_cost_multiplier numeric(10, 4),
  add column success_rate_outcome varchar(16),
  add column actual_response_model varchar(128);

-- Null while the request runs and when its end says nothing about the provider.
create function fn_compute_message_request_success_rate_outcome(
  blocked_by varchar, status_code integer, error_message text, provider_chain jsonb
) returns varchar
language sql immutable as $$
  with last as (
    select case when jsonb_typeof(provider_chain) = 'array' then provider_chain -> -1 end as step
  ), facts as (
    select
      coalesce(step ->> 'reason', '') as reason,
      case when jsonb_typeof(step -> 'statusCode') = 'number' then (step ->> 'statusCode')::integer end as step_status,
      coalesce(step ->> 'errorMessage', '') as step_error,
      lower(coalesce(step ->> 'errorMessage', error_message, '')) as error,
      coalesce((step -> 'errorDetails') ? 'matchedRule', false) as rule_matched
    from last
  )
  select case
    when blocked_by is not null then 'excluded'
    when status_code is null and coalesce(error_message, '') = '' and step_status is null and step_error = ''
      and reason not in (
        'request_success', 'retry_success', 'retry_failed', 'system_error', 'resource_not_found',
        'client_error_non_retryable', 'concurrent_limit_failed', 'hedge_winner', 'hedge_loser_cancelled',
        'hedge_loser_billed', 'client_abort'
      ) then null
    when rule_matched then 'excluded'
    when coalesce(step_status, status_code) in (404, 499) then 'excluded'
    when reason in (
      'resource_not_found', 'concurrent_limit_failed', 'hedge_loser_cancelled', 'hedge_loser_billed',
      'client_error_non_retryable', 'client_abort'
    ) then 'excluded'
    when error ~ 'no available provider|insufficient quota|quota exceeded|rate[ _]limit|concurren(cy|t) limit|limit exceeded'
      then 'excluded'
    when reason in ('request_success', 'retry_success', 'hedge_winner') then 'success'
    when coalesce(step_status, status_code) between 200 and 399 then 'success'
    when step_status is null and error = '' and reason in (
      'session_reuse', 'initial_selection', 'hedge_triggered', 'hedge_launched', 'client_restriction_filtered',
      'http2_fallback'
    ) then null
    else 'failure'
  end
  from facts
$$;

create or replace function fn_upsert_usage_ledger() returns trigger
language plpgsql as $$
declare
  outcome varchar := fn_compute_message_request_success_rate_outcome(
    new.blocked_by, new.status_code, new.error_message, new.provider_chain);
begin
  if new.blocked_by = 'warmup' then
    update usage_ledger
    set blocked_by = 'warmup', success_rate_outcome = outcome, actual_response_model = new.actual_response_model
    where request_id = new.id;
    return new;
  end if;
  if lower(regexp_replace(new.endpoint, '/+$', '')) in ('/v1/messages/count_tokens', '/v1/responses/compact') then
    delete from usage_ledger where request_id = new.id;
    return new;
  end if;
  insert into usage_ledger as l (
    request_id, user_id, key, provider_id, final_provider_id, model, original_model, actual_response_model, endpoint,
    api_type, session_id, status_code, is_success, success_rate_outcome, blocked_by, cost_usd, cost_multiplier,
    group_cost_multiplier, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
    cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, duration_ms, ttfb_ms, created_at
  ) values (
    new.id, new.user_id, new.key, new.provider_id, ledger_final_provider(new.provider_chain, new.provider_id),
    new.model, new.original_model, new.actual_response_model, new.endpoint, new.api_type, new.session_id,
    new.status_code, coalesce(new.error_message, '') = '' and coalesce(new.status_code < 400, true), outcome,
    new.blocked_by, new.cost_usd, new.cost_multiplier, new.group_cost_multiplier, new.input_tokens, new.output_tokens,
    new.cache_creation_input_tokens, new.cache_read_input_tokens, new.cache_creation_5m_input_tokens,
    new.cache_creation_1h_input_tokens, new.duration_ms, new.ttfb_ms, new.created_at
  )
  on conflict (request_id) do update set
    (user_id, key, provider_id, final_provider_id, model, original_model, actual_response_model, endpoint, api_type,
     session_id, status_code, is_success, success_rate_outcome, blocked_by, cost_usd, cost_multiplier,
     group_cost_multiplier, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
     cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, duration_ms, ttfb_ms)
    = (excluded.user_id, excluded.key, excluded.provider_id, excluded.final_provider_id, excluded.model,
       excluded.original_model, excluded.actual_response_model, excluded.endpoint, excluded.api_type,
       excluded.session_id, excluded.status_code, excluded.is_success, excluded.success_rate_outcome,
       excluded.blocked_by, excluded.cost_usd, excluded.cost_multiplier, excluded.group_cost_multiplier,
       excluded.input_tokens, excluded.output_tokens, excluded.cache_creation_input_tokens,
       excluded.cache_read_input_tokens, excluded.cache_creation_5m_input_tokens,
       excluded.cache_creation_1h_input_tokens, excluded.duration_ms, excluded.ttfb_ms);
  return new;
exception when others then
  raise warning 'usage ledger, request %: %', new.id, sqlerrm;
  return new;
end
$$;
