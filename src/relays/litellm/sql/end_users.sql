-- How many end users had requests today; none of them leaves the server. Index on (date). Since 2025-12.
select count(distinct d.end_user_id)::bigint as active
from "LiteLLM_DailyEndUserSpend" d
where d.date = to_char(now() at time zone 'UTC', 'YYYY-MM-DD') and d.end_user_id <> ''
