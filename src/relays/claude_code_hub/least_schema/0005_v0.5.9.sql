-- Claude Code Hub v0.5.9: the usage ledger, which a trigger keeps in step with the log and which survives its clean-up.
create table usage_ledger (
  id serial primary key,
  request_id integer not null,
  user_id integer not null,
  key varchar not null,
  provider_id integer not null,
  final_provider_id integer not null,
  model varchar(128),
  original_model varchar(128),
  endpoint varchar(256),
  api_type varchar(20),
  session_id varchar(64),
  status_code integer,
  is_success boolean not null default false,
  blocked_by varchar(50),
  cost_usd numeric(21, 15) default '0',
  cost_multiplier numeric(10, 4),
  input_tokens bigint,
  output_tokens bigint,
  cache_creation_input_tokens bigint,
  cache_read_input_tokens bigint,
  cache_creation_5m_input_tokens bigint,
  cache_creation_1h_input_tokens bigint,
  duration_ms integer,
  ttfb_ms integer,
  created_at timestamptz not null
);
create unique index idx_usage_ledger_request_id on usage_ledger (request_id);
create index idx_usage_ledger_created_at_desc_id on usage_ledger (created_at desc nulls last, id desc nulls last);
create index idx_usage_ledger_user_created_at on usage_ledger (user_id, created_at) where blocked_by is null;
create index idx_usage_ledger_key_created_at on usage_ledger (key, created_at) where blocked_by is null;
create index idx_usage_ledger_provider_created_at on usage_ledger (final_provider_id, created_at) where blocked_by is null;
create index idx_usage_ledger_user_cost_cover on usage_ledger (user_id, created_at, cost_usd) where blocked_by is null;
create index idx_usage_ledger_key_cost on usage_ledger (key, created_at, cost_usd) where blocked_by is null;
create index idx_usage_ledger_provider_cost_cover on usage_ledger (final_provider_id, created_at, cost_usd) where blocked_by is null;
create index idx_usage_ledger_model on usage_ledger (model) where model is not null;

-- The provider that answered last: the last element of the chain, when it names one by number.
create function ledger_final_provider(chain jsonb, first_provider integer) returns integer
language sql immutable as $$
  select case
    when jsonb_typeof(chain) = 'array' and chain -> -1 ->> 'id' ~ '^[0-9]+$' then (chain -> -1 ->> 'id')::integer
    else first_provider
  end
$$;

create function fn_upsert_usage_ledger() returns trigger
language plpgsql as $$
begin
  if new.blocked_by = 'warmup' then
    update usage_ledger set blocked_by = 'warmup' where request_id = new.id;
    return new;
  end if;
  insert into usage_ledger as l (
    request_id, user_id, key, provider_id, final_provider_id, model, original_model, endpoint, api_type, session_id,
    status_code, is_success, blocked_by, cost_usd, cost_multiplier, input_tokens, output_tokens,
    cache_creation_input_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens,
    cache_creation_1h_input_tokens, duration_ms, ttfb_ms, created_at
  ) values (
    new.id, new.user_id, new.key, new.provider_id, ledger_final_provider(new.provider_chain, new.provider_id),
    new.model, new.original_model, new.endpoint, new.api_type, new.session_id,
    new.status_code, coalesce(new.error_message, '') = '', new.blocked_by, new.cost_usd, new.cost_multiplier,
    new.input_tokens, new.output_tokens, new.cache_creation_input_tokens, new.cache_read_input_tokens,
    new.cache_creation_5m_input_tokens, new.cache_creation_1h_input_tokens, new.duration_ms, new.ttfb_ms, new.created_at
  )
  on conflict (request_id) do update set
    (user_id, key, provider_id, final_provider_id, model, original_model, endpoint, api_type, session_id,
     status_code, is_success, blocked_by, cost_usd, cost_multiplier, input_tokens, output_tokens,
     cache_creation_input_tokens, cache_read_input_tokens, cache_creation_5m_input_tokens,
     cache_creation_1h_input_tokens, duration_ms, ttfb_ms)
    = (excluded.user_id, excluded.key, excluded.provider_id, excluded.final_provider_id, excluded.model,
       excluded.original_model, excluded.endpoint, excluded.api_type, excluded.session_id, excluded.status_code,
       excluded.is_success, excluded.blocked_by, excluded.cost_usd, excluded.cost_multiplier, excluded.input_tokens,
       excluded.output_tokens, excluded.cache_creation_input_tokens, excluded.cache_read_input_tokens,
       excluded.cache_creation_5m_input_tokens, excluded.cache_creation_1h_input_tokens, excluded.duration_ms,
       excluded.ttfb_ms);
  return new;
exception when others then
  raise warning 'usage ledger, request %: %', new.id, sqlerrm;
  return new;
end
$$;

create trigger trg_upsert_usage_ledger after insert or update on message_request
for each row execute function fn_upsert_usage_ledger();
