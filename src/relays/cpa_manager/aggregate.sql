-- The relay's hourly sums against its events, where they are made. Walks over both once. Plus.
select
  s.coverage_event_id as covered,
  (select coalesce(sum(calls), 0) from usage_hourly_aggregate_v1) as calls,
  (select count(*) from usage_events where id <= s.coverage_event_id) as events
from usage_hourly_aggregate_state s
where s.aggregate_name = 'hourly_core' and s.schema_version = 3 and s.status = 'ready'
