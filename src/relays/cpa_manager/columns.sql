-- Which of the relay's columns exist, and the index by which its quotas are read. Schema tables only.
select t.name as table_name, c.name as column_name
from sqlite_schema t, pragma_table_info(t.name) c
where t.type = 'table'
  and t.name in (
    'usage_events', 'model_prices', 'model_price_context_tiers', 'model_price_service_tiers', 'api_key_aliases',
    'dead_letter_events', 'quota_cooldowns', 'account_quota_windows', 'account_quota_snapshots',
    'usage_hourly_aggregate_v1', 'usage_hourly_aggregate_state'
  )
union all
select tbl_name, name
from sqlite_schema
where type = 'index' and name = 'idx_quota_snapshots_latest'
