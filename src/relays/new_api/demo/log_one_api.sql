-- Rows of one-api's log. ?: a JSON array.
insert into logs (
  created_at, type, user_id, username, token_name, channel_id, model_name, quota, prompt_tokens, completion_tokens,
  elapsed_time, is_stream
)
select
  r.value ->> 'at', r.value ->> 'type', r.value ->> 'user', u.username, t.name, r.value ->> 'channel',
  r.value ->> 'model', r.value ->> 'quota', r.value ->> 'prompt', r.value ->> 'completion', r.value ->> 'ms',
  r.value ->> 'stream'
from json_each(?) r
join users u on u.id = r.value ->> 'user'
join tokens t on t.id = r.value ->> 'token'
where r.value ->> 'type' = 2
order by r.key
