-- The relay's own sums over a span of start times, by all that labels come from. Index on created_at. All versions.
-- $1, $2: from, to (exclusive).
select
  l.final_provider_id::bigint as provider_id,
  l.model,
  l.original_model,
  {l.success_rate_outcome:varchar} as success_rate_outcome,
  l.status_code::bigint as status_code,
  l.is_success,
  l.blocked_by is not null as blocked,
  count(*)::bigint as requests,
  coalesce(sum(nullif(l.cost_usd, 'NaN')), 0) as cost_usd,
  coalesce(sum(greatest(
    l.input_tokens::numeric + l.output_tokens
      + coalesce(l.cache_creation_input_tokens, 0) + coalesce(l.cache_read_input_tokens, 0),
    0
  )), 0) as board_tokens,
  coalesce(sum(greatest(l.duration_ms, 0)), 0)::bigint + coalesce(sum(greatest(l.ttfb_ms, 0)), 0)::bigint as millis,
  (count(*) filter (where {is_error}))::bigint as errors
from {ledger} l
where {counted} and l.created_at >= $1 and l.created_at < $2
group by 1, 2, 3, 4, 5, 6, 7
