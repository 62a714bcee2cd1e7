-- What keys, users, teams and organizations have spent. $1: a JSON array of rows.
with r as (
  select * from jsonb_to_recordset($1::jsonb) as r (key text, "user" text, team text, organization text, spend float8)
), keys as (
  update "LiteLLM_VerificationToken" t set spend = t.spend + s.spend
  from (select encode(sha256(r.key::bytea), 'hex') as token, sum(r.spend) as spend from r group by 1) s
  where t.token = s.token
), users as (
  update "LiteLLM_UserTable" u set spend = u.spend + s.spend
  from (select r."user" as user_id, sum(r.spend) as spend from r group by 1) s
  where u.user_id = s.user_id
), teams as (
  update "LiteLLM_TeamTable" t set spend = t.spend + s.spend
  from (select r.team as team_id, sum(r.spend) as spend from r group by 1) s
  where t.team_id = s.team_id
)
update "LiteLLM_OrganizationTable" o set spend = o.spend + s.spend
from (select r.organization as organization_id, sum(r.spend) as spend from r group by 1) s
where o.organization_id = s.organization_id
