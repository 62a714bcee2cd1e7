-- The ids of a span of time. Index (created_at, type); without the limit a planner may walk along the primary key.
-- ?, ?: seconds from, to (exclusive).
select coalesce(min(id), 0) as first, coalesce(max(id), 0) as last
from (
  select id from logs where created_at >= ? and created_at < ? and type in ({types}) limit 9000000000000000000
) t
