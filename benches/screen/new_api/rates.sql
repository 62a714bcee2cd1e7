-- And of requests and tokens of the last minute (new-api of 2026-08, model/log.go SumUsedQuota).
select count(*) rpm, coalesce(sum(prompt_tokens), 0) + coalesce(sum(completion_tokens), 0) tpm
from logs where type = 2 and created_at >= {minute}
