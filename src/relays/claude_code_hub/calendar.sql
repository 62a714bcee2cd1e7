-- The first instant of every local day, computed where the relay computes it. No table. All versions.
-- $1: time zone, $2: first date, $3: today.
select day::date as date, day at time zone $1 as start
from generate_series($2::date::timestamp, $3::date::timestamp + interval '2 days', interval '1 day') as day
order by day
