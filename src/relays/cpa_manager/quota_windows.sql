-- What upstreams last told of their quota windows: the newest observation of each, among the newest thousands. Codex'
-- main windows have the scope of the model family `codex_main`, others that of all models (Plus v1.12.2
-- `internal/codexquota/scope.go`); newest is what was observed last, not what was written last. Primary key. Plus.
select
  cast(account_key as blob) as account_key,
  cast(window_kind as blob) as window_kind,
  used_percent,
  cycle_end_ms,
  max(observed_at_ms) as observed_at_ms
from account_quota_snapshots
where id > (select max(id) from account_quota_snapshots) - 5000
  and (model_scope_kind = 'all' or (model_scope_kind = 'family' and model_scope_key = 'codex_main'))
  and window_kind in ('five_hour', 'rolling_24h', 'weekly', 'monthly')
group by account_key, provider_window_id
