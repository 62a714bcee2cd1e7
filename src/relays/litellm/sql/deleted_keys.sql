-- Keys that were deleted, the newest state of each: the Usage page still names them. Full read of a small table. Since 1.80.
select distinct on (d.token)
  d.token,
  left(d.key_alias, 200) as alias,
  left(d.user_id, 256) as user_id,
  false as enabled,
  null::timestamp as expires_at,
  null::timestamp as created_at,
  0::float8 as spend,
  null::float8 as max_budget,
  null::float8 as soft_budget,
  null::text as budget_duration,
  null::timestamp as budget_reset_at
from "LiteLLM_DeletedVerificationToken" d
where not exists (select from "LiteLLM_VerificationToken" k where k.token = d.token)
order by d.token, d.deleted_at desc
