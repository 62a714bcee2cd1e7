-- What users have spent. $1: a JSON array of rows.
update "LiteLLM_UserTable" u set spend = u.spend + r.spend
from (
  select r."user" as user_id, sum(r.spend) as spend
  from jsonb_to_recordset($1::jsonb) as r ("user" text, spend float8)
  group by 1
) r
where u.user_id = r.user_id
