-- What tells the rows of a span of starts. Index-only on ("startTime", request_id) since 1.82, before by "startTime".
-- $1, $2: from, to (exclusive). All releases.
select l.request_id, l."startTime" as started_at
from "LiteLLM_SpendLogs" l
where l."startTime" >= $1 and l."startTime" < $2
