-- Users, without their addresses. Reads the whole table.
select
  u.id::bigint as id,
  u.username as name,
  u.role,
  u.status = 'active' as enabled,
  u.deleted_at is not null as deleted,
  u.balance,
  {u.rpm_limit:integer} as requests_per_minute
from users u
order by u.id
