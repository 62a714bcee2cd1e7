-- What tells the rows that LiteLLM has accounted for since a moment, whenever their requests started. Index on
-- (state, applied_at), then the primary key. $1: the moment. Since 1.110, which keeps a day of them.
select l.request_id, l."startTime" as started_at
from "LiteLLM_SpendLogDelivery" d
join "LiteLLM_SpendLogs" l on l.request_id = d.request_id
where d.state = 'applied' and d.applied_at >= $1
