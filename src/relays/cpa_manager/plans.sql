-- The plan of each account, as its upstream last told: among the last 20 observations of each of its windows. By
-- idx_quota_snapshots_latest. Plus, from v1.12.
select cast(w.account_key as blob) as account_key, cast(plan_type as blob) as plan_type, max(observed_at_ms) as observed_at_ms
from account_quota_windows w
cross join account_quota_snapshots on account_quota_snapshots.id in (
  select id
  from account_quota_snapshots
  where account_key = w.account_key
    and provider = w.provider
    and provider_window_id = w.provider_window_id
    and model_scope_kind = w.model_scope_kind
    and model_scope_key is w.model_scope_key
  order by observed_at_ms desc
  limit 20
)
where plan_type <> ''
group by w.account_key
