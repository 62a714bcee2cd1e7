-- Organizations with their budgets. Full read of two small tables. All releases.
select
  left(o.organization_id, 256) as organization_id,
  left(o.organization_alias, 200) as alias,
  o.spend,
  b.max_budget,
  {b.soft_budget:float8} as soft_budget,
  left(b.budget_duration, 20) as budget_duration,
  case when isfinite(b.budget_reset_at) then b.budget_reset_at end as budget_reset_at
from "LiteLLM_OrganizationTable" o
left join "LiteLLM_BudgetTable" b on b.budget_id = o.budget_id
