-- Rows by the hour of their start. Index-only on "startTime". $1, $2: from, to (exclusive). All releases.
select floor(extract(epoch from l."startTime") / 3600)::bigint as hour, count(*)::bigint as rows
from "LiteLLM_SpendLogs" l
where l."startTime" >= $1 and l."startTime" < $2
group by 1
order by 1
