-- What upstreams last told of their quota windows that hold for all models: the newest observation of each, among the
-- newest thousands. Primary key. Plus.
select
  cast(account_key as blob) as account_key,
  cast(window_kind as blob) as window_kind,
  used_percent,
  cycle_end_ms,
  max(id) as id
from account_quota_snapshots
where id > (select max(id) from account_quota_snapshots) - 5000
  and model_scope_kind = 'all'
  and window_kind in ('five_hour', 'rolling_24h', 'weekly', 'monthly')
group by account_key, provider_window_id
