-- Keys by name and id, and what is left of them. Primary key, a page at a time. ?: id after; ?: at most.
select
  id, user_id, name, status, expired_time, remain_quota, used_quota,
  case when unlimited_quota then 1 else 0 end as unlimited,
  case when {tokens.deleted_at:timestamp} is null then 0 else 1 end as deleted
from tokens
where id > ?
order by id
limit ?
