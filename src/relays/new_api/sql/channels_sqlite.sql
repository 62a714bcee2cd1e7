-- Channels, without what they connect with. Of the text why one was disabled, only the status code is told.
select
  id, type, status, name, group_list, response_time, test_time, balance, balance_updated_time,
  case when instr(other_info, '"status_reason":"status_code=') > 0
    then substr(other_info, instr(other_info, '"status_reason":"status_code=') + 29, 3) end as disabled_code,
  case when json_extract(info, '$.is_multi_key') then cast(json_extract(info, '$.multi_key_size') as text) end as pool_size,
  (select json_group_array(s.value) from json_each(info, '$.multi_key_status_list') s) as pool_states
from (
  select
    id, type, status, name, "group" as group_list, response_time, test_time, balance, balance_updated_time,
    {channels.other_info:text} as other_info,
    case when json_valid(cast({channels.channel_info:json} as text)) then cast({channels.channel_info:json} as text) end as info
  from channels
)
