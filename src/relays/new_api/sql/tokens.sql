-- Keys by name and id, and what is left of them. A key is what its user is: the relay lets nobody in whose user is off or
-- gone (new-api `middleware/auth.go`, one-api v0.6.10 `middleware/auth.go`), and a deleted user's keys may stay in the table.
-- Primary keys, a page at a time. ?: id after; ?: at most.
select
  id, user_id, name, expired_time, remain_quota, used_quota,
  case when unlimited_quota then 1 else 0 end as unlimited,
  case when status = 1 and exists (
    select 1 from users where users.id = tokens.user_id and users.status = 1
  ) then 1 else 0 end as enabled,
  case when {tokens.deleted_at:timestamp} is null and exists (
    select 1 from users
    where users.id = tokens.user_id and coalesce(users.status, 0) <> 3 and {users.deleted_at:timestamp} is null
  ) then 0 else 1 end as deleted
from tokens
where id > ?
order by id
limit ?
