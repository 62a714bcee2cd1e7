-- Which types the newest rows have. Primary key. ?: id after.
select type, count(*) as rows_of_type, max(created_at) as newest
from logs
where id > ?
group by type
