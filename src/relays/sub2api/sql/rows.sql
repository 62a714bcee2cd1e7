-- Requests that were answered. The caller's condition is a range of the primary key, or of the index on created_at. Costs
-- have ten places; the account's, a product of two, has fourteen. The price of an uncached token is that of the row's own.
select
  l.id::bigint as id,
  {finite l.created_at} as ended_at,
  l.user_id::bigint as user_id,
  l.api_key_id::bigint as key_id,
  l.account_id::bigint as account_id,
  {model} as model,
  case when {l.upstream_model_mismatch:boolean} then {l.upstream_response_model:varchar} end as answered_model,
  {l.request_type:smallint} as request_type,
  l.input_tokens::bigint as input_tokens,
  l.output_tokens::bigint as output_tokens,
  l.cache_read_tokens::bigint as cache_read_tokens,
  l.cache_creation_tokens::bigint as cache_creation_tokens,
  l.cache_creation_5m_tokens::bigint as cache_creation_5m_tokens,
  l.cache_creation_1h_tokens::bigint as cache_creation_1h_tokens,
  l.actual_cost,
  l.total_cost as list_cost,
  coalesce({l.account_stats_cost:numeric}, l.total_cost) * coalesce({l.account_rate_multiplier:numeric}, 1) as account_cost,
  case when l.cache_read_tokens > 0 and l.input_cost > 0 and l.input_tokens > coalesce({l.image_input_tokens:integer}, 0)
    then round((
      l.cache_read_tokens * l.input_cost / (l.input_tokens - coalesce({l.image_input_tokens:integer}, 0)) - l.cache_read_cost
    ) * coalesce(l.rate_multiplier, 1), 15) end as cache_saved,
  l.duration_ms,
  l.first_token_ms
from usage_logs l
where {which}
