-- The manager switches credentials on again. It keeps the row.
update quota_cooldowns set status = 'recovered' where status = 'active'
