-- Both ends of the ledger. Primary key for the top, the index on timestamp_ms for the first day. All generations.
select
  coalesce((select max(id) from usage_events), 0) as top,
  (select min(timestamp_ms) from usage_events where timestamp_ms >= 946684800000) as first_ms
