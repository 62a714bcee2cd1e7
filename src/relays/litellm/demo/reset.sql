-- LiteLLM's job for budgets whose window has ended, of the lengths that the demo has.
update "LiteLLM_VerificationToken" t set spend = 0
from "LiteLLM_BudgetTable" b
where b.budget_id = t.budget_id and b.budget_reset_at <= now() at time zone 'UTC';
update "LiteLLM_OrganizationTable" o set spend = 0
from "LiteLLM_BudgetTable" b
where b.budget_id = o.budget_id and b.budget_reset_at <= now() at time zone 'UTC';
update "LiteLLM_BudgetTable" set
  budget_reset_at = case budget_duration
    when '1mo' then date_trunc('month', now() at time zone 'UTC') + interval '1 month'
    else date_trunc('day', now() at time zone 'UTC') + interval '1 day'
  end
where budget_reset_at <= now() at time zone 'UTC';
update "LiteLLM_UserTable" set
  spend = 0,
  budget_reset_at = case budget_duration
    when '7d' then date_trunc('week', now() at time zone 'UTC') + interval '7 days'
    else date_trunc('month', now() at time zone 'UTC') + interval '1 month'
  end
where budget_reset_at <= now() at time zone 'UTC';
update "LiteLLM_TeamTable" set
  spend = 0,
  budget_reset_at = case budget_duration
    when '7d' then date_trunc('week', now() at time zone 'UTC') + interval '7 days'
    else date_trunc('day', now() at time zone 'UTC') + interval '10 days'
  end
where budget_reset_at <= now() at time zone 'UTC'
