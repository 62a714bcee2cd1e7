-- What the relay's processes tell of themselves, twice a minute. A table of some rows. ?: a second.
select info
from system_instances
where last_seen_at >= ? and length(info) <= 65536
order by last_seen_at desc
limit 1
