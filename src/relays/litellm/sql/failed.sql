-- Whether a request of yesterday failed. Index on "startTime". All releases.
select exists (
  select from "LiteLLM_SpendLogs" l
  where l."startTime" >= (now() at time zone 'UTC')::date - 1 and l."startTime" < (now() at time zone 'UTC')::date
    and coalesce(l.metadata ->> 'status', l.status) = 'failure'
) as has_failed
