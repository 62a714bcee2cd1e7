-- Credentials that the relay has ever switched off until their quota recovers, and whether one is off now. Reads a small
-- table. Plus. ?1: now, in Unix milliseconds.
select cast(auth_index as blob) as auth_index, max(status = 'active' and recover_at_ms > ?1) as cooling
from quota_cooldowns
where auth_index <> ''
group by auth_index
