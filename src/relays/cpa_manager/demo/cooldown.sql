-- The manager switches a credential off until its quota recovers. ?1: its index, ?2: until, in Unix milliseconds.
insert into quota_cooldowns (auth_file_name, auth_index, window_kind, recover_at_ms, status)
values ('demo.json', ?1, 'five_hour', ?2, 'active')
