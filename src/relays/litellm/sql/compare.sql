-- One day by the rows and by LiteLLM's own counters: the requests of callers. Indexes on "startTime" and on (date).
-- $1: the day, or null for yesterday. All releases.
select
  (select count(*)::bigint from "LiteLLM_SpendLogs" l
   where l."startTime" >= d.day and l."startTime" < d.day + interval '1 day' and not {is_internal}) as rows,
  (select coalesce(sum(s.api_requests), 0)::bigint from "LiteLLM_DailyUserSpend" s
   where s.date = to_char(d.day, 'YYYY-MM-DD')) as counted
from (select coalesce($1::date, (now() at time zone 'UTC')::date - 1)::timestamp as day) d
