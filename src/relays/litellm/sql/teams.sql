-- Teams with their budgets; no member is read. Full read of a small table. All releases; soft budgets since 2026-02.
select
  left(t.team_id, 256) as team_id,
  left(t.team_alias, 200) as alias,
  left(t.organization_id, 256) as organization_id,
  not t.blocked as enabled,
  t.spend,
  t.max_budget,
  {t.soft_budget:float8} as soft_budget,
  left(t.budget_duration, 20) as budget_duration,
  case when isfinite(t.budget_reset_at) then t.budget_reset_at end as budget_reset_at
from "LiteLLM_TeamTable" t
