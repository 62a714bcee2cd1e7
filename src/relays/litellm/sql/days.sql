-- Some days of LiteLLM's own counters, by what {id} and {model} are. A float is rounded row by row, so that every process has
-- the same sum. Index on (date). $1: the days. All releases.
select
  left({id}, 256) as id,
  left({model}, 200) as model,
  coalesce(sum(d.api_requests), 0)::bigint as requests,
  coalesce(sum(d.successful_requests), 0)::bigint as successes,
  coalesce(sum(d.failed_requests), 0)::bigint as failures,
  coalesce(sum(greatest(d.prompt_tokens, 0)), 0)::bigint as prompt,
  coalesce(sum(greatest(d.completion_tokens, 0)), 0)::bigint as completion,
  coalesce(sum(greatest(d.cache_read_input_tokens, 0)), 0)::bigint as cache_read,
  coalesce(sum(greatest(d.cache_creation_input_tokens, 0)), 0)::bigint as cache_written,
  coalesce(sum(
    case
      when abs(d.spend) < 9e3 then round(d.spend * 1e15)::bigint::numeric
      when abs(d.spend) < 9e9 then round(d.spend * 1e6)::bigint::numeric * 1000000000
    end
  ), 0)::numeric(60, 0)::text as femto
from {table} d
where d.date = any($1) and d.api_key <> '__ptu_flat_cost__'
group by 1, 2
