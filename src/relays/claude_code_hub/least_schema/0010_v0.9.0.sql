-- Claude Code Hub v0.9.0 to v0.9.2: replays, session identities, the true first byte; the trigger fires by column.
alter table message_request
  add column first_byte_ms integer,
  add column session_identity varchar(64),
  add column is_replay boolean not null default false,
  add column routing_trace jsonb;
alter table usage_ledger
  add column first_byte_ms integer,
  add column session_identity varchar(64),
  add column is_replay boolean not null default false;

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
    api_type, session_id, session_identity, is_replay, status_code, is_success, success_rate_outcome, blocked_by, cost_usd, cost_multiplier,
    group_cost_multiplier, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
    cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, duration_ms, ttfb_ms, first_byte_ms, created_at
  ) values (
    new.id, new.user_id, new.key, new.provider_id, ledger_final_provider(new.provider_chain, new.provider_id),
    new.model, new.original_model, new.actual_response_model, new.endpoint, new.api_type, new.session_id,
    new.session_identity, new.is_replay, new.status_code, coalesce(new.error_message, '') = '' and coalesce(new.status_code < 400, true), outcome,
    new.blocked_by, case when new.is_replay then 0 else new.cost_usd end, new.cost_multiplier, new.group_cost_multiplier, new.input_tokens, new.output_tokens,
    new.cache_creation_input_tokens, new.cache_read_input_tokens, new.cache_creation_5m_input_tokens,
    new.cache_creation_1h_input_tokens, new.duration_ms, new.ttfb_ms, new.first_byte_ms, new.created_at
  )
  on conflict (request_id) do update set
    (user_id, key, provider_id, final_provider_id, model, original_model, actual_response_model, endpoint, api_type,
     session_id, session_identity, is_replay, status_code, is_success, success_rate_outcome, blocked_by, cost_usd, cost_multiplier,
     group_cost_multiplier, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
     cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, duration_ms, ttfb_ms, first_byte_ms)
    = (excluded.user_id, excluded.key, excluded.provider_id, excluded.final_provider_id, excluded.model,
       excluded.original_model, excluded.actual_response_model, excluded.endpoint, excluded.api_type,
       excluded.session_id, excluded.session_identity, excluded.is_replay, excluded.status_code, excluded.is_success, excluded.success_rate_outcome,
       excluded.blocked_by, excluded.cost_usd, excluded.cost_multiplier, excluded.group_cost_multiplier,
       excluded.input_tokens, excluded.output_tokens, excluded.cache_creation_input_tokens,
       excluded.cache_read_input_tokens, excluded.cache_creation_5m_input_tokens,
       excluded.cache_creation_1h_input_tokens, excluded.duration_ms, excluded.ttfb_ms, excluded.first_byte_ms);
  return new;
exception when others then
  raise warning 'usage ledger, request %: %', new.id, sqlerrm;
  return new;
end
$$;

drop trigger trg_upsert_usage_ledger on message_request;
create trigger trg_upsert_usage_ledger after insert or update of
  blocked_by, status_code, error_message, provider_chain, actual_response_model, endpoint, provider_id, user_id, key,
  model, original_model, api_type, session_id, session_identity, is_replay, cost_usd, cost_multiplier,
  group_cost_multiplier, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens,
  cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, duration_ms, ttfb_ms, first_byte_ms, created_at
on message_request for each row execute function fn_upsert_usage_ledger();

drop index
  idx_usage_ledger_user_created_at, idx_usage_ledger_key_created_at, idx_usage_ledger_provider_created_at,
  idx_usage_ledger_user_cost_cover, idx_usage_ledger_key_cost, idx_usage_ledger_provider_cost_cover;
create index idx_usage_ledger_user_created_at
  on usage_ledger (user_id, created_at) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_key_created_at
  on usage_ledger (key, created_at) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_provider_created_at
  on usage_ledger (final_provider_id, created_at) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_user_cost_cover
  on usage_ledger (user_id, created_at, cost_usd, endpoint) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_key_cost
  on usage_ledger (key, created_at, cost_usd, endpoint) where blocked_by is null and is_replay = false;
create index idx_usage_ledger_provider_cost_cover
  on usage_ledger (final_provider_id, created_at, cost_usd, endpoint) where blocked_by is null and is_replay = false;
