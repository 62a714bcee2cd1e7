-- The zone of the relay's process. $1: its name.
update usage_group_rollup_state set timezone_name = $1
