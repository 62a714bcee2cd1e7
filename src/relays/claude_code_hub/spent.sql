-- What one entity spent, as the relay's quota pages sum it. Partial index on (entity, created_at). All versions.
-- $1: id of the entity; $2, $3: from, to (exclusive).
select coalesce(sum(nullif(l.cost_usd, 'NaN')), 0) as cost_usd
from {ledger} l
where {whose} and {counted} and l.created_at >= $2 and l.created_at < $3
