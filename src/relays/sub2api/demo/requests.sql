-- Requests that have ended. $1: a JSON list.
insert into usage_logs (
  created_at, user_id, api_key_id, account_id, group_id, request_id, model, requested_model, upstream_response_model,
  upstream_model_mismatch, input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_5m_tokens,
  input_cost, output_cost, cache_read_cost, cache_creation_cost, total_cost, actual_cost, rate_multiplier,
  account_rate_multiplier, stream, request_type, duration_ms, first_token_ms
)
select
  r.at, r.user_id, r.key_id, r.account_id, r.group_id, 'client:' || gen_random_uuid(), r.model, r.model, r.answered,
  r.answered is not null, r.input, r.output, r.cached, r.written, r.written,
  r.input * r.price, r.output * r.price * 5, r.cached * r.price / 10, r.written * r.price * 1.25, r.list, r.list * r.rate, r.rate,
  r.account_rate, r.first_token_ms is not null, case when r.first_token_ms is null then 1 else 2 end, r.ms, r.first_token_ms
from (
  select
    j.*,
    j.input * j.price + j.output * j.price * 5 + j.cached * j.price / 10 + j.written * j.price * 1.25 as list,
    g.rate_multiplier as rate,
    a.rate_multiplier as account_rate
  from jsonb_to_recordset(cast($1::text as jsonb)) as j (
    at timestamptz, user_id bigint, key_id bigint, account_id bigint, group_id bigint, model text, answered text, input bigint,
    output bigint, cached bigint, written bigint, price numeric, ms integer, first_token_ms integer
  )
  join groups g on g.id = j.group_id
  join accounts a on a.id = j.account_id
) r
order by r.at
returning user_id, api_key_id, group_id, actual_cost
