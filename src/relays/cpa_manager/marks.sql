-- What tells a row from another with its id. Primary key. All generations.
select id, cast(timestamp_ms as integer) as timestamp_ms, cast(created_at_ms as integer) as created_at_ms
from usage_events
where id >= ?1 and id <= ?2
order by id
limit ?3
