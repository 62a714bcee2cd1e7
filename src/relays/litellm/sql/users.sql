-- Users with their budgets; no address is read. Full read of a small table. All releases.
select
  left(u.user_id, 256) as user_id,
  left(u.user_alias, 200) as alias,
  coalesce(left(u.user_role, 50), '') as role,
  u.spend,
  u.max_budget,
  null::float8 as soft_budget,
  left(u.budget_duration, 20) as budget_duration,
  case when isfinite(u.budget_reset_at) then u.budget_reset_at end as budget_reset_at
from "LiteLLM_UserTable" u
