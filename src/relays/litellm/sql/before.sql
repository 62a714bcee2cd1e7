-- The last start before an instant. Index on "startTime". $1: the instant. All releases.
select max(l."startTime") as last
from "LiteLLM_SpendLogs" l
where l."startTime" < $1 and l."startTime" >= '2020-01-01'
