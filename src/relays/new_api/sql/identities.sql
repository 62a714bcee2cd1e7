-- What tells rows of a range of the primary key from others with their ids.
select id, created_at, user_id, channel_id, quota, prompt_tokens, completion_tokens
from logs
where {which}
