-- The plan of each account, as its upstream last told, among the newest thousands of observations. Primary key. Plus.
select cast(account_key as blob) as account_key, cast(plan_type as blob) as plan_type, max(observed_at_ms) as observed_at_ms
from account_quota_snapshots
where id > (select max(id) from account_quota_snapshots) - 5000 and plan_type <> ''
group by account_key
