-- What is to be accounted for. $1: a JSON array of rows.
insert into "LiteLLM_SpendLogDelivery" (request_id, next_attempt_at, created_at)
select r.request_id, now() at time zone 'UTC', now() at time zone 'UTC'
from jsonb_to_recordset($1::jsonb) as r (request_id text)
