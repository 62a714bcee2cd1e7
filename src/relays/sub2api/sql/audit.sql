-- The relay's own sums over a span of times, by all that labels come from. Index on created_at. $1, $2: from, to (exclusive).
select
  l.account_id::bigint as account_id,
  {model} as model,
  {l.request_type:smallint} is not distinct from 4 as refused,
  count(*)::bigint as requests,
  coalesce(sum(l.actual_cost), 0) as cost,
  coalesce(sum(l.total_cost), 0) as list_cost,
  coalesce(sum(
    l.input_tokens::bigint + l.output_tokens + l.cache_creation_tokens + l.cache_read_tokens
  ), 0)::bigint as board_tokens,
  (coalesce(sum(greatest(l.duration_ms, 0)), 0) + coalesce(sum(greatest(l.first_token_ms, 0)), 0))::bigint as millis
from usage_logs l
where l.created_at >= $1 and l.created_at < $2
group by 1, 2, 3
