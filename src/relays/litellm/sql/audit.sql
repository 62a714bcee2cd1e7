-- The sums of a span of starts: cost and tokens of all rows, requests and errors of those that are requests. A float is rounded as the reader does it: to 10^-15
-- dollars, or where it is too great for that to 10^-6. Index on "startTime". $1, $2: from, to (exclusive). All releases.
select
  (count(*) filter (where not {is_internal}))::bigint as requests,
  coalesce(sum(
    case
      when abs(l.spend) < 9e3 then round(l.spend * 1e15)::bigint::numeric
      when abs(l.spend) < 9e9 then round(l.spend * 1e6)::bigint::numeric * 1000000000
    end
  ), 0)::numeric(60, 0)::text as femto,
  coalesce(sum(greatest(l.prompt_tokens, 0)::bigint + greatest(l.completion_tokens, 0)), 0)::bigint as board_tokens,
  (count(*) filter (where coalesce(l.metadata ->> 'status', l.status) = 'failure' and not {is_internal}))::bigint as errors
from "LiteLLM_SpendLogs" l
where l."startTime" >= $1 and l."startTime" < $2
