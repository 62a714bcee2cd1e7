-- What tells rows of a range of the primary key from others with their ids.
select id, created_at, user_id, quota
from logs
where {which}
