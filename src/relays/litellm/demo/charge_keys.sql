-- What keys have spent. $1: a JSON array of rows.
update "LiteLLM_VerificationToken" t set spend = t.spend + r.spend
from (
  select encode(sha256(r.key::bytea), 'hex') as token, sum(r.spend) as spend
  from jsonb_to_recordset($1::jsonb) as r (key text, spend float8)
  group by 1
) r
where t.token = r.token
