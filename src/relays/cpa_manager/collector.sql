-- How the collector does: the newest row, and how many queue items it could not understand since the beginning.
-- Primary key; sqlite_sequence has one row per table. All generations.
select
  e.timestamp_ms, e.latency_ms, e.created_at_ms,
  coalesce((select seq from sqlite_sequence where name = 'dead_letter_events'), 0) as dead_letters
from (select 1)
left join (
  select
    cast(timestamp_ms as integer) as timestamp_ms,
    max(cast(coalesce(latency_ms, 0) as integer), 0) as latency_ms,
    cast(created_at_ms as integer) as created_at_ms
  from usage_events
  order by id desc
  limit 1
) e
