-- Rows of the ledger: 2 requests, 5 failed attempts, 6 refunds. The caller's condition is a range of the primary key. An
-- `other` that is longer than any that the relay writes stays where it is.
select
  id, created_at, type, user_id, {logs.token_id:bigint} as token_id, {token_name} as token_name, channel_id, model_name,
  quota, prompt_tokens, completion_tokens, {logs.use_time:bigint} as use_time, {logs.elapsed_time:bigint} as elapsed_ms,
  case when {logs.is_stream:boolean} then 1 else 0 end as is_stream,
  case when length({logs.other:text}) <= 16384 then {logs.other:text} end as other
from logs
where {which}
