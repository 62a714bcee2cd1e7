-- Users: names, roles and what is left in their wallets. Primary key, a page at a time. ?: id after; ?: at most.
select id, username, role, status, quota, used_quota, case when {users.deleted_at:timestamp} is null then 0 else 1 end as deleted
from users
where id > ?
order by id
limit ?
