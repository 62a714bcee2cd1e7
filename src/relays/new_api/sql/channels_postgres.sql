-- Channels, without what they connect with. Of the text why one was disabled, only the status code is told.
select
  id, type, status, name, "group" as group_list, response_time, test_time, cast(balance as double precision) as balance,
  balance_updated_time,
  case when strpos({channels.other_info:text}, '"status_reason":"status_code=') > 0
    then substr({channels.other_info:text}, strpos({channels.other_info:text}, '"status_reason":"status_code=') + 29, 3) end as disabled_code,
  case when {channels.channel_info:json}->>'is_multi_key' = 'true'
    then {channels.channel_info:json}->>'multi_key_size' end as pool_size,
  (select cast(json_agg(e.value) as text) from json_each(
    case when json_typeof({channels.channel_info:json}->'multi_key_status_list') = 'object'
      then {channels.channel_info:json}->'multi_key_status_list' else '{}'::json end
  ) e) as pool_states
from channels
