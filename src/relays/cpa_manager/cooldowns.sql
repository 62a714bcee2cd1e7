-- Credentials that the relay has switched off until their quota recovers. Reads a small table. Plus.
-- ?1: now, in Unix milliseconds.
select distinct cast(auth_index as blob) as auth_index, cast(provider as blob) as provider
from quota_cooldowns
where status = 'active' and recover_at_ms > ?1
