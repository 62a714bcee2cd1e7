-- Requests that were refused, by minute. Addresses of clients stand beside and are not read. Index on bucket_start.
-- $1: first minute; $2: the first one that may still grow.
select r.reject_reason as reason, r.bucket_start < $2 as settled, sum(r.request_count)::bigint as requests
from ops_ingress_reject_aggregates r
where r.bucket_start >= $1
group by 1, 2
