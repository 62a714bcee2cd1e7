-- Credentials that the relay has ever switched off until their quota recovers, and when it means to switch those on again
-- that are off now. Reads a small table. Plus.
select
  cast(auth_index as blob) as auth_index,
  max(status = 'active') as cooling,
  max(case when status = 'active' then recover_at_ms end) as recover_at_ms
from quota_cooldowns
where auth_index <> ''
group by auth_index
