-- Rows of new-api's log. ?: a JSON array.
insert into logs (
  created_at, type, user_id, username, token_id, token_name, channel_id, model_name, quota, prompt_tokens,
  completion_tokens, use_time, is_stream, "group", other
)
select
  r.value ->> 'at', r.value ->> 'type', r.value ->> 'user', u.username, r.value ->> 'token', t.name, r.value ->> 'channel',
  r.value ->> 'model', r.value ->> 'quota', r.value ->> 'prompt', r.value ->> 'completion', r.value ->> 'ms' / 1000,
  r.value ->> 'stream', 'default', r.value ->> 'other'
from json_each(?) r
join users u on u.id = r.value ->> 'user'
join tokens t on t.id = r.value ->> 'token'
order by r.key
