-- The relay's own sum over a span of start times. Index on created_at. All versions. $1, $2: from, to (exclusive).
select
  count(*)::bigint as requests,
  coalesce(sum(nullif(l.cost_usd, 'NaN')), 0) as cost_usd,
  coalesce(sum(greatest(
    l.input_tokens::numeric + l.output_tokens
      + coalesce(l.cache_creation_input_tokens, 0) + coalesce(l.cache_read_input_tokens, 0),
    0
  )), 0) as board_tokens,
  (count(*) filter (where {is_error}))::bigint as errors
from {ledger} l
where {counted} and l.created_at >= $1 and l.created_at < $2
