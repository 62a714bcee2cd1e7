-- Rows by the hour of their start, index-only on "startTime" for each. $1, $2: from the hour of this to this. All releases.
select
  extract(epoch from h.start)::bigint / 3600 as hour,
  (select count(*)::bigint from "LiteLLM_SpendLogs" l
   where l."startTime" >= h.start and l."startTime" < h.start + interval '1 hour') as rows
from generate_series(date_trunc('hour', $1::timestamp), $2::timestamp, interval '1 hour') as h (start)
