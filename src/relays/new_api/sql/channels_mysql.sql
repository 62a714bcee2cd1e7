-- Channels, without what they connect with. Of the text why one was disabled, only the status code is told.
select
  id, type, status, name, `group` as group_list, response_time, test_time, balance, balance_updated_time,
  case when instr({channels.other_info:text}, '"status_reason":"status_code=') > 0
    then substr({channels.other_info:text}, instr({channels.other_info:text}, '"status_reason":"status_code=') + 29, 3) end as disabled_code,
  case when json_unquote(json_extract({channels.channel_info:json}, '$.is_multi_key')) = 'true'
    then json_unquote(json_extract({channels.channel_info:json}, '$.multi_key_size')) end as pool_size,
  cast(json_extract({channels.channel_info:json}, '$.multi_key_status_list.*') as char) as pool_states
from channels
