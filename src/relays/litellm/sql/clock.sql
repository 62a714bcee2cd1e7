-- The server's clock as UTC, and the start of the oldest row. Index on "startTime". All releases.
select
  now() as now,
  (select min(l."startTime") from "LiteLLM_SpendLogs" l where l."startTime" >= '2020-01-01') as first
