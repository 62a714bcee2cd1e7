-- Upstream accounts, without what they connect with, and the groups that they serve. Reads the whole table, some dozens or
-- thousands of rows.
select
  a.id::bigint as id,
  a.name,
  a.platform,
  a.type as kind,
  a.status,
  a.schedulable,
  a.deleted_at is not null as deleted,
  a.concurrency,
  {a.auto_pause_on_expired:boolean} and a.expires_at <= now() as expired,
  {finite a.overload_until} as overload_until,
  {finite a.rate_limit_reset_at} as rate_limit_reset_at,
  {finite a.temp_unschedulable_until:timestamptz} as cools_until,
  {finite a.session_window_end:timestamptz} as session_window_end,
  {a.session_window_status:varchar} as session_window_status,
  (
    select string_agg(g.name, ',' order by g.name)
    from account_groups m join groups g on g.id = m.group_id and g.deleted_at is null
    where m.account_id = a.id
  ) as groups,
  now() as now
from accounts a
order by a.id
