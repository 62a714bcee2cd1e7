-- What LiteLLM has yet to account for. Index on (state, next_attempt_at). Since 1.110.
select
  count(*) filter (where d.state = 'pending') as pending,
  count(*) filter (where d.state = 'parked') as parked
from "LiteLLM_SpendLogDelivery" d
where d.state in ('pending', 'parked')
