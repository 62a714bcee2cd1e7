-- The keys of the pool. ?: JSON array.
insert into t_settings (key, value)
values ('API_KEYS', ?)
