-- The time zone of the relay's process. A table of one row.
select s.timezone_name from usage_group_rollup_state s where s.id = 1
