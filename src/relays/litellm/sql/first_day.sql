-- The server's clock as UTC, and the first day of LiteLLM's own counters. Index on (date). All releases.
select
  now() as now,
  (select min(d.date) from "LiteLLM_DailyUserSpend" d where d.date >= '2020-01-01' and d.date < '2200-01-01') as first
