-- Rows of the ledger. The caller's condition is served by the primary key (new, older), by the unique index on
-- request_id (again) or by the index on created_at (between). All versions.
-- The limit stands inside: only the keys of those few rows are looked at and put in order. A key itself stays here.
with wanted as materialized (
  select
    l.id, l.request_id, l.user_id, l.key, l.final_provider_id, l.model, l.original_model,
    {l.actual_response_model:varchar} as actual_response_model, l.endpoint, l.status_code, l.is_success,
    {l.success_rate_outcome:varchar} as success_rate_outcome, {succeeded} as succeeded, l.blocked_by, {l.is_replay:boolean} as is_replay,
    l.cost_usd, l.cost_multiplier, {l.group_cost_multiplier:numeric} as group_cost_multiplier, l.input_tokens,
    l.output_tokens, l.cache_creation_input_tokens, l.cache_read_input_tokens, l.cache_creation_5m_input_tokens,
    l.cache_creation_1h_input_tokens, l.duration_ms, l.ttfb_ms, {l.first_byte_ms:integer} as first_byte_ms, l.created_at
  from {ledger} l
  where {which}
)
select
  l.id::bigint as id,
  l.request_id::bigint as request_id,
  case when l.created_at >= '2000-01-01' and l.created_at < '10000-01-01' then l.created_at end as started_at,
  {counted} as counted,
  {is_error} as is_error,
  l.is_success,
  l.success_rate_outcome,
  l.succeeded,
  l.blocked_by is not null as blocked,
  l.user_id::bigint as user_id,
  k.id::bigint as key_id,
  l.final_provider_id::bigint as provider_id,
  l.model,
  l.original_model,
  l.actual_response_model,
  l.status_code::bigint as status_code,
  nullif(l.cost_usd, 'NaN') as cost_usd,
  l.cost_usd = 'NaN' as cost_unknown,
  coalesce(l.cost_multiplier, 1) * coalesce(l.group_cost_multiplier, 1) as multiplier,
  l.input_tokens::bigint as input_tokens,
  l.output_tokens::bigint as output_tokens,
  l.cache_creation_input_tokens::bigint as cache_creation_input_tokens,
  l.cache_read_input_tokens::bigint as cache_read_input_tokens,
  l.cache_creation_5m_input_tokens::bigint as cache_creation_5m_input_tokens,
  l.cache_creation_1h_input_tokens::bigint as cache_creation_1h_input_tokens,
  l.duration_ms::bigint as duration_ms,
  l.ttfb_ms::bigint as ttfb_ms,
  ({first_byte})::bigint as first_byte_ms
from wanted l
left join (
  select distinct on (k.key) k.key, k.id
  from keys k
  where k.key in (select w.key from wanted w)
  order by k.key, k.deleted_at is not null, k.is_enabled is not true, k.id
) k on k.key = l.key
