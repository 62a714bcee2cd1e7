-- What upstreams last told of the quota windows that the relay's pages show: the newest observation of each. Codex' main
-- windows have the scope of the model family `codex_main`, others that of all models (Plus v1.12.2
-- `internal/codexquota/scope.go`); newest is what was observed last, not what was written last. Reads one row per window
-- by idx_quota_snapshots_latest, however many the relay keeps. Plus, from v1.12.
select cast(w.account_key as blob) as account_key, cast(w.window_kind as blob) as window_kind, used_percent, cycle_end_ms
from account_quota_windows w
cross join account_quota_snapshots on account_quota_snapshots.id = (
  select id
  from account_quota_snapshots
  where account_key = w.account_key
    and provider = w.provider
    and provider_window_id = w.provider_window_id
    and model_scope_kind = w.model_scope_kind
    and model_scope_key is w.model_scope_key
  order by observed_at_ms desc
  limit 1
)
where w.availability <> 'inactive'
  and (w.model_scope_kind = 'all' or (w.model_scope_kind = 'family' and w.model_scope_key = 'codex_main'))
  and w.window_kind in ('five_hour', 'rolling_24h', 'weekly', 'monthly')
