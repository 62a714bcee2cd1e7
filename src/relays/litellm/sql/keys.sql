-- Keys with their budgets; the hash is compared here and shown nowhere. A key with a duration of its own is set back by that,
-- else by that of its budget (proxy/common_utils/reset_budget_job.py, 1.110.2). Primary keys, and a full read of the budgets.
-- All releases.
select
  k.token,
  left(k.key_alias, 200) as alias,
  left(k.user_id, 256) as user_id,
  not coalesce(k.blocked, false) as enabled,
  case when isfinite(k.expires) then k.expires end as expires_at,
  case when isfinite(k.created_at) then k.created_at end as created_at,
  k.spend,
  coalesce(k.max_budget, b.max_budget) as max_budget,
  {b.soft_budget:float8} as soft_budget,
  left(coalesce(k.budget_duration, b.budget_duration), 20) as budget_duration,
  case when k.budget_duration is null and isfinite(b.budget_reset_at) then b.budget_reset_at
    when k.budget_duration is not null and isfinite(k.budget_reset_at) then k.budget_reset_at end as budget_reset_at
from "LiteLLM_VerificationToken" k
left join "LiteLLM_BudgetTable" b on b.budget_id = k.budget_id
